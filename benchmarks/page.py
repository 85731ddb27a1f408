"""The page of a program with 52 diffusions, from a database with a million sessions.

Ours reads the roll-up; measured are its one query, that query with its rows
made into values, and the whole page: session, login, permissions, queries, chart, table.
The peer is the same 52 lines computed from the raw sessions by the obvious
SQL, one aggregate for each diffusion, as a Django project without a roll-up
would write it; once over the plain overlap, once tuned with a look-back. The
peer makes no page, no peak and no comparison with the year before.

    python -m benchmarks.page [--quick]

Exit status 1 when a must is missed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks._own_database import KINDS, on_each_database, own_database
from benchmarks._ratios import line

MUST_ROLLUP_MS, GOAL_ROLLUP_MS = 2.0, 0.5
MUST_QUERIES, GOAL_QUERIES = 12, 9
MUST_PEER, GOAL_PEER = 5.0, 10.0
"""Against the tuned peer, the whole page must still be several times faster than its figures."""
QUICK_MUST_PEER = 1.0
"""With a fifth of the sessions the peer has a fifth of the work, and the page as much as before."""

SESSIONS, PER_DAY = 1_000_000, 16_000
"""62 days, so that each of the daily programs has more diffusions than one page shows."""
QUICK_SESSIONS, QUICK_PER_DAY = 200_000, 3_200
PROGRAM_ID = 8
"""The one at seven in the morning UTC, the day's busiest hour."""
DIFFUSIONS = 52
LOOK_BACK_MS = 48 * 3_600_000
"""The tuned peer's bound on a session's length."""
MINIMUM_MS = 60_000
ROLLUPS, PAGES, PEERS, PLAIN_PEERS = 200, 30, 5, 1


def main() -> int:
    """The number of databases that missed a must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200,000 sessions instead of a million")
    parser.add_argument("--on", choices=KINDS, help="this database alone")
    given = parser.parse_args()
    if given.on:
        with own_database(given.on):
            return measure(given.on, quick=given.quick)
    return on_each_database("page", quick=given.quick)


def measure(kind: str, *, quick: bool) -> int:
    """0 when every must holds on this kind of database."""
    from aircox_listen_stats.fields import from_ms
    from benchmarks.population import populate

    made = populate(sessions=QUICK_SESSIONS if quick else SESSIONS, per_day=QUICK_PER_DAY if quick else PER_DAY)
    _compute(made.started_ms, made.ended_ms)
    now = from_ms(made.ended_ms)
    print(f"\n{kind}: {made.sessions:,} sessions on {made.days} days, {made.days * 24:,} diffusions")
    rollup = _rollup(now)
    _check_agreement(now)
    page, queries = _page(now)
    peer = min(_peer(now, None), _peer(now, LOOK_BACK_MS))
    missed = line(f"page_rollup_52_ms.{kind}", rollup, must=MUST_ROLLUP_MS, goal=GOAL_ROLLUP_MS, less_is_better=True)
    missed += line(f"page_queries.{kind}", queries, must=MUST_QUERIES, goal=GOAL_QUERIES, less_is_better=True)
    must = QUICK_MUST_PEER if quick else MUST_PEER
    missed += line(f"page_peer_over_page.{kind}", peer / page, must=must, goal=GOAL_PEER)
    return missed


def _compute(started_ms: int, ended_ms: int) -> None:
    from aircox_listen_stats.pipeline import rollup

    day_ms = 24 * 3_600_000
    for start_ms in range(started_ms, ended_ms, day_ms):
        rollup.refresh(1, start_ms, start_ms + day_ms, now_ms=ended_ms)


def _query(now: dt.datetime) -> Any:
    from aircox_listen_stats import conf
    from aircox_listen_stats.reports import query

    settings = conf.get()
    return query.ReportQuery(period=query.last_weeks(52, settings, now=now), rules=settings.rules())


def _rollup(now: dt.datetime) -> float:
    """Milliseconds of the page's own query, with all the columns of its table."""
    from aircox_listen_stats.reports import program

    asked = _query(now)

    def lines() -> None:
        assert len(program.read_lines(PROGRAM_ID, asked, now=now)) == DIFFUSIONS

    def rows() -> None:
        assert len(program.read_rows(PROGRAM_ID, asked, now=now)) == DIFFUSIONS

    _timed(f"the last {DIFFUSIONS} diffusions, made into the values of the page", lines, ROLLUPS)
    return _timed(f"the last {DIFFUSIONS} diffusions, the query", rows, ROLLUPS)


def _page(now: dt.datetime) -> tuple[float, int]:
    """Milliseconds of the page for a producer, and how many queries it makes."""
    from django.contrib.auth.models import Group, User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext
    from django.utils import timezone

    from aircox_listen_stats.models import ProgramAccess

    producer = User.objects.create_user("producer")
    producer.groups.add(Group.objects.create(name="producers"))
    ProgramAccess.objects.create(user=producer, program_id=PROGRAM_ID)
    visitor = Client()
    visitor.force_login(producer)
    today = timezone.localtime(now).date()
    address = f"/audience/programs/{PROGRAM_ID}/?from={today - dt.timedelta(days=363)}&to={today}"

    def show() -> None:
        response = visitor.get(address)
        assert response.status_code == 200, response.status_code
        assert response.content.count(b'<tr id="d') == DIFFUSIONS

    show()
    with CaptureQueriesContext(connection) as captured:
        show()
    queries = len(captured)  # the next request empties the log
    return _timed("the page of a producer, whole", show, PAGES), queries


def _peer(now: dt.datetime, look_back_ms: int | None) -> float:
    """Milliseconds of the figures of the same diffusions, from the sessions."""
    name, times = ("plain", PLAIN_PEERS) if look_back_ms is None else ("look-back", PEERS)
    return _timed(f"peer, {name}: the figures from the sessions", lambda: _from_sessions(now, look_back_ms), times)


def _from_sessions(now: dt.datetime, look_back_ms: int | None) -> list[dict[str, int]]:
    from django.db.models import BigIntegerField, Count, F, Q, Sum
    from django.db.models.functions import Cast, Greatest, Least

    from aircox_listen_stats.fields import to_ms
    from aircox_listen_stats.models import Airing, Session

    begun, gone = Cast(F("started"), BigIntegerField()), Cast(F("ended"), BigIntegerField())
    airings = Airing.objects.filter(program_id=PROGRAM_ID, layer="diffusion").order_by("-started")[:DIFFUSIONS]
    found = []
    for airing in airings:
        start_ms, end_ms = to_ms(airing.started), to_ms(airing.ended)
        counted = Q(started__lt=end_ms, ended__gt=start_ms, exclusion="", played_ms__gte=MINIMUM_MS)
        if look_back_ms is not None:
            counted &= Q(started__gte=start_ms - look_back_ms)
        row = Session.objects.filter(counted, stream__station_id=1).aggregate(
            listening_ms=Sum(Least(gone, end_ms) - Greatest(begun, start_ms)),
            sessions=Count("pk"),
            listeners=Count("listener", distinct=True),
            joined=Count("pk", filter=Q(started__gte=start_ms)),
            left=Count("pk", filter=Q(ended__lte=end_ms)),
        )
        found.append(row)
    return found


def _check_agreement(now: dt.datetime) -> None:
    """Both ways count the same heads: the peer counts silent parts of a session too, so never less."""
    from aircox_listen_stats.reports import program

    lines = program.read_lines(PROGRAM_ID, _query(now), now=now)
    for row, theirs in zip(lines, _from_sessions(now, None), strict=True):
        ours = row.figures
        if ours is None or not 0.95 * theirs["sessions"] <= ours.sessions <= theirs["sessions"]:
            raise SystemExit(f"The ways disagree on {row.started}: {ours} and {theirs}.")


def _timed(name: str, work: Callable[[], object], times: int) -> float:
    """The median of ``times`` runs after a warm one, in milliseconds."""
    work()
    gc.collect()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    median = statistics.median(taken)
    print(f"  {name}: median {median:.2f} ms, min {min(taken):.2f}, max {max(taken):.2f} ({times} times)")
    return median


if __name__ == "__main__":
    sys.exit(min(main(), 1))
