"""A station's year as columns: sessions, diffusions and tracks, by arithmetic from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aircox_listen_stats.kernel.correlate import Listening
from benchmarks._hours import BY_HOUR

Ints = npt.NDArray[np.int64]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DAYS = 365
START_MS = 1_767_225_600_000
"""2026-01-01 00:00 UTC."""
DIFFUSIONS, TRACKS = 7_300, 127_750
"""Of a year: twenty a day and 350 a day."""
SESSIONS_OF_A_LISTENER = 20
MEDIAN_SECONDS, SPREAD, LONGEST_SECONDS = 600, 1.5, 6 * 86_400
"""Lengths are log-normal: most listeners stay for minutes, some for hours, a few for days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Year:
    """Sessions in no order, each of one part; airings that follow each other without a break."""

    started_ms: Ints
    ended_ms: Ints
    listener: Ints
    diffusions: tuple[Ints, Ints]
    tracks: tuple[Ints, Ints]

    def __len__(self) -> int:
        return len(self.started_ms)

    def listening(self) -> Listening:
        """The sessions, nothing made of them yet."""
        return Listening.whole(started_ms=self.started_ms, ended_ms=self.ended_ms, listener=self.listener)


def year(sessions: int, *, unit_ms: int = 1000, seed: int = 20261122) -> Year:
    """A year with so many sessions, told to the second (as by logs) or to the millisecond (as by live sources)."""
    dice = np.random.default_rng(seed)
    hour = dice.choice(24, size=sessions, p=BY_HOUR / BY_HOUR.sum()) + 24 * dice.integers(0, DAYS, sessions)
    started = (START_MS + hour * HOUR_MS + dice.integers(0, HOUR_MS, sessions)) // unit_ms * unit_ms
    del hour
    lasts = np.exp(dice.normal(np.log(MEDIAN_SECONDS), SPREAD, sessions)).clip(1, LONGEST_SECONDS) * 1000
    ended = started + lasts.astype(np.int64) // unit_ms * unit_ms
    del lasts
    listeners = max(1, sessions // SESSIONS_OF_A_LISTENER)
    keys = dice.integers(0, (1 << 63) - 1, listeners)
    return Year(
        started_ms=started,
        ended_ms=ended,
        listener=keys[dice.integers(0, listeners, sessions)],
        diffusions=_in_a_row(dice, DIFFUSIONS),
        tracks=_in_a_row(dice, TRACKS),
    )


def _in_a_row(dice: np.random.Generator, count: int) -> tuple[Ints, Ints]:
    """Starts and ends of so many airings of uneven lengths, whole seconds, that fill the year."""
    lengths = dice.uniform(0.5, 1.5, count)
    bounds = START_MS + (np.cumsum(lengths) / lengths.sum() * (DAYS * DAY_MS // 1000)).astype(np.int64) * 1000
    starts = np.concatenate(([START_MS], bounds[:-1]))
    return starts, bounds
