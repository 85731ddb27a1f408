"""What web players tell of themselves, as stretches that were really played.

A player tells when something begins (playing, paused, buffering, stopped, a
seek) and, while it plays, that it still does. Nothing that it tells has an
end: an event ends where the next one begins, where the recording is over, or
where nothing more was heard. Every function is one of the *set* of events: it
may be asked again at any time, with late events among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import zip_longest

from .types import MS

__all__ = [
    "LATENESS_MS",
    "LONGEST_MS",
    "SILENCE_MS",
    "Closing",
    "Listening",
    "Played",
    "PlayerSpan",
    "PlayerState",
    "Told",
    "VisitSession",
    "close",
    "devices",
    "in_step",
    "played",
    "visit_sessions",
]

LONGEST_MS = 4 * 3600 * MS
"""Playing that is told of once lasts no longer (openbroadcast). Who says that it goes on, goes on."""

STUB_MS = 1 * MS
"""A stored end so near to the start was written before the end was known (openbroadcast)."""

SILENCE_MS = 90 * MS
"""Three heartbeats: a player that is silent for longer was abandoned when it was last heard."""

LATENESS_MS = 30 * MS
"""What a player tells may be so old when it arrives; its age is believed no further."""


class PlayerState(StrEnum):
    """What a player tells."""

    PLAYING = "playing"
    PAUSED = "paused"
    STOPPED = "stopped"
    BUFFERING = "buffering"
    SEEK = "seek"  # goes on from elsewhere in the recording
    HEARTBEAT = "heartbeat"  # plays still


# Ends ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayerSpan:
    """An event of one player. ``max_ms`` is what is left of the recording; None where that is not known."""

    at_ms: int
    is_playing: bool
    ended_ms: int | None = None  # as it was stored before
    max_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The end of each event, None while it is open, and how many ends were found in which way."""

    ended_ms: tuple[int | None, ...]
    counts: Mapping[str, int]  # events, open_playing, by_next, by_duration, shortened, lengthened


def close(events: Sequence[PlayerSpan], *, now_ms: int) -> Closing:
    """The ends of one player's events, which come by time.

    *By the next one*: whatever has no end ends where the next event begins,
    playing at the latest with the recording. *By duration*: playing without a
    next one ends with the recording once that is past. *Shortened*: playing
    that was stored as running past the next event. *Lengthened*: playing that
    was stored as a second or less and went on until the next event, again no
    further than the recording. Playing never lasts more than LONGEST_MS; what
    does not play has no bound.

    openbroadcast's passes look for the next event among the open ones alone
    and lengthen without a bound; here it is the next of all, and bounded.
    """
    counts: Counter[str] = Counter(events=len(events))
    counts["open_playing"] = sum(one.is_playing and one.ended_ms is None for one in events)
    pairs = zip_longest(events, (one.at_ms for one in events[1:]))
    ends = tuple(_end(one, next_ms, now_ms, counts) for one, next_ms in pairs)
    return Closing(ended_ms=ends, counts=counts)


def _end(one: PlayerSpan, next_ms: int | None, now_ms: int, counts: Counter[str]) -> int | None:
    if not one.is_playing:
        if one.ended_ms is not None or next_ms is None:
            return one.ended_ms
        counts["by_next"] += 1
        return next_ms
    limit_ms = one.at_ms + min(LONGEST_MS, LONGEST_MS if one.max_ms is None else max(0, one.max_ms))
    bound_ms = limit_ms if next_ms is None else min(next_ms, limit_ms)
    if one.ended_ms is None:
        if next_ms is None and now_ms <= limit_ms:
            return None
        counts["by_duration" if next_ms is None else "by_next"] += 1
        return bound_ms
    if one.ended_ms > bound_ms:
        counts["shortened"] += 1
        return bound_ms
    is_stub = one.ended_ms - one.at_ms <= STUB_MS and next_ms is not None and next_ms - one.at_ms > STUB_MS
    if is_stub and bound_ms > one.ended_ms:
        counts["lengthened"] += 1
        return bound_ms
    return max(one.ended_ms, one.at_ms)


# Playing -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One thing that a player told, by our clock.

    ``medium`` names what it is about (a stream, a recording). ``position_ms``
    and ``duration_ms`` are those of a recording, None where they are not known.
    """

    sequence: int
    state: PlayerState
    at_ms: int
    medium: tuple[str, int]
    position_ms: int | None = None
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A stretch of time in which one medium was played without a pause.

    While ``is_open``, ``ended_ms`` is when it was last heard of. ``sequence``
    is the event's that began it: with the player it names the stretch for ever.
    """

    sequence: int
    medium: tuple[str, int]
    started_ms: int
    ended_ms: int
    is_open: bool = False


def in_step(told: Sequence[Told]) -> list[Told]:
    """What was told, by the player's own count; time stands still where it would go back."""
    ordered: list[Told] = []
    latest_ms = 0
    for one in sorted(told, key=lambda one: one.sequence):
        latest_ms = max(latest_ms, one.at_ms)
        ordered.append(one if one.at_ms == latest_ms else replace(one, at_ms=latest_ms))
    return ordered


def played(told: Sequence[Told], *, now_ms: int) -> list[Played]:
    """The stretches in which one player played, by start; empty ones are none.

    A heartbeat says that it plays; a seek changes nothing of whether it does.
    A silence of more than SILENCE_MS is not believed to have been filled:
    playing then ended when it was last heard of, or with a recording of which
    no more was left, and begins anew with the next heartbeat.
    """
    events = in_step(told)
    begun: list[Told] = []
    ended: list[int | None] = []  # of each the end so far: one that an event goes on with is not made anew
    last_ms = 0
    for one, is_playing, ended_ms in zip(events, _plays(events), closing(events, now_ms=now_ms).ended_ms, strict=True):
        if not is_playing:
            continue
        last_ms = one.at_ms
        if begun and begun[-1].medium == one.medium and ended[-1] == one.at_ms:
            ended[-1] = ended_ms
        else:
            begun.append(one)
            ended.append(ended_ms)
    return [
        Played(
            sequence=one.sequence,
            medium=one.medium,
            started_ms=one.at_ms,
            ended_ms=last_ms if ended_ms is None else ended_ms,
            is_open=ended_ms is None,
        )
        for one, ended_ms in zip(begun, ended, strict=True)
        if ended_ms is None or ended_ms > one.at_ms
    ]


def closing(events: Sequence[Told], *, now_ms: int) -> Closing:
    """How each event of a player ends, and in which way; they come :func:`in_step`."""
    spans = [
        PlayerSpan(at_ms=one.at_ms, is_playing=is_playing, max_ms=_left_ms(one, after, now_ms) if is_playing else None)
        for one, is_playing, after in zip_longest(events, _plays(events), events[1:])
    ]
    return close(spans, now_ms=now_ms)


def _plays(events: Sequence[Told]) -> list[bool]:
    """Whether the player plays from each event on."""
    plays: list[bool] = []
    for one in events:
        if one.state is PlayerState.SEEK:
            plays.append(bool(plays and plays[-1]))
        else:
            plays.append(one.state in (PlayerState.PLAYING, PlayerState.HEARTBEAT))
    return plays


def _left_ms(one: Told, after: Told | None, now_ms: int) -> int | None:
    """How long it may have gone on playing; None without a bound.

    What is left of the recording, where that is over before a silence would
    be too long; else nothing, where it fell silent. As long as that is not
    known it plays still, so that what has ended never ends otherwise later.
    """
    left_ms = None
    if one.position_ms is not None and one.duration_ms is not None and one.duration_ms >= MS:
        left_ms = max(0, one.duration_ms - one.position_ms)
    if left_ms is not None and left_ms <= SILENCE_MS:
        return left_ms
    if after is None:
        return 0 if now_ms - one.at_ms > SILENCE_MS + LATENESS_MS else None
    return 0 if after.at_ms - one.at_ms > SILENCE_MS else left_ms


# Visits --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A closed stretch of one listener on one device."""

    listener: int
    device: int
    started_ms: int
    ended_ms: int
    is_live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitSession:
    """Listening without a silence longer than the gap, live and on demand kept apart.

    Each of the three times is a union: what overlaps counts once, so that
    ``played_ms`` is never more than ``elapsed_ms``.
    """

    listener: int
    device: int
    started_ms: int
    ended_ms: int
    live_ms: int
    on_demand_ms: int
    played_ms: int

    @property
    def elapsed_ms(self) -> int:
        return self.ended_ms - self.started_ms


def visit_sessions(listening: Sequence[Listening], *, gap_ms: int) -> list[VisitSession]:
    """The sessions of every listener and device, by start, listener and device.

    A silence longer than ``gap_ms`` after the latest end so far begins a new
    one; exactly as long does not.
    """
    groups: list[list[Listening]] = []
    latest_ms = 0
    for one in sorted(listening, key=lambda one: (one.listener, one.device, one.started_ms, one.ended_ms)):
        last = groups[-1][-1] if groups else None
        is_other = last is None or (last.listener, last.device) != (one.listener, one.device)
        if is_other or one.started_ms - latest_ms > gap_ms:
            groups.append([])
            latest_ms = one.ended_ms
        groups[-1].append(one)
        latest_ms = max(latest_ms, one.ended_ms)
    sessions = [_session(group) for group in groups]
    return sorted(sessions, key=lambda one: (one.started_ms, one.listener, one.device))


def devices(hulls: Sequence[tuple[int, int]], *, overlap_ms: int) -> list[int]:
    """A device for each page that one listener had open, from when to when it was heard: 0 is the first.

    Pages that follow each other are one device (a page that was loaded anew);
    pages that are heard together for longer than ``overlap_ms`` are two.
    """
    found = [0] * len(hulls)
    ends: list[int] = []
    for place in sorted(range(len(hulls)), key=lambda place: hulls[place]):
        started_ms, ended_ms = hulls[place]
        free = [device for device, end_ms in enumerate(ends) if end_ms - started_ms <= overlap_ms]
        device = max(free, key=lambda device: ends[device], default=len(ends))
        if device == len(ends):
            ends.append(ended_ms)
        ends[device] = max(ends[device], ended_ms)
        found[place] = device
    return found


def _session(group: Sequence[Listening]) -> VisitSession:
    return VisitSession(
        listener=group[0].listener,
        device=group[0].device,
        started_ms=group[0].started_ms,
        ended_ms=max(one.ended_ms for one in group),
        live_ms=_union_ms(one for one in group if one.is_live),
        on_demand_ms=_union_ms(one for one in group if not one.is_live),
        played_ms=_union_ms(group),
    )


def _union_ms(listening: Iterable[Listening]) -> int:
    """The length of the union of stretches that come by start."""
    total_ms = 0
    latest_ms: int | None = None
    for one in listening:
        begins_ms = one.started_ms if latest_ms is None else max(latest_ms, one.started_ms)
        total_ms += max(0, one.ended_ms - begins_ms)
        latest_ms = max(begins_ms, one.ended_ms)
    return total_ms
