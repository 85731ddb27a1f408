"""What the figures must be, computed from the scripted listeners alone, second by second where it is simple.

Every bound has an allowed error, so each count is a range: what is certain, and what is possible.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from .listeners import Heard

GAP_SECONDS = 300.0
ROUNDING_SECONDS = 0.1
"""What is stored is rounded to milliseconds, for each of some fifty sessions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Errors that a source may make, in seconds: of a start and of an end, early (-) and late (+)."""

    start: tuple[float, float]
    end: tuple[float, float]

    def widened(self, seconds: float) -> Allowed:
        """The same on a machine that let others wait so long."""
        start, end = ((early - seconds, late + seconds) for early, late in (self.start, self.end))
        return Allowed(start=start, end=end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """One listener's true session on one mount: the sockets, stitched."""

    mount: str
    ip: str
    agent: str
    parts: tuple[tuple[float, float], ...]

    @property
    def start(self) -> float:
        return self.parts[0][0]

    @property
    def stop(self) -> float:
        return self.parts[-1][1]


def stays(heard: Sequence[Heard]) -> list[Stay]:
    """The true sessions: every scripted listener has an address of her own."""
    sockets: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for one in sorted(heard, key=lambda one: one.start):
        sockets.setdefault((one.plan.mount, one.plan.ip, one.plan.agent), []).append((one.start, one.stop))
    made = []
    for (mount, ip, agent), parts in sockets.items():
        assert all(after[0] - before[1] <= GAP_SECONDS for before, after in itertools.pairwise(parts))
        made.append(Stay(mount=mount, ip=ip, agent=agent, parts=tuple(parts)))
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """From what is certain to what is possible."""

    least: float
    most: float

    def holds(self, value: float) -> bool:
        return self.least <= value <= self.most

    def __str__(self) -> str:
        return f"{self.least:g}–{self.most:g}"


def listening_seconds(stays: Sequence[Stay], allowed: dict[str, Allowed], a: float, b: float) -> tuple[float, Range]:
    """True listening inside [a, b), and what the allowed errors make of it."""
    exact = _overlap(stays, a, b)
    shortest = longest = 0.0
    for stay in stays:
        may = allowed[stay.mount]
        for start, stop in stay.parts:
            shortest += _inside(start + may.start[1], stop + may.end[0], a, b)
            longest += _inside(start + may.start[0], stop + may.end[1], a, b)
    return exact, Range(least=shortest - ROUNDING_SECONDS, most=longest + ROUNDING_SECONDS)


def joined(stays: Sequence[Stay], allowed: dict[str, Allowed], a: float, b: float) -> Range:
    """Sessions that began in [a, b)."""
    return _count([(s.start + allowed[s.mount].start[0], s.start + allowed[s.mount].start[1]) for s in stays], a, b)


def left(stays: Sequence[Stay], allowed: dict[str, Allowed], a: float, b: float) -> Range:
    """Sessions that ended in [a, b)."""
    return _count([(s.stop + allowed[s.mount].end[0], s.stop + allowed[s.mount].end[1]) for s in stays], a, b)


def stayed(stays: Sequence[Stay], allowed: dict[str, Allowed], a: float, b: float) -> Range:
    """Sessions that covered [a, b) whole, and that were heard in it: one may be between two sockets."""
    sure = possible = 0
    for stay in stays:
        may = allowed[stay.mount]
        surely_heard = any(_inside(start + may.start[1], stop + may.end[0], a, b) > 0 for start, stop in stay.parts)
        maybe_heard = any(_inside(start + may.start[0], stop + may.end[1], a, b) > 0 for start, stop in stay.parts)
        sure += surely_heard and stay.start + may.start[1] <= a and stay.stop + may.end[0] >= b
        possible += maybe_heard and stay.start + may.start[0] <= a and stay.stop + may.end[1] >= b
    return Range(least=sure, most=possible)


def peak(stays: Sequence[Stay], allowed: dict[str, Allowed], a: float, b: float) -> tuple[int, Range]:
    """Most sockets at once inside [a, b), exactly and within the allowed errors."""
    exact = [part for stay in stays for part in stay.parts]
    short, long = [], []
    for stay in stays:
        may = allowed[stay.mount]
        for start, stop in stay.parts:
            short.append((start + may.start[1], stop + may.end[0]))
            long.append((start + may.start[0], stop + may.end[1]))
    return _peak(exact, a, b), Range(least=_peak(short, a, b), most=_peak(long, a, b))


def count_at(heard: Sequence[Heard], mount: str, instant: float) -> int:
    """Sockets open on ``mount`` at ``instant``."""
    return sum(one.plan.mount == mount and one.start <= instant < one.stop for one in heard)


def _inside(start: float, stop: float, a: float, b: float) -> float:
    return max(0.0, min(stop, b) - max(start, a))


def _overlap(stays: Sequence[Stay], a: float, b: float) -> float:
    return sum(_inside(start, stop, a, b) for stay in stays for start, stop in stay.parts)


def _count(windows: Sequence[tuple[float, float]], a: float, b: float) -> Range:
    sure = sum(a <= low and high < b for low, high in windows)
    possible = sum(high >= a and low < b for low, high in windows)
    return Range(least=sure, most=possible)


def _peak(parts: Sequence[tuple[float, float]], a: float, b: float) -> int:
    moments = [a] + [start for start, _ in parts if a <= start < b]
    return max(sum(start <= at < stop for start, stop in parts) for at in moments)
