"""How far two sources agree about the same hours of one stream: who is whom, who is missing where, and why.

Sessions are paired one to one. Where both sides name listeners under the same
secret, a listener is paired with itself, whatever the clocks say, and the rest
by time; where the secret is gone, by start and end alone, which cannot tell
two people who came and went together from each other, and need not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from .arrays import Bools, Ints
from .assignment import Edge, assign
from .sessionize import TWIN_MS
from .types import MS

__all__ = ["Agreement", "How", "Missing", "Pair", "Telling", "Why", "agree"]

TOLERANCE_MS = 3 * MS
"""Two ears of one server agree on an instant to the second; one more for clocks, one for a slow callback."""

ALIKE = 0.8
"""Two sessions that begin or end together are one where so much of the longer is heard in both."""

MASS_END_MS = 2 * MS
MASS_END_SESSIONS = 3
"""So many ends so near together, and half of all that was heard then: the server ended them."""

MASS_END_SHARE = 0.5

OFFSET_SPAN_MS = 2 * 3600 * MS
"""A clock that is wrong by more, or by a zone, is found by eye."""

OFFSET_SAMPLE = 1500
"""Sessions of each side that are compared to find a wrong clock."""

OFFSET_SHARE = 0.3
"""A wrong clock shifts all; so many of the smaller side must agree on the shift."""

LONG_ENOUGH_MS = 20 * MS
"""Shorter sessions are all alike and say nothing of a clock."""


class How(StrEnum):
    """What a pair agrees on."""

    WHOLE = "whole"
    START = "start"  # the ends differ
    END = "end"  # the starts differ
    LISTENER = "listener"  # the same listener at the same time; start and end differ
    TIME = "time"  # start and end, under another key


class Why(StrEnum):
    """Why the other side most likely has not told of a session."""

    UNOBSERVED = "unobserved"  # the other side heard nothing then
    NOT_ENDED = "not_ended"  # the other side tells of a session when it ends, and this one ended later
    REFUSED_LINE = "refused_line"  # a line that ended then could not be read
    BETWEEN_POLLS = "between_polls"  # shorter than the interval of the other side's polls
    TWIN = "twin"  # a probe or a second socket, which the other side took for the first one's
    STITCHED = "stitched"  # the other side has the listener's session, cut otherwise
    RESTART = "restart"  # it began or ended when the server ended everybody
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Telling:
    """What one source tells of a stream's hours: sessions in columns, and what kind of ear it is.

    ``heard_ms`` is what was played inside the window. ``covered`` are the
    stretches that it observed, disjoint and sorted; ``refused_ms`` the ends of
    lines that could not be read. ``interval_ms`` is the time between its polls,
    0 where it is told of every socket.
    """

    name: str
    listener: Ints
    started_ms: Ints
    ended_ms: Ints
    heard_ms: Ints
    is_open: Bools
    covered: Sequence[tuple[int, int]] = ()
    refused_ms: Sequence[int] = ()
    interval_ms: int = 0
    tells_at_end: bool = False

    def __len__(self) -> int:
        return len(self.listener)

    def only(self, chosen: Bools | Ints) -> Telling:
        """The same of some of its sessions."""
        return replace(
            self,
            listener=self.listener[chosen],
            started_ms=self.started_ms[chosen],
            ended_ms=self.ended_ms[chosen],
            heard_ms=self.heard_ms[chosen],
            is_open=self.is_open[chosen],
        )

    @property
    def heard_until_ms(self) -> int:
        """Up to here it can know anything; 0 where it observed nothing."""
        return max((end for _, end in self.covered), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two sessions that are one, by their numbers on either side."""

    one: int
    other: int
    how: How


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A session that the other side does not have, by its number."""

    number: int
    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Every session of both sides once: in a pair, or missing on the other side.

    ``offset_ms``: the other side's clock is ahead by so much, and was taken to
    be right by that much less when its sessions were paired.
    """

    pairs: Sequence[Pair] = ()
    only_one: Sequence[Missing] = ()
    only_other: Sequence[Missing] = ()
    offset_ms: int = 0


def agree(one: Telling, other: Telling, *, same_keys: bool) -> Agreement:
    """How far ``one`` and ``other`` agree. ``same_keys``: their listeners' keys stand under one secret."""
    offset_ms = _offset(one, other)
    right = _Side(other, offset_ms)
    left = _Side(one, 0)
    pairing = _Pairing(left, right)
    if same_keys:
        pairing.pair(How.WHOLE, pairing.near_in_both(same_listener=True))
        pairing.pair(How.LISTENER, pairing.of_one_listener())
        pairing.pair(How.TIME, pairing.near_in_both())
    else:
        pairing.pair(How.WHOLE, pairing.near_in_both())
    pairing.pair(How.START, pairing.near_in_one(by_start=True))
    pairing.pair(How.END, pairing.near_in_one(by_start=False))
    mass_ends = [*_mass_ends(left), *_mass_ends(right)]
    return Agreement(
        pairs=sorted(pairing.found, key=lambda pair: (int(left.started_ms[pair.one]), pair.one)),
        only_one=_missing(left, pairing.free_left(), right, same_keys, mass_ends),
        only_other=_missing(right, pairing.free_right(), left, same_keys, mass_ends),
        offset_ms=offset_ms,
    )


class _Side:
    """A telling on the clock of the first one."""

    def __init__(self, told: Telling, offset_ms: int) -> None:
        self.told = told
        self.started_ms = told.started_ms - offset_ms
        self.ended_ms = np.maximum(told.ended_ms - offset_ms, self.started_ms)
        self.covered = [(start - offset_ms, end - offset_ms) for start, end in told.covered]
        self.refused_ms = [end - offset_ms for end in told.refused_ms]
        self.heard_until_ms = max((end for _, end in self.covered), default=0)
        self.end_tolerance_ms = TOLERANCE_MS + told.interval_ms

    def edge(self, instant_ms: int) -> bool:
        """Is this where the side began or ceased to hear?"""
        reach_ms = self.end_tolerance_ms
        return any(abs(instant_ms - edge) <= reach_ms for stretch in self.covered for edge in stretch)

    def share_covered(self, start_ms: int, end_ms: int) -> float:
        if end_ms <= start_ms:
            return float(any(start <= start_ms <= end for start, end in self.covered))
        inside = sum(max(0, min(end, end_ms) - max(start, start_ms)) for start, end in self.covered)
        return inside / (end_ms - start_ms)


@dataclass(slots=True)
class _Pairing:
    """Pairs, found in passes from the surest to the loosest."""

    left: _Side
    right: _Side
    found: list[Pair] = field(default_factory=list)

    def free_left(self) -> list[int]:
        taken = {pair.one for pair in self.found}
        return [number for number in range(len(self.left.started_ms)) if number not in taken]

    def free_right(self) -> list[int]:
        taken = {pair.other for pair in self.found}
        return [number for number in range(len(self.right.started_ms)) if number not in taken]

    def pair(self, how: How, edges: Iterable[Edge]) -> None:
        self.found += [Pair(one=one, other=other, how=how) for one, other in assign(edges)]

    def near_in_both(self, *, same_listener: bool = False) -> list[Edge]:
        """Free ones that begin and end together; an end is as sharp as both ears are."""
        found = []
        for one, other in self._near("started_ms"):
            start_off, end_off = self._off(one, other)
            if end_off <= self._reach("ended_ms") and (not same_listener or self._are_one_listener(one, other)):
                found.append((one, other, start_off + end_off))
        return found

    def near_in_one(self, *, by_start: bool) -> list[Edge]:
        """Free ones that begin (or end) together, where the other end has a reason to differ."""
        columns = ("started_ms", "ended_ms")
        near, far = columns if by_start else columns[::-1]
        found = []
        for one, other in self._near(near):
            if self._overlap_share(one, other) >= ALIKE or (
                self._overlap(one, other) > 0 and self._is_explained(one, other, far)
            ):
                found.append((one, other, sum(self._off(one, other))))
        return found

    def of_one_listener(self) -> list[Edge]:
        """Free ones of one listener that were heard at the same time."""
        by_listener: dict[int, list[int]] = {}
        for number in self.free_right():
            by_listener.setdefault(int(self.right.told.listener[number]), []).append(number)
        return [
            (one, other, sum(self._off(one, other)))
            for one in self.free_left()
            for other in by_listener.get(int(self.left.told.listener[one]), ())
            if self._overlap(one, other) > 0
        ]

    def _near(self, column: str) -> Iterable[tuple[int, int]]:
        """Free ones whose starts, or ends, are within what the ears can tell."""
        right_ms: Ints = getattr(self.right, column)
        free = np.array(self.free_right(), dtype=np.int64)
        free = free[np.argsort(right_ms[free], kind="stable")]
        instants, reach_ms = right_ms[free], self._reach(column)
        for one in self.free_left():
            at_ms = int(getattr(self.left, column)[one])
            first, last = np.searchsorted(instants, (at_ms - reach_ms, at_ms + reach_ms + 1))
            for other in free[first:last].tolist():
                yield one, other

    def _reach(self, column: str) -> int:
        """A poll's end is early by up to its interval; a start is told exactly."""
        if column == "started_ms":
            return TOLERANCE_MS
        return self.left.end_tolerance_ms + self.right.end_tolerance_ms - TOLERANCE_MS

    def _off(self, one: int, other: int) -> tuple[int, int]:
        return (
            abs(int(self.left.started_ms[one]) - int(self.right.started_ms[other])),
            abs(int(self.left.ended_ms[one]) - int(self.right.ended_ms[other])),
        )

    def _overlap(self, one: int, other: int) -> int:
        return min(int(self.left.ended_ms[one]), int(self.right.ended_ms[other])) - max(
            int(self.left.started_ms[one]), int(self.right.started_ms[other])
        )

    def _overlap_share(self, one: int, other: int) -> float:
        longer = max(
            int(self.left.ended_ms[one] - self.left.started_ms[one]),
            int(self.right.ended_ms[other] - self.right.started_ms[other]),
            1,
        )
        return self._overlap(one, other) / longer

    def _is_explained(self, one: int, other: int, column: str) -> bool:
        """Did the side that has less of it begin, cease or restart just there, or is it still open?"""
        told = ((self.left, one), (self.right, other))
        side, number = min(told, key=lambda some: int(some[0].ended_ms[some[1]] - some[0].started_ms[some[1]]))
        return bool(side.told.is_open[number]) or side.edge(int(getattr(side, column)[number]))

    def _are_one_listener(self, one: int, other: int) -> bool:
        return bool(self.left.told.listener[one] == self.right.told.listener[other])


# Why ------------------------------------------------------------------------------------------------


def _missing(
    side: _Side, numbers: Iterable[int], other: _Side, same_keys: bool, mass_ends: Sequence[int]
) -> list[Missing]:
    own = _by_listener(side)
    others = _by_listener(other) if same_keys else {}
    found = [Missing(number=one, why=_why(side, one, other, own, others, mass_ends)) for one in numbers]
    return sorted(found, key=lambda one: (int(side.started_ms[one.number]), one.number))


def _why(
    side: _Side,
    number: int,
    other: _Side,
    own: dict[int, list[int]],
    others: dict[int, list[int]],
    mass_ends: Sequence[int],
) -> Why:
    start_ms, end_ms = int(side.started_ms[number]), int(side.ended_ms[number])
    listener = int(side.told.listener[number])
    if other.told.tells_at_end and (bool(side.told.is_open[number]) or end_ms > other.heard_until_ms):
        return Why.NOT_ENDED
    if other.share_covered(start_ms, end_ms) < 1 / 2:
        return Why.UNOBSERVED
    if any(abs(end_ms - refused) <= side.end_tolerance_ms for refused in other.refused_ms):
        return Why.REFUSED_LINE
    if end_ms - start_ms < other.told.interval_ms:
        return Why.BETWEEN_POLLS
    if any(_meet(side, number, side, one, reach_ms=0) for one in own[listener] if one != number):
        return Why.TWIN
    if any(_meet(side, number, other, one, reach_ms=TWIN_MS) for one in others.get(listener, ())):
        return Why.STITCHED
    reach_ms = side.end_tolerance_ms
    if any(abs(instant - end_ms) <= reach_ms or abs(instant - start_ms) <= reach_ms for instant in mass_ends):
        return Why.RESTART
    return Why.UNKNOWN


def _by_listener(side: _Side) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for number, listener in enumerate(side.told.listener.tolist()):
        found.setdefault(listener, []).append(number)
    return found


def _meet(side: _Side, number: int, other: _Side, one: int, *, reach_ms: int) -> bool:
    return (
        side.started_ms[number] < other.ended_ms[one] + reach_ms
        and other.started_ms[one] < side.ended_ms[number] + reach_ms
    )


def _mass_ends(side: _Side) -> list[int]:
    """Instants at which half of all that was heard, and three sessions or more, ended together."""
    ends = np.sort(side.ended_ms[~side.told.is_open])
    until = np.searchsorted(ends, ends + MASS_END_MS, side="right")
    together = until - np.arange(len(ends))
    starts, every_end = np.sort(side.started_ms), np.sort(side.ended_ms)
    present = np.searchsorted(starts, ends) - np.searchsorted(every_end, ends)
    is_mass = (together >= MASS_END_SESSIONS) & (together >= MASS_END_SHARE * present)
    return ends[is_mass].tolist()


# The clock ------------------------------------------------------------------------------------------


def _offset(one: Telling, other: Telling) -> int:
    """How far the other side's clock is ahead, where nearly all sessions say so; 0 within the tolerance."""
    left, right = _sample(one), _sample(other)
    if not len(left) or not len(right):
        return 0
    blur_ms = TOLERANCE_MS + one.interval_ms + other.interval_ms
    shift = right[:, 0][None, :] - left[:, 0][:, None]
    lasting = (right[:, 1] - right[:, 0])[None, :] - (left[:, 1] - left[:, 0])[:, None]
    shifts = np.sort(shift[(np.abs(lasting) <= blur_ms) & (np.abs(shift) <= OFFSET_SPAN_MS)])
    if not len(shifts):
        return 0
    counts = np.searchsorted(shifts, shifts + TOLERANCE_MS, side="right") - np.arange(len(shifts))
    best = int(np.argmax(counts))
    offset_ms = int(np.median(shifts[best : best + int(counts[best])]))
    unshifted = int(np.count_nonzero(np.abs(shifts) <= TOLERANCE_MS))
    needed = max(MASS_END_SESSIONS, OFFSET_SHARE * min(len(left), len(right)))
    if abs(offset_ms) <= TOLERANCE_MS or counts[best] < needed or counts[best] <= unshifted:
        return 0
    return offset_ms


def _sample(told: Telling) -> Ints:
    """Starts and ends of closed sessions that are long enough, evenly chosen."""
    chosen = np.flatnonzero(~told.is_open & (told.ended_ms - told.started_ms >= LONG_ENOUGH_MS))
    chosen = chosen[:: max(1, -(-len(chosen) // OFFSET_SAMPLE))]
    return np.column_stack((told.started_ms[chosen], told.ended_ms[chosen]))
