"""Writes the stations' scripts, runs Liquidsoap, and watches what it plays.

In 0.9 the Monitor is in this module, and importing it puts the whole thread into UTC.
"""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from typing import Any

from aircox.models import Diffusion, Log, Sound
from django.core.management.base import BaseCommand
from django.db.models import Q
from django.utils import timezone

from aircox_streamer.controllers import Streamer
from example_project.standin.playout.loop import add_options, stream
from example_project.standin.playout.sources import Source
from example_project.standin.playout.watch import Watch

timezone.activate(UTC)


class Monitor(Watch):
    """0.9's Monitor: whether a sound is already logged, it asks the database."""

    # Minutes; an instance gets a timedelta for the first.
    cancel_timeout: Any = 20
    sync_timeout = 5

    def __init__(self, streamer: Any, delay: timedelta, cancel_timeout: Any, **kwargs: Any) -> None:
        self.cancel_timeout = cancel_timeout
        self.settle(streamer, delay, kwargs)

    def log(self, date: datetime | None = None, **kwargs: Any) -> Log:
        kwargs.setdefault("station", self.station)
        row = Log(date=date or self.clock(), **kwargs)
        row.save()
        row.print()
        return row

    def trace_sound(self, source: Source) -> Log:
        """The source's row of this file near its air time, else a new one.

        An unknown file is found again by its comment, so it floods nothing.
        """
        assert source.air_time is not None, "a source on air has an air time"
        same = Q(sound__path=source.uri)
        same |= Q(sound__isnull=True, track__isnull=True, comment=source.uri)
        around = (source.air_time - self.delay, source.air_time + self.delay)
        rows = self.logs.on_air().filter(same, source=source.id, date__range=around)
        return rows.first() or self.log_sound(source, Sound.objects.filter(path=source.uri).first())

    def patience(self) -> timedelta:
        return self.cancel_timeout

    def pause_between_syncs(self) -> timedelta:
        return timedelta(minutes=self.sync_timeout)

    def archive_paths(self, diffusion: Diffusion) -> list[str]:
        return list(Sound.objects.episode(id=diffusion.episode_id).paths())


class Command(BaseCommand):
    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_options(parser, Monitor.cancel_timeout)

    def handle(self, *args: Any, **options: Any) -> None:
        # Names of this module, looked up now, so that another Monitor can be put in their place.
        stream(
            Streamer,
            lambda streamer, delay, timeout: Monitor(streamer, delay, timeout),
            options,
        )
