"""The figures of one airing, and of many of them together."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from ..fields import from_ms
from .blurs import Reason

MS_PER_HOUR = 3_600_000
MS_PER_MINUTE = 60_000
MINUTE = dt.timedelta(minutes=1)

WELL_COVERED = 0.99
"""Share of an airing; less, and its figures are called lower bounds. Half a minute of an hour is lost to nobody."""

KNOWN_COVERAGE = 0.5
"""A diffusion observed for less of its time is left out of averages over several: mostly unknown is not few."""

COUNTS = (
    "peak",
    "listeners",
    "sessions",
    "at_start",
    "at_end",
    "inherited",
    "joined",
    "left",
    "kept",
    "stayed",
)
"""The figures that count people, and that a station's smallest cell may hide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Who heard one airing under one rule-set.

    ``average`` is the listening time over the elapsed time (AAS), None where
    nothing was observed. Where observation has gaps, everything is a lower
    bound: who was there before and after a gap is known to have stayed, who
    came and went in it is not. Where nothing was observed, the listening hours
    and every count are None too; else a count is None only where a smallest cell
    hides it. ``inherited + joined == left + kept`` is the audience met. ``at_least_because``:
    why listeners could not be told apart in some of it, where its reader has looked.
    """

    listening_hours: float | None
    average: float | None
    peak: int | None
    peak_at: dt.datetime | None
    listeners: int | None
    sessions: int | None
    at_start: int | None
    at_end: int | None
    inherited: int | None
    joined: int | None
    left: int | None
    kept: int | None
    stayed: int | None
    coverage: float
    settled: bool
    version: int
    computed: dt.datetime
    at_least_because: tuple[Reason, ...] = ()

    COLUMNS = (
        "listening_ms",
        "peak",
        "peak_at",
        "listeners",
        "sessions",
        "at_start",
        "at_end",
        "inherited",
        "joined",
        "left",
        "kept",
        "stayed",
        "coverage",
        "settled",
        "version",
        "computed",
    )
    """What :meth:`of` reads of a row of Audience, in this order."""

    @classmethod
    def of(cls, row: Iterable[Any], started_ms: int, ended_ms: int) -> Self | None:
        """The figures of a row of ``COLUMNS`` as the database holds it; None where they are not computed yet."""
        values = dict(zip(cls.COLUMNS, row, strict=True))
        listening_ms = values.pop("listening_ms")
        if listening_ms is None:
            return None
        peak_at, computed_ms = values.pop("peak_at"), values.pop("computed")
        is_known = bool(values["coverage"] or listening_ms)
        if not is_known:
            values |= dict.fromkeys(COUNTS)
        # Of what is still on air, the figures tell as far as they were computed.
        length_ms = min(ended_ms, computed_ms) - started_ms
        return cls(
            listening_hours=hours(listening_ms) if is_known else None,
            average=average(listening_ms, length_ms) if is_known else None,
            peak_at=None if peak_at is None else from_ms(peak_at),
            settled=bool(values.pop("settled")),
            computed=from_ms(computed_ms),
            **values,
        )

    @property
    def is_lower_bound(self) -> bool:
        """Whether a part that matters was not observed."""
        return falls_short(self.coverage)

    @property
    def met(self) -> int | None:
        """Sessions that heard some of it."""
        return self.sessions

    def hiding_below(self, minimum: int) -> Self:
        """The same with counts from 1 to ``minimum - 1`` replaced by None."""
        small = {name: None for name in COUNTS if is_hidden(getattr(self, name), minimum)}
        if "peak" in small:
            small["peak_at"] = None
        return replace(self, **small) if small else self


def falls_short(coverage: float | None) -> bool:
    """Whether so much of the time was not observed that figures are lower bounds."""
    return coverage is not None and coverage < WELL_COVERED


def hours(listening_ms: float | None) -> float | None:
    """Listening time in hours; None where it is unknown."""
    return None if listening_ms is None else listening_ms / MS_PER_HOUR


def average(listening_ms: float | None, length_ms: float | None) -> float | None:
    """Listening time over elapsed time; None where either is unknown.

    Over several airings give the sums: long ones then weigh more than short ones.
    """
    if listening_ms is None or not length_ms:
        return None
    return listening_ms / length_ms


def share(part: float | None, whole: float | None) -> float | None:
    """``part / whole``; None where there is no whole."""
    if part is None or not whole:
        return None
    return part / whole


def change(now: float | None, before: float | None) -> float | None:
    """How much more than before, 0.1 being ten per cent; None where either is unknown or nothing was before."""
    if now is None or not before:
        return None
    return now / before - 1


def is_hidden(count: float | None, minimum: int) -> bool:
    """Whether a count is so small that it could point at somebody. Zero points at nobody."""
    return count is not None and 0 < count < minimum
