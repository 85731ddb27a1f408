"""Where the listeners of a stream cannot be told apart: now, for technicians, and of a period, for its figures."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt
from django.db.models import QuerySet

from ..fields import from_ms, to_ms
from ..kernel.arrays import Ints
from ..models import Airing, Blur

__all__ = [
    "Blurred",
    "Reason",
    "Sense",
    "StreamBlur",
    "Times",
    "affecting",
    "affects",
    "in_order",
    "now_of",
    "of_airings",
    "read",
    "reasons",
    "reasons_cell",
    "sense_of",
    "together",
    "within",
]

Reason = Blur.Why

TOLD_APART = frozenset(
    {"cume", "reach", "active_sessions", "started_sessions", "peak", "person_hours", "performances"}
    | {"listeners", "sessions", "joined", "left", "at_start", "at_end"}  # of an airing
)
"""Figures that take several listeners for fewer where these share an address: those who listen one after the other
with the same player are one, with one session. Time is counted by sockets, and is right.

Who was already there, listened on or stayed is no bound either way: of two sessions that are taken for one, the
second seems to have been there before.
"""

JOINED = TOLD_APART | {"tlh", "aas", "aqh", "aqh_in_one_piece", "elapsed_hours", "ath", "listening_hours", "average"}
"""Figures that are too low where the source itself tells of one listener instead of several."""

PER_HEAD = frozenset({"atsl_seconds", "tsl_seconds"})
"""Averages by listener or session: too great where these are too few, and nobody knows where the time is too."""

BY_SOURCE = frozenset({Reason.SOURCE, Reason.SHARED})

LONGEST_AIRING_MS = 24 * 3600 * 1000
"""Of an airing that began in a period, how far it reaches out of it at most."""

SHOWN = dt.timedelta(hours=24)
"""For how long a finding is shown that nothing has confirmed or refuted since: a night without listeners."""


class Sense(StrEnum):
    """What a change says where listeners could not be told apart on one side of it, or on both."""

    PLAIN = ""
    AT_LEAST = "at_least"  # now there may have been more
    AT_MOST = "at_most"  # before there may have been more
    COUNTED = "counted"  # of what was counted alone: both may have been more, nobody knows which by more


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamBlur:
    """What is found of a stream: ``most`` of ``compared`` are behind one address, or have none of their own.

    Both are None where the source itself takes several listeners for one.
    """

    stream_id: int
    why: Reason
    started: dt.datetime
    ended: dt.datetime
    most: int | None
    compared: int | None


def now_of(streams: Iterable[int], *, now: dt.datetime) -> list[StreamBlur]:
    """What was last found of these streams and still stands, by stream."""
    found = Blur.objects.filter(stream_id__in=[*streams], is_open=True, ended__gt=now - SHOWN)
    return [
        StreamBlur(
            stream_id=one.stream_id,
            why=Reason(one.why),
            started=one.started,
            ended=one.ended,
            most=one.most,
            compared=one.compared,
        )
        for one in found.order_by("stream_id", "why")
    ]


def affects(why: Reason, figure: str) -> bool:
    """Whether a figure of that name is a lower bound for that reason."""
    return figure in (JOINED if why in BY_SOURCE else TOLD_APART)


def affecting(because: Iterable[Reason], figure: str) -> tuple[Reason, ...]:
    """Those of the reasons for which a figure of that name is a lower bound."""
    return tuple(why for why in because if affects(why, figure))


def in_order(found: Collection[str]) -> tuple[Reason, ...]:
    """These reasons, each once, in the order in which they are told."""
    return tuple(one for one in Reason if one in found)


def together(told: Iterable[Iterable[Reason]]) -> tuple[Reason, ...]:
    """The reasons of several lines or periods, each once."""
    return in_order({why for because in told for why in because})


def reasons_cell(because: Iterable[str]) -> str | None:
    """Reasons as a cell of a table has them."""
    return " ".join(because) or None


def sense_of(change: float | None, figure: str, now: Collection[Reason], before: Collection[Reason]) -> Sense:
    """What a change of that figure says, with the reasons why listeners could not be told apart now and before."""
    if change is None:
        return Sense.PLAIN
    if figure in PER_HEAD:
        if BY_SOURCE.intersection((*now, *before)):
            return Sense.COUNTED
        now, before = before, now  # they are at most what is counted
        is_more, was_more = bool(now), bool(before)
    else:
        is_more, was_more = bool(affecting(now, figure)), bool(affecting(before, figure))
    if is_more and was_more:
        return Sense.COUNTED
    return Sense.AT_LEAST if is_more else Sense.AT_MOST if was_more else Sense.PLAIN


# Many lines at once ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Times:
    """When listeners could not be told apart: by reason the starts of its stretches in order, and with each the
    latest end of all that began by then.
    """

    stretches: Mapping[Reason, tuple[Ints, Ints]]

    @classmethod
    def of(cls, found: Iterable[tuple[str, int, int]]) -> Times:
        """From reasons with the bounds of a stretch in milliseconds, in any order."""
        told = sorted(found, key=lambda one: one[1])
        by_reason = {}
        for why in in_order({why for why, _, _ in told}):
            mine = np.array([bounds for one, *bounds in told if one == why], dtype=np.int64)
            by_reason[why] = (mine[:, 0], np.maximum.accumulate(mine[:, 1]))
        return cls(stretches=by_reason)

    def during(self, starts: npt.ArrayLike, ends: npt.ArrayLike) -> tuple[Reason, ...]:
        """Why not in any of these stretches, in milliseconds; of an empty one nothing."""
        return tuple(why for why, meets in self._meets(starts, ends).items() if meets.any())

    def each(self, starts: npt.ArrayLike, ends: npt.ArrayLike) -> list[tuple[Reason, ...]]:
        """Why not in each of these stretches."""
        found = {why: meets.tolist() for why, meets in self._meets(starts, ends).items()}
        count = len(np.asarray(starts))
        return [tuple(why for why, meets in found.items() if meets[place]) for place in range(count)]

    def _meets(self, starts: npt.ArrayLike, ends: npt.ArrayLike) -> dict[Reason, npt.NDArray[np.bool_]]:
        first, last = np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64)
        found = {}
        for why, (begun, reached) in self.stretches.items():
            before = np.searchsorted(begun, last, side="left")  # of them, those that began before its end
            found[why] = (before > 0) & (reached[np.maximum(before - 1, 0)] > first) & (first < last)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Blurred:
    """Every stretch of some time in which listeners of a stream could not be told apart. They are few, and read once.

    ``found``: station, stream, reason, and the bounds in milliseconds. ``of``: the time of which it is every one.
    """

    found: Sequence[tuple[int, int, str, int, int]] = ()
    of: tuple[int, int] = (0, 0)

    def __bool__(self) -> bool:
        return bool(self.found)

    def reaches(self, started_ms: int, ended_ms: int) -> bool:
        """Whether it tells of all of that time."""
        return self.of[0] <= started_ms and ended_ms <= self.of[1]

    @cached_property
    def of_stations(self) -> Mapping[int, Times]:
        """By station, of all of its streams, those that are blurred at all."""
        return {key: Times.of(one[2:] for one in self.found if one[0] == key) for key in {one[0] for one in self.found}}

    @cached_property
    def of_streams(self) -> Mapping[int, Times]:
        """By stream, likewise."""
        return {key: Times.of(one[2:] for one in self.found if one[1] == key) for key in {one[1] for one in self.found}}

    def of_station(self, number: int) -> Times:
        """Of all streams of that station together."""
        return self.of_stations.get(number, NEVER)

    def of_stream(self, number: int) -> Times:
        return self.of_streams.get(number, NEVER)

    def each(self, stations: Sequence[int], starts: npt.ArrayLike, ends: npt.ArrayLike) -> list[tuple[Reason, ...]]:
        """Why not in each of these stretches, of all streams of the station beside it."""
        told = {key: times.each(starts, ends) for key, times in self.of_stations.items()}
        return [told[key][place] if key in told else () for place, key in enumerate(stations)]


NEVER = Times(stretches={})


def within(started_ms: int, ended_ms: int) -> QuerySet[Blur]:
    """What is found of that time, of any stream."""
    return Blur.objects.filter(started__lt=from_ms(ended_ms), ended__gt=from_ms(started_ms))


def read(started_ms: int, ended_ms: int, *, station_id: int | None = None) -> Blurred:
    """What is found of that time, of every stream of the station, or of all stations; in one query."""
    found = within(started_ms, ended_ms)
    if station_id is not None:
        found = found.filter(stream__station_id=station_id)
    columns = found.values_list("stream__station_id", "stream_id", "why", "started", "ended")
    return Blurred(
        found=[(*key, to_ms(started), to_ms(ended)) for *key, started, ended in columns], of=(started_ms, ended_ms)
    )


# One scope ---------------------------------------------------------------------------------------


def reasons(streams: Iterable[int], slots: Iterable[tuple[int, int]]) -> tuple[Reason, ...]:
    """Why listeners of these streams could not be told apart in some of these stretches, each once.

    The stretches are disjoint and in order, milliseconds on the clock of the listener.
    """
    stretches = [(start_ms, end_ms) for start_ms, end_ms in slots if start_ms < end_ms]
    if not stretches:
        return ()
    starts, ends = zip(*stretches, strict=True)
    return _touching(streams, starts[0], ends[-1]).during(starts, ends)


def of_airings(streams: Iterable[int], airings: QuerySet[Airing], starts: Ints, ends: Ints) -> tuple[Reason, ...]:
    """Why listeners of these streams could not be told apart during some of the airings that began in these stretches.

    The stretches are disjoint and in order; one query, and a second where there is anything to look for.
    """
    if not len(starts):
        return ()
    times = _touching(streams, int(starts[0]), int(ends[-1]) + LONGEST_AIRING_MS)
    if not times.stretches:
        return ()
    then = airings.filter(started__gte=from_ms(int(starts[0])), started__lt=from_ms(int(ends[-1])))
    bounds = [(to_ms(started), to_ms(ended)) for started, ended in then.values_list("started", "ended")]
    began, over = np.array(bounds, dtype=np.int64).reshape(-1, 2).T
    place = np.searchsorted(starts, began, side="right") - 1
    is_inside = began < ends[place]
    return times.during(began[is_inside], over[is_inside])


def _touching(streams: Iterable[int], started_ms: int, ended_ms: int) -> Times:
    found = Blur.objects.filter(
        stream_id__in=[*streams], started__lt=from_ms(ended_ms), ended__gt=from_ms(started_ms)
    ).values_list("why", "started", "ended")
    return Times.of((why, to_ms(started), to_ms(ended)) for why, started, ended in found)
