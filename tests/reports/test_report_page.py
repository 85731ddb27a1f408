"""The page of a report, its tables and its JSON: one report, however it is shown."""

from __future__ import annotations

import csv
import datetime as dt
import io
from typing import Any

import openpyxl
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from aircox_listen_stats import conf
from aircox_listen_stats.models import ProgramAccess, QuarterChange
from aircox_listen_stats.reports import report_tables, spans
from aircox_listen_stats.reports.comparison import compared
from aircox_listen_stats.reports.definitions import PERIOD_DEFINITIONS, STANDS_ON
from aircox_listen_stats.reports.periods import UNITS, Scope, ScopeKind, StandsOn, period_figures
from aircox_listen_stats.reports.scope_report import scope_report

from .conftest import NOW, Crowd, at

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

SATURDAY = dt.date(2026, 10, 24)
PROGRAM = 7


@pytest.fixture
def staff(client: Client, admin_user: Any) -> Client:
    client.force_login(admin_user)
    return client


@pytest.fixture
def filled(crowd: Crowd) -> Crowd:
    crowd.come(1, 80)
    crowd.observe()
    crowd.on_air(20_000, 25_400, program_id=PROGRAM, program_title="Canal & Co", diffusion_id=1)
    crowd.on_air(150_000, 154_000, program_id=PROGRAM, program_title="Canal & Co", diffusion_id=2)
    crowd.on_air(30_000, 33_000, program_id=8, program_title="=cmd()", diffusion_id=3)
    crowd.compute()
    return crowd


def body(response: Any) -> bytes:
    assert response.status_code == 200, response.content
    return b"".join(response.streaming_content) if response.streaming else response.content


def rows(client: Client, address: str, **asked: str) -> list[dict[str, str]]:
    text = body(client.get(address, {"format": "csv", **asked})).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_page_table_workbook_and_json_say_the_same(filled: Crowd, staff: Client) -> None:
    address = reverse("listen_stats:report")
    asked = {"from": "2026-10-24", "to": "2026-10-24"}
    truth = filled.seconds().figures([(14_400, 14_400 + 25 * 3600)])
    told = {row["figure"]: row for row in rows(staff, address, **asked)}
    assert tuple(told) == tuple(UNITS)
    assert float(told["tlh"]["value"]) == pytest.approx(truth["tlh"], abs=1e-4)
    assert int(told["cume"]["value"]) == truth["cume"]
    assert told["tlh"]["period"] == "2026-10-24"
    assert told["tlh"]["period_start"] == "2026-10-24T04:00:00+02:00"
    assert told["tlh"]["period_end"] == "2026-10-25T04:00:00+01:00"
    whole = staff.get(address, {"format": "json", **asked}).json()["comparison"]["report"]
    for figure in whole["figures"]:
        row = told[figure["name"]]
        assert (figure["value"] is None) == (row["value"] == "")
        if isinstance(figure["value"], int | float):
            assert float(row["value"]) == pytest.approx(figure["value"], abs=1e-4)
    book = openpyxl.load_workbook(io.BytesIO(body(staff.get(address, {"format": "xlsx", **asked}))))
    assert book.sheetnames == ["figures", "days", "programs", "streams", "figures explained", "definitions"]
    sheet = {row[2]: row for row in book["figures"].iter_rows(min_row=2, values_only=True)}
    assert sheet["peak"][4] == int(told["peak"]["value"]) == truth["peak"]
    page = body(staff.get(address, asked)).decode()
    assert f"{truth['tlh']:.0f}" in page
    assert f'<p class="ls-value">{truth["peak"]}</p>' in page
    assert "Canal &amp; Co" in page


def test_hours_of_a_day_and_days_of_a_week_add_up_to_it(filled: Crowd, staff: Client) -> None:
    address = reverse("listen_stats:report")
    for asked, count in (({"period": "2026-10-24"}, 25), ({"period": "2026-W43"}, 7)):
        steps = rows(staff, address, table="days", **asked)
        assert len(steps) == count
        whole = {row["figure"]: row for row in rows(staff, address, **asked)}
        for column, name in (("listening_hours", "tlh"), ("started_sessions", "started_sessions")):
            total = sum(float(step[column]) for step in steps if step[column])
            assert total == pytest.approx(float(whole[name]["value"]), abs=0.01)
    streams = rows(staff, address, table="streams", period="2026-10-24")
    assert sum(float(row["listening_hours"]) for row in streams) == pytest.approx(
        filled.seconds().figures([(14_400, 14_400 + 25 * 3600)])["tlh"], abs=0.01
    )


def test_what_changed_after_it_was_settled_is_told_in_every_form(filled: Crowd, staff: Client) -> None:
    noon = dt.datetime(2026, 10, 24, 12, tzinfo=dt.UTC)
    told = {
        "station_id": 1,
        "rule_set": "triton",
        "quarters": 3,
        "made": noon + dt.timedelta(days=2),
        "causes": [["late", "collector"], ["rebuild", "command listen_stats_rebuild by Ada"]],
        "before_ms": 3_600_000,
        "after_ms": 5_400_000,
    }
    for days, stream_id in ((0, 0), (0, 99), (2, 0)):
        started = noon + dt.timedelta(days=days)
        ended = started + dt.timedelta(hours=1)
        QuarterChange.objects.create(started=started, ended=ended, stream_id=stream_id, **told)
    address, asked = reverse("listen_stats:report"), {"period": "2026-10-24"}
    page = body(staff.get(address, asked)).decode()
    assert page.count("3 quarter-hours between 24 Oct 2026, 14:00 and 24 Oct 2026, 15:00") == 1
    assert "1.0 h of listening became 1.5 h" in " ".join(page.split())
    assert "command listen_stats_rebuild by Ada" in page
    found = rows(staff, address, table="changes", **asked)
    assert [(row["because"], row["by"], row["quarter_hours"]) for row in found] == [
        ("late", "collector", "3"),
        ("rebuild", "command listen_stats_rebuild by Ada", "3"),
    ]
    assert [(float(row["listening_hours_before"]), float(row["listening_hours_after"])) for row in found] == [
        (1, 1.5)
    ] * 2
    (change,) = staff.get(address, {"format": "json", **asked}).json()["changes"]
    assert (change["hours_before"], change["hours_after"], change["quarter_hours"]) == (1, 1.5, 3)
    assert "quarter-hours between" not in body(staff.get(address, {"period": "2026-10-23"})).decode()


def test_programs_stand_beside_their_own_past(filled: Crowd, staff: Client) -> None:
    address = reverse("listen_stats:report")
    sunday = {row["program_id"]: row for row in rows(staff, address, table="programs", period="2026-10-25")}
    assert list(sunday) == [str(PROGRAM)]
    now, before = (filled.seconds().figures([window]) for window in ((150_000, 154_000), (20_000, 25_400)))
    row = sunday[str(PROGRAM)]
    assert float(row["average_audience"]) == pytest.approx(now["aas"], abs=1e-4)
    assert float(row["before_average_audience"]) == pytest.approx(before["aas"], abs=1e-4)
    assert float(row["change_on_before_share"]) == pytest.approx(now["aas"] / before["aas"] - 1, abs=1e-4)
    assert row["year_before_average_audience"] == ""
    saturday = rows(staff, address, table="programs", period="2026-10-24")
    assert "'=cmd()" in {row["program"] for row in saturday}, "no title is a formula"


def test_a_period_of_which_little_was_observed_is_not_compared(crowd: Crowd) -> None:
    crowd.come(2, 80)
    crowd.observe(14_400 + 25 * 3600 - 6 * 3600)
    crowd.compute()
    sunday = spans.of_days(SATURDAY + dt.timedelta(days=1), SATURDAY + dt.timedelta(days=1), conf.get())
    found = compared(Scope.station(1), sunday, conf.get().rules(), now=NOW)
    assert found.report.coverage == 1.0
    assert found.before.coverage == pytest.approx(6 / 25)
    assert found.before["tlh"].value
    assert {one.on_before for one in found.changes} == {None}


def test_a_running_period_is_held_against_as_much_of_the_other(filled: Crowd) -> None:
    now = at(86_400 + 3600 * 13)
    sunday = spans.of_days(SATURDAY + dt.timedelta(days=1), SATURDAY + dt.timedelta(days=1), conf.get())
    found = compared(Scope.station(1), sunday, conf.get().rules(), now=now)
    assert found.report.until == now  # 12:00 of the clock, after the night with one hour more
    assert found.before.until == at(3600 * 12)
    truth = filled.seconds().figures([(14_400, 3600 * 12)])
    assert found.before["tlh"].value == pytest.approx(truth["tlh"])
    assert found.before["active_sessions"].value == truth["active_sessions"]


def test_a_producer_sees_the_report_of_her_program_and_no_other(
    filled: Crowd, client: Client, django_user_model: Any
) -> None:
    producer = django_user_model.objects.create_user("ada")
    ProgramAccess.objects.create(user=producer, program_id=PROGRAM)
    client.force_login(producer)
    assert client.get(reverse("listen_stats:report")).status_code == 403
    assert client.get(reverse("listen_stats:program_report", args=[8])).status_code == 403
    address = reverse("listen_stats:program_report", args=[PROGRAM])
    told = {row["figure"]: row for row in rows(client, address, period="2026-W43")}
    truth = filled.seconds().figures([(20_000, 25_400), (150_000, 154_000)])
    assert float(told["aas"]["value"]) == pytest.approx(truth["aas"], abs=1e-4)
    assert int(told["active_sessions"]["value"]) == truth["active_sessions"]
    page = body(client.get(address, {"period": "2026-W43"})).decode()
    assert "Canal &amp; Co" in page
    assert reverse("listen_stats:report") + '"' not in page, "the station's is not offered"
    assert "program_report" not in page
    assert address in body(client.get(reverse("listen_stats:program", args=[PROGRAM]))).decode()


def test_what_cannot_be_understood_becomes_the_default_and_a_sentence(filled: Crowd, staff: Client) -> None:
    address = reverse("listen_stats:report")
    asked = {"period": "<b>", "daypart": "25-26", "stream": "x", "rules": "<i>"}
    page = body(staff.get(address, asked)).decode()
    for words in ("That is no period", "25-26” is no daypart; there are 00-06", "no stream “x”; there are live, low"):
        assert words in page
    assert "<b>&" not in page
    assert "There is no rule-set “&lt;i&gt;”" in page
    assert "of the time was observed" not in page or "19 Oct" in page, "last week"
    missing = staff.get(address, {"format": "csv", "table": "nothing"})
    assert missing.status_code == 404
    assert staff.get(reverse("listen_stats:program_report", args=[999])).status_code == 404


def test_daypart_and_stream_are_carried_on_the_address(filled: Crowd, staff: Client) -> None:
    address = reverse("listen_stats:report")
    asked = {"period": "2026-10-24", "daypart": "10-13", "stream": "low"}
    told = {row["figure"]: row for row in rows(staff, address, **asked)}
    assert (told["tlh"]["scope"], told["tlh"]["daypart"]) == ("stream", "10-13")
    truth = filled.seconds(1).figures([(36_000, 46_800)])
    assert float(told["tlh"]["value"]) == pytest.approx(truth["tlh"], abs=1e-4)
    page = body(staff.get(address, asked)).decode()
    assert "daypart=10-13&amp;stream=low&amp;format=csv" in page


def test_countries_stand_beside_the_figures(crowd: Crowd, staff: Client) -> None:
    crowd.hear(0, 1, (36_000, 43_200), country="BE")
    crowd.hear(1, 2, (36_000, 39_600), country="FR")
    crowd.hear(1, 3, (39_600, 40_200))
    crowd.observe()
    crowd.compute()
    asked = {"period": "2026-10-24", "daypart": "10-13"}
    found = rows(staff, reverse("listen_stats:report"), table="shares", **asked)
    told = {row["kind_value"]: row for row in found if row["kind"] == "country"}
    assert {key: row["listening_hours"] for key, row in told.items()} == {"BE": "2", "FR": "1", "": "0.1667"}
    assert sum(float(row["share_of_listening"]) for row in told.values()) == pytest.approx(1)
    page = body(staff.get(reverse("listen_stats:report"), asked)).decode()
    assert "<h2>Countries</h2>" in page
    assert "No source told which page played the stream." in page


def test_small_cells_are_hidden_in_tables_and_json(filled: Crowd, staff: Client, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**settings.AIRCOX_LISTEN_STATS, "MINIMUM_CELL": 1000}
    address = reverse("listen_stats:report")
    for row in rows(staff, address, period="2026-10-24"):
        if row["figure"] in (
            "cume", "peak", "peak_at", "active_sessions", "started_sessions", "reach", "atsl_seconds", "tsl_seconds",
        ):  # fmt: skip
            assert row["value"] == row["lower"] == row["upper"] == "", row["figure"]
    told = staff.get(address, {"format": "json", "period": "2026-10-24"}).json()
    assert {step["figures"]["peak"] for step in told["steps"] if step["figures"]["peak"]} == set()


def test_the_page_asks_as_often_however_many_listened(crowd: Crowd, staff: Client) -> None:
    crowd.observe()
    counts = set()
    for number in (10, 90):
        crowd.come(number, number)
        crowd.on_air(20_000 + number, 25_400 + number, program_id=number, diffusion_id=number)
        crowd.compute()
        with CaptureQueriesContext(connection) as asked:
            body(staff.get(reverse("listen_stats:report"), {"period": "2026-W43"}))
        counts.add(len(asked))
    [count] = counts
    assert count <= 55


def test_every_figure_has_its_definition_and_every_basis_a_name() -> None:
    assert set(PERIOD_DEFINITIONS) == set(UNITS)
    assert set(STANDS_ON) == {one.value for one in StandsOn}


def test_all_scopes_have_a_report(filled: Crowd) -> None:
    week = spans.of_days(dt.date(2026, 10, 19), dt.date(2026, 10, 25), conf.get())
    for kind in ScopeKind:
        scope = Scope(kind=kind, id=1, station_id=1)
        made = scope_report(scope, week, conf.get().rules(), now=NOW)
        assert made.report == period_figures(scope, week, conf.get().rules(), now=NOW)
        assert len(report_tables.sheets(made, minimum=0)) >= 2
