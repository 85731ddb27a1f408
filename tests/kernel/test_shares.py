"""Shares: the sums of all labels are the whole, and a grid of seconds written apart agrees."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel.correlate import Listening
from aircox_listen_stats.kernel.shares import OTHER, Share, capped, label_periods

LENGTH = 120
LABELS = 4
BOUNDS = (10, 40, 70, 71, 110)
"""Five instants make four periods; what is heard before the first and after the last belongs to none."""


@st.composite
def sessions(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]], bool]:
    cuts = sorted(draw(st.lists(st.integers(0, LENGTH), min_size=2, max_size=6)))
    parts = list(zip(cuts[::2], cuts[1::2], strict=False))
    return draw(st.integers(0, LABELS - 1)), parts, draw(st.booleans())


@given(st.lists(sessions(), max_size=12), st.lists(st.booleans(), min_size=12, max_size=12))
def test_a_grid_of_seconds_agrees(told: list[tuple[int, list[tuple[int, int]], bool]], flags: list[bool]) -> None:
    label = np.array([one for one, _, _ in told], dtype=np.int64)
    mask = np.array(flags[: len(told)], dtype=np.bool_)
    everybody = np.ones(len(told), dtype=np.bool_)
    starts, ends = np.array(BOUNDS[:-1]), np.array(BOUNDS[1:])
    found = label_periods(Listening.of_parts(told), label, LABELS, starts, ends, [mask, everybody])
    for counts, one in zip((mask, everybody), found, strict=True):
        for period, (start, end) in enumerate(itertools.pairwise(BOUNDS)):
            for value in range(LABELS):
                mine = [parts for (of, parts, _), kept in zip(told, counts, strict=True) if kept and of == value]
                heard = [{t for a, b in parts for t in range(a, b) if start <= t < end} for parts in mine]
                met = [parts[0][0] for parts, seconds in zip(mine, heard, strict=True) if seconds]
                assert one.listening_ms[period, value] == sum(len(seconds) for seconds in heard)
                assert one.inherited[period, value] == sum(begun < start for begun in met)
                assert one.begun[period, value] == sum(begun >= start for begun in met)


shares = st.lists(
    st.builds(
        Share,
        value=st.sampled_from(["", "-", *"abcdefghij"]),
        listening_ms=st.integers(0, 50),
        inherited=st.integers(0, 3),
        begun=st.integers(0, 3),
    ),
    unique_by=lambda one: one.value,
)


def sums(some: list[Share]) -> tuple[int, int, int]:
    return sum(one.listening_ms for one in some), sum(one.inherited for one in some), sum(one.begun for one in some)


@given(shares, st.integers(1, 6))
def test_what_is_cut_off_is_in_the_rest(some: list[Share], most: int) -> None:
    found = capped(some, most, always=frozenset({"", "-"}))
    assert sums(found) == sums(some)
    named = [one for one in found if one.value not in (OTHER, "", "-")]
    assert len(named) == min(most, sum(one.value not in ("", "-") for one in some))
    assert {one for one in some if one.value in ("", "-")} <= set(found)
    left_out = [one for one in some if one not in found]
    assert (OTHER in {one.value for one in found}) == bool(left_out)
    assert all(one.listening_ms >= other.listening_ms for one in named for other in left_out)
