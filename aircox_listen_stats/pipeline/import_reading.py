"""What an import reads: lines become connections, connections sessions, ready to be stored step by step.

A log is in the order of ENDS. A listener's connections are complete up to the
newest stamp less the longest connection that may still come, so those of more
than HOLD_SECONDS are looked for first, and a *cluster* (what one listener
heard without a silence longer than the gap) is given when nothing can join it
any more. The database is not asked here, so that a thread of its own can read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import conf
from ..kernel import sessionize
from ..kernel.arrays import Ints, order_by, order_of, ranges
from ..kernel.identity import household_keys
from ..models import Stream
from ..sources.ahead import ahead
from . import blurs, bulk
from .import_homes import Homes
from .import_ledger import Job
from .import_listeners import Listeners
from .import_plan import Chunk, Imported, Plan, Progress

__all__ = ["FLUSH_ROWS", "Batch", "Reading", "Step"]

MS = 1000

HOLD_SECONDS = 24 * 3600
"""Connections up to this long are waited for; the few longer ones are looked for beforehand."""

SLACK_SECONDS = 3600
"""So far back a server's clock may be set within a log."""

WAIT_MS = (HOLD_SECONDS + SLACK_SECONDS) * MS
"""So long after the newest stamp nothing joins any more. A line that is older yet is out of order, and refused."""

FLUSH_ROWS = 100_000
"""Connections of one step at most: what is stored in one transaction."""

FIRST_FLUSH_ROWS = 20_000
"""Those of the first one where rows are not copied: how long they take is not known yet."""

SORTED_STEPS = 2
"""New connections are sorted in among those that wait, some 50,000 of a busy day, for so many steps at once."""

CHUNKS_AHEAD = 2
"""So many blocks of a log are ready before they are taken."""

COVERAGE_JOIN_MS = 3600 * MS
"""Logs of one run that follow each other within this much leave no hole: the mount was silent."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Columns:
    """Connections as columns. ``mark`` is one of :class:`Listeners`, ``job`` an index into the run's jobs."""

    listener: Ints
    started_ms: Ints
    ended_ms: Ints
    mark: Ints
    job: Ints

    def __len__(self) -> int:
        return len(self.listener)

    def only(self, chosen: Any) -> _Columns:
        return _Columns(
            listener=self.listener[chosen],
            started_ms=self.started_ms[chosen],
            ended_ms=self.ended_ms[chosen],
            mark=self.mark[chosen],
            job=self.job[chosen],
        )

    @staticmethod
    def joined(blocks: Sequence[_Columns]) -> _Columns:
        def column(name: str) -> Ints:
            return np.concatenate([np.empty(0, np.int64), *(getattr(one, name) for one in blocks)])

        return _Columns(
            listener=column("listener"),
            started_ms=column("started_ms"),
            ended_ms=column("ended_ms"),
            mark=column("mark"),
            job=column("job"),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Sessions of one stream, ready to be stored."""

    stream: Stream
    started_ms: Ints
    ended_ms: Ints
    rows: bulk.Rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """What one transaction stores: all that was complete at ``until_ms`` and not at the step before; None: the rest.

    ``spans`` are the stretches that the logs cover so far, ``finished`` the
    jobs of which nothing is left, ``shared`` when most of a stream's listeners
    had one address, by slug, so far.
    """

    batches: list[Batch]
    until_ms: int | None
    spans: list[tuple[int, int]]
    finished: list[Job]
    shared: Mapping[str, Sequence[blurs.Compared]]
    connections: int


class Reading:
    """Some logs and some streams, read from given places to the end. ``flush_rows`` may be changed meanwhile."""

    def __init__(
        self,
        jobs: Sequence[Job],
        plan: Plan,
        mounts: Mapping[str, str],
        streams: Mapping[str, Stream],
        imported: Imported,
        *,
        secret: bytes,
        written_ms: int,
        way: bulk.Way,
        progress: Progress | None,
    ) -> None:
        self.flush_rows = FLUSH_ROWS if way.copies else min(FLUSH_ROWS, FIRST_FLUSH_ROWS)
        self._jobs = jobs
        self._plan = plan
        self._mounts = mounts
        self._slugs = sorted(set(mounts.values()))
        self._streams = streams
        self._imported = imported
        self._written_ms = written_ms
        self._way = way
        self._progress = progress
        self._gap_ms = conf.get().rules().gap_seconds * MS
        self._pending: dict[str, list[_Columns]] = {slug: [] for slug in self._slugs}
        self._fresh = 0  # of those, not sorted in yet
        self._enough = FLUSH_ROWS // 2  # of those, to sort them in: soon at first, so that storing can begin
        self._coverage: list[tuple[int, int]] = []
        self._digesting: dict[int, Future[None]] = {}  # of the logs that were read through
        self._listeners = Listeners(secret, self._slugs)
        self._homes = Homes(self._listeners, plan)

    def steps(self) -> Generator[Step, None, None]:
        """What is to be stored, in order; the last one has no ``until_ms``. Raises SourceUnavailable."""
        newest_ms = 0
        with ahead(self._chunks(), CHUNKS_AHEAD) as chunks, ThreadPoolExecutor(1) as digesting:
            self._take_long_ones()  # which is quick, and what reads the logs in full starts meanwhile
            for number, chunk in chunks:
                job = self._jobs[number]
                if chunk is None:
                    self._digesting[number] = digesting.submit(job.take_digest)
                    newest_ms = 0
                    continue
                self._cover(chunk)
                counts = Counter(chunk.counts)
                late = self._take(number, chunk, is_long=False, from_ms=newest_ms - WAIT_MS)
                if late:
                    counts.update(kept=-late, refused_late=late)
                newest_ms = max(newest_ms, chunk.last_ms)
                job.end = chunk.offset
                job.counts.update(counts)
                self._imported.counts.update(counts)
                if self._progress is not None:
                    self._progress(job.log, chunk)
                if self._fresh >= self._enough:
                    limit_ms = min((one.log.first_ms() for one in self._jobs[number + 1 :]), default=newest_ms)
                    yield from self._flush(min(newest_ms, limit_ms) - WAIT_MS, read=number)
            yield from self._flush(None, read=len(self._jobs))

    def _chunks(self) -> Generator[tuple[int, Chunk | None], None, None]:
        """The blocks of each log with its number; behind its last one None."""
        for number, job in enumerate(self._jobs):
            for chunk in job.log.columns(self._mounts, offset=job.offset):
                yield number, chunk
            yield number, None

    def _take_long_ones(self) -> None:
        for number, job in enumerate(self._jobs):
            for chunk in job.log.long_columns(self._mounts, offset=job.offset, seconds=HOLD_SECONDS):
                self._take(number, chunk, is_long=True, from_ms=0)

    def _take(self, number: int, chunk: Chunk, *, is_long: bool, from_ms: int) -> int:
        """Adds the chunk's connections to what waits. Their addresses end here.

        How many it leaves out, since they ended before ``from_ms``: what they
        belong to may be stored already.
        """
        self._listeners.meet(chunk.ips, chunk.agents, is_afresh=chunk.is_afresh)
        wanted = ((chunk.ended_ms - chunk.started_ms) > HOLD_SECONDS * MS) == is_long
        is_late = wanted & (chunk.ended_ms < from_ms)
        wanted &= ~is_late
        for index, slug in enumerate(self._slugs):
            rows = np.flatnonzero(wanted & (chunk.stream == index))
            if len(rows):
                listener, mark = self._listeners.of(slug, chunk.ip[rows], chunk.agent[rows])
                if not is_long:
                    columns = (chunk.started_ms[rows], chunk.ended_ms[rows])
                    self._homes.look(slug, chunk.ip[rows], listener, mark, *columns)
                self._pending[slug].append(
                    _Columns(
                        listener=listener,
                        started_ms=chunk.started_ms[rows],
                        ended_ms=chunk.ended_ms[rows],
                        mark=mark,
                        job=np.full(len(rows), number, dtype=np.int64),
                    )
                )
                self._fresh += len(rows)
        return int(np.count_nonzero(is_late))

    def _cover(self, chunk: Chunk) -> None:
        if not chunk.last_ms:
            return
        if self._coverage and chunk.first_ms - self._coverage[-1][1] <= COVERAGE_JOIN_MS:
            start_ms, end_ms = self._coverage[-1]
            self._coverage[-1] = (min(start_ms, chunk.first_ms), max(end_ms, chunk.last_ms))
        else:
            self._coverage.append((chunk.first_ms, chunk.last_ms))

    # Giving --------------------------------------------------------------------------------------

    def _flush(self, safe_ms: int | None, *, read: int) -> Iterator[Step]:
        """Every cluster that nothing can join any more: all that are complete at ``safe_ms``; with None all.

        They go by when they were complete. The logs before number ``read`` were
        read to their end.
        """
        complete: dict[str, tuple[_Columns, Ints]] = {}
        for slug, blocks in self._pending.items():
            columns = _Columns.joined(blocks)
            columns = columns.only(order_by(columns.started_ms, columns.listener))
            at_ms = self._complete_ms(columns)
            is_complete = np.ones(len(columns), dtype=np.bool_) if safe_ms is None else at_ms <= safe_ms
            self._pending[slug] = [columns.only(~is_complete)]
            left = np.flatnonzero(is_complete & (at_ms > self._written_ms))
            left = left[order_of(at_ms[left])]
            complete[slug] = columns.only(left), at_ms[left]
        self._fresh = 0
        self._enough = min(2 * self._enough, SORTED_STEPS * FLUSH_ROWS)
        ends_ms = np.sort(np.concatenate([at_ms for _, at_ms in complete.values()]))
        first = 0
        while first + self.flush_rows < len(ends_ms):
            until_ms = int(ends_ms[first + self.flush_rows - 1])
            yield self._step(_taken(complete, until_ms), until_ms, read=0)
            first = int(np.searchsorted(ends_ms, until_ms, side="right"))
        yield self._step({slug: columns for slug, (columns, _) in complete.items()}, safe_ms, read=read)

    def _step(self, complete: Mapping[str, _Columns], until_ms: int | None, *, read: int) -> Step:
        limit_ms = until_ms if until_ms is not None else 1 << 62
        spans = [self._plan.clipped(start, min(end, limit_ms)) for start, end in self._coverage]
        if until_ms is not None:
            self._written_ms = max(self._written_ms, until_ms)
        return Step(
            batches=[self._batch(self._streams[slug], columns) for slug, columns in complete.items()],
            until_ms=until_ms,
            spans=[span for span in spans if span is not None],
            finished=self._read_through(read),
            shared=self._homes.found(),
            connections=sum(map(len, complete.values())),
        )

    def _read_through(self, read: int) -> list[Job]:
        """Those of the jobs before number ``read`` of which nothing waits any more, with their digests taken."""
        if not read:
            return []
        waiting = {int(job) for blocks in self._pending.values() for block in blocks for job in np.unique(block.job)}
        finished = [number for number in self._digesting if number < read and number not in waiting]
        for number in finished:
            self._digesting.pop(number).result()
        return [self._jobs[number] for number in finished]

    def _complete_ms(self, columns: _Columns) -> Ints:
        """For each connection, from when on nothing can join its cluster. They come by listener, then start."""
        if not len(columns):
            return columns.ended_ms
        room = int(columns.ended_ms.max() - columns.started_ms.min()) + self._gap_ms + 1
        _, person = np.unique(columns.listener, return_inverse=True)
        # Python's integers, for a listener's number times the room may pass 63 bits.
        several = max(1, (1 << 62) // room)
        begins = np.ones(len(columns), dtype=np.bool_)
        low = int(columns.started_ms.min())
        for first in range(0, int(person[-1]) + 1, several):
            slot = slice(*np.searchsorted(person, (first, first + several)))
            shift = (person[slot] - first) * room - low
            latest = np.maximum.accumulate(columns.ended_ms[slot] + shift)[:-1]
            begins[slot][1:] = columns.started_ms[slot][1:] + shift[1:] - latest > self._gap_ms
        first_rows = np.flatnonzero(begins)
        ends = np.maximum.reduceat(columns.ended_ms, first_rows)
        return ends[np.cumsum(begins) - 1] + self._gap_ms + 1

    def _batch(self, stream: Stream, columns: _Columns) -> Batch:
        sessions = sessionize.stitch_columns(
            columns.listener, columns.started_ms, columns.ended_ms, gap_ms=self._gap_ms
        )
        chosen = np.flatnonzero(self._plan.takes(sessions.ended_ms))
        chosen = chosen[order_of(sessions.ended_ms[chosen])]  # by which the index has them
        self._imported.outside += len(sessions) - len(chosen)
        self._imported.sessions += len(chosen)
        first_row = sessions.first_row[chosen]
        started_ms, ended_ms = sessions.started_ms[chosen], sessions.ended_ms[chosen]
        label, labels = self._listeners.labels(stream.slug, columns.mark[first_row])
        keys = self._listeners.period_keys(columns.listener[first_row], started_ms)
        rows = bulk.Rows(
            stream_id=stream.pk,
            source=self._plan.source,
            listener=household_keys(keys, sessions.lane[chosen]),
            started_ms=started_ms,
            ended_ms=ended_ms,
            played_ms=sessions.played_ms[chosen],
            parts=_parts(sessions, chosen),
            label=label,
            labels=labels,
            way=self._way,
        )
        return Batch(stream=stream, started_ms=started_ms, ended_ms=ended_ms, rows=rows)


def _taken(complete: dict[str, tuple[_Columns, Ints]], until_ms: int) -> dict[str, _Columns]:
    """Takes out what was complete at ``until_ms``."""
    taken = {}
    for slug, (columns, at_ms) in complete.items():
        count = int(np.searchsorted(at_ms, until_ms, side="right"))
        taken[slug] = columns.only(slice(count))
        complete[slug] = columns.only(slice(count, None)), at_ms[count:]
    return taken


def _parts(sessions: sessionize.SessionColumns, chosen: Ints) -> dict[int, str]:
    """Of the chosen sessions those that are not in one piece, by their place among the chosen: their parts as JSON."""
    first, behind = sessions.first_part[:-1][chosen], sessions.first_part[1:][chosen]
    several = behind - first
    found: dict[int, str] = {}
    for count in np.unique(several[several > 1]).tolist():
        places = np.flatnonzero(several == count)
        at = ranges(first[places], several[places])
        begin_ms = np.repeat(sessions.started_ms[chosen[places]], count)
        spans = np.column_stack((sessions.part_started_ms[at] - begin_ms, sessions.part_ended_ms[at] - begin_ms))
        line = f"[{', '.join(['[%d, %d]'] * count)}]\n"
        texts = line * len(places) % tuple(spans.ravel().tolist())
        found.update(zip(places.tolist(), texts.splitlines(), strict=True))
    return found
