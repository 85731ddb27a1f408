"""Old logs become sessions: streamed, resumable, twice the same as once.

What was stored is named by one instant, `written_ms`: a run that was killed is
read again from its beginning and stores what was complete after that instant.
The keys stand under a secret of the run, kept in the ledger until the last of
its logs is finished, then destroyed. A thread reads (:class:`Reading`), this
one stores, in short transactions.
"""

from __future__ import annotations

import secrets as entropy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from ..fields import from_ms, to_ms
from ..kernel.arrays import Ints
from ..kernel.types import Why
from ..models import Connection, Session, StaleWindow, Stream
from ..sources.ahead import ahead
from . import blurs, bulk, import_reading, rows, session_index
from .coverage import extend_coverage
from .import_ledger import Job, groups
from .import_plan import Imported, ImportRefused, Log, Plan, Progress
from .import_reading import Batch, Reading, Step
from .ingest import mark_stale, wait_for_reports
from .secrets import SECRET_BYTES

__all__ = ["ImportRefused", "Imported", "Log", "Plan", "Run", "run", "streams_of"]

MS = 1000

STEPS_AHEAD = 3
"""So many steps are ready before they can be stored: some 40 MB."""

FLUSH_SECONDS = {"sqlite": 0.1}
MOST_FLUSH_SECONDS = 0.4
"""So long a transaction should take, for which reports wait, and on SQLite aircox's Monitor too. Where one takes
longer, the next steps are smaller."""

SMALLEST_FLUSH = 80
"""A step is never made smaller than this part of the largest."""

BREATH = 0.25
"""Of a transaction's time, how long SQLite is left to others before the next one: SQLite lets nobody queue."""

COVERAGE_TOUCH_MS = 60 * MS
"""What was observed before is joined if it is that near."""


def run(logs: Sequence[Log], plan: Plan, *, now_ms: int, progress: Progress | None = None) -> Imported:
    """Imports the logs under ``plan``. Raises ImportRefused, SourceUnavailable.

    The streams must be rows already. Logs that were imported to their end are
    passed over; of one that has grown, only the new part is read. ``progress``
    is called in another thread.
    """
    imported = Imported()
    streams = streams_of(plan)
    for slugs, jobs in groups(logs, plan, streams, imported, now_ms):
        if jobs:
            mounts = {mount: slug for mount, slug in plan.mounts.items() if slug in slugs}
            Run(jobs, plan, mounts, streams, imported, now_ms).run(progress)
    return imported


def streams_of(plan: Plan) -> dict[str, Stream]:
    known = {stream.slug: stream for stream in Stream.objects.all()}
    missing = sorted(set(plan.mounts.values()) - set(known))
    if missing:
        raise ImportRefused(
            f"Unknown stream {missing[0]!r}. Known: {', '.join(sorted(known)) or 'none'}. "
            "A stream is made by an entry in STREAMS."
        )
    return {slug: known[slug] for slug in set(plan.mounts.values())}


class Run:
    """Some logs and some streams, read and stored from given places to the end."""

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
        self.secret, self.written_ms, self.whole = self._begin()
        self.replaced_ms = 0
        self.is_alone = False  # nobody else has told of any listening

    def _begin(self) -> tuple[bytes, int, list[str]]:
        """The run's secret, how far it came, and the streams whose hours it tells of alone.

        Those of the run that was interrupted, or new ones.
        """
        going = [job.row for job in self.jobs if job.row.pk and job.row.finished is None and job.row.secret]
        secret = bytes(going[0].secret) if going else entropy.token_bytes(SECRET_BYTES)
        same = [row for row in going if bytes(row.secret) == secret]
        written_ms = max((int(row.state.get("written_ms", 0)) for row in same), default=0)
        whole = list(same[0].state.get("whole", [])) if same else self._told_by_nobody_like_us()
        if not self.plan.dry_run:
            with transaction.atomic():
                for job in self.jobs:
                    job.row.secret = secret
                    job.row.finished = None
                    job.row.source = self.plan.source
                    job.row.state = {**job.row.state, "written_ms": written_ms, "whole": whole}
                    job.row.save()
        return secret, written_ms, whole

    def _told_by_nobody_like_us(self) -> list[str]:
        """Where the run replaces what others told: the streams of which no log of this name told before."""
        if not self.plan.replace:
            return []
        since = from_ms(min(job.log.first_ms() for job in self.jobs))
        before = Session.objects.filter(source=self.plan.source, ended__gte=since)
        return [slug for slug in self.slugs if not before.filter(stream=self.streams[slug]).exists()]

    def run(self, progress: Progress | None) -> None:
        reading = Reading(
            self.jobs,
            self.plan,
            self.mounts,
            self.streams,
            self.imported,
            secret=self.secret,
            written_ms=self.written_ms,
            way=bulk.way(),
            progress=progress,
        )
        with self._without_index(), ahead(reading.steps(), STEPS_AHEAD) as steps:
            for step in steps:
                if not self.plan.dry_run:
                    seconds = self.store(step)
                    reading.flush_rows = _next_rows(reading.flush_rows, step.connections, seconds)
                self.tell(step)

    def tell(self, step: Step) -> None:
        """Takes over what is known when all was read."""
        if step.until_ms is None:
            self.imported.shared += [(slug, one) for slug, some in step.shared.items() for one in some]

    @contextmanager
    def _without_index(self) -> Iterator[None]:
        """Where that is worth it, the index of the sessions is made when they are all there."""
        if self.plan.dry_run:
            yield
            return
        to_read = sum(job.log.size - job.offset for job in self.jobs)
        self.is_alone = not self.plan.replace and session_index.put_off(
            to_read_bytes=to_read, source=self.plan.source, now_ms=self.now_ms
        )
        if not self.is_alone:
            session_index.make_missing()  # an import that was killed may have left it out
        try:
            yield
        finally:
            if self.is_alone:
                session_index.make_missing(is_alone=True)

    def store(self, step: Step) -> float:
        """Stores the step in one transaction; its seconds."""
        began = time.monotonic()
        is_outermost = not connection.in_atomic_block  # which is the transaction that is told how to commit
        with transaction.atomic():
            if is_outermost and not step.finished:
                _commit_soon()
            wait_for_reports()
            for batch in step.batches:
                self._write(batch, step)
            self._note(step)
        seconds = time.monotonic() - began
        if connection.vendor == "sqlite" and step.until_ms is not None:
            time.sleep(seconds * BREATH)
        return seconds

    def _write(self, batch: Batch, step: Step) -> None:
        stream = batch.stream
        hulls = [(batch.started_ms, batch.ended_ms)]
        if self.plan.replace:
            hulls.append(self._replace(stream, step))
        elif not self.is_alone:
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
        others = (
            f"SELECT ended, source FROM {rows.table(Session)}"
            " WHERE stream_id = %s AND ended >= %s AND ended <= %s AND source <> %s AND "
        )
        # Each kind has an index of its own.
        kinds = " UNION ALL ".join(
            others + kind for kind in ("NOT is_open AND NOT is_long", "is_long", "is_open AND NOT is_long")
        )
        asked = [stream.pk, int(ended_ms.min()), int(ended_ms.max()), self.plan.source]
        found = rows.fetch(f"{kinds} ORDER BY 1 LIMIT 1", asked * 3)
        for other_ms, source in found:
            raise ImportRefused(
                f"Stream {stream.slug!r} has sessions of source {source!r} that end from "
                f"{from_ms(other_ms):%Y-%m-%d %H:%M:%S} UTC on, in the hours of this log. One stream is counted "
                "once: stop before them with --to, or replace them with --replace."
            )

    def _replace(self, stream: Stream, step: Step) -> tuple[Ints, Ints]:
        """Removes what other sources told of listening that ended in the hours of these logs.

        A log is complete for what ends while it is written, and for nothing
        else. Gives the starts and ends of what was removed.
        """
        removed: list[tuple[int, int]] = []
        for start_ms, end_ms in step.spans:
            # What was looked through in the last transaction is left alone until the end.
            since_ms = start_ms if step.until_ms is None else max(start_ms, self.replaced_ms)
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
            if step.until_ms is None:
                across = others.filter(started__lt=from_ms(end_ms), ended__gt=from_ms(end_ms))
                self.imported.straddling += across.count() + inside.open().count()
        columns = np.array(removed, dtype=np.int64).reshape(-1, 2)
        return columns[:, 0], columns[:, 1]

    def _note(self, step: Step) -> None:
        """Coverage, and in the ledger how far the run came; finished logs lose their secret."""
        heard = [(self.streams[slug].pk, *span) for slug in self.slugs for span in step.spans]
        extend_coverage(heard, join_ms=COVERAGE_TOUCH_MS)
        if step.until_ms is None:
            for slug in self.whole:
                for span in step.spans:
                    blurs.mend(self.streams[slug].pk, *span, now_ms=self.now_ms)
        if step.finished:  # or those that are not could be read again
            for slug, stretches in step.shared.items():
                blurs.note_past(self.streams[slug].pk, stretches)
        if step.until_ms is not None:
            self.written_ms = max(self.written_ms, step.until_ms)
            self.replaced_ms = max(self.replaced_ms, step.until_ms)
        for job in self.jobs:
            if job.is_finished:
                continue
            job.row.state = {**job.row.state, "written_ms": self.written_ms}
            if job in step.finished:
                job.finish([self.plan.name_of(slug) for slug in self.slugs], now_ms=self.now_ms)
            job.row.save()


def _commit_soon() -> None:
    """PostgreSQL does not wait for the disk at the end of this transaction.

    What a power cut takes back is read again, since the ledger is taken back
    with it. Where a log is finished, and its secret destroyed, it waits for
    all that came before.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = off")


def _next_rows(rows_now: int, stored: int, seconds: float) -> int:
    """How many connections FLUSH_SECONDS allow, as far as a step of ``stored`` shows it."""
    most = import_reading.FLUSH_ROWS
    if stored < rows_now // 2:
        return rows_now
    allowed = FLUSH_SECONDS.get(connection.vendor, MOST_FLUSH_SECONDS)
    possible = int(stored * allowed / max(seconds, allowed / SMALLEST_FLUSH))
    return max(1, most // SMALLEST_FLUSH, min(most, possible))
