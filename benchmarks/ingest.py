"""Stream events over HTTP, batches of 1,000: ours against a plain Django REST view; then Icecast's callbacks.

Both are served by one uvicorn each, in turn, on the same database, and take
the same bodies over two keep-alive connections. Ours asks for a token,
validates each event by itself, forgets its address, knows what was sent before
and has room for dead letters, behind the middleware of the example station.
The peer has no middleware, asks for no token, validates by a ModelSerializer
(many=True) and writes by one bulk_create; what is sent twice it has twice.
Half of the events are connections to Icecast, half segments of HLS.

    python -m benchmarks.ingest [--quick] [--events-only]

Exit status 1 when a must is missed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import queue
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection

from benchmarks import _callbacks
from benchmarks._own_database import KINDS, on_each_database, own_database
from benchmarks._ratios import line

MUST, GOAL = 4.0, 6.0
EVENTS = 1_000
"""In one batch."""
BATCHES, ROUNDS = 60, 5
QUICK_BATCHES, QUICK_ROUNDS = 15, 2
WARM = 5
"""Batches that are sent before the clock starts."""
LISTENERS = 1_000
"""At once: a large station of the kind that runs aircox."""
CONNECTIONS = 2
WRONG_EVERY = 100
SEED = 3

OURS, PEER = "/audience/api/v1/stats/ingest/stream-events/", "/stream-events/"

AGENTS = (
    "VLC/3.0.20 LibVLC/3.0.20",
    "WinampMPEG/2.8 Sonos/85.0-64200 (ZPS29)",
    "AppleCoreMedia/1.0.0.21G93 (iPhone; U; CPU OS 17_6 like Mac OS X; fr_be)",
    "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
    "RadioDroid/0.86",
    "TuneIn Radio/29.1; iPhone14,5; iOS/17.6",
    "Lavf/59.27.100",
)


def main() -> int:
    """The number of databases that missed a must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer batches and rounds")
    parser.add_argument("--events-only", action="store_true", help="without the callbacks")
    parser.add_argument("--on", choices=KINDS, help="the events on this database alone")
    given = parser.parse_args()
    if given.on:
        with own_database(given.on):
            return measure(given.on, quick=given.quick)
    missed = on_each_database("ingest", quick=given.quick)
    return missed + (0 if given.events_only else _callbacks.measure(given.quick))


def measure(kind: str, *, quick: bool) -> int:
    """0 when the must holds on this kind of database."""
    batches, rounds = (QUICK_BATCHES, QUICK_ROUNDS) if quick else (BATCHES, ROUNDS)
    made = _batches(batches + WARM)
    _create_peer_table()
    token = _token()
    print(f"\n{kind}: {batches} batches of {EVENTS:,} events ({len(made[0]) / EVENTS:.0f} bytes each), {rounds} rounds")
    ours, peers = [], []
    for _ in range(rounds):
        peers.append(_run("Django REST, many=True and bulk_create", PEER, made, ""))
        ours.append(_run("ours", OURS, made, token))
    _run("ours, all sent before", OURS, made, token, keep=True)
    _run(f"ours, one of {WRONG_EVERY} is refused and kept", OURS, _with_wrong(made), token)
    ratio = statistics.median(ours) / statistics.median(peers)
    return line(f"ingest_over_rest.{kind}", ratio, must=MUST, goal=GOAL)


# What is sent -----------------------------------------------------------------------


def _batches(count: int) -> list[bytes]:
    """The bodies: an hour of events up to now, no two alike."""
    chance = random.Random(SEED)
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    return [
        json.dumps([_event(chance, now, batch * EVENTS + n) for n in range(EVENTS)]).encode() for batch in range(count)
    ]


def _event(chance: random.Random, now: dt.datetime, number: int) -> dict[str, object]:
    who = chance.randrange(LISTENERS)
    is_hls = number % 2 == 0
    ended = now - dt.timedelta(seconds=chance.randrange(3600))
    seconds = 0 if is_hls else chance.randrange(1, 7200)
    return {
        "origin": "hls" if is_hls else "icecast",
        "ip": f"198.{18 + who // 65_536}.{who // 256 % 256}.{who % 256}",
        "method": "GET",
        "path": f"/hls/{chance.choice(('hi', 'lo'))}_{number // 100}.ts" if is_hls else "/live.mp3",
        "status": 200,
        "bytes_sent": 100_000 + number,
        "user_agent": AGENTS[who % len(AGENTS)],
        "referer": "https://radio.example/",
        "time_start": _stamp(ended - dt.timedelta(seconds=seconds)),
        "time_end": _stamp(ended),
        "seconds_connected": seconds,
    }


def _stamp(at: dt.datetime) -> str:
    return at.strftime("%d/%b/%Y:%H:%M:%S +0000")


def _with_wrong(made: Sequence[bytes]) -> list[bytes]:
    """The same batches with a status of 20X in some events, otherwise new ones."""
    changed = []
    for body in made:
        events = json.loads(body)
        for number, event in enumerate(events):
            event["bytes_sent"] += 10_000_000
            if number % WRONG_EVERY == 0:
                event["status"] = "20X"
        changed.append(json.dumps(events).encode())
    return changed


# Who takes it -----------------------------------------------------------------------


def _create_peer_table() -> None:
    from django.db import connection

    from benchmarks._ingest_peer import Event

    with connection.schema_editor() as editor:
        editor.create_model(Event)


def _token() -> str:
    from aircox_listen_stats.pipeline import tokens

    return tokens.create(name="bench", source="events", scopes=["ingest"], now_ms=time.time_ns() // 1_000_000)[1]


def _forget() -> None:
    from aircox_listen_stats.models import DeadLetter, Inbox, StreamEvent
    from benchmarks._ingest_peer import Event

    for model in (DeadLetter, Inbox, StreamEvent, Event):
        model.objects.all()._raw_delete(using="default")


def _run(name: str, path: str, bodies: Sequence[bytes], token: str, *, keep: bool = False) -> float:
    """Events a second of one server, every one of them stored."""
    from tests.parts.child import free_port

    if not keep:
        _forget()
    port = free_port()
    with _serving(port, is_peer=path == PEER):
        _send(port, path, bodies[:WARM], token)
        began = time.perf_counter()
        taken = _send(port, path, bodies[WARM:], token)
        seconds = time.perf_counter() - began
    _check(name, path, len(bodies) * EVENTS)
    rate = (len(bodies) - WARM) * EVENTS / seconds
    print(
        f"  {name}: {rate:,.0f} events/s; a batch in {statistics.median(taken) * 1000:.1f} ms, "
        f"at worst {max(taken) * 1000:.0f}",
        flush=True,
    )
    return rate


def _check(name: str, path: str, sent: int) -> None:
    from aircox_listen_stats.models import DeadLetter, StreamEvent
    from benchmarks._ingest_peer import Event

    stored = Event.objects.count() if path == PEER else StreamEvent.objects.count() + DeadLetter.objects.count()
    if stored != sent:
        raise SystemExit(f"{name}: {sent:,} events sent, {stored:,} in the database.")


@contextmanager
def _serving(port: int, *, is_peer: bool) -> Iterator[None]:
    from tests.parts.child import answers

    application = "benchmarks._ingest_peer:application" if is_peer else "aircox_listen_stats.asgi:application"
    quiet = ["--log-level", "warning", "--no-access-log"]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "benchmarks._ingest_settings"}
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), *quiet, application],
        env={**environment, "BENCHMARK_PEER": "1"} if is_peer else environment,
    )
    try:
        until = time.monotonic() + 30
        while not answers(port):
            if server.poll() is not None or time.monotonic() > until:
                raise SystemExit("uvicorn did not start.")
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait(30)


def _send(port: int, path: str, bodies: Sequence[bytes], token: str) -> list[float]:
    """Seconds that each batch took, over CONNECTIONS connections that are kept."""
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    for body in bodies:
        waiting.put(body)
    taken: list[float] = []
    failed: list[str] = []

    def work() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Content-Type": "application/json", "Authorization": f"Token {token}"}
        while not waiting.empty() and not failed:
            try:
                body = waiting.get_nowait()
            except queue.Empty:
                break
            began = time.perf_counter()
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            told = response.read()
            taken.append(time.perf_counter() - began)
            if response.status not in (200, 207):
                failed.append(f"{response.status}: {told[:200]!r}")
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(f"A batch was not taken: {failed[0]}")
    return taken


if __name__ == "__main__":
    sys.exit(min(main(), 1))
