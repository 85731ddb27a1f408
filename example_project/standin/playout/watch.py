"""The watch on a station that both shapes of the Monitor keep.

It writes what aircox's own writes, mistakes included: see docs/example-project.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from aircox.models import Diffusion, Log, Sound, Track
from django.utils import timezone

from example_project.standin.playout.sources import QueueSource, Source

logger = logging.getLogger("aircox")

# aircox adds this to the pause between two looks, as a margin.
MARGIN_SECONDS = 5


class Watch:
    streamer: Any = None
    delay: timedelta
    logs: Any = None
    sync_next: datetime | None = None
    # The present, replaced where a day is played in a moment.
    clock: Callable[[], datetime] = staticmethod(timezone.now)

    def settle(self, streamer: Any, delay: timedelta, extras: dict[str, Any]) -> None:
        """Nothing; what both constructors do. Any extra argument becomes an attribute."""
        self.streamer = streamer
        self.delay = delay + timedelta(seconds=MARGIN_SECONDS)
        self.__dict__.update(extras)
        self.logs = self.get_logs_queryset()

    @property
    def station(self) -> Any:
        return self.streamer.station

    @property
    def last_log(self) -> Log | None:
        return self.logs.first()

    @property
    def last_diff_start(self) -> Log | None:
        return self.logs.start().with_diff().first()

    def get_logs_queryset(self) -> Any:
        """The station's rows, last written first, which is not last aired first."""
        return self.station.log_set.select_related("diffusion", "sound").order_by("-pk")

    def monitor(self) -> None:
        """Nothing; one look at the station: trace what is on air, start or cancel diffusions."""
        if not self.streamer.is_ready:
            return
        self.streamer.fetch()
        source = self.streamer.source
        if source is not None and source.uri:
            self.trace_tracks(self.trace_sound(source))
        else:
            logger.info("no sound on air for %s", self.station)
        self.handle_diffusions()
        self.sync()

    # -- tracing

    def trace_sound(self, source: Source) -> Log:
        raise NotImplementedError

    def log_sound(self, source: Source, sound: Sound | None) -> Log:
        """The new row of a sound; with its diffusion if that is on air at the sound's air time."""
        diffusion = None
        if sound is not None and sound.episode_id is not None:
            covering = Diffusion.objects.episode(id=sound.episode_id).on_air().now(source.air_time)
            diffusion = covering.first()
        return self.log(  # type: ignore[attr-defined, no-any-return]
            source=source.id,
            type=Log.TYPE_ON_AIR,
            date=source.air_time,
            sound=sound,
            diffusion=diffusion,
            comment=source.uri,
        )

    def trace_tracks(self, log: Log) -> None:
        """Nothing; the tracks of a streamed sound that are due get their rows, dated back."""
        if log.diffusion is not None:
            return
        timed = Track.objects.filter(sound__id=log.sound_id, timestamp__isnull=False)
        # Two conditions on one reverse relation: a row of another station can hide a track.
        due = timed.exclude(log__station=self.station, log__pk__gt=log.pk).order_by("timestamp")
        now = self.clock()
        for track in due:
            date = log.date + timedelta(seconds=track.timestamp)
            if date > now:
                break
            # The comment is the track itself: it becomes text in the database only.
            self.log(  # type: ignore[attr-defined]
                source=log.source, type=Log.TYPE_ON_AIR, date=date, track=track, comment=track
            )

    # -- diffusions

    def handle_diffusions(self) -> None:
        """Nothing; the first diffusion with an archive that runs and was not started is.

        It is started when the dealer is idle, or has less than the delay left. One that lies back
        further than the timeout is cancelled as well, in the same look.
        """
        now = self.clock()
        diffusion = (
            Diffusion.objects.station(self.station)
            .on_air()
            .now(now)
            .filter(episode__sound__type=Sound.TYPE_ARCHIVE)
            .first()
        )
        if diffusion is None or self.logs.start().filter(diffusion=diffusion).exists():
            return
        dealer = self.streamer.dealer
        idle = not dealer.queue and dealer.rid is None
        if idle or dealer.remaining < self.delay.total_seconds():
            self.start_diff(dealer, diffusion)
        if diffusion.start < now - self.patience():
            self.cancel_diff(dealer, diffusion)

    def patience(self) -> timedelta:
        """How late a diffusion may start before it is cancelled."""
        raise NotImplementedError

    def archive_paths(self, diffusion: Diffusion) -> list[str]:
        raise NotImplementedError

    def start_diff(self, source: QueueSource, diff: Diffusion) -> None:
        source.push(*self.archive_paths(diff))
        self._log_diffusion(Log.TYPE_START, source, diff)

    def cancel_diff(self, source: QueueSource, diff: Diffusion) -> None:
        diff.type = Diffusion.TYPE_CANCEL
        diff.save()
        self._log_diffusion(Log.TYPE_CANCEL, source, diff)

    def _log_diffusion(self, type: int, source: QueueSource, diffusion: Diffusion) -> None:
        self.log(  # type: ignore[attr-defined]
            source=source.id,
            type=type,
            date=self.clock(),
            diffusion=diffusion,
            comment=str(diffusion),
        )

    # -- playlists

    def pause_between_syncs(self) -> timedelta:
        raise NotImplementedError

    def sync(self) -> None:
        """Nothing; the playlists are written anew when their time has come."""
        now = self.clock()
        if self.sync_next is not None and now < self.sync_next:
            return
        self.sync_next = now + self.pause_between_syncs()
        for source in self.streamer.playlists:
            source.sync()
