"""Tables of report values, and RFC 4180 text made of them while they are read.

A table holds nothing but its header and its rows: rule-set, zone and coverage
are columns, so that a spreadsheet or a script needs no special case.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

BYTE_ORDER_MARK = "\ufeff"
"""Tells Excel that the file is UTF-8; everybody else does better without, so it is asked for."""

ROWS_A_CHUNK = 200
"""Rows written together: a chunk of some 50 kB."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection)."""

Row = Sequence[object]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A header and its rows, which may be read once; ``name`` is that of a file or a sheet, without a suffix.

    Values are what they are: aware datetimes, numbers, None for unknown.
    """

    name: str
    header: Sequence[str]
    rows: Iterable[Row]


def write(header: Sequence[str], rows: Iterable[Row], *, bom: bool = False) -> Iterator[bytes]:
    """The table in chunks of bytes, lines ending in CRLF."""
    lines = _Lines()
    writer = csv.writer(lines)
    writer.writerow(header)
    if bom:
        lines.text.insert(0, BYTE_ORDER_MARK)
    rest = iter(rows)
    while True:
        chunk = [[cell(value) for value in row] for row in islice(rest, ROWS_A_CHUNK)]
        writer.writerows(chunk)
        if lines.text:
            yield lines.take().encode()
        if not chunk:
            return


def cell(value: object) -> str | int:
    """One value as it stands in the table: points for decimals, ISO 8601 for instants, nothing for unknown."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    if isinstance(value, dt.datetime):
        text = value.isoformat(timespec="seconds")
        return text.replace("+00:00", "Z") if value.tzinfo is dt.UTC else text
    if isinstance(value, dt.date):
        return value.isoformat()
    text = str(value)
    # An apostrophe makes it text for a spreadsheet, and is plain to see for everybody else.
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA_STARTS) else text


class _Lines:
    """Where the csv module writes to, and what it wrote since."""

    def __init__(self) -> None:
        self.text: list[str] = []

    def write(self, line: str) -> None:
        self.text.append(line)

    def take(self) -> str:
        taken = "".join(self.text)
        self.text.clear()
        return taken
