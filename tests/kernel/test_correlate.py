"""The audience of airings: oracle cases with exact numbers, and the grid for the rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aircox_listen_stats.kernel.correlate import (
    AudienceColumns,
    Listening,
    audience,
    minute_curve,
    minute_curves,
    retained,
)

from .grid import Grid
from .oracles import HOUR_MS, ONE_HOUR, S, clock, listening_of

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


@settings(max_examples=400, deadline=None)
@given(told_sessions(), airings_)
def test_every_column_equals_the_grid_of_seconds(told, airings):
    grid = Grid(told, LENGTH)
    bounds = (np.array(airings, dtype=np.int64).reshape(-1, 2) + SHIFT) * S
    result = audience(shifted(told), bounds[:, 0], bounds[:, 1])
    assert len(result) == len(airings)
    for place, (start, end) in enumerate(airings):
        assert columns_of(result, place, SHIFT) == grid.counts(start, end)


@settings(max_examples=150, deadline=None)
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
