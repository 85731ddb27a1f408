"""A station in the database and decks that play, for any aircox: real, or the stand-in in either shape."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from aircox.models import Diffusion, Episode, Log, Program, Sound, Station, Stream, Track
from django.conf import settings

# 1.0 first: 0.9 has no such module, and importing 0.9's activates UTC in the thread.
MONITOR_HOMES = ("aircox_streamer.controllers.monitor", "aircox_streamer.management.commands.streamer")
TICK = timedelta(seconds=1)
SHOW_MINUTES = 60
CANCEL_TIMEOUT = timedelta(minutes=20)


def monitor_home() -> Any:
    """The module that holds the Monitor of the aircox that is importable."""
    for home in MONITOR_HOMES:
        try:
            return importlib.import_module(home)
        except ModuleNotFoundError as error:
            if not home.startswith(str(error.name)):
                raise
    raise AssertionError(f"No Monitor found in {' or '.join(MONITOR_HOMES)}.")


def is_shape_0_9() -> bool:
    """Whether sounds and Monitor are those of 0.9."""
    return monitor_home().__name__ == MONITOR_HOMES[1]


def make_monitor(streamer: Any, **extras: Any) -> Any:
    """A Monitor with the ordinary tick, by the constructor of its shape."""
    monitor = monitor_home().Monitor
    if is_shape_0_9():
        return monitor(streamer, TICK, CANCEL_TIMEOUT, **extras)
    return monitor(streamer, TICK, cancel_timeout=CANCEL_TIMEOUT, **extras)


class Deck:
    """A source as the Monitor sees one; the real ones read Liquidsoap, this one is told."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.uri: str | None = None
        self.air_time: datetime | None = None
        self.rid: str | None = None
        self.remaining: float | None = 0.0
        self.queue: list[str] = []
        self.status = self.request_status = "stopped"
        self.pushed: list[str] = []
        self.synced = 0

    def play(self, uri: str, air_time: datetime, remaining: float = 60.0) -> None:
        self.uri, self.air_time, self.remaining = uri, air_time, remaining
        self.rid, self.status, self.request_status = "1", "playing", "playing"

    def push(self, *paths: str) -> None:
        self.pushed += paths

    def sync(self) -> None:
        self.synced += 1


class Mixer:
    """A streamer with a dealer and one playlist; `on_air` is what the public hears."""

    def __init__(self, station: Station, playlist: str = "night_tones") -> None:
        self.station = station
        self.is_ready = True
        self.dealer = Deck("dealer")
        self.playlist = Deck(playlist)
        self.source: Deck | None = None
        self.fetched = 0

    @property
    def sources(self) -> list[Deck]:
        return [self.dealer, self.playlist]

    @property
    def playlists(self) -> list[Deck]:
        return [self.playlist]

    def fetch(self) -> None:
        self.fetched += 1

    def air(self, deck: Deck, uri: str, air_time: datetime, remaining: float = 60.0) -> None:
        deck.play(uri, air_time, remaining)
        self.source = deck


class Studio:
    """Rows of one station: a show with episodes, and a streamed program."""

    def __init__(self, name: str = "Radio Test") -> None:
        slug = name.lower().replace(" ", "-")
        self.station = Station.objects.create(name=name, slug=slug)
        self.show = self._program("The Show", f"{slug}-show")
        self.night = self._program("Night Tones", f"{slug}-night")
        Stream.objects.create(program=self.night)

    def _program(self, title: str, slug: str) -> Program:
        published = Program.STATUS_PUBLISHED
        return Program.objects.create(title=title, slug=slug, station=self.station, status=published)

    def path(self, name: str) -> str:
        """The absolute path of a sound, in the folder of media."""
        return os.path.join(settings.MEDIA_ROOT, "programs", name)

    def sound(self, name: str, episode: Episode | None = None, kind: int | None = None) -> Sound:
        """An archive sound whose file nobody looks at."""
        where = {"path": self.path(name)} if is_shape_0_9() else {"file": f"programs/{name}"}
        sound = Sound(
            name=name,
            program=self.show if episode else self.night,
            episode=episode,
            type=Sound.TYPE_ARCHIVE if kind is None else kind,
            **where,
        )
        sound.save(check=False)
        return sound

    def episode(self, title: str) -> Episode:
        slug = f"{self.station.slug}-{title}".lower().replace(" ", "-")
        return Episode.objects.create(parent=self.show, title=title, slug=slug, content="Kept.")

    def diffusion(self, episode: Episode, start: datetime, minutes: int = SHOW_MINUTES, **fields: Any) -> Diffusion:
        end = start + timedelta(minutes=minutes)
        return Diffusion.objects.create(program=self.show, episode=episode, start=start, end=end, **fields)

    def track(self, sound: Sound, title: str, timestamp: int | None, position: int = 0) -> Track:
        return Track.objects.create(sound=sound, title=title, artist="The Band", timestamp=timestamp, position=position)

    def rows(self, type: int | None = None) -> list[Log]:
        """The station's rows as they were written."""
        rows = Log.objects.filter(station=self.station).order_by("pk")
        return list(rows if type is None else rows.filter(type=type))


def ticks(monitor: Any, count: int, after_each: Callable[[], None] = lambda: None) -> None:
    """Nothing; the Monitor looks that many times."""
    for _ in range(count):
        monitor.monitor()
        after_each()
