"""Delivery of one live frame to thousands of websockets: the hub against Channels' own group_send.

Both stand on the same server, the same Redis and the same machine in the same
run, and both are timed with the Redis hop: from just before the publisher's
``group_send`` until a client holds the frame. The peer is the better, figure by
figure, of channels_redis' two layers, tuned as its users would.

    python -m benchmarks.fanout [--quick]

Exit status 1 when a must is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._ratios import line
from tests.parts import redis
from tests.parts.child import LOOPBACK, Child, answers, free_port, python_path

SLUG = "fanout"
OURS_PATH = f"/ws/listen-stats/{SLUG}/"
BROADCASTS = 10
SLOW_BROADCASTS = 5
"""Of a peer; it takes seconds for each."""
QUICK_BROADCASTS = 5
SLOW_QUICK_BROADCASTS = 2
WARM_UP = 1
PAUSE_SECONDS = 1.3
"""Between two broadcasts of the hub: it sends one a second at most, and is not measured while it waits."""
PEER_PAUSE_SECONDS = 0.3
SETTLE_SECONDS = 0.1
"""CPU that is spent this long after the last receipt still belongs to the broadcast."""
ARRIVE_SECONDS = 20.0
"""A frame that has not arrived by then is lost."""
WATCH_SECONDS = 0.02
NS_PER_MS = 1_000_000

FULL_CLIENTS = 5_000
MUST_P99_RATIO = 10.0
MUST_CPU_RATIO = 15.0
GOAL_CPU_RATIO = 20.0
"""At FULL_CLIENTS on uvicorn: what this project promises."""
HELD_CLIENTS = 10_000
SMALL_CLIENTS = 1_000
QUICK_CLIENTS = 2_000
QUICK_MUST_P99_RATIO = 5.0
QUICK_MUST_CPU_RATIO = 7.0
"""At QUICK_CLIENTS on uvicorn: about half of what was measured there (8.7 and 15), since fewer
clients leave both sides closer and a short run wavers more."""
QUICK_DAPHNE_CLIENTS = 500

SERVERS = {
    # Nobody offers compression here, as no browser should get it: docs/live.md. Pings are off for
    # both sides, so that a CPU figure is that of the broadcast alone.
    "uvicorn": (
        *("uvicorn", "--ws", "websockets-sansio", "--ws-per-message-deflate", "false", "--backlog", "4096"),
        *("--ws-ping-interval", "3600", "--log-level", "warning", "--lifespan", "off"),
    ),
    "daphne": ("daphne", "-v", "0", "--ping-interval", "3600", "--ping-timeout", "7200"),
}
PORT_OPTIONS = {"uvicorn": ("--host", LOOPBACK, "--port"), "daphne": ("-b", LOOPBACK, "-p")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What a run of broadcasts came to: medians over the broadcasts, so that a neighbour's burst is no result."""

    clients: int
    p50_ms: float
    p99_ms: float
    cpu_ms: float  # of the server, per broadcast
    lost: int
    kb_per_client: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One server with so many clients: ours against the peers, and what is asked of it."""

    server: str
    clients: int
    peers: Sequence[str] = ("core", "pubsub")  # none: it is only to hold them
    must_p99: float | None = None
    must_cpu: float | None = None
    goal_cpu: float | None = None


FULL = (
    Round(server="uvicorn", clients=SMALL_CLIENTS),
    Round(
        server="uvicorn",
        clients=FULL_CLIENTS,
        must_p99=MUST_P99_RATIO,
        must_cpu=MUST_CPU_RATIO,
        goal_cpu=GOAL_CPU_RATIO,
    ),
    Round(server="uvicorn", clients=HELD_CLIENTS, peers=()),
    Round(server="daphne", clients=SMALL_CLIENTS),
    Round(server="daphne", clients=FULL_CLIENTS, must_p99=MUST_P99_RATIO),
    Round(server="daphne", clients=HELD_CLIENTS, peers=()),
)
QUICK = (
    Round(server="uvicorn", clients=QUICK_CLIENTS, must_p99=QUICK_MUST_P99_RATIO, must_cpu=QUICK_MUST_CPU_RATIO),
    Round(server="daphne", clients=QUICK_DAPHNE_CLIENTS, peers=("pubsub",)),
)


def layers(url: str) -> dict[str, dict[str, Any]]:
    """The channel layers, tuned: redis-py's socket timeout of 5 s would end idle consumers."""
    host = {"address": url, "socket_timeout": None, "max_connections": 15_000}
    return {
        "core": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [host], "capacity": 10_000},
        },
        "pubsub": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [host]}},
    }


class Clients:
    """The process that holds the clients."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._fanout_clients"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def order(self, *words: object) -> dict[str, int]:
        self._popen.stdin.write(" ".join(map(str, words)) + "\n")
        self._popen.stdin.flush()
        answer = self._popen.stdout.readline()
        if not answer:
            raise SystemExit("The clients' process ended; its message stands above.")
        return json.loads(answer)

    def receipts(self) -> tuple[array[int], array[int]]:
        """Number and instant of every frame that arrived."""
        file = self._folder / "receipts"
        frames = self.order("report", file)["frames"]
        values = array("q", file.read_bytes())
        return values[:frames], values[frames:]

    def stop(self) -> None:
        self._popen.stdin.close()
        self._popen.stdout.close()
        self._popen.kill()
        self._popen.wait()


class Station:
    """The publisher: it writes LiveState and sends, as the collector does."""

    def __init__(self) -> None:
        import django

        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks._fanout_settings"
        django.setup()
        from aircox.models import Station as StationRow
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        self.id = StationRow.objects.create(name="Fan-out", slug=SLUG).pk
        self.number = 0

    def payload(self) -> dict[str, Any]:
        """A frame of usual size; ``listeners`` is its number."""
        from aircox_listen_stats.web import frames

        now_ms = time.time_ns() // NS_PER_MS
        public = {
            "v": frames.VERSION,
            "station": SLUG,
            "at": frames.to_text(now_ms),
            "listeners": self.number,
            "on_air": {
                "title": "Morning show, first hour",
                "program": "Morning show",
                "program_id": 12,
                "diffusion_id": 3456,
                "started": "2026-11-22T06:00:00.000Z",
                "ends": "2126-11-22T09:00:00.000Z",
                "live": True,
                "track": None,
            },
        }
        staff = {**public, "streams": [], "countries": [], "apps": []}
        return {"public": public, "staff": staff, "at_ms": now_ms, "stale_after_ms": 3_600_000}

    def store(self) -> dict[str, Any]:
        """Makes the next frame, writes it, and gives the message to send."""
        from aircox_listen_stats.models import LiveState

        self.number += 1
        payload = self.payload()
        LiveState.objects.update_or_create(
            station_id=self.id, defaults={"published": payload["at_ms"], "payload": payload}
        )
        texts = {view: json.dumps(payload[view], separators=(",", ":")) for view in ("public", "staff")}
        return {"type": "live.frame", **payload, **texts}


def publish(layer: Any, group: str, message: dict[str, Any]) -> int:
    """The instant just before the frame was sent."""

    async def send() -> int:
        # The connection first: a collector has one already.
        await layer.group_send("nobody", {"type": "none"})
        instant = time.monotonic_ns()
        await layer.group_send(group, message)
        return instant

    return asyncio.run(send())


def cpu_ns(pid: int) -> int:
    """CPU time that the threads of ``pid`` have had."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def rss_kb(pid: int) -> int:
    """Memory of ``pid`` now."""
    for told in Path(f"/proc/{pid}/status").read_text().splitlines():
        if told.startswith("VmRSS:"):
            return int(told.split()[1])
    raise SystemExit(f"The server {pid} tells no VmRSS; is this Linux?")


def deliver(
    station: Station, folder: Path, *, server: str, kind: str, layer: dict[str, Any], clients: int, broadcasts: int
) -> Delivery:
    """One server start with ``clients`` sockets, and so many broadcasts after the warm-up."""
    from django.utils.module_loading import import_string

    from aircox_listen_stats.web import frames
    from benchmarks._fanout_server import PEER_GROUP

    ours = kind == "hub"
    port = free_port()
    application = f"benchmarks._fanout_server:{'hub' if ours else 'group_send'}"
    environment = {"FANOUT_LAYER": json.dumps(layer), "PYTHONPATH": python_path(os.environ)}
    station.store()
    child = Child(
        [sys.executable, "-m", *SERVERS[server], *PORT_OPTIONS[server], str(port), application],
        folder=folder,
        name=f"{server}-{kind}-{clients}",
        environment=environment,
    )
    crowd = Clients(folder)
    try:
        child.wait_until(lambda: answers(port))
        rss_before = rss_kb(child.pid)
        held = crowd.order("open", clients, port, OURS_PATH)["open"]
        kb_per_client = (rss_kb(child.pid) - rss_before) / clients
        publisher = import_string(layer["BACKEND"])(**layer["CONFIG"])
        group = frames.group_name(station.id) if ours else PEER_GROUP
        published: dict[int, int] = {}
        cpus, lost = [], 0
        for turn in range(WARM_UP + broadcasts):
            time.sleep(PAUSE_SECONDS if ours else PEER_PAUSE_SECONDS)
            message = station.store()
            before = cpu_ns(child.pid)
            instant = publish(publisher, group, message)
            arrived = _wait(crowd, station.number, held)
            time.sleep(SETTLE_SECONDS)
            if turn >= WARM_UP:
                published[station.number] = instant
                cpus.append((cpu_ns(child.pid) - before) / NS_PER_MS)
                lost += clients - arrived
        latencies = by_broadcast(published, *crowd.receipts())
        if not all(latencies):
            raise SystemExit(f"A whole broadcast was lost by {server} {kind}.\n{child.tail()}")
        return Delivery(
            clients=clients,
            p50_ms=statistics.median(percentile(one, 0.50) for one in latencies),
            p99_ms=statistics.median(percentile(one, 0.99) for one in latencies),
            cpu_ms=statistics.median(cpus),
            lost=lost,
            kb_per_client=kb_per_client,
        )
    finally:
        crowd.stop()
        child.kill()


def by_broadcast(published: Mapping[int, int], numbers: array[int], instants: array[int]) -> list[list[float]]:
    """Milliseconds to each receipt of each broadcast, sorted."""
    latencies: dict[int, list[float]] = {number: [] for number in published}
    for number, instant in zip(numbers, instants, strict=True):
        if number in latencies:
            latencies[number].append((instant - published[number]) / NS_PER_MS)
    return [sorted(one) for one in latencies.values()]


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that ``share`` of the sorted values do not exceed."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _wait(crowd: Clients, number: int, held: int) -> int:
    """How many clients have frame ``number``, once all have it or it is late."""
    deadline = time.monotonic() + ARRIVE_SECONDS
    while (arrived := crowd.order("count", number)["count"]) < held and time.monotonic() < deadline:
        time.sleep(WATCH_SECONDS)
    return arrived


class Board:
    """The printed result, and whether a must was missed."""

    def __init__(self) -> None:
        self.missed = 0

    def row(self, server: str, kind: str, delivery: Delivery) -> None:
        print(
            f"{server:8} {kind:20} {delivery.clients:6d} clients  p50 {delivery.p50_ms:7.1f} ms  "
            f"p99 {delivery.p99_ms:7.1f} ms  CPU {delivery.cpu_ms:7.1f} ms a broadcast  "
            f"lost {delivery.lost}  {delivery.kb_per_client:.0f} KB a client",
            flush=True,
        )

    def ratio(self, name: str, value: float, *, must: float | None, goal: float | None = None) -> None:
        self.missed += line(name, value, must=must, goal=goal)

    def nothing_lost(self, name: str, delivery: Delivery) -> None:
        self.missed += delivery.lost > 0
        print(f"LOST {name} {delivery.lost} must=0{' MISSED' if delivery.lost else ''}", flush=True)


def compare(board: Board, station: Station, folder: Path, url: str, asked: Round, *, quick: bool) -> None:
    """Prints ours and the peers, and how many times lower our p99 and CPU are than the better peer's."""
    configured = layers(url)

    def run(kind: str, layer: str, broadcasts: int) -> Delivery:
        delivery = deliver(
            station,
            folder,
            server=asked.server,
            kind=kind,
            layer=configured[layer],
            clients=asked.clients,
            broadcasts=broadcasts,
        )
        board.row(asked.server, f"{kind} ({layer})", delivery)
        return delivery

    name = f"{asked.server}-{asked.clients}{'-quick' if quick else ''}"
    ours = run("hub", "pubsub", QUICK_BROADCASTS if quick else BROADCASTS)
    board.nothing_lost(name, ours)
    theirs = [run("group_send", layer, SLOW_QUICK_BROADCASTS if quick else SLOW_BROADCASTS) for layer in asked.peers]
    if theirs:
        p99 = min(peer.p99_ms for peer in theirs) / ours.p99_ms
        cpu = min(peer.cpu_ms for peer in theirs) / ours.cpu_ms
        board.ratio(f"p99-{name}", p99, must=asked.must_p99)
        board.ratio(f"cpu-{name}", cpu, must=asked.must_cpu, goal=asked.goal_cpu)


def main() -> int:
    """0 when every must is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer clients and broadcasts, in less than 90 s")
    quick = parser.parse_args().quick
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    folder = Path(tempfile.mkdtemp(prefix="listen-stats-fanout-"))
    os.environ["EXAMPLE_STATION_DIR"] = str(folder)
    server = redis.start()
    os.environ["FANOUT_LAYER"] = json.dumps(layers(server.url)["pubsub"])
    board = Board()
    try:
        station = Station()
        for asked in QUICK if quick else FULL:
            compare(board, station, folder, server.url, asked, quick=quick)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if board.missed else 0


if __name__ == "__main__":
    sys.exit(main())
