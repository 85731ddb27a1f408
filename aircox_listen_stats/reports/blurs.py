"""Where the listeners of a stream cannot be told apart: now, for technicians, and of a period, for its figures."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Exists, OuterRef, QuerySet

from ..fields import from_ms, to_ms
from ..models import Airing, Blur

__all__ = ["Reason", "StreamBlur", "affects", "now_of", "of_airings", "reasons"]

Reason = Blur.Why

TOLD_APART = frozenset({"cume", "reach", "active_sessions", "started_sessions", "peak", "person_hours", "performances"})
"""Figures that take several listeners for fewer where these share an address: those who listen one after the other
with the same player are one, with one session. Time is counted by sockets, and is right."""

JOINED = TOLD_APART | {"tlh", "aas", "aqh", "aqh_in_one_piece", "elapsed_hours", "ath"}
"""Figures that are too low where the source itself tells of one listener instead of several."""

BY_SOURCE = frozenset({Reason.SOURCE, Reason.SHARED})

LONGEST_AIRING_MS = 24 * 3600 * 1000
"""Of an airing that began in a period, how far it reaches out of it at most."""

SHOWN = dt.timedelta(hours=24)
"""For how long a finding is shown that nothing has confirmed or refuted since: a night without listeners."""


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


def reasons(streams: Iterable[int], slots: Iterable[tuple[int, int]]) -> tuple[Reason, ...]:
    """Why listeners of these streams could not be told apart in some of these stretches, each once.

    The stretches are disjoint and in order, milliseconds on the clock of the listener.
    """
    stretches = [(start_ms, end_ms) for start_ms, end_ms in slots if start_ms < end_ms]
    if not stretches:
        return ()
    touching = _touching(streams, stretches[0][0], stretches[-1][1])
    found = {
        why
        for why, started, ended in touching.values_list("why", "started", "ended")
        if any(start_ms < to_ms(ended) and to_ms(started) < end_ms for start_ms, end_ms in stretches)
    }
    return _in_order(found)


def of_airings(streams: Iterable[int], airings: QuerySet[Airing], started_ms: int, ended_ms: int) -> tuple[Reason, ...]:
    """Why listeners of these streams could not be told apart during some of the airings of that time, each once."""
    then = airings.filter(started__gte=from_ms(started_ms), started__lt=from_ms(ended_ms))
    meets = then.filter(started__lt=OuterRef("ended"), ended__gt=OuterRef("started"))
    touching = _touching(streams, started_ms, ended_ms + LONGEST_AIRING_MS).filter(Exists(meets))
    return _in_order(set(touching.order_by().values_list("why", flat=True).distinct()))


def _touching(streams: Iterable[int], started_ms: int, ended_ms: int) -> QuerySet[Blur]:
    return Blur.objects.filter(stream_id__in=[*streams], started__lt=from_ms(ended_ms), ended__gt=from_ms(started_ms))


def _in_order(found: set[str]) -> tuple[Reason, ...]:
    return tuple(one for one in Reason if one in found)
