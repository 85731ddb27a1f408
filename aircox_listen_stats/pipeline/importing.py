"""Old logs become sessions: streamed, resumable, twice the same as once.

A log is in the order of ENDS. A listener's connections are complete up to the
newest stamp less the longest connection that may still come, so those of more
than HOLD_SECONDS are looked for first, and a *cluster* (what one listener
heard without a silence longer than the gap) is written when nothing can join
it any more. What was written is named by one instant, `written_ms`: a run
that was killed is read again from its beginning and writes what lies behind
that instant. The keys stand under a secret of the run, kept in the ledger
until the last of its logs is finished, then destroyed.
"""

from __future__ import annotations

import json
import secrets as entropy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import Exists, OuterRef

from .. import conf
from ..fields import from_ms, to_ms
from ..kernel import sessionize
from ..kernel.arrays import Ints, ranges
from ..kernel.identity import household_keys
from ..kernel.types import Why
from ..models import Connection, Session, StaleWindow, Stream
from . import bulk
from .coverage import extend_coverage
from .import_ledger import Job, groups
from .import_listeners import Listeners
from .import_plan import Chunk, Imported, ImportRefused, Log, Plan, Progress
from .ingest import mark_stale, wait_for_reports
from .secrets import SECRET_BYTES

__all__ = ["ImportRefused", "Imported", "Log", "Plan", "run"]

MS = 1000

HOLD_SECONDS = 24 * 3600
"""Connections up to this long are waited for; the few longer ones are looked for beforehand."""

SLACK_SECONDS = 3600
"""So far back a server's clock may be set within a log."""

FLUSH_ROWS = 25_000
"""Connections in one transaction at most, for which reports wait, and on SQLite aircox's Monitor too."""

FLUSH_SECONDS = 0.15
"""So long a transaction should take; where it takes longer, the next one is smaller."""

SMALLEST_FLUSH = 20
"""A transaction is never made smaller than this part of FLUSH_ROWS."""

SORTED_FLUSHES = 4
"""New connections are sorted in among those that wait, some 50,000 of a busy day, for so many transactions at once."""

COVERAGE_JOIN_MS = 3600 * MS
"""Logs of one run that follow each other within this much leave no hole: the mount was silent."""

COVERAGE_TOUCH_MS = 60 * MS
"""What was observed before is joined if it is that near."""


def run(logs: Sequence[Log], plan: Plan, *, now_ms: int, progress: Progress | None = None) -> Imported:
    """Imports the logs under ``plan``. Raises ImportRefused, SourceUnavailable.

    The streams must be rows already. Logs that were imported to their end are
    passed over; of one that has grown, only the new part is read.
    """
    imported = Imported()
    streams = _streams(plan)
    for slugs, jobs in groups(logs, plan, streams, imported, now_ms):
        if jobs:
            mounts = {mount: slug for mount, slug in plan.mounts.items() if slug in slugs}
            _Run(jobs, plan, mounts, streams, imported, now_ms).run(progress)
    return imported


def _streams(plan: Plan) -> dict[str, Stream]:
    known = {stream.slug: stream for stream in Stream.objects.all()}
    missing = sorted(set(plan.mounts.values()) - set(known))
    if missing:
        raise ImportRefused(
            f"Unknown stream {missing[0]!r}. Known: {', '.join(sorted(known)) or 'none'}. "
            "A stream is made by an entry in STREAMS."
        )
    return {slug: known[slug] for slug in set(plan.mounts.values())}


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
class _Batch:
    """Sessions of one stream, ready to be stored, with the window that they touch."""

    stream: Stream
    started_ms: Ints
    ended_ms: Ints
    rows: bulk.Rows


class _Run:
    """Some logs and some streams, read from given places to the end."""

    def __init__(
        self,
        jobs: Sequence[Job],
        plan: Plan,
        mounts: Mapping[str, str],
        streams: Mapping[str, Stream],
        imported: Imported,
        now_ms: int,
    ) -> None:
        self.jobs = jobs
        self.plan = plan
        self.mounts = mounts
        self.slugs = sorted(set(mounts.values()))
        self.streams = streams
        self.imported = imported
        self.now_ms = now_ms
        self.gap_ms = conf.get().rules().gap_seconds * MS
        self.pending: dict[str, list[_Columns]] = {slug: [] for slug in self.slugs}
        self.fresh = 0  # of those, not sorted in yet
        self.coverage: list[tuple[int, int]] = []
        self.flush_rows = FLUSH_ROWS
        self.secret, self.written_ms = self._begin()
        self.replaced_ms = 0
        self.listeners = Listeners(self.secret, self.slugs)

    def _begin(self) -> tuple[bytes, int]:
        """The run's secret and how far it came: those of the run that was interrupted, or new ones."""
        going = [job.row for job in self.jobs if job.row.pk and job.row.finished is None and job.row.secret]
        secret = bytes(going[0].secret) if going else entropy.token_bytes(SECRET_BYTES)
        same = [row for row in going if bytes(row.secret) == secret]
        written_ms = max((int(row.state.get("written_ms", 0)) for row in same), default=0)
        if not self.plan.dry_run:
            with transaction.atomic():
                for job in self.jobs:
                    job.row.secret = secret
                    job.row.finished = None
                    job.row.source = self.plan.source
                    job.row.state = {**job.row.state, "written_ms": written_ms}
                    job.row.save()
        return secret, written_ms

    def run(self, progress: Progress | None) -> None:
        self._take_long_ones()
        for number, job in enumerate(self.jobs):
            newest_ms = 0
            limit_ms = min((one.log.first_ms() for one in self.jobs[number + 1 :]), default=None)
            for chunk in job.log.columns(self.mounts, offset=job.offset):
                newest_ms = max(newest_ms, chunk.last_ms)
                job.end = chunk.offset
                job.counts.update(chunk.counts)
                self.imported.counts.update(chunk.counts)
                self._cover(chunk)
                self._take(number, chunk, is_long=False)
                if progress is not None:
                    progress(job.log, chunk)
                if self.fresh >= SORTED_FLUSHES * FLUSH_ROWS:
                    safe_ms = newest_ms if limit_ms is None else min(newest_ms, limit_ms)
                    self._flush(safe_ms - (HOLD_SECONDS + SLACK_SECONDS) * MS, read=number)
        self._flush(None, read=len(self.jobs))

    def _take_long_ones(self) -> None:
        for number, job in enumerate(self.jobs):
            for chunk in job.log.long_columns(self.mounts, offset=job.offset, seconds=HOLD_SECONDS):
                self._take(number, chunk, is_long=True)

    def _take(self, number: int, chunk: Chunk, *, is_long: bool) -> None:
        """Adds the chunk's connections to what waits. Their addresses end here."""
        self.listeners.meet(chunk.ips, chunk.agents, is_afresh=chunk.is_afresh)
        wanted = ((chunk.ended_ms - chunk.started_ms) > HOLD_SECONDS * MS) == is_long
        for index, slug in enumerate(self.slugs):
            rows = np.flatnonzero(wanted & (chunk.stream == index))
            if len(rows):
                listener, mark = self.listeners.of(slug, chunk.ip[rows], chunk.agent[rows])
                self.pending[slug].append(
                    _Columns(
                        listener=listener,
                        started_ms=chunk.started_ms[rows],
                        ended_ms=chunk.ended_ms[rows],
                        mark=mark,
                        job=np.full(len(rows), number, dtype=np.int64),
                    )
                )
                self.fresh += len(rows)

    def _cover(self, chunk: Chunk) -> None:
        if not chunk.last_ms:
            return
        if self.coverage and chunk.first_ms - self.coverage[-1][1] <= COVERAGE_JOIN_MS:
            start_ms, end_ms = self.coverage[-1]
            self.coverage[-1] = (min(start_ms, chunk.first_ms), max(end_ms, chunk.last_ms))
        else:
            self.coverage.append((chunk.first_ms, chunk.last_ms))

    # Writing ---------------------------------------------------------------------------------------

    # Writing ---------------------------------------------------------------------------------------

    def _flush(self, safe_ms: int | None, *, read: int) -> None:
        """Writes every cluster that nothing can join any more: all that are complete at ``safe_ms``; with None all.

        They go by when they were complete, in short transactions. The logs
        before number ``read`` were read to their end.
        """
        complete: dict[str, tuple[_Columns, Ints]] = {}
        for slug, blocks in self.pending.items():
            columns = _Columns.joined(blocks)
            columns = columns.only(np.lexsort((columns.started_ms, columns.listener)))
            at_ms = self._complete_ms(columns)
            is_complete = np.ones(len(columns), dtype=np.bool_) if safe_ms is None else at_ms <= safe_ms
            self.pending[slug] = [columns.only(~is_complete)]
            left = np.flatnonzero(is_complete & (at_ms > self.written_ms))
            left = left[np.argsort(at_ms[left], kind="stable")]
            complete[slug] = columns.only(left), at_ms[left]
        self.fresh = 0
        ends_ms = np.sort(np.concatenate([at_ms for _, at_ms in complete.values()]))
        first = 0
        while first + self.flush_rows < len(ends_ms):
            until_ms = int(ends_ms[first + self.flush_rows - 1])
            self._store(_taken(complete, until_ms), until_ms, read=0)
            first = int(np.searchsorted(ends_ms, until_ms, side="right"))
        self._store({slug: columns for slug, (columns, _) in complete.items()}, safe_ms, read=read)

    def _store(self, complete: Mapping[str, _Columns], until_ms: int | None, *, read: int) -> None:
        """Stores the sessions of these connections, and that all was stored that was complete at ``until_ms``."""
        batches = [self._batch(self.streams[slug], columns) for slug, columns in complete.items()]
        if self.plan.dry_run:
            return
        finished = self._read_through(read)
        began = time.monotonic()
        with transaction.atomic():
            wait_for_reports()
            for batch in batches:
                self._write(batch, until_ms)
            self._note(until_ms, finished)
        self._set_pace(sum(len(columns) for columns in complete.values()), time.monotonic() - began)

    def _set_pace(self, stored: int, seconds: float) -> None:
        """Makes the next transactions as large as FLUSH_SECONDS allow."""
        if stored >= self.flush_rows // 2:
            possible = int(stored * FLUSH_SECONDS / max(seconds, FLUSH_SECONDS / 100))
            self.flush_rows = max(1, FLUSH_ROWS // SMALLEST_FLUSH, min(FLUSH_ROWS, possible))

    def _complete_ms(self, columns: _Columns) -> Ints:
        """For each connection, from when on nothing can join its cluster. They come by listener, then start."""
        if not len(columns):
            return columns.ended_ms
        room = int(columns.ended_ms.max() - columns.started_ms.min()) + self.gap_ms + 1
        _, person = np.unique(columns.listener, return_inverse=True)
        # Python's integers, for a listener's number times the room may pass 63 bits.
        several = max(1, (1 << 62) // room)
        begins = np.ones(len(columns), dtype=np.bool_)
        low = int(columns.started_ms.min())
        for first in range(0, int(person[-1]) + 1, several):
            slot = slice(*np.searchsorted(person, (first, first + several)))
            shift = (person[slot] - first) * room - low
            latest = np.maximum.accumulate(columns.ended_ms[slot] + shift)[:-1]
            begins[slot][1:] = columns.started_ms[slot][1:] + shift[1:] - latest > self.gap_ms
        first_rows = np.flatnonzero(begins)
        ends = np.maximum.reduceat(columns.ended_ms, first_rows)
        return ends[np.cumsum(begins) - 1] + self.gap_ms + 1

    def _batch(self, stream: Stream, columns: _Columns) -> _Batch:
        sessions = sessionize.stitch_columns(columns.listener, columns.started_ms, columns.ended_ms, gap_ms=self.gap_ms)
        chosen = np.flatnonzero(self.plan.takes(sessions.ended_ms))
        self.imported.outside += len(sessions) - len(chosen)
        self.imported.sessions += len(chosen)
        first_row = sessions.first_row[chosen]
        started_ms, ended_ms = sessions.started_ms[chosen], sessions.ended_ms[chosen]
        label, labels = self.listeners.labels(stream.slug, columns.mark[first_row])
        keys = self.listeners.period_keys(columns.listener[first_row], started_ms)
        rows = bulk.Rows(
            stream_id=stream.pk,
            source=self.plan.source,
            listener=household_keys(keys, sessions.lane[chosen]),
            started_ms=started_ms,
            ended_ms=ended_ms,
            played_ms=sessions.played_ms[chosen],
            parts=dict(_parts(sessions, chosen)),
            label=label,
            labels=labels,
        )
        return _Batch(stream=stream, started_ms=started_ms, ended_ms=ended_ms, rows=rows)

    def _write(self, batch: _Batch, until_ms: int | None) -> None:
        stream = batch.stream
        hulls = [(batch.started_ms, batch.ended_ms)]
        if self.plan.replace:
            hulls.append(self._replace(stream, until_ms))
        else:
            self._refuse_overlap(stream, batch.ended_ms)
        batch.rows.insert()
        started_ms, ended_ms = (np.concatenate(column) for column in zip(*hulls, strict=True))
        if len(started_ms):
            span = (
                int(started_ms.min()) - 1 - stream.delay_ms,
                int(ended_ms.max()) + 1 - stream.delay_ms,
            )
            mark_stale(StaleWindow.AUDIENCE, {stream.station_id: [span]}, Why.LATE)

    def _refuse_overlap(self, stream: Stream, ended_ms: Ints) -> None:
        """Raises ImportRefused where another source already told of listening that ended in these hours."""
        if not len(ended_ms):
            return
        first, last = from_ms(int(ended_ms.min())), from_ms(int(ended_ms.max()))
        for kind in ({"is_open": False, "is_long": False}, {"is_long": True}, {"is_open": True, "is_long": False}):
            # Each kind has an index of its own.
            other = (
                Session.objects.filter(stream=stream, ended__gte=first, ended__lte=last, **kind)
                .exclude(source=self.plan.source)
                .order_by("ended")
                .values_list("source", "ended")
                .first()
            )
            if other is not None:
                raise ImportRefused(
                    f"Stream {stream.slug!r} has sessions of source {other[0]!r} that end from "
                    f"{other[1]:%Y-%m-%d %H:%M:%S} UTC on, in the hours of this log. One stream is counted "
                    "once: stop before them with --to, or replace them with --replace."
                )

    def _replace(self, stream: Stream, until_ms: int | None) -> tuple[Ints, Ints]:
        """Removes what other sources told of listening that ended in the hours of these logs.

        A log is complete for what ends while it is written, and for nothing
        else. Gives the starts and ends of what was removed.
        """
        removed: list[tuple[int, int]] = []
        for start_ms, end_ms in self._spans(until_ms):
            # What was looked through in the last transaction is left alone until the end.
            since_ms = start_ms if until_ms is None else max(start_ms, self.replaced_ms)
            if since_ms > end_ms:
                continue
            others = Session.objects.filter(stream=stream).exclude(source=self.plan.source)
            inside = others.filter(ended__gte=from_ms(since_ms), ended__lte=from_ms(end_ms))
            for is_long in (False, True):
                gone = inside.filter(is_open=False, is_long=is_long)
                removed += [(to_ms(start), to_ms(end)) for start, end in gone.values_list("started", "ended")]
                # Their sockets too, or the next report about the listener would bring them back.
                Connection.objects.filter(Exists(gone.filter(pk=OuterRef("session_id")))).delete()
                self.imported.replaced += gone.delete()[1].get(Session._meta.label, 0)
            if until_ms is None:
                across = others.filter(started__lt=from_ms(end_ms), ended__gt=from_ms(end_ms))
                self.imported.straddling += across.count() + inside.open().count()
        columns = np.array(removed, dtype=np.int64).reshape(-1, 2)
        return columns[:, 0], columns[:, 1]

    def _spans(self, until_ms: int | None) -> list[tuple[int, int]]:
        """The stretches that the logs cover, as far as they are complete, inside the window."""
        limit_ms = until_ms if until_ms is not None else 1 << 62
        spans = [self.plan.clipped(start, min(end, limit_ms)) for start, end in self.coverage]
        return [span for span in spans if span is not None]

    # The ledger ------------------------------------------------------------------------------------

    def _note(self, until_ms: int | None, finished: Sequence[Job]) -> None:
        """Coverage, and in the ledger how far the run came; finished logs lose their secret."""
        heard = [(self.streams[slug].pk, *span) for slug in self.slugs for span in self._spans(until_ms)]
        extend_coverage(heard, join_ms=COVERAGE_TOUCH_MS)
        if until_ms is not None:
            self.written_ms = max(self.written_ms, until_ms)
            self.replaced_ms = max(self.replaced_ms, until_ms)
        for job in self.jobs:
            if job.is_finished:
                continue
            job.row.state = {**job.row.state, "written_ms": self.written_ms}
            if job in finished:
                job.finish([self.plan.name_of(slug) for slug in self.slugs], now_ms=self.now_ms)
            job.row.save()

    def _read_through(self, read: int) -> list[Job]:
        """Those of the jobs before number ``read`` of which nothing waits any more, with their digests taken."""
        waiting = {int(job) for blocks in self.pending.values() for block in blocks for job in np.unique(block.job)}
        finished = [job for number, job in enumerate(self.jobs[:read]) if number not in waiting and not job.is_finished]
        for job in finished:
            job.take_digest()
        return finished


def _taken(complete: dict[str, tuple[_Columns, Ints]], until_ms: int) -> dict[str, _Columns]:
    """Takes out what was complete at ``until_ms``."""
    taken = {}
    for slug, (columns, at_ms) in complete.items():
        count = int(np.searchsorted(at_ms, until_ms, side="right"))
        taken[slug] = columns.only(slice(count))
        complete[slug] = columns.only(slice(count, None)), at_ms[count:]
    return taken


def _parts(sessions: sessionize.SessionColumns, chosen: Ints) -> Iterator[tuple[int, str]]:
    """Of the chosen sessions those that are not in one piece, by their place among the chosen, with their parts."""
    first, behind = sessions.first_part[:-1][chosen], sessions.first_part[1:][chosen]
    places = np.flatnonzero(behind - first > 1)
    counts = (behind - first)[places]
    at = ranges(first[places], counts)
    begin_ms = np.repeat(sessions.started_ms[chosen[places]], counts)
    spans = np.column_stack((sessions.part_started_ms[at] - begin_ms, sessions.part_ended_ms[at] - begin_ms)).tolist()
    stop = 0
    for place, count in zip(places.tolist(), counts.tolist(), strict=True):
        start, stop = stop, stop + count
        yield place, json.dumps(spans[start:stop])
