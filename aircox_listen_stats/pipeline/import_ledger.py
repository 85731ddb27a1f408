"""The ledger of imports: which log was read how far, so that none counts twice, whatever its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from django.utils.crypto import salted_hmac

from ..fields import from_ms
from ..models import ImportedLog, Stream
from .import_plan import Imported, ImportRefused, Log, Plan
from .secrets import SECRET_BYTES

__all__ = ["Job", "groups"]


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """A log with its row of the ledger, and where the reading begins."""

    log: Log
    row: ImportedLog
    offset: int
    end: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    digest: str | None = None
    is_finished: bool = False

    def take_digest(self) -> None:
        """Reads through the log, which may take seconds: beside any transaction."""
        self.digest = self.log.digest(max(self.end, self.offset), _digest_key())

    def finish(self, names: Sequence[str], *, now_ms: int) -> None:
        """Notes that the streams called so in the ledger are imported, and destroys the run's secret."""
        self.is_finished = True
        end = max(self.end, self.offset)
        row = self.row
        # Overwritten first, so that it does not linger in a freed page of SQLite.
        ImportedLog.objects.filter(pk=row.pk).update(secret=bytes(SECRET_BYTES))
        row.secret = None
        row.finished = from_ms(now_ms)
        row.offset = row.size = end
        row.counts = dict(Counter(row.counts) + self.counts)
        row.state = {
            "done": {**row.state.get("done", {}), **dict.fromkeys(names, end)},
            "digest": self.digest,
        }


def groups(
    logs: Sequence[Log],
    plan: Plan,
    streams: Mapping[str, Stream],
    imported: Imported,
    now_ms: int,
) -> Iterator[tuple[frozenset[str], list[Job]]]:
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
                jobs.append(Job(log=log, row=row, offset=offset))
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
    return any(chunk.counts.get("read") for chunk in log.columns({}, offset=offset))


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
