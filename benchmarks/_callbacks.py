"""Icecast's callbacks: ours under uvicorn, journalled before the answer, against a view that writes a row.

The peer is gunicorn with four threads and one Django view without any
middleware, which keeps its database connections, parses the form and creates
a row. Ours forgets the address, journals, answers, and takes the journal into
the database meanwhile. Both answer the same client, 16 keep-alive connections,
in turn. Then ours alone at 5,000 a second, with and without JOURNAL_FSYNC; and
killed under full load: what was answered must be in the database, once.

    python -m benchmarks._callbacks [--quick]

Exit status 1 when a must is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._own_database import KINDS, on_each_database, own_database
from benchmarks._ratios import line

MUST_RATIO, GOAL_RATIO = 5.0, 10.0
GOAL_P99_MS = 20.0
RATE = 5_000.0
"""Callbacks a second of the goal: every listener of a large station reconnects within some seconds."""
ROUNDS, SECONDS = 5, 5.0
QUICK_ROUNDS, QUICK_SECONDS = 2, 2.0
KILL_AFTER_SECONDS = 4.0
BACKLOG_SECONDS = 60.0
TOKEN_PATH = "of-the-benchmark/"
"""The token of ``_callback_settings``, which only the servers may import."""
OURS, PEER = f"/audience/callback/ice/{TOKEN_PATH}", f"/callback/{TOKEN_PATH}"


def measure(quick: bool) -> int:
    """0 when every must holds, on both databases."""
    return on_each_database("_callbacks", quick=quick)


def main() -> int:
    """The number of databases that missed a must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter runs")
    parser.add_argument("--on", choices=KINDS, help="this database alone")
    given = parser.parse_args()
    if not given.on:
        return measure(given.quick)
    folder = Path(tempfile.mkdtemp(prefix="listen-stats-journals-"))
    folder.chmod(0o700)
    try:
        with own_database(given.on):
            return _measure(given.on, folder, quick=given.quick)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(kind: str, folder: Path, *, quick: bool) -> int:
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    print(f"\n{kind}: callbacks, {rounds} rounds of {seconds:g} s each")
    ours, peers = [], []
    for _ in range(rounds):
        peers.append(_run("gunicorn, 4 threads, ORM write", _gunicorn, folder, PEER, seconds, 0.0))
        ours.append(_run("uvicorn, journal", _uvicorn, folder, OURS, seconds, 0.0))
    paced = [_run("uvicorn, journal", _uvicorn, folder, OURS, seconds, RATE) for _ in range(rounds)]
    _run("uvicorn, journal with fsync", _uvicorn, folder, OURS, seconds, 0.0, BENCHMARK_FSYNC="1")
    _run("uvicorn, journal with fsync", _uvicorn, folder, OURS, seconds, RATE, BENCHMARK_FSYNC="1")
    lost = _killed(folder)
    ratio = _median(ours, "per_second") / _median(peers, "per_second")
    missed = line(f"callbacks_over_gunicorn.{kind}", ratio, must=MUST_RATIO, goal=GOAL_RATIO)
    missed += line(f"callbacks_lost_by_kill.{kind}", lost, must=0, goal=0, less_is_better=True)
    p99_ms = _median(paced, "p99_ms")
    line(f"callbacks_p99_ms_at_{RATE:.0f}.{kind}", p99_ms, must=math.inf, goal=GOAL_P99_MS, less_is_better=True)
    return missed


def _median(runs: Sequence[dict[str, Any]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


# Servers ------------------------------------------------------------------------


def _uvicorn(port: int) -> list[str]:
    application, quiet = "aircox_listen_stats.asgi:application", ["--log-level", "warning", "--no-access-log"]
    return ["uvicorn", "--host", "127.0.0.1", "--port", str(port), *quiet, application]


def _gunicorn(port: int) -> list[str]:
    threads = ["--worker-class", "gthread", "--threads", "4", "--keep-alive", "75", "--log-level", "warning"]
    return ["gunicorn", "--bind", f"127.0.0.1:{port}", *threads, "benchmarks._callback_peer:application"]


@contextmanager
def _serving(command: Sequence[str], port: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    from tests.parts.child import answers

    server = subprocess.Popen([sys.executable, "-m", *command], env=environment)
    try:
        until = time.monotonic() + 30
        while not answers(port):
            if server.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{command[0]} did not start.")
            time.sleep(0.05)
        yield server
    finally:
        server.terminate()
        server.wait(30)


def _environment(folder: Path, **more: str) -> dict[str, str]:
    settings = {"DJANGO_SETTINGS_MODULE": "benchmarks._callback_settings", "BENCHMARK_JOURNALS": str(folder)}
    return {**os.environ, **settings, **more}


def _run(name: str, server: Any, folder: Path, path: str, seconds: float, rate: float, **more: str) -> dict[str, Any]:
    """What the client says of one server, once everything that it answered is in the database."""
    from aircox_listen_stats.models import Inbox
    from tests.parts.child import free_port

    Inbox.objects.all().delete()
    port = free_port()
    environment = _environment(folder, **more, **({"BENCHMARK_PEER": "1"} if path == PEER else {}))
    with _serving(server(port), port, environment):
        told = json.loads(subprocess.check_output(_client(port, path, seconds, rate)))
        ended = time.monotonic()
        _wait_for(told["answered"])
    backlog = time.monotonic() - ended
    if told["admitted"] != told["answered"] or Inbox.objects.count() != told["answered"]:
        raise SystemExit(f"{name}: {told['answered']} answered, {Inbox.objects.count()} in the database.")
    pace = f"at {rate:,.0f}/s" if rate else "as fast as it goes"
    print(
        f"  {name}, {pace}: {told['per_second']:,.0f}/s, p50 {told['p50_ms']:.1f} ms, p99 {told['p99_ms']:.1f} ms,"
        f" worst {told['worst_ms']:.0f} ms; all in the database {backlog:.1f} s later",
        flush=True,
    )
    return told


def _client(port: int, path: str, seconds: float, rate: float) -> list[str]:
    return [sys.executable, "-m", "benchmarks._callback_client", str(port), path, str(seconds), str(rate)]


def _wait_for(rows: int) -> None:
    from aircox_listen_stats.models import Inbox

    until = time.monotonic() + BACKLOG_SECONDS
    while Inbox.objects.count() < rows and time.monotonic() < until:
        time.sleep(0.05)


def _killed(folder: Path) -> int:
    """How many of the answered callbacks are not in the database exactly once, after a kill under full load."""
    from aircox_listen_stats.models import Inbox
    from aircox_listen_stats.pipeline import journal
    from tests.parts.child import free_port

    Inbox.objects.all().delete()
    port = free_port()
    with _serving(_uvicorn(port), port, _environment(folder)) as server:
        client = subprocess.Popen(_client(port, OURS, 60.0, 0.0), stdout=subprocess.PIPE)
        time.sleep(KILL_AFTER_SECONDS)
        server.send_signal(signal.SIGKILL)
        told = json.loads(client.communicate(timeout=60)[0])
    before = Inbox.objects.count()
    begun = time.monotonic()
    while journal.waiting(folder).dead:
        journal.adopt(folder)
    rows = Inbox.objects.count()
    # At most one callback of each connection was kept and its answer not seen by the client.
    unseen = rows - told["answered"]
    print(
        f"  killed under full load: {told['answered']:,} answered, {before:,} in the database, {rows - before:,} taken"
        f" from the journal in {time.monotonic() - begun:.2f} s; {unseen} kept whose answers were under way"
    )
    return 0 if 0 <= unseen <= CONNECTIONS else abs(unseen)


CONNECTIONS = 16
"""Of the client."""


if __name__ == "__main__":
    sys.exit(min(main(), 1))
