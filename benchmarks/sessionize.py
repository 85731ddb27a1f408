"""Twenty million requests for HLS segments become sessions, against DuckDB's window query.

Both begin with columns in memory and end with columns of sessions: listener,
start, end, listening time as the union of windows, segments, bytes, changes
of rendition; every number of every session is compared. DuckDB works on a table of its own,
filled beforehand, with all its threads. It is asked in two forms, one window
for each listener and one over all in order, and the faster one counts. Ours
is timed on its packed path, and for comparison on the one that it falls back
to where numbers do not fit.

    python -m benchmarks.sessionize [--quick]

Exit status 1 when a must is missed.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from aircox_listen_stats.kernel.segments import SegmentSessions, stitch_segments
from aircox_listen_stats.kernel.sessionize import GAP_MS
from aircox_listen_stats.sources.segments import SILENT_TARGETS
from benchmarks._ratios import line
from benchmarks._segment_requests import TARGET_MS, Requests, segment_requests

MUST, GOAL = 3.0, 6.0
REQUESTS, QUICK_REQUESTS = 20_000_000, 1_000_000
ROUNDS = 3
"""Ours and the peer in turn; ours three times in each round."""
OURS_IN_A_ROUND = 3
WIDE_BITS = 40
"""Listeners that are shifted up so far are as wide as their keys, and fit into no word beside an instant."""

SILENCE_MS = SILENT_TARGETS * TARGET_MS

WINDOWS = {
    "a window for each listener": ("PARTITION BY listener ORDER BY at_ms, rendition", "TRUE"),
    "one window over all": ("ORDER BY listener, at_ms, rendition", "listener = lag(listener) OVER w"),
}
QUERY = f"""
WITH steps AS (
    SELECT listener, at_ms, rendition, bytes_sent,
        CASE WHEN {{same}} THEN at_ms - lag(at_ms) OVER w END AS step,
        rendition <> lag(rendition) OVER w AS changed
    FROM requests WINDOW w AS ({{window}})
), numbered AS (
    SELECT *, sum(CASE WHEN step <= {GAP_MS + TARGET_MS} THEN 0 ELSE 1 END)
        OVER ({{window}} ROWS UNBOUNDED PRECEDING) AS session
    FROM steps
)
SELECT listener, min(at_ms) AS started_ms, max(at_ms) + {TARGET_MS} AS ended_ms,
    sum(CASE WHEN step <= {SILENCE_MS} THEN step ELSE {TARGET_MS} END)::BIGINT AS played_ms,
    count(*) AS segments, sum(bytes_sent)::BIGINT AS bytes_sent,
    count(*) FILTER (WHERE changed AND step <= {GAP_MS + TARGET_MS}) AS switches
FROM numbered GROUP BY listener, session
"""
"""What is played up to a request since the one before, and one window more for each part: the union of windows."""

COLUMNS = ("listener", "started_ms", "ended_ms", "played_ms", "segments", "bytes_sent", "switches")


def main() -> int:
    """The number of musts that were missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_REQUESTS:,} requests instead of {REQUESTS:,}")
    given = parser.parse_args()
    requests = segment_requests(QUICK_REQUESTS if given.quick else REQUESTS)
    duckdb = _duckdb(requests)
    query = _faster(duckdb)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        for _ in range(OURS_IN_A_ROUND):
            seconds, sessions = _timed(lambda: _stitched(requests))
            ours.append(seconds)
        seconds, rows = _timed(lambda: duckdb.execute(query).fetchnumpy())
        theirs.append(seconds)
        _check(sessions, rows)
    print(f"{len(requests):,} requests, {len(sessions):,} sessions, the same in every number")
    for name, seconds_of in (("ours", ours), ("DuckDB", theirs)):
        median = statistics.median(seconds_of)
        print(
            f"  {name}: median {median:.3f} s, min {min(seconds_of):.3f}, max {max(seconds_of):.3f}, "
            f"{len(requests) / median / 1e6:.1f} million a second ({len(seconds_of)} times)"
        )
    _tell_fallback(requests, sessions)
    print(f"  peak memory, DuckDB's table included: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
    ratio = statistics.median(theirs) / statistics.median(ours)
    return line("sessionize_duckdb_over_ours", ratio, must=MUST, goal=GOAL)


def _duckdb(requests: Requests) -> Any:
    """A database in memory with the table that the queries ask."""
    try:
        import duckdb
    except ImportError:
        raise SystemExit("The peer is missing. `make setup` installs duckdb, or: pip install duckdb.") from None

    database = duckdb.connect()
    given = {name: getattr(requests, name) for name in ("listener", "at_ms", "bytes_sent", "rendition")}
    database.register("given", given)
    seconds, _ = _timed(lambda: database.execute("CREATE TABLE requests AS SELECT * FROM given"))
    ((threads,),) = database.execute("SELECT current_setting('threads')").fetchall()
    print(f"DuckDB {duckdb.__version__}, {threads} threads; filling its table took {seconds:.2f} s and is not counted")
    return database


def _faster(database: Any) -> str:
    """The form of the query that answers sooner."""
    found = []
    for name, (window, same) in WINDOWS.items():
        query = QUERY.format(window=window, same=same)
        seconds, _ = _timed(lambda query=query: database.execute(query).fetchnumpy())
        print(f"  {name}: {seconds:.2f} s")
        found.append((seconds, query))
    return min(found)[1]


def _stitched(requests: Requests, listener: npt.NDArray[np.integer[Any]] | None = None) -> SegmentSessions:
    return stitch_segments(
        requests.listener if listener is None else listener,
        requests.at_ms,
        requests.bytes_sent,
        requests.rendition,
        target_ms=TARGET_MS,
        silence_ms=SILENCE_MS,
        gap_ms=GAP_MS,
    )


def _check(sessions: SegmentSessions, rows: Mapping[str, Any]) -> None:
    """Both tell the same sessions, to the millisecond and the byte."""
    order = np.lexsort((rows["started_ms"], rows["listener"]))
    for name in COLUMNS:
        if not np.array_equal(getattr(sessions, name), np.asarray(rows[name])[order].astype(np.int64)):
            raise SystemExit(f"The two disagree on {name}.")


def _tell_fallback(requests: Requests, sessions: SegmentSessions) -> None:
    """How long it takes where listeners are numbers of 63 bits, as their keys are, and fit into no key."""
    wide = requests.listener.astype(np.int64) << WIDE_BITS
    seconds, found = _timed(lambda: _stitched(requests, wide))
    if not np.array_equal(found.played_ms, sessions.played_ms):
        raise SystemExit("The two paths disagree.")
    print(f"  ours where numbers do not fit, by a lexsort: {seconds:.2f} s (once)")


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what it gave."""
    gc.collect()
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made


if __name__ == "__main__":
    sys.exit(main())
