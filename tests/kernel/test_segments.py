"""Requests for segments as sessions: both orders, and a brute force that paints milliseconds."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aircox_listen_stats.kernel import segments
from aircox_listen_stats.kernel.segments import stitch_segments

TARGET, SILENCE, GAP = 6, 18, 30
FIELDS = ("listener", "started_ms", "ended_ms", "played_ms", "segments", "bytes_sent", "rendition", "switches")


def stitched(requests, *, target=TARGET, silence=SILENCE, gap=GAP, by_order=False):
    """One row for each session of these (listener, instant, bytes, rendition), its parts last."""
    columns = [np.array([one[place] for one in requests], dtype=np.int64) for place in range(4)]
    if by_order:
        ordered = segments._Ordered(*columns, target + gap)
        found = segments._sessions(
            ordered, segments._swept(ordered, silence), target_ms=target, far_ms=target + gap
        )  # fmt: skip
    else:
        found = stitch_segments(*columns, target_ms=target, silence_ms=silence, gap_ms=gap)
    bounds = list(zip(found.part_started_ms.tolist(), found.part_ended_ms.tolist(), strict=True))
    first = found.first_part.tolist()
    return [
        (*(int(getattr(found, name)[row]) for name in FIELDS), tuple(bounds[first[row] : first[row + 1]]))
        for row in range(len(found))
    ]


def painted(requests, *, target=TARGET, silence=SILENCE, gap=GAP):
    """The same by painting: each request its window, each short silence what lies in it."""
    rows = []
    for listener in sorted({one[0] for one in requests}):
        own = sorted((at, rendition, sent) for who, at, sent, rendition in requests if who == listener)
        instants = [at for at, _, _ in own]
        heard = {ms for at in instants for ms in range(at, at + target)}
        for at, after in pairwise(instants):
            if after - at <= silence:
                heard |= set(range(at, after))
        starts = sorted(ms for ms in heard if ms - 1 not in heard)
        ends = sorted(ms + 1 for ms in heard if ms + 1 not in heard)
        parts = list(zip(starts, ends, strict=True))
        groups = []
        for part in parts:
            if groups and part[0] - groups[-1][-1][1] <= gap:
                groups[-1].append(part)
            else:
                groups.append([part])
        for group in groups:
            inside = [one for one in own if group[0][0] <= one[0] < group[-1][1]]
            played = [rendition for _, rendition, _ in inside]
            counts = Counter(played)
            most = min(counts, key=lambda one: (-counts[one], one))
            switches = sum(one != other for one, other in pairwise(played))
            rows.append(
                (listener, group[0][0], group[-1][1], sum(end - start for start, end in group), len(inside),
                 sum(sent for _, _, sent in inside), most, switches, tuple(group))
            )  # fmt: skip
    return rows


CASES = {
    "one request": ([(7, 100, 5, 0)], [(7, 100, 106, 6, 1, 5, 0, 0, ((100, 106),))]),
    "a burst at the start is one window": (
        [(7, 100, 5, 0), (7, 100, 6, 0), (7, 101, 7, 0)],
        [(7, 100, 107, 7, 3, 18, 0, 0, ((100, 107),))],
    ),
    "silence of three targets stays": (
        [(7, 0, 1, 0), (7, 18, 1, 0)],
        [(7, 0, 24, 24, 2, 2, 0, 0, ((0, 24),))],
    ),
    "a longer one is a pause": (
        [(7, 0, 1, 0), (7, 19, 1, 0)],
        [(7, 0, 25, 12, 2, 2, 0, 0, ((0, 6), (19, 25)))],
    ),
    "of the gap after the window stays": (
        [(7, 0, 1, 0), (7, 36, 1, 0)],
        [(7, 0, 42, 12, 2, 2, 0, 0, ((0, 6), (36, 42)))],
    ),
    "longer than the gap splits": (
        [(7, 0, 1, 0), (7, 37, 1, 0)],
        [(7, 0, 6, 6, 1, 1, 0, 0, ((0, 6),)), (7, 37, 43, 6, 1, 1, 0, 0, ((37, 43),))],
    ),
    "a change of rendition stays one session": (
        [(7, 0, 1, 2), (7, 6, 1, 1), (7, 12, 1, 1), (7, 18, 1, 2)],
        [(7, 0, 24, 24, 4, 4, 1, 2, ((0, 24),))],
    ),
    "of two listeners the second begins where the first leaves": (
        [(7, 0, 1, 0), (8, 6, 1, 1), (7, 6, 1, 0)],
        [(7, 0, 12, 12, 2, 2, 0, 0, ((0, 12),)), (8, 6, 12, 6, 1, 1, 1, 0, ((6, 12),))],
    ),
}


@pytest.mark.parametrize(("requests", "expected"), CASES.values(), ids=CASES)
def test_sessions_of_requests(requests, expected):
    assert stitched(requests) == painted(requests) == stitched(requests, by_order=True) == expected


def test_nobody_is_no_session():
    nobody = np.empty(0, np.int64)
    found = stitch_segments(nobody, nobody, nobody, nobody, target_ms=6, silence_ms=18, gap_ms=30)
    assert len(found) == 0
    assert found.first_part.tolist() == [0]


@pytest.mark.parametrize(("target", "silence", "gap"), [(7, 6, 30), (6, 37, 30), (-1, 6, 30)])
def test_bounds_in_the_wrong_order_are_refused(target, silence, gap):
    with pytest.raises(ValueError, match=f"silence_ms {silence}"):
        stitched([(1, 1, 1, 1)], target=target, silence=silence, gap=gap)


REQUESTS = st.lists(
    st.tuples(st.integers(-2, 3), st.integers(-50, 250), st.integers(0, 900), st.integers(-1, 2)),
    min_size=1,
    max_size=60,
)
BOUNDS = st.integers(1, 9).flatmap(
    lambda target: st.integers(target, 3 * target).flatmap(
        lambda silence: st.tuples(st.just(target), st.just(silence), st.integers(silence - target, 60))
    )
)


@settings(max_examples=150)
@given(REQUESTS, BOUNDS, st.sampled_from([1, 3, 1 << 15]))
def test_both_orders_tell_what_painting_tells_wherever_blocks_are_cut(requests, bounds, block_rows):
    target, silence, gap = bounds
    given = {"target": target, "silence": silence, "gap": gap}
    before = segments._BLOCK_ROWS
    segments._BLOCK_ROWS = block_rows
    try:
        expected = painted(requests, **given)
        assert stitched(requests, **given) == expected
        assert stitched(requests, **given, by_order=True) == expected
    finally:
        segments._BLOCK_ROWS = before


WIDE = st.integers(0, 62).flatmap(lambda bits: st.integers(0, (1 << bits) - 1))


@settings(max_examples=150)
@given(
    st.lists(st.tuples(WIDE, st.integers(0, 1 << 40), WIDE, st.integers(0, 1 << 20)), min_size=1, max_size=30),
    st.integers(0, 62),
)
def test_numbers_of_any_size_are_packed_or_ordered_alike(requests, sent_bits):
    """What fits into one key, into three, or into none; keys are as full as they can be."""
    requests = [(who, at, sent >> (62 - sent_bits), which) for who, at, sent, which in requests]
    assume(sum(sent for _, _, sent, _ in requests) < 1 << 63)
    assert stitched(requests) == stitched(requests, by_order=True)


@pytest.mark.parametrize(
    ("who_bits", "sent_bits", "keys"), [(10, 16, 1), (17, 18, 1), (25, 18, 2), (29, 18, 3), (33, 18, 0), (40, 30, 0)]
)
def test_keys_spread_over_several_words_and_the_lexsort_are_all_reached(who_bits, sent_bits, keys):
    random = np.random.default_rng(who_bits)
    columns = [
        np.append(random.integers(0, top, 4000), [0, top - 1])
        for top in (1 << who_bits, 1 << 24, 1 << sent_bits, 4)
    ]  # fmt: skip
    columns[0][:2000] = columns[0][2000:4000]  # listeners that come more than once
    packed = segments._packed(*columns, 300_000)
    assert (0 if packed is None else len(packed.sums)) == keys
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    given = {"target": 6_000, "silence": 18_000, "gap": 294_000}
    assert stitched(rows, **given) == stitched(rows, **given, by_order=True)


def test_narrow_columns_of_a_log_give_what_wide_ones_give():
    random = np.random.default_rng(3)
    kinds = (np.int16, np.uint32, np.int32, np.uint8)
    narrow = [random.integers(0, 120, 5000).astype(kind) for kind in kinds]
    bounds = {"target_ms": 1, "silence_ms": 2, "gap_ms": 4}
    found, expected = (
        stitch_segments(*narrow, **bounds),
        stitch_segments(*(one.astype(np.int64) for one in narrow), **bounds),
    )
    for name in (*FIELDS, "first_part", "part_started_ms", "part_ended_ms"):
        assert getattr(found, name).dtype == np.int64
        assert np.array_equal(getattr(found, name), getattr(expected, name))


def test_the_given_columns_are_left_as_they_are():
    columns = [np.array([5, 3, 5]), np.array([30, 20, 10]), np.array([1, 2, 3]), np.array([0, 1, 0])]
    before = [one.copy() for one in columns]
    stitch_segments(*columns, target_ms=6, silence_ms=18, gap_ms=30)
    assert all(np.array_equal(one, other) for one, other in zip(columns, before, strict=True))
