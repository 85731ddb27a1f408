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

import hashlib
import hmac
import json
import secrets as entropy
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.utils.crypto import salted_hmac

from .. import conf
from ..errors import ListenStatsError
from ..fields import from_ms, to_ms
from ..kernel import calendar, sessionize
from ..kernel.identity import household_keys
from ..kernel.types import Address
from ..models import LONG_SESSION_MS, Connection, ImportedLog, Session, StaleWindow, Stream
from . import recognise, rows
from .coverage import extend_coverage
from .ingest import mark_stale, wait_for_reports
from .secrets import SECRET_BYTES, Secrets

__all__ = ["Chunk", "ImportRefused", "Imported", "Log", "Plan", "run"]

MS = 1000

HOLD_SECONDS = 24 * 3600
"""Connections up to this long are waited for; the few longer ones are looked for beforehand."""

SLACK_SECONDS = 3600
"""So far back a server's clock may be set within a log."""

FLUSH_ROWS = 10_000
"""Connections between two transactions: half a second, for which aircox's Monitor waits on SQLite."""

COVERAGE_JOIN_MS = 3600 * MS
"""Logs of one run that follow each other within this much leave no hole: the mount was silent."""

COVERAGE_TOUCH_MS = 60 * MS
"""What was observed before is joined if it is that near."""

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Progress = Callable[["Log", "Chunk"], None]


class ImportRefused(ListenStatsError):
    """An import would count listening twice, or names something that is not there."""


class Chunk(Protocol):
    """Some lines of a log in columns; see sources.accesslog.LogChunk."""

    offset: int
    started_ms: list[int]
    ended_ms: list[int]
    stream: list[int]
    who: list[int]
    addresses: list[Address]
    counts: dict[str, int]
    first_ms: int
    last_ms: int


class Log(Protocol):
    """A log that can be read from any offset, any number of times."""

    label: str

    def first_line(self) -> bytes: ...
    def first_ms(self) -> int: ...
    def length(self) -> int: ...
    def digest(self, length: int, key: bytes) -> str | None: ...
    def chunks(self, streams: Mapping[str, str], *, offset: int) -> Iterator[Chunk]: ...
    def long_lines(self, streams: Mapping[str, str], *, offset: int, seconds: int) -> Iterator[Chunk]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to import under which name. ``mounts`` maps a mount to the slug of a stream.

    A session belongs to the window ``[from_ms, to_ms)`` in which it ENDS: that
    is where the log tells of it.
    """

    source: str
    mounts: Mapping[str, str]
    replace: bool = False
    from_ms: int | None = None
    to_ms: int | None = None
    dry_run: bool = False

    def takes(self, ended_ms: Ints) -> Bools:
        """Which sessions end inside the window."""
        inside = np.ones(len(ended_ms), dtype=np.bool_)
        if self.from_ms is not None:
            inside &= ended_ms >= self.from_ms
        if self.to_ms is not None:
            inside &= ended_ms < self.to_ms
        return inside

    def name_of(self, slug: str) -> str:
        """The stream's name in the ledger, with the window where there is one."""
        if self.from_ms is None and self.to_ms is None:
            return slug
        return f"{slug} {'' if self.from_ms is None else self.from_ms}-{'' if self.to_ms is None else self.to_ms}"

    def meets(self, window: str) -> bool:
        """Does a window of the ledger overlap this one?"""
        start, end = window.split("-")
        return (self.to_ms is None or not start or int(start) < self.to_ms) and (
            self.from_ms is None or not end or self.from_ms < int(end)
        )

    def clipped(self, start_ms: int, end_ms: int) -> tuple[int, int] | None:
        """The part of a stretch that is inside the window; None where it is empty."""
        if self.from_ms is not None:
            start_ms = max(start_ms, self.from_ms)
        if self.to_ms is not None:
            end_ms = min(end_ms, self.to_ms)
        return (start_ms, end_ms) if end_ms > start_ms else None


@dataclass(slots=True, kw_only=True)
class Imported:
    """What became of the lines, and what was written."""

    counts: Counter[str] = field(default_factory=Counter)
    sessions: int = 0
    outside: int = 0  # sessions that end outside the window
    replaced: int = 0
    straddling: int = 0  # sessions of another source across the border of what was replaced: left whole
    already: list[str] = field(default_factory=list)  # logs of which nothing was new


def run(logs: Sequence[Log], plan: Plan, *, now_ms: int, progress: Progress | None = None) -> Imported:
    """Imports the logs under ``plan``. Raises ImportRefused, SourceUnavailable.

    The streams must be rows already. Logs that were imported to their end are
    passed over; of one that has grown, only the new part is read.
    """
    imported = Imported()
    streams = _streams(plan)
    for slugs, jobs in _groups(logs, plan, streams, imported, now_ms):
        if jobs:
            mounts = {mount: slug for mount, slug in plan.mounts.items() if slug in slugs}
            _Run(jobs, plan, mounts, streams, imported, now_ms).run(progress)
    return imported


# The ledger ----------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Job:
    """A log with its row of the ledger, and where the reading begins."""

    log: Log
    row: ImportedLog
    offset: int
    end: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    is_finished: bool = False


def _streams(plan: Plan) -> dict[str, Stream]:
    known = {stream.slug: stream for stream in Stream.objects.all()}
    missing = sorted(set(plan.mounts.values()) - set(known))
    if missing:
        raise ImportRefused(
            f"Unknown stream {missing[0]!r}. Known: {', '.join(sorted(known)) or 'none'}. "
            "A stream is made by an entry in STREAMS."
        )
    return {slug: known[slug] for slug in set(plan.mounts.values())}


def _groups(
    logs: Sequence[Log],
    plan: Plan,
    streams: Mapping[str, Stream],
    imported: Imported,
    now_ms: int,
) -> Iterator[tuple[frozenset[str], list[_Job]]]:
    """The streams that begin at the same places in all logs, with those places: nearly always one group."""
    found = _ledger(logs, plan, imported, now_ms)
    by_offsets: dict[tuple[int, ...], set[str]] = {}
    for slug in sorted(streams):
        offsets = tuple(_done(row, plan, slug) for _, row in found)
        by_offsets.setdefault(offsets, set()).add(slug)
    for offsets, slugs in by_offsets.items():
        jobs = []
        for (log, row), offset in zip(found, offsets, strict=True):
            if offset and row.finished is not None and not _has_more(log, offset):
                imported.already.append(log.label)
            else:
                jobs.append(_Job(log=log, row=row, offset=offset))
        yield frozenset(slugs), jobs


def _done(row: ImportedLog, plan: Plan, slug: str) -> int:
    """Up to where this log was imported for the stream in this window. Raises ImportRefused."""
    done: Mapping[str, int] = row.state.get("done", {})
    own = plan.name_of(slug)
    for name in done:
        named, _, window = name.partition(" ")
        if named == slug and window and name != own and plan.meets(window):
            start, end = (_shown(one) for one in window.split("-"))
            raise ImportRefused(
                f"Of log {row.label!r}, stream {slug!r} was imported from {start} to {end} before. "
                "A session would be there twice: choose --from and --to beside that window."
            )
    return max(int(done.get(slug, 0)), int(done.get(own, 0)))


def _shown(ms: str) -> str:
    return f"{from_ms(int(ms)):%Y-%m-%d %H:%M:%S} UTC" if ms else "the log's own bound"


def _has_more(log: Log, offset: int) -> bool:
    return any(chunk.counts.get("read") for chunk in log.chunks({}, offset=offset))


def _ledger(logs: Sequence[Log], plan: Plan, imported: Imported, now_ms: int) -> list[tuple[Log, ImportedLog]]:
    """Each log by its time, with its row: one of before, or a new one that is not stored yet."""
    found: list[tuple[Log, ImportedLog]] = []
    for log in sorted(logs, key=lambda one: (one.first_ms(), one.label)):
        line = log.first_line()
        if any(other.first_line() == line and _is_part_of(log, other) for other, _ in found):
            imported.already.append(log.label)  # the same log under two names
            continue
        found.append((log, _ledger_row(log, [row for _, row in found], plan, now_ms)))
    return found


def _is_part_of(log: Log, other: Log) -> bool:
    length = min(log.length(), other.length())
    return log.digest(length, _digest_key()) == other.digest(length, _digest_key())


def _ledger_row(log: Log, taken: Sequence[ImportedLog], plan: Plan, now_ms: int) -> ImportedLog:
    """The row of this log: the one whose first line and whole beginning are the same."""
    name = salted_hmac("aircox_listen_stats.import.log", log.first_line(), algorithm="sha256")
    fingerprint = name.hexdigest()[:40]
    alike = list(ImportedLog.objects.filter(fingerprint__startswith=fingerprint).order_by("pk"))
    names = {row.fingerprint for row in taken}
    for row in alike:
        if row.fingerprint not in names and _is_of(row, log):
            return row
    others = {row.fingerprint for row in alike} | names
    number = sum(1 for one in others if one.startswith(fingerprint))
    return ImportedLog(
        fingerprint=f"{fingerprint}-{number}",
        label=log.label[:128],
        source=plan.source,
        started=from_ms(now_ms),
    )


def _is_of(row: ImportedLog, log: Log) -> bool:
    """Was this log, or a longer version of it, imported as ``row``?"""
    if row.offset == 0:
        return True  # a run that was interrupted
    if log.length() < row.offset:
        return True  # an older copy: better nothing than twice
    return log.digest(row.offset, _digest_key()) == row.state.get("digest")


def _digest_key() -> bytes:
    """From SECRET_KEY: a log of one line must not be found out by trying all addresses."""
    return salted_hmac("aircox_listen_stats.import.digest", "key", algorithm="sha256").digest()


# The run -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Columns:
    """Connections as columns. ``mark`` is an index into the run's marks, ``job`` into its jobs."""

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


class _Run:
    """Some logs and some streams, read from given places to the end."""

    def __init__(
        self,
        jobs: Sequence[_Job],
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
        self.waiting = 0
        self.marks: list[tuple[str, str, str, str]] = []
        self.mark_numbers: dict[tuple[str, str, str, str], int] = {}
        self.coverage: list[tuple[int, int]] = []
        self.secret, self.written_ms = self._begin()

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
            for chunk in job.log.chunks(self.mounts, offset=job.offset):
                newest_ms = max(newest_ms, chunk.last_ms)
                job.end = chunk.offset
                job.counts.update(chunk.counts)
                self.imported.counts.update(chunk.counts)
                self._cover(chunk)
                self._take(number, chunk, is_long=False)
                if progress is not None:
                    progress(job.log, chunk)
                if self.waiting >= FLUSH_ROWS:
                    safe_ms = newest_ms if limit_ms is None else min(newest_ms, limit_ms)
                    self._flush(safe_ms - (HOLD_SECONDS + SLACK_SECONDS) * MS, read=number)
        self._flush(None, read=len(self.jobs))

    def _take_long_ones(self) -> None:
        for number, job in enumerate(self.jobs):
            for chunk in job.log.long_lines(self.mounts, offset=job.offset, seconds=HOLD_SECONDS):
                self._take(number, chunk, is_long=True)

    def _take(self, number: int, chunk: Chunk, *, is_long: bool) -> None:
        """Adds the chunk's connections to what waits. Their addresses end here."""
        if not chunk.started_ms:
            return
        marked = [self._marked(address) for address in chunk.addresses]
        who = np.array(chunk.who)
        started_ms = np.array(chunk.started_ms, dtype=np.int64)
        ended_ms = np.array(chunk.ended_ms, dtype=np.int64)
        wanted = ((ended_ms - started_ms) > HOLD_SECONDS * MS) == is_long
        columns = _Columns(
            listener=np.array([listener for listener, _ in marked], dtype=np.int64)[who],
            started_ms=started_ms,
            ended_ms=ended_ms,
            mark=np.array([mark for _, mark in marked], dtype=np.int64)[who],
            job=np.full(len(who), number, dtype=np.int64),
        )
        stream = np.array(chunk.stream)
        for index, slug in enumerate(self.slugs):
            block = columns.only(wanted & (stream == index))
            if len(block):
                self.pending[slug].append(block)
                self.waiting += len(block)

    def _marked(self, address: Address) -> tuple[int, int]:
        """The listener under the run's secret, and the number of what else is kept of the address."""
        mark = recognise.mark(address, Secrets(current=self.secret))
        kept = (mark.country, mark.app, str(mark.exclusion), mark.rule)
        number = self.mark_numbers.get(kept)
        if number is None:
            number = self.mark_numbers[kept] = len(self.marks)
            self.marks.append(kept)
        return mark.listener, number

    def _cover(self, chunk: Chunk) -> None:
        if not chunk.last_ms:
            return
        if self.coverage and chunk.first_ms - self.coverage[-1][1] <= COVERAGE_JOIN_MS:
            start_ms, end_ms = self.coverage[-1]
            self.coverage[-1] = (min(start_ms, chunk.first_ms), max(end_ms, chunk.last_ms))
        else:
            self.coverage.append((chunk.first_ms, chunk.last_ms))

    # Writing ---------------------------------------------------------------------------------------

    def _flush(self, safe_ms: int | None, *, read: int) -> None:
        """Writes, in one transaction, every cluster that nothing can join any more.

        Those are the ones that ended more than a gap before ``safe_ms``; with
        None all. The logs before number ``read`` were read to their end.
        """
        complete: dict[str, _Columns] = {}
        for slug, blocks in self.pending.items():
            rest, done = self._parted(_Columns.joined(blocks), safe_ms)
            self.pending[slug] = [rest]
            complete[slug] = done
        self.waiting = 0
        with transaction.atomic():
            if not self.plan.dry_run:
                wait_for_reports()
            for slug, columns in complete.items():
                self._write(self.streams[slug], columns, safe_ms)
            if not self.plan.dry_run:
                self._note(safe_ms, read)

    def _parted(self, columns: _Columns, safe_ms: int | None) -> tuple[_Columns, _Columns]:
        """What must go on waiting, and what is complete and not written yet."""
        if not len(columns):
            return columns, columns
        columns = columns.only(np.lexsort((columns.started_ms, columns.listener)))
        last_ms = self._cluster_ends(columns)
        is_complete = np.ones(len(columns), dtype=np.bool_) if safe_ms is None else last_ms + self.gap_ms < safe_ms
        is_written = last_ms + self.gap_ms < self.written_ms
        return columns.only(~is_complete), columns.only(is_complete & ~is_written)

    def _cluster_ends(self, columns: _Columns) -> Ints:
        """For each connection the end of its cluster. They come by listener, then start."""
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
        return ends[np.cumsum(begins) - 1]

    def _write(self, stream: Stream, columns: _Columns, safe_ms: int | None) -> None:
        sessions = sessionize.stitch_columns(columns.listener, columns.started_ms, columns.ended_ms, gap_ms=self.gap_ms)
        chosen = np.flatnonzero(self.plan.takes(sessions.ended_ms))
        self.imported.outside += len(sessions) - len(chosen)
        self.imported.sessions += len(chosen)
        if self.plan.dry_run:
            return
        hulls = [(sessions.started_ms[chosen], sessions.ended_ms[chosen])]
        if self.plan.replace:
            hulls.append(self._replace(stream, safe_ms))
        else:
            self._refuse_overlap(stream, *hulls[0])
        _insert(self._rows(stream, columns, sessions, chosen.tolist()))
        started_ms, ended_ms = (np.concatenate(column) for column in zip(*hulls, strict=True))
        if len(started_ms):
            span = (
                int(started_ms.min()) - 1 - stream.delay_ms,
                int(ended_ms.max()) + 1 - stream.delay_ms,
            )
            mark_stale(StaleWindow.AUDIENCE, {stream.station_id: [span]})

    def _refuse_overlap(self, stream: Stream, started_ms: Ints, ended_ms: Ints) -> None:
        """Raises ImportRefused where another source already told of listening that ended in these hours."""
        if not len(ended_ms):
            return
        other = (
            Session.objects.filter(
                stream=stream,
                ended__gte=from_ms(int(ended_ms.min())),
                ended__lte=from_ms(int(ended_ms.max())),
            )
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

    def _replace(self, stream: Stream, safe_ms: int | None) -> tuple[Ints, Ints]:
        """Removes what other sources told of listening that ended in the hours of these logs.

        A log is complete for what ends while it is written, and for nothing
        else. Gives the starts and ends of what was removed.
        """
        removed: list[tuple[int, int]] = []
        for span in self._spans(safe_ms):
            inside = Session.objects.filter(
                stream=stream, ended__gte=from_ms(span[0]), ended__lte=from_ms(span[1])
            ).exclude(source=self.plan.source)
            gone = inside.filter(is_open=False)
            removed += [(to_ms(start), to_ms(end)) for start, end in gone.values_list("started", "ended")]
            # Their sockets too, or the next report about the listener would bring them back.
            Connection.objects.filter(Exists(gone.filter(pk=OuterRef("session_id")))).delete()
            self.imported.replaced += gone.delete()[1].get(Session._meta.label, 0)
            if safe_ms is None:
                across = Session.objects.filter(
                    stream=stream, started__lt=from_ms(span[1]), ended__gt=from_ms(span[1])
                ).exclude(source=self.plan.source)
                self.imported.straddling += across.count() + inside.open().count()
        columns = np.array(removed, dtype=np.int64).reshape(-1, 2)
        return columns[:, 0], columns[:, 1]

    def _spans(self, safe_ms: int | None) -> list[tuple[int, int]]:
        """The stretches that the logs cover, as far as they are complete, inside the window."""
        limit_ms = safe_ms if safe_ms is not None else 1 << 62
        spans = [self.plan.clipped(start, min(end, limit_ms)) for start, end in self.coverage]
        return [span for span in spans if span is not None]

    def _rows(
        self,
        stream: Stream,
        columns: _Columns,
        sessions: sessionize.SessionColumns,
        chosen: Sequence[int],
    ) -> Iterator[tuple[Any, ...]]:
        """The chosen sessions' rows in the order of FIELDS, under keys of their own period."""
        first_row = sessions.first_row
        keys = household_keys(
            self._period_keys(columns.listener[first_row], sessions.started_ms), sessions.lane
        ).tolist()
        marks = columns.mark[first_row].tolist()
        first_part = sessions.first_part.tolist()
        part_started_ms, part_ended_ms = sessions.part_started_ms, sessions.part_ended_ms
        started, ended = sessions.started_ms.tolist(), sessions.ended_ms.tolist()
        played = sessions.played_ms.tolist()
        for number in chosen:
            started_ms, ended_ms = started[number], ended[number]
            parts = None
            slot = slice(first_part[number], first_part[number + 1])
            if slot.stop - slot.start > 1:
                spans = np.column_stack((part_started_ms[slot], part_ended_ms[slot])) - started_ms
                parts = json.dumps(spans.tolist())
            yield (
                stream.pk,
                keys[number],
                started_ms,
                ended_ms,
                played[number],
                parts,
                False,
                ended_ms - started_ms > LONG_SESSION_MS,
                *self.marks[marks[number]],
                self.plan.source,
            )

    def _period_keys(self, listener: Ints, started_ms: Ints) -> Ints:
        """Each listener under the secret of the period in which the session starts."""
        periods = self._periods(started_ms)
        secrets_of = {
            start_ms: hmac.digest(self.secret, b"period %d" % start_ms, "sha256")
            for start_ms in np.unique(periods).tolist()
        }
        keys: dict[tuple[int, int], int] = {}
        found = []
        for who in zip(listener.tolist(), periods.tolist(), strict=True):
            key = keys.get(who)
            if key is None:
                digest = hashlib.blake2b(who[0].to_bytes(8, "big"), key=secrets_of[who[1]], digest_size=8).digest()
                key = keys[who] = int.from_bytes(digest, "big") >> 1  # 63 bits
            found.append(key)
        return np.array(found, dtype=np.int64)

    def _periods(self, instants_ms: Ints) -> Ints:
        """The start of the period of each instant; few questions to the calendar for each period."""
        settings = conf.get()

        def start_of(instant_ms: Any) -> int:
            return calendar.period_start(
                int(instant_ms), settings.key_rotation, settings.zone, settings.broadcast_day_start
            )

        rest = np.unique(instants_ms)
        starts: list[int] = []
        while len(rest):
            starts.append(start_of(rest[0]))
            rest = rest[bisect_right(rest, starts[-1], key=start_of) :]
        bounds = np.array(starts, dtype=np.int64)
        return bounds[np.searchsorted(bounds, instants_ms, side="right") - 1]

    # The ledger ------------------------------------------------------------------------------------

    def _note(self, safe_ms: int | None, read: int) -> None:
        """Coverage, and in the ledger how far the run came; finished logs lose their secret."""
        heard = [(self.streams[slug].pk, *span) for slug in self.slugs for span in self._spans(safe_ms)]
        extend_coverage(heard, join_ms=COVERAGE_TOUCH_MS)
        waiting = {int(job) for blocks in self.pending.values() for block in blocks for job in np.unique(block.job)}
        if safe_ms is not None:
            self.written_ms = max(self.written_ms, safe_ms)
        for number, job in enumerate(self.jobs):
            if job.is_finished:
                continue
            job.row.state = {**job.row.state, "written_ms": self.written_ms}
            if number < read and number not in waiting:
                self._finish(job)
            job.row.save()

    def _finish(self, job: _Job) -> None:
        job.is_finished = True
        end = max(job.end, job.offset)
        done = {**job.row.state.get("done", {}), **{self.plan.name_of(slug): end for slug in self.slugs}}
        row = job.row
        # Overwritten first, so that it does not linger in a freed page of SQLite.
        ImportedLog.objects.filter(pk=row.pk).update(secret=bytes(SECRET_BYTES))
        row.secret = None
        row.finished = from_ms(self.now_ms)
        row.offset = row.size = end
        row.counts = dict(Counter(row.counts) + job.counts)
        row.state = {"done": done, "digest": job.log.digest(end, _digest_key())}


FIELDS = (
    "stream_id",
    "listener",
    "started",
    "ended",
    "played_ms",
    "parts",
    "is_open",
    "is_long",
    "country",
    "app",
    "exclusion",
    "rule",
    "source",
)


def _insert(sessions: Iterable[tuple[Any, ...]]) -> None:
    """Stores sessions in bulk: COPY on PostgreSQL, one prepared statement elsewhere."""
    columns = ", ".join(connection.ops.quote_name(name) for name in FIELDS)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql" and hasattr(cursor, "copy"):
            with cursor.copy(f"COPY {rows.table(Session)} ({columns}) FROM STDIN") as copy:
                for some in _in_blocks(sessions):
                    copy.write("".join(map(_copy_line, some)))
            return
        marks = ", ".join(["%s"] * len(FIELDS))
        cursor.executemany(f"INSERT INTO {rows.table(Session)} ({columns}) VALUES ({marks})", list(sessions))


COPY_ROWS = 5000
"""Rows in one write of COPY: half a megabyte."""


def _in_blocks(sessions: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    block: list[tuple[Any, ...]] = []
    for row in sessions:
        block.append(row)
        if len(block) == COPY_ROWS:
            yield block
            block = []
    if block:
        yield block


def _copy_line(row: tuple[Any, ...]) -> str:
    """A row in COPY's text format (PostgreSQL manual, COPY, "Text Format")."""
    return "\t".join(map(_copy_value, row)) + "\n"


def _copy_value(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, int):
        return str(value)
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
