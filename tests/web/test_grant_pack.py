"""The grant pack: its totals are those of the sessions, and whoever has it can compute them again."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings

from aircox_listen_stats import conf
from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.kernel import metrics
from aircox_listen_stats.kernel.correlate import Listening
from aircox_listen_stats.models import Audience, Blur, QuarterHour, Session
from aircox_listen_stats.pipeline import quarters
from aircox_listen_stats.reports.grant_pack import ALL_STREAMS, WHOLE
from tests.web import stations
from tests.web.stations import DAY, HOUR, MINUTE, NOW, local

FIRST, LAST = "2026-10-24", "2026-11-03"
"""Eleven days of two months, with the change of the clock of 2026-10-25 in them."""

BEGIN, END = local(2026, 10, 24, 4), local(2026, 11, 4, 4)
NOVEMBER = local(2026, 11, 1, 4)


@pytest.fixture
def station(monkeypatch, tmp_path):
    """Two hundred random sessions on two streams, and a program of three diffusions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    made = stations.PastStation(stream_slugs=("live", "low"))
    chance = random.Random(11)
    rows = []
    for _ in range(200):
        started = BEGIN + chance.uniform(-0.2, 11.3) * DAY
        ended = started + chance.expovariate(1 / 40) * MINUTE
        rows.append(Session(**made.session_values(started, ended, chance.randrange(2), chance.randrange(50))))
    Session.objects.bulk_create(rows, batch_size=60)
    for stream in (0, 1):
        made.observed(BEGIN - DAY, END + DAY, stream=stream)
    for number in range(3):
        made.diffusion(5, BEGIN + number * 3 * DAY + HOUR, program="=Jazz")
    made.diffusion(6, END - DAY, program="News")
    made.compute(BEGIN, END)
    quarters.refresh(1, to_ms(BEGIN) - 3_600_000, to_ms(END), now_ms=to_ms(NOW), rule_sets=["triton"])
    return made


MADE: list[bytes] = []
"""The pack as the first test made it: those that look into nothing else need no station."""


@pytest.fixture
def pack(station) -> Path:
    """The station's pack, beside the station."""
    call_command("listen_stats_grantpack", FIRST, LAST, "--output", "pack.zip", stderr=io.StringIO())
    MADE[:] = [Path("pack.zip").read_bytes()]
    return Path("pack.zip")


@pytest.fixture
def sent(request, db, monkeypatch, tmp_path) -> Path:
    """The same pack where there is no station."""
    if not MADE:
        return request.getfixturevalue("pack")
    monkeypatch.chdir(tmp_path)
    Path("pack.zip").write_bytes(MADE[0])
    return Path("pack.zip")


def table(pack: Path, name: str) -> list[dict[str, str]]:
    with zipfile.ZipFile(pack) as archive:
        return list(csv.DictReader(io.StringIO(archive.read(name).decode(), newline="")))


def verified(pack: Path) -> str:
    """What --verify prints; raises CommandError where something disagrees."""
    said = io.StringIO()
    call_command("listen_stats_grantpack", "--verify", str(pack), stdout=said)
    return said.getvalue()


def findings(pack: Path) -> list[str]:
    said = io.StringIO()
    with pytest.raises(CommandError, match="does not agree with itself"):
        call_command("listen_stats_grantpack", "--verify", str(pack), stdout=said)
    return said.getvalue().splitlines()


def changed(pack: Path, name: str, change) -> Path:
    """The pack with one of its files changed, its manifest untouched."""
    other = Path("changed.zip")
    with zipfile.ZipFile(pack) as read, zipfile.ZipFile(other, "w") as written:
        for one in read.namelist():
            content = read.read(one)
            written.writestr(one, change(content) if one == name else content)
    return other


def truth(slug: str, started, ended) -> metrics.PeriodFigures:
    """The figures of the period from the sessions themselves, by the kernel."""
    found = Session.objects.all() if slug == ALL_STREAMS else Session.objects.filter(stream__slug=slug)
    listening = Listening.of_parts([(one.listener, [(to_ms(one.started), to_ms(one.ended))], False) for one in found])
    bounds = (np.array([to_ms(one)]) for one in (started, ended))
    [figures] = metrics.figures(listening, *bounds, conf.get().rules("triton"))
    return figures


@pytest.mark.django_db
def test_the_totals_are_those_of_the_sessions(pack):
    spans = {"2026-10": (BEGIN, NOVEMBER), "2026-11": (NOVEMBER, END), WHOLE: (BEGIN, END)}
    told = {(row["stream"], row["month"]): row for row in table(pack, "totals.csv")}
    assert list(told) == [(slug, name) for slug in (ALL_STREAMS, "live", "low") for name in spans]
    for (slug, name), row in told.items():
        expected = truth(slug, *spans[name])
        assert float(row["listening_hours"]) == pytest.approx(expected.tlh, abs=1e-4)
        assert float(row["average_audience"]) == pytest.approx(expected.aas, abs=1e-4)
        assert float(row["person_hours"]) == pytest.approx(expected.person_hours, abs=1e-4)
        assert float(row["average_session_seconds"]) == pytest.approx(expected.atsl_seconds, abs=1e-3)
        assert float(row["average_quarter_hour"]) == pytest.approx(expected.aqh, abs=1e-4)
        assert int(row["active_sessions"]) == expected.active_sessions
        assert int(row["started_sessions"]) == expected.started_sessions
        assert int(row["peak"]) == expected.peak
        assert row["coverage_share"] == "1"
        assert row["bytes_sent"] == ""


@pytest.mark.django_db
def test_months_have_their_real_hours(sent):
    with zipfile.ZipFile(sent) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert [(one["name"], one["started_utc"], one["ended_utc"]) for one in manifest["months"]] == [
        ("2026-10", "2026-10-24T02:00:00Z", "2026-11-01T03:00:00Z"),
        ("2026-11", "2026-11-01T03:00:00Z", "2026-11-04T03:00:00Z"),
    ]
    assert manifest["rule_set"]["minimum_seconds"] == 60
    assert manifest["settings"]["time_zone"] == "Europe/Brussels"
    assert {one["name"] for one in manifest["files"]} | {"manifest.json"} == set(zipfile.ZipFile(sent).namelist())


@pytest.mark.django_db
def test_programs_follow_from_their_diffusions(pack):
    jazz, news = table(pack, "programs.csv")
    assert (jazz["program"], jazz["diffusions"], news["diffusions"]) == ("'=Jazz", "3", "1")
    sums = [one.listening_ms for one in Audience.objects.filter(airing__program_id=5, rule_set="triton")]
    assert float(jazz["listening_hours"]) == pytest.approx(sum(sums) / 3_600_000, abs=1e-4)
    assert float(jazz["average_audience"]) == pytest.approx(sum(sums) / 3 / 3_600_000, abs=1e-4)


@pytest.mark.django_db
def test_it_is_verified_without_any_of_the_station(sent):
    with connection.execute_wrapper(lambda *_: pytest.fail("it asked the database")):
        assert "agrees" in verified(sent)


@pytest.mark.django_db
def test_one_changed_number_is_named(sent):
    def one_second_more(content: bytes) -> bytes:
        lines = content.decode().split("\r\n")
        cells = lines[1].split(",")
        assert lines[0].split(",")[3] == "listening_ms"
        lines[1] = ",".join([*cells[:3], str(int(cells[3]) + 1_000_000), *cells[4:]])
        return "\r\n".join(lines).encode()

    found = findings(changed(sent, "quarter_hours.csv", one_second_more))
    assert found[0] == "quarter_hours.csv is not what it was when the pack was made: its SHA-256 differs."
    assert any(one.startswith(f"totals.csv: listening_hours of 2026-10, {ALL_STREAMS} is") for one in found)
    assert any(one.startswith(f"totals.csv: listening_hours of whole, {ALL_STREAMS} is") for one in found)
    assert not any("2026-11" in one or ", live" in one for one in found)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "says"),
    [("totals.csv", "totals.csv: listening_hours of 2026-10"), ("programs.csv", "programs.csv: listening_hours of 5")],
)
def test_a_changed_total_is_named(sent, name, says):
    def doubled(content: bytes) -> bytes:
        rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
        place = rows[0].index("listening_hours")
        rows[1][place] = str(float(rows[1][place]) * 2)
        out = io.StringIO(newline="")
        csv.writer(out).writerows(rows)
        return out.getvalue().encode()

    found = findings(changed(sent, name, doubled))
    assert len(found) == 2
    assert found[0].startswith(f"{name} is not what it was")
    assert found[1].startswith(says)


@pytest.mark.django_db
def test_a_missing_row_and_a_strange_file_are_named(sent):
    short = changed(sent, "totals.csv", lambda content: b"\r\n".join(content.split(b"\r\n")[:-2]) + b"\r\n")
    with zipfile.ZipFile(short, "a") as archive:
        archive.writestr("more.csv", "a\r\n")
    found = findings(short)
    assert "more.csv is not in the manifest." in found
    assert "totals.csv: whole, low is missing." in found


@pytest.mark.django_db
def test_what_is_no_pack_is_said(station, tmp_path):
    (tmp_path / "no.zip").write_bytes(b"PK no")
    with pytest.raises(CommandError, match="no grant pack"):
        verified(tmp_path / "no.zip")
    with pytest.raises(CommandError, match="cannot be read"):
        verified(tmp_path / "none.zip")
    with pytest.raises(CommandError, match="nothing in the pack"):
        call_command("listen_stats_grantpack", "2025-01-01", "2025-01-31", "--output", "x.zip")
    with pytest.raises(CommandError, match="nothing in the pack"):
        call_command("listen_stats_grantpack", FIRST, LAST, "--rules", "all", "--output", "x.zip")
    assert not Path("x.zip").exists()


@pytest.mark.django_db
def test_hours_that_nobody_observed_are_empty_and_not_zero(station):
    QuarterHour.objects.filter(started__gte=NOVEMBER).delete()
    call_command("listen_stats_grantpack", FIRST, LAST, "--output", "pack.zip", stderr=io.StringIO())
    row = next(one for one in table(Path("pack.zip"), "totals.csv") if one["month"] == "2026-11")
    assert (row["listening_hours"], row["peak"], row["coverage_share"]) == ("", "", "0")
    assert "agrees" in verified(Path("pack.zip"))


@pytest.mark.django_db
@override_settings(AIRCOX_LISTEN_STATS={"BROADCAST_DAY_STARTS": "00:00"})
def test_a_period_that_is_not_over_ends_with_the_last_quarter_hour(station):
    quarters.refresh(1, to_ms(NOW - DAY), to_ms(NOW), now_ms=to_ms(NOW), rule_sets=["triton"])
    call_command("listen_stats_grantpack", "2026-11-01", "2026-12-31", "--output", "p.zip", stderr=io.StringIO())
    with zipfile.ZipFile("p.zip") as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert [one["name"] for one in manifest["months"]] == ["2026-11"]
    assert manifest["period"]["ended_utc"] == "2026-11-22T12:00:00Z"
    assert "agrees" in verified(Path("p.zip"))


STRETCHES = [
    (0, Blur.Why.ADDRESS, local(2026, 10, 30, 12), local(2026, 10, 30, 13)),
    (1, Blur.Why.SOURCE, NOVEMBER - HOUR, NOVEMBER + 0.4 * MINUTE / 60),  # four tenths of a second into November
    (1, Blur.Why.SHARED, BEGIN + 90 * MINUTE, BEGIN + 91 * MINUTE),  # in the first diffusion
]


@pytest.fixture
def blurred(station) -> Path:
    """The pack of a station on which listeners could not always be told apart."""
    for stream, why, started, ended in STRETCHES:
        Blur.objects.create(stream=station.streams[stream], why=why, started=started, ended=ended, most=20, compared=30)
    call_command("listen_stats_grantpack", FIRST, LAST, "--output", "blurred.zip", stderr=io.StringIO())
    return Path("blurred.zip")


@pytest.mark.django_db
def test_months_diffusions_and_programs_say_why_listeners_could_not_be_told_apart(blurred):
    """Held against a plain look at every row and every stretch."""

    def during(streams, started, ended) -> set[str]:
        return {why.value for stream, why, a, b in STRETCHES if stream in streams and a < ended and started < b}

    spans = {"2026-10": (BEGIN, NOVEMBER), "2026-11": (NOVEMBER, END), WHOLE: (BEGIN, END)}
    streams = {ALL_STREAMS: (0, 1), "live": (0,), "low": (1,)}
    for row in table(blurred, "totals.csv"):
        expected = during(streams[row["stream"]], *spans[row["month"]])
        assert set(row["at_least_because"].split()) == expected, (row["month"], row["stream"])
    diffusions = table(blurred, "diffusions.csv")
    for row in diffusions:
        started = dt.datetime.fromisoformat(row["start_utc"])
        expected = during((0, 1), started, started + dt.timedelta(milliseconds=int(row["length_ms"])))
        assert set(row["at_least_because"].split()) == expected
    assert [row["at_least_because"] for row in diffusions] == ["shared", "", "", ""]
    assert [row["at_least_because"] for row in table(blurred, "programs.csv")] == ["shared", ""]
    assert len(table(blurred, "blurs.csv")) == len(STRETCHES)
    assert "agrees" in verified(blurred)


@pytest.mark.django_db
def test_a_reason_that_was_taken_out_is_named(blurred):
    def without(content: bytes) -> bytes:
        return content.replace(b"shared", b"")

    for name, says in (
        ("totals.csv", "totals.csv: at_least_because of 2026-10, (all) is address source"),
        ("programs.csv", "programs.csv: at_least_because of 5 is empty"),
        ("diffusions.csv", "diffusions.csv: at_least_because of"),
    ):
        assert any(one.startswith(says) for one in findings(changed(blurred, name, without))), name
    short = changed(blurred, "blurs.csv", lambda content: b"\r\n".join(content.split(b"\r\n")[:1]) + b"\r\n")
    assert any("totals.csv: at_least_because of whole, low is" in one for one in findings(short))
