"""Where the listeners of a stream cannot be told apart: now, for technicians, and of a period, for its figures."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from ..fields import from_ms
from ..models import Blur

__all__ = ["Reason", "StreamBlur", "now_of", "reasons"]

Reason = Blur.Why

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


def reasons(streams: Iterable[int], started_ms: int, ended_ms: int) -> tuple[Reason, ...]:
    """Why listeners of these streams could not be told apart in some of ``[started_ms, ended_ms)``, each once."""
    touching = Blur.objects.filter(
        stream_id__in=[*streams], started__lt=from_ms(ended_ms), ended__gt=from_ms(started_ms)
    )
    found = set(touching.order_by().values_list("why", flat=True).distinct())
    return tuple(one for one in Reason if one in found)
