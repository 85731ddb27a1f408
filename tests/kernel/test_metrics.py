"""The trade's figures: oracle 1 with exact numbers, rule-sets, and the grid of seconds."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel import metrics
from aircox_listen_stats.kernel.calendar import dayparts, weeks
from aircox_listen_stats.kernel.correlate import Listening
from aircox_listen_stats.kernel.types import RuleSet

from .grid import Grid
from .oracles import HOUR_MS, ONE_HOUR, S, clock, listening_of, random_cases

TRITON = RuleSet(name="triton", minimum_seconds=60)
NIELSEN = RuleSet(name="nielsen5", minimum_seconds=300, quarter_hour_seconds=300)
ACPM = RuleSet(name="acpm30", minimum_seconds=30, minimum_is_strict=True)
ALL = RuleSet(name="all", minimum_seconds=0)

TEN, ELEVEN = clock("10:00"), clock("11:00")


def told(*sessions):
    """Sessions as (listener, parts in seconds after ten, is_open)."""
    return Listening.of_parts([(who, [(TEN + a * S, TEN + b * S) for a, b in parts], False) for who, parts in sessions])


def test_oracle_1():
    hour = metrics.figures(listening_of(ONE_HOUR), TEN, ELEVEN, TRITON)
    assert hour.tlh * 3600 == 4619
    assert round(hour.tlh, 6) == round(hour.aas, 6) == 1.283056
    assert (hour.active_sessions, hour.started_sessions) == (8, 7)
    assert hour.atsl_seconds == 577.375
    assert (hour.cume, round(hour.tsl_seconds, 3)) == (6, 769.833)
    assert (hour.aqh, hour.aqh_in_one_piece) == (1.75, 1.50)
    assert (hour.peak, hour.peak_at_ms) == (3, clock("10:14"))
    assert hour.rule_set == "triton"


def test_oracle_1_with_the_45_seconds_of_c():
    assert metrics.figures(listening_of(ONE_HOUR), TEN, ELEVEN, ALL).tlh * 3600 == pytest.approx(4664)


def test_oracle_1_quarter_hours():
    listening = listening_of(ONE_HOUR)
    assert metrics.quarter_hour_listeners(listening, TEN, ELEVEN).tolist() == [2, 2, 1, 2]
    assert metrics.quarter_hour_listeners(listening, TEN, ELEVEN, in_one_piece=True).tolist() == [2, 2, 1, 1]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (TRITON, [False, False, True, True, True]),
        (ACPM, [False, True, True, True, True]),
        (ALL, [True, True, True, True, True]),
        (RuleSet(name="own", minimum_seconds=30), [True, True, True, True, True]),
    ],
)
def test_minimum_includes_its_bound_unless_strict(rules, expected):
    played = np.array([30_000, 30_001, 60_000, 60_001, 10**7])
    assert metrics.counted(played, rules).tolist() == expected


def test_nielsen_wants_five_minutes_in_one_clock_quarter_hour():
    listening = told(
        (1, [(0, 300)]),  # just
        (2, [(0, 299)]),
        (3, [(750, 1050)]),  # 150 s in each of two
        (4, [(601, 1200)]),  # 299 s, then 300
        (5, [(0, 100), (200, 300), (400, 500)]),  # together
        (6, [(800, 900), (1000, 1200)]),  # 100 s, then 200 s
        (7, [(899, 1801)]),  # all of the second one
    )
    played = np.array([300, 299, 300, 599, 300, 300, 902]) * S
    assert metrics.counted(played, NIELSEN, listening=listening).tolist() == [
        True,
        False,
        False,
        True,
        True,
        False,
        True,
    ]


def test_nielsen_without_the_sessions_is_refused():
    with pytest.raises(ValueError, match="'nielsen5' looks into clock quarter-hours and needs listening="):
        metrics.counted(np.array([300_000]), NIELSEN)


def test_a_person_s_time_is_the_union_and_stream_hours_are_the_sum():
    listening = told((1, [(0, 1800)]), (1, [(900, 2700)]), (2, [(0, 900)]))
    assert metrics.tlh(listening, TEN, ELEVEN) == 1.25
    assert metrics.person_hours(listening, TEN, ELEVEN) == 1.0


def test_tsl_in_quarter_hours():
    listening = told((1, [(0, 1800)]), (2, [(0, 300)]), (3, [(0, 299)]))
    assert metrics.tsl_quarter_hours(listening, TEN, ELEVEN) == 1.5


def test_reach_sums_over_the_dayparts_of_a_week():
    """Two mornings of three minutes are five minutes of breakfast in the week; one of them is not."""
    zone = ZoneInfo("Europe/Brussels")
    week = weeks(zone, TEN, ELEVEN)
    slots, part = dayparts(zone, int(week.starts_ms[0]), int(week.ends_ms[0]))
    day = 24 * 3600
    early = told((1, [(-14400, -14220)]), (1, [(day - 14400, day - 14220)]), (2, [(-14400, -14220)]))  # 07:00 there
    breakfast = part == 1
    assert metrics.reach(early, slots.starts_ms[breakfast], slots.ends_ms[breakfast]) == 1
    assert metrics.reach(early, slots.starts_ms[part == 2], slots.ends_ms[part == 2]) == 0
    assert metrics.reach(early, week.starts_ms, week.ends_ms) == 1
    assert metrics.reach(told(), week.starts_ms, week.ends_ms) == 0


def test_performances_are_tracks_by_listeners():
    listening = told((1, [(0, 100)]), (1, [(110, 400)]), (2, [(199, 200)]))
    starts = TEN + np.array([0, 200]) * S
    assert metrics.performances(listening, starts, starts + 200 * S) == (3, 391 / 3600)


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        ([], 0.0),
        ([(0, 100)], 1.0),
        ([(-50, 25), (75, 200)], 0.5),
        ([(0, 50), (25, 60), (10, 20)], 0.6),
        ([(100, 200), (-9, 0)], 0.0),
        ([(90, 200), (0, 10)], 0.2),
    ],
)
def test_coverage_is_the_share_that_was_observed(observed, expected):
    assert metrics.coverage(observed, 0, 100) == expected


def test_nobody_listening_is_zero_and_not_an_error():
    hour = metrics.figures(told(), TEN, ELEVEN, NIELSEN)
    assert (hour.tlh, hour.aas, hour.atsl_seconds, hour.tsl_seconds, hour.aqh) == (0.0, 0.0, 0.0, 0.0, 0.0)
    assert (hour.cume, hour.peak, hour.peak_at_ms) == (0, 0, None)
    assert metrics.quarter_hour_listeners(told(), TEN, ELEVEN).tolist() == [0, 0, 0, 0]


def test_no_time_is_zero_and_not_an_error():
    listening = told((1, [(0, 1800)]))
    assert metrics.aas(listening, TEN, TEN) == metrics.aqh(listening, TEN, TEN) == 0.0


LENGTH = 2000


@st.composite
def long_sessions(draw):
    result = []
    for _ in range(draw(st.integers(0, 6))):
        cuts = draw(st.lists(st.integers(0, LENGTH), min_size=2, max_size=6, unique=True).map(sorted))
        result.append((draw(st.integers(1, 3)), list(zip(cuts[0::2], cuts[1::2], strict=False)), False))
    return result


@random_cases(max_examples=100)
@given(long_sessions(), st.integers(0, LENGTH), st.integers(0, LENGTH))
def test_the_period_s_figures_equal_the_grid_of_seconds(sessions, one, other):
    start, end = min(one, other), max(one, other)
    grid = Grid(sessions, LENGTH)
    listening = Listening.of_parts(
        [(who, [(TEN + a * S, TEN + b * S) for a, b in parts], is_open) for who, parts, is_open in sessions]
    )
    start_ms, end_ms = TEN + start * S, TEN + end * S
    counts = grid.counts(start, end)
    assert metrics.tlh(listening, start_ms, end_ms) * HOUR_MS == pytest.approx(counts["listening"] * S)
    assert metrics.person_hours(listening, start_ms, end_ms) * 3600 == pytest.approx(grid.person_seconds(start, end))
    assert metrics.cume(listening, start_ms, end_ms) == counts["listeners"]
    assert metrics.active_sessions(listening, start_ms, end_ms) == counts["sessions"]
    assert metrics.started_sessions(listening, start_ms, end_ms) == counts["joined"]
    assert metrics.peak(listening, start_ms, end_ms)[0] == counts["peak"]
    for in_one_piece in (False, True):
        expected = grid.quarter_hours(start, end, in_one_piece=in_one_piece) if end > start else []
        found = metrics.quarter_hour_listeners(listening, start_ms, end_ms, in_one_piece=in_one_piece)
        assert found.tolist() == expected
    assert metrics.aas(listening, start_ms, end_ms) <= metrics.peak(listening, start_ms, end_ms)[0]


def test_a_steady_audience_is_exactly_its_average():
    """Through hours as fractions, three listeners throughout would be 3.0000000000000004 for some lengths."""
    for length in range(1, 3000, 7):
        listening = told(*((who, [(0, length)]) for who in range(3)))
        assert metrics.aas(listening, TEN, TEN + length * S) == 3.0
