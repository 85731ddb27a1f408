"""Every definition under every shipped rule-set, against the grid of seconds; what oracle 1 says beside its totals."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats import conf
from aircox_listen_stats.kernel import metrics
from aircox_listen_stats.kernel.calendar import broadcast_days, hours
from aircox_listen_stats.kernel.correlate import Listening, audience

from .grid import Grid, Told
from .oracles import HOUR_MS, ONE_HOUR, S, clock, listening_of, random_cases, utc

LENGTH = 2000
"""Seconds of a random case: three clock quarter-hours, the last one cut."""

TEN = clock("10:00")
QUARTER = 900
MINUTE = 60


@st.composite
def sessions(draw, most=6, one_part=False, all_closed=False):
    """Sessions of one to three parts, about as long as the minimums of the rule-sets; few listeners."""
    told = []
    for _ in range(draw(st.integers(0, most))):
        start = draw(st.integers(0, LENGTH - 1))
        parts = []
        for _ in range(1 if one_part else draw(st.integers(1, 3))):
            end = start + draw(st.sampled_from([1, 29, 30, 31, 59, 60, 61, 299, 300, 301, 700]))
            parts.append((start, min(end, LENGTH)))
            start = end + draw(st.integers(1, 299))
            if start >= LENGTH:
                break
        told.append((draw(st.integers(1, 3)), parts, not all_closed and draw(st.integers(0, 4)) == 0))
    return told


instants = st.one_of(st.integers(0, LENGTH), st.sampled_from([0, QUARTER, 2 * QUARTER, LENGTH]))


def listening(told: Sequence[Told]) -> Listening:
    return Listening.of_parts(
        [(who, [(TEN + a * S, TEN + b * S) for a, b in parts], is_open) for who, parts, is_open in told]
    )


def bounds_of(cuts: Sequence[int]) -> np.ndarray:
    return TEN + np.array(cuts, dtype=np.int64) * S


def counts(row: Sequence[bool], is_open: bool, rule_set: str) -> bool:
    """The table of rule-sets in words of seconds: which sessions count."""
    heard = sum(row)
    quarters = [sum(row[first : first + QUARTER]) for first in range(0, LENGTH, QUARTER)]
    return (
        is_open
        or {
            "triton": heard >= 60,
            "nielsen5": any(quarter >= 300 for quarter in quarters),
            "acpm30": heard > 30,
            "openbroadcast": heard > 30,
            "all": True,
        }[rule_set]
    )


# Rule-sets ---------------------------------------------------------------------------------------


def test_the_rule_sets_of_the_trade_are_these_and_all_stitch_over_five_minutes():
    assert {name: rules.gap_seconds for name, rules in conf.RULE_SETS.items()} == dict.fromkeys(
        ("triton", "nielsen5", "acpm30", "openbroadcast", "all"), 300
    )
    assert conf.Settings().rules().name == "triton"


@pytest.mark.parametrize("name", conf.RULE_SETS)
@random_cases(max_examples=40)
@given(told=sessions(), cuts=st.lists(instants, min_size=2, max_size=4).map(sorted))
def test_every_figure_under_every_rule_set_equals_the_grid_of_seconds(name, told, cuts):
    """Stitched first, filtered after, then counted: the grid is filtered by reading the table aloud."""
    every = Grid(told, LENGTH)
    kept = [one for one, row in zip(told, every.rows, strict=True) if counts(row, one[2], name)]
    grid = Grid(kept, LENGTH)
    bounds = bounds_of(cuts)
    found = metrics.figures(listening(told), bounds[:-1], bounds[1:], conf.RULE_SETS[name])
    for one, start, end in zip(found, cuts[:-1], cuts[1:], strict=True):
        heads = grid.counts(start, end)
        aggregate = grid.enough_by_quarter(start, end, in_one_piece=False) if end > start else []
        unbroken = grid.enough_by_quarter(start, end, in_one_piece=True) if end > start else []
        assert one.rule_set == name
        assert one.tlh * 3600 == pytest.approx(heads["listening"])
        assert one.aas * max(end - start, 1) == pytest.approx(heads["listening"])
        assert (one.active_sessions, one.started_sessions) == (heads["sessions"], heads["joined"])
        assert one.atsl_seconds * max(heads["sessions"], 1) == pytest.approx(heads["listening"])
        assert (one.cume, one.peak) == (heads["listeners"], heads["peak"])
        assert one.tsl_seconds * max(heads["listeners"], 1) == pytest.approx(heads["listening"])
        assert one.person_hours * 3600 == pytest.approx(grid.person_seconds(start, end))
        assert one.elapsed_hours * 3600 == pytest.approx(grid.elapsed(start, end))
        assert one.aqh * max(len(aggregate), 1) == pytest.approx(sum(map(len, aggregate)))
        assert one.aqh_in_one_piece * max(len(unbroken), 1) == pytest.approx(sum(map(len, unbroken)))
        assert one.reach == grid.reached([(start, end)])


# Oracle 1, beside its totals ---------------------------------------------------------------------


def test_oracle_1_three_listen_during_two_minutes_and_nobody_during_five():
    seconds = np.arange(TEN, TEN + HOUR_MS, S)
    there = audience(listening_of(ONE_HOUR), seconds, seconds + S).at_start
    assert np.flatnonzero(there == there.max()).tolist() == list(range(14 * MINUTE, 16 * MINUTE))
    assert there.max() == 3
    assert np.flatnonzero(there == 0).tolist() == list(range(20 * MINUTE, 25 * MINUTE))
    assert there.sum() == 4664


def test_oracle_1_p_and_q_are_the_hour():
    bounds = np.array([clock("10:00"), clock("10:30"), clock("11:00")])
    pieces = metrics.figures(listening_of(ONE_HOUR), bounds[:-1], bounds[1:], conf.RULE_SETS["triton"])
    (hour,) = metrics.figures(listening_of(ONE_HOUR), bounds[:1], bounds[-1:], conf.RULE_SETS["triton"])
    assert [round(one.tlh * 3600) for one in pieces] == [2459, 2160]
    assert [round(one.aas, 6) for one in pieces] == [1.366111, 1.2]
    assert [one.cume for one in pieces] == [4, 2]
    assert sum(round(one.tlh * 3600) for one in pieces) == round(hour.tlh * 3600) == 4619


@pytest.mark.parametrize(
    ("name", "seconds", "active", "cume"),
    [
        ("triton", 4619, 8, 6),  # without the 45 seconds of C
        ("nielsen5", 3660, 4, 4),  # A, C's first, D, E's second have five minutes in one quarter-hour; E's first is cut
        ("acpm30", 4664, 9, 6),
        ("openbroadcast", 4664, 9, 6),
        ("all", 4664, 9, 6),
    ],
)
def test_oracle_1_under_every_rule_set(name, seconds, active, cume):
    (hour,) = metrics.figures(listening_of(ONE_HOUR), [TEN], [TEN + HOUR_MS], conf.RULE_SETS[name])
    assert (round(hour.tlh * 3600), hour.active_sessions, hour.cume) == (seconds, active, cume)


# Definitions with a shape of their own -----------------------------------------------------------


@random_cases(max_examples=80)
@given(sessions(), st.lists(st.tuples(instants, instants).map(sorted), max_size=5))
def test_performances_and_tuning_hours_equal_the_grid_of_seconds(told, tracks):
    """Tracks may overlap, repeat and be cut: each is a performance to whoever heard a second of it."""
    grid = Grid(told, LENGTH)
    pairs = bounds_of(tracks).reshape(-1, 2)
    found = metrics.Periods(listening=listening(told), starts_ms=pairs[:, 0], ends_ms=pairs[:, 1])
    heads = [grid.counts(start, end) for start, end in tracks]
    assert found.performances.tolist() == [one["listeners"] for one in heads]
    assert found.ath * 3600 == pytest.approx(sum(one["listening"] for one in heads))


@random_cases(max_examples=80)
@given(sessions(), st.tuples(instants, instants).map(sorted))
def test_shares_retained_equal_the_grid_of_seconds(told, airing):
    grid = Grid(told, LENGTH)
    start, end = airing
    there, every = grid.retained(start, end), grid.counts(start, end)["sessions"]
    for of_all, expected, whole in (
        (False, there, there[0] if there else 0),
        (True, grid.still_there(start, end), every),
    ):
        shares = metrics.retention(listening(told), *bounds_of(airing).tolist(), of_all=of_all)
        assert shares.tolist() == pytest.approx([one / whole if whole else 0.0 for one in expected])
        assert (shares <= 1).all()


@random_cases(max_examples=80)
@given(sessions(one_part=True, all_closed=True), st.lists(instants, min_size=3, max_size=6, unique=True).map(sorted))
def test_what_one_airing_kept_the_next_one_inherited(told, cuts):
    bounds = bounds_of(cuts)
    found = audience(listening(told), bounds[:-1], bounds[1:])
    assert found.kept[:-1].tolist() == found.inherited[1:].tolist()
    assert found.at_end.tolist() == [Grid(told, LENGTH).counts(*pair)["at_end"] for pair in itertools.pairwise(cuts)]
    assert (found.inherited + found.joined).tolist() == (found.left + found.kept).tolist() == found.sessions.tolist()


@random_cases(max_examples=80)
@given(
    st.lists(st.tuples(st.integers(-50, 450), st.integers(-50, 450)).map(sorted), max_size=5),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)).map(sorted), min_size=1, max_size=4),
)
def test_coverage_equals_the_grid_of_seconds(observed, periods):
    """Stretches may overlap and come in any order; a period without time has nothing that was missed."""
    starts, ends = np.array(periods).T
    expected = [
        sum(any(begin <= second < until for begin, until in observed) for second in range(start, end)) / (end - start)
        if end > start
        else 1.0
        for start, end in periods
    ]
    assert metrics.coverages(observed, starts, ends).tolist() == pytest.approx(expected)


# Days on which the clock changes -----------------------------------------------------------------

BRUSSELS = ZoneInfo("Europe/Brussels")


@pytest.mark.parametrize(("change", "length"), [("2026-03-29T01:00", 23), ("2026-10-25T01:00", 25)])
@pytest.mark.parametrize("name", conf.RULE_SETS)
def test_one_listener_throughout_is_one_on_the_day_that_the_clock_changes(change, length, name):
    (day,) = zip(*_slots(broadcast_days, utc(change), utc(change) + 1, starts=dt.time(4)), strict=True)
    throughout = Listening.of_parts([(1, [(day[0] - HOUR_MS, day[1] + HOUR_MS)], False)])
    (found,) = metrics.figures(throughout, [day[0]], [day[1]], conf.RULE_SETS[name], observed=[day])
    assert (found.tlh, found.aas, found.aqh, found.aqh_in_one_piece) == (length, 1.0, 1.0, 1.0)
    assert (found.cume, found.peak, found.reach, found.coverage) == (1, 1, 1, 1.0)
    assert found.tsl_quarter_hours == 4 * length


def test_who_hears_the_second_half_past_two_is_in_its_row_alone():
    """02:00 to 03:00 comes twice on 2026-10-25: two rows, with who listened in each."""
    first, second = utc("2026-10-25T00:30"), utc("2026-10-25T01:30")
    told = Listening.of_parts(
        [(1, [(first, first + 60 * S)], False), *((who, [(second, second + 60 * S)], False) for who in (2, 3))]
    )
    starts, ends = _slots(hours, utc("2026-10-25T00:00"), utc("2026-10-25T03:00"))
    shown = [dt.datetime.fromtimestamp(start / S, tz=BRUSSELS).hour for start in starts]
    rows = metrics.figures(told, starts, ends, conf.RULE_SETS["triton"])
    assert [(hour, row.cume) for hour, row in zip(shown, rows, strict=True)] == [(2, 1), (2, 2), (3, 0)]


def _slots(make, start_ms: int, end_ms: int, **more) -> tuple[list[int], list[int]]:
    found = make(BRUSSELS, start_ms, end_ms, **more)
    return found.starts_ms.tolist(), found.ends_ms.tolist()


# What a definition says of itself ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("tlh", "Triton"),
        ("aas", "Triton"),
        ("active_sessions", "Triton"),
        ("started_sessions", "Triton"),
        ("atsl_seconds", "Triton"),
        ("cume", "Triton"),
        ("tsl_seconds", "Triton"),
        ("tsl_quarter_hours", "Nielsen"),
        ("aqh", "Triton"),
        ("aqh_in_one_piece", "Nielsen"),
        ("reach", "RAJAR"),
        ("performances", "37 CFR 380"),
        ("ath", "37 CFR 380"),
        ("elapsed_hours", "openbroadcast"),
        ("delivered_hours", "StreamMachine"),
    ],
)
def test_each_definition_names_its_source(name, source):
    one = getattr(metrics.Periods, name)
    assert source in ((one.fget if isinstance(one, property) else one.func).__doc__ or "")
