"""Tables and JSON of the reports."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import json
import tracemalloc

import openpyxl
import pytest
from django.test import RequestFactory, override_settings
from django.urls import reverse

from aircox_listen_stats.reports import tables, workbook
from aircox_listen_stats.web import exports
from aircox_listen_stats.web.tables import csv_response
from tests.web import stations
from tests.web.stations import HOUR, MINUTE, NOW, WEEK

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)


@pytest.fixture
def station():
    return stations.PastStation()


@pytest.fixture
def staff(client, admin_user):
    client.force_login(admin_user)
    return client


def body(response) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


def rows(response) -> list[dict[str, str]]:
    assert response.status_code == 200, response.content
    return list(csv.DictReader(io.StringIO(body(response).decode(), newline="")))


def test_lines_end_in_crlf_and_quotes_are_doubled():
    text = b"".join(tables.write(["a", "b"], [['say "hi", you', "two\nlines"]])).decode()
    assert text == 'a,b\r\n"say ""hi"", you","two\nlines"\r\n'


def test_a_table_without_rows_is_its_header():
    assert b"".join(tables.write(["a", "b"], [])) == b"a,b\r\n"


def test_rows_are_sent_while_they_are_read():
    read = []

    def endless():
        for number in range(10_000):
            read.append(number)
            yield [number]

    first = next(tables.write(["n"], endless()))
    assert first.startswith(b"n\r\n0\r\n")
    assert len(read) == tables.ROWS_A_CHUNK


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", " =cmd|' /C calc'!A0", "＝1"])
def test_no_cell_is_a_formula(text):
    assert tables.cell(text) == f"'{text}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (True, 1), (-3, -3), (-0.5, "-0.5"), (12.0, "12"), (0.1 + 0.2, "0.3"), ("Émission", "Émission")],
)
def test_numbers_and_plain_words_stay_what_they_are(value, shown):
    assert tables.cell(value) == shown


def test_the_byte_order_mark_is_there_when_asked_for(staff, station):
    stations.weekly(station, 5, 1)
    address = reverse("listen_stats:program", args=[5])
    assert body(staff.get(address, {"format": "csv"})).startswith(b"airing_id,")
    assert body(staff.get(address, {"format": "csv", "bom": "1"})).startswith("\ufeffairing_id,".encode())


def test_the_table_of_programs_says_what_the_page_says(staff, station):
    stations.weekly(station, 5, 3, program="=cmd()")
    (row,) = rows(staff.get(reverse("listen_stats:programs"), {"format": "csv"}))
    assert tuple(row) == exports.PROGRAMS_HEADER
    assert row["program"] == "'=cmd()"
    assert row["diffusions"] == "3"
    assert row["listening_hours"] == "9"  # 2 + 3 + 4 listeners for an hour each
    assert row["average_audience"] == "3"
    assert row["peak"] == "4"
    assert row["coverage_share"] == "1"
    assert row["rule_set"] == "triton"
    assert row["time_zone"] == "Europe/Brussels"
    assert row["period_start"] == "2026-08-24T04:00:00+02:00"
    assert row["period_end"] == "2026-11-23T04:00:00+01:00"


def test_the_table_of_a_program_holds_every_diffusion_of_the_period(staff, station):
    stations.weekly(station, 5, 60)
    found = rows(staff.get(reverse("listen_stats:program", args=[5]), {"format": "csv", "weeks": "104"}))
    assert len(found) == 60
    assert [row["start_utc"] for row in found] == sorted((row["start_utc"] for row in found), reverse=True)
    assert tuple(found[0]) == exports.DIFFUSIONS_HEADER
    # The week before the change of clocks is an hour off on the wall, not in UTC.
    assert found[0]["start"] == "2026-11-15T13:00:00+01:00"
    assert found[4]["start"] == "2026-10-18T14:00:00+02:00"
    assert found[0]["already_there"] == "2"
    assert found[0]["tuned_in"] == "0"
    assert found[0]["is_settled"] == "1"


def test_the_minutes_of_a_diffusion(staff, station):
    started = NOW - WEEK
    airing = station.diffusion(5, started, 10)
    station.session(started, started + 5 * MINUTE)
    station.observed(started, started + 8 * MINUTE)
    station.compute(started, NOW)
    address = reverse("listen_stats:diffusion", args=[airing.pk])
    found = rows(staff.get(address, {"format": "csv", "table": "minutes"}))
    assert [row["average_audience"] for row in found] == ["1"] * 5 + ["0"] * 3 + [""] * 2
    assert [row["is_observed"] for row in found] == ["1"] * 8 + ["0"] * 2
    assert [row["tuned_in"] for row in found] == ["1"] + ["0"] * 7 + [""] * 2
    assert [row["tuned_out"] for row in found] == ["0"] * 5 + ["1"] + ["0"] * 2 + [""] * 2
    assert found[0]["start"] == "2026-11-15T13:00:00+01:00"


def test_what_was_on_air_during_a_diffusion(staff, station):
    started = NOW - WEEK
    airing = station.diffusion(5, started, 10)
    station.track("One", started, 4, artist="+A")
    station.track("Two", started + 4 * MINUTE, 6)
    station.track("Before", started - 5 * MINUTE, 5)
    station.session(started + MINUTE, started + 6 * MINUTE)
    station.observed(started - HOUR, NOW)
    station.compute(started, NOW)
    address = reverse("listen_stats:diffusion", args=[airing.pk])
    found = rows(staff.get(address, {"format": "csv", "table": "on-air"}))
    assert [(row["title"], row["tuned_in"], row["tuned_out"]) for row in found] == [
        ("One", "1", "0"),
        ("Two", "0", "1"),
    ]
    assert found[0]["artist"] == "'+A"


def test_an_unknown_table_is_not_found(staff, station):
    airing = stations.weekly(station, 5, 1)[0]
    address = reverse("listen_stats:diffusion", args=[airing.pk])
    assert staff.get(address, {"format": "csv", "table": "listeners"}).status_code == 404


def sheets(response) -> dict[str, list[tuple[object, ...]]]:
    """The rows of each sheet, read by another library than the one that wrote them."""
    assert response.status_code == 200
    book = openpyxl.load_workbook(io.BytesIO(body(response)))
    return {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in book}


def test_the_workbook_of_a_program_has_numbers_and_dates(staff, station):
    stations.weekly(station, 5, 3)
    address = reverse("listen_stats:program", args=[5])
    found = sheets(staff.get(address, {"format": "xlsx"}))
    assert list(found) == ["diffusions", "episodes", "definitions"]
    header, *lines = found["diffusions"]
    assert header == exports.DIFFUSIONS_HEADER
    newest = dict(zip(header, lines[0], strict=True))
    assert newest["start"] == dt.datetime(2026, 11, 15, 13, 0)  # noqa: DTZ001, a sheet has no zones
    assert newest["start_utc"] == dt.datetime(2026, 11, 15, 12, 0)  # noqa: DTZ001
    assert newest["average_audience"] == 2
    assert newest["is_live"] is False
    assert newest["is_settled"] is True


def test_a_workbook_says_what_the_table_says(staff, station):
    stations.weekly(station, 5, 3)
    address = reverse("listen_stats:program", args=[5])
    header, *lines = sheets(staff.get(address, {"format": "xlsx"}))["diffusions"]
    told = rows(staff.get(address, {"format": "csv"}))
    numbers = ("airing_id", "listening_hours", "average_audience", "peak", "distinct_listeners", "coverage_share")
    for line, row in zip(lines, told, strict=True):
        for name in numbers:
            assert line[header.index(name)] == float(row[name])


def test_a_workbook_defines_its_columns(staff, station):
    stations.weekly(station, 5, 1)
    found = sheets(staff.get(reverse("listen_stats:programs"), {"format": "xlsx"}))
    defined = {name: text for name, _, text in found["definitions"][1:]}
    assert "AAS" in defined["average_audience"]
    assert set(defined) == {
        "listening_hours", "average_audience", "average_audience_before", "peak", "coverage_share"
    }  # fmt: skip


def test_the_workbook_of_a_diffusion_has_all_its_tables(staff, station):
    airing = stations.weekly(station, 5, 1)[0]
    response = staff.get(reverse("listen_stats:diffusion", args=[airing.pk]), {"format": "xlsx"})
    assert response["Content-Disposition"] == f'attachment; filename="diffusion_{airing.pk}_2026-11-15.xlsx"'
    found = sheets(response)
    assert list(found) == [*exports.DIFFUSION_TABLES, "definitions"]
    assert len(found["minutes"]) == 61


def test_no_cell_of_a_workbook_is_a_formula():
    file = io.BytesIO()
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "{=1}", "https://example.org", "0012"]
    workbook.write_workbook(file, [tables.Table(name="t", header=["text"], rows=[[text] for text in texts])])
    cells = [cell for (cell,) in openpyxl.load_workbook(file)["t"].iter_rows(min_row=2)]
    assert [cell.value for cell in cells] == texts
    assert {cell.data_type for cell in cells} == {"s"}
    assert [cell.hyperlink for cell in cells] == [None] * len(texts)


def test_a_table_too_long_for_a_sheet_goes_on_in_the_next():
    file = io.BytesIO()
    table = tables.Table(name="t" * 40, header=["n"], rows=([number] for number in range(5)))
    workbook.write_workbook(file, [table], sheet_rows=3)
    book = openpyxl.load_workbook(file)
    assert book.sheetnames == ["t" * 31, "t" * 29 + " 2", "t" * 29 + " 3", "definitions"]
    read = [[value for (value,) in sheet.iter_rows(values_only=True)] for sheet in book.worksheets[:-1]]
    assert read == [["n", 0, 1], ["n", 2, 3], ["n", 4]]


@override_settings(AIRCOX_LISTEN_STATS={"MINIMUM_CELL": 3})
def test_small_counts_are_in_no_workbook(staff, station):
    airing = stations.weekly(station, 5, 1)[0]
    found = sheets(staff.get(reverse("listen_stats:diffusion", args=[airing.pk]), {"format": "xlsx"}))
    header, figures = found["figures"]
    assert [figures[header.index(name)] for name in ("distinct_listeners", "sessions", "peak", "peak_at")] == [None] * 4
    assert figures[header.index("tuned_in")] == 0
    minute = found["minutes"][0].index("average_audience")
    assert {row[minute] for row in found["minutes"][1:]} == {None}


def _peak_bytes(write) -> int:
    tracemalloc.start()
    write()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_ten_times_as_many_rows_take_no_more_memory(kind, tmp_path):
    def write(count: int):
        rows = ([number, f"title {number}", number / 7, NOW] for number in range(count))
        if kind == "xlsx":
            table = tables.Table(name="t", header=list("abcd"), rows=rows)
            workbook.write_workbook(str(tmp_path / "t.xlsx"), [table])
        else:
            for _ in tables.write(list("abcd"), rows):
                pass

    write(100)
    few, many = (_peak_bytes(lambda count=count: write(count)) for count in (1_000, 10_000))
    assert many < few + 200_000


def test_json_holds_the_values_of_the_report(staff, station):
    airing = stations.weekly(station, 5, 3)[0]
    programs = json.loads(body(staff.get(reverse("listen_stats:programs"), {"format": "json"})))
    assert programs["rule_set"] == "triton"
    assert programs["lines"][0]["average"] == 3.0
    program = json.loads(body(staff.get(reverse("listen_stats:program", args=[5]), {"format": "json"})))
    assert program["period"]["zone"] == "Europe/Brussels"
    assert [line["figures"]["listeners"] for line in program["lines"]] == [2, 3, 4]
    diffusion = json.loads(body(staff.get(reverse("listen_stats:diffusion", args=[airing.pk]), {"format": "json"})))
    assert diffusion["line"]["started"] == "2026-11-15T12:00:00Z"
    assert diffusion["curve"] == [2.0] * 60


@override_settings(AIRCOX_LISTEN_STATS={"MINIMUM_CELL": 3})
def test_small_counts_leave_the_house_neither_as_a_table_nor_as_json(staff, station):
    airing = stations.weekly(station, 5, 2)[0]  # 2 listeners, 3 the week before
    (newest, before) = rows(staff.get(reverse("listen_stats:program", args=[5]), {"format": "csv"}))
    assert [newest[name] for name in ("distinct_listeners", "sessions", "peak", "peak_at")] == [""] * 4
    assert newest["tuned_in"] == "0"
    assert newest["hidden_below"] == "3"
    assert before["distinct_listeners"] == "3"
    address = reverse("listen_stats:diffusion", args=[airing.pk])
    diffusion = json.loads(body(staff.get(address, {"format": "json"})))
    assert diffusion["line"]["figures"]["listeners"] is None
    assert set(diffusion["curve"]) == {None}
    assert diffusion["retention"] == []
    assert {row["average_audience"] for row in rows(staff.get(address, {"format": "csv", "table": "minutes"}))} == {""}


def test_under_asgi_the_table_comes_in_turn():
    request = _asgi_request()
    response = csv_response(request, tables.Table(name="t", header=["n"], rows=([number] for number in range(500))))
    assert response.is_async

    async def read() -> bytes:
        return b"".join([chunk async for chunk in response])

    assert asyncio.run(read()).count(b"\r\n") == 501


def test_a_table_is_a_download_of_a_known_name(staff, station):
    stations.weekly(station, 5, 1)
    response = staff.get(reverse("listen_stats:program", args=[5]), {"format": "csv", "weeks": "4"})
    assert response["Content-Disposition"] == 'attachment; filename="program_5_2026-10-26_2026-11-22.csv"'
    assert response["Content-Type"].startswith("text/csv; charset=utf-8")


def _asgi_request():
    from django.core.handlers.asgi import ASGIRequest

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    assert not isinstance(RequestFactory().get("/"), ASGIRequest)
    return ASGIRequest(scope, io.BytesIO())
