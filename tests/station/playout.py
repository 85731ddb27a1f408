"""A real station on air: sounds, rows of aircox, the streamer with its Liquidsoap, and what was truly played."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.parts import liquidsoap
from tests.parts.icecast import Icecast
from tools import parts

WATCH_SECONDS = 0.2

STREAM_SECONDS = (26, 31, 37)
"""Lengths of the streamed program's sounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Seconds from the start of the run at which the diffusions begin and end, and their sounds' lengths."""

    title: str
    start: float
    end: float
    sounds: tuple[int, ...] = ()


SCHEDULE = (
    Schedule(title="One sound", start=20, end=55, sounds=(33,)),
    Schedule(title="Live, without a sound", start=62, end=97),
    Schedule(title="Two sounds", start=104, end=150, sounds=(20, 23)),
)
RUN_SECONDS = 165.0


def tone(path: Path, seconds: int, pitch: int) -> None:
    """Writes an MP3 of a sine tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *(parts.find("ffmpeg"), "-v", "error", "-y", "-f", "lavfi"),
            *("-i", f"sine=frequency={pitch}:duration={seconds}", "-b:a", "64k", str(path)),
        ],
        check=True,
    )


def enter(icecast: Icecast, media: Path, stations: Path) -> Any:
    """Enters the station, its programs, episodes and sounds into aircox's tables; gives the station."""
    from aircox.models import Episode, Port, Program, Sound, Station, Stream, Track

    station = Station.objects.create(
        name="Test Radio", slug="test-radio", default=True, path=str(stations / "test_radio")
    )
    for mount in icecast.mounts:
        Port.objects.create(
            station=station,
            direction=Port.DIRECTION_OUTPUT,
            type=Port.TYPE_ICECAST,
            settings=f'%mp3(bitrate=64), host="127.0.0.1", port={icecast.port}, '
            f'password="{icecast.source_password}", mount="{mount.name}"',
        )
    tones = Program.objects.create(title="Night Tones", slug="night-tones", station=station, status=0x10)
    Stream.objects.create(program=tones)
    for number, seconds in enumerate(STREAM_SECONDS):
        sound = _sound(media, tones, None, f"tone_{number}", seconds, 300 + 40 * number)
        for position, at in enumerate(range(0, seconds - 5, 10)):
            Track.objects.create(
                sound=sound, position=position, timestamp=at, title=f"Tone {number}.{position}", artist="Les Ondes"
            )
    show = Program.objects.create(title="The Show", slug="the-show", station=station, status=0x10)
    for number, plan in enumerate(SCHEDULE):
        episode = Episode.objects.create(parent=show, title=plan.title, slug=f"show-{number}", status=0x10)
        for order, seconds in enumerate(plan.sounds):
            _sound(media, show, episode, f"show_{number}_{order}", seconds, 700 + 50 * (number + order))
    assert Sound.objects.count() == len(STREAM_SECONDS) + sum(len(plan.sounds) for plan in SCHEDULE)
    return station


def schedule(began: float) -> None:
    """Enters the diffusions of a run that begins then."""
    from aircox.models import Diffusion, Episode

    for plan in SCHEDULE:
        episode = Episode.objects.get(title=plan.title)
        Diffusion.objects.create(
            program=episode.program,
            episode=episode,
            type=Diffusion.TYPE_ON_AIR,
            start=dt.datetime.fromtimestamp(began + plan.start, dt.UTC),
            end=dt.datetime.fromtimestamp(began + plan.end, dt.UTC),
        )


def _sound(media: Path, program: Any, episode: Any, name: str, seconds: int, pitch: int) -> Any:
    from aircox.models import Sound

    relative = f"programs/{program.slug}/archives/{name}.mp3"
    tone(media / relative, seconds, pitch)
    sound = Sound(
        name=name,
        program=program,
        episode=episode,
        type=Sound.TYPE_ARCHIVE,
        duration=dt.time(0, seconds // 60, seconds % 60),
    )
    if hasattr(Sound, "file"):
        sound.file = relative
    else:
        sound.path = str(media / relative)
    sound.save(check=False)
    return sound


@dataclass(slots=True)
class Truth:
    """What left the playout, read from Liquidsoap's socket several times a second."""

    socket_path: Path
    station_id: str
    changes: list[tuple[float, str]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(60)

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_SECONDS):
            try:
                answer = liquidsoap.ask(self.socket_path, f"{self.station_id}.get")
            except (OSError, liquidsoap.PartFailed):
                continue
            found = re.search(r'^initial_uri="(.*)"', answer, re.MULTILINE)
            name = Path(found[1]).stem if found else ""
            if name and (not self.changes or self.changes[-1][1] != name):
                self.changes.append((time.time(), name))

    def span(self, first: str, last: str | None = None) -> tuple[float, float]:
        """When the sound ``first`` came on, and when the sound ``last`` was over."""
        names = [name for _at, name in self.changes]
        start = names.index(first)
        end = names.index(last or first) + 1
        return self.changes[start][0], self.changes[end][0]
