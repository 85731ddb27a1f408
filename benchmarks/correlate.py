"""A year of ten million sessions laid over its 7,300 diffusions and its 127,750 tracks, against DuckDB.

Both begin with columns in memory, in no order. Ours gives all the columns of
an airing's audience: listening, sessions, distinct listeners, the peak and its
instant, who was there at the start and at the end, inherited, joined, left,
kept, stayed. DuckDB is asked for two of them, sessions and listening, by a
range join; and for the distinct listeners by a query of its own, in two
levels, since COUNT(DISTINCT) over a range join is a hundred times slower. It
works on tables of its own, filled beforehand, with all its threads, once in
milliseconds and once in seconds of 32 bits; the faster one counts. Every
number that both tell is compared.

Then the floor, a sort of the starts alone, by the processor's time; the peak
of memory, in a process without DuckDB; and the way from the database, where
reading the rows takes most of the time.

    python -m benchmarks.correlate [--quick]

Exit status 1 when a must is missed.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from aircox_listen_stats.kernel.correlate import AudienceColumns, audience
from benchmarks._own_database import KINDS, own_database
from benchmarks._ratios import line
from benchmarks._year import DAYS, Ints, Year, year

SESSIONS, QUICK_SESSIONS = 10_000_000, 500_000
STORED, QUICK_STORED = 1_000_000, 36_500
"""Sessions in the database, for the way from there."""
MUST_SUMS, GOAL_SUMS = 5.0, 7.0
MUST_DISTINCT, GOAL_DISTINCT = 5.0, 10.0
QUICK_MUST = 1.5
"""With few sessions for each airing, what the airing itself costs weighs more on our side."""
MOST_SORTS, GOAL_SORTS = 12.0, 7.0
"""User CPU over that of a sort of the starts. Sorts differ more between processors than ours does."""
QUICK_MOST_SORTS = 60.0
MOST_GIGABYTES, GOAL_GIGABYTES = 2.0, 1.5
ROUNDS, OURS_IN_A_ROUND = 3, 3
READS = 3

PARTS = ("peer", "alone", *KINDS)

JOINED = "FROM {airings} a JOIN {sessions} s ON s.started < a.ended AND s.ended > a.started"
SUMS = f"""
SELECT a.id AS id, count(*) AS sessions, sum(least(s.ended, a.ended) - greatest(s.started, a.started))::BIGINT AS heard
{JOINED} GROUP BY a.id
"""
DISTINCT = f"SELECT id, count(*) AS listeners FROM (SELECT DISTINCT a.id AS id, s.listener {JOINED}) GROUP BY id"


def main() -> int:
    """The number of parts that missed a must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SESSIONS:,} sessions instead of {SESSIONS:,}")
    parser.add_argument("--part", choices=PARTS, help="this part alone, in this process")
    given = parser.parse_args()
    if given.part:
        return _part(given.part, quick=given.quick)
    missed = 0
    for part in PARTS:
        options = ["--quick"] if given.quick else []
        done = subprocess.run([sys.executable, "-m", "benchmarks.correlate", "--part", part, *options], check=False)
        missed += done.returncode != 0
    return missed


def _part(part: str, *, quick: bool) -> int:
    sessions = QUICK_SESSIONS if quick else SESSIONS
    if part == "peer":
        return beside_the_peer(sessions, quick=quick)
    if part == "alone":
        return alone(sessions, quick=quick)
    with own_database(part):
        return from_the_database(part, QUICK_STORED if quick else STORED)


# Beside DuckDB -----------------------------------------------------------------------------------


class Seconds(NamedTuple):
    """What a piece of work took: of time, of all processors, and of these in code of its own ("user").

    Waiting for others is in the first only, fetching fresh memory not in the last.
    """

    passed: float
    busy: float
    own: float

    def and_then(self, other: Seconds) -> Seconds:
        return Seconds(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What one call on fresh columns took, and what it gave."""

    whole: Seconds
    without_distinct: Seconds
    found: AudienceColumns


def beside_the_peer(sessions: int, *, quick: bool) -> int:
    """The number of musts that were missed."""
    made = year(sessions)
    database = Peer(made)
    missed = 0
    for name, airings in (("diffusions", made.diffusions), ("tracks", made.tracks)):
        rounds = ROUNDS if name == "tracks" and not quick else 1
        sums, distinct = database.faster(name, SUMS), database.faster(name, DISTINCT)
        ours: list[Ours] = []
        theirs: list[tuple[Seconds, Seconds]] = []
        for _ in range(rounds):
            ours += [_ours(made, airings) for _ in range(OURS_IN_A_ROUND)]
            seconds_of_sums, told = _timed(lambda sums=sums: database.rows(sums))
            seconds_of_distinct, counted = _timed(lambda distinct=distinct: database.rows(distinct))
            _check(ours[-1].found, sums, told, counted)
            theirs.append((seconds_of_sums, seconds_of_distinct))
        print(f"{sessions:,} sessions over {len(airings[0]):,} {name}, the same in every number")
        without = _tell_both("ours, all but the distinct listeners", [one.without_distinct for one in ours])
        whole = _tell_both("ours, all columns", [one.whole for one in ours])
        sums_median = _tell_both("DuckDB, sessions and listening", [one for one, _ in theirs])
        distinct_median = _tell_both("DuckDB, distinct listeners", [other for _, other in theirs])
        if name == "tracks":
            must = (QUICK_MUST, QUICK_MUST) if quick else (MUST_SUMS, MUST_DISTINCT)
            missed += line("correlate_duckdb_sums_over_ours", sums_median / without, must=must[0], goal=GOAL_SUMS)
            missed += line(
                "correlate_duckdb_distinct_over_ours_whole", distinct_median / whole, must=must[1], goal=GOAL_DISTINCT
            )
    return missed


def _ours(made: Year, airings: tuple[Ints, Ints]) -> Ours:
    """Both ways on columns of which nothing is known yet."""
    listening = made.listening()
    axis, _ = _timed(lambda: listening.axis)
    listening.distinct  # noqa: B018 - made apart; what an airing then asks of it stays in the time of the rest
    rest, _ = _timed(lambda: audience(listening, *airings))
    whole, found = _timed(lambda: audience(made.listening(), *airings))
    return Ours(whole=whole, without_distinct=axis.and_then(rest), found=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query, and how many milliseconds its unit of time has."""

    sql: str
    unit_ms: int


class Peer:
    """DuckDB with the year in tables of its own."""

    def __init__(self, made: Year) -> None:
        try:
            import duckdb
        except ImportError:
            raise SystemExit("The peer is missing. `make setup` installs duckdb, or: pip install duckdb.") from None
        self.database: Any = duckdb.connect()
        self._fill("sessions", made.started_ms, made.ended_ms, listener=made.listener)
        for name, (starts, ends) in (("diffusions", made.diffusions), ("tracks", made.tracks)):
            self._fill(name, starts, ends, id=np.arange(len(starts)))
        ((threads,),) = self.database.execute("SELECT current_setting('threads')").fetchall()
        print(f"DuckDB {duckdb.__version__}, {threads} threads; filling its tables is not counted")

    def _fill(self, name: str, starts: Ints, ends: Ints, **more: Ints) -> None:
        base = int(starts.min())
        columns = {"started": starts, "ended": ends, **more}
        in_seconds = {"started": (starts - base) // 1000, "ended": (ends - base) // 1000, **more}
        if name != "sessions":  # airings lie on the axis of the sessions
            in_seconds |= {"started": (starts - self.base) // 1000, "ended": (ends - self.base) // 1000}
        else:
            self.base = base
        for table, given in ((f"{name}_1", columns), (f"{name}_1000", in_seconds)):
            kind = "INTEGER" if given is in_seconds else "BIGINT"
            names = ", ".join(more)
            self.database.register("given", given)
            self.database.execute(
                f"CREATE TABLE {table} AS SELECT started::{kind} AS started, ended::{kind} AS ended, {names} FROM given"
            )
            self.database.unregister("given")

    def faster(self, airings: str, sql: str) -> Query:
        """The form of the query that answers sooner; each is asked once."""
        found = []
        for unit_ms in (1, 1000):
            query = Query(
                sql=sql.format(airings=f"{airings}_{unit_ms}", sessions=f"sessions_{unit_ms}"), unit_ms=unit_ms
            )
            seconds, _ = _timed(lambda query=query: self.rows(query))
            found.append((seconds.passed, unit_ms, query))
        return min(found)[2]

    def rows(self, query: Query) -> dict[str, Any]:
        """The answer as columns."""
        return self.database.execute(query.sql).fetchnumpy()


def _check(found: AudienceColumns, sums: Query, told: dict[str, Any], counted: dict[str, Any]) -> None:
    """Both tell the same of every airing."""
    for column, values, ids in (
        (found.sessions, told["sessions"], told["id"]),
        (found.listening_ms, told["heard"] * sums.unit_ms, told["id"]),
        (found.listeners, counted["listeners"], counted["id"]),
    ):
        theirs = np.zeros(len(found), dtype=np.int64)  # an airing that nobody heard has no row
        theirs[np.asarray(ids)] = np.asarray(values)
        if not np.array_equal(column, theirs):
            raise SystemExit(f"The two disagree on {np.count_nonzero(column != theirs)} airings.")


# Alone -------------------------------------------------------------------------------------------


def alone(sessions: int, *, quick: bool) -> int:
    """The number of musts that were missed: the floor, and the peak of memory."""
    made = year(sessions)
    sorts: list[float] = []
    rest: list[float] = []
    whole: list[float] = []
    for _ in range(ROUNDS * OURS_IN_A_ROUND):
        sorts.append(_timed(lambda: np.sort(made.started_ms))[0].own)
        one = _ours(made, made.tracks)
        rest.append(one.without_distinct.own)
        whole.append(one.whole.own)
    print(f"{sessions:,} sessions over {len(made.tracks[0]):,} tracks, user CPU")
    del made, one  # so that memory holds one year at a time
    floor = _tell("a sort of the starts", sorts)
    without = _tell("ours, all but the distinct listeners", rest)
    _tell("ours, all columns", whole)
    made = year(sessions, unit_ms=1)
    in_milliseconds = [_ours(made, made.tracks).whole.own for _ in range(OURS_IN_A_ROUND)]
    _tell("ours, all columns, instants in milliseconds", in_milliseconds)
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    most = QUICK_MOST_SORTS if quick else MOST_SORTS
    missed = line("correlate_user_cpu_over_sort", without / floor, must=most, goal=GOAL_SORTS, less_is_better=True)
    name = "correlate_peak_gigabytes"
    return missed + line(name, gigabytes, must=MOST_GIGABYTES, goal=GOAL_GIGABYTES, less_is_better=True)


# From the database -------------------------------------------------------------------------------


def from_the_database(kind: str, sessions: int) -> int:
    """0; tells how long it takes from rows to figures."""
    from aircox_listen_stats.models import Stream
    from aircox_listen_stats.pipeline.heard import heard
    from benchmarks.population import populate

    made = populate(sessions=sessions, per_day=sessions // DAYS)
    tracks = year(1).tracks
    shift = made.started_ms - int(tracks[0][0])
    starts, ends = tracks[0] + shift, tracks[1] + shift
    streams = list(Stream.objects.all())
    reading: list[Seconds] = []
    computing: list[Seconds] = []
    for _ in range(READS):
        seconds, rows = _timed(lambda: heard(streams, made.started_ms, made.ended_ms))
        reading.append(seconds)
        seconds, found = _timed(lambda rows=rows: audience(rows.listening, starts, ends))
        computing.append(seconds)
        assert found.listening_ms.sum() > 0
    print(f"{kind}: a year of {made.sessions:,} sessions over {len(starts):,} tracks, from the rows on")
    read = _tell_both("reading the rows", reading)
    computed = _tell_both("all columns", computing)
    seconds = read + computed
    print(f"  together {seconds:.3f} s, {read / seconds:.0%} of it reading")
    return 0


def _tell(name: str, seconds: Sequence[float]) -> float:
    """The median, after saying it."""
    median = statistics.median(seconds)
    print(f"  {name}: median {median:.3f} s, min {min(seconds):.3f}, max {max(seconds):.3f} ({len(seconds)} times)")
    return median


def _tell_both(name: str, taken: Sequence[Seconds]) -> float:
    """The median of the time that passed, after saying it and what the processors worked."""
    busy = statistics.median(one.busy for one in taken)
    return _tell(f"{name} ({busy:.3f} s of processors)", [one.passed for one in taken])


def _timed(work: Callable[[], Any]) -> tuple[Seconds, Any]:
    """What the work took, and what it gave."""
    gc.collect()
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    made = work()
    passed, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    own, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Seconds(passed, own + system, own), made


if __name__ == "__main__":
    sys.exit(min(main(), 1))
