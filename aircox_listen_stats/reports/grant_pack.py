"""The grant pack: a ZIP with the totals of a period, and all that somebody else needs to compute them again.

Totals by month and of the whole come from the quarter-hours, which outlive the
sessions; :mod:`.grant_check` computes them anew from the pack's own tables.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import zipfile
import zoneinfo
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

from django.db import connection

from .. import __version__, conf
from ..fields import from_ms, to_ms
from ..kernel.types import Layer, RuleSet
from ..models import Airing, Audience, Blur, Coverage, QuarterHour, Stream
from .blurs import LONGEST_AIRING_MS, NEVER, Times, reasons_cell
from .grant_sums import (
    DIFFUSION_BECAUSE,
    FORMULAS,
    MONTH_BECAUSE,
    MS,
    PROGRAM_FORMULAS,
    QUARTER_HOUR_MS,
    ProgramSums,
    QuarterSums,
)
from .query import Period, days
from .tables import Row, cell, write

FORMAT = "aircox-listen-stats grant pack 1"

MANIFEST = "manifest.json"

WHOLE = "whole"
"""What stands for the month in the row of the whole period."""

ALL_STREAMS = "(all)"
"""What stands for the stream where all of the station are meant; no slug has parentheses."""

READ_AT_ONCE = 2000
"""Rows of a table that are held together."""

QUARTER_COLUMNS = (
    "listening_ms", "person_ms", "inherited", "begun", "listeners", "peak", "quarter_listeners",
    "quarter_listeners_in_one_piece", "bytes_sent", "bytes_told_ms", "delivered_ms", "delivered_told_ms", "covered_ms",
)  # fmt: skip

QUARTER_HEADER = ("stream", "start", "start_utc", *QUARTER_COLUMNS, "is_settled", "version", "peak_at_utc")

TOTALS_HEADER = ("month", "stream", *FORMULAS, "at_least_because")

PROGRAMS_HEADER = ("program_id", "program", *PROGRAM_FORMULAS)

DIFFUSIONS_HEADER = (
    "airing_id", "diffusion_id", "program_id", "program", "title", "start", "start_utc", "start_basis", "end_basis",
    "is_live", "length_ms", "listening_ms", "peak", "distinct_listeners", "sessions", "already_there", "tuned_in",
    "tuned_out", "listened_on", "stayed_throughout", "coverage_share", "is_settled", "version", "at_least_because",
)  # fmt: skip

BLURS_HEADER = ("stream", "start_utc", "end_utc", "because", "most", "compared")

RECOMPUTE = (
    "manifest.json names for each month its first instant and the first after it, in UTC.",
    "A row of quarter_hours.csv belongs to the month in which its start_utc lies; take one stream at a time.",
    "blurs.csv has the stretches in which the listeners of a stream could not be told apart: at_least_because.",
    "definitions.csv says how totals.csv follows from these rows, and programs.csv from diffusions.csv.",
    "The peak is the first greatest. Round to four decimals. Distinct listeners of quarter-hours are never added.",
    "listen_stats_grantpack --verify does all of this and compares; it needs no database.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A month, or what of it lies in the period: ``[started_ms, ended_ms)``."""

    name: str
    started_ms: int
    ended_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantPack:
    """What a pack is made of. ``now`` cuts a period that is not over."""

    period: Period
    rules: RuleSet
    station_id: int
    station_name: str
    now: dt.datetime

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        return zoneinfo.ZoneInfo(self.period.zone)

    @property
    def ended_ms(self) -> int:
        """Up to the last quarter-hour that is over."""
        return min(self.period.ended_ms, to_ms(self.now) // QUARTER_HOUR_MS * QUARTER_HOUR_MS)

    def months(self) -> list[Span]:
        """The months of the period in order, the first and the last as far as they lie in it."""
        found = []
        day = self.period.first
        while day <= self.period.last:
            following = (day.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
            part = days(day, min(following - dt.timedelta(days=1), self.period.last), conf.get())
            ended_ms = min(part.ended_ms, self.ended_ms)
            if ended_ms > part.started_ms:
                found.append(Span(name=f"{day:%Y-%m}", started_ms=part.started_ms, ended_ms=ended_ms))
            day = following
        return found

    def write(self, file: IO[bytes]) -> None:
        """Writes the whole pack, its manifest last; a table of any length takes the memory of some thousand rows."""
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            pack = _Archive(archive)
            months = self.months()
            streams = list(Stream.objects.of(self.station_id))
            names = {QuarterHour.STATION: ALL_STREAMS, **{stream.pk: stream.slug for stream in streams}}
            blurs = list(self._blurs(names))
            times = times_of((stream, why, *map(to_ms, bounds)) for stream, *bounds, why, _, _ in blurs)
            sums = Sums(months, times)
            pack.add("quarter_hours.csv", QUARTER_HEADER, self._quarters(names, sums))
            pack.add("totals.csv", TOTALS_HEADER, sums.rows(names.values()))
            programs: dict[int, ProgramSums] = defaultdict(ProgramSums)
            pack.add("diffusions.csv", DIFFUSIONS_HEADER, self._diffusions(programs, times[ALL_STREAMS]))
            pack.add("programs.csv", PROGRAMS_HEADER, program_rows(programs))
            pack.add("coverage.csv", ("stream", "start_utc", "end_utc", "is_total_only"), self._coverage(names))
            pack.add("blurs.csv", BLURS_HEADER, blurs)
            pack.add("definitions.csv", ("file", "column", "definition"), _definitions())
            archive.writestr(MANIFEST, json.dumps(self._manifest(months, streams, pack.files), indent=2))

    def _quarters(self, names: Mapping[int, str], sums: Sums) -> Iterator[Row]:
        """Every quarter-hour, stream by stream, added to ``sums`` as it passes."""
        for stream_id, name in names.items():
            for row in self._quarters_of(stream_id):
                started_ms, peak_at_ms, *numbers = row
                figures = dict(zip((*QUARTER_COLUMNS, "is_settled", "version"), map(int, numbers), strict=True))
                peak_at = None if peak_at_ms is None else from_ms(peak_at_ms)
                sums.add(name, started_ms, figures, str(cell(peak_at)))
                started = from_ms(started_ms)
                yield name, started.astimezone(self.zone), started, *figures.values(), peak_at

    def _quarters_of(self, stream_id: int) -> Iterator[tuple[Any, ...]]:
        columns = ", ".join(("started", "peak_at", *QUARTER_COLUMNS, "settled", "version"))
        after_ms = self.period.started_ms - 1
        while True:
            found = _fetch(
                f"SELECT {columns} FROM {QuarterHour._meta.db_table} WHERE station_id = %s AND stream_id = %s"
                " AND rule_set = %s AND started > %s AND started < %s ORDER BY started LIMIT %s",
                [self.station_id, stream_id, self.rules.name, after_ms, self.ended_ms, READ_AT_ONCE],
            )
            yield from found
            if len(found) < READ_AT_ONCE:
                return
            after_ms = found[-1][0]

    def _diffusions(self, programs: dict[int, ProgramSums], times: Times) -> Iterator[Row]:
        """Every diffusion that began in the period, added to its program as it passes."""
        after_ms, after_id = self.period.started_ms - 1, 0
        while True:
            found = self._diffusions_after(after_ms, after_id)
            for row in found:
                (
                    airing_id, diffusion_id, program_id, program, title, started_ms, start_basis, end_basis, is_live,
                    length_ms, listening_ms, peak, *counts, coverage, settled, version,
                ) = row  # fmt: skip
                if not coverage and not listening_ms:  # zeros of what nobody observed mean nothing
                    listening_ms, peak, counts = None, None, [None] * len(counts)
                because = because_of(times, started_ms, length_ms)
                if program_id is not None:
                    programs[program_id].add(program, length_ms, listening_ms, peak, coverage, because)
                started = from_ms(started_ms)
                yield (
                    airing_id, diffusion_id, program_id, program, title, started.astimezone(self.zone), started,
                    start_basis, end_basis, bool(is_live), length_ms, listening_ms, peak, *counts, coverage,
                    None if settled is None else bool(settled), version, reasons_cell(because),
                )  # fmt: skip
            if len(found) < READ_AT_ONCE:
                return
            after_id, after_ms = found[-1][0], found[-1][5]

    def _diffusions_after(self, after_ms: int, after_id: int) -> list[tuple[Any, ...]]:
        of_airing = "id, diffusion_id, program_id, program_title, title, started, start_basis, end_basis, is_live"
        figures = (
            "listening_ms, peak, listeners, sessions, inherited, joined, left, kept, stayed, coverage, settled, version"
        )
        columns = ", ".join(
            [f"a.{name}" for name in of_airing.split(", ")]
            + ["a.ended - a.started"]
            + [f'f."{name}"' for name in figures.split(", ")]
        )
        return _fetch(
            f"SELECT {columns} FROM {Airing._meta.db_table} a"
            f" LEFT JOIN {Audience._meta.db_table} f ON f.airing_id = a.id AND f.rule_set = %s"
            " WHERE a.station_id = %s AND a.layer = %s AND a.started < %s AND NOT a.is_running"
            " AND (a.started > %s OR (a.started = %s AND a.id > %s)) ORDER BY a.started, a.id LIMIT %s",
            [
                self.rules.name, self.station_id, Layer.DIFFUSION.value, self.ended_ms,
                after_ms, after_ms, after_id, READ_AT_ONCE,
            ],
        )  # fmt: skip

    def _coverage(self, names: Mapping[int, str]) -> Iterator[Row]:
        found = Coverage.objects.filter(
            stream__in=[key for key in names if key != QuarterHour.STATION],
            ended__gt=self.period.started_ms,
            started__lt=self.ended_ms,
        ).order_by("stream_id", "started")
        for one in found.iterator(chunk_size=READ_AT_ONCE):
            yield names[one.stream_id], one.started, one.ended, one.totals_only

    def _blurs(self, names: Mapping[int, str]) -> Iterator[Row]:
        """When listeners could not be told apart, in whole seconds, as tables have them, and no shorter for that."""
        found = Blur.objects.filter(
            stream__in=[key for key in names if key != QuarterHour.STATION],
            ended__gt=self.period.started_ms,
            started__lt=self.ended_ms + LONGEST_AIRING_MS,
        ).order_by("stream_id", "started", "pk")
        for one in found:
            started_ms, ended_ms = to_ms(one.started) // MS * MS, -(-to_ms(one.ended) // MS) * MS
            yield names[one.stream_id], from_ms(started_ms), from_ms(ended_ms), one.why, one.most, one.compared

    def _manifest(
        self, months: Sequence[Span], streams: Sequence[Stream], files: Sequence[Mapping[str, object]]
    ) -> dict[str, object]:
        settings = conf.get()
        whole = Span(name=WHOLE, started_ms=self.period.started_ms, ended_ms=self.ended_ms)
        return {
            "format": FORMAT,
            "made_by": f"aircox-listen-stats {__version__}",
            "made_at": cell(self.now.astimezone(dt.UTC)),
            "station": {"id": self.station_id, "name": self.station_name},
            "period": {"first_day": str(self.period.first), "last_day": str(self.period.last), **_span(whole)},
            "months": [_span(month) for month in months],
            "rule_set": asdict(self.rules),
            "settings": {
                "time_zone": self.period.zone,
                "broadcast_day_starts": settings.broadcast_day_starts,
                "key_rotation": settings.key_rotation,
                "settle_after_hours": settings.settle_after_hours,
                "keep_sessions_days": settings.keep_sessions_days,
            },
            "streams": [
                {"slug": one.slug, "title": one.title, "source": one.source, "delay_ms": one.delay_ms}
                for one in streams
            ],
            "files": list(files),
            "recompute": list(RECOMPUTE),
        }


class Sums:
    """Totals by month and of the whole, of every stream."""

    def __init__(self, months: Sequence[Span], times: Mapping[str, Times]) -> None:
        self._months, self._times = list(months), times
        self._starts = [month.started_ms for month in months]
        self._found: dict[tuple[str, str], QuarterSums] = defaultdict(QuarterSums)

    def add(self, stream: str, started_ms: int, row: Mapping[str, int], peak_at: str) -> None:
        place = bisect_right(self._starts, started_ms) - 1
        if place >= 0 and started_ms < self._months[place].ended_ms:
            self._found[self._months[place].name, stream].add(row, peak_at)
            self._found[WHOLE, stream].add(row, peak_at)

    def rows(self, streams: Iterable[str]) -> Iterator[Row]:
        """A row for each month and stream, and for the whole of each stream."""
        whole_ms = sum(month.ended_ms - month.started_ms for month in self._months)
        lengths = [(month.name, month.ended_ms - month.started_ms) for month in self._months] + [(WHOLE, whole_ms)]
        for stream in streams:
            because = self._because(stream)
            for name, elapsed_ms in lengths:
                sums = self._found[name, stream]
                why = reasons_cell(because[name]) if sums.rows else None
                yield name, stream, *sums.figures(elapsed_ms).values(), why

    def _because(self, stream: str) -> dict[str, tuple[str, ...]]:
        """Why listeners of a stream could not be told apart, by month and of the whole."""
        starts, ends = [one.started_ms for one in self._months], [one.ended_ms for one in self._months]
        times = self._times.get(stream, NEVER)
        names = [one.name for one in self._months]
        return {**dict(zip(names, times.each(starts, ends), strict=True)), WHOLE: times.during(starts, ends)}


def times_of(found: Iterable[tuple[str, str, int, int]]) -> Mapping[str, Times]:
    """From stream, reason and bounds: when listeners of each stream, and of any, could not be told apart."""
    by_stream: dict[str, list[tuple[str, int, int]]] = {ALL_STREAMS: []}
    for stream, *stretch in found:
        for name in (ALL_STREAMS, stream):
            by_stream.setdefault(name, []).append((stretch[0], stretch[1], stretch[2]))
    return {name: Times.of(stretches) for name, stretches in by_stream.items()}


def because_of(times: Times, started_ms: int, length_ms: int) -> tuple[str, ...]:
    """Why listeners could not be told apart in a diffusion; it begins with the whole second that its table tells."""
    started_ms = started_ms // MS * MS
    return times.during([started_ms], [started_ms + length_ms])


def program_rows(programs: Mapping[int, ProgramSums]) -> Iterator[Row]:
    """A row for each program, by number."""
    for program_id in sorted(programs):
        yield program_id, programs[program_id].title, *programs[program_id].figures().values()


class _Archive:
    """Tables into a ZIP, with what the manifest says of each."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.files: list[Mapping[str, object]] = []

    def add(self, name: str, header: Sequence[str], rows: Iterable[Row]) -> None:
        hashed, count = hashlib.sha256(), 0

        def counting() -> Iterator[Row]:
            nonlocal count
            for row in rows:
                count += 1
                yield row

        with self._archive.open(name, "w", force_zip64=True) as out:
            for chunk in write(header, counting()):
                hashed.update(chunk)
                out.write(chunk)
        self.files.append({"name": name, "sha256": hashed.hexdigest(), "rows": count})


def _definitions() -> Iterator[Row]:
    for name, text in FORMULAS.items():
        yield "totals.csv", name, text
    yield "totals.csv", "at_least_because", MONTH_BECAUSE
    for name, text in PROGRAM_FORMULAS.items():
        yield "programs.csv", name, text
    yield "diffusions.csv", "at_least_because", DIFFUSION_BECAUSE


def _span(span: Span) -> dict[str, object]:
    return {
        "name": span.name,
        "started_utc": cell(from_ms(span.started_ms)),
        "ended_utc": cell(from_ms(span.ended_ms)),
    }


def _fetch(sql: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()
