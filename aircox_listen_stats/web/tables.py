"""Tables of report values as downloads: CSV while it is read, XLSX once it is whole."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import IO, Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

from ..reports import workbook
from ..reports.tables import Table, write

CHUNK_BYTES = 64 * 1024


def csv_response(request: HttpRequest, table: Table) -> StreamingHttpResponse:
    """The table as a download; ``?bom=1`` puts a byte order mark before it."""
    chunks = write(table.header, table.rows, bom=request.GET.get("bom") == "1")
    return _download(request, f"{table.name}.csv", "text/csv; charset=utf-8; header=present", chunks)


def xlsx_response(request: HttpRequest, name: str, tables: Sequence[Table]) -> StreamingHttpResponse:
    """The tables as the sheets of one workbook."""
    file = tempfile.TemporaryFile()  # noqa: SIM115, closed once it is sent
    workbook.write_workbook(file, tables)
    file.seek(0)
    return _download(request, f"{name}.xlsx", workbook.MEDIA_TYPE, _blocks(file))


def _download(request: HttpRequest, name: str, media_type: str, chunks: Iterator[bytes]) -> StreamingHttpResponse:
    # Under ASGI Django would gather a plain iterator first and warn of it.
    content = in_turn(chunks) if isinstance(request, ASGIRequest) else chunks
    response = StreamingHttpResponse(content, content_type=media_type)
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while block := file.read(CHUNK_BYTES):
            yield block


async def in_turn(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks for an ASGI response, each made once the one before was sent."""
    # The database belongs to the thread of synchronous code.
    following: Any = sync_to_async(lambda: next(chunks, None))
    while (chunk := await following()) is not None:
        yield chunk
