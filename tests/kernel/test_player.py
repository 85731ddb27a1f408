"""Closing what players tell, and the visits made of it: FIGURES' tables, and a brute force written apart."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel.player import (
    LATENESS_MS,
    LONGEST_MS,
    SILENCE_MS,
    Listening,
    Played,
    PlayerSpan,
    PlayerState,
    Told,
    close,
    devices,
    played,
    visit_sessions,
)
from tests.kernel.oracles import S, random_cases

GAP_MS = 300 * S
STREAM = ("stream", 1)
SOUND = ("sound", 7)


def playing(at: float, *, most: float | None = None, end: float | None = None) -> PlayerSpan:
    return PlayerSpan(at_ms=_ms(at), is_playing=True, max_ms=_ms(most), ended_ms=_ms(end))


def silent(at: float, *, end: float | None = None) -> PlayerSpan:
    return PlayerSpan(at_ms=_ms(at), is_playing=False, ended_ms=_ms(end))


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * S)


# Ends (oracle 3) -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "now", "ends"),
    [
        pytest.param([playing(0, most=60), silent(45)], 200, [45, None], id="paused before the recording is over"),
        pytest.param([playing(0, most=60), silent(90)], 200, [60, None], id="paused after it"),
        pytest.param([playing(0, most=60)], 59, [None], id="still playing"),
        pytest.param([playing(0, most=60)], 60, [None], id="over at this very moment"),
        pytest.param([playing(0, most=60)], 61, [60], id="over"),
        pytest.param([silent(0), playing(30)], 40, [30, None], id="a pause ends with the next event"),
        pytest.param([silent(0), playing(6 * 3600)], 30000, [6 * 3600, None], id="a pause has no bound"),
        pytest.param([playing(0, end=100), playing(70)], 80, [70, None], id="a stored end past the next is cut"),
        pytest.param([silent(0, end=100), playing(70)], 80, [100, None], id="but that of a pause is not"),
        pytest.param([playing(0, end=1), silent(40)], 50, [40, None], id="a stub is lengthened"),
        pytest.param([playing(0, end=1), silent(1)], 50, [1, None], id="not where the next comes as soon"),
        pytest.param([playing(0, end=1.001), silent(40)], 50, [1.001, None], id="longer than a second is no stub"),
        pytest.param([playing(0, most=60, end=1), silent(3600)], 4000, [60, None], id="nor past the recording"),
        pytest.param([playing(0, most=0.5, end=0.5), silent(40)], 50, [0.5, None], id="half a second of recording"),
        pytest.param([playing(0), playing(10, end=20), playing(100)], 101, [10, 20, None], id="the next of all events"),
        pytest.param([playing(0), silent(5 * 3600)], 20000, [4 * 3600, None], id="four hours at most"),
        pytest.param([playing(0)], 4 * 3600 + 1, [4 * 3600], id="four hours at most, alone"),
        pytest.param([playing(0, most=60, end=3600), silent(3600)], 4000, [60, None], id="an old stretch is healed"),
        pytest.param([], 1, [], id="nothing"),
    ],
)
def test_each_event_ends_as_the_table_says(events, now, ends):
    closing = close(events, now_ms=now * S)
    assert list(closing.ended_ms) == [_ms(end) for end in ends]


def test_the_counters_tell_what_was_found_and_in_which_way():
    events = [
        playing(0),
        silent(10),
        playing(20, end=100),
        playing(70, end=71),
        playing(90, most=5),
    ]
    closing = close(events, now_ms=200 * S)
    assert closing.counts == {
        "events": 5,
        "open_playing": 2,
        "by_next": 2,
        "by_duration": 1,
        "shortened": 1,
        "lengthened": 1,
    }


spans = st.lists(
    st.builds(
        PlayerSpan,
        at_ms=st.integers(0, 20_000),
        is_playing=st.booleans(),
        max_ms=st.none() | st.integers(0, 6000),
        ended_ms=st.none(),
    ),
    max_size=12,
).map(lambda events: sorted(events, key=lambda one: one.at_ms))


@random_cases()
@given(spans, st.integers(0, 30_000))
def test_playing_is_what_a_grid_of_milliseconds_says(events, after_ms):
    """Of each instant: the last event before it, and whether its recording was over."""
    now_ms = max((one.at_ms for one in events), default=0) + after_ms
    closing = close(events, now_ms=now_ms)
    for instant in range(0, now_ms, 331):
        last = next((one for one in reversed(events) if one.at_ms <= instant), None)
        plays = last is not None and last.is_playing and (last.max_ms is None or instant - last.at_ms < last.max_ms)
        covered = [
            one
            for one, end in zip(events, closing.ended_ms, strict=True)
            if one.is_playing and one.at_ms <= instant < (now_ms if end is None else end)
        ]
        assert len(covered) == plays


@random_cases()
@given(spans, st.integers(0, 30_000))
def test_closing_again_changes_nothing(events, after_ms):
    now_ms = max((one.at_ms for one in events), default=0) + after_ms
    ends = close(events, now_ms=now_ms).ended_ms
    again = [
        PlayerSpan(at_ms=one.at_ms, is_playing=one.is_playing, max_ms=one.max_ms, ended_ms=end)
        for one, end in zip(events, ends, strict=True)
    ]
    assert close(again, now_ms=now_ms).ended_ms == ends


# Playing -------------------------------------------------------------------------------------------


def tell(sequence: int, state: str, at: float, *, medium=STREAM, position=None, duration=None) -> Told:
    return Told(
        sequence=sequence,
        state=PlayerState(state),
        at_ms=_ms(at),
        medium=medium,
        position_ms=_ms(position),
        duration_ms=_ms(duration),
    )


def stretches(told, now=1000.0) -> list[tuple[float, float, bool]]:
    return [(one.started_ms / S, one.ended_ms / S, one.is_open) for one in played(told, now_ms=_ms(now))]


def test_heartbeats_are_one_stretch_with_the_playing_that_they_prolong():
    told = [tell(1, "playing", 0), tell(2, "heartbeat", 30), tell(3, "heartbeat", 60), tell(4, "paused", 75)]
    assert stretches(told) == [(0, 75, False)]


def test_a_player_that_falls_silent_was_abandoned_when_it_was_last_heard():
    told = [tell(1, "playing", 0), tell(2, "heartbeat", 30)]
    edge = 30 + (SILENCE_MS + LATENESS_MS) / S
    assert stretches(told, now=edge) == [(0, 30, True)]
    assert stretches(told, now=edge + 0.001) == [(0, 30, False)]


def test_a_player_that_wakes_up_again_begins_anew():
    told = [tell(1, "playing", 0), tell(2, "heartbeat", 30), tell(3, "heartbeat", 121), tell(4, "stopped", 130)]
    assert stretches(told) == [(0, 30, False), (121, 130, False)]
    told[2] = tell(3, "heartbeat", 120)
    assert stretches(told) == [(0, 130, False)]


def test_heartbeats_last_longer_than_one_event_may():
    beats = [tell(number, "heartbeat", 30.0 * number) for number in range(1, 601)]
    assert 600 * 30 * S > LONGEST_MS
    assert stretches([tell(0, "playing", 0), *beats, tell(601, "paused", 18_001)], now=20_000) == [(0, 18_001, False)]


def test_buffering_is_no_listening():
    told = [tell(1, "playing", 0), tell(2, "buffering", 20), tell(3, "playing", 24), tell(4, "paused", 40)]
    assert stretches(told) == [(0, 20, False), (24, 40, False)]


def test_a_seek_goes_on_with_what_it_finds():
    seek = {"medium": SOUND, "position": 5, "duration": 600}
    told = [tell(1, "playing", 0, **seek), tell(2, "seek", 20, **seek), tell(3, "paused", 40, **seek)]
    assert stretches(told) == [(0, 40, False)]
    told = [tell(1, "paused", 0, **seek), tell(2, "seek", 20, **seek), tell(3, "paused", 40, **seek)]
    assert stretches(told) == []


def test_a_recording_is_played_no_longer_than_what_is_left_of_it():
    told = [tell(1, "playing", 0, medium=SOUND, position=50, duration=60)]
    assert stretches(told, now=11) == [(0, 10, False)]
    assert stretches(told, now=9) == [(0, 0, True)]


def test_what_has_ended_never_ends_otherwise_later():
    """With little left it was heard to its end, with more it was abandoned; before that is known it plays still."""
    for left, end in ((10, 10), (90, 90), (91, 0), (110, 0)):
        told = [tell(1, "playing", 0, medium=SOUND, position=600 - left, duration=600)]
        found = [stretches(told, now=now) for now in range(1, 400)]
        closed = found.index(next(one for one in found if not one or not one[0][2]))
        assert all(one == [(0, 0, True)] for one in found[:closed])
        assert all(one == ([(0, end, False)] if end else []) for one in found[closed:])
    told = [tell(1, "playing", 0, medium=SOUND, position=590, duration=600), tell(2, "playing", 200, medium=SOUND)]
    assert stretches(told, now=200) == [(0, 10, False), (200, 200, True)]


def test_a_duration_that_is_none_bounds_nothing():
    told = [tell(1, "playing", 0, medium=SOUND, position=0, duration=0.5), tell(2, "paused", 50, medium=SOUND)]
    assert stretches(told) == [(0, 50, False)]


def test_another_medium_ends_the_one_before():
    told = [tell(1, "playing", 0), tell(2, "playing", 20, medium=SOUND), tell(3, "stopped", 50, medium=SOUND)]
    assert [(one.medium, one.started_ms, one.ended_ms) for one in played(told, now_ms=1000 * S)] == [
        (STREAM, 0, 20 * S),
        (SOUND, 20 * S, 50 * S),
    ]


def test_the_players_count_orders_what_arrived_in_one_instant_or_late():
    told = [tell(3, "paused", 20), tell(1, "playing", 0), tell(2, "heartbeat", 30)]
    assert stretches(told) == [(0, 30, False)]


told_lists = st.lists(
    st.tuples(st.sampled_from(list(PlayerState)), st.integers(0, 200 * S), st.sampled_from([STREAM, SOUND])),
    max_size=12,
).map(
    lambda drawn: [
        Told(sequence=number, state=state, at_ms=at, medium=medium)
        for number, (state, at, medium) in enumerate(sorted(drawn, key=lambda one: one[1]))
    ]
)


@random_cases()
@given(told_lists, st.integers(0, 300 * S), st.randoms(use_true_random=False))
def test_stretches_are_what_a_grid_says_whatever_the_order_of_arrival(told, after_ms, chance):
    now_ms = max((one.at_ms for one in told), default=0) + after_ms
    found = played(told, now_ms=now_ms)
    shuffled = list(told)
    chance.shuffle(shuffled)
    assert played(shuffled, now_ms=now_ms) == found
    assert all(one.ended_ms <= other.started_ms for one, other in pairwise(found))
    for instant in range(0, now_ms, 1009):
        assert _medium_at(found, instant) == _medium_by_brute_force(told, instant, now_ms)


def _medium_at(found: list[Played], instant: int):
    return next((one.medium for one in found if one.started_ms <= instant < one.ended_ms), None)


def _medium_by_brute_force(told: list[Told], instant: int, now_ms: int):
    """What played at an instant: by the last thing told before, unless nothing followed it soon enough."""
    before = [one for one in told if one.at_ms <= instant]
    after = [one for one in told if one.at_ms > instant]
    if not before or not after or after[0].at_ms - before[-1].at_ms > SILENCE_MS:
        return None
    plays = False
    for one in before:
        if one.state is not PlayerState.SEEK:
            plays = one.state in (PlayerState.PLAYING, PlayerState.HEARTBEAT)
    return before[-1].medium if plays else None


# Visits (oracle 2) ---------------------------------------------------------------------------------


def heard(start: float, end: float, *, device: int = 0, live: bool = True, listener: int = 1) -> Listening:
    return Listening(listener=listener, device=device, started_ms=_ms(start), ended_ms=_ms(end), is_live=live)


def rows(listening, minimum: float = -1) -> list[tuple[float, float, float]]:
    """Start, end and played seconds of the sessions of more than ``minimum`` played seconds."""
    found = visit_sessions(listening, gap_ms=GAP_MS)
    return [(one.started_ms / S, one.ended_ms / S, one.played_ms / S) for one in found if one.played_ms > minimum * S]


EVENTS = [heard(0, 200), heard(500, 600), heard(901, 931), heard(1300, 1331)]


@pytest.mark.parametrize(
    ("listening", "expected"),
    [
        pytest.param(EVENTS[:2], [(0, 600, 300)], id="a gap of 300 stays"),
        pytest.param(EVENTS[:3], [(0, 600, 300)], id="a gap of 301 splits, 30 played are too few"),
        pytest.param(EVENTS, [(0, 600, 300), (1300, 1331, 31)], id="31 are enough"),
        pytest.param([heard(0, 1000), heard(100, 200), heard(600, 700)], [(0, 1000, 1000)], id="the latest end so far"),
        pytest.param(
            [heard(0, 100), heard(150, 250, device=1)], [(0, 100, 100), (150, 250, 100)], id="two devices, two sessions"
        ),
    ],
)
def test_sessions_are_openbroadcasts_where_those_are_right(listening, expected):
    assert rows(listening, minimum=30) == expected


def test_live_and_on_demand_are_kept_apart_in_one_visit():
    (session,) = visit_sessions([heard(0, 120), heard(300, 420, live=False)], gap_ms=GAP_MS)
    assert (session.elapsed_ms, session.played_ms) == (420 * S, 240 * S)
    assert (session.live_ms, session.on_demand_ms) == (120 * S, 120 * S)


def test_pages_in_turn_are_one_device_and_pages_at_once_are_two():
    assert devices([(0, 100), (100, 200), (150, 300), (400, 500)], overlap_ms=10) == [0, 0, 1, 1]
    assert devices([(0, 100), (90, 200)], overlap_ms=10) == [0, 0]
    assert devices([(0, 100), (89, 200)], overlap_ms=10) == [0, 1]
    assert devices([(300, 400), (0, 100)], overlap_ms=10) == [0, 0]
    assert devices([], overlap_ms=10) == []


listenings = st.lists(
    st.builds(
        lambda listener, device, start, length, live: heard(
            start, start + length, device=device, live=live, listener=listener
        ),
        st.integers(1, 2),
        st.integers(0, 1),
        st.integers(0, 3000),
        st.integers(1, 600),
        st.booleans(),
    ),
    max_size=14,
)


@random_cases()
@given(listenings)
def test_visits_are_what_a_grid_of_seconds_says(listening):
    found = visit_sessions(listening, gap_ms=GAP_MS)
    assert found == visit_sessions(listening[::-1], gap_ms=GAP_MS)
    for who in {(one.listener, one.device) for one in listening}:
        own = [one for one in listening if (one.listener, one.device) == who]
        expected = [_by_brute_force(own, start, end) for start, end in _grid_hulls(own)]
        assert [
            (one.started_ms, one.ended_ms, one.live_ms, one.on_demand_ms, one.played_ms)
            for one in found
            if (one.listener, one.device) == who
        ] == [tuple(value * S for value in row) for row in expected]


def _grid_hulls(own: list[Listening]) -> list[tuple[int, int]]:
    """Runs of heard seconds with no more than 300 silent ones in a row between them."""
    seconds = sorted({second for one in own for second in range(one.started_ms // S, one.ended_ms // S)})
    hulls: list[list[int]] = []
    for second in seconds:
        if hulls and second - hulls[-1][1] <= 300:
            hulls[-1][1] = second + 1
        else:
            hulls.append([second, second + 1])
    return [(start, end) for start, end in hulls]


def _by_brute_force(own: list[Listening], start: int, end: int) -> tuple[int, int, int, int, int]:
    def count(*kinds: bool) -> int:
        return sum(
            any(one.is_live in kinds and one.started_ms <= second * S < one.ended_ms for one in own)
            for second in range(start, end)
        )

    return start, end, count(True), count(False), count(True, False)
