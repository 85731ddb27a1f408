"""The trade's figures for a period, from counted sessions: docs/figures.md says what each one means.

Stitch first, filter after: :func:`counted` tells which sessions count under a
rule-set, ``listening.only(mask)`` keeps them, and everything else takes what is
left. Hours are real elapsed hours; listening is what lies inside the period.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .arrays import Bools, Ints, ranges
from .correlate import AudienceColumns, Listening, audience
from .types import RuleSet

__all__ = [
    "FIVE_MINUTES_MS",
    "PeriodFigures",
    "aas",
    "active_sessions",
    "aqh",
    "atsl_seconds",
    "counted",
    "coverage",
    "cume",
    "figures",
    "peak",
    "performances",
    "person_hours",
    "quarter_hour_listeners",
    "reach",
    "started_sessions",
    "tlh",
    "tsl_quarter_hours",
    "tsl_seconds",
]

S = 1000
HOUR_MS = 3_600_000

QUARTER_HOUR_MS = 900_000
"""Clock quarter-hours are counted on UTC: every zone's offset is a multiple of a quarter-hour (IANA, since 1979)."""

FIVE_MINUTES_MS = 300_000
"""What makes a listener of a quarter-hour, and of a week. Nielsen, RAJAR."""


def counted(played_ms: Ints, rules: RuleSet, *, listening: Listening | None = None) -> Bools:
    """Which sessions count under ``rules``.

    A rule-set with ``quarter_hour_seconds`` needs ``listening``, with the
    sessions of ``played_ms``: so much must have been heard within one clock
    quarter-hour. Raises ValueError where it is missing.
    """
    minimum_ms = rules.minimum_seconds * S
    mask = played_ms > minimum_ms if rules.minimum_is_strict else played_ms >= minimum_ms
    if rules.quarter_hour_seconds <= 0:
        return mask
    if listening is None or len(listening) != len(played_ms):
        raise ValueError(
            f"Rule-set {rules.name!r} looks into clock quarter-hours and needs listening=, with the same sessions."
        )
    parts = listening.parts
    order = np.lexsort((parts.started_ms, parts.session))
    pieces = _quarter_pieces(parts.session[order], parts.started_ms[order], parts.ended_ms[order])
    enough = pieces.owner[pieces.total_ms >= rules.quarter_hour_seconds * S]
    in_one_quarter = np.zeros(len(played_ms), dtype=np.bool_)
    in_one_quarter[enough] = True
    return mask & in_one_quarter


def tlh(listening: Listening, start_ms: int, end_ms: int) -> float:
    """Total listening hours: the sum of the sessions, also stream-hours."""
    return int(_period(listening, start_ms, end_ms).listening_ms[0]) / HOUR_MS


def person_hours(listening: Listening, start_ms: int, end_ms: int) -> float:
    """Hours of the *union* of each listener's sessions, summed over listeners."""
    heard = listening.heard
    inside = np.minimum(heard.ended_ms, end_ms) - np.maximum(heard.started_ms, start_ms)
    return int(inside[inside > 0].sum()) / HOUR_MS


def aas(listening: Listening, start_ms: int, end_ms: int) -> float:
    """Average active sessions, the average audience: TLH by real elapsed hours; 0.0 for no time."""
    return _ratio(int(_period(listening, start_ms, end_ms).listening_ms[0]), end_ms - start_ms)


def active_sessions(listening: Listening, start_ms: int, end_ms: int) -> int:
    """AS: sessions heard in the period."""
    return int(_period(listening, start_ms, end_ms).sessions[0])


def started_sessions(listening: Listening, start_ms: int, end_ms: int) -> int:
    """SS: sessions that began in the period."""
    return int(_period(listening, start_ms, end_ms).joined[0])


def atsl_seconds(listening: Listening, start_ms: int, end_ms: int) -> float:
    """Average time spent listening: listening in the period by AS; 0.0 where nobody listened."""
    whole = _period(listening, start_ms, end_ms)
    return _ratio(int(whole.listening_ms[0]) / S, int(whole.sessions[0]))


def cume(listening: Listening, start_ms: int, end_ms: int) -> int:
    """Distinct listeners of the period. Two cumes are never added."""
    return int(_period(listening, start_ms, end_ms).listeners[0])


def tsl_seconds(listening: Listening, start_ms: int, end_ms: int) -> float:
    """Time spent listening: listening in the period by CUME; 0.0 where nobody listened."""
    whole = _period(listening, start_ms, end_ms)
    return _ratio(int(whole.listening_ms[0]) / S, int(whole.listeners[0]))


def peak(listening: Listening, start_ms: int, end_ms: int) -> tuple[int, int | None]:
    """The highest concurrency and its first instant, ``(0, None)`` where nobody listened."""
    whole = _period(listening, start_ms, end_ms)
    return int(whole.peak[0]), int(whole.peak_at_ms[0]) if whole.peak[0] else None


def quarter_hour_listeners(listening: Listening, start_ms: int, end_ms: int, *, in_one_piece: bool = False) -> Ints:
    """For each clock quarter-hour that the period touches, who heard five minutes of it.

    In aggregate, or ``in_one_piece``. What lies outside the period is not
    counted, also where the period cuts a quarter-hour.
    """
    first = start_ms // QUARTER_HOUR_MS
    size = -(-end_ms // QUARTER_HOUR_MS) - first if end_ms > start_ms else 0
    pieces = _person_pieces(listening, start_ms, end_ms)
    enough = (pieces.longest_ms if in_one_piece else pieces.total_ms) >= FIVE_MINUTES_MS
    return np.bincount(pieces.quarter[enough] - first, minlength=size)


def aqh(listening: Listening, start_ms: int, end_ms: int, *, in_one_piece: bool = False) -> float:
    """Average quarter-hour persons: the mean of :func:`quarter_hour_listeners`; 0.0 for no time."""
    counts = quarter_hour_listeners(listening, start_ms, end_ms, in_one_piece=in_one_piece)
    return _ratio(int(counts.sum()), len(counts))


def tsl_quarter_hours(listening: Listening, start_ms: int, end_ms: int) -> float:
    """Nielsen's TSL: quarter-hours with five minutes in them, by listeners with at least one; 0.0 for none."""
    pieces = _person_pieces(listening, start_ms, end_ms)
    listeners = pieces.owner[pieces.total_ms >= FIVE_MINUTES_MS]
    return _ratio(len(listeners), len(np.unique(listeners)))


def reach(listening: Listening, starts_ms: Ints, ends_ms: Ints) -> int:
    """RAJAR's reach: listeners with five minutes in all of the disjoint slots together.

    One slot for a week, seven for one of its dayparts.
    """
    heard = listening.heard
    total = np.zeros(int(heard.person[-1]) + 1 if len(heard.person) else 0, dtype=np.int64)
    for start_ms, end_ms in zip(starts_ms, ends_ms, strict=True):
        inside = np.minimum(heard.ended_ms, end_ms) - np.maximum(heard.started_ms, start_ms)
        np.add.at(total, heard.person, np.maximum(inside, 0))
    return int((total >= FIVE_MINUTES_MS).sum())


def performances(listening: Listening, starts_ms: Ints, ends_ms: Ints) -> tuple[int, float]:
    """Performances and ATH of tracks: one track by one listener, any portion; listener-hours of music.

    37 CFR 380. Use the rule-set ``all``.
    """
    heard = audience(listening, starts_ms, ends_ms)
    return int(heard.listeners.sum()), int(heard.listening_ms.sum()) / HOUR_MS


def coverage(observed: Iterable[tuple[int, int]], start_ms: int, end_ms: int) -> float:
    """The share of the period in which the source was really observed, 0 to 1; 1.0 for no time."""
    if end_ms <= start_ms:
        return 1.0
    covered = 0
    until = start_ms
    for start, end in sorted(observed):
        begin = max(start, until)
        stop = min(end, end_ms)
        covered += max(0, stop - begin)
        until = max(until, stop)
    return covered / (end_ms - start_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodFigures:
    """The table of figures of one period under one rule-set."""

    rule_set: str
    started_ms: int
    ended_ms: int
    tlh: float
    person_hours: float
    aas: float
    active_sessions: int
    started_sessions: int
    atsl_seconds: float
    cume: int
    tsl_seconds: float
    aqh: float
    aqh_in_one_piece: float
    peak: int
    peak_at_ms: int | None


def figures(listening: Listening, start_ms: int, end_ms: int, rules: RuleSet) -> PeriodFigures:
    """All figures of ``[start_ms, end_ms)`` from *all* its sessions, those that count under ``rules`` taken."""
    parts = listening.parts
    played = np.bincount(parts.session, parts.ended_ms - parts.started_ms, minlength=len(listening)).astype(np.int64)
    kept = listening.only(counted(played, rules, listening=listening))
    highest, at = peak(kept, start_ms, end_ms)
    return PeriodFigures(
        rule_set=rules.name,
        started_ms=start_ms,
        ended_ms=end_ms,
        tlh=tlh(kept, start_ms, end_ms),
        person_hours=person_hours(kept, start_ms, end_ms),
        aas=aas(kept, start_ms, end_ms),
        active_sessions=active_sessions(kept, start_ms, end_ms),
        started_sessions=started_sessions(kept, start_ms, end_ms),
        atsl_seconds=atsl_seconds(kept, start_ms, end_ms),
        cume=cume(kept, start_ms, end_ms),
        tsl_seconds=tsl_seconds(kept, start_ms, end_ms),
        aqh=aqh(kept, start_ms, end_ms),
        aqh_in_one_piece=aqh(kept, start_ms, end_ms, in_one_piece=True),
        peak=highest,
        peak_at_ms=at,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _QuarterPieces:
    """What each owner heard of each clock quarter-hour (numbered since 1970), by owner, then quarter-hour."""

    owner: Ints
    quarter: Ints
    total_ms: Ints
    longest_ms: Ints


def _person_pieces(listening: Listening, start_ms: int, end_ms: int) -> _QuarterPieces:
    """What each listener heard of each quarter-hour inside the period."""
    heard = listening.heard
    starts, ends = np.maximum(heard.started_ms, start_ms), np.minimum(heard.ended_ms, end_ms)
    inside = ends > starts
    return _quarter_pieces(heard.person[inside], starts[inside], ends[inside])


def _quarter_pieces(owner: Ints, starts: Ints, ends: Ints) -> _QuarterPieces:
    """Stretches (disjoint, not empty, by owner, then start) cut at the clock's quarter-hours and summed up."""
    first = starts // QUARTER_HOUR_MS
    counts = (ends - 1) // QUARTER_HOUR_MS - first + 1
    quarter = ranges(first, counts)
    owner = np.repeat(owner, counts)
    begin = np.maximum(np.repeat(starts, counts), quarter * QUARTER_HOUR_MS)
    until = np.minimum(np.repeat(ends, counts), (quarter + 1) * QUARTER_HOUR_MS)
    new = np.ones(len(owner), dtype=np.bool_)
    new[1:] = (owner[1:] != owner[:-1]) | (quarter[1:] != quarter[:-1])
    at = np.flatnonzero(new)
    length = until - begin
    return _QuarterPieces(
        owner=owner[at],
        quarter=quarter[at],
        total_ms=np.add.reduceat(length, at) if len(at) else length,
        longest_ms=np.maximum.reduceat(length, at) if len(at) else length,
    )


def _period(listening: Listening, start_ms: int, end_ms: int) -> AudienceColumns:
    return audience(listening, np.array([start_ms]), np.array([end_ms]))


def _ratio(amount: float, by: float) -> float:
    return amount / by if by > 0 else 0.0
