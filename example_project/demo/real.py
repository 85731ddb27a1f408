"""The demo's stage on a real Icecast and a real Liquidsoap, with a process for every listener."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import close_old_connections

from tests.parts.child import account_as_root, private_folder
from tests.parts.icecast import Icecast, Mount
from tools import parts

from . import environment, stage
from .listeners import Audience, Listener
from .past import SEED
from .town import Town

LISTENERS = 30
ACCOUNTS = ("liquidsoap", "nobody")
SOURCE_SECONDS = 60.0
"""How long Liquidsoap may take until its stream is on Icecast."""


def open_stage(station: Any, site: str, open_parts: contextlib.ExitStack, tell: Callable[[str], None]) -> None:
    """Starts Icecast, Liquidsoap with the Monitor, the listeners and the collector; they end with ``open_parts``."""
    tell("Tuning instruments: a sound file for everything that will air")
    _sounds()
    tell("Starting Icecast and Liquidsoap")
    icecast = open_parts.enter_context(_icecast(site))
    open_parts.enter_context(_playout(station, icecast))
    tell(f"Sending {LISTENERS} listeners, each a process")
    open_parts.enter_context(_crowd(icecast))
    open_parts.enter_context(stage.collector())


def _sounds() -> None:
    """Tones, one for each sound that the coming hours can play."""
    from aircox.models import Diffusion, Sound

    ffmpeg = parts.find("ffmpeg")
    coming = Diffusion.objects.filter(end__gt=dt.datetime.now(dt.UTC)).values_list("episode_id", flat=True)
    sounds = [*Sound.objects.filter(episode_id__in=list(coming)), *Sound.objects.filter(program__slug="flux-continu")]
    made: dict[int, Path] = {}
    for number, sound in enumerate(sounds):
        path = Path(sound.file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        seconds = sound.duration.hour * 3600 + sound.duration.minute * 60 + sound.duration.second
        if seconds in made:
            shutil.copyfile(made[seconds], path)
            continue
        tone = f"sine=frequency={220 + 20 * (number % 24)}:duration={seconds}"
        command = [ffmpeg, "-v", "error", "-y", "-f", "lavfi", "-i", tone, "-b:a", "32k", "-ac", "1", str(path)]
        subprocess.run(command, check=True)
        made[seconds] = path
    _let_in(Path(settings.MEDIA_ROOT))


def _let_in(folder: Path) -> None:
    """Lets Liquidsoap's user read the sounds where the demo runs as root."""
    if account_as_root(ACCOUNTS) is None:
        return
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@contextlib.contextmanager
def _icecast(site: str) -> Iterator[Icecast]:
    callback = stage.callback_address(site)
    icecast = Icecast(
        [Mount(name=name, url_auth={"listener_remove": callback}) for name in environment.MOUNTS.values()]
    )
    icecast.port = int(os.environ["EXAMPLE_STATION_ICECAST_PORT"])
    icecast.start()
    try:
        yield icecast
    finally:
        icecast.stop()


@contextlib.contextmanager
def _playout(station: Any, icecast: Icecast) -> Iterator[None]:
    """The stand-in's Streamer and Monitor over a real Liquidsoap."""
    from aircox.models import Log, Port
    from aircox_streamer.controllers import Streamer
    from aircox_streamer.controllers.monitor import Monitor

    folder = private_folder("station", ACCOUNTS)
    station.path = str(folder)
    station.save()
    station.port_set.all().delete()
    for mount in environment.MOUNTS.values():
        Port.objects.create(
            station=station,
            direction=Port.DIRECTION_OUTPUT,
            type=Port.TYPE_ICECAST,
            settings=f'%mp3(bitrate=64), host="127.0.0.1", port={icecast.port}, '
            f'password="{icecast.source_password}", mount="{mount}"',
        )
    # The open studio's sound was started before Liquidsoap was: it starts once more, from its beginning.
    Log.objects.filter(source="dealer", date__gt=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).delete()
    streamer = Streamer(station)
    streamer.make_config()
    streamer.run_process()
    try:
        deadline = time.monotonic() + SOURCE_SECONDS
        while not all(icecast.has_source(mount) for mount in environment.MOUNTS.values()):
            if time.monotonic() > deadline or not streamer.is_running:
                raise RuntimeError(f"Liquidsoap brought no stream to Icecast within {SOURCE_SECONDS:g} s.")
            time.sleep(0.2)

        def watch(stop: threading.Event) -> None:
            monitor = Monitor(streamer, dt.timedelta(seconds=stage.TICK_SECONDS))
            while not stop.wait(stage.TICK_SECONDS):
                monitor.monitor()
                close_old_connections()

        with stage.running("playout", watch):
            yield
    finally:
        streamer.kill_process()


@contextlib.contextmanager
def _crowd(icecast: Icecast) -> Iterator[None]:
    """Listener processes that come and go."""
    rng = random.Random(SEED)
    players: set[subprocess.Popen[bytes]] = set()

    def join(mount: str, listener: Listener, at: float | None) -> subprocess.Popen[bytes]:
        players.difference_update([player for player in players if player.poll() is not None])
        address = f"127.9.{rng.randrange(256)}.{rng.randrange(1, 255)}"
        words = [str(icecast.port), mount, address, listener.agent, "36000"]
        player = subprocess.Popen([sys.executable, "-m", "example_project.demo.player", *words])
        players.add(player)
        return player

    town = Town(Audience(SEED), stage.shares(), join, lambda player: player.terminate(), LISTENERS)
    town.settle_in(time.time(), time.time())
    try:
        with stage.running("town", town.run):
            yield
    finally:
        for player in players:
            player.terminate()
        for player in players:
            player.wait(5)
