"""What went on air, one row per event; nothing marks an end."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import date as Date
from datetime import datetime, time
from typing import Any

from django.db import models
from django.utils import timezone

from aircox.models.episode import Diffusion, DiffusionQuerySet
from aircox.models.sound import Sound, Track
from aircox.models.station import Station

logger = logging.getLogger("aircox")


class LogQuerySet(models.QuerySet["Log"]):
    def station(self, station: Station | None = None, id: int | None = None) -> LogQuerySet:
        return self.filter(station=station) if id is None else self.filter(station_id=id)

    def date(self, date: Date) -> LogQuerySet:
        """Rows of a day, by naive bounds of which the last is 999 microseconds short: as in aircox."""
        first = datetime.combine(date, time())
        last = datetime.combine(date, time(23, 59, 59, 999))
        return self.filter(date__range=(first, last))

    def after(self, date: Date) -> LogQuerySet:
        if isinstance(date, datetime):
            return self.filter(date__gte=date)
        return self.filter(date__date__gte=date)

    def on_air(self) -> LogQuerySet:
        return self.filter(type=Log.TYPE_ON_AIR)

    def start(self) -> LogQuerySet:
        return self.filter(type=Log.TYPE_START)

    def with_diff(self, with_it: bool = True) -> LogQuerySet:
        return self.filter(diffusion__isnull=not with_it)

    def with_sound(self, with_it: bool = True) -> LogQuerySet:
        return self.filter(sound__isnull=not with_it)

    def with_track(self, with_it: bool = True) -> LogQuerySet:
        return self.filter(track__isnull=not with_it)


class Log(models.Model):
    # STOP and OTHER are declared, and never written by the Monitor.
    TYPE_STOP = 0x00
    TYPE_START = 0x01
    TYPE_CANCEL = 0x02
    TYPE_ON_AIR = 0x03
    TYPE_OTHER = 0x04
    TYPE_CHOICES = (
        (TYPE_STOP, "stop"),
        (TYPE_START, "start"),
        (TYPE_CANCEL, "cancelled"),
        (TYPE_ON_AIR, "on air"),
        (TYPE_OTHER, "other"),
    )

    station = models.ForeignKey(Station, models.CASCADE)
    type = models.SmallIntegerField(choices=TYPE_CHOICES)
    date = models.DateTimeField(default=timezone.now, db_index=True)
    source = models.CharField(max_length=64, blank=True, null=True)
    comment = models.CharField(max_length=512, blank=True, null=True)
    sound = models.ForeignKey(Sound, models.SET_NULL, blank=True, null=True, db_index=True)
    track = models.ForeignKey(Track, models.SET_NULL, blank=True, null=True, db_index=True)
    diffusion = models.ForeignKey(Diffusion, models.SET_NULL, blank=True, null=True, db_index=True)

    objects = LogQuerySet.as_manager()

    def __str__(self) -> str:
        return f"#{self.pk} ({self.get_type_display()}, {self.source}, {self.local_date:%Y/%m/%d %H:%M%z})"

    @property
    def related(self) -> Any:
        return self.diffusion or self.sound or self.track

    @property
    def local_date(self) -> datetime:
        return timezone.localtime(self.date)

    @property
    def start(self) -> datetime:
        """The row's date, so that rows and diffusions sort together."""
        return self.date

    def print(self) -> None:
        """Nothing; the row goes to the log named `aircox`."""
        logger.info("log %s: %s", self, self.comment or "")

    @classmethod
    def merge_diffusions(
        cls, logs: LogQuerySet | list[Log], diffs: DiffusionQuerySet, count: int | None = None
    ) -> list[Any]:
        """Rows and diffusions, newest first: the schedule beats the rows inside it.

        Only diffusions for the air that have started. A list of logs must come newest first.
        """
        started = list(diffs.on_air().before().order_by("-start"))
        rows = logs.order_by("-date") if isinstance(logs, models.QuerySet) else logs
        kept = [row for row in rows if not _inside(row.date, started)]
        merged = sorted([*kept, *started], key=lambda item: item.start, reverse=True)
        return merged if count is None else merged[:count]


def _inside(instant: datetime, diffusions: Iterable[Diffusion]) -> bool:
    return any(diffusion.start <= instant <= diffusion.end for diffusion in diffusions)
