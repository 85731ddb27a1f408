"""A whole station on real servers: every session and every figure against what truly happened.

A real Icecast and a real Liquidsoap, the Monitor with our hook, the collector, the site and a
websocket client run as processes of their own; scripted listeners come and go on four mounts that are
counted in four ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client, override_settings
from django.urls import reverse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.kernel.identity import listener_key
from aircox_listen_stats.kernel.types import Address, Layer
from aircox_listen_stats.models import Airing, Audience, Secret, Session
from tests.parts import asgi
from tests.parts.child import ROOT, Child, private_folder
from tests.parts.icecast import Icecast, Mount
from tests.parts.stalls import Stalls
from tests.station import listeners, playout, truth

EACH = 12
POLL_SECONDS = 2.0
TOKEN = "token-of-the-tests"
MOUNTS = {"callbacks": "/live.mp3", "removal": "/remove.mp3", "polled": "/poll.mp3", "logged": "/log.mp3"}
WAIT_SECONDS = 120.0
SOON_SECONDS = 5.0
"""From the moment in which all run until the run begins."""
SETTLE_SECONDS = 8.0
"""From the last leave until everything that was heard is stored."""

ALLOWED = {
    # A server's whole seconds may put a start up to 1 s early; a late end is the server's own detection of it.
    MOUNTS["callbacks"]: truth.Allowed(start=(-1.1, 0.5), end=(-1.0, 2.0)),
    MOUNTS["removal"]: truth.Allowed(start=(-1.1, 0.5), end=(-1.0, 2.0)),
    MOUNTS["polled"]: truth.Allowed(start=(-1.1, 0.5), end=(-POLL_SECONDS - 1.0, 1.0)),
    MOUNTS["logged"]: truth.Allowed(start=(-1.1, 0.5), end=(-1.1, 2.0)),
}


@dataclass(slots=True)
class Station:
    """The running station of one test."""

    icecast: Icecast
    web: asgi.AsgiServer
    aircox: Any
    began: float
    settings: dict[str, Any]
    on_air: playout.Truth
    children: list[Child] = field(default_factory=list)


def describe(icecast: Icecast) -> dict[str, Any]:
    """AIRCOX_LISTEN_STATS of the station."""
    return {
        "SOURCES": {
            "icecast": {
                "backend": "icecast",
                "url": icecast.url,
                "user": icecast.admin_auth[0],
                "password": icecast.admin_auth[1],
                "poll_seconds": POLL_SECONDS,
            },
            "log": {"backend": "accesslog", "path": str(icecast.access_log)},
        },
        "STREAMS": {
            slug: {"source": "log" if slug == "logged" else "icecast", "mount": mount} for slug, mount in MOUNTS.items()
        },
        "CALLBACK_TOKENS": {"icecast": TOKEN},
        "MONITOR_HOOK": True,
        "RULE_SET": "all",
        "TIME_ZONE": "UTC",
        "LIVE": {"stale_seconds": 15},
    }


@pytest.fixture
def station(child_environment: dict[str, str], redis_server: Any) -> Iterator[Station]:
    media, stations = private_folder("media"), private_folder("stations", ("liquidsoap", "nobody"))
    icecast = Icecast(tuple(MOUNTS.values()))
    described = describe(icecast)
    environment = {
        **child_environment,
        "DJANGO_SETTINGS_MODULE": "tests.station.settings",
        "LISTEN_STATS_TEST_REDIS": redis_server.url,
        "LISTEN_STATS_TEST_STATION": json.dumps(described),
        "LISTEN_STATS_TEST_MEDIA": str(media),
        "LISTEN_STATS_TEST_STATIONS": str(stations),
        "EXAMPLE_STATION_DIR": str(media),
        "TZ": "UTC",
    }
    web = asgi.serve("example_project.asgi:application", environment=environment)
    callback = web.url + reverse("listen_stats:callback", kwargs={"source": "icecast", "token": TOKEN})
    icecast.mounts = (
        Mount(
            name=MOUNTS["callbacks"],
            url_auth={"listener_add": callback, "listener_remove": callback, "auth_header": "icecast-auth-user: 1"},
        ),
        Mount(name=MOUNTS["removal"], url_auth={"listener_remove": callback}),
        Mount(name=MOUNTS["polled"]),
        Mount(name=MOUNTS["logged"]),
    )
    icecast.start()
    children: list[Child] = []

    def manage(name: str, *words: str) -> Child:
        folder = private_folder(name)
        children.append(
            Child(
                [sys.executable, str(ROOT / "example_project" / "manage.py"), *words],
                folder=folder,
                name=name,
                environment=environment,
            )
        )
        return children[-1]

    on_air: playout.Truth | None = None
    try:
        with override_settings(MEDIA_ROOT=str(media)):
            aircox = playout.enter(icecast, media, stations)
        streamer = manage("streamer", "streamer", "-c", "-r", "-m", "-d", "500")
        streamer.wait_until(lambda: all(icecast.has_source(mount) for mount in MOUNTS.values()), seconds=WAIT_SECONDS)
        collector = manage("collector", "listen_stats_collect")
        time.sleep(2)
        assert collector.is_running, collector.tail()
        on_air = playout.Truth(socket_path=Path(aircox.path) / "station.sock", station_id="test_radio")
        on_air.start()
        began = time.time() + SOON_SECONDS
        playout.schedule(began)
        yield Station(
            icecast=icecast, web=web, aircox=aircox, began=began, settings=described, on_air=on_air, children=children
        )
        for child in children:
            assert child.is_running, f"{child.name} ended:\n{child.tail()}"
    finally:
        if on_air:
            on_air.stop()
        for child in reversed(children):
            child.stop()
        icecast.stop()
        web.stop()


class Watcher:
    """A staff member's websocket: every frame with the instant of its arrival."""

    def __init__(self, station: Station) -> None:
        user = get_user_model().objects.create_superuser("watcher", password="watcher")
        client = Client()
        client.force_login(user)
        cookie = client.cookies["sessionid"].value
        self.frames: list[tuple[float, dict[str, Any]]] = []
        self._open = contextlib.ExitStack()
        self._socket = self._open.enter_context(
            connect(
                f"{station.web.ws_url}/ws/listen-stats/test-radio/staff/",
                additional_headers={"Cookie": f"sessionid={cookie}"},
                origin=station.web.url,  # type: ignore[arg-type]
            )
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for message in self._socket:
                self.frames.append((time.time(), json.loads(message)))
        except ConnectionClosed:
            return

    def close(self) -> None:
        self._open.close()
        self._thread.join(60)

    def count(self, stream: str, instant: float) -> int | None:
        """The last count of ``stream`` that had arrived by ``instant``."""
        shown = None
        for at, frame in self.frames:
            if at > instant:
                break
            shown = next((one["listeners"] for one in frame["streams"] if one["stream"] == stream), None)
        return shown


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_every_session_and_figure_agrees_with_what_happened(station: Station) -> None:
    planned = listeners.plans(tuple(MOUNTS.values()), each=EACH, seconds=playout.RUN_SECONDS - 5, seed=4)
    watcher, stalls = Watcher(station), Stalls()
    stalls.start()
    heard = asyncio.run(listeners.listen(station.icecast.port, planned, station.began))
    time.sleep(max(0.0, station.began + playout.RUN_SECONDS - time.time()) + SETTLE_SECONDS)
    deadline = time.monotonic() + WAIT_SECONDS
    while Session.objects.open().exists() and time.monotonic() < deadline:
        time.sleep(0.5)  # a busy machine settles later; who is open still is told as a problem
    stalls.stop()
    watcher.close()
    station.on_air.stop()
    late = stalls.longest_seconds
    print(f"\nThe machine let us wait for up to {late:.2f} s.")
    allowed = {mount: one.widened(late) for mount, one in ALLOWED.items()}
    true_stays = truth.stays(heard)
    assert len(true_stays) == EACH * len(MOUNTS) >= 40

    with override_settings(AIRCOX_LISTEN_STATS=station.settings):
        call_command("listen_stats_rebuild", "--from", from_ms(int(station.began - 60) * 1000).isoformat())
        problems = [
            *check_sessions(true_stays, allowed),
            *check_on_air(station, late),
            *check_figures(station, true_stays, allowed),
            *check_live(watcher, heard, station.began, late),
        ]
    assert not problems, "\n".join(problems)


def check_sessions(true_stays: Sequence[truth.Stay], allowed: dict[str, truth.Allowed]) -> list[str]:
    """Each stored session beside its truth; prints the table of errors."""
    problems = []
    print("\nstream      sessions  start error s (min / median / max)   end error s (min / median / max)")
    for slug, mount in MOUNTS.items():
        true = sorted((s for s in true_stays if s.mount == mount), key=lambda s: s.start)
        stored = list(Session.objects.filter(stream__slug=slug).order_by("started"))
        if len(stored) != len(true):
            problems.append(f"{slug}: {len(stored)} sessions stored, {len(true)} true")
        pairs = pair_up(true, stored)
        if len(pairs) != len(true):
            problems.append(f"{slug}: of {len(true)} listeners {len(pairs)} are known under their key")
        starts = [to_ms(got.started) / 1000 - want.start for want, got in pairs]
        ends = [to_ms(got.ended) / 1000 - want.stop for want, got in pairs]
        print(f"{slug:10s}  {len(stored):3d}/{len(true):3d}   {summary(starts)}            {summary(ends)}")
        may = allowed[mount]
        for (want, got), start, end in zip(pairs, starts, ends, strict=True):
            if not may.start[0] <= start <= may.start[1]:
                problems.append(f"{slug}: start of the session at {want.start:.1f} is off by {start:.2f} s")
            if not may.end[0] <= end <= may.end[1]:
                problems.append(f"{slug}: end of the session at {want.start:.1f} is off by {end:.2f} s")
            if got.is_open:
                problems.append(f"{slug}: the session at {want.start:.1f} is still open")
            if len(got.parts or [0]) != len(want.parts):
                problems.append(f"{slug}: {len(got.parts or [0])} parts stored, {len(want.parts)} true")
    return problems


def pair_up(true: Sequence[truth.Stay], stored: Sequence[Session]) -> list[tuple[truth.Stay, Session]]:
    """Each true session with the stored one of the same listener.

    Addresses are gone; whoever knows one, and the secret while it is there, can
    still make the key of it.
    """
    secrets = [bytes(one.value) for one in Secret.objects.all()]
    by_listener = {one.listener: one for one in stored}
    pairs = []
    for want in true:
        address = Address(ip=want.ip, agent=want.agent)
        keys = {listener_key(address, secret) for secret in secrets}
        found = [by_listener.pop(key) for key in keys & by_listener.keys()]
        pairs += [(want, got) for got in found]
    return pairs


def summary(errors: Sequence[float]) -> str:
    if not errors:
        return "      -       "
    return f"{min(errors):+.2f} / {statistics.median(errors):+.2f} / {max(errors):+.2f}"


def check_on_air(station: Station, late: float) -> list[str]:
    """The diffusions' bounds beside what left the playout."""
    problems = []
    print("\ndiffusion                 start error s   end error s   bounds stand on")
    spans = {
        "One sound": station.on_air.span("show_0_0"),
        "Two sounds": station.on_air.span("show_2_0", "show_2_1"),
        "Live, without a sound": (station.began + 62, station.began + 97),
    }
    for airing in Airing.objects.on_layer(Layer.DIFFUSION).order_by("started"):
        start, end = spans[airing.title]
        errors = to_ms(airing.started) / 1000 - start, to_ms(airing.ended) / 1000 - end
        print(
            f"{airing.title:25s} {errors[0]:+8.2f}      {errors[1]:+8.2f}      {airing.start_basis}, {airing.end_basis}"
        )
        # Liquidsoap's air time is in whole seconds, the Monitor ticks each half second, the fade lasts 2 s.
        if max(map(abs, errors)) > 3 + late:
            problems.append(f"{airing.title}: bounds are off by {errors[0]:.1f} and {errors[1]:.1f} s")
    found = Airing.objects.on_layer(Layer.DIFFUSION).count()
    if found != len(spans):
        problems.append(f"{found} diffusions, {len(spans)} took place")
    for layer in (Layer.SOUND, Layer.TRACK):
        if not Airing.objects.on_layer(layer).exists():
            problems.append(f"no {layer} airing at all")
    return problems


def check_figures(station: Station, stays: Sequence[truth.Stay], allowed: dict[str, truth.Allowed]) -> list[str]:
    """Each airing's audience beside the one that the scripted listeners make, within the allowed errors."""
    problems = []
    print("\nairing                          seconds: ours   true    peak      joined    left      stayed")
    until = station.began + playout.RUN_SECONDS
    rows = Audience.objects.under("all").select_related("airing").order_by("airing__layer", "airing__started")
    seen = 0
    for row in rows:
        a, b = to_ms(row.airing.started) / 1000, to_ms(row.airing.ended) / 1000
        if b <= station.began or a >= until:
            continue
        seen += 1
        exact, seconds = truth.listening_seconds(stays, allowed, a, b)
        exact_peak, peaks = truth.peak(stays, allowed, a, b)
        ranges = {
            "listening seconds": (row.listening_ms / 1000, seconds),
            "peak": (row.peak, peaks),
            "joined": (row.joined, truth.joined(stays, allowed, a, b)),
            "left": (row.left, truth.left(stays, allowed, a, b)),
            "stayed": (row.stayed, truth.stayed(stays, allowed, a, b)),
        }
        name = f"{row.airing.layer}: {row.airing.title}"[:30]
        print(
            f"{name:30s} {row.listening_ms / 1000:12.1f} {exact:8.1f}  {row.peak:3d} ({exact_peak:d})"
            + "".join(f"  {ranges[key][0]:3d} ({ranges[key][1]})" for key in ("joined", "left", "stayed"))
        )
        for key, (ours, within) in ranges.items():
            if not within.holds(ours):
                problems.append(f"{name} from {a - station.began:.1f} s: {key} is {ours}, allowed {within}")
        if row.inherited + row.joined != row.sessions or row.left + row.kept != row.sessions:
            problems.append(f"{name}: the flow does not add up")
    if seen < len(playout.SCHEDULE) + 4:
        problems.append(f"only {seen} airings have figures")
    return problems


def check_live(watcher: Watcher, heard: Sequence[listeners.Heard], began: float, late: float) -> list[str]:
    """The count that the websocket showed is, at every moment, the true one of the last two seconds.

    A busy machine lets the callback, the collector and the hub wait, each in its turn.
    """
    problems = []
    step, patience = 0.25, 2.0 + 3 * late
    worst = 0.0
    for slug in ("callbacks",):
        mount = MOUNTS[slug]
        at = began + 3
        late = 0.0
        while at < began + playout.RUN_SECONDS - 5:
            shown = watcher.count(slug, at)
            recent = {truth.count_at(heard, mount, at - back * 0.05) for back in range(int(patience / 0.05) + 1)}
            late = 0.0 if shown in recent else late + step
            worst = max(worst, late)
            if shown not in recent:
                problems.append(f"live count of {slug} at {at - began:.2f} s is {shown}, true {sorted(recent)}")
            at += step
        now_true = [truth.count_at(heard, mount, began + second) for second in range(int(playout.RUN_SECONDS))]
        print(
            f"\nlive count of {slug}: {len(watcher.frames)} frames, true count from {min(now_true)} to {max(now_true)},"
            f" longest time beyond {patience:g} s: {worst:.2f} s"
        )
    return problems[:10]
