"""The report of a month and of a year, and a CSV of a million rows, at a station with a million sessions a month.

The last month has its sessions; two years of roll-ups stand behind it, as the
pipeline writes them. Measured is the page of the report as a technician opens it, with
figures, days, programs, streams, countries, apps and sites beside the period
before and last year's, in a process that has shown one day before. The peer
is what a Django project without roll-ups asks its sessions for the month alone: totals,
distinct listeners, days, hours of the day, countries, apps and sites, by the obvious SQL; it makes no page, no
quarter-hours, no peak and no comparison. The CSV is that of every play of a
track in five years.

    python -m benchmarks.reports [--quick]

Exit status 1 when a must is missed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks._own_database import KINDS, on_each_database, own_database
from benchmarks._ratios import line

MUST_MONTH_S, MUST_YEAR_S = 2.0, 3.0
MUST_MB = 150.0
"""By so much a process may grow for a report."""
MUST_CSV, GOAL_CSV = 1.1, 1.02
"""The peak of a process that writes a million rows, over that of one that writes a tenth."""
MUST_PEER, GOAL_PEER = 2.0, 5.0
QUICK_MUST_PEER = 0.2
"""With a tenth of the sessions the peer has a tenth of the work, and the page as much as before."""

FIRST, LAST = dt.date(2026, 10, 1), dt.date(2026, 10, 31)
YEAR_FIRST = dt.date(2025, 11, 1)
END_MS = 1_793_502_000_000
"""2026-11-01 04:00 in Brussels, where the broadcast day of the 31st ends."""
DAYS = 32  # one more, of whom some are still there on the first
MONTH_SESSIONS, QUICK_MONTH_SESSIONS = 1_000_000, 100_000
ROLLED_UP_DAYS = 2 * 365 - 31
MONTHS = 25
RULE_SETS = ("triton", "all")
"""What a report reads: the station's own, and that of performances. A station keeps as many rows under each other."""
CSV_ROWS, QUICK_CSV_ROWS = 1_000_000, 200_000
DAY_MS = 24 * 3_600_000
MINIMUM_MS = 60_000
PAGES, PEERS = 5, 3


def main() -> int:
    """The number of databases that missed a must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="100,000 sessions a month instead of a million, a shorter CSV",
    )
    parser.add_argument("--on", choices=KINDS, help="this database alone")
    given = parser.parse_args()
    if given.on:
        with own_database(given.on):
            return measure(given.on, quick=given.quick)
    return on_each_database("reports", quick=given.quick)


def measure(kind: str, *, quick: bool) -> int:
    """How many musts were missed on this kind of database."""
    sessions = QUICK_MONTH_SESSIONS if quick else MONTH_SESSIONS
    rows = QUICK_CSV_ROWS if quick else CSV_ROWS
    print(f"\n{kind}: {sessions:,} sessions a month")
    _fill(sessions, rows)
    month = _opened("the month", f"/audience/report/?from={FIRST}&to={LAST}")
    year = _opened("the year", f"/audience/report/?from={YEAR_FIRST}&to={LAST}")
    _check(FIRST)
    peer_s = _peer()
    few, many = _csv(rows // 10), _csv(rows)
    missed = line(f"reports_month_s.{kind}", month["median_s"], must=MUST_MONTH_S, less_is_better=True)
    missed += line(f"reports_year_s.{kind}", year["median_s"], must=MUST_YEAR_S, less_is_better=True)
    for name, told in (("month", month), ("year", year)):
        grown_mb = told["peak_mb"] - told["before_mb"]
        missed += line(f"reports_{name}_grown_mb.{kind}", grown_mb, must=MUST_MB, less_is_better=True)
    must = QUICK_MUST_PEER if quick else MUST_PEER
    missed += line(f"reports_peer_over_month.{kind}", peer_s / month["median_s"], must=must, goal=GOAL_PEER)
    ratio = many["peak_mb"] / few["peak_mb"]
    missed += line(f"reports_csv_peak_over_a_tenth.{kind}", ratio, must=MUST_CSV, goal=GOAL_CSV, less_is_better=True)
    return missed


def _fill(sessions: int, rows: int) -> None:
    from aircox_listen_stats.fields import from_ms
    from aircox_listen_stats.models import Airing
    from aircox_listen_stats.pipeline import cumes, quarters, rollup, shares
    from benchmarks import _rolled_up
    from benchmarks.population import populate

    began = time.perf_counter()
    per_day = sessions // (DAYS - 1)
    made = populate(sessions=per_day * DAYS, per_day=per_day, end_ms=END_MS)
    now_ms = END_MS + 2 * DAY_MS
    start_ms = _starts(FIRST)
    Airing.objects.filter(started__lt=from_ms(start_ms)).delete()
    _name_pages()
    for keeper in (quarters, shares, cumes):
        keeper.refresh(made.station_id, start_ms, END_MS, now_ms=now_ms, rule_sets=RULE_SETS)
    for day_ms in range(start_ms, END_MS, DAY_MS):
        rollup.refresh(made.station_id, day_ms, min(day_ms + DAY_MS, END_MS), now_ms=now_ms, rule_sets=RULE_SETS)
    _rolled_up.count_months(FIRST, MONTHS, RULE_SETS)
    _rolled_up.roll_back(FIRST, ROLLED_UP_DAYS)
    _rolled_up.play_tracks(rows, LAST + dt.timedelta(days=1))
    _analyse()
    print(f"  filled in {time.perf_counter() - began:.0f} s")


def _starts(day: dt.date) -> int:
    from aircox_listen_stats import conf
    from aircox_listen_stats.kernel import calendar

    settings = conf.get()
    return calendar.day_start(day, settings.zone, settings.broadcast_day_start)


def _name_pages() -> None:
    """A referrer for each session, most of them one of a few."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE aircox_listen_stats_session SET referrer = CASE id %% 10 WHEN 0 THEN '-' WHEN 1 THEN NULL"
            " WHEN 2 THEN 'player' || (id %% 97) || '.example' ELSE 'radio.example' END",
            [],
        )


def _analyse() -> None:
    """Statistics for the planner, as autovacuum and SQLite's own optimizer keep them at a station."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE" if connection.vendor == "postgresql" else "ANALYZE")


# Ours ----------------------------------------------------------------------------


def _opened(name: str, address: str, times: int = PAGES) -> dict[str, Any]:
    """What a process of its own tells of that address."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._report_reader", address, str(times), str(END_MS + 2 * DAY_MS)],
        check=True,
        capture_output=True,
        text=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    print(
        f"  {name}: median {told['median_s']:.3f} s of {times} ({told['cpu_s']:.3f} s of its own), the first"
        f" {told['first_s']:.3f} s; {told['lines']:,} lines; resident {told['before_mb']:.0f} MB before,"
        f" {told['peak_mb']:.0f} MB at most"
    )
    return told


def _csv(rows: int) -> dict[str, Any]:
    """The CSV of as many plays, the newest."""
    from benchmarks._rolled_up import TRACK_MS

    days = rows * TRACK_MS // DAY_MS
    first = LAST - dt.timedelta(days=days - 1)
    told = _opened(
        f"CSV of {days:,} days", f"/audience/performances/?society=generic&format=csv&from={first}&to={LAST}", 1
    )
    expected = 1 + days * (DAY_MS // TRACK_MS)
    if abs(told["lines"] - expected) > DAY_MS // TRACK_MS // 24:  # a change of clocks
        raise SystemExit(f"The CSV has {told['lines']:,} lines; expected {expected:,}.")
    return told


def _check(first: dt.date) -> None:
    """The month's hours and sessions are those of its sessions, and the shares add up to them."""
    from aircox_listen_stats import conf
    from aircox_listen_stats.fields import from_ms
    from aircox_listen_stats.reports import shares, spans
    from aircox_listen_stats.reports.periods import Scope, period_figures

    now = from_ms(END_MS + 2 * DAY_MS)
    span = spans.of_days(first, LAST, conf.get())
    rules = conf.get().rules()
    made = period_figures(Scope.station(1), span, rules, now=now)
    listening_ms, met = _truth(span.started_ms, span.ended_ms)
    tables = shares.share_tables(Scope.station(1), span, rules, now=now)
    told = [(made["tlh"].value, made["active_sessions"].value)]
    told += [(one.listening_hours, one.sessions) for one in tables]
    for hours, sessions in told:
        if sessions != met or abs(float(hours or 0) * 3_600_000 - listening_ms) > 1:  # type: ignore[arg-type]
            raise SystemExit(f"The ways disagree: {told}, and by the sessions {listening_ms / 3_600_000} and {met}.")
    print(f"  checked: {listening_ms / 3_600_000:,.2f} hours and {met:,} sessions, as the sessions themselves say")


def _truth(start_ms: int, end_ms: int) -> tuple[int, int]:
    """Milliseconds and sessions by the sessions alone, one part after the other where a session is cut."""
    from django.db.models import Count, Sum

    from aircox_listen_stats.fields import from_ms, to_ms
    from aircox_listen_stats.models import Session

    start, end = from_ms(start_ms), from_ms(end_ms)
    counted = Session.objects.filter(exclusion="", played_ms__gte=MINIMUM_MS)
    inside = counted.filter(started__gte=start, ended__lte=end).aggregate(ms=Sum("played_ms"), sessions=Count("pk"))
    listening_ms, met = int(inside["ms"]), inside["sessions"]
    cut = counted.filter(started__lt=end, ended__gt=start).exclude(started__gte=start, ended__lte=end)
    for one in cut:
        begin_ms = to_ms(one.started)
        parts = one.parts or [[0, to_ms(one.ended) - begin_ms]]
        heard = [min(begin_ms + b, end_ms) - max(begin_ms + a, start_ms) for a, b in parts]
        heard_ms = sum(one for one in heard if one > 0)
        listening_ms += heard_ms
        met += heard_ms > 0
    return listening_ms, met


# The peer ------------------------------------------------------------------------


def _peer() -> float:
    """The median of the seconds that the month takes from its sessions."""
    taken = []
    for _ in range(PEERS + 1):
        began = time.perf_counter()
        _from_sessions(_starts(FIRST), END_MS)
        taken.append(time.perf_counter() - began)
    median = statistics.median(taken[1:])
    print(f"  peer, the month from its sessions: median {median:.3f} s of {PEERS}")
    return median


def _from_sessions(start_ms: int, end_ms: int) -> None:
    from django.db.models import BigIntegerField, Count, F, IntegerField, Sum
    from django.db.models.functions import Cast, Greatest, Least, Mod

    from aircox_listen_stats.models import Session

    begun, gone = Cast(F("started"), BigIntegerField()), Cast(F("ended"), BigIntegerField())
    met = Session.objects.filter(
        stream__station_id=1, exclusion="", played_ms__gte=MINIMUM_MS, started__lt=end_ms, ended__gt=start_ms
    )
    sums = {"listening_ms": Sum(Least(gone, end_ms) - Greatest(begun, start_ms)), "sessions": Count("pk")}
    met.aggregate(**sums, listeners=Count("listener", distinct=True))
    for column in ("country", "app", "referrer", "stream"):
        list(met.values(column).annotate(**sums).order_by("-listening_ms"))
    by_day = Cast(begun / DAY_MS, IntegerField())
    by_hour = Cast(Mod(begun, DAY_MS) / (DAY_MS // 24), IntegerField())
    for slot in (by_day, by_hour):
        list(met.annotate(slot=slot).values("slot").annotate(**sums).order_by("slot"))


if __name__ == "__main__":
    sys.exit(main())
