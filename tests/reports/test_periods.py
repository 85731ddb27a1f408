"""Figures of periods: what a grid of seconds says, whatever they stand on."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import numpy as np
import pytest

from aircox_listen_stats import conf
from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import Cume, Stream
from aircox_listen_stats.pipeline import quarters
from aircox_listen_stats.reports import spans
from aircox_listen_stats.reports.periods import PeriodReport, Scope, ScopeKind, period_figures
from aircox_listen_stats.reports.spans import Span

from .conftest import LENGTH, NOW, Crowd, at, prune, second

pytestmark = pytest.mark.django_db

STATION = Scope.station(1)
DAY = dt.date(2026, 10, 24)
"""From 04:00 in summer time to 04:00 in winter time: 25 hours."""
EXACT = ("active_sessions", "started_sessions", "cume", "peak")


def report(span: Span, scope: Scope = STATION, *, now: dt.datetime = NOW, rules: str = "triton") -> PeriodReport:
    return period_figures(scope, span, conf.get().rules(rules), now=now)


def windows(span: Span) -> list[tuple[int, int]]:
    starts, ends = span.slots(span.ended_ms)
    return [(second(from_ms(a)), second(from_ms(b))) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


def assert_agrees(found: PeriodReport, truth: dict[str, float], *names: str) -> None:
    for name in names or tuple(truth):
        value = found[name].value
        if name == "peak_at":
            value = second(value)
        assert value == (truth[name] if name in EXACT else pytest.approx(truth[name], rel=1e-9)), name


@pytest.mark.parametrize("seed", [1, 2])
def test_a_broadcast_day_of_25_hours_is_what_every_second_says(crowd: Crowd, seed: int) -> None:
    crowd.come(seed, 90)
    crowd.observe()
    crowd.compute()
    span = spans.of_days(DAY, DAY, conf.get())
    assert span.ended_ms - span.started_ms == 25 * 3_600_000
    found = report(span)
    assert_agrees(found, crowd.seconds().figures(windows(span)))
    assert found.coverage == 1.0
    assert found.settled
    for place, stream in enumerate(crowd.streams):
        one = Scope(kind=ScopeKind.STREAM, id=stream.pk, station_id=1)
        assert_agrees(report(span, one), crowd.seconds(place).figures(windows(span)))


@pytest.mark.parametrize("seed", range(4, 8))
def test_any_two_instants_are_exact_also_where_they_cut_quarter_hours(crowd: Crowd, seed: int) -> None:
    chance = random.Random(seed)
    crowd.come(seed, 100)
    crowd.observe()
    crowd.compute()
    start = chance.randrange(0, LENGTH - 90_000)
    end = start + chance.choice(
        (chance.randrange(60, 900), chance.randrange(900, 5000), chance.randrange(5000, 80_000))
    )
    truth = crowd.seconds().figures([(start, end)])
    found = report(spans.between(at(start), at(end), conf.get()))
    assert_agrees(found, truth, *(name for name in truth if found[name].value is not None or name in ("tlh", "aqh")))
    assert found["active_sessions"].value == truth["active_sessions"]


def test_the_oracle_hour(crowd: Crowd) -> None:
    """Oracle 1 of the definitions: nine sessions of six listeners, each line its own session."""
    ten = 36_000
    told = [(1, -600, 1200), (2, 0, 299), (3, 600, 960), (3, 2400, 2445), (4, 1800, 5400), (5, 840, 1140),
            (5, 1500, 1800), (6, 2700, 2880), (6, 3000, 3180)]  # fmt: skip
    for listener, start, end in told:
        crowd.hear(0, listener, (ten + start, ten + end))
    crowd.observe()
    crowd.compute()
    found = report(spans.between(at(ten), at(ten + 3600), conf.get()))
    values = {one.name: one.value for one in found.figures}
    assert values["tlh"] == pytest.approx(4619 / 3600)
    assert values["aas"] == pytest.approx(1.283056, abs=1e-6)
    assert (values["active_sessions"], values["started_sessions"], values["cume"]) == (8, 7, 6)
    assert (values["atsl_seconds"], values["tsl_seconds"]) == pytest.approx((577.375, 769.833), abs=1e-3)
    assert (values["aqh"], values["aqh_in_one_piece"]) == (1.75, 1.5)
    assert (values["peak"], values["peak_at"]) == (3, at(ten + 840))


@pytest.mark.parametrize("daypart", range(6))
def test_a_daypart_of_several_days_counts_nobody_twice(crowd: Crowd, daypart: int) -> None:
    crowd.come(20 + daypart, 80)
    crowd.hear(0, 99, (18_000, 18_000 + 150_000))  # through every daypart of two days
    crowd.observe()
    crowd.compute()
    span = spans.of_days(DAY, DAY + dt.timedelta(days=1), conf.get()).within(daypart)
    truth = crowd.seconds().figures(windows(span))
    found = report(span)
    names = ("tlh", "aas", "started_sessions", "aqh", "aqh_in_one_piece", "peak", "peak_at", "person_hours")
    assert_agrees(found, truth, *names)
    active = found["active_sessions"]
    if active.value is None:  # the night's two ends lie too near to each other
        assert active.lower <= truth["active_sessions"] <= active.upper
    else:
        assert active.value == truth["active_sessions"]


def test_a_period_without_its_sessions_gives_the_same_numbers(crowd: Crowd, settings: Any) -> None:
    crowd.come(40, 120)
    crowd.observe()
    crowd.compute()
    for span in (
        spans.of_days(DAY, DAY, conf.get()),
        spans.of_days(DAY, DAY + dt.timedelta(days=1), conf.get()),
        spans.between(at(7200), at(50_400), conf.get()),
    ):
        before = report(span)
        truth = crowd.seconds().figures(windows(span))
        assert before["tlh"].value == pytest.approx(truth["tlh"])
    spared = [(span, report(span)) for span in (spans.of_days(DAY, DAY + dt.timedelta(days=1), conf.get()),)]
    day = spans.of_days(DAY, DAY, conf.get())
    whole_day = report(day)
    later = prune(settings)
    for span, before in spared:
        assert report(span, now=later).figures == before.figures
    after = report(day, now=later)
    sessions_alone = ("reach", "elapsed_hours")
    for one in whole_day.figures:
        found = after[one.name]
        if one.name in sessions_alone:
            assert found.value is None, "unknown, and not zero"
        else:
            assert (found.value, found.lower, found.upper) == (one.value, one.lower, one.upper), one.name


def test_a_cut_quarter_hour_without_its_sessions_is_said_and_not_guessed(crowd: Crowd, settings: Any) -> None:
    crowd.come(41, 60)
    crowd.observe()
    crowd.compute()
    span = spans.between(at(7200 + 100), at(50_400 + 100), conf.get())
    assert not report(span).is_cut
    found = report(span, now=prune(settings))
    assert found.is_cut
    assert found.coverage == pytest.approx((50_400 - 7200 - 900) / (50_400 - 7200), abs=1e-9)
    assert found.is_lower_bound


def test_what_nobody_observed_is_unknown_and_not_zero(crowd: Crowd) -> None:
    crowd.hear(0, 1, (-7000, -5000))
    crowd.observe(-7200, 0)
    crowd.compute()
    found = report(spans.of_days(DAY, DAY, conf.get()))
    assert found.coverage == 0.0
    assert not found.is_known
    assert {one.value for one in found.figures} == {None}


def test_nobody_listening_is_zero_where_it_was_observed(crowd: Crowd) -> None:
    crowd.observe()
    crowd.compute()
    found = report(spans.of_days(DAY, DAY, conf.get()))
    assert (found["tlh"].value, found["peak"].value, found["cume"].value, found["active_sessions"].value) == (
        0,
        0,
        0,
        0,
    )
    assert found["atsl_seconds"].value is None
    assert found["bytes_sent"].value is None


def test_a_period_that_runs_ends_with_its_last_quarter_hour(crowd: Crowd) -> None:
    crowd.come(42, 60)
    crowd.observe()
    now = at(40_000)
    crowd.compute(now=now)
    found = report(spans.of_days(DAY, DAY + dt.timedelta(days=6), conf.get()), now=now)
    assert found.is_running
    assert not found.settled
    assert found.until == at(39_600)


@pytest.mark.parametrize("seed", [50, 51])
def test_a_program_is_its_airtime(crowd: Crowd, seed: int) -> None:
    crowd.come(seed, 90)
    crowd.observe()
    airtime = [(20_000, 25_400), (30_000, 33_000), (100_000, 104_000), (190_000, 193_600)]
    for number, (start, end) in enumerate(airtime):
        crowd.on_air(start, end, program_id=7, episode_id=number // 2, diffusion_id=number)
    crowd.on_air(25_400, 30_000, program_id=8)
    crowd.compute()
    names = (
        "tlh", "aas", "active_sessions", "started_sessions", "atsl_seconds", "aqh", "aqh_in_one_piece", "peak",
        "peak_at", "person_hours", "elapsed_hours",
    )  # fmt: skip
    span = spans.of_days(DAY, DAY + dt.timedelta(days=2), conf.get())
    program = report(span, Scope(kind=ScopeKind.PROGRAM, id=7, station_id=1))
    assert_agrees(program, crowd.seconds().figures(airtime), *names)
    assert program.airings == 4
    assert program["cume"].value is None, "three days of keys that cannot be compared"
    assert 0 < program["cume"].lower <= crowd.seconds().figures(airtime)["cume"]
    episode = report(span, Scope(kind=ScopeKind.EPISODE, id=0, station_id=1))
    assert_agrees(episode, crowd.seconds().figures(airtime[:2]), *names, "cume", "reach")
    diffusion = report(span, Scope(kind=ScopeKind.DIFFUSION, id=2, station_id=1))
    assert_agrees(diffusion, crowd.seconds().figures(airtime[2:3]), *names, "cume", "reach")


def test_an_estimate_of_a_week_bears_its_bounds(crowd: Crowd) -> None:
    crowd.come(70, 60)
    crowd.observe()
    crowd.compute()
    week = spans.of_days(dt.date(2026, 10, 19), dt.date(2026, 10, 25), conf.get())
    days = report(week)["cume"]
    assert (days.value, days.upper) == (None, None), "five days of keys that cannot be compared"
    saturday = report(spans.of_days(DAY, DAY, conf.get()))["cume"].value
    assert days.lower >= saturday
    Cume.objects.create(
        station_id=1, scope="station", scope_id=1, kind="week", started=from_ms(week.started_ms), rule_set="triton",
        count=5000, lower=4850, upper=5150, settled=True,
    )  # fmt: skip
    found = report(week)
    cume, tsl, seconds = found["cume"], found["tsl_seconds"], found["tlh"].value * 3600
    assert (cume.value, cume.lower, cume.upper, cume.confidence) == (5000, 4850, 5150, 0.95)
    assert (cume.stands_on, cume.settled) == ("sketch", True)
    assert (tsl.value, tsl.lower, tsl.upper) == pytest.approx((seconds / 5000, seconds / 5150, seconds / 4850))


def test_a_stream_is_heard_later_than_the_studio_speaks(crowd: Crowd) -> None:
    crowd.come(71, 80)
    crowd.observe()
    Stream.objects.update(delay_ms=60_000)
    crowd.compute()
    truth = crowd.seconds().figures([(20_060, 50_060)])
    found = report(spans.between(at(20_000), at(50_000), conf.get()))
    assert_agrees(found, truth, "tlh", "active_sessions", "started_sessions", "peak", "cume", "person_hours")


def test_a_day_of_23_hours(crowd: Crowd) -> None:
    span = spans.of_days(dt.date(2026, 3, 28), dt.date(2026, 3, 28), conf.get())
    begin = round((from_ms(span.started_ms) - at(0)).total_seconds())
    crowd.hear(0, 1, (begin - 900, begin + 24 * 3600))
    crowd.observe(begin - 900, begin + 24 * 3600)
    quarters.refresh(1, span.started_ms, span.ended_ms, now_ms=to_ms(NOW), rule_sets=("triton",))
    found = report(span)
    assert (found["tlh"].value, found["aas"].value, found["active_sessions"].value) == (23, 1, 1)
    assert found["started_sessions"].value == 0


def test_performances_are_counted_for_every_portion(crowd: Crowd) -> None:
    crowd.come(60, 100)
    crowd.observe()
    plays = [(20_000, 20_240), (20_240, 20_500), (60_000, 60_200)]
    for number, (start, end) in enumerate(plays):
        crowd.on_air(start, end, "track", track_id=number % 2, program_id=7 if number < 2 else None)
    crowd.compute()
    span = spans.of_days(DAY, DAY, conf.get())
    grid = crowd.seconds(minimum=0)
    heads, hours = np.array([[one["cume"], one["tlh"]] for one in (grid.figures([play]) for play in plays)]).T
    found = report(span)
    assert found["performances"].value == heads.sum()
    assert found["ath"].value == pytest.approx(hours.sum())
    parts = [report(span.within(part)) for part in range(6)]
    assert sum(one["performances"].value or 0 for one in parts) == heads.sum()
    assert sum(one["ath"].value or 0 for one in parts) == pytest.approx(hours.sum())
    track = report(span, Scope(kind=ScopeKind.TRACK, id=0, station_id=1))
    assert track["performances"].value == heads[0] + heads[2]
    assert report(span, Scope(kind=ScopeKind.PROGRAM, id=7, station_id=1))["performances"].value == heads[:2].sum()
    one_stream = report(span, Scope(kind=ScopeKind.STREAM, id=crowd.streams[0].pk, station_id=1))
    assert one_stream["performances"].value is None, "of tracks it is known who heard them on any stream"


def test_the_number_of_queries_is_the_same_for_any_audience(crowd: Crowd, django_assert_max_num_queries: Any) -> None:
    crowd.observe()
    for number in (10, 100):
        crowd.come(number, number)
        crowd.compute()
        for span in (
            spans.of_days(DAY, DAY, conf.get()),
            spans.of_days(dt.date(2026, 10, 1), dt.date(2026, 10, 31), conf.get()),
            spans.of_days(dt.date(2026, 1, 1), dt.date(2026, 12, 31), conf.get()).within(2),
        ):
            with django_assert_max_num_queries(9):
                report(span)


def test_to_ms_of_the_origin_is_a_quarter_hour() -> None:
    assert to_ms(at(0)) % 900_000 == 0
