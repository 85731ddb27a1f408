"""Closing a diffusion: from `now` to its stored row, and reading a program's last 52 of them.

A station with a million sessions, the day in question with 50,000. Ours is
``rollup.refresh`` of the hour under every rule-set at once, as the collector
does it (all columns, the curve by the minute, settled or not, written where it
differs), and under one alone. The peer is the aggregation over the same table
as a Django project would write it, under one rule-set: one ``aggregate()`` with
filters, a window function for the peak, ``update_or_create``; once over the
plain overlap, once tuned with a look-back. All in turn, in the same process, on
SQLite and on PostgreSQL. Then the same closing, under every rule-set, on days of
5,000 and of 500,000 sessions: how it grows. Beside the time on the clock stands the
time that this process computed (a database server computes on its own): other work
on the machine disturbs it less.

    python -m benchmarks.slot_close [--quick]

Exit status 1 when a must is missed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from benchmarks._own_database import KINDS, own_database
from benchmarks._ratios import line

MUST_CLOSE_MS, GOAL_CLOSE_MS = 20.0, 5.0
MUST_READ_MS, GOAL_READ_MS = 2.0, 0.5
MUST_PEER, GOAL_PEER = 1.0, 2.0
"""SPEED goals; against the tuned peer, ours must not be slower while it computes more."""

HOUR_MS = 3_600_000
SLOTS = 24
QUICK_SESSIONS = 200_000
LOOK_BACK_MS = 48 * 3_600_000
"""The tuned peer's bound on a session's length."""
DIFFUSIONS = 52
MINIMUM_MS = 60_000
FEW, MANY = 5_000, 500_000
"""Sessions a day, a tenth of the ordinary day's and ten times as many."""


REPEATS = 3
"""Times that ours closes each hour; the peer takes long enough for once."""

Way = Callable[[int, int], object]
"""Closes the slot between these instants."""


class Took(NamedTuple):
    """Milliseconds of one closing."""

    wall: float
    computing: float


def main() -> int:
    """The number of databases that missed a must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200,000 sessions instead of a million")
    parser.add_argument("--on", choices=KINDS, help="this database alone")
    parser.add_argument("--per-day", type=int, help="only close the hours of a day of so many sessions")
    given = parser.parse_args()
    if given.per_day:
        return _grown(given.on or KINDS[0], given.per_day)
    if given.on:
        return measure(given.on, quick=given.quick)
    missed = 0
    for kind in KINDS:
        missed += _run("--on", kind, *(["--quick"] if given.quick else [])) != 0
        for per_day in (FEW,) if given.quick else (FEW, MANY):
            missed += _run("--on", kind, "--per-day", str(per_day)) != 0
    return missed


def _run(*options: str) -> int:
    """A process for each database: Django is set up once in each."""
    return subprocess.run([sys.executable, "-m", "benchmarks.slot_close", *options], check=False).returncode


def measure(kind: str, *, quick: bool) -> int:
    """0 when every must holds on this kind of database."""
    with own_database(kind):
        return _measured(kind, quick=quick)


def _grown(kind: str, per_day: int) -> int:
    """0; prints what closing takes where a day has ``per_day`` sessions."""
    with own_database(kind):
        from benchmarks.population import LiveDay, populate

        day = LiveDay(populate(sessions=2 * per_day, per_day=per_day), per_day=per_day)
        took = _close(_slots(day.started_ms), day.advance, {"ours": _ours()})["ours"]
        return line(f"close_ms_at_{per_day}_a_day.{kind}", _median(took))


def _measured(kind: str, *, quick: bool) -> int:
    from benchmarks.population import PER_DAY, SESSIONS, LiveDay, populate

    began = time.perf_counter()
    made = populate(sessions=QUICK_SESSIONS if quick else SESSIONS)
    took = time.perf_counter() - began
    print(f"\n{kind}: {made.sessions:,} sessions on {made.days} days of {PER_DAY:,}, made in {took:.0f} s")
    day = LiveDay(made)
    slots = _slots(day.started_ms)
    ways: dict[str, Way] = {
        "ours": _ours(),
        "ours, one rule-set": _ours("triton"),
        "peer, plain": lambda start, end: peer(start, end, None),
        "peer, look-back": lambda start, end: peer(start, end, LOOK_BACK_MS),
    }
    times = _close(slots, day.advance, ways)
    _check_agreement(slots[-1])
    _again(slots[: SLOTS // 2])
    missed = _print_closing(kind, times)
    missed += _print_reading(kind)
    return missed


def _slots(day_ms: int) -> list[tuple[int, int]]:
    return [(day_ms + hour * HOUR_MS, day_ms + (hour + 1) * HOUR_MS) for hour in range(SLOTS)]


def _ours(*rule_sets: str) -> Way:
    """Closes a slot under these rule-sets; under all that the collector keeps, where none are given."""
    from aircox_listen_stats.pipeline import rollup

    names = rule_sets or rollup.every_rule_set()

    def close(start_ms: int, end_ms: int) -> None:
        rollup.refresh(1, start_ms, end_ms, now_ms=end_ms, rule_sets=names)

    return close


def _close(
    slots: list[tuple[int, int]], advance: Callable[[int], None], ways: Mapping[str, Way]
) -> dict[str, list[Took]]:
    """What each way takes to close each slot just after its end, in turn."""
    took: dict[str, list[Took]] = {name: [] for name in ways}
    for start_ms, end_ms in slots:
        advance(end_ms)
        for way in ways.values():
            way(start_ms, end_ms)  # warm, as the refreshes while it was on air have left it
        again = [(name, way) for name, way in ways.items() if name.startswith("ours")]
        for name, way in [*ways.items(), *(REPEATS - 1) * again]:
            _forget_audiences()
            began, began_computing = time.perf_counter(), time.process_time()
            way(start_ms, end_ms)
            took[name].append(
                Took((time.perf_counter() - began) * 1000, (time.process_time() - began_computing) * 1000)
            )
    return took


def _median(took: Sequence[Took]) -> float:
    return statistics.median(one.wall for one in took)


def _forget_audiences() -> None:
    from aircox_listen_stats.models import Audience

    Audience.objects.all().delete()


def peer(start_ms: int, end_ms: int, look_back_ms: int | None) -> dict[str, int]:
    """The figures of one slot by SQL, stored as a row. No curve, no retention, no parts."""
    from django.db import connection
    from django.db.models import BigIntegerField, Count, F, Q, Sum
    from django.db.models.functions import Cast, Greatest, Least
    from django.utils import timezone

    from aircox_listen_stats.models import Airing, Audience, Session

    airing = Airing.objects.get(station_id=1, layer="diffusion", started=start_ms)
    counted = Q(started__lt=end_ms, ended__gt=start_ms, exclusion="")
    counted &= Q(played_ms__gte=MINIMUM_MS) | Q(is_open=True)
    bounds, where = [end_ms, start_ms], "started < %s AND ended > %s"
    if look_back_ms is not None:
        counted &= Q(started__gte=start_ms - look_back_ms)
        bounds, where = [*bounds, start_ms - look_back_ms], where + " AND started >= %s"
    begun, gone = Cast(F("started"), BigIntegerField()), Cast(F("ended"), BigIntegerField())
    found = Session.objects.filter(counted, stream__station_id=1).aggregate(
        sessions=Count("pk"),
        listeners=Count("listener", distinct=True),
        listening_ms=Sum(Least(gone, end_ms) - Greatest(begun, start_ms)),
        inherited=Count("pk", filter=Q(started__lt=start_ms)),
        joined=Count("pk", filter=Q(started__gte=start_ms)),
        left=Count("pk", filter=Q(ended__lte=end_ms)),
        kept=Count("pk", filter=Q(ended__gt=end_ms)),
        stayed=Count("pk", filter=Q(started__lte=start_ms, ended__gte=end_ms)),
        at_start=Count("pk", filter=Q(started__lte=start_ms)),
        at_end=Count("pk", filter=Q(ended__gte=end_ms)),
    )
    table = Session._meta.db_table
    greatest = "GREATEST" if connection.vendor == "postgresql" else "MAX"
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH met AS (
                SELECT started, ended FROM {table}
                WHERE {where} AND exclusion = '' AND (played_ms >= {MINIMUM_MS} OR is_open)
            ), steps AS (
                SELECT {greatest}(started, %s) AS at, 1 AS step FROM met
                UNION ALL SELECT ended, -1 FROM met WHERE ended < %s
            ), running AS (
                SELECT at, SUM(step) OVER (ORDER BY at, step ROWS UNBOUNDED PRECEDING) AS present FROM steps
            )
            SELECT present, at FROM running ORDER BY present DESC, at LIMIT 1
            """,
            [*bounds, start_ms, end_ms],
        )
        row = cursor.fetchone()
    peak, peak_at = row or (0, None)
    Audience.objects.update_or_create(
        airing=airing,
        rule_set="triton",
        defaults={**found, "peak": peak, "peak_at": peak_at, "coverage": 1.0, "computed": timezone.now()},
    )
    return {**found, "peak": int(peak)}


def _again(slots: list[tuple[int, int]]) -> None:
    """Half a day later, each slot computed again: what a late log or a rebuild costs."""
    from aircox_listen_stats.pipeline import rollup

    times, names = [], rollup.every_rule_set()
    for start_ms, end_ms in slots:
        began = time.perf_counter()
        rollup.refresh(1, start_ms, end_ms, now_ms=slots[-1][1], rule_sets=names)
        times.append((time.perf_counter() - began) * 1000)
    print(f"  an old hour again: median {statistics.median(times):.2f} ms, max {max(times):.2f}")


def _check_agreement(slot: tuple[int, int]) -> None:
    """Both ways count the same heads: what the hull decides is equal, what the parts decide is less."""
    from aircox_listen_stats.models import Audience
    from aircox_listen_stats.pipeline import rollup

    start_ms, end_ms = slot
    theirs = peer(start_ms, end_ms, None)
    _forget_audiences()
    rollup.refresh(1, start_ms, end_ms, now_ms=end_ms)
    row = Audience.objects.get(airing__started=start_ms, rule_set="triton")
    if not (0.95 * theirs["sessions"] <= row.sessions <= theirs["sessions"]):
        raise SystemExit(f"The ways disagree: {row.sessions} and {theirs['sessions']} sessions.")
    if row.peak > theirs["peak"] or row.listening_ms > theirs["listening_ms"]:
        raise SystemExit("Ours counts more than the hulls can hold.")


def _print_closing(kind: str, times: dict[str, list[Took]]) -> int:
    for name, took in times.items():
        walls = [one.wall for one in took]
        print(
            f"  close one hour, {name:18} median {_median(took):7.2f} ms   min {min(walls):7.2f}   "
            f"max {max(walls):7.2f}   computing {statistics.median(one.computing for one in took):7.2f}   "
            f"({len(took)} times)"
        )
    ours, alone = _median(times["ours"]), _median(times["ours, one rule-set"])
    tuned = _median(times["peer, look-back"])
    missed = line(f"close_ms.{kind}", ours, must=MUST_CLOSE_MS, goal=GOAL_CLOSE_MS, less_is_better=True)
    line(f"close_every_rule_set_over_one.{kind}", ours / alone)
    missed += line(f"close_peer_over_ours.{kind}", tuned / alone, must=MUST_PEER, goal=GOAL_PEER)
    return missed


def _print_reading(kind: str) -> int:
    """The roll-up of a program's last 52 diffusions, by the query that its page makes."""
    from aircox_listen_stats.fields import from_ms
    from aircox_listen_stats.models import Airing, Audience
    from aircox_listen_stats.pipeline import rows

    newest = Airing.objects.order_by("-started").first()
    assert newest is not None
    instants = [newest.started.timestamp() * 1000 - 7 * 86_400_000 * week for week in range(1, DIFFUSIONS + 1)]
    made = Airing.objects.bulk_create(
        Airing(
            station_id=1, layer="diffusion", key=f"weekly:{number}", started=from_ms(int(instant)),
            ended=from_ms(int(instant) + 3_600_000), start_basis="logged", end_basis="scheduled", program_id=99,
        )
        for number, instant in enumerate(instants)
    )  # fmt: skip
    Audience.objects.bulk_create(
        Audience(
            airing=one, rule_set="triton", listening_ms=1, sessions=1, listeners=1, peak=1, at_start=1, at_end=1,
            inherited=1, joined=0, left=1, kept=0, stayed=0, coverage=1.0, computed=one.ended, curve=[1.0] * 60,
        )
        for one in made
    )  # fmt: skip
    sql = (
        f"SELECT a.id, a.started, a.ended, a.title, u.listening_ms, u.sessions, u.listeners, u.peak, u.settled"
        f" FROM {rows.table(Airing)} a JOIN {rows.table(Audience)} u ON u.airing_id = a.id AND u.rule_set = %s"
        " WHERE a.program_id = %s AND a.layer = 'diffusion' ORDER BY a.started DESC LIMIT %s"
    )
    times = []
    for _ in range(200):
        began = time.perf_counter()
        found = rows.fetch(sql, ["triton", 99, DIFFUSIONS])
        times.append((time.perf_counter() - began) * 1000)
    assert len(found) == DIFFUSIONS
    print(f"  a program's last {DIFFUSIONS} diffusions: median {statistics.median(times):.2f} ms, max {max(times):.2f}")
    median = statistics.median(times)
    return line(f"read_52_ms.{kind}", median, must=MUST_READ_MS, goal=GOAL_READ_MS, less_is_better=True)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
