"""Connections of a listener, stitched into sessions.

A pure function of the *set* of connections: order of arrival, re-sent batches
and steps in between change nothing. Whatever follows a silence longer than the
gap is stitched afresh, so that a set may be cut there and stitched in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Bools, Ints, order_by, ranges
from .identity import household_keys
from .types import ConnectionSpan, SessionSpan

__all__ = ["GAP_MS", "TWIN_MS", "SessionColumns", "stitch", "stitch_columns"]

GAP_MS = 300_000
"""A longer silence ends a session; this long does not. Milliseconds; every shipped rule-set's."""

TWIN_MS = 10_000
"""What overlaps no longer than this is one listener's: a probe, a twin, a socket
that dies while the next one plays. Milliseconds; measured players probe up to 4 s."""

_ROOM = 1 << 62
"""Times of several listeners are laid end to end on one int64 axis no longer than this."""


# One listener ------------------------------------------------------------------------------------


class _Lane:
    """One member of a household: sessions one after the other, the last one growing."""

    __slots__ = ("ended_ms", "sessions", "sounding")

    def __init__(self) -> None:
        self.sessions: list[list[ConnectionSpan]] = []
        self.sounding: list[ConnectionSpan] = []  # those that may still overlap the next one
        self.ended_ms = 0

    def fits(self, connection: ConnectionSpan, twin_ms: int) -> bool:
        """Whether ``connection`` can be the same ears as this lane's connections."""
        self.sounding = [one for one in self.sounding if one.seen_ms > connection.started_ms]
        return all(_same_ears(one, connection, twin_ms) for one in self.sounding)

    def take(self, connection: ConnectionSpan, gap_ms: int) -> None:
        ended_ms = _end(connection)
        if not self.sessions or connection.started_ms - self.ended_ms > gap_ms:
            self.sessions.append([])
            self.ended_ms = ended_ms
        self.sessions[-1].append(connection)
        self.sounding.append(connection)
        self.ended_ms = max(self.ended_ms, ended_ms)


def stitch(connections: Sequence[ConnectionSpan], *, gap_ms: int = GAP_MS, twin_ms: int = TWIN_MS) -> list[SessionSpan]:
    """The sessions of one listener on one stream, by start, then lane.

    A silence longer than ``gap_ms``, measured from the latest end so far,
    begins a new session; one of exactly ``gap_ms`` does not. A connection that
    overlaps another by more than ``twin_ms`` is another member of the
    household and gets a lane of its own, unless both begin and end within
    ``twin_ms`` of each other. It goes on in the lane that was heard last, else
    in the lowest free one. An open connection ends, so far, where it was last
    seen. Empty connections bridge gaps but are no part, and the hull is that of
    the parts; a session of nothing else is one empty part.
    """
    lanes: list[_Lane] = []
    for connection in sorted(connections, key=lambda one: (one.started_ms, one.key)):
        lane = _lane_for(connection, lanes, gap_ms, twin_ms)
        if lane is None:
            lane = _Lane()
            lanes.append(lane)
        lane.take(connection, gap_ms)
    spans = [_span(group, number) for number, lane in enumerate(lanes) for group in lane.sessions]
    return sorted(spans, key=lambda span: (span.started_ms, span.lane))


def _end(connection: ConnectionSpan) -> int:
    """The end so far; a clock that went back makes an empty connection, never a negative one."""
    return max(connection.started_ms, connection.seen_ms)


def _same_ears(one: ConnectionSpan, other: ConnectionSpan, twin_ms: int) -> bool:
    overlap_ms = min(_end(one), _end(other)) - max(one.started_ms, other.started_ms)
    return overlap_ms <= twin_ms or (
        abs(one.started_ms - other.started_ms) <= twin_ms and abs(_end(one) - _end(other)) <= twin_ms
    )


def _lane_for(connection: ConnectionSpan, lanes: Sequence[_Lane], gap_ms: int, twin_ms: int) -> _Lane | None:
    free = [lane for lane in lanes if lane.fits(connection, twin_ms)]
    going_on = [lane for lane in free if connection.started_ms - lane.ended_ms <= gap_ms]
    if going_on:
        return max(going_on, key=lambda lane: lane.ended_ms)  # the first of equals
    return free[0] if free else None


def _span(group: Sequence[ConnectionSpan], lane: int) -> SessionSpan:
    parts = _union((one.started_ms, _end(one)) for one in group)
    return SessionSpan(
        started_ms=parts[0][0],
        ended_ms=parts[-1][1],
        played_ms=sum(end - start for start, end in parts),
        parts=parts,
        is_open=any(one.is_open for one in group),
        lane=lane,
        keys=tuple(one.key for one in group),
    )


def _union(intervals: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The union of intervals that come by start, touching ones merged; the last instant if all are empty."""
    union: list[tuple[int, int]] = []
    instant = 0
    for start, end in intervals:
        instant = start
        if start == end:
            continue
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return tuple(union) or ((instant, instant),)


# Many listeners ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SessionColumns:
    """Sessions as columns, by start, then listener.

    Session ``i`` has the parts ``first_part[i]`` to ``first_part[i + 1]``
    (which has one element more than there are sessions), absolute, disjoint
    and sorted. ``listener`` has the lane mixed in.
    """

    listener: Ints
    lane: Ints
    started_ms: Ints
    ended_ms: Ints
    played_ms: Ints
    first_part: Ints
    part_started_ms: Ints
    part_ended_ms: Ints
    first_row: Ints  # where the session's first connection stood in the given columns
    connections: Ints  # how many it was made of

    def __len__(self) -> int:
        return len(self.listener)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """Connections by listener, start, end; ``axis`` is where a listener's time begins on the common axis."""

    listener: Ints
    started_ms: Ints
    ended_ms: Ints
    row: Ints
    cluster: Ints  # 0, 1, … : stretches of one listener without a silence longer than the gap
    first: Ints  # the first row of each cluster
    is_plain: Bools  # of each cluster: nothing in it overlaps beyond a twin's length


def stitch_columns(
    listener: Ints, started_ms: Ints, ended_ms: Ints, *, gap_ms: int = GAP_MS, twin_ms: int = TWIN_MS
) -> SessionColumns:
    """The sessions of many listeners on one stream: what :func:`stitch` gives for each, all closed.

    Connections that begin together are taken by end. Listeners whose
    connections do not overlap, nearly all, are stitched by array sweeps; the
    others, cluster by cluster, by :func:`stitch`.
    """
    if len(listener) == 0:
        return _columns([])
    rows = _clustered(
        np.asarray(listener, dtype=np.int64),
        np.asarray(started_ms, dtype=np.int64),
        np.asarray(ended_ms, dtype=np.int64),
        gap_ms,
        twin_ms,
    )
    return _columns([_plain_sessions(rows), *_household_sessions(rows, gap_ms, twin_ms)])


def _clustered(listener: Ints, started_ms: Ints, ended_ms: Ints, gap_ms: int, twin_ms: int) -> _Rows:
    order = order_by(ended_ms, started_ms, listener)
    listener, started_ms = listener[order], started_ms[order]
    ended_ms = np.maximum(ended_ms[order], started_ms)
    is_new = np.empty(len(order), dtype=np.bool_)
    overlaps = np.zeros(len(order), dtype=np.bool_)
    # The next listener begins further on than any gap reaches, so that one running maximum serves all.
    low = int(started_ms.min())
    room = int(ended_ms.max()) - low + gap_ms + 1
    person = np.cumsum(np.concatenate(([0], listener[1:] != listener[:-1])))
    several = max(1, _ROOM // room)
    for first in range(0, int(person[-1]) + 1, several):
        slot = slice(*np.searchsorted(person, (first, first + several)))
        shift = (person[slot] - first) * room - low
        starts, ends = started_ms[slot] + shift, ended_ms[slot] + shift
        latest = np.maximum.accumulate(ends)[:-1]
        is_new[slot] = np.concatenate(([True], starts[1:] - latest > gap_ms))
        overlaps[slot] = np.concatenate(([False], np.minimum(latest, ends[1:]) - starts[1:] > twin_ms))
    first_rows = np.flatnonzero(is_new)
    return _Rows(
        listener=listener,
        started_ms=started_ms,
        ended_ms=ended_ms,
        row=order,
        cluster=np.cumsum(is_new) - 1,
        first=first_rows,
        is_plain=~np.logical_or.reduceat(overlaps, first_rows),
    )


def _plain_sessions(rows: _Rows) -> SessionColumns:
    """One session in lane 0 of each plain cluster."""
    counts = np.diff(np.append(rows.first, len(rows.row)))[rows.is_plain]
    first = rows.first[rows.is_plain]
    at = ranges(first, counts)
    owner = np.repeat(np.arange(len(first)), counts)
    starts, ends = rows.started_ms[at], rows.ended_ms[at]
    heard = ends > starts
    # A cluster of nothing but empty connections keeps its last one.
    silent = np.ones(len(first), dtype=np.bool_)
    silent[owner[heard]] = False
    last = np.cumsum(counts) - 1
    heard[last[silent]] = True
    owner, starts, ends = owner[heard], starts[heard], ends[heard]
    part = _part_starts(owner, starts, ends)
    first_part = np.searchsorted(owner[part], np.arange(len(first) + 1))
    part_started, part_ended = starts[part], np.maximum.reduceat(ends, part) if len(part) else ends
    played = np.add.reduceat(part_ended - part_started, first_part[:-1]) if len(part) else ends
    return SessionColumns(
        listener=rows.listener[first],
        lane=np.zeros(len(first), dtype=np.int64),
        started_ms=part_started[first_part[:-1]],
        ended_ms=part_ended[first_part[1:] - 1],
        played_ms=played,
        first_part=first_part,
        part_started_ms=part_started,
        part_ended_ms=part_ended,
        first_row=rows.row[first],
        connections=counts,
    )


def _part_starts(owner: Ints, starts: Ints, ends: Ints) -> Ints:
    """Where a part begins: beyond the latest end so far of the same owner."""
    if len(owner) == 0:
        return owner
    low, room = int(starts.min()), int(ends.max()) - int(starts.min()) + 1
    begins = np.ones(len(owner), dtype=np.bool_)
    several = max(1, _ROOM // room)
    for first in range(0, int(owner[-1]) + 1, several):
        slot = slice(*np.searchsorted(owner, (first, first + several)))
        shift = (owner[slot] - first) * room - low
        latest = np.maximum.accumulate(ends[slot] + shift)[:-1]
        begins[slot] = np.concatenate(([True], starts[slot][1:] + shift[1:] > latest))
    return np.flatnonzero(begins)


def _household_sessions(rows: _Rows, gap_ms: int, twin_ms: int) -> list[SessionColumns]:
    """The sessions of the clusters in which something overlaps, as one block of columns."""
    stops = np.append(rows.first[1:], len(rows.row))
    spans: list[SessionSpan] = []
    for first, stop in zip(rows.first[~rows.is_plain].tolist(), stops[~rows.is_plain].tolist(), strict=True):
        times = zip(rows.started_ms[first:stop].tolist(), rows.ended_ms[first:stop].tolist(), strict=True)
        spans += stitch(
            [
                ConnectionSpan(key=f"{first + place:012d}", started_ms=start, seen_ms=end, is_open=False)
                for place, (start, end) in enumerate(times)
            ],
            gap_ms=gap_ms,
            twin_ms=twin_ms,
        )
    if not spans:
        return []
    first_rows = np.array([int(span.keys[0]) for span in spans])
    parts = np.array([part for span in spans for part in span.parts], dtype=np.int64)
    lane = np.array([span.lane for span in spans])
    return [
        SessionColumns(
            listener=household_keys(rows.listener[first_rows], lane),
            lane=lane,
            started_ms=np.array([span.started_ms for span in spans]),
            ended_ms=np.array([span.ended_ms for span in spans]),
            played_ms=np.array([span.played_ms for span in spans]),
            first_part=np.cumsum([0, *(len(span.parts) for span in spans)]),
            part_started_ms=parts[:, 0],
            part_ended_ms=parts[:, 1],
            first_row=rows.row[first_rows],
            connections=np.array([len(span.keys) for span in spans]),
        )
    ]


def _columns(blocks: Sequence[SessionColumns]) -> SessionColumns:
    """The blocks as one, by start, then listener."""

    def column(name: str) -> Ints:
        return np.concatenate([np.empty(0, dtype=np.int64), *(getattr(block, name) for block in blocks)])

    counts = np.concatenate([np.empty(0, dtype=np.int64), *(np.diff(block.first_part) for block in blocks)])
    first_part = np.cumsum(counts) - counts
    listener, started_ms = column("listener"), column("started_ms")
    order = order_by(listener, started_ms)
    parts = ranges(first_part[order], counts[order])
    return SessionColumns(
        listener=listener[order],
        lane=column("lane")[order],
        started_ms=started_ms[order],
        ended_ms=column("ended_ms")[order],
        played_ms=column("played_ms")[order],
        first_part=np.concatenate(([0], np.cumsum(counts[order]))),
        part_started_ms=column("part_started_ms")[parts],
        part_ended_ms=column("part_ended_ms")[parts],
        first_row=column("first_row")[order],
        connections=column("connections")[order],
    )
