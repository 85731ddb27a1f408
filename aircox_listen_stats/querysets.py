"""Queries that read aloud."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from django.db import models
from django.db.models import Q

FOUR_HOURS_MS = 4 * 3600 * 1000

NO_STATION = 0
"""What a stream belongs to that is compared with another (``beside`` in STREAMS): no station, no figure of any.
aircox's ids begin with 1."""


class StreamQuerySet(models.QuerySet):
    def active(self) -> Self:
        return self.filter(active=True)

    def counting(self) -> Self:
        """Those of a station; not those that are only compared."""
        return self.exclude(station_id=NO_STATION)

    def of(self, station_id: int) -> Self:
        return self.filter(station_id=station_id)


class ConnectionQuerySet(models.QuerySet):
    def open(self) -> Self:
        return self.filter(ended=False)


class SessionQuerySet(models.QuerySet):
    def open(self) -> Self:
        return self.filter(is_open=True)

    def on(self, streams: Iterable[int]) -> Self:
        return self.filter(stream__in=streams)

    def counted(self) -> Self:
        """Not excluded. The rule-set's minimum is the kernel's business."""
        return self.filter(exclusion="")

    def touching(self, started_ms: int, ended_ms: int) -> Self:
        """Sessions whose hull meets ``[started_ms, ended_ms)``, found by index alone.

        Those that are over and lasted at most four hours ended within four
        hours of ``ended_ms``; the few longer ones and those that are open have
        indexes of their own.
        """
        return self.filter(started__lt=ended_ms).filter(
            Q(is_open=False, is_long=False, ended__gt=started_ms, ended__lt=ended_ms + FOUR_HOURS_MS)
            | Q(is_long=True, ended__gt=started_ms)
            | Q(is_open=True, is_long=False, ended__gt=started_ms)
        )


class AiringQuerySet(models.QuerySet):
    def on_layer(self, layer: str) -> Self:
        return self.filter(layer=layer)

    def touching(self, started_ms: int, ended_ms: int) -> Self:
        return self.filter(started__lt=ended_ms, ended__gt=started_ms)


class AudienceQuerySet(models.QuerySet):
    def under(self, rule_set: str) -> Self:
        return self.filter(rule_set=rule_set)

    def unsettled(self) -> Self:
        return self.filter(settled=False)
