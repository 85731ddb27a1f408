"""Old HLS logs become sessions: the same that following them would have made, resumable, twice the same as once.

What an import is, its ledger and its transactions are those of
:mod:`.importing`; here is what reads. A log's stretches come out when they are
over; a *cluster* (what one listener heard without a silence longer than the
gap) is given once no line to come can join it, and stitched as the sockets of a
live source are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .. import conf
from ..kernel.types import MS, Address
from ..models import Stream
from ..sources.accesslog import UNFINISHED
from ..sources.ahead import ahead
from ..sources.hls import HlsSource
from ..sources.hlslog import BATCH_REQUESTS, FinishedStretches, LogReader, Waiting
from . import import_reading, importing, stitching
from .import_homes import Homes
from .import_ledger import Job, groups
from .import_listeners import Listeners
from .import_plan import Imported, Log, Plan, Progress

__all__ = ["run"]

LATE_MS = 3600 * MS
"""So far back a server's clock may be set within a log. A line that is older yet is refused."""

STEP_STRETCHES = 500
"""Stretches of one step, about: stored in some 50 milliseconds."""

MOST_KNOWN = 500_000
"""So many addresses or agents are remembered by number."""


def run(
    logs: Sequence[Log], plan: Plan, source: HlsSource, *, now_ms: int, progress: Progress | None = None
) -> Imported:
    """Imports the logs of an HLS output. ``source`` says what its streams are: those of ``plan``, or fewer.

    Raises ImportRefused, SourceUnavailable. Otherwise as :func:`.importing.run`;
    the logs are :class:`~..sources.hlsfile.HlsLogFile`.
    """
    imported = Imported()
    streams = importing.streams_of(plan)
    for slugs, jobs in groups(logs, plan, streams, imported, now_ms):
        if jobs:
            mounts = {mount: slug for mount, slug in plan.mounts.items() if slug in slugs}
            _Run(jobs, plan, mounts, streams, imported, now_ms).run_with(source, progress)
    return imported


class _Run(importing.Run):
    """Some HLS logs, read and stored from given places to the end."""

    def run_with(self, source: HlsSource, progress: Progress | None) -> None:
        reading = _Reading(self, source, progress)
        with ahead(reading.steps(), importing.STEPS_AHEAD) as steps:
            for step in steps:
                if not self.plan.dry_run:
                    self.store(step)
                self.tell(step)


class _Heard(NamedTuple):
    """A stretch of one listener. ``mark`` is one of :class:`Listeners`."""

    started_ms: int
    ended_ms: int
    bytes_sent: int
    delivered_ms: int
    rendition: str
    referrer: str
    switches: int
    mark: int


class _Cluster(NamedTuple):
    """What one listener heard without a silence. From ``complete_ms`` on nothing can join it."""

    complete_ms: int
    slug: str
    listener: int
    heard: list[_Heard]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Closed sessions on their way into the table."""

    rows: list[stitching.SessionRow]

    def insert(self) -> None:
        stitching.create([(row, []) for row in self.rows])


class _Reading:
    """The logs, read from given places to the end. The database is not asked: a thread of its own reads."""

    def __init__(self, run: _Run, source: HlsSource, progress: Progress | None) -> None:
        self._jobs: Sequence[Job] = run.jobs
        self._plan: Plan = run.plan
        self._streams: Mapping[str, Stream] = run.streams
        self._slugs = run.slugs
        self._imported: Imported = run.imported
        self._now_ms = run.now_ms
        self._written_ms = run.written_ms
        self._source = source
        self._progress = progress
        self._gap_ms = conf.get().rules().gap_seconds * MS
        self._pending: dict[tuple[str, int], list[_Heard]] = defaultdict(list)
        self._coverage: list[tuple[int, int]] = []
        self._listeners = Listeners(run.secret, run.slugs)
        self._homes = Homes(self._listeners, run.plan)
        self._numbers: tuple[dict[str, int], dict[str, int]] = ({}, {})  # of addresses and agents

    def steps(self) -> Generator[import_reading.Step, None, None]:
        """What is to be stored, in order; the last one has no ``until_ms``. Raises SourceUnavailable."""
        reader = self._reader()
        limit = BATCH_REQUESTS
        for number, job in enumerate(self._jobs):
            if 0 < job.log.first_ms() < reader.settled_ms:  # of another server, of the same hours
                self._take(reader.finished(None))
                reader, limit = self._reader(), BATCH_REQUESTS
            to_come_ms = min((one.log.first_ms() for one in self._jobs[number + 1 :]), default=None)
            for lines, offset in job.log.lines(offset=job.offset):
                for line in lines or ():
                    reader.read(line)
                self._account(job, reader, offset, is_unfinished=lines is None)
                if len(reader) >= limit:
                    self._take(reader.finished(reader.settled_ms))
                    limit = BATCH_REQUESTS + len(reader)
                    newest_ms = reader.newest_ms if to_come_ms is None else min(reader.newest_ms, to_come_ms)
                    yield from self._flush(newest_ms - LATE_MS - self._source.target_ms, reader.waiting())
        self._take(reader.finished(None))
        yield from self._flush(None, [])

    def _reader(self) -> LogReader:
        return LogReader(self._source, self._now_ms, late_ms=LATE_MS)

    def _account(self, job: Job, reader: LogReader, offset: int, *, is_unfinished: bool) -> None:
        """Notes what became of the lines up to ``offset``, and what they cover."""
        lines = reader.take_lines()
        counts = Counter({UNFINISHED: 1}) if is_unfinished else lines.by_reason
        job.end = offset
        job.counts.update(counts)
        self._imported.counts.update(counts)
        if lines.last_ms:
            # What was asked for last is heard for one window more.
            start_ms, end_ms = lines.first_ms, lines.last_ms + self._source.target_ms
            if self._coverage and start_ms - self._coverage[-1][1] <= import_reading.COVERAGE_JOIN_MS:
                before_ms, until_ms = self._coverage.pop()
                start_ms, end_ms = min(before_ms, start_ms), max(until_ms, end_ms)
            self._coverage.append((start_ms, end_ms))
        if self._progress is not None:
            self._progress(job.log, None)

    # Who it was ----------------------------------------------------------------------------------

    def _take(self, found: FinishedStretches) -> None:
        """Adds the stretches to what waits. Their addresses end here."""
        ip, agent = self._met(found.addresses)
        for slug in self._slugs:
            mine = np.array([one == slug for one in found.stream], dtype=np.bool_)
            rows = np.flatnonzero(mine)
            if not len(rows):
                continue
            who = found.who[rows]
            listener, mark = self._listeners.of(slug, ip[who], agent[who])
            self._homes.look(slug, ip[who], listener, mark, found.started_ms[rows], found.ended_ms[rows])
            columns = (found.started_ms, found.ended_ms, found.bytes_sent, found.delivered_ms)
            for key, *numbers, row, switches, told in zip(
                listener.tolist(),
                *(column[rows].tolist() for column in columns),
                rows.tolist(),
                found.switches[rows].tolist(),
                mark.tolist(),
                strict=True,
            ):
                self._pending[slug, key].append(
                    _Heard(*numbers, found.rendition[row], found.referrer[row], switches, told)
                )

    def _met(self, addresses: Sequence[Address]) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of these addresses and agents, the new ones made known to the listeners."""
        is_afresh = max(map(len, self._numbers)) > MOST_KNOWN
        if is_afresh:
            for known in self._numbers:
                known.clear()
        found, new = [], []
        for known, texts in zip(
            self._numbers, ([one.ip for one in addresses], [one.agent for one in addresses]), strict=True
        ):
            first = len(known)
            found.append(np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64))
            new.append(list(known)[first:])
        self._listeners.meet(*new, is_afresh=is_afresh)
        return found[0], found[1]

    def _waiting(self, waiting: Sequence[Waiting]) -> dict[tuple[str, int], int]:
        """Since when something of each listener may still come out."""
        ip, agent = self._met([one.address for one in waiting])
        since_ms: dict[tuple[str, int], int] = {}
        for place, one in enumerate(waiting):
            if one.stream in self._slugs:
                listener, _ = self._listeners.of(one.stream, ip[place : place + 1], agent[place : place + 1])
                who = one.stream, int(listener[0])
                since_ms[who] = min(since_ms.get(who, one.since_ms), one.since_ms)
        return since_ms

    # Giving --------------------------------------------------------------------------------------

    def _flush(self, safe_ms: int | None, waiting: Sequence[Waiting]) -> Iterator[import_reading.Step]:
        """Every cluster that is complete at ``safe_ms``, by when it was; with None all.

        A cluster that somebody's requests may still join is complete later than
        ``safe_ms``: whoever is waited for asked less than LATE_MS ago.
        """
        since_ms = self._waiting(waiting)
        complete: list[_Cluster] = []
        for who, heard in list(self._pending.items()):
            left: list[_Heard] = []
            for one in self._clusters(who, heard):
                is_joined = since_ms.get(who, one.complete_ms) < one.complete_ms
                if safe_ms is not None and (one.complete_ms > safe_ms or is_joined):
                    left += one.heard
                elif one.complete_ms > self._written_ms:
                    complete.append(one)
            if left:
                self._pending[who] = left
            else:
                del self._pending[who]
        complete.sort()
        some: list[_Cluster] = []
        for one in complete:
            if sum(len(each.heard) for each in some) >= STEP_STRETCHES and one.complete_ms > some[-1].complete_ms:
                yield self._step(some, some[-1].complete_ms)
                some = []
            some.append(one)
        yield self._step(some, safe_ms)

    def _clusters(self, who: tuple[str, int], heard: list[_Heard]) -> Iterator[_Cluster]:
        heard.sort()
        some: list[_Heard] = []
        complete_ms = 0
        for one in heard:
            if some and one.started_ms >= complete_ms:
                yield _Cluster(complete_ms, *who, some)
                some, complete_ms = [], 0
            some.append(one)
            complete_ms = max(complete_ms, one.ended_ms + self._gap_ms + 1)
        if some:
            yield _Cluster(complete_ms, *who, some)

    def _step(self, clusters: Sequence[_Cluster], until_ms: int | None) -> import_reading.Step:
        if until_ms is None:
            for job in self._jobs:
                job.take_digest()
        else:
            self._written_ms = max(self._written_ms, until_ms)
        limit_ms = until_ms if until_ms is not None else 1 << 62
        spans = [self._plan.clipped(start, min(end, limit_ms)) for start, end in self._coverage]
        return import_reading.Step(
            batches=[self._batch(slug, [one for one in clusters if one.slug == slug]) for slug in self._slugs],
            until_ms=until_ms,
            spans=[span for span in spans if span is not None],
            finished=[] if until_ms is not None else list(self._jobs),
            shared=self._homes.found(),
            connections=sum(len(one.heard) for one in clusters),
        )

    def _batch(self, slug: str, clusters: Sequence[_Cluster]) -> import_reading.Batch:
        stream = self._streams[slug]
        found = [row for row in self._sessions(stream, clusters) if self._is_inside(row.ended_ms)]
        self._imported.sessions += len(found)
        return import_reading.Batch(
            stream=stream,
            started_ms=np.array([row.started_ms for row in found], dtype=np.int64),
            ended_ms=np.array([row.ended_ms for row in found], dtype=np.int64),
            rows=_Rows(rows=found),
        )

    def _is_inside(self, ended_ms: int) -> bool:
        is_inside = bool(self._plan.takes(np.array([ended_ms], dtype=np.int64))[0])
        self._imported.outside += not is_inside
        return is_inside

    def _sessions(self, stream: Stream, clusters: Sequence[_Cluster]) -> Iterable[stitching.SessionRow]:
        """Stitched as the sockets of a live source, under each listener's key in the period in which it began."""

        def column(values: Iterable[int]) -> np.ndarray:
            return np.fromiter(values, dtype=np.int64, count=len(clusters))

        label, labels = self._listeners.labels(stream.slug, column(one.heard[0].mark for one in clusters))
        keys = self._listeners.period_keys(
            column(one.listener for one in clusters), column(one.heard[0].started_ms for one in clusters)
        )
        for one, key, place in zip(clusters, keys.tolist(), label.tolist(), strict=True):
            country, app, exclusion, rule = labels[place]
            sockets = [
                stitching.Socket(
                    id=0,
                    session_id=None,
                    stream_id=stream.pk,
                    listener=key,
                    key=f"{number:06}",
                    started_ms=heard.started_ms,
                    seen_ms=heard.ended_ms,
                    ended=True,
                    country=country,
                    app=app,
                    exclusion=exclusion,
                    rule=rule,
                    source=self._plan.source,
                    bytes_sent=heard.bytes_sent,
                    delivered_ms=heard.delivered_ms,
                    rendition=heard.rendition or None,
                    switches=heard.switches,
                    referrer=heard.referrer or None,
                )
                for number, heard in enumerate(one.heard)
            ]
            for row, _ in stitching.sessions_of(sockets, self._gap_ms):
                yield row
