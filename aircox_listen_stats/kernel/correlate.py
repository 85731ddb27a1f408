"""Sessions laid over airings: the audience of every airing, by sweeps over sorted arrays.

Everything is exact in int64 milliseconds. Airings may overlap, come in any
order and number; no step loops over sessions or airings.

Listening time, concurrency, peak and curve are taken from the *parts* of
sessions, what was heard; joined, left and stayed from their *hull*, for the
sessions that have a part in the airing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .arrays import Bools, Floats, Ints, order_of, ranges, totals

__all__ = ["MINUTE_MS", "AudienceColumns", "Listening", "audience", "minute_curve", "minute_curves", "retained"]

MINUTE_MS = 60_000
SECOND_MS = 1000

_SAMPLE = 64
"""Instants that are looked at before all are."""

_USABLE_BITS = 63
"""Bits of a non-negative int64."""

_CHUNK = 1 << 22
"""Rows that are compared at once: bounds the memory of a sweep, 2**22 rows are 32 MB a column."""

_ROOM = 1 << 62
"""Times of several listeners are laid end to end on one int64 axis no longer than this."""

_PLACE_BITS = 32
"""Concurrency and the place where it was reached share an int64: concurrency above, place below."""

_NOBODY = -1
"""``peak_at_ms`` of an airing that nobody heard."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Listening:
    """The counted sessions of a stretch of time, as columns.

    A part belongs to session ``part_session`` (its place in the session
    columns); the parts of a session are disjoint, and ``[started_ms, ended_ms)``
    is their hull. ``is_open`` sessions end, so far, at their last sighting.
    Sorted sweeps are made when first asked for and kept.
    """

    part_started_ms: Ints
    part_ended_ms: Ints
    part_session: Ints
    started_ms: Ints
    ended_ms: Ints
    is_open: Bools
    listener: Ints
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        parts = {len(self.part_started_ms), len(self.part_ended_ms), len(self.part_session)}
        sessions = {len(self.started_ms), len(self.ended_ms), len(self.is_open), len(self.listener)}
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
        )

    def together(self, other: Listening) -> Listening:
        """The sessions of both, e.g. of two streams of one station."""
        joined = {
            column.name: np.concatenate((getattr(self, column.name), getattr(other, column.name)))
            for column in fields(self)
            if column.init
        }
        joined["part_session"][len(self.part_session) :] += len(self)
        return Listening(**joined)

    def later(self, delay_ms: int) -> Listening:
        """The same with every instant ``delay_ms`` later (negative: earlier), as for a stream's delay."""
        return Listening(
            part_started_ms=self.part_started_ms + delay_ms,
            part_ended_ms=self.part_ended_ms + delay_ms,
            part_session=self.part_session,
            started_ms=self.started_ms + delay_ms,
            ended_ms=self.ended_ms + delay_ms,
            is_open=self.is_open,
            listener=self.listener,
        )

    def _keep(self, name: str, make: Callable[[], _Value]) -> _Value:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @property
    def parts(self) -> Parts:
        """The parts that are not empty, by start."""
        return self._keep("parts", lambda: _parts(self))

    @property
    def sweep(self) -> Sweep:
        """Concurrency over time."""
        return self._keep("sweep", lambda: _sweep(self.parts))

    @property
    def hulls(self) -> Hulls:
        """From where to where each session reaches, and the silences between its parts."""
        return self._keep("hulls", lambda: _hulls(self.parts, self.is_open))

    @property
    def people(self) -> People:
        """The parts by listener."""
        return self._keep("people", lambda: _people(self.parts))

    @property
    def heard(self) -> Union:
        """When each listener heard anything: the union of all of that listener's parts."""
        return self._keep("heard", lambda: _union(self.people))

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
    if len(listening.parts.started_ms) == 0:
        return _nobody(len(starts))
    order = order_of(starts)
    by_start = _audience_by_start(listening, starts[order], ends[order])
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return AudienceColumns(**{name: values[back] for name, values in by_start.items()})


def minute_curve(listening: Listening, start_ms: int, end_ms: int) -> Floats:
    """Mean audience of each minute from ``start_ms``; the last one's over what is left of it."""
    return minute_curves(listening, np.array([start_ms]), np.array([end_ms]))[0]


def minute_curves(listening: Listening, starts_ms: Ints, ends_ms: Ints) -> list[Floats]:
    """:func:`minute_curve` of several airings at once."""
    starts = np.asarray(starts_ms, dtype=np.int64)
    ends = np.maximum(np.asarray(ends_ms, dtype=np.int64), starts)
    minutes = _minutes(starts, ends)
    begins = np.repeat(starts, minutes) + ranges(np.zeros_like(minutes), minutes) * MINUTE_MS
    stops = np.minimum(begins + MINUTE_MS, np.repeat(ends, minutes))
    sweep = listening.sweep
    means = (sweep.heard_until(stops) - sweep.heard_until(begins)) / np.maximum(stops - begins, 1)
    return np.split(means, np.cumsum(minutes)[:-1]) if len(minutes) else []


def retained(listening: Listening, start_ms: int, end_ms: int) -> Ints:
    """Of those who hear the instant ``start_ms``, how many are still there at each whole minute before ``end_ms``.

    The first element is the audience at the start. Who pauses and comes back
    within the session stays; who is open at the last sighting stays.
    """
    parts = listening.parts
    instants = np.arange(start_ms, max(start_ms, end_ms), MINUTE_MS)
    if len(parts.started_ms) == 0:
        return np.zeros(len(instants), dtype=np.int64)
    begun = slice(
        np.searchsorted(parts.started_ms, start_ms - parts.longest_ms, side="left"),
        np.searchsorted(parts.started_ms, start_ms, side="right"),
    )
    present = parts.session[begun][parts.ended_ms[begun] > start_ms]
    leavers = present[~listening.is_open[present]]
    gone_at = np.sort(listening.hulls.of_session_ended_ms[leavers])
    return len(present) - np.searchsorted(gone_at, instants, side="right")


# The sweeps --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """Parts that are not empty, by start. ``is_single``: no session has more than one."""

    started_ms: Ints
    ended_ms: Ints
    sorted_ends_ms: Ints
    session: Ints
    listener: Ints
    is_single: bool
    longest_ms: int
    count_of_sessions: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sweep:
    """Tune-ins and tune-outs in the order of time, a tune-out before a tune-in of the same instant.

    ``events`` are packed ``(instant - base_ms) // unit_ms << 1 | is_tune_in``,
    in 32 bits where they fit, since those sort twice as fast; ``unit_ms`` is
    1000 where all instants are whole seconds. After the first ``k`` events
    ``running[k]`` listen. ``started`` and ``ended`` are the sums of the first
    so many starts and ends, from ``base_ms``.
    """

    base_ms: int
    unit_ms: int
    events: npt.NDArray[np.integer[Any]]
    running: npt.NDArray[np.int32]
    started: Ints
    ended: Ints

    def before(self, instants: Ints) -> Ints:
        """The number of events before each instant."""
        return self._place(-((self.base_ms - instants) // self.unit_ms))

    def up_to(self, instants: Ints) -> Ints:
        """The number of events before or at each instant."""
        return self._place((instants - self.base_ms) // self.unit_ms + 1)

    def _place(self, unit: Ints) -> Ints:
        """The number of events before each ``unit``; needles of another type would make numpy copy the events."""
        inside = np.clip(unit, 0, (np.iinfo(self.events.dtype).max >> 1))
        return np.searchsorted(self.events, (inside << 1).astype(self.events.dtype))

    def begun(self, events: Ints) -> Ints:
        """How many of the first ``events`` are tune-ins."""
        return (events + self.running[events]) >> 1

    def instant(self, event: Ints) -> Ints:
        """When these events happen."""
        return self.base_ms + (self.events[event].astype(np.int64) >> 1) * self.unit_ms

    def heard_until(self, instants: Ints, done: Ints | None = None) -> Ints:
        """Listening milliseconds of all before each instant; ``done``, if known, events before or at it."""
        done = self.before(instants) if done is None else done
        begun = self.begun(done)
        ended = done - begun
        return (instants - self.base_ms) * (begun - ended) - self.started[begun] + self.ended[ended]

    def bounds(self, from_start: Ints, starts: Ints, until_end: Ints, ends: Ints) -> Bounds:
        """The bounds of the parts; ``from_start`` events are up to the starts, ``until_end`` before the ends."""
        before_start, by_end = self.before(starts), self.up_to(ends)
        begun_by_start, begun_before_end = self.begun(from_start), self.begun(until_end)
        return Bounds(
            begun_before_start=self.begun(before_start),
            begun_by_start=begun_by_start,
            begun_before_end=begun_before_end,
            ended_by_start=from_start - begun_by_start,
            ended_before_end=until_end - begun_before_end,
            ended_by_end=by_end - self.begun(by_end),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bounds:
    """How many of some intervals have begun and ended before, or by, the start and the end of each airing."""

    begun_before_start: Ints
    begun_by_start: Ints
    begun_before_end: Ints
    ended_by_start: Ints
    ended_before_end: Ints
    ended_by_end: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """Intervals by start, with their ends in that order and sorted."""

    starts: Ints
    ends: Ints
    sorted_ends: Ints

    def bounds(self, starts: Ints, ends: Ints) -> Bounds:
        return Bounds(
            begun_before_start=np.searchsorted(self.starts, starts, side="left"),
            begun_by_start=np.searchsorted(self.starts, starts, side="right"),
            begun_before_end=np.searchsorted(self.starts, ends, side="left"),
            ended_by_start=np.searchsorted(self.sorted_ends, starts, side="right"),
            ended_before_end=np.searchsorted(self.sorted_ends, ends, side="left"),
            ended_by_end=np.searchsorted(self.sorted_ends, ends, side="right"),
        )

    def covering(self, bounds: Bounds, ends: Ints) -> Ints:
        """How many begin at an airing's start or before and end at its end or after.

        All, less those that begin later, less those that end earlier, and
        those that do both were taken off twice.
        """
        inside = _ending_before(self.ends, bounds.begun_by_start, bounds.begun_before_end, ends)
        return bounds.begun_by_start - bounds.ended_before_end + inside


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hulls:
    """The hulls of closed and of open sessions, and the silences between parts of one session."""

    closed: Pairs
    still_open: Pairs
    silences: Pairs
    of_session_ended_ms: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class People:
    """Parts of each listener, by listener (numbered from 0), then start.

    ``before_ms`` is the latest end of the same listener's earlier parts, where
    there is one (``is_first`` is false).
    """

    person: Ints
    started_ms: Ints
    ended_ms: Ints
    before_ms: Ints
    is_first: Bools


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Union:
    """Disjoint stretches of each listener, by listener (numbered from 0), then start."""

    person: Ints
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

    silence_starts: Ints  # sorted
    silence_ends: Ints  # in the order of the starts
    overlapping_starts: Ints  # sorted
    overlapped_ends: Ints  # sorted: of each overlap, the end that comes first

    def met(self, bounds: Bounds, starts: Ints, ends: Ints) -> Ints:
        """The number of distinct listeners who heard something of each airing, from the ``bounds`` of the parts."""
        touching = bounds.begun_before_end - bounds.ended_by_start
        if len(self.overlapping_starts):
            touching -= np.searchsorted(self.overlapping_starts, ends)
            touching += np.searchsorted(self.overlapped_ends, starts, side="right")
        first = np.searchsorted(self.silence_starts, starts, side="right")
        stop = np.searchsorted(self.silence_starts, ends, side="left")
        return touching - _ending_before(self.silence_ends, first, stop, ends)


def _ending_before(interval_ends: Ints, first: Ints, stop: Ints, ends: Ints) -> Ints:
    """For each airing, how many of the intervals ``first`` to ``stop`` end before ``ends``."""
    counts = stop - first
    found = np.zeros(len(ends), dtype=np.int64)
    if len(interval_ends) == 0:
        return found
    for airings in _chunks(counts):
        length, low, high = counts[airings], int(first[airings][0]), int(stop[airings][-1])
        in_a_row = (stop[airings][:-1] <= first[airings][1:]).all() and high - low <= 2 * length.sum()
        if in_a_row:
            # Airings one after the other: compared in place, the few intervals in between as well.
            limits = np.repeat(ends[airings], np.diff(first[airings], append=high))
            early = np.zeros(high - low + 1, dtype=np.int32)
            np.cumsum(interval_ends[low:high] < limits, out=early[1:])
            found[airings] = early[stop[airings] - low] - early[first[airings] - low]
        else:
            rows = ranges(first[airings], length)
            found[airings] = totals(interval_ends[rows] < np.repeat(ends[airings], length), length)
    return found


def _parts(listening: Listening) -> Parts:
    heard = listening.part_ended_ms > listening.part_started_ms
    starts, ends, session = listening.part_started_ms, listening.part_ended_ms, listening.part_session
    if not heard.all():
        starts, ends, session = starts[heard], ends[heard], session[heard]
    if not _ascends(starts):
        order = order_of(starts)
        starts, ends, session = starts[order], ends[order], session[order]
    return Parts(
        started_ms=starts,
        ended_ms=ends,
        sorted_ends_ms=np.sort(ends),
        session=session,
        listener=listening.listener[session],
        is_single=bool(np.bincount(session, minlength=1).max() <= 1),
        longest_ms=int((ends - starts).max(initial=0)),
        count_of_sessions=len(listening),
    )


def _ascends(values: Ints) -> bool:
    return bool((values[1:] >= values[:-1]).all())


def _sweep(parts: Parts) -> Sweep:
    size = len(parts.started_ms)
    base = int(parts.started_ms[0]) if size else 0
    starts, ends = parts.started_ms - base, parts.sorted_ends_ms - base
    started, ended = np.zeros((2, size + 1), dtype=np.int64)
    np.cumsum(starts, out=started[1:])
    np.cumsum(ends, out=ended[1:])
    unit = SECOND_MS if _are_whole_seconds(starts) and _are_whole_seconds(ends) else 1
    if unit != 1:
        starts //= unit
        ends //= unit
    fits = size > 0 and int(ends[-1]) < 1 << 30
    events = np.empty(2 * size, dtype=np.uint32 if fits else np.int64)
    events[:size] = starts
    events[size:] = ends
    events <<= 1
    events[:size] |= 1
    events.sort()
    step = (events & 1).astype(np.int8)
    step += step
    step -= 1
    running = np.zeros(2 * size + 1, dtype=np.int32)
    np.cumsum(step, out=running[1:])
    return Sweep(base_ms=base, unit_ms=unit, events=events, running=running, started=started, ended=ended)


def _are_whole_seconds(values: Ints) -> bool:
    """Whether all are; a few are looked at first, which settles it for live sources."""
    return not (values[:_SAMPLE] % SECOND_MS).any() and not (values % SECOND_MS).any()


def _hulls(parts: Parts, is_open: Bools) -> Hulls:
    starts, ends, session = parts.started_ms, parts.ended_ms, parts.session
    silences = _pairs(starts[:0], ends[:0])
    if not parts.is_single:
        starts, ends, session, silences = _from_first_part(parts)
    ended = np.zeros(parts.count_of_sessions, dtype=np.int64)
    ended[session] = ends
    is_open = is_open[session]
    if parts.is_single and not is_open.any():
        closed = Pairs(starts=starts, ends=ends, sorted_ends=parts.sorted_ends_ms)
        still_open = _pairs(starts[:0], ends[:0])
    else:
        closed = _pairs(starts[~is_open], ends[~is_open])
        still_open = _pairs(starts[is_open], ends[is_open])
    return Hulls(closed=closed, still_open=still_open, silences=silences, of_session_ended_ms=ended)


def _from_first_part(parts: Parts) -> tuple[Ints, Ints, Ints, Pairs]:
    """Starts, ends and sessions of hulls, by start, and the silences inside: later parts are folded into the first."""
    each = np.bincount(parts.session)
    rows = np.flatnonzero(each[parts.session] > 1)
    rows = rows[order_of(parts.session[rows])]  # stable: the parts of a session stay by start
    mine, starts, ends = parts.session[rows], parts.started_ms[rows], parts.ended_ms[rows]
    is_first = np.concatenate(([True], mine[1:] != mine[:-1]))
    is_next = np.flatnonzero(~is_first[1:])
    hull_ends = parts.ended_ms.copy()
    hull_ends[rows[is_first]] = np.maximum.reduceat(ends, np.flatnonzero(is_first))
    is_hull = np.ones(len(hull_ends), dtype=np.bool_)
    is_hull[rows[~is_first]] = False
    kept = np.flatnonzero(is_hull)
    return parts.started_ms[kept], hull_ends[kept], parts.session[kept], _pairs(ends[is_next], starts[is_next + 1])


def _pairs(starts: Ints, ends: Ints) -> Pairs:
    if not _ascends(starts):
        order = order_of(starts)
        starts, ends = starts[order], ends[order]
    return Pairs(starts=starts, ends=ends, sorted_ends=np.sort(ends))


def _people(parts: Parts) -> People:
    person, order = _by_listener(parts.listener)
    starts, ends = parts.started_ms[order], parts.ended_ms[order]
    is_first = np.ones(len(order), dtype=np.bool_)
    np.not_equal(person[1:], person[:-1], out=is_first[1:])
    before = np.zeros(len(order), dtype=np.int64)
    before[1:] = ends[:-1]
    overlaps = before > starts
    overlaps &= ~is_first
    if overlaps.any():
        # Where a listener's neighbours do not overlap, no two parts do. The others need a running maximum.
        has_overlap = np.zeros(int(person[-1]) + 1, dtype=np.bool_)
        has_overlap[person[overlaps]] = True
        rows = np.flatnonzero(has_overlap[person])
        before[rows[1:]] = _latest_end(person[rows], ends[rows])[:-1]
    return People(person=person, started_ms=starts, ended_ms=ends, before_ms=before, is_first=is_first)


def _latest_end(person: Ints, ends: Ints) -> Ints:
    """The running maximum of ``ends`` within each person: all laid one after the other on one axis."""
    low = int(ends.min())
    room = int(ends.max()) - low + 1
    latest = ends - low
    several = max(1, _ROOM // room)
    for lowest in range(0, int(person[-1]) + 1, several):
        slot = slice(*np.searchsorted(person, (lowest, lowest + several)))
        shift = (person[slot] - lowest) * room
        latest[slot] = np.maximum.accumulate(latest[slot] + shift) - shift
    return latest + low


def _union(people: People) -> Union:
    begins = people.is_first | (people.started_ms > people.before_ms)
    if begins.all():
        return Union(person=people.person, started_ms=people.started_ms, ended_ms=people.ended_ms)
    at = np.flatnonzero(begins)
    return Union(
        person=people.person[at],
        started_ms=people.started_ms[at],
        ended_ms=np.maximum.reduceat(people.ended_ms, at),
    )


def _distinct(people: People) -> Distinct:
    overlaps = people.before_ms > people.started_ms
    later = ~people.is_first
    overlaps &= later
    later ^= overlaps
    overlapping, silent = np.flatnonzero(overlaps), np.flatnonzero(later)
    silence_starts, silence_ends = people.before_ms[silent], people.started_ms[silent]
    order = order_of(silence_starts)
    return Distinct(
        silence_starts=silence_starts[order],
        silence_ends=silence_ends[order],
        overlapping_starts=np.sort(people.started_ms[overlapping]),
        overlapped_ends=np.sort(np.minimum(people.before_ms[overlapping], people.ended_ms[overlapping])),
    )


def _by_listener(listener: Ints) -> tuple[Ints, Ints]:
    """Listeners numbered from 0, and the order that brings their rows together; those of one keep their order.

    Rows are packed with as much of the key as there is room for and sorted by
    value. Keys are random, so that this much hardly ever confuses two; where
    it does, an argsort of the whole keys helps out.
    """
    size = len(listener)
    if size == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    low = int(listener.min())
    place_bits = max(1, (size - 1).bit_length())
    spare = max(0, (int(listener.max()) - low).bit_length() + place_bits - _USABLE_BITS)
    packed = (listener - low) >> spare << place_bits
    packed |= np.arange(size)
    packed.sort()
    order = packed & ((1 << place_bits) - 1)
    grouped = listener[order]
    is_new = grouped[1:] != grouped[:-1]
    if spare:
        packed >>= place_bits
        if (is_new & (packed[1:] == packed[:-1])).any():
            return _by_whole_key(listener)
    number = np.zeros(size, dtype=np.int64)
    np.cumsum(is_new, out=number[1:])
    return number, order


def _by_whole_key(listener: Ints) -> tuple[Ints, Ints]:
    rough = np.argsort(listener)
    number = np.zeros(len(listener), dtype=np.int64)
    np.cumsum(np.diff(listener[rough]) != 0, out=number[1:])
    packed = number << _PLACE_BITS | rough
    packed.sort()
    return packed >> _PLACE_BITS, packed & ((1 << _PLACE_BITS) - 1)


# The counts --------------------------------------------------------------------------------------


def _audience_by_start(listening: Listening, starts: Ints, ends: Ints) -> dict[str, Ints]:
    """The columns for airings that last and come by start, for listening that is not empty."""
    parts, sweep, hulls = listening.parts, listening.sweep, listening.hulls
    from_start, until_end = sweep.up_to(starts), sweep.before(ends)
    peak, peak_at = _peaks(sweep, from_start, until_end, starts)
    of_parts = sweep.bounds(from_start, starts, until_end, ends)
    all_closed_and_single = parts.is_single and len(hulls.still_open.starts) == 0
    closed = of_parts if all_closed_and_single else hulls.closed.bounds(starts, ends)
    still_open = hulls.still_open.bounds(starts, ends)
    # Sessions whose hull spans the airing but who were silent all through it did not meet it.
    silent = hulls.silences.covering(hulls.silences.bounds(starts, ends), ends)
    begun_before = closed.begun_before_start + still_open.begun_before_start
    inherited = begun_before - closed.ended_by_start - still_open.ended_by_start - silent
    joined = closed.begun_before_end + still_open.begun_before_end - begun_before
    left = closed.ended_by_end - closed.ended_by_start
    stayed_open = still_open.begun_by_start - still_open.ended_by_start
    return {
        "listening_ms": sweep.heard_until(ends, until_end) - sweep.heard_until(starts, from_start),
        "sessions": inherited + joined,
        "listeners": listening.distinct.met(of_parts, starts, ends),
        "peak": peak,
        "peak_at_ms": peak_at,
        "at_start": sweep.running[from_start].astype(np.int64),
        "at_end": sweep.running[until_end].astype(np.int64),
        "inherited": inherited,
        "joined": joined,
        "left": left,
        "kept": inherited + joined - left,
        "stayed": hulls.closed.covering(closed, ends) + stayed_open - silent,
    }


def _peaks(sweep: Sweep, from_start: Ints, until_end: Ints, starts: Ints) -> tuple[Ints, Ints]:
    """The highest concurrency in each airing and its first instant.

    An airing sees the states after its ``from_start``-th to ``until_end``-th
    event. Each state is packed with its place counted backwards, so that one
    range maximum gives the value and the first place of it.
    """
    low, high = int(from_start.min()), int(until_end.max())
    last_place = (1 << _PLACE_BITS) - 1
    states = np.empty(high - low + 2, dtype=np.int64)
    states[:-1] = sweep.running[low : high + 1]
    states <<= _PLACE_BITS
    states[:-1] |= np.arange(last_place, last_place - (high - low + 1), -1)
    states[-1] = 0  # so that the last range may be closed
    bounds = np.empty(2 * len(starts), dtype=np.int64)
    bounds[0::2] = from_start - low
    bounds[1::2] = until_end + 1 - low
    best = np.maximum.reduceat(states, bounds)[0::2]
    peak = best >> _PLACE_BITS
    place = last_place - (best & last_place) + low
    peak_at = np.where(place == from_start, starts, sweep.instant(np.maximum(place - 1, 0)))
    return peak, np.where(peak > 0, peak_at, _NOBODY)


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


def _minutes(starts: Ints, ends: Ints) -> Ints:
    return -((starts - ends) // MINUTE_MS)


def _chunks(counts: Ints) -> Iterable[slice]:
    """Slices of ``counts`` that each sum to about a chunk, a large one alone."""
    done = np.cumsum(counts)
    first = 0
    while first < len(counts):
        so_far = int(done[first] - counts[first])
        stop = max(first + 1, int(np.searchsorted(done, so_far + _CHUNK, side="right")))
        yield slice(first, stop)
        first = stop
