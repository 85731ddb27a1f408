"""When the streams were really observed, and when nobody knows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..fields import from_ms, to_ms
from ..models import Coverage, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedStream:
    """A stream that listeners are counted on, and how late they hear the studio."""

    id: int
    title: str
    delay_ms: int
    is_active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A stretch in which some stream, or (``is_total``) every stream, was not observed."""

    started: dt.datetime
    ended: dt.datetime
    is_total: bool


def streams(station_id: int) -> tuple[ObservedStream, ...]:
    """The streams of a station, by slug, those that are switched off too: they had listeners once."""
    rows = Stream.objects.of(station_id).values_list("id", "title", "slug", "delay_ms", "active")
    return tuple(
        ObservedStream(id=key, title=title or slug, delay_ms=delay, is_active=active)
        for key, title, slug, delay, active in rows
    )


def gaps(streams: Sequence[ObservedStream], started_ms: int, ended_ms: int) -> tuple[Gap, ...]:
    """What was not observed of ``[started_ms, ended_ms)`` on the clock of the studio, in order.

    A stream that is switched off and was not observed at all in it is not missed.
    """
    if ended_ms <= started_ms:
        return ()
    found_spans = intervals(streams, started_ms, ended_ms)
    seen = {one.id: found_spans[one.id] for one in streams if one.is_active or found_spans[one.id]}
    edges = {started_ms, ended_ms}
    for spans in seen.values():
        edges.update(edge for span in spans for edge in span)
    found: list[tuple[int, int, bool]] = []
    for left, right in pairwise(sorted(edge for edge in edges if started_ms <= edge <= ended_ms)):
        heard = sum(any(a <= left and right <= b for a, b in spans) for spans in seen.values())
        if seen and heard == len(seen):
            continue
        is_total = heard == 0
        if found and found[-1][1] == left and found[-1][2] == is_total:
            found[-1] = (found[-1][0], right, is_total)
        else:
            found.append((left, right, is_total))
    return tuple(Gap(started=from_ms(a), ended=from_ms(b), is_total=total) for a, b, total in found)


def intervals(
    streams: Sequence[ObservedStream], started_ms: int, ended_ms: int, *, by_totals_too: bool = False
) -> dict[int, list[tuple[int, int]]]:
    """The observed stretches of each stream within the window, disjoint and sorted, on the studio's clock.

    ``by_totals_too``: also those in which it is known how many listened, and of nobody who.
    """
    latest = max((stream.delay_ms for stream in streams), default=0)
    rows = (
        Coverage.objects.filter(stream__in=[stream.id for stream in streams])
        .filter(ended__gt=started_ms, started__lt=ended_ms + latest)
        .filter(totals_only__in=[False, by_totals_too])
        .order_by("started")
        .values_list("stream_id", "started", "ended")
    )
    delays = {stream.id: dt.timedelta(milliseconds=stream.delay_ms) for stream in streams}
    seen: dict[int, list[tuple[int, int]]] = {stream.id: [] for stream in streams}
    for stream_id, started, ended in rows:
        left, right = to_ms(started - delays[stream_id]), to_ms(ended - delays[stream_id])
        left, right = max(left, started_ms), min(right, ended_ms)
        spans = seen[stream_id]
        if right <= left:
            continue
        if spans and left <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], right))
        else:
            spans.append((left, right))
    return seen
