"""``listen_stats_report``: the same report for cron."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from aircox_listen_stats import conf
from aircox_listen_stats.reports import spans

from .conftest import NOW, Crowd

pytestmark = pytest.mark.django_db

PROGRAM = 7


@pytest.fixture(autouse=True)
def _here(monkeypatch: Any, tmp_path: Path, clock: None) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def filled(crowd: Crowd) -> Crowd:
    crowd.come(5, 60)
    crowd.observe()
    crowd.on_air(20_000, 25_400, program_id=PROGRAM, program_title="Canal & Co", diffusion_id=1)
    crowd.compute()
    return crowd


def written(*options: str) -> bytes:
    call_command("listen_stats_report", *options, "--output", "report")
    return Path("report").read_bytes()


def test_csv_json_and_xlsx_are_those_of_the_page(filled: Crowd, client: Any, admin_user: Any) -> None:
    client.force_login(admin_user)
    period = {"period": "2026-10-24"}
    options = ("--period", "2026-10-24", "--format")
    address = reverse("listen_stats:report")
    told = written(*options, "csv")
    assert told == b"".join(client.get(address, {**period, "format": "csv"}).streaming_content)
    assert json.loads(written(*options, "json")) == client.get(address, {**period, "format": "json"}).json()
    days = written(*options, "csv", "--table", "days")
    assert len(list(csv.DictReader(io.StringIO(days.decode(), newline="")))) == 25
    book = openpyxl.load_workbook(io.BytesIO(written(*options, "xlsx")))
    assert book.sheetnames[0] == "figures"


def test_text_says_value_period_before_and_change(filled: Crowd) -> None:
    text = written("--period", "2026-10-25").decode()
    truth = filled.seconds().figures([(104_400, 104_400 + 86_400)])
    before = filled.seconds().figures([(14_400, 104_400)])
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert lines["station"] == ["1,", "2026-10-25,", "rule-set", "triton"]
    assert lines["figure"] == ["2026-10-25", "2026-10-24", "change", "2025-10-26", "change"]
    change = f"{truth['tlh'] / before['tlh'] - 1:+.1%}"
    assert lines["tlh"] == [f"{truth['tlh']:.2f}", f"{before['tlh']:.2f}", change, "-"]
    assert lines["cume"][:2] == [str(truth["cume"]), str(before["cume"])]
    assert lines["settled"] == ["settled", "settled", "-"]
    assert lines["coverage_share"] == ["100.0%", "100.0%", "0.0%"]


def test_scope_daypart_and_rule_set(filled: Crowd) -> None:
    def value(*options: str) -> float:
        found = written("--period", "2026-10-24", "2026-10-24", *options, "--format", "csv").decode()
        return float(next(row["value"] for row in csv.DictReader(io.StringIO(found)) if row["figure"] == "tlh"))

    grid, low = filled.seconds(), filled.seconds(1)
    assert value("--scope", "stream:low", "--daypart", "10-13") == pytest.approx(
        low.figures([(36_000, 46_800)])["tlh"], abs=1e-4
    )
    assert value("--scope", f"program:{PROGRAM}") == pytest.approx(grid.figures([(20_000, 25_400)])["tlh"], abs=1e-4)
    assert value("--scope", "diffusion:1") == value("--scope", f"program:{PROGRAM}")
    everything = filled.seconds(minimum=0).figures([(14_400, 104_400)])["tlh"]
    assert value("--rules", "all") == pytest.approx(everything, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--period", "last-wek"], "'last-wek' is no period. Allowed: today, yesterday, this-week, last-week"),
        (["--period", "2026-13"], "2026-10, 2026-W41, 2026-11-22, or two days"),
        (["--period", "2026-10-24", "2026-10-23"], "The last day, 2026-10-23, is before the first, 2026-10-24."),
        (["--period", "1", "2", "3"], "'1 2 3' is no period"),
        (["--daypart", "25"], "'25' is no daypart. Allowed: 00-06, 06-10"),
        (["--scope", "stream"], "'stream'. Allowed: station, stream:…, program:…"),
        (["--scope", "stream:nothing"], "Unknown stream 'nothing'. Known: live, low."),
        (["--scope", "program:x"], "expected program: and aircox's number"),
        (["--scope", "program:99"], "No diffusion of program 99 is known."),
        (["--rules", "none"], "Unknown rule-set 'none'. Known: acpm30"),
    ],
)
def test_what_cannot_be_understood_is_told_with_what_is_allowed(filled: Crowd, options: list[str], words: str) -> None:
    with pytest.raises(CommandError) as caught:
        call_command("listen_stats_report", *options)
    assert words in str(caught.value)
    assert caught.value.returncode == 1
    assert not Path("report").exists()


def test_a_period_of_which_nothing_is_known_has_a_status_of_its_own(filled: Crowd) -> None:
    with pytest.raises(CommandError, match="Nothing is known of 2025-W41 under 'triton'") as caught:
        call_command("listen_stats_report", "--period", "2025-W41", "--format", "csv", "--output", "report")
    assert caught.value.returncode == 3
    assert Path("report").read_bytes().startswith(b"scope,"), "the report is written all the same"


@pytest.mark.parametrize(
    ("word", "first", "last", "name"),
    [
        ("yesterday", "2026-10-28", "2026-10-28", "2026-10-28"),
        ("this-week", "2026-10-26", "2026-11-01", "2026-W44"),
        ("last-week", "2026-10-19", "2026-10-25", "2026-W43"),
        ("this-month", "2026-10-01", "2026-10-31", "2026-10"),
        ("last-month", "2026-09-01", "2026-09-30", "2026-09"),
        ("this-year", "2026-01-01", "2026-12-31", "2026"),
        ("last-year", "2025-01-01", "2025-12-31", "2025"),
        ("2026-W53", "2026-12-28", "2027-01-03", "2026-W53"),
        ("2024-02", "2024-02-01", "2024-02-29", "2024-02"),
    ],
)
def test_names_of_periods(word: str, first: str, last: str, name: str) -> None:
    now = dt.datetime(2026, 10, 30, 1, 0, tzinfo=dt.UTC)  # 02:00 in Brussels: still the broadcast day of the 29th
    span = spans.read([word], conf.get(), now=now)
    assert (str(span.first), str(span.last), span.name) == (first, last, name)


@pytest.mark.parametrize(
    ("words", "before", "year_before"),
    [
        (["2026-W41"], "2026-W40", "2025-W41"),
        (["2021-W01"], "2020-W53", "2020-W02"),  # after a year of 53 weeks
        (["2024-03"], "2024-02", "2023-03"),
        (["2026"], "2025", None),
        (["2025-11-24", "2026-11-22"], "2024-11-25_2025-11-23", None),  # 52 weeks: those before are last year's
        (["2026-10-24"], "2026-10-23", "2025-10-25"),
        (["2026-10-05", "2026-10-14"], "2026-09-25_2026-10-04", "2025-10-06_2025-10-15"),
    ],
)
def test_what_a_period_is_held_against(words: list[str], before: str, year_before: str | None) -> None:
    span = spans.read(words, conf.get(), now=NOW)
    other = span.year_before()
    assert span.before().name == before
    assert (other and other.name) == year_before
    assert span.before().ended_ms == span.started_ms
