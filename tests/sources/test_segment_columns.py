"""Requests for segments as columns: by sweeps and one by one the stretches are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aircox_listen_stats.sources import segment_columns
from aircox_listen_stats.sources.segment_columns import Fetches, going_on, stretches_of, stretches_one_by_one

TARGET_MS = 3000
NAMES = ["lo", "hi", ""]
REFERRERS = ["", "-", "radio.example"]
Row = tuple[int, int, int, int, int, bool]


def fetches(rows: list[Row], is_named: list[bool], names: list[str] | None = None) -> Fetches:
    """Of rows of visitor, instant, rendition, number, bytes, whether whole; of one of three referrers by the bytes."""
    columns = [np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)] or [np.empty(0, np.int64)] * 6
    visitor, at_ms, rendition, number, bytes_sent, is_whole = columns
    return Fetches(
        visitor=visitor,
        at_ms=at_ms,
        rendition=rendition,
        number=number,
        bytes_sent=bytes_sent,
        is_whole=is_whole.astype(np.bool_),
        referrer=bytes_sent % len(REFERRERS),
        is_named=np.array(is_named, dtype=np.bool_),
        names=NAMES if names is None else names,
        referrers=REFERRERS,
    )


def shown(found: Any) -> list[tuple[Any, ...]]:
    columns = (found.visitor, found.started_ms, found.ended_ms, found.bytes_sent, found.segments, found.switches)
    return list(zip(*(one.tolist() for one in columns), found.name, found.referrer, strict=True))


def test_a_player_with_a_master_a_pause_and_a_look_are_three_kinds_of_stretches() -> None:
    rows = [
        (0, 1000, 0, -1, 500, True),
        (0, 1100, 0, 7, 10, True),
        (0, 1200, 0, 8, 10, True),
        (1, 1300, 0, -1, 500, True),
        (0, 4200, 1, 9, 20, True),
        (0, 7200, 1, 10, 20, True),
        (0, 7300, 1, 11, 20, True),
        (0, 60_000, 1, 25, 20, True),
    ]
    expected = [
        (0, 1000, 10_300, 80, 5, 1, "hi", "radio.example"),
        (0, 60_000, 63_000, 20, 1, 0, "hi", "radio.example"),
        (1, 1300, 1300, 0, 0, 0, "", "radio.example"),
    ]
    of = fetches(rows, [True, False])
    assert shown(stretches_of(of, target_ms=TARGET_MS)) == expected
    assert shown(stretches_one_by_one(of, target_ms=TARGET_MS)) == expected


def test_no_request_is_no_stretch() -> None:
    assert shown(stretches_of(fetches([], []), target_ms=TARGET_MS)) == []


STEPS = st.sampled_from([0, 1, 400, 2999, 3000, 3001, 9000, 9001, 40_000, -1, -8000, -9500])
NUMBERS = st.sampled_from([-1, 0, 1, 1, 1, 1, 1, 2])  # -1: a master playlist; else so much higher than the one before
VISITS = st.lists(
    st.tuples(
        st.integers(0, 3), STEPS, st.sampled_from([0, 0, 0, 1, 2]), NUMBERS, st.integers(0, 9), st.integers(0, 9)
    ),
    max_size=60,
)


def rows_of(visits: list[tuple[int, int, int, int, int, int]]) -> list[Row]:
    """Visits as rows: instants and numbers go on for each visitor; now and then a request is not whole."""
    at_ms, numbers, rows = dict.fromkeys(range(4), 1_000_000), dict.fromkeys(range(4), 50), []
    for visitor, step, rendition, ahead, sent, broken in visits:
        at_ms[visitor] += step
        if ahead >= 0:
            numbers[visitor] += ahead
        rows.append((visitor, at_ms[visitor], rendition, -1 if ahead < 0 else numbers[visitor], sent, broken != 0))
    return rows


@settings(max_examples=200)
@given(VISITS, st.lists(st.booleans(), min_size=4, max_size=4), st.sampled_from([NAMES, ["a", "a", "b"]]))
def test_sweeps_tell_what_is_told_one_by_one(visits: Any, is_named: list[bool], names: list[str]) -> None:
    of = fetches(rows_of(visits), is_named, names)
    assert shown(stretches_of(of, target_ms=TARGET_MS)) == shown(stretches_one_by_one(of, target_ms=TARGET_MS))


@settings(max_examples=150)
@given(VISITS, st.lists(st.booleans(), min_size=4, max_size=4), st.lists(st.integers(1, 20), max_size=8))
def test_wherever_a_log_is_cut_what_goes_on_is_kept_and_the_rest_is_told(
    visits: Any, is_named: list[bool], lengths: list[int]
) -> None:
    rows = sorted(rows_of(visits), key=lambda row: row[1])
    whole = shown(stretches_of(fetches(rows, is_named), target_ms=TARGET_MS))
    told, waiting = [], []
    while rows:
        taken, rows = rows[: lengths[0] if lengths else None], rows[lengths[0] if lengths else len(rows) :]
        lengths = lengths[1:]
        waiting += taken
        of = fetches(waiting, is_named)
        is_open = going_on(of, target_ms=TARGET_MS, until_ms=rows[0][1] if rows else 1 << 60)
        told += shown(stretches_of(of.only(~is_open), target_ms=TARGET_MS))
        waiting = [row for row, stays in zip(waiting, is_open.tolist(), strict=True) if stays]
    assert not waiting
    assert sorted(told) == whole


def test_ordinary_players_never_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A player with an id that changes rendition, and one without that does not."""
    rows = [(who, 3000 * n + who, who and n > 5, n, 10, True) for n in range(10) for who in (0, 1)]
    of = fetches([(0, 0, 0, -1, 1, True), *rows], [False, True])
    expected = shown(stretches_one_by_one(of, target_ms=TARGET_MS))
    monkeypatch.setattr(segment_columns, "Fetch", None)
    assert shown(stretches_of(of, target_ms=TARGET_MS)) == expected
