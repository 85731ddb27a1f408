"""Sessions laid over airings: the audience of every airing, by sweeps over sorted arrays.

Everything is exact in int64 milliseconds. Airings may overlap, come in any
order and number; no step loops over sessions or airings.

Listening time, concurrency, peak and curve are taken from the *parts* of
sessions, what was heard; joined, left and stayed from their *hull*, for the
sessions that have a part in the airing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np

from .arrays import Bools, Floats, Ints, blocks, chunks, in_order, order_of, ranges
from .people import People, Union
from .sweeps import HALF_BITS, Axis, Inside, Sweep, Tally

__all__ = [
    "MINUTE_MS",
    "AudienceColumns",
    "Listening",
    "audience",
    "listening_ms",
    "minute_curve",
    "minute_curves",
    "retained",
    "retained_curves",
    "still_there",
    "still_there_curves",
]

MINUTE_MS = 60_000

_CHUNK_ROWS = 1 << 20
"""Leavers that are looked at once."""

_NOBODY = -1
"""``peak_at_ms`` of an airing that nobody heard."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Listening:
    """The counted sessions of a stretch of time, as columns.

    A part belongs to session ``part_session`` (its place in the session
    columns); the parts of a session are disjoint, and ``[started_ms, ended_ms)``
    is their hull. ``is_open`` sessions end, so far, at their last sighting.
    ``bytes_sent`` and ``delivered_ms`` (sound that was sent) are -1 where a
    source does not tell, and None where none does.
    Sorted sweeps are made when first asked for and kept.
    """

    part_started_ms: Ints
    part_ended_ms: Ints
    part_session: Ints
    started_ms: Ints
    ended_ms: Ints
    is_open: Bools
    listener: Ints
    bytes_sent: Ints | None = None
    delivered_ms: Ints | None = None
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        parts = {len(self.part_started_ms), len(self.part_ended_ms), len(self.part_session)}
        sessions = {len(self.started_ms), len(self.ended_ms), len(self.is_open), len(self.listener)}
        sessions |= {len(some) for some in (self.bytes_sent, self.delivered_ms) if some is not None}
        if len(parts) > 1 or len(sessions) > 1:
            raise ValueError(
                f"Columns of unequal length: parts {sorted(parts)}, sessions {sorted(sessions)}. "
                "Expected one length for all columns of parts and one for all columns of sessions."
            )

    def __len__(self) -> int:
        return len(self.started_ms)

    @classmethod
    def whole(cls, *, started_ms: Ints, ended_ms: Ints, listener: Ints, is_open: Bools | None = None) -> Listening:
        """Sessions of one part each; closed unless told."""
        return cls(
            part_started_ms=started_ms,
            part_ended_ms=ended_ms,
            part_session=np.arange(len(started_ms)),
            started_ms=started_ms,
            ended_ms=ended_ms,
            is_open=np.zeros(len(started_ms), dtype=np.bool_) if is_open is None else is_open,
            listener=listener,
        )

    @classmethod
    def of_parts(cls, sessions: Iterable[tuple[int, Sequence[tuple[int, int]], bool]]) -> Listening:
        """Sessions told one by one as ``(listener, parts, is_open)``."""
        told = list(sessions)
        pairs = np.array([pair for _, parts, _ in told for pair in parts], dtype=np.int64).reshape(-1, 2)
        counts = np.array([len(parts) for _, parts, _ in told], dtype=np.int64)
        return cls(
            part_started_ms=pairs[:, 0],
            part_ended_ms=pairs[:, 1],
            part_session=np.repeat(np.arange(len(told)), counts),
            started_ms=np.array([min(start for start, _ in parts) for _, parts, _ in told], dtype=np.int64),
            ended_ms=np.array([max(end for _, end in parts) for _, parts, _ in told], dtype=np.int64),
            is_open=np.array([is_open for _, _, is_open in told], dtype=np.bool_),
            listener=np.array([listener for listener, _, _ in told], dtype=np.int64),
        )

    def only(self, mask: Bools) -> Listening:
        """The sessions where ``mask`` is true."""
        kept = mask[self.part_session]
        return Listening(
            part_started_ms=self.part_started_ms[kept],
            part_ended_ms=self.part_ended_ms[kept],
            part_session=(np.cumsum(mask) - 1)[self.part_session[kept]],
            started_ms=self.started_ms[mask],
            ended_ms=self.ended_ms[mask],
            is_open=self.is_open[mask],
            listener=self.listener[mask],
            bytes_sent=None if self.bytes_sent is None else self.bytes_sent[mask],
            delivered_ms=None if self.delivered_ms is None else self.delivered_ms[mask],
        )

    def together(self, other: Listening) -> Listening:
        """The sessions of both, e.g. of two streams of one station."""
        return Listening(
            part_started_ms=np.concatenate((self.part_started_ms, other.part_started_ms)),
            part_ended_ms=np.concatenate((self.part_ended_ms, other.part_ended_ms)),
            part_session=np.concatenate((self.part_session, other.part_session + len(self))),
            started_ms=np.concatenate((self.started_ms, other.started_ms)),
            ended_ms=np.concatenate((self.ended_ms, other.ended_ms)),
            is_open=np.concatenate((self.is_open, other.is_open)),
            listener=np.concatenate((self.listener, other.listener)),
            bytes_sent=_joined(self.bytes_sent, other.bytes_sent, len(self), len(other)),
            delivered_ms=_joined(self.delivered_ms, other.delivered_ms, len(self), len(other)),
        )

    def later(self, delay_ms: int) -> Listening:
        """The same with every instant ``delay_ms`` later (negative: earlier), as for a stream's delay."""
        return replace(
            self,
            part_started_ms=self.part_started_ms + delay_ms,
            part_ended_ms=self.part_ended_ms + delay_ms,
            started_ms=self.started_ms + delay_ms,
            ended_ms=self.ended_ms + delay_ms,
        )

    def under_each(self, masks: Sequence[Bools], apart_ms: int) -> Listening:
        """The sessions of one mask after the other, those of each mask ``apart_ms`` later than those of the one before.

        Without what was sent. Where they do not touch, one sweep over them tells of all masks.
        """
        rows = [np.flatnonzero(mask) for mask in masks]
        at, counts = np.concatenate(rows), np.array([len(some) for some in rows])
        moved = np.repeat(np.arange(len(masks)) * apart_ms, counts)
        started, ended = self.started_ms[at] + moved, self.ended_ms[at] + moved
        part_started, part_ended, part_session = started, ended, np.arange(len(at))
        if not np.array_equal(self.part_session, np.arange(len(self))):
            parts = [np.flatnonzero(mask[self.part_session]) for mask in masks]
            part_at, part_counts = np.concatenate(parts), np.array([len(some) for some in parts])
            moved = np.repeat(np.arange(len(masks)) * apart_ms, part_counts)
            part_started, part_ended = self.part_started_ms[part_at] + moved, self.part_ended_ms[part_at] + moved
            first = np.cumsum(counts) - counts
            numbers = [np.cumsum(mask) + (before - 1) for mask, before in zip(masks, first, strict=True)]
            of_parts = zip(numbers, parts, strict=True)
            part_session = np.concatenate([number[self.part_session[some]] for number, some in of_parts])
        return Listening(
            part_started_ms=part_started,
            part_ended_ms=part_ended,
            part_session=part_session,
            started_ms=started,
            ended_ms=ended,
            is_open=self.is_open[at],
            listener=self.listener[at],
        )

    def _keep(self, name: str, make: Callable[[], _Value]) -> _Value:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @property
    def parts(self) -> Parts:
        """The parts that are not empty, as they were given."""
        return self._keep("parts", lambda: _parts(self))

    @property
    def axis(self) -> Axis:
        """The time on which the parts lie."""
        return self._keep("axis", lambda: Axis.of(self.parts.started_ms, self.parts.ended_ms))

    @property
    def sweep(self) -> Sweep:
        """Concurrency over time."""
        return self._keep("sweep", lambda: Sweep.of(self.axis, self.parts.started_ms, self.parts.ended_ms))

    @property
    def hulls(self) -> Hulls:
        """From where to where each session reaches, and the silences between its parts."""
        return self._keep("hulls", lambda: _hulls(self.parts, self.is_open, self.axis))

    @property
    def leaving(self) -> Leaving:
        """The parts of closed sessions by the end of the session."""
        return self._keep("leaving", lambda: _leaving(self.parts, self.hulls, self.is_open))

    @property
    def people(self) -> People:
        """Starts and ends of the parts by listener."""
        parts = self.parts
        return self._keep(
            "people", lambda: People.of(self.axis, parts.started_ms, parts.ended_ms, _listeners(self.listener, parts))
        )

    @property
    def heard(self) -> Union:
        """When each listener heard anything: the union of all of that listener's parts."""
        return self._keep("heard", lambda: self.people.union())

    @property
    def persons(self) -> Listening:
        """The same with one session for each stretch in which a listener heard anything: simultaneous ones are one."""
        heard = self.heard
        return self._keep(
            "persons",
            lambda: Listening.whole(started_ms=heard.started_ms, ended_ms=heard.ended_ms, listener=heard.person),
        )

    @property
    def silences(self) -> Listening:
        """The silences between the parts of sessions, as sessions of nobody."""
        starts, ends = self.hulls.silence_starts, self.hulls.silence_ends
        return self._keep(
            "silences",
            lambda: Listening.whole(started_ms=starts, ended_ms=ends, listener=np.zeros_like(starts)),
        )

    @property
    def distinct(self) -> Distinct:
        """What counts each listener of an airing once."""
        return self._keep("distinct", lambda: _distinct(self.people))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AudienceColumns:
    """One element for each airing. Times in milliseconds, people in heads.

    ``inherited + joined == sessions == left + kept``. ``peak_at_ms`` is the
    first instant of the peak within the airing, -1 where nobody listened.
    """

    listening_ms: Ints
    sessions: Ints
    listeners: Ints
    peak: Ints
    peak_at_ms: Ints
    at_start: Ints
    at_end: Ints
    inherited: Ints
    joined: Ints
    left: Ints
    kept: Ints
    stayed: Ints

    def __len__(self) -> int:
        return len(self.listening_ms)


def audience(listening: Listening, starts_ms: Ints, ends_ms: Ints) -> AudienceColumns:
    """Who heard each of the airings ``[starts_ms, ends_ms)``.

    Zeros for an airing of no length and where nobody listened.
    """
    starts = np.asarray(starts_ms, dtype=np.int64)
    ends = np.asarray(ends_ms, dtype=np.int64)
    lasts = ends > starts
    if not lasts.all():
        return _with_empty_airings(listening, starts, ends, lasts)
    if len(starts) == 0:
        return _nobody(0)
    listening = _touching(listening, int(starts.min()), int(ends.max()))
    if not len(listening.parts):
        return _nobody(len(starts))
    order = order_of(starts)
    by_start = _audience_by_start(listening, starts[order], ends[order])
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return AudienceColumns(**{name: values[back] for name, values in by_start.items()})


def listening_ms(listening: Listening, starts_ms: Ints, ends_ms: Ints) -> Ints:
    """Listening milliseconds of all within each ``[starts_ms, ends_ms)``: that column of :func:`audience` alone."""
    starts = np.asarray(starts_ms, dtype=np.int64)
    ends = np.maximum(np.asarray(ends_ms, dtype=np.int64), starts)
    instants = in_order(starts, ends)
    heard = listening.sweep.tally(instants, with_peaks=False).heard_ms[0::2]
    return heard[np.searchsorted(instants, ends)] - heard[np.searchsorted(instants, starts)]


def minute_curve(listening: Listening, start_ms: int, end_ms: int) -> Floats:
    """Mean audience of each minute from ``start_ms``; the last one's over what is left of it."""
    return minute_curves(listening, np.array([start_ms]), np.array([end_ms]))[0]


def minute_curves(listening: Listening, starts_ms: Ints, ends_ms: Ints) -> list[Floats]:
    """:func:`minute_curve` of several airings at once."""
    minutes = _Minutes.of(starts_ms, ends_ms)
    if not len(minutes.counts):
        return []
    stops = np.minimum(minutes.instants + MINUTE_MS, minutes.of_each(minutes.ends))
    means = listening_ms(listening, minutes.instants, stops) / np.maximum(stops - minutes.instants, 1)
    return minutes.split(means)


def retained(listening: Listening, start_ms: int, end_ms: int) -> Ints:
    """Of those who hear the instant ``start_ms``, how many are still there at each whole minute before ``end_ms``.

    The first element is the audience at the start. Who pauses and comes back
    within the session stays; who is open at the last sighting stays.
    """
    return retained_curves(listening, np.array([start_ms]), np.array([end_ms]))[0]


def retained_curves(listening: Listening, starts_ms: Ints, ends_ms: Ints) -> list[Ints]:
    """:func:`retained` of several airings at once."""
    minutes = _Minutes.of(starts_ms, ends_ms)
    if not len(minutes.counts):
        return []
    begins = in_order(minutes.starts)
    at_start = listening.sweep.tally(begins, with_peaks=False).running[1::2][np.searchsorted(begins, minutes.starts)]
    gone = np.zeros(len(minutes.instants), dtype=np.int64)
    for place, minute in _leavers(listening.leaving, minutes):
        np.add.at(gone, place + minute, 1)
    gone = np.cumsum(gone)
    gone -= minutes.of_each(np.concatenate(([0], gone))[minutes.first])
    return minutes.split(minutes.of_each(at_start) - gone)


def still_there(listening: Listening, start_ms: int, end_ms: int) -> Ints:
    """Of the sessions that met ``[start_ms, end_ms)``, how many are there at each of its whole minutes."""
    return still_there_curves(listening, np.array([start_ms]), np.array([end_ms]))[0]


def still_there_curves(listening: Listening, starts_ms: Ints, ends_ms: Ints) -> list[Ints]:
    """:func:`still_there` of several airings at once.

    Who has begun and not yet ended is there, also while silent, as in :func:`retained`; who comes later, from then on.
    """
    minutes = _Minutes.of(starts_ms, ends_ms)
    if not len(minutes.counts):
        return []
    if not len(listening.parts):
        return minutes.split(np.zeros(len(minutes.instants), dtype=np.int64))
    lasts = np.maximum(minutes.ends, minutes.starts + 1)
    instants = in_order(minutes.instants, minutes.starts, lasts)
    counts = _HullTally.of(listening.hulls, listening.sweep.tally(instants, with_peaks=False), instants)
    at, start, end = (2 * np.searchsorted(instants, some) for some in (minutes.instants, minutes.starts, lasts))
    order = order_of(minutes.starts)
    silent = np.empty_like(order)
    silent[order] = counts.silent(listening.hulls, minutes.starts[order], lasts[order], start[order], end[order])
    never_met = silent + counts.open_ended[start + 1]
    return minutes.split(counts.begun[at + 1] - counts.left[at + 1] - minutes.of_each(never_met))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Minutes:
    """The whole minutes of airings, from the start of each, one airing after the other."""

    starts: Ints
    ends: Ints
    counts: Ints
    instants: Ints

    @classmethod
    def of(cls, starts_ms: Ints, ends_ms: Ints) -> _Minutes:
        starts = np.asarray(starts_ms, dtype=np.int64)
        ends = np.maximum(np.asarray(ends_ms, dtype=np.int64), starts)
        counts = -((starts - ends) // MINUTE_MS)
        instants = np.repeat(starts, counts) + ranges(np.zeros_like(counts), counts) * MINUTE_MS
        return cls(starts=starts, ends=ends, counts=counts, instants=instants)

    @property
    def first(self) -> Ints:
        """Where each airing's minutes begin."""
        return np.cumsum(self.counts) - self.counts

    def of_each(self, values: Ints) -> Ints:
        """The value of each minute's airing."""
        return np.repeat(values, self.counts)

    def split(self, values: Any) -> list[Any]:
        """One array for each airing."""
        return np.split(values, np.cumsum(self.counts)[:-1])


def _leavers(leaving: Leaving, minutes: _Minutes) -> Iterator[tuple[Ints, Ints]]:
    """Of those present at the start of an airing who leave during it: where its minutes begin, the first one off."""
    first = np.searchsorted(leaving.left_ms, minutes.starts, side="right")
    counts = np.maximum(np.searchsorted(leaving.left_ms, minutes.ends, side="left") - first, 0)
    for some in chunks(counts, _CHUNK_ROWS):
        rows = ranges(first[some], counts[some])
        airing = np.repeat(np.arange(some.start, some.stop), counts[some])
        start = minutes.starts[airing]
        was_there = (leaving.started_ms[rows] <= start) & (leaving.ended_ms[rows] > start)
        airing, rows = airing[was_there], rows[was_there]
        minute = -((minutes.starts[airing] - leaving.left_ms[rows]) // MINUTE_MS)
        in_time = minute < minutes.counts[airing]
        yield minutes.first[airing[in_time]], minute[in_time]


# What is made once of a listening ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """Parts that are not empty. ``is_single``: no session has more than one; ``is_whole``: each has its own row."""

    started_ms: Ints
    ended_ms: Ints
    session: Ints
    is_single: bool
    is_whole: bool

    def __len__(self) -> int:
        return len(self.started_ms)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nested:
    """Intervals, to be counted where they lie inside airings: sorted as far as the longest airing asks for."""

    axis: Axis
    most: int  # how many they are, or more
    shorter_than: Callable[[int], Iterable[tuple[Ints, Ints]]]
    """Starts and lengths, in units, of those shorter than 1 << bits units, in pieces."""
    _made: dict[int, Inside] = field(default_factory=dict)

    @classmethod
    def of(cls, axis: Axis, starts_ms: Ints, ends_ms: Ints) -> Nested:
        return cls(axis=axis, most=len(starts_ms), shorter_than=lambda bits: _short(axis, starts_ms, ends_ms, bits))

    def inside(self, begins_ms: Ints, stops_ms: Ints) -> Ints:
        """How many begin after each of ``begins_ms``, ascending, and end before its stop."""
        longest = int((self.axis.next_units(stops_ms) - self.axis.units(begins_ms)).max())
        bits = min(max(1, longest.bit_length()), self.axis.bits)
        fitting = min((made for made in self._made if made >= bits), default=bits)
        if fitting not in self._made:
            self._made[fitting] = Inside.of(self.axis, fitting, self.shorter_than(fitting), self.most)
        return self._made[fitting].count(begins_ms, stops_ms)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hulls:
    """What the hulls of sessions have beside their parts; all but ``of_part_ended_ms`` sorted."""

    closed: Nested
    silences: Nested
    silence_starts: Ints
    silence_ends: Ints
    open_ends: Ints
    of_part_ended_ms: Ints  # for each part, the end of its session


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Leaving:
    """Parts by the end of their session, for closed ones."""

    left_ms: Ints
    started_ms: Ints
    ended_ms: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Distinct:
    """What is to be taken from parts, so that each listener of an interval is left once.

    A listener's parts form stretches with silences between them. The stretches
    that touch an interval, less one for each pair of neighbours that both
    touch it (their silence lies inside), leave one for each listener. Stretches
    are counted by their starts and ends: those of the parts, less those where
    a part overlaps an earlier one of the same listener.
    """

    silences: Nested
    overlapping_starts: Ints  # sorted
    overlapped_ends: Ints  # sorted: of each overlap, the end that comes first

    def met(self, begun_before_end: Ints, ended_by_start: Ints, starts: Ints, ends: Ints) -> Ints:
        """The number of distinct listeners who heard something of each airing, from the counts of the parts."""
        touching = begun_before_end - ended_by_start
        if len(self.overlapping_starts):
            touching -= np.searchsorted(self.overlapping_starts, ends)
            touching += np.searchsorted(self.overlapped_ends, starts, side="right")
        return touching - self.silences.inside(starts, ends)


def _parts(listening: Listening) -> Parts:
    starts, ends, session = listening.part_started_ms, listening.part_ended_ms, listening.part_session
    heard = ends > starts
    if not heard.all():
        starts, ends, session = starts[heard], ends[heard], session[heard]
    is_whole = len(session) == len(listening) and all(
        (session[rows] == np.arange(rows.start, rows.stop)).all() for rows in blocks(len(session))
    )
    return Parts(
        started_ms=starts,
        ended_ms=ends,
        session=session,
        is_single=is_whole or bool(np.bincount(session, minlength=1).max() <= 1),
        is_whole=is_whole,
    )


def _listeners(listener: Ints, parts: Parts) -> Ints:
    """The listener of each part."""
    return listener if parts.is_whole else listener[parts.session]


def _short(axis: Axis, starts_ms: Ints, ends_ms: Ints, bits: int) -> Iterator[tuple[Ints, Ints]]:
    """Starts and lengths, in units, of the intervals shorter than ``1 << bits`` units, block by block."""
    most_ms = (1 << bits) * axis.unit_ms
    for rows in blocks(len(starts_ms)):
        starts = starts_ms[rows]
        lengths = ends_ms[rows] - starts
        short = np.flatnonzero(lengths < most_ms)
        yield axis.units(starts[short]), lengths[short] // axis.unit_ms


def _hulls(parts: Parts, is_open: Bools, axis: Axis) -> Hulls:
    starts, ends, session = parts.started_ms, parts.ended_ms, parts.session
    silence_starts = silence_ends = starts[:0]
    of_part = ends
    if not parts.is_single:
        starts, ends, session, of_part, silence_starts, silence_ends = _from_parts(parts)
    open_ends = starts[:0]
    if is_open.any():
        still = is_open[session]
        open_ends = np.sort(ends[still])
        starts, ends = starts[~still], ends[~still]
    return Hulls(
        closed=Nested.of(axis, starts, ends),
        silences=Nested.of(axis, silence_starts, silence_ends),
        silence_starts=np.sort(silence_starts),
        silence_ends=np.sort(silence_ends),
        open_ends=open_ends,
        of_part_ended_ms=of_part,
    )


def _from_parts(parts: Parts) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
    """Starts, ends and sessions of hulls, for each part its hull's end, and the silences inside.

    Only sessions of several parts are sorted.
    """
    each = np.bincount(parts.session)
    is_alone = each[parts.session] == 1
    rows = np.flatnonzero(~is_alone)
    rows = rows[np.lexsort((parts.started_ms[rows], parts.session[rows]))]
    mine, starts, ends = parts.session[rows], parts.started_ms[rows], parts.ended_ms[rows]
    is_first = np.concatenate(([True], mine[1:] != mine[:-1]))
    first = np.flatnonzero(is_first)
    hull_ends = np.maximum.reduceat(ends, first)
    of_part = parts.ended_ms.copy()
    of_part[rows] = np.repeat(hull_ends, np.diff(first, append=len(rows)))
    later = np.flatnonzero(~is_first)
    return (
        np.concatenate((parts.started_ms[is_alone], starts[first])),
        np.concatenate((parts.ended_ms[is_alone], hull_ends)),
        np.concatenate((parts.session[is_alone], mine[first])),
        of_part,
        ends[later - 1],
        starts[later],
    )


def _leaving(parts: Parts, hulls: Hulls, is_open: Bools) -> Leaving:
    starts, ends, left = parts.started_ms, parts.ended_ms, hulls.of_part_ended_ms
    if is_open.any():
        closed = ~is_open[parts.session]
        starts, ends, left = starts[closed], ends[closed], left[closed]
    order = order_of(left)
    return Leaving(left_ms=left[order], started_ms=starts[order], ended_ms=ends[order])


def _distinct(people: People) -> Distinct:
    starts, ends = people.overlaps()
    return Distinct(
        silences=Nested(axis=people.axis, most=len(people.starts), shorter_than=people.silences),
        overlapping_starts=people.axis.instants(starts),
        overlapped_ends=people.axis.instants(ends),
    )


# The counts --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _HullTally:
    """How many hulls have begun and ended at the places of a :class:`Tally`.

    A hull is its parts less the silences: those end where a later part begins
    and begin where an earlier one ends.
    """

    begun: Ints
    ended: Ints
    open_ended: Ints  # of these, of open sessions
    silence_begun: Ints
    silence_ended: Ints

    @classmethod
    def of(cls, hulls: Hulls, tally: Tally, instants: Ints) -> _HullTally:
        begun, ended = _passed(hulls.silence_starts, instants), _passed(hulls.silence_ends, instants)
        return cls(
            begun=tally.begun - ended,
            ended=tally.ended - begun,
            open_ended=_passed(hulls.open_ends, instants),
            silence_begun=begun,
            silence_ended=ended,
        )

    @property
    def left(self) -> Ints:
        return self.ended - self.open_ended

    def silent(self, hulls: Hulls, starts: Ints, ends: Ints, start: Ints, end: Ints) -> Ints:
        """How many are silent all through each airing: these did not meet it. ``start`` and ``end`` are its places.

        Silences that began by its start, less those that end before its end;
        those that lie inside were taken off without having been counted.
        """
        if not len(hulls.silence_starts):
            return np.zeros(len(starts), dtype=np.int64)
        return self.silence_begun[start + 1] - self.silence_ended[end] + hulls.silences.inside(starts, ends)


def _passed(values: Ints, instants: Ints) -> Ints:
    """How many of the sorted values lie before each instant, and before or at it, by turns."""
    counts = np.zeros(2 * len(instants), dtype=np.int64)
    if len(values):
        counts[0::2] = np.searchsorted(values, instants, side="left")
        counts[1::2] = np.searchsorted(values, instants, side="right")
    return counts


def _audience_by_start(listening: Listening, starts: Ints, ends: Ints) -> dict[str, Ints]:
    """The columns for airings that last and come by start, for listening that is not empty."""
    sweep, hulls = listening.sweep, listening.hulls
    instants = in_order(starts, ends)
    tally = sweep.tally(instants)
    counts = _HullTally.of(hulls, tally, instants)
    # Places of the tally: before the events of an instant, and one further, after them.
    start, end = 2 * np.searchsorted(instants, starts), 2 * np.searchsorted(instants, ends)
    peak, peak_at = _peaks(sweep, tally, start + 1, end, starts)
    silent = counts.silent(hulls, starts, ends, start, end)
    inherited = counts.begun[start] - counts.ended[start + 1] - silent
    joined = counts.begun[end] - counts.begun[start]
    left = counts.left[end + 1] - counts.left[start + 1]
    # All that began by the start, less those that have ended; who came and went meanwhile was taken off unasked.
    stayed = counts.begun[start + 1] - counts.left[end] - counts.open_ended[start + 1] - silent
    running = tally.running
    return {
        "listening_ms": tally.heard_ms[end] - tally.heard_ms[start],
        "sessions": inherited + joined,
        "listeners": listening.distinct.met(tally.begun[end], tally.ended[start + 1], starts, ends),
        "peak": peak,
        "peak_at_ms": peak_at,
        "at_start": running[start + 1],
        "at_end": running[end],
        "inherited": inherited,
        "joined": joined,
        "left": left,
        "kept": inherited + joined - left,
        "stayed": stayed + hulls.closed.inside(starts, ends),
    }


def _peaks(sweep: Sweep, tally: Tally, first: Ints, stop: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """The highest concurrency in each airing and its first instant.

    An airing sees who is there after the events of its start, and what the
    events bring from there, the place ``first``, until ``stop``.
    """
    bounds = np.empty(2 * len(starts), dtype=np.int64)
    bounds[0::2], bounds[1::2] = first, stop
    best = np.maximum.reduceat(np.append(tally.best, 0), bounds)[0::2]
    at_start = tally.running[first]
    rises = best >> HALF_BITS > at_start
    peak = np.where(rises, best >> HALF_BITS, at_start)
    peak_at = starts.copy()
    peak_at[rises] = sweep.instant(best[rises])
    return peak, np.where(peak > 0, peak_at, _NOBODY)


def _joined(one: Ints | None, other: Ints | None, size: int, more: int) -> Ints | None:
    """Both columns; what one of them does not tell is unknown."""
    if one is None and other is None:
        return None
    known = (np.full(length, -1) if some is None else some for some, length in ((one, size), (other, more)))
    return np.concatenate(tuple(known))


def _touching(listening: Listening, start_ms: int, end_ms: int) -> Listening:
    """The listening, or what of it touches the window, where that is less than half and no sweep is made yet."""
    if "sweep" in listening._made:
        return listening
    touches = (listening.started_ms < end_ms) & (listening.ended_ms > start_ms)
    return listening.only(touches) if 2 * np.count_nonzero(touches) < len(listening) else listening


def _nobody(size: int) -> AudienceColumns:
    columns = {column.name: np.zeros(size, dtype=np.int64) for column in fields(AudienceColumns)}
    columns["peak_at_ms"] = np.full(size, _NOBODY, dtype=np.int64)
    return AudienceColumns(**columns)


def _with_empty_airings(listening: Listening, starts: Ints, ends: Ints, lasts: Bools) -> AudienceColumns:
    result = _nobody(len(starts))
    heard = audience(listening, starts[lasts], ends[lasts])
    for column in fields(AudienceColumns):
        getattr(result, column.name)[lasts] = getattr(heard, column.name)
    return result
