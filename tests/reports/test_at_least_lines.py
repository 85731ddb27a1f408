"""Lines of a table whose listeners could not be told apart are lower bounds, each for its own time, in every form.

What is marked is held against a plain look at every line and every stretch, one by one.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from aircox_listen_stats import conf
from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import Airing, Blur
from aircox_listen_stats.reports import blurs, lines, report_tables, spans
from aircox_listen_stats.reports.blurs import JOINED, TOLD_APART, Reason, Sense, sense_of
from aircox_listen_stats.reports.periods import Scope, ScopeKind
from aircox_listen_stats.reports.scope_report import ScopeReport, scope_report
from aircox_listen_stats.templatetags.listen_stats_pages import changed, least, sensed

from .conftest import LENGTH, NOW, Crowd, at, second
from .test_report_page import body

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

STATION = Scope.station(1)
SEVEN, EIGHT = 7, 8
AIRINGS = [
    (SEVEN, 20_000, 25_400), (EIGHT, 30_000, 33_600), (SEVEN, 110_000, 113_600), (EIGHT, 150_000, 154_000),
    (SEVEN, 195_000, 198_600),
]  # fmt: skip
"""Program, first second and the first after it: two days of two programs, and a third day of one."""

DAYS = [(0, 14_400), (14_400, 104_400), (104_400, 190_800), (190_800, 277_200)]
"""The broadcast days, from four in the morning on; the second has 25 hours."""


@pytest.fixture
def filled(crowd: Crowd) -> Crowd:
    crowd.come(1, 80)
    crowd.observe()
    for number, (program, start, end) in enumerate(AIRINGS):
        crowd.on_air(start, end, program_id=program, program_title=f"P{program}", diffusion_id=number)
    crowd.compute()
    return crowd


class Told:
    """Stretches as they were told, and what a plain look finds of them."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.told: list[tuple[int, Reason, int, int]] = []

    def blur(self, start: int, end: int, why: Reason = Reason.ADDRESS, stream: int = 0) -> None:
        self.told.append((stream, why, start, end))
        Blur.objects.create(stream=self.crowd.streams[stream], why=why, started=at(start), ended=at(end))

    def during(self, stretches: Iterable[tuple[int, int]], *, streams: Sequence[int] = (0, 1)) -> set[Reason]:
        return {
            why
            for stream, why, start, end in self.told
            for begin, stop in stretches
            if stream in streams and start < stop and begin < end
        }


@pytest.fixture
def told(filled: Crowd) -> Told:
    return Told(filled)


def report(*names: str, scope: Scope = STATION, daypart: str = "") -> ScopeReport:
    settings = conf.get()
    span = spans.read(names or ["2026-W43"], settings, now=NOW).within(spans.daypart(daypart) if daypart else None)
    return scope_report(scope, span, settings.rules(), now=NOW)


# Which lines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_days_hours_programs_and_streams_are_marked_as_a_plain_look_at_them_says(told: Told, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(5):
        start = chance.randrange(-20_000, LENGTH)
        told.blur(start, start + chance.randrange(1, 9_000), chance.choice(list(Reason)), chance.randrange(2))
    made = report("2026-10-23", "2026-10-26")
    for step in made.steps:
        mine = [(second(step.started), second(step.ended))]
        assert set(step.at_least_because) == told.during(mine), step.started
    for line in made.programs:
        mine = [(start, end) for program, start, end in AIRINGS if program == line.id]
        assert set(line.now.at_least_because) == told.during(mine), line.title
    streams = {line.id: line for line in made.streams}
    for place, stream in enumerate(told.crowd.streams):
        whole = [(second(made.report.span.started), second(made.report.until))]
        assert set(streams[stream.pk].now.at_least_because) == told.during(whole, streams=[place])
        alone = report("2026-10-23", "2026-10-26", scope=Scope(kind=ScopeKind.STREAM, id=stream.pk, station_id=1))
        for step in alone.steps:
            mine = [(second(step.started), second(step.ended))]
            assert set(step.at_least_because) == told.during(mine, streams=[place])
    for step in report("2026-10-25").steps:
        assert set(step.at_least_because) == told.during([(second(step.started), second(step.ended))])


def test_a_day_of_one_daypart_is_marked_by_what_lies_in_that_daypart(told: Told) -> None:
    told.blur(14_400 + 7_200, 14_400 + 7_300)  # at six in the morning of the 24th
    told.blur(104_400 + 28_800, 104_400 + 28_900)  # at noon of the 25th
    days = {name: report("2026-10-24", "2026-10-25", daypart=name).steps for name in ("06-10", "10-13")}
    assert [step.at_least_because for step in days["06-10"]] == [(Reason.ADDRESS,), ()]
    assert [step.at_least_because for step in days["10-13"]] == [(), (Reason.ADDRESS,)]


def test_a_program_of_one_daypart_is_marked_by_the_diffusions_that_began_in_it(told: Told) -> None:
    told.blur(20_000, 20_100)  # 05:33, a diffusion of the night
    program = Scope(kind=ScopeKind.PROGRAM, id=SEVEN, station_id=1)
    assert report("2026-10-24", scope=program).report.at_least_because == (Reason.ADDRESS,)
    assert report("2026-10-24", scope=program, daypart="06-10").report.at_least_because == ()


def test_what_touches_an_edge_is_not_inside(told: Told) -> None:
    start, end = DAYS[1]
    told.blur(start - 100, start)
    told.blur(end, end + 100, Reason.SOURCE)
    (day,) = [step for step in report().steps if second(step.started) == start]
    assert day.at_least_because == ()


def test_many_stretches_at_once_are_what_each_is_alone() -> None:
    chance = random.Random(3)
    found = [
        (chance.choice(list(Reason)).value, start, start + chance.randrange(1, 60))
        for start in (chance.randrange(1000) for _ in range(40))
    ]
    lines = [(start, start + chance.randrange(0, 30)) for start in (chance.randrange(1000) for _ in range(300))]
    made = blurs.Times.of(found).each(*np.array(lines).T)
    for (begin, stop), because in zip(lines, made, strict=True):
        alone = {why for why, start, end in found if begin < stop and start < stop and begin < end}
        assert set(because) == alone


# Which figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("why", "marked"), [(Reason.ADDRESS, TOLD_APART), (Reason.SOURCE, JOINED)])
def test_of_a_line_those_figures_are_marked_that_count_listeners(told: Told, why: Reason, marked: Any) -> None:
    told.blur(120_000, 120_600, why)
    clean, day = (step.figures for step in report("2026-10-24", "2026-10-25").steps)
    assert clean is not None
    assert day is not None
    for name in ("average", "peak", "listening_hours", "started_sessions"):
        assert least(day, name).startswith("≥") is (name in marked), name
        assert not least(clean, name).startswith("≥")


# Comparisons ---------------------------------------------------------------------------------------

LEAST, MOST, COUNTED, PLAIN = Sense.AT_LEAST, Sense.AT_MOST, Sense.COUNTED, Sense.PLAIN
ADDRESS, SOURCE = (Reason.ADDRESS,), (Reason.SOURCE,)


@pytest.mark.parametrize(
    ("figure", "now", "before", "sense"),
    [
        ("peak", (), (), PLAIN),
        ("peak", ADDRESS, (), LEAST),
        ("peak", (), ADDRESS, MOST),
        ("peak", ADDRESS, ADDRESS, COUNTED),
        ("average", ADDRESS, ADDRESS, PLAIN),
        ("average", SOURCE, ADDRESS, LEAST),
        ("tlh", ADDRESS, SOURCE, MOST),
        ("tsl_seconds", ADDRESS, (), MOST),
        ("tsl_seconds", (), ADDRESS, LEAST),
        ("tsl_seconds", ADDRESS, ADDRESS, COUNTED),
        ("atsl_seconds", SOURCE, (), COUNTED),
    ],
)
def test_a_change_says_no_more_than_both_sides_know(figure: str, now: Any, before: Any, sense: Sense) -> None:
    assert sense_of(0.1, figure, now, before) is sense
    assert sense_of(None, figure, now, before) is PLAIN


@pytest.mark.parametrize("seed", range(3))
def test_what_a_change_says_holds_whatever_the_truth_is(seed: int) -> None:
    """Counts that are lower bounds, and the changes of what they may stand for."""
    chance = random.Random(seed)
    for now_because, before_because in ((ADDRESS, ()), ((), ADDRESS)):
        for _ in range(200):
            now, before = chance.randrange(1, 50), chance.randrange(1, 50)
            true_now = now + (chance.randrange(50) if now_because else 0)
            true_before = before + (chance.randrange(50) if before_because else 0)
            told, true = now / before - 1, true_now / true_before - 1
            sense = sense_of(told, "peak", now_because, before_because)
            assert true >= told if sense is LEAST else true <= told
            hours = chance.uniform(1, 100)
            told, true = (hours / now) / (hours / before) - 1, (hours / true_now) / (hours / true_before) - 1
            sense = sense_of(told, "tsl_seconds", now_because, before_because)
            assert true >= told if sense is LEAST else true <= told


@pytest.mark.parametrize(
    ("value", "sense", "way"),
    [
        (0.2, PLAIN, "up"), (-0.2, PLAIN, "down"), (0.2, LEAST, "up"), (-0.2, LEAST, "level"),
        (0.2, MOST, "level"), (-0.2, MOST, "down"), (0.2, COUNTED, "level"), (-0.2, COUNTED, "level"),
    ],
)  # fmt: skip
def test_a_change_is_coloured_where_its_direction_is_sure(value: float, sense: Sense, way: str) -> None:
    assert f"ls-{way}" in changed(value, sense)


def test_a_change_is_written_with_its_sense() -> None:
    assert [sensed("+12", sense) for sense in (PLAIN, LEAST, MOST, COUNTED)] == [
        "+12", "≥\N{NO-BREAK SPACE}+12", "≤\N{NO-BREAK SPACE}+12", "(+12)",
    ]  # fmt: skip


def test_lines_and_figures_compare_by_the_time_of_both_periods(told: Told) -> None:
    told.blur(150_000, 150_600, Reason.SOURCE)  # on the 25th, in a diffusion of the second program
    told.blur(20_000, 20_600, Reason.SOURCE)  # on the 24th, in one of the first
    made = report("2026-10-25")
    assert {line.id: (line.change is not None, line.change_is) for line in made.programs} == {
        SEVEN: (True, MOST), EIGHT: (True, LEAST),
    }  # fmt: skip
    changes = {one.name: one.on_before_is for one in made.comparison.changes}
    assert (changes["tlh"], changes["peak"], changes["tsl_seconds"]) == (COUNTED, COUNTED, COUNTED)
    assert report("2026-10-26").comparison.changes[0].on_before_is is MOST


# Forms ---------------------------------------------------------------------------------------------


def words(response: Any) -> str:
    """The page, with one plain space wherever there is any."""
    return " ".join(body(response).decode().split())


def rows(response: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body(response).decode(), newline="")))


def test_page_tables_and_json_mark_the_line_and_say_why_once_beneath(
    told: Told, client: Client, admin_user: Any
) -> None:
    client.force_login(admin_user)
    address, period = reverse("listen_stats:report"), {"from": "2026-10-24", "to": "2026-10-25"}
    told.blur(150_000, 150_600)
    made = report("2026-10-24", "2026-10-25")
    (marked,) = [line for line in made.programs if line.now.at_least_because]
    (clean,) = [line for line in made.programs if not line.now.at_least_because]
    page = words(client.get(address, period))
    programs = page[page.index("<h2>Programs</h2>") : page.index("<h2>Streams</h2>")]
    assert f"≥ {marked.now.peak}" in programs
    assert f"≥ {clean.now.peak}<" not in programs
    assert programs.count("most listened through one internet address") == 1
    days = page[page.index('id="ls-steps"') :]
    assert days.count("most listened through one internet address") == 1

    table = rows(client.get(address, {**period, "format": "csv", "table": "programs"}))
    assert {row["program_id"]: row["at_least_because"] for row in table} == {str(EIGHT): "address", str(SEVEN): ""}
    table = rows(client.get(address, {**period, "format": "csv", "table": "days"}))
    assert [row["at_least_because"] for row in table] == ["", "address"]
    table = rows(client.get(address, {**period, "format": "csv", "table": "streams"}))
    assert [row["at_least_because"] for row in table] in (["", "address"], ["address", ""])
    whole = client.get(address, {**period, "format": "json"}).json()
    assert [step["figures"]["at_least_because"] for step in whole["steps"]] == [[], ["address"]]
    assert {one["id"]: one["now"]["at_least_because"] for one in whole["programs"]} == {EIGHT: ["address"], SEVEN: []}


def test_the_header_and_the_rows_of_every_table_are_as_long(told: Told) -> None:
    told.blur(150_000, 150_600)
    made = report("2026-10-25")
    for name in report_tables.TABLES:
        table = report_tables.table(made, name, minimum=0)
        assert {len(row) for row in table.rows} <= {len(table.header)}, name


def test_the_text_marks_a_change(told: Told, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    told.blur(150_000, 150_600)
    call_command("listen_stats_report", "--period", "2026-10-25", "--output", "report")
    lines = {line.split()[0]: line for line in Path("report").read_text().splitlines() if line}
    assert ">=" in lines["peak"].split()[3]
    assert "%" in lines["peak"].split()[3]
    assert ">=" not in lines["tlh"]
    assert "<=" in lines["atsl_seconds"].split()[3]


# The pages of programs -----------------------------------------------------------------------------


@pytest.fixture
def staff(client: Client, admin_user: Any) -> Client:
    client.force_login(admin_user)
    return client


PERIOD = {"from": "2026-10-24", "to": "2026-10-26"}


@pytest.mark.parametrize("seed", range(4))
def test_a_program_its_diffusions_and_the_list_of_all_are_marked_as_a_plain_look_says(
    told: Told, staff: Client, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(3):
        start = chance.randrange(10_000, 200_000)
        told.blur(start, start + chance.randrange(1, 20_000), chance.choice(list(Reason)), chance.randrange(2))
    address = reverse("listen_stats:program", args=[SEVEN])
    page = staff.get(address, {**PERIOD, "format": "json"}).json()
    mine = [(start, end) for program, start, end in AIRINGS if program == SEVEN]
    assert set(page["totals"]["at_least_because"]) == told.during(mine)
    for line, bounds in zip(page["lines"], reversed(mine), strict=True):
        assert set(line["figures"]["at_least_because"]) == told.during([bounds])
    table = rows(staff.get(address, {**PERIOD, "format": "csv"}))
    assert [set(row["at_least_because"].split()) for row in table] == [told.during([one]) for one in reversed(mine)]
    day = {"from": "2026-10-25", "to": "2026-10-25", "format": "csv"}
    table = rows(staff.get(reverse("listen_stats:programs"), day))
    for row in table:
        for column, (first, end) in (("at_least_because", DAYS[2]), ("before_at_least_because", DAYS[1])):
            then = [(a, b) for program, a, b in AIRINGS if str(program) == row["program_id"] and first <= a < end]
            assert set(row[column].split()) == told.during(then), (row["program"], column)


def test_the_page_of_a_program_and_the_list_mark_the_line_and_say_why_once(told: Told, staff: Client) -> None:
    told.blur(110_000, 110_100)
    line = Airing.objects.get(started=at(110_000)).audiences.get(rule_set="triton")
    clean = Airing.objects.get(started=at(20_000)).audiences.get(rule_set="triton")
    page = words(staff.get(reverse("listen_stats:program", args=[SEVEN]), PERIOD))
    rows = page[page.index('<table class="ls-table ls-diffusions">') :]
    assert f"≥ {line.listeners}<" in rows
    assert f"≥ {line.joined}<" in rows
    first = rows[rows.index(f'<tr id="d{clean.airing_id}"') :]
    assert "≥" not in first[: first.index("</tr>")]
    assert rows.count("several listeners may have been counted as one") == 1
    page = words(staff.get(reverse("listen_stats:programs"), PERIOD))
    assert page.count("several listeners may have been counted as one") == 1


def test_the_change_of_a_program_is_at_least_or_at_most(told: Told, staff: Client) -> None:
    told.blur(110_000, 110_100, Reason.SOURCE)
    period = {"from": "2026-10-25", "to": "2026-10-25"}
    address = reverse("listen_stats:program", args=[SEVEN])
    totals = staff.get(address, {**period, "format": "json"}).json()["totals"]
    assert (totals["change"] is not None, totals["change_is"]) == (True, "at_least")
    assert "≥ +" in words(staff.get(address, period)) or "≥ −" in words(staff.get(address, period))
    later = {"from": "2026-10-26", "to": "2026-10-26"}
    lines = staff.get(reverse("listen_stats:programs"), {**later, "format": "json"}).json()["lines"]
    assert {one["program_id"]: one["change_is"] for one in lines if one["diffusions"]} == {SEVEN: "at_most"}


def test_pages_without_a_blur_say_nothing_of_it(told: Told, staff: Client) -> None:
    for address in (
        reverse("listen_stats:programs"),
        reverse("listen_stats:program", args=[SEVEN]),
        reverse("listen_stats:report"),
    ):
        assert "counted as one" not in body(staff.get(address, PERIOD)).decode()


def test_a_diffusion_marks_each_figure_that_counts_listeners_and_no_other(told: Told, staff: Client) -> None:
    told.blur(110_000, 110_100)
    airing = Airing.objects.get(started=at(110_000))
    address = reverse("listen_stats:diffusion", args=[airing.pk])
    figures = staff.get(address, {"format": "json"}).json()["line"]["figures"]
    assert figures["at_least_because"] == ["address"]
    page = words(staff.get(address))
    assert f"at least <b>{figures['peak']}</b> at once" in page
    for name in ("peak", "listeners", "joined", "left"):
        assert f"≥ {figures[name]}" in page, name
    assert "On average <b>≥" not in page


def test_what_is_on_air_now_is_marked_as_far_as_its_figures_tell(told: Told, staff: Client) -> None:
    Airing.objects.filter(started=at(195_000)).update(is_running=True)
    airing = Airing.objects.get(started=at(195_000))
    airing.audiences.update(computed=at(196_000))
    told.blur(197_000, 197_100)
    told.blur(195_500, 195_600, Reason.SOURCE)
    page = staff.get(reverse("listen_stats:program", args=[SEVEN]), {**PERIOD, "format": "json"}).json()
    assert page["lines"][0]["figures"]["at_least_because"] == ["source"]
    assert to_ms(airing.started) == to_ms(dt.datetime.fromisoformat(page["lines"][0]["started"]))


def test_json_of_the_command_is_that_of_the_page(told: Told, staff: Client, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    told.blur(150_000, 150_600)
    call_command("listen_stats_report", "--period", "2026-10-25", "--format", "json", "--output", "report")
    page = staff.get(reverse("listen_stats:report"), {"period": "2026-10-25", "format": "json"}).json()
    assert json.loads(Path("report").read_bytes()) == page


def test_what_was_read_of_a_time_is_asked_again_beyond_it_alone(told: Told, django_assert_num_queries: Any) -> None:
    told.blur(20_000, 20_100)
    line = lines.read_line(Airing.objects.get(started=at(20_000)).pk, "triton")
    with django_assert_num_queries(1):
        found = blurs.read(to_ms(at(20_000)), to_ms(at(25_400)))
    with django_assert_num_queries(0):
        assert lines.marked([line], found)[0].at_least_because == (Reason.ADDRESS,)
    narrow, nothing = blurs.read(to_ms(at(21_000)), to_ms(at(22_000))), blurs.read(to_ms(at(0)), to_ms(at(1)))
    for other in (narrow, nothing, None):
        with django_assert_num_queries(1):
            assert lines.marked([line], other)[0].at_least_because == (Reason.ADDRESS,)
    far = blurs.read(to_ms(at(-90_000)), to_ms(at(400_000)), station_id=2)
    assert (far.found, far.reaches(to_ms(at(0)), to_ms(at(1)))) == ([], True)


def test_pages_ask_as_often_however_often_listeners_could_not_be_told_apart(told: Told, staff: Client) -> None:
    addresses = [
        (reverse("listen_stats:program", args=[SEVEN]), PERIOD),
        (reverse("listen_stats:programs"), PERIOD),
        (reverse("listen_stats:report"), {"from": "2026-10-24", "to": "2026-10-25"}),
    ]
    counts = []
    for number in (0, 1, 40):
        for place in range(number):
            told.blur(20_000 + place * 4_000, 21_000 + place * 4_000)
        counts.append([])
        for address, asked in addresses:
            with CaptureQueriesContext(connection) as queries:
                body(staff.get(address, asked))
            counts[-1].append(len(queries))
    never, once, often = counts
    assert often == once
    assert all(blurred - clean <= 3 for blurred, clean in zip(once, never, strict=True)), counts
