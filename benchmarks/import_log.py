"""An Icecast log of five million lines into finished sessions, against GoAccess parsing the same file.

Finished: stitched, recognised (app, country, crawlers), labelled and in the
indexed tables, by ``listen_stats_import`` into an empty, migrated database.
GoAccess, of Debian, parses the file and writes its JSON report; it builds
panels and no sessions. *parse* is our reader alone. Memory is the sum over
our processes, sampled; the database server is none of them. A PostgreSQL that
is started for this has a ``max_wal_size`` of 4 GB, as its manual advises for
filling a table (14.4, "Populating a Database").

    python -m benchmarks.import_log [--quick]

Exit status 1 when a must is missed. The musts of time are those of five million lines: a short log takes its
time to begin and to end with, the index of the table for instance, which has no musts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import _access_log
from benchmarks._own_database import KINDS, own_database
from benchmarks._ratios import line

LINES, QUICK_LINES = 5_000_000, 500_000
FEWER = 5
"""Memory is measured with so many times fewer days too: it must not grow with the file."""
ROUNDS, QUICK_ROUNDS = 3, 1
MUSTS = {"parse": (8.0, 12.0), "postgresql": (4.0, 7.0), "sqlite": (3.0, 5.0)}
"""Must and goal: how many times faster than GoAccess."""
MUST_MEGABYTES, GOAL_MEGABYTES = 600, 300
MUST_GROWTH, GOAL_GROWTH = 1.5, 1.1
"""Of the memory with all the lines over that with fewer."""
MUST_WAIT_SECONDS, GOAL_WAIT_SECONDS = 0.3, 0.15
"""So long another writer on the same SQLite file, as aircox's Monitor is one, may wait, but for one time in twenty."""
WRITE_EACH_SECONDS = 0.1

SAMPLE_SECONDS = 0.02
GOACCESS = (
    "goaccess",
    "--no-global-config",
    '--log-format=%h %^[%d:%t %^] "%r" %s %b "%R" "%u" %T',
    "--date-format=%d/%b/%Y",
    "--time-format=%T",
)
COUNTRIES = (("198.18.0.0/16", "BE"), ("198.19.0.0/16", "FR"), ("2001:db8::/33", "NL"))


def main() -> int:
    """The number of musts that were missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_LINES:,} lines instead of {LINES:,}, once")
    parser.add_argument("--on", choices=(*KINDS, "parse"), help="one of ours alone, of the log that is given")
    parser.add_argument("--log", type=Path, help="the log for --on")
    given = parser.parse_args()
    if given.on:
        print(json.dumps(_parse(given.log) if given.on == "parse" else _import(given.on, given.log)))
        return 0
    with tempfile.TemporaryDirectory(prefix="listen-stats-bench-") as folder:
        return compare(Path(folder), lines=QUICK_LINES if given.quick else LINES, quick=given.quick)


def compare(folder: Path, *, lines: int, quick: bool) -> int:
    """The number of musts that were missed with a log of so many lines."""
    from tests.parts import postgres
    from tools import parts

    parts.find("goaccess")
    log, less = folder / "access.log", folder / "less.log"
    size = _access_log.write(log, lines)
    _access_log.write(less, lines // FEWER, days=_access_log.DAYS // FEWER)
    print(f"{lines:,} lines, {size / 1e6:,.0f} MB", flush=True)
    postgres.server()  # started here, so that it is none of the processes whose memory is summed
    try:
        rounds = QUICK_ROUNDS if quick else ROUNDS
        theirs, ours = _rounds(log, rounds, folder)
        fewer = {kind: _ours(kind, less) for kind in KINDS}
        return _tell(theirs, ours, lines, quick=quick) + _tell_memory(ours, fewer, lines, quick=quick)
    finally:
        postgres.stop()


def _rounds(log: Path, rounds: int, folder: Path) -> tuple[list[float], dict[str, list[dict[str, Any]]]]:
    """GoAccess and ours in turn."""
    theirs: list[float] = []
    ours: dict[str, list[dict[str, Any]]] = {kind: [] for kind in MUSTS}
    for _ in range(rounds):
        theirs.append(_goaccess(log, folder / "report.json"))
        for kind, told in ours.items():
            told.append(_ours(kind, log))
    return theirs, ours


def _tell(theirs: list[float], ours: dict[str, list[dict[str, Any]]], lines: int, *, quick: bool) -> int:
    seconds = statistics.median(theirs)
    print(f"  GoAccess: median {seconds:.1f} s, {lines / seconds:,.0f} lines a second ({len(theirs)} times)")
    missed = 0
    for kind, told in ours.items():
        took = statistics.median(one["seconds"] for one in told)
        print(f"  {kind}: median {took:.1f} s, {lines / took:,.0f} lines a second; {told[-1]['about']}")
        for one in told:
            _check(one["counts"], lines)
        must, goal = MUSTS[kind]
        missed += line(f"import_goaccess_over_{kind}", seconds / took, must=None if quick else must, goal=goal)
    wait = statistics.median(one["wait_seconds"] for one in ours["sqlite"])
    return missed + line(
        "import_sqlite_other_writer_s", wait, must=MUST_WAIT_SECONDS, goal=GOAL_WAIT_SECONDS, less_is_better=True
    )


def _tell_memory(
    ours: dict[str, list[dict[str, Any]]], fewer: dict[str, dict[str, Any]], lines: int, *, quick: bool
) -> int:
    missed = 0
    for kind in KINDS:
        most, with_fewer = max(one["megabytes"] for one in ours[kind]), fewer[kind]["megabytes"]
        print(f"  {kind}: {most:.0f} MB at most; with {lines // FEWER:,} lines {with_fewer:.0f} MB")
        missed += line(f"import_megabytes.{kind}", most, must=MUST_MEGABYTES, goal=GOAL_MEGABYTES, less_is_better=True)
        # A short log does not fill what is remembered.
        must = None if quick else MUST_GROWTH
        missed += line(
            f"import_megabytes_growth.{kind}", most / with_fewer, must=must, goal=GOAL_GROWTH, less_is_better=True
        )
    return missed


def _check(counts: dict[str, int], lines: int) -> None:
    """Every line was kept, skipped or refused, and the odd ones of the log are among them."""
    accounted = sum(count for name, count in counts.items() if name != "read")
    if counts["read"] != lines or accounted != lines:
        raise SystemExit(f"Of {lines:,} lines {counts['read']:,} were read and {accounted:,} accounted for.")
    if not counts.get("refused_cut") or counts["kept"] < 0.9 * lines:
        raise SystemExit(f"The log was not read as it was made: {counts}.")


def _goaccess(log: Path, report: Path) -> float:
    """Its seconds. It must have understood the log: all lines but those that are cut."""
    began = time.perf_counter()
    subprocess.run([*GOACCESS, str(log), "-o", str(report)], check=True, capture_output=True)
    took = time.perf_counter() - began
    general = json.loads(report.read_text())["general"]
    if general["valid_requests"] < 0.99 * general["total_requests"]:
        raise SystemExit(f"GoAccess understood {general['valid_requests']} of {general['total_requests']} lines.")
    return took


def _ours(kind: str, log: Path) -> dict[str, Any]:
    """What one run tells, in a process of its own, with the memory that it and its children took at most."""
    running = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.import_log", "--on", kind, "--log", str(log)],
        stdout=subprocess.PIPE,
        text=True,
    )
    most = 0.0
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(SAMPLE_SECONDS):
            most = max(most, _megabytes(running.pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        out, _ = running.communicate()
    finally:
        over.set()
        watching.join()
    if running.returncode:
        raise SystemExit(f"The run on {kind} ended with status {running.returncode}.")
    return {**json.loads(out.splitlines()[-1]), "megabytes": most}


def _megabytes(pid: int) -> float:
    """Resident memory of a process and all below it; what they share counts each time."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, IndexError):
        return 0.0  # it has ended meanwhile
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6 + sum(_megabytes(int(child)) for child in children)


def _parse(log: Path) -> dict[str, Any]:
    from aircox_listen_stats.sources.logfile import BlockLog

    counts: Counter[str] = Counter()
    began = time.perf_counter()
    for columns in BlockLog(log).columns(_access_log.MOUNTS):
        counts.update(columns.counts)
    took = time.perf_counter() - began
    return {"seconds": took, "counts": dict(counts), "about": "the lines as columns, addresses and agents numbered"}


def _import(kind: str, log: Path) -> dict[str, Any]:
    with own_database(kind):
        from django.conf import settings
        from django.test import override_settings

        countries = Path(os.environ["EXAMPLE_STATION_DIR"]) / "countries.mmdb"
        _write_countries(countries)
        with override_settings(
            AIRCOX_LISTEN_STATS={**settings.AIRCOX_LISTEN_STATS, "COUNTRY_DATABASE": str(countries)}
        ):
            return _imported(log)


def _imported(log: Path) -> dict[str, Any]:
    from aircox.models import Station
    from django.core.management import call_command

    from aircox_listen_stats.models import ImportedLog, Session
    from aircox_listen_stats.pipeline import importing

    Station.objects.create(pk=1, name="Radio Example", slug="example", default=True)
    transactions: list[float] = []
    store = importing.Run.store

    def noting(self: Any, step: Any) -> float:
        transactions.append(store(self, step))
        return transactions[-1]

    importing.Run.store = noting  # type: ignore[method-assign]
    with _other_writer() as waits:
        began = time.perf_counter()
        call_command("listen_stats_import", str(log), verbosity=0)
        took = time.perf_counter() - began
    sessions = Session.objects.count()
    if not Session.objects.filter(country="NL").exclude(app="").exists():
        raise SystemExit("The sessions were not recognised.")
    about = f"{sessions:,} sessions, {len(transactions)} transactions, median {statistics.median(transactions):.2f} s"
    if waits:
        about += f"; another writer waited {max(waits):.2f} s at most in {len(waits)} times"
    return {
        "seconds": took,
        "counts": ImportedLog.objects.get().counts,
        "wait_seconds": sorted(waits)[len(waits) * 19 // 20] if waits else 0.0,
        "about": about,
    }


@contextmanager
def _other_writer() -> Iterator[list[float]]:
    """On SQLite a process that writes now and then, as aircox's Monitor does; what it waited, once it is over."""
    from django.db import connection

    waits: list[float] = []
    if connection.vendor != "sqlite":
        yield waits
        return
    writing = subprocess.Popen(
        [sys.executable, "-c", OTHER_WRITER, str(connection.settings_dict["NAME"]), str(WRITE_EACH_SECONDS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield waits
    finally:
        out, _ = writing.communicate("over\n")
    waits += json.loads(out)


OTHER_WRITER = """
import json, select, sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
waits = []
while not select.select([sys.stdin], [], [], float(sys.argv[2]))[0]:
    began = time.perf_counter()
    database.execute("BEGIN IMMEDIATE")
    waits.append(time.perf_counter() - began)
    database.execute("CREATE TABLE IF NOT EXISTS other_writer (at REAL)")
    database.execute("INSERT INTO other_writer VALUES (?)", (began,))
    database.execute("COMMIT")
print(json.dumps(waits))
"""
"""Nothing of ours is imported, so that it takes no memory and no time."""


def _write_countries(path: Path) -> None:
    from mmdb_writer import MMDBWriter
    from netaddr import IPSet

    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="Benchmark-Country")
    for network, code in COUNTRIES:
        writer.insert_network(IPSet([network]), {"country": {"iso_code": code}})
    writer.to_db_file(str(path))


if __name__ == "__main__":
    sys.exit(min(main(), 1))
