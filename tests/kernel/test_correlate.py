"""The audience of airings: oracle cases with exact numbers, and the grid for the rest."""

from __future__ import annotations

import contextlib
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel import correlate
from aircox_listen_stats.kernel.correlate import (
    AudienceColumns,
    Listening,
    audience,
    minute_curve,
    minute_curves,
    retained,
)

from .grid import Grid
from .oracles import HOUR_MS, ONE_HOUR, S, clock, listening_of, random_cases

LENGTH = 420
"""Seconds of a random case: seven minutes, so that curves have whole and partial minutes."""

SHIFT = 1_792_900_000
"""Random cases stand at real instants, near which a DST change happens: seconds since 1970."""


@st.composite
def told_sessions(draw, most=7, length=LENGTH):
    """Sessions of one to four disjoint parts, some open, few listeners."""
    told = []
    for _ in range(draw(st.integers(0, most))):
        cuts = draw(st.lists(st.integers(0, length), min_size=2, max_size=8, unique=True).map(sorted))
        parts = list(zip(cuts[0::2], cuts[1::2], strict=False))
        told.append((draw(st.integers(1, 3)), parts, draw(st.booleans())))
    return told


airings_ = st.lists(
    st.tuples(st.integers(0, LENGTH), st.integers(0, LENGTH)).map(lambda pair: (min(pair), max(pair))), max_size=6
)


def shifted(told):
    return Listening.of_parts(
        [(who, [((a + SHIFT) * S, (b + SHIFT) * S) for a, b in parts], is_open) for who, parts, is_open in told]
    )


def columns_of(result: AudienceColumns, place: int, shift: int) -> dict[str, int]:
    peak_at = int(result.peak_at_ms[place])
    return {
        "listening": int(result.listening_ms[place]) / S,
        "sessions": int(result.sessions[place]),
        "listeners": int(result.listeners[place]),
        "peak": int(result.peak[place]),
        "peak_at": -1 if peak_at == -1 else peak_at / S - shift,
        "at_start": int(result.at_start[place]),
        "at_end": int(result.at_end[place]),
        "inherited": int(result.inherited[place]),
        "joined": int(result.joined[place]),
        "left": int(result.left[place]),
        "kept": int(result.kept[place]),
        "stayed": int(result.stayed[place]),
    }


@random_cases(max_examples=400)
@given(told_sessions(), airings_)
def test_every_column_equals_the_grid_of_seconds(told, airings):
    grid = Grid(told, LENGTH)
    bounds = (np.array(airings, dtype=np.int64).reshape(-1, 2) + SHIFT) * S
    result = audience(shifted(told), bounds[:, 0], bounds[:, 1])
    assert len(result) == len(airings)
    for place, (start, end) in enumerate(airings):
        assert columns_of(result, place, SHIFT) == grid.counts(start, end)


KEYS = [0, 1, 2, 3 << 40, (3 << 40) + 1, 5 << 60, (5 << 60) + 7, (1 << 63) - 1]
"""Keys of listeners of which some share their leading bits, and some do not."""


@random_cases(max_examples=150)
@given(told_sessions(), airings_, st.permutations(KEYS), st.sampled_from([1, 2, 3, 7]), st.sampled_from([14, 20, 64]))
def test_blocks_chunks_and_words_of_any_size_give_the_grid_of_seconds(told, airings, keys, rows, bits):
    """A block ends anywhere, and what does not fit into a word goes another way: as with millions of sessions."""
    grid = Grid(told, LENGTH)
    told = [(keys[who], parts, is_open) for who, parts, is_open in told]
    bounds = (np.array(airings, dtype=np.int64).reshape(-1, 2) + SHIFT) * S
    rows_of = ("arrays.BLOCK_ROWS", "sweeps.BLOCK_ROWS", "sweeps._CHUNK_ROWS", "correlate._CHUNK_ROWS")
    small = dict.fromkeys(rows_of, rows) | dict.fromkeys(("sweeps.WORD_BITS", "people.WORD_BITS"), bits)
    with contextlib.ExitStack() as patched:
        for name, value in (small | {"people._TABLE_BITS": 2}).items():
            patched.enter_context(mock.patch(f"aircox_listen_stats.kernel.{name}", value))
        listening = shifted(told)
        result = audience(listening, bounds[:, 0], bounds[:, 1])
        curves = minute_curves(listening, bounds[:, 0], bounds[:, 1])
        kept = correlate.retained_curves(listening, bounds[:, 0], bounds[:, 1])
    for place, (start, end) in enumerate(airings):
        assert columns_of(result, place, SHIFT) == grid.counts(start, end)
        assert curves[place].tolist() == pytest.approx(grid.curve(start, end))
        assert kept[place].tolist() == grid.retained(start, end)


def test_more_alike_listeners_than_names_are_refused():
    """Two instants a year apart leave no room for that many; nobody is mistaken for somebody else."""
    listening = Listening.whole(
        started_ms=np.arange(8) * S, ended_ms=np.arange(8) * S + 2 * S, listener=np.arange(8) * 3 + (1 << 62)
    )
    with (
        mock.patch("aircox_listen_stats.kernel.people.WORD_BITS", 6),
        pytest.raises(ValueError, match="shorter stretch"),
    ):
        audience(listening, np.array([0]), np.array([10 * S]))


@random_cases(max_examples=150)
@given(told_sessions(), airings_)
def test_curve_and_retention_equal_the_grid_of_seconds(told, airings):
    grid = Grid(told, LENGTH)
    listening = shifted(told)
    bounds = (np.array(airings, dtype=np.int64).reshape(-1, 2) + SHIFT) * S
    together = minute_curves(listening, bounds[:, 0], bounds[:, 1])
    assert len(together) == len(airings)
    for (start, end), curve in zip(airings, together, strict=True):
        start_ms, end_ms = (start + SHIFT) * S, (end + SHIFT) * S
        assert curve.tolist() == pytest.approx(grid.curve(start, end))
        assert minute_curve(listening, start_ms, end_ms).tolist() == curve.tolist()
        assert retained(listening, start_ms, end_ms).tolist() == grid.retained(start, end)
    for name in ("retained", "still_there"):
        curves = getattr(correlate, f"{name}_curves")(listening, bounds[:, 0], bounds[:, 1])
        assert [one.tolist() for one in curves] == [getattr(grid, name)(*airing) for airing in airings]


def times(columns: AudienceColumns, name: str) -> list[int]:
    return getattr(columns, name).tolist()


def test_oracle_1_diffusions_p_and_q():
    listening = listening_of(row for row in ONE_HOUR if row[1:] != ("10:40", "10:40:45"))
    bounds = np.array([clock("10:00"), clock("10:30"), clock("11:00")])
    heard = audience(listening, bounds[:-1], bounds[1:])
    assert times(heard, "listening_ms") == [2459 * S, 2160 * S]
    assert (heard.listening_ms / (HOUR_MS / 2)).round(6).tolist() == [1.366111, 1.2]
    assert times(heard, "listeners") == [4, 2]
    assert times(heard, "sessions") == [5, 3]
    assert times(heard, "at_start") == [2, 1]  # A and B; D
    assert times(heard, "at_end") == [1, 1]  # E until 10:30; D
    assert times(heard, "inherited") == [1, 0]
    assert times(heard, "joined") == [4, 3]
    assert times(heard, "left") == [5, 2]
    assert times(heard, "kept") == [0, 1]
    assert times(heard, "stayed") == [0, 1]


def test_oracle_1_concurrency():
    listening = listening_of(ONE_HOUR)
    heard = audience(listening, np.array([clock("10:00")]), np.array([clock("11:00")]))
    assert times(heard, "peak") == [3]
    assert times(heard, "peak_at_ms") == [clock("10:14")]
    assert minute_curve(listening, clock("10:00"), clock("11:00"))[[14, 15, 20, 24, 40]].tolist() == [3, 3, 0, 0, 1.75]


def test_listening_time_is_the_integral_of_concurrency():
    curve = minute_curve(listening_of(ONE_HOUR), clock("10:00"), clock("11:00"))
    assert curve.sum() * 60 == pytest.approx(4664)


def test_oracle_6_averages_are_weighted_by_time():
    """Tracks of 50, 5 and 5 minutes heard throughout by 100, 10 and 10: 85 on average, not 40."""
    bounds = np.array([clock("10:00"), clock("10:50"), clock("10:55"), clock("11:00")])
    sizes = [100, 10, 10]
    listening = Listening.of_parts(
        [
            (place * 1000 + one, [(int(bounds[place]), int(bounds[place + 1]))], False)
            for place, size in enumerate(sizes)
            for one in range(size)
        ]
    )
    tracks = audience(listening, bounds[:-1], bounds[1:])
    whole = audience(listening, bounds[:1], bounds[-1:])
    assert (tracks.listening_ms / np.diff(bounds)).tolist() == sizes
    assert tracks.stayed.tolist() == sizes
    assert whole.listening_ms[0] / HOUR_MS == 85.0


def test_nobody_listening_gives_zeros():
    nobody = Listening.of_parts([])
    heard = audience(nobody, np.array([clock("10:00")]), np.array([clock("11:00")]))
    assert columns_of(heard, 0, 0) == dict.fromkeys(columns_of(heard, 0, 0), 0) | {"peak_at": -1}
    assert minute_curve(nobody, clock("10:00"), clock("10:02")).tolist() == [0.0, 0.0]
    assert retained(nobody, clock("10:00"), clock("10:02")).tolist() == [0, 0]


def test_no_airing_gives_empty_columns():
    none = np.array([], dtype=np.int64)
    assert len(audience(listening_of(ONE_HOUR), none, none)) == 0
    assert minute_curves(listening_of(ONE_HOUR), none, none) == []


def test_an_airing_of_no_length_has_nobody_while_others_are_counted():
    bounds = np.array([[clock("10:15"), clock("10:15")], [clock("10:14"), clock("10:16")]])
    heard = audience(listening_of(ONE_HOUR), bounds[:, 0], bounds[:, 1])
    assert times(heard, "sessions") == [0, 3]
    assert times(heard, "peak_at_ms") == [-1, clock("10:14")]


def test_who_leaves_as_another_joins_makes_no_peak():
    listening = Listening.of_parts([(1, [(0, 10 * S)], False), (2, [(10 * S, 20 * S)], False)])
    assert audience(listening, np.array([0]), np.array([20 * S])).peak.tolist() == [1]


def test_a_silent_session_did_not_meet_what_was_on_meanwhile():
    listening = Listening.of_parts([(1, [(0, 100 * S), (200 * S, 300 * S)], False)])
    heard = audience(listening, np.array([100 * S, 99 * S]), np.array([200 * S, 201 * S]))
    assert columns_of(heard, 0, 0)["sessions"] == columns_of(heard, 0, 0)["stayed"] == 0
    assert columns_of(heard, 1, 0) == {
        "listening": 2, "sessions": 1, "listeners": 1, "peak": 1, "peak_at": 99, "at_start": 1, "at_end": 1,
        "inherited": 1, "joined": 0, "left": 0, "kept": 1, "stayed": 1,
    }  # fmt: skip


def test_an_open_session_never_left():
    listening = Listening.of_parts([(1, [(0, 100 * S)], True)])
    heard = audience(listening, np.array([50 * S]), np.array([200 * S]))
    assert (heard.left[0], heard.kept[0], heard.stayed[0], heard.at_end[0]) == (0, 1, 1, 0)
    assert retained(listening, 50 * S, 200 * S).tolist() == [1, 1, 1]


def test_who_ends_at_a_whole_minute_is_gone_then():
    listening = Listening.of_parts(
        [(who, [(0, end * S)], False) for who, end in enumerate([60, 120, 180, 181])]
        + [(9, [(181 * S, 300 * S)], False)]
    )
    assert retained(listening, 60 * S, 241 * S).tolist() == [3, 2, 1, 0]


@random_cases(max_examples=100)
@given(told_sessions(), airings_)
def test_a_window_of_a_long_past_is_counted_as_in_all_of_it(told, airings):
    """Where few sessions touch the airings, the others are left out first; figures stay the same."""
    bounds = (np.array(airings, dtype=np.int64).reshape(-1, 2) + SHIFT) * S
    alone = audience(shifted(told), bounds[:, 0], bounds[:, 1])
    past = shifted([(1, [(0, 9), (10, 12)], False)] * (2 * len(told) + 1)).later(-1000 * S)
    after = audience(past.together(shifted(told)), bounds[:, 0], bounds[:, 1])
    for place in range(len(airings)):
        assert columns_of(alone, place, SHIFT) == columns_of(after, place, SHIFT)


@random_cases(max_examples=100)
@given(told_sessions(), airings_, st.lists(st.integers(0, 255), min_size=1, max_size=4))
def test_what_counts_under_several_rules_is_swept_once_with_the_same_figures(told, airings, chosen):
    listening = shifted(told)
    masks = [(np.arange(len(told)) * 37 + 11) % 256 >= least for least in chosen]
    bounds = (np.array(airings, dtype=np.int64).reshape(-1, 2) + SHIFT) * S
    apart = 100 * (SHIFT + LENGTH) * S
    together = listening.under_each(masks, apart)
    for place, mask in enumerate(masks):
        moved = audience(together, bounds[:, 0] + place * apart, bounds[:, 1] + place * apart)
        alone = audience(listening.only(mask), bounds[:, 0], bounds[:, 1])
        for number in range(len(airings)):
            one, same = columns_of(alone, number, 0), columns_of(moved, number, 0)
            if same["peak_at"] != -1:
                same["peak_at"] -= place * apart // S
            assert one == same


def test_one_listener_on_two_streams_is_one():
    one = Listening.of_parts([(7, [(0, 100 * S)], False)])
    both = one.together(one.later(20 * S))
    heard = audience(both, np.array([30 * S, 110 * S]), np.array([60 * S, 115 * S]))
    assert heard.sessions.tolist() == [2, 1]
    assert heard.listeners.tolist() == [1, 1]


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="unequal length"):
        Listening.whole(started_ms=np.array([1, 2]), ended_ms=np.array([3]), listener=np.array([1, 2]))


@random_cases(max_examples=150)
@given(told_sessions(), st.lists(st.integers(0, LENGTH), min_size=2, max_size=5).map(sorted))
def test_splitting_a_period_loses_and_invents_nothing(told, cuts):
    listening = shifted(told)
    bounds = (np.array(cuts, dtype=np.int64) + SHIFT) * S
    parts = audience(listening, bounds[:-1], bounds[1:])
    whole = audience(listening, bounds[:1], bounds[-1:])
    assert parts.listening_ms.sum() == whole.listening_ms[0]
    assert parts.peak.max() == whole.peak[0]
    assert parts.listeners.max() <= whole.listeners[0] <= parts.listeners.sum()
    length = bounds[-1] - bounds[0]
    assert whole.listening_ms[0] <= whole.peak[0] * length
    assert (parts.inherited + parts.joined).tolist() == parts.sessions.tolist()
    assert (parts.left + parts.kept).tolist() == parts.sessions.tolist()


@random_cases(max_examples=100)
@given(told_sessions(), told_sessions(most=1), airings_)
def test_adding_a_session_never_lowers_listening(told, more, airings):
    bounds = (np.array(airings, dtype=np.int64).reshape(-1, 2) + SHIFT) * S
    before = audience(shifted(told), bounds[:, 0], bounds[:, 1])
    after = audience(shifted(told + more), bounds[:, 0], bounds[:, 1])
    assert (after.listening_ms >= before.listening_ms).all()
    assert (after.listeners >= before.listeners).all()


@random_cases(max_examples=100)
@given(told_sessions(), airings_, st.randoms(), st.integers(0, 999))
def test_order_of_rows_and_fractions_of_seconds_change_nothing(told, airings, random, fraction):
    """Whole seconds are swept in 32 bits, others in milliseconds, long spans in 64 bits: all the same."""
    shuffled = list(told)
    random.shuffle(shuffled)
    bounds = (np.array(airings, dtype=np.int64).reshape(-1, 2) + SHIFT) * S
    plain = audience(shifted(told), bounds[:, 0], bounds[:, 1])
    far = Listening.of_parts([(99, [(0, 1 * S + fraction)], False)])  # in 1970
    other = shifted(shuffled).later(fraction).together(far)
    late = audience(other, bounds[:, 0] + fraction, bounds[:, 1] + fraction)
    for place in range(len(airings)):
        one, same = columns_of(plain, place, 0), columns_of(late, place, 0)
        if same["peak_at"] != -1:
            same["peak_at"] = round((same["peak_at"] * S - fraction) / S)
        assert one == same


@random_cases(max_examples=100)
@given(told_sessions(), airings_, st.integers(-999, 999), st.integers(-999, 999))
def test_airings_between_seconds_meet_whole_seconds_exactly(told, airings, sooner, later):
    """Sessions of whole seconds are swept in seconds; an odd millisecond elsewhere takes that away."""
    bounds = (np.array(airings, dtype=np.int64).reshape(-1, 2) + SHIFT) * S + [sooner, later]
    in_seconds = audience(shifted(told), bounds[:, 0], bounds[:, 1])
    odd = Listening.of_parts([(99, [((SHIFT - 9) * S + 1, (SHIFT - 8) * S + 2)], False)])
    in_milliseconds = audience(shifted(told).together(odd), bounds[:, 0], bounds[:, 1])
    for place in range(len(airings)):
        assert columns_of(in_seconds, place, 0) == columns_of(in_milliseconds, place, 0)


def test_keys_that_share_their_leading_bits_are_told_apart():
    """The packed sort sees the upper bits only; it must notice when two listeners agree in them."""
    size = 3000
    keys = (np.arange(size, dtype=np.int64) % 2) + (np.arange(size, dtype=np.int64) % 7 << 60)
    listening = Listening.whole(started_ms=np.arange(size) * S, ended_ms=np.arange(size) * S + 5 * S, listener=keys)
    heard = audience(listening, np.array([0]), np.array([size * S]))
    assert heard.listeners.tolist() == [len(set(keys.tolist()))]


def test_many_airings_in_small_chunks(monkeypatch):
    monkeypatch.setattr("aircox_listen_stats.kernel.sweeps._CHUNK_ROWS", 3)
    listening = listening_of(ONE_HOUR)
    minutes = np.arange(clock("10:00"), clock("11:00"), 60 * S)
    starts, ends = np.concatenate((minutes, minutes)), np.concatenate((minutes + 60 * S, minutes + 1200 * S))
    chunked = audience(listening, starts, ends)
    monkeypatch.undo()
    for name in ("stayed", "listeners", "sessions"):
        assert times(chunked, name) == times(audience(listening_of(ONE_HOUR), starts, ends), name)
