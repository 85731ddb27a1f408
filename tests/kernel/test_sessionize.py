"""Stitching: oracle 2, households, and what may not change the result."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel.identity import household_key
from aircox_listen_stats.kernel.sessionize import GAP_MS, TWIN_MS, stitch, stitch_columns
from aircox_listen_stats.kernel.types import ConnectionSpan, SessionSpan

from .oracles import S, random_cases

ONE_DEVICE_MS = 10**12
"""As ``twin_ms``: whatever overlaps is the same device."""


def connection(start, end, *, is_open=False, key=None):
    return ConnectionSpan(key=key or f"{start:06}-{end:06}", started_ms=start * S, seen_ms=end * S, is_open=is_open)


def stitched(*times, twin_ms=TWIN_MS):
    return stitch([connection(start, end) for start, end in times], twin_ms=twin_ms)


def seconds(spans):
    """(lane, start, end, played) of each."""
    return [(span.lane, span.started_ms // S, span.ended_ms // S, span.played_ms // S) for span in spans]


ORACLE_2 = {
    "gap 300 stays": ([(0, 200), (500, 600)], [(0, 600, 300)]),
    "gap 301 splits": ([(0, 200), (500, 600), (901, 931)], [(0, 600, 300), (901, 931, 30)]),
    "and again": (
        [(0, 200), (500, 600), (901, 931), (1300, 1331)],
        [(0, 600, 300), (901, 931, 30), (1300, 1331, 31)],
    ),
    "running maximum of ends": ([(0, 1000), (100, 200), (600, 700)], [(0, 1000, 1000)]),
    "live, pause, on demand": ([(0, 120), (300, 420)], [(0, 420, 240)]),
}


@pytest.mark.parametrize(("times", "expected"), ORACLE_2.values(), ids=ORACLE_2)
def test_openbroadcast_rule_gives_elapsed_and_played(times, expected):
    spans = stitched(*times, twin_ms=ONE_DEVICE_MS)
    assert [(start, end, played) for _, start, end, played in seconds(spans)] == expected


def test_two_devices_are_two_sessions():
    assert seconds(stitched((0, 100))) + seconds(stitched((150, 250))) == [(0, 0, 100, 100), (0, 150, 250, 100)]


HOUSEHOLDS = {
    "two sets in one house": ([(0, 1000), (200, 1500)], [(0, 0, 1000, 1000), (1, 200, 1500, 1300)]),
    "probe before": ([(0, 4), (1, 3600)], [(0, 0, 3600, 3600)]),
    "probe inside": ([(0, 3600), (100, 110)], [(0, 0, 3600, 3600)]),
    "one second more than a probe": ([(0, 3600), (100, 111)], [(0, 0, 3600, 3600), (1, 100, 111, 11)]),
    "old socket dies late": ([(0, 100), (90, 200)], [(0, 0, 200, 200)]),
    "too late for that": ([(0, 100), (89, 200)], [(0, 0, 100, 100), (1, 89, 200, 111)]),
    "twins": ([(0, 3600), (10, 3610)], [(0, 0, 3610, 3610)]),
    "one twin goes on": ([(0, 3600), (10, 3611)], [(0, 0, 3600, 3600), (1, 10, 3611, 3601)]),
    "the second set reconnects": (
        [(0, 1000), (200, 500), (520, 900)],
        [(0, 0, 1000, 1000), (1, 200, 900, 680)],
    ),
    "the one heard last goes on": ([(0, 1000), (200, 1100), (1110, 1200)], [(0, 0, 1000, 1000), (1, 200, 1200, 990)]),
    "both come back": (
        [(0, 100), (20, 100), (110, 200), (111, 200), (125, 300)],
        [(0, 0, 200, 190), (1, 20, 300, 255)],
    ),
    "the next day is the first one's": (
        [(0, 1000), (200, 1500), (5000, 6000)],
        [(0, 0, 1000, 1000), (1, 200, 1500, 1300), (0, 5000, 6000, 1000)],
    ),
    "three": ([(0, 100), (20, 100), (40, 100)], [(0, 0, 100, 100), (1, 20, 100, 80), (2, 40, 100, 60)]),
}


@pytest.mark.parametrize(("times", "expected"), HOUSEHOLDS.values(), ids=HOUSEHOLDS)
def test_household_lanes(times, expected):
    assert seconds(stitched(*times)) == expected


def test_parts_are_the_union_with_touching_ones_merged():
    (span,) = stitched((0, 60), (60, 90), (100, 130), (125, 140), (440, 450))
    assert span.parts == ((0, 90 * S), (100 * S, 140 * S), (440 * S, 450 * S))
    assert span.played_ms == 140 * S
    assert span.keys == ("000000-000060", "000060-000090", "000100-000130", "000125-000140", "000440-000450")


def test_an_empty_connection_bridges_a_gap_and_is_no_part():
    (span,) = stitched((0, 100), (350, 350), (600, 700))
    assert span.parts == ((0, 100 * S), (600 * S, 700 * S))


def test_a_session_of_empty_connections_is_one_empty_part():
    (span,) = stitched((0, 0), (100, 100))
    assert (span.parts, span.started_ms, span.ended_ms, span.played_ms) == (((100 * S, 100 * S),), 100 * S, 100 * S, 0)


def test_the_hull_is_that_of_the_parts():
    (span,) = stitched((0, 0), (100, 200), (300, 300))
    assert (span.started_ms, span.ended_ms) == (100 * S, 200 * S)


def test_a_clock_that_went_back_makes_an_empty_connection():
    (span,) = stitch([ConnectionSpan(key="a", started_ms=5 * S, seen_ms=3 * S, is_open=False)])
    assert (span.started_ms, span.ended_ms, span.played_ms) == (5 * S, 5 * S, 0)


def test_a_session_is_open_while_one_of_its_connections_is():
    spans = stitch([connection(0, 100), connection(150, 200, is_open=True), connection(600, 700)])
    assert [span.is_open for span in spans] == [True, False]


def test_nobody_gives_no_session():
    assert stitch([]) == []
    assert (
        len(stitch_columns(np.array([], dtype=np.int64), np.array([], dtype=np.int64), np.array([], dtype=np.int64)))
        == 0
    )


@st.composite
def connections_(draw, most=9, is_open=True):
    """Connections at all the distances that matter: within a twin's length, a gap, beyond."""
    connections = []
    for number in range(draw(st.integers(0, most))):
        start = draw(st.one_of(st.integers(0, 60), st.integers(0, 1500)))
        length = draw(st.one_of(st.integers(0, 25), st.integers(0, 900)))
        connections.append(
            connection(start, start + length, is_open=is_open and draw(st.booleans()), key=f"{number:02}")
        )
    return connections


@random_cases(max_examples=200)
@given(connections_(), st.randoms())
def test_order_of_arrival_and_resent_batches_change_nothing(connections, random):
    shuffled = list(connections)
    random.shuffle(shuffled)
    assert stitch(shuffled) == stitch(connections)


@random_cases(max_examples=150)
@given(connections_(), st.integers(1, 200))
def test_growing_step_by_step_ends_as_all_at_once(connections, step):
    """Poll after poll tells the same sockets a little longer; only the set of the last poll matters."""
    known: dict[str, ConnectionSpan] = {}
    last = max((one.seen_ms for one in connections), default=0) // S
    for now in [*range(0, last, step), last]:
        for one in connections:
            if one.started_ms <= now * S:
                is_open = one.seen_ms > now * S or one.is_open
                known[one.key] = ConnectionSpan(
                    key=one.key, started_ms=one.started_ms, seen_ms=min(one.seen_ms, now * S), is_open=is_open
                )
        spans = stitch(list(known.values()))
    if connections:
        assert spans == stitch(connections)


@random_cases(max_examples=200)
@given(connections_())
def test_later_connections_leave_the_lanes_of_earlier_ones_alone(connections):
    """Nobody's socket changes lanes because another one came after it."""
    ordered = sorted(connections, key=lambda one: (one.started_ms, one.key))
    lanes: dict[str, int] = {}
    for known in range(len(ordered) + 1):
        now = {key: span.lane for span in stitch(ordered[:known]) for key in span.keys}
        assert {key: now[key] for key in lanes} == lanes
        lanes = now


@random_cases(max_examples=200)
@given(connections_())
def test_sessions_hold_every_connection_once_and_are_well_made(connections):
    spans = stitch(connections)
    assert sorted(key for span in spans for key in span.keys) == sorted(one.key for one in connections)
    for span in spans:
        assert (span.started_ms, span.ended_ms) == (span.parts[0][0], span.parts[-1][1])
        assert span.played_ms == sum(end - start for start, end in span.parts)
        assert all(a < b for (_, a), (b, _) in zip(span.parts, span.parts[1:], strict=False))
    for lane in {span.lane for span in spans}:
        mine = [span for span in spans if span.lane == lane]
        assert all(a.ended_ms <= b.started_ms for a, b in itertools.pairwise(mine))


@random_cases(max_examples=200)
@given(connections_(), connections_())
def test_a_silence_longer_than_the_gap_cuts_the_set(before, after):
    """What follows the silence is stitched as if nothing had been before: a window may begin there."""
    later = max((one.seen_ms for one in before), default=0) + GAP_MS + 1
    after = [
        ConnectionSpan(
            key="later" + one.key, started_ms=one.started_ms + later, seen_ms=one.seen_ms + later, is_open=one.is_open
        )
        for one in after
    ]
    assert stitch(before + after) == stitch(before) + stitch(after)


def by_listener(listener, started, ended) -> list[tuple]:
    """What stitch gives for each listener, as the columns should have it."""
    result = []
    for who in sorted(set(listener)):
        mine = sorted((s, e, i) for i, (w, s, e) in enumerate(zip(listener, started, ended, strict=True)) if w == who)
        spans: list[SessionSpan] = stitch(
            [
                ConnectionSpan(key=f"{place:04}", started_ms=s, seen_ms=e, is_open=False)
                for place, (s, e, _) in enumerate(mine)
            ]
        )
        for span in spans:
            result.append(
                (
                    span.started_ms,
                    household_key(who, span.lane),
                    span.lane,
                    span.ended_ms,
                    span.played_ms,
                    span.parts,
                    mine[int(span.keys[0])][:2],
                    len(span.keys),
                )
            )
    return sorted(result)


@random_cases(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from([3, 2**62, 2**63 - 1, 77]), connections_(most=6, is_open=False)), max_size=6))
def test_columns_equal_one_by_one(told):
    rows = [(who, one.started_ms, one.seen_ms) for who, connections in told for one in connections]
    listener, started, ended = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(3))
    columns = stitch_columns(listener, started, ended)
    found = []
    for i in range(len(columns)):
        parts = slice(columns.first_part[i], columns.first_part[i + 1])
        row = columns.first_row[i]
        found.append(
            (
                columns.started_ms[i],
                columns.listener[i],
                columns.lane[i],
                columns.ended_ms[i],
                columns.played_ms[i],
                tuple(zip(columns.part_started_ms[parts].tolist(), columns.part_ended_ms[parts].tolist(), strict=True)),
                (started[row], ended[row]),
                columns.connections[i],
            )
        )
    assert found == by_listener(listener.tolist(), started.tolist(), ended.tolist())


def test_columns_of_many_listeners_over_years_do_not_overflow():
    """The common axis of all listeners is longer than an int64; it is cut."""
    listener = np.repeat(np.arange(4, dtype=np.int64), 3)
    started = np.tile(np.array([0, 2**60, 2**60 + 10 * S], dtype=np.int64), 4)
    columns = stitch_columns(listener, started, started + 5 * S)
    assert columns.played_ms.tolist() == [5 * S] * 4 + [10 * S] * 4
    assert columns.listener.tolist() == [0, 1, 2, 3] * 2


@pytest.mark.parametrize(
    ("times", "twin_ms"),
    [
        *((times, ONE_DEVICE_MS) for times, _ in ORACLE_2.values()),
        *((times, TWIN_MS) for times, _ in HOUSEHOLDS.values()),
        ([(0, 60), (60, 90), (100, 130), (430, 440), (741, 750)], TWIN_MS),  # touching; gaps of 300 and 301
        ([(0, 100), (350, 350), (600, 700)], TWIN_MS),
        ([(0, 0), (100, 100)], TWIN_MS),
    ],
)
def test_columns_of_the_known_cases_equal_one_by_one(times, twin_ms):
    started, ended = (np.array([time[side] for time in times]) * S for side in (0, 1))
    columns = stitch_columns(np.full(len(times), 5), started, ended, twin_ms=twin_ms)
    spans = sorted(stitched(*times, twin_ms=twin_ms), key=lambda span: (span.started_ms, household_key(5, span.lane)))
    parts = list(zip(columns.part_started_ms.tolist(), columns.part_ended_ms.tolist(), strict=True))
    assert parts == [part for span in spans for part in span.parts]
    assert np.diff(columns.first_part).tolist() == [len(span.parts) for span in spans]
    assert columns.played_ms.tolist() == [span.played_ms for span in spans]
    assert columns.ended_ms.tolist() == [span.ended_ms for span in spans]
    assert columns.listener.tolist() == [household_key(5, span.lane) for span in spans]
