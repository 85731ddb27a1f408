"""The trade's figures: oracle 1 with exact numbers, rule-sets, and the grid of seconds."""

from __future__ import annotations

import itertools
from dataclasses import replace
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


def told_at(sessions):
    """Sessions of the grid, from ten on."""
    return Listening.of_parts(
        [(who, [(TEN + a * S, TEN + b * S) for a, b in parts], is_open) for who, parts, is_open in sessions]
    )


def in_the_hour(listening):
    return metrics.Periods(listening=listening, starts_ms=[TEN], ends_ms=[ELEVEN])


def test_oracle_1():
    (hour,) = metrics.figures(listening_of(ONE_HOUR), [TEN], [ELEVEN], TRITON)
    assert hour.tlh * 3600 == 4619
    assert round(hour.tlh, 6) == round(hour.aas, 6) == 1.283056
    assert (hour.active_sessions, hour.started_sessions) == (8, 7)
    assert hour.atsl_seconds == 577.375
    assert (hour.cume, round(hour.tsl_seconds, 3)) == (6, 769.833)
    assert (hour.aqh, hour.aqh_in_one_piece) == (1.75, 1.50)
    assert (hour.peak, hour.peak_at_ms) == (3, clock("10:14"))
    assert hour.rule_set == "triton"


def test_oracle_1_with_the_45_seconds_of_c():
    assert metrics.figures(listening_of(ONE_HOUR), [TEN], [ELEVEN], ALL)[0].tlh * 3600 == pytest.approx(4664)


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
    hour = in_the_hour(told((1, [(0, 1800)]), (1, [(900, 2700)]), (2, [(0, 900)])))
    assert hour.tlh.tolist() == [1.25]
    assert hour.person_hours.tolist() == [1.0]


def test_tsl_in_quarter_hours():
    hour = in_the_hour(told((1, [(0, 1800)]), (2, [(0, 300)]), (3, [(0, 299)])))
    assert hour.tsl_quarter_hours.tolist() == [1.5]


def test_an_open_session_counts_until_it_has_ended_too_short():
    young = Listening.of_parts([(1, [(TEN, TEN + 10 * S)], True), (2, [(TEN, TEN + 10 * S)], False)])
    assert metrics.counting(young, TRITON).listener.tolist() == [1]
    assert metrics.counting(young, NIELSEN).listener.tolist() == [1]


def test_reach_sums_over_the_dayparts_of_a_week():
    """Two mornings of three minutes are five minutes of breakfast in the week; one of them is not."""
    zone = ZoneInfo("Europe/Brussels")
    week = weeks(zone, TEN, ELEVEN)
    slots, part = dayparts(zone, int(week.starts_ms[0]), int(week.ends_ms[0]))
    day = 24 * 3600
    early = told((1, [(-14400, -14220)]), (1, [(day - 14400, day - 14220)]), (2, [(-14400, -14220)]))  # 07:00 there
    breakfast = part == 1
    assert breakfast.sum() == 7
    assert metrics.reach(early, slots.starts_ms, slots.ends_ms, part).tolist() == [0, 1, 0, 0, 0, 0]
    assert metrics.reach(early, week.starts_ms, week.ends_ms, np.array([0])).tolist() == [1]
    assert metrics.reach(told(), week.starts_ms, week.ends_ms, np.array([0])).tolist() == [0]


def test_performances_are_tracks_by_listeners():
    listening = told((1, [(0, 100)]), (1, [(110, 400)]), (2, [(199, 200)]))
    starts = TEN + np.array([0, 200]) * S
    tracks = metrics.Periods(listening=listening, starts_ms=starts, ends_ms=starts + 200 * S)
    assert tracks.performances.sum() == 3
    assert tracks.ath == 391 / 3600


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
    (hour,) = metrics.figures(told(), [TEN], [ELEVEN], NIELSEN)
    assert hour.peak_at_ms is None
    for name in set(metrics.PeriodFigures.__dataclass_fields__) - {
        "rule_set", "started_ms", "ended_ms", "peak_at_ms", "coverage",
    }:  # fmt: skip
        assert getattr(hour, name) == 0, name
    assert metrics.quarter_hour_listeners(told(), TEN, ELEVEN).tolist() == [0, 0, 0, 0]
    assert metrics.retention(told(), TEN, TEN + 120 * S).tolist() == [0.0, 0.0]
    assert metrics.retention(told(), TEN, TEN + 120 * S, of_all=True).tolist() == [0.0, 0.0]


def test_no_time_is_zero_and_not_an_error():
    listening = told((1, [(0, 1800)]))
    for end in (TEN, TEN - 3600 * S):
        (none,) = metrics.figures(listening, [TEN], [end], ALL, observed=[])
        assert (none.aas, none.aqh, none.tlh, none.tsl_quarter_hours, none.reach) == (0.0, 0.0, 0.0, 0.0, 0)
        assert none.coverage == 1.0


def test_no_period_has_no_figures():
    assert metrics.figures(told((1, [(0, 1800)])), [], [], ALL) == []


def test_retention_of_the_first_and_of_all():
    """One stays, one leaves after a minute, one comes after two; who heard the start is two of three."""
    listening = told((1, [(0, 300)]), (2, [(-60, 60)]), (3, [(120, 300)]))
    assert metrics.retention(listening, TEN, TEN + 240 * S).tolist() == [1.0, 0.5, 0.5, 0.5]
    of_all = metrics.retention(listening, TEN, TEN + 240 * S, of_all=True)
    assert of_all.round(4).tolist() == [0.6667, 0.3333, 0.6667, 0.6667]


def test_bytes_and_delivered_sound_lie_where_they_were_heard():
    """A part of silence gets nothing; what one source does not tell is known to be missing."""
    listening = replace(
        told((1, [(0, 100), (300, 400)]), (2, [(0, 200)]), (3, [(350, 550)])),
        bytes_sent=np.array([1001, metrics.UNKNOWN, 400]),
        delivered_ms=np.array([160, metrics.UNKNOWN, 200]) * S,
    )
    bounds = TEN + np.array([0, 50, 100, 300, 350, 400, 1000]) * S
    slots = metrics.Periods(listening=listening, starts_ms=bounds[:-1], ends_ms=bounds[1:])
    assert slots.bytes_sent.tolist() == [250, 250, 0, 250, 251 + 100, 300]
    assert (slots.delivered_hours * 3600).round(9).tolist() == [40, 40, 0, 40, 90, 150]
    assert slots.bytes_share.tolist() == slots.delivered_share.tolist() == [0.5, 0.5, 0, 1, 1, 1]
    hour = in_the_hour(listening)
    assert (hour.tlh.item() * 3600, hour.elapsed_hours.item() * 3600) == (600, 800)
    assert hour.bytes_share.item() == pytest.approx(2 / 3)


def test_amounts_of_months_stay_exact():
    """Products beyond 64 bits: a session of a year with terabytes, cut by the hour, adds up to the byte."""
    year = 365 * 24
    sent = 7_123_456_789_012_345
    listening = Listening.of_parts([(1, [(0, year * HOUR_MS)], False)])
    hours = np.arange(year) * HOUR_MS
    each = metrics.apportioned(listening, np.array([sent]), hours, hours + HOUR_MS)
    assert each.sum() == sent
    assert each.max() - each.min() <= sent / year / 1e6


def test_what_nobody_tells_is_no_bytes_and_no_share():
    hour = in_the_hour(told((1, [(0, 300)])))
    assert (hour.bytes_sent.tolist(), hour.bytes_share.tolist()) == ([0], [0.0])
    mixed = replace(told((1, [(0, 300)])), bytes_sent=np.array([70])).together(told((2, [(0, 300)])))
    assert (in_the_hour(mixed).bytes_sent.item(), in_the_hour(mixed).bytes_share.item()) == (70, 0.5)


LENGTH = 2000
"""Seconds of a random case: three clock quarter-hours."""


@st.composite
def long_sessions(draw):
    result = []
    for _ in range(draw(st.integers(0, 6))):
        cuts = draw(st.lists(st.integers(0, LENGTH), min_size=2, max_size=6, unique=True).map(sorted))
        parts = list(zip(cuts[0::2], cuts[1::2], strict=False))
        result.append((draw(st.integers(1, 3)), parts, draw(st.integers(0, 4)) == 0))
    return result


instants = st.one_of(st.integers(0, LENGTH), st.sampled_from([0, 900, 1800, LENGTH]))
periods = st.lists(st.tuples(instants, instants).map(sorted), max_size=5)
amounts = st.one_of(st.none(), st.integers(0, 10**12))


@random_cases(max_examples=120)
@given(long_sessions(), periods, st.data())
def test_the_figures_of_many_periods_equal_the_grid_of_seconds(sessions, bounds, data):
    grid = Grid(sessions, LENGTH)
    sent = [data.draw(amounts) for _ in sessions]
    listening = replace(
        Listening.of_parts(
            [(who, [(TEN + a * S, TEN + b * S) for a, b in parts], is_open) for who, parts, is_open in sessions]
        ),
        bytes_sent=np.array([metrics.UNKNOWN if one is None else one for one in sent], dtype=np.int64),
    )
    pairs = TEN + np.array(bounds, dtype=np.int64).reshape(-1, 2) * S
    many = metrics.Periods(listening=listening, starts_ms=pairs[:, 0], ends_ms=pairs[:, 1])
    for place, (start, end) in enumerate(bounds):
        counts = grid.counts(start, end)
        assert many.tlh[place] * 3600 == pytest.approx(counts["listening"])
        assert many.person_hours[place] * 3600 == pytest.approx(grid.person_seconds(start, end))
        assert many.elapsed_hours[place] * 3600 == pytest.approx(grid.elapsed(start, end))
        assert many.bytes_sent[place] == grid.apportioned(sent, start, end)
        assert many.aas[place] == pytest.approx(counts["listening"] / max(end - start, 1))
        assert many.atsl_seconds[place] == pytest.approx(counts["listening"] / max(counts["sessions"], 1))
        assert many.tsl_seconds[place] == pytest.approx(counts["listening"] / max(counts["listeners"], 1))
        assert many.active_sessions[place] == counts["sessions"]
        assert many.started_sessions[place] == counts["joined"]
        assert many.cume[place] == counts["listeners"]
        assert many.peak[place] == counts["peak"]
        assert many.reach[place] == grid.reached([(start, end)])
        aggregate = grid.enough_by_quarter(start, end, in_one_piece=False) if end > start else []
        unbroken = grid.enough_by_quarter(start, end, in_one_piece=True) if end > start else []
        enough = sum(map(len, aggregate))
        assert many.aqh[place] == pytest.approx(enough / max(len(aggregate), 1))
        assert many.aqh_in_one_piece[place] == pytest.approx(sum(map(len, unbroken)) / max(len(unbroken), 1))
        assert many.tsl_quarter_hours[place] == pytest.approx(enough / max(len(set().union(*aggregate)), 1))
        for in_one_piece, expected in ((False, aggregate), (True, unbroken)):
            found = metrics.quarter_hour_listeners(listening, *pairs[place].tolist(), in_one_piece=in_one_piece)
            assert found.tolist() == list(map(len, expected))


@random_cases(max_examples=60)
@given(long_sessions(), st.lists(st.integers(0, LENGTH), min_size=2, max_size=6, unique=True).map(sorted), st.data())
def test_the_reach_of_groups_equals_the_grid_of_seconds(sessions, cuts, data):
    grid = Grid(sessions, LENGTH)
    listening = told_at(sessions)
    slots = list(itertools.pairwise(cuts))
    group = [data.draw(st.integers(0, 2)) for _ in slots] + [3]
    slots.append((cuts[0], cuts[-1]))  # overlaps them all
    starts, ends = TEN + np.array(slots).T * S
    expected = [grid.reached([slot for slot, of in zip(slots, group, strict=True) if of == one]) for one in range(4)]
    assert metrics.reach(listening, starts, ends, np.array(group)).tolist() == expected


@random_cases(max_examples=80)
@given(long_sessions(), st.sampled_from([60, 300, 301, 450, 899, 900]))
def test_who_heard_enough_of_one_quarter_equals_the_grid_of_seconds(sessions, seconds):
    rules = RuleSet(name="own", minimum_seconds=0, quarter_hour_seconds=seconds)
    listening = told_at(sessions)
    rows = Grid(sessions, LENGTH).rows
    expected = [any(sum(row[q : q + 900]) >= seconds for q in range(0, LENGTH, 900)) for row in rows]
    assert metrics.counted(metrics.played_ms(listening), rules, listening=listening).tolist() == expected


@random_cases(max_examples=100)
@given(long_sessions(), st.lists(instants, min_size=2, max_size=6).map(sorted))
def test_periods_obey_the_laws_of_the_trade(sessions, cuts):
    """Splitting loses nothing, an average is no more than the peak, no cume is more than the sum of its parts'."""
    bounds = TEN + np.array(cuts, dtype=np.int64) * S
    listening = replace(told_at(sessions), bytes_sent=np.arange(len(sessions)) * 12_345)
    pieces = metrics.Periods(listening=listening, starts_ms=bounds[:-1], ends_ms=bounds[1:])
    whole = metrics.Periods(listening=listening, starts_ms=bounds[:1], ends_ms=bounds[-1:])
    for name in ("tlh", "person_hours", "elapsed_hours", "bytes_sent"):
        assert getattr(pieces, name).sum() == pytest.approx(getattr(whole, name).item())
    assert (pieces.aas <= pieces.peak).all()
    assert (pieces.person_hours <= pieces.tlh + 1e-9).all()
    assert (pieces.tlh <= pieces.elapsed_hours + 1e-9).all()
    for name in ("cume", "reach"):
        assert getattr(pieces, name).max() <= getattr(whole, name).item()
    assert whole.cume.item() <= pieces.cume.sum()
    assert (whole.reach <= whole.cume).all()
    assert (pieces.aqh_in_one_piece <= pieces.aqh).all()


@random_cases(max_examples=100)
@given(long_sessions(), st.randoms(), st.sampled_from([TRITON, NIELSEN, ACPM, ALL]))
def test_order_of_arrival_changes_no_figure(sessions, random, rules):
    shuffled = list(sessions)
    random.shuffle(shuffled)
    bounds = np.arange(TEN, TEN + LENGTH * S, 500 * S)
    there, here = (metrics.figures(told_at(some), bounds, bounds + 700 * S, rules) for some in (sessions, shuffled))
    assert there == here


def test_pieces_in_small_chunks_change_nothing(monkeypatch):
    listening = listening_of(ONE_HOUR)
    bounds = TEN + np.arange(0, 3600, 7 * 60) * S
    whole = metrics.figures(listening, bounds, bounds + 1000 * S, ALL)
    monkeypatch.setattr(metrics, "_CHUNK_ROWS", 2)
    assert metrics.figures(listening_of(ONE_HOUR), bounds, bounds + 1000 * S, ALL) == whole


def test_a_steady_audience_is_exactly_its_average():
    """Through hours as fractions, three listeners throughout would be 3.0000000000000004 for some lengths."""
    for length in range(1, 3000, 7):
        listening = told(*((who, [(0, length)]) for who in range(3)))
        assert metrics.Periods(listening=listening, starts_ms=[TEN], ends_ms=[TEN + length * S]).aas.item() == 3.0
