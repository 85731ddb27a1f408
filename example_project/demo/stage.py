"""What runs beside the site while the demo is open: playout, Icecast, listeners, collector."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import close_old_connections, connection
from django.urls import reverse
from django.utils import timezone

from . import environment
from .icecast import PretendIcecast
from .listeners import Audience, Listener
from .past import OPEN_STUDIO, SEED, SHARES
from .town import Town

TICK_SECONDS = 1.0
PLAYLIST_HOURS = 12
JOIN_SECONDS = 10.0
"""How long a thread may take to finish when the demo closes."""


@contextlib.contextmanager
def running(name: str, work: Any) -> Iterator[threading.Event]:
    """Runs ``work(stop)`` in a thread of its own until the block is left."""
    stop = threading.Event()

    def body() -> None:
        try:
            work(stop)
        finally:
            connection.close()

    thread = threading.Thread(target=body, name=name, daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(JOIN_SECONDS)


def playout(station: Any) -> contextlib.AbstractContextManager[Any]:
    """The stand-in's Monitor, ticking over a scripted Liquidsoap."""
    from aircox_streamer.controllers.monitor import Monitor

    from example_project.standin.playout.scripted import ScriptedStreamer

    cuts, seconds_of = _rundown()

    def work(stop: threading.Event) -> None:
        streamer = ScriptedStreamer(station, cuts, timezone.now, seconds_of=seconds_of)
        monitor = Monitor(streamer, dt.timedelta(seconds=TICK_SECONDS))
        while not stop.wait(TICK_SECONDS):
            monitor.monitor()
            close_old_connections()

    return running("playout", work)


def _rundown() -> tuple[list[Any], dict[str, float]]:
    """What airs: the open studio's sound from when it was started, then music where nothing is scheduled."""
    from aircox.models import Log, Sound

    from example_project.standin.playout.scripted import Cut

    def seconds(sound: Any) -> float:
        length = sound.duration
        return length.hour * 3600 + length.minute * 60 + length.second

    under_way = Log.objects.filter(source="dealer", sound__program__slug=OPEN_STUDIO.slug).latest("date")
    cuts = [
        Cut(source="dealer", air_at=under_way.date, seconds=seconds(under_way.sound), uri=under_way.sound.file.path)
    ]
    music = list(Sound.objects.filter(program__slug="flux-continu"))
    rng = random.Random(SEED)
    at, until = under_way.date, under_way.date + dt.timedelta(hours=PLAYLIST_HOURS)
    while at < until:
        sound = rng.choice(music)
        cuts.append(Cut(source="flux_continu", air_at=at, seconds=seconds(sound), uri=sound.file.path))
        at += dt.timedelta(seconds=seconds(sound))
    seconds_of = {sound.file.path: seconds(sound) for sound in Sound.objects.filter(program__slug=OPEN_STUDIO.slug)}
    return cuts, seconds_of


def callback_address(site: str) -> str:
    """Where Icecast tells of its listeners."""
    words = {"source": "icecast", "token": os.environ["EXAMPLE_STATION_CALLBACK_TOKEN"]}
    return site + reverse("listen_stats:callback", kwargs=words)


@contextlib.contextmanager
def pretend_icecast(site: str) -> Iterator[PretendIcecast]:
    """The pretend Icecast on the demo's port; its callbacks go to ``site``."""
    icecast = PretendIcecast(
        mounts=tuple(environment.MOUNTS.values()),
        password=os.environ["EXAMPLE_STATION_ICECAST_PASSWORD"],
        callback_url=callback_address(site),
        port=int(os.environ["EXAMPLE_STATION_ICECAST_PORT"]),
    )
    icecast.start()
    try:
        yield icecast
    finally:
        icecast.stop()


def town(icecast: PretendIcecast, since: float) -> contextlib.AbstractContextManager[Any]:
    """Listeners who come to and go from the pretend Icecast."""

    def join(mount: str, listener: Listener, at: float | None) -> object:
        return icecast.join(mount, listener.ip, listener.agent, at=at)

    people = Town(Audience(SEED), shares(), join, icecast.leave)
    people.settle_in(time.time(), since)
    return running("town", people.run)


def shares() -> list[tuple[str, float]]:
    """Mounts of the demo, each with its share of the listeners."""
    return [(mount, SHARES[slug]) for slug, mount in environment.MOUNTS.items()]


def collector() -> contextlib.AbstractContextManager[Any]:
    """The app's own collector, in this process."""
    from aircox_listen_stats import conf
    from aircox_listen_stats.onair import aircox
    from aircox_listen_stats.pipeline.collect import Collector
    from aircox_listen_stats.sources import registry

    collector = Collector(sources=registry.build(conf.get()), onair=aircox.log())
    return running("collector", collector.run)


def site(port: int, seconds: float, announce: Sequence[str], tell: Any) -> None:
    """Serves the example station until Ctrl-C, or for so many seconds."""
    import uvicorn

    from example_project.asgi import application

    config = uvicorn.Config(
        application, host="127.0.0.1", port=port, log_level="warning", ws="websockets-sansio", lifespan="off"
    )
    server = uvicorn.Server(config)
    if seconds:
        timer = threading.Timer(seconds, lambda: setattr(server, "should_exit", True))
        timer.daemon = True
        timer.start()

    def greet() -> None:
        while not server.started and not server.should_exit:
            time.sleep(0.05)
        for line in announce:
            tell(line)

    threading.Thread(target=greet, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn hands Ctrl-C on once it has closed
        server.run()
