"""The diffusions on air before and after one, to which its flow adds up where they touch."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from ..kernel.types import Layer
from ..models import Airing
from ..querysets import AiringQuerySet

FAR = dt.timedelta(hours=1)
"""What was over longer before, or began longer after, is no neighbour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjacent:
    """The diffusion of any program before or after. ``airing_id`` is None where it may not be seen.

    ``touches``: one ends at the instant at which the other starts, so that
    what the first one kept is what the second one inherited.
    """

    airing_id: int | None
    program_id: int | None
    title: str
    started: dt.datetime
    ended: dt.datetime
    touches: bool


def before(airing: Airing) -> Adjacent | None:
    """The diffusion of the station that was over last when this one began, within an hour; one query."""
    near = _diffusions(airing).filter(ended__lte=airing.started, ended__gt=airing.started - FAR)
    found = near.order_by("-ended", "-id").first()
    return None if found is None else _adjacent(found, touches=found.ended == airing.started)


def after(airing: Airing, *, now: dt.datetime) -> Adjacent | None:
    """The next diffusion of the station that has begun, within an hour of this one's end; one query."""
    latest = min(airing.ended + FAR, now)
    near = _diffusions(airing).filter(started__gte=airing.ended, started__lt=latest)
    found = near.order_by("started", "id").first()
    return None if found is None else _adjacent(found, touches=found.started == airing.ended)


def _diffusions(airing: Airing) -> AiringQuerySet:
    # The index is by start: nothing planned lasts longer than a day.
    since = airing.started - dt.timedelta(days=1)
    others = Airing.objects.on_layer(Layer.DIFFUSION).filter(station_id=airing.station_id, started__gte=since)
    return others.exclude(pk=airing.pk)


def _adjacent(found: Airing, *, touches: bool) -> Adjacent:
    return Adjacent(
        airing_id=found.pk,
        program_id=found.program_id,
        title=found.title or found.program_title,
        started=found.started,
        ended=found.ended,
        touches=touches,
    )
