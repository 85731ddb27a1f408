"""Requests for HLS segments as nginx would log them in a month: who, when, how many bytes, of which rendition."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TARGET_MS = 6_000
"""What Apple recommends (HLS authoring specification, 7.5)."""

SPAN_MS = 30 * 24 * 3_600_000
FIRST_MS = 1_793_491_200_000
"""2026-11-01 00:00 UTC."""

SEGMENTS_PER_SESSION = 150
"""A quarter of an hour in the mean; the tail is long, half of the sessions last less than seven minutes."""

SESSIONS_PER_LISTENER = 3
BURST = 3
"""Segments that a player fetches at once when it begins (RFC 8216, 6.3.3)."""

PAUSING, SWITCHING = 0.08, 0.15
"""Shares of the sessions."""

BYTES = np.array([48_000, 96_000, 192_000])
"""Of a segment of 64, 128 and 256 kbit/s, in the mean."""

SEED = 20_261_122


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requests:
    """Columns in the order of a log: by instant."""

    listener: npt.NDArray[np.int32]
    at_ms: npt.NDArray[np.int64]
    bytes_sent: npt.NDArray[np.int32]
    rendition: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.listener)


def segment_requests(size: int) -> Requests:
    """``size`` requests, the same ones each time."""
    random = np.random.default_rng(SEED)
    lengths = _lengths(size, random)
    sessions = len(lengths)
    owner = np.repeat(np.arange(sessions, dtype=np.int32), lengths)
    place = np.arange(size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    began_ms = FIRST_MS + random.integers(0, SPAN_MS, sessions)
    at_ms = began_ms[owner] + np.maximum(place - BURST + 1, 0) * TARGET_MS + random.integers(0, 400, size)
    # Somewhere a pause of half a minute to twenty: some of them part of the session, some the end of it.
    pause_from = np.where(random.random(sessions) < PAUSING, random.integers(BURST, 300, sessions), size)
    at_ms += np.where(place >= pause_from[owner], random.integers(30_000, 1_200_000, sessions)[owner], 0)
    rendition = random.integers(0, len(BYTES), sessions).astype(np.int8)
    switch_from = np.where(random.random(sessions) < SWITCHING, random.integers(BURST, 300, sessions), size)
    played = rendition[owner]
    played = np.where(place >= switch_from[owner], (played + 1) % len(BYTES), played).astype(np.int8)
    sent = (BYTES[played] * random.uniform(0.9, 1.1, size)).astype(np.int32)
    listener = random.integers(0, max(1, sessions // SESSIONS_PER_LISTENER), sessions).astype(np.int32)[owner]
    order = np.argsort(at_ms, kind="stable")
    return Requests(listener=listener[order], at_ms=at_ms[order], bytes_sent=sent[order], rendition=played[order])


def _lengths(size: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Segments of each session, ``size`` together."""
    spread = 1.2
    mean = np.log(SEGMENTS_PER_SESSION) - spread**2 / 2
    made = random.lognormal(mean, spread, 2 * size // SEGMENTS_PER_SESSION + 10).astype(np.int64) + 1
    stop = int(np.searchsorted(np.cumsum(made), size))
    made = made[: stop + 1]
    made[-1] -= int(made.sum()) - size
    return made
