"""Whether a grant pack agrees with itself: files with their hashes, totals with the tables. Needs no database."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from ..errors import MalformedRecord
from ..fields import to_ms
from .blurs import Times, reasons_cell
from .grant_pack import (
    ALL_STREAMS,
    BLURS_HEADER,
    DIFFUSIONS_HEADER,
    FORMAT,
    MANIFEST,
    PROGRAMS_HEADER,
    QUARTER_COLUMNS,
    QUARTER_HEADER,
    TOTALS_HEADER,
    Span,
    Sums,
    because_of,
    program_rows,
    times_of,
)
from .grant_sums import ProgramSums
from .tables import Row, cell

BLOCK_BYTES = 1 << 20


def disagreements(file: IO[bytes]) -> list[str]:
    """What does not agree, a sentence each; empty where everything does. Raises MalformedRecord for no pack at all."""
    try:
        with zipfile.ZipFile(file) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            if manifest["format"] != FORMAT:
                raise MalformedRecord("format", f"Its format is {manifest['format']!r}; this reads {FORMAT!r}.")
            return [*_files(archive, manifest), *_totals(archive, manifest), *_programs(archive)]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, csv.Error) as error:
        raise MalformedRecord("pack", f"This is no grant pack, or not a whole one ({type(error).__name__}).") from error


def _files(archive: zipfile.ZipFile, manifest: Mapping[str, Any]) -> Iterator[str]:
    told = {one["name"]: one for one in manifest["files"]}
    for name in sorted(set(archive.namelist()) - set(told) - {MANIFEST}):
        yield f"{name} is not in the manifest."
    for name, one in told.items():
        hashed = hashlib.sha256()
        with archive.open(name) as file:
            while block := file.read(BLOCK_BYTES):
                hashed.update(block)
        if hashed.hexdigest() != one["sha256"]:
            yield f"{name} is not what it was when the pack was made: its SHA-256 differs."


def _totals(archive: zipfile.ZipFile, manifest: Mapping[str, Any]) -> Iterator[str]:
    months = [Span(name=one["name"], started_ms=_ms(one["started_utc"]), ended_ms=_ms(one["ended_utc"]))
              for one in manifest["months"]]  # fmt: skip
    sums, streams = Sums(months, _times(archive)), dict[str, None]()
    for row in _rows(archive, "quarter_hours.csv", QUARTER_HEADER):
        numbers = {name: int(row[name]) for name in (*QUARTER_COLUMNS, "is_settled")}
        streams[row["stream"]] = None
        sums.add(row["stream"], _ms(row["start_utc"]), numbers, row["peak_at_utc"])
    told = list(_rows(archive, "totals.csv", TOTALS_HEADER))
    streams |= dict.fromkeys(row["stream"] for row in told)
    yield from _compared("totals.csv", TOTALS_HEADER, told, sums.rows(streams), keys=2)


def _times(archive: zipfile.ZipFile) -> Mapping[str, Times]:
    """When listeners of each stream, and of any, could not be told apart."""
    return times_of(
        (row["stream"], row["because"], _ms(row["start_utc"]), _ms(row["end_utc"]))
        for row in _rows(archive, "blurs.csv", BLURS_HEADER)
    )


def _programs(archive: zipfile.ZipFile) -> Iterator[str]:
    programs: dict[int, ProgramSums] = defaultdict(ProgramSums)
    times = _times(archive)[ALL_STREAMS]
    for row in _rows(archive, "diffusions.csv", DIFFUSIONS_HEADER):
        because = reasons_cell(because_of(times, _ms(row["start_utc"]), int(row["length_ms"]))) or ""
        if row["at_least_because"] != because:
            stands = f"at_least_because of {row['airing_id']} is {row['at_least_because'] or 'empty'}"
            yield f"diffusions.csv: {stands}; the tables give {because or 'nothing'}."
        if row["program_id"]:
            programs[int(row["program_id"])].add(
                row["program"],
                int(row["length_ms"]),
                int(row["listening_ms"]) if row["listening_ms"] else None,
                int(row["peak"]) if row["peak"] else None,
                float(row["coverage_share"]) if row["coverage_share"] else None,
                row["at_least_because"].split(),
            )
    told = list(_rows(archive, "programs.csv", PROGRAMS_HEADER))
    yield from _compared("programs.csv", PROGRAMS_HEADER, told, program_rows(programs), keys=1)


def _compared(
    name: str, header: Sequence[str], told: Iterable[Mapping[str, str]], computed: Iterable[Row], *, keys: int
) -> Iterator[str]:
    """Where the rows that stand in a file are not those that its tables give; a row is known by its first columns."""
    expected = {tuple(str(cell(one)) for one in row[:keys]): row for row in computed}
    for row in told:
        key = tuple(row[column] for column in header[:keys])
        found = expected.pop(key, None)
        if found is None:
            yield f"{name}: {', '.join(key)} is of nothing in the tables."
            continue
        for column, value in list(zip(header, found, strict=True))[keys:]:
            # Texts were guarded against formulas when they were written, and are guarded still.
            shown = str(value) if isinstance(value, str) else str(cell(value))
            if row[column] != shown:
                stands = f"{name}: {column} of {', '.join(key)} is {row[column] or 'empty'}"
                yield f"{stands}; the tables give {shown or 'nothing'}."
    for key in expected:
        yield f"{name}: {', '.join(key)} is missing."


def _rows(archive: zipfile.ZipFile, name: str, header: Sequence[str]) -> Iterator[dict[str, str]]:
    with archive.open(name) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as text:
        reader = csv.DictReader(text, strict=True)
        if tuple(reader.fieldnames or ()) != tuple(header):
            raise MalformedRecord("columns", f"{name} has other columns than a pack of this format.")
        yield from reader


def _ms(text: str) -> int:
    return to_ms(dt.datetime.fromisoformat(text))
