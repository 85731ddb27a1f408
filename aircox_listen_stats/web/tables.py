"""RFC 4180 tables, written while they are read.

A table holds nothing but its header and its rows: rule-set, zone and coverage
are columns, so that a spreadsheet or a script needs no special case.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

BYTE_ORDER_MARK = "\ufeff"
"""Tells Excel that the file is UTF-8; everybody else does better without, so it is asked for."""

ROWS_A_CHUNK = 200
"""Rows sent together: a chunk of some 50 kB."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection)."""

Row = Sequence[object]


def csv_response(request: HttpRequest, name: str, header: Sequence[str], rows: Iterable[Row]) -> StreamingHttpResponse:
    """The table as a download called ``name``; ``?bom=1`` puts a byte order mark before it."""
    chunks = write(header, rows, bom=request.GET.get("bom") == "1")
    # Under ASGI Django would gather a plain iterator first and warn of it.
    content = in_turn(chunks) if isinstance(request, ASGIRequest) else chunks
    response = StreamingHttpResponse(content, content_type="text/csv; charset=utf-8; header=present")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


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
    if isinstance(value, (dt.datetime, dt.date)):
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


async def in_turn(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks for an ASGI response, each made once the one before was sent."""
    # The database belongs to the thread of synchronous code.
    following: Any = sync_to_async(lambda: next(chunks, None))
    while (chunk := await following()) is not None:
        yield chunk
