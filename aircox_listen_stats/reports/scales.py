"""Round numbers beside a drawing, and round times under it."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator

TICKS = 4
"""Steps of a scale at most: more crowd a phone."""

TIME_STEPS_MINUTES = (5, 10, 15, 30, 60, 120, 180, 240, 360)
"""Distances between the times under a curve that people find round."""

TIME_LABELS = 5
"""Times under a curve at most."""

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def round_scale(highest: float) -> tuple[int, int]:
    """The top of a scale that holds ``highest``, and its step: whole and round numbers."""
    step = _round_up(max(highest, 1) / TICKS)
    return step * max(1, math.ceil(highest / step)), step


def time_step(minutes: float) -> int:
    """Minutes between the times under a drawing of that length."""
    return next((one for one in TIME_STEPS_MINUTES if minutes / one <= TIME_LABELS), TIME_STEPS_MINUTES[-1])


def round_times(started: dt.datetime, ended: dt.datetime) -> Iterator[dt.datetime]:
    """Round times in ``[started, ended)``; round on the clock of a zone too where that is whole hours off."""
    distance = dt.timedelta(minutes=time_step((ended - started) / dt.timedelta(minutes=1)))
    at = EPOCH + -(-(started - EPOCH) // distance) * distance
    while at < ended:
        yield at
        at += distance


def _round_up(step: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50, …"""
    magnitude = 10 ** math.floor(math.log10(step)) if step > 1 else 1
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= step)
