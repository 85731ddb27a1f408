"""Distinct listeners: exact while sessions with comparable keys are kept, else as they were counted in their time."""

from __future__ import annotations

import datetime as dt

import numpy as np

from .. import conf
from ..fields import from_ms, to_ms
from ..kernel import calendar, sketches
from ..kernel.arrays import Ints
from ..kernel.correlate import Listening
from ..models import Cume
from .amounts import UNKNOWN, Count, StandsOn
from .cumes import cume
from .spans import Kind, Span

__all__ = ["are_comparable", "counted_in_its_time", "distinct"]

KINDS = {Kind.DAY: "day", Kind.WEEK: "week", Kind.MONTH: "month"}
"""What the collector counts the listeners of."""


def are_comparable(started_ms: int, ended_ms: int) -> bool:
    """Whether a listener has the same key all through ``[started_ms, ended_ms)``: one period of the secret."""
    settings = conf.get()
    terms = (settings.key_rotation, settings.zone, settings.broadcast_day_start)
    return calendar.period_start(started_ms, *terms) == calendar.period_start(max(started_ms, ended_ms - 1), *terms)


def distinct(listening: Listening, starts_ms: Ints, ends_ms: Ints) -> int:
    """Listeners with a part in one of the stretches, which are disjoint and ascend."""
    place = np.searchsorted(ends_ms, listening.part_started_ms, side="right")
    begins = np.append(starts_ms, np.iinfo(np.int64).max)
    is_met = (begins[place] < listening.part_ended_ms) & (listening.part_ended_ms > listening.part_started_ms)
    return len(np.unique(listening.listener[listening.part_session[is_met]]))


def counted_in_its_time(scope: str, scope_id: int, station_id: int, span: Span, rule_set: str) -> Count:
    """The cume that the collector counted for the station, stream or program.

    Where it counted none of the whole span, the greatest of what lies in it is a lower bound: cumes are never added.
    """
    if span.daypart is not None or not _begins_as_counted(span):
        return UNKNOWN
    kind = KINDS.get(span.kind)
    if kind is not None:
        found = cume(station_id, scope, scope_id, kind=kind, started_ms=span.started_ms, rule_set=rule_set)
        if found is not None:
            stands_on = StandsOn.ROLL_UP if found.estimate.is_exact else StandsOn.SKETCH
            return Count.estimated(found.estimate, found.confidence, stands_on, settled=found.settled)
    inside = Cume.objects.filter(
        station_id=station_id,
        scope=scope,
        scope_id=scope_id,
        rule_set=rule_set,
        started__gte=from_ms(span.started_ms),
        started__lt=from_ms(span.ended_ms),
    )
    whole = _inside(span)
    least = [
        (lower, upper)
        for kind, started, lower, upper in inside.values_list("kind", "started", "lower", "upper")
        if (kind, to_ms(started)) in whole
    ]
    if not least:
        return UNKNOWN
    lower, upper = max(least)
    confidence = None if lower == upper else sketches.CONFIDENCE
    return Count(lower=lower, confidence=confidence, stands_on=StandsOn.ROLL_UP)


def _begins_as_counted(span: Span) -> bool:
    settings = conf.get()
    return span.first is not None and (span.zone, span.day_starts) == (settings.zone.key, settings.broadcast_day_start)


def _inside(span: Span) -> set[tuple[str, int]]:
    """The days, weeks and months that lie in the span as a whole: kind and start."""
    starts: dt.time = span.day_starts
    found = set()
    bounds = (span.zone_info, span.started_ms, span.ended_ms)
    for kind, slots in (
        ("day", calendar.broadcast_days(*bounds, starts=starts)),
        ("week", calendar.weeks(*bounds, starts=starts)),
        ("month", calendar.months(*bounds, starts=starts)),
    ):
        is_whole = (slots.starts_ms >= span.started_ms) & (slots.ends_ms <= span.ended_ms)
        found.update((kind, start) for start in slots.starts_ms[is_whole].tolist())
    return found
