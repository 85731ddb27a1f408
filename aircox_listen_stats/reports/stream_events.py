"""Accepted stream events as they are read by other programs: some thousand at a time, in the order of arrival.

Whoever stores events does so in turn (``pipeline/event_rows.py``): no event comes to be seen behind a later one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from django.db import connection

from ..fields import from_ms
from ..models import StreamEvent

CHUNK = 1_000
"""Events read at once: whatever is asked for, so much is in memory."""

_COLUMNS = (
    "id, source, stream, origin, listener, session, started, ended, method, status, bytes_sent, rendition, number,"
    " country, app, exclusion, rule, received"
)


class EventRow(msgspec.Struct, kw_only=True):
    """One event. ``listener`` and ``session`` are pseudonyms of one period (docs/privacy.md)."""

    id: int
    source: str
    stream: str
    origin: str
    listener: str
    session: str | None
    time_start: str
    time_end: str
    seconds_connected: float
    method: str
    status: int
    bytes_sent: int | None
    rendition: str
    segment: int | None
    country: str
    app: str
    exclusion: str
    rule: str
    received: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events: behind ``after``, that ended in ``[from_ms, to_ms)``; '' and None take all."""

    after: int = 0
    limit: int = CHUNK
    source: str = ""
    stream: str = ""
    from_ms: int | None = None
    to_ms: int | None = None


def chunks(query: EventQuery) -> Iterator[list[EventRow]]:
    """The events in chunks, each a short query of its own: no transaction is held while somebody reads slowly."""
    after, left = query.after, query.limit
    while left > 0:
        found = _rows(query, after, min(left, CHUNK))
        if found:
            yield found
        if len(found) < min(left, CHUNK):
            return
        after, left = found[-1].id, left - len(found)


def _rows(query: EventQuery, after: int, limit: int) -> list[EventRow]:
    given = (
        ("id > %s", after),
        ("source = %s", query.source or None),
        ("stream = %s", query.stream or None),
        ("ended >= %s", query.from_ms),
        ("ended < %s", query.to_ms),
    )
    terms = [(term, value) for term, value in given if value is not None]
    table = connection.ops.quote_name(StreamEvent._meta.db_table)
    where = " AND ".join(term for term, _ in terms)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {_COLUMNS} FROM {table} WHERE {where} ORDER BY id LIMIT %s",
            [*(value for _, value in terms), limit],
        )
        return [_shown(*row) for row in cursor.fetchall()]


def _shown(
    id_: int,
    source: str,
    stream: str,
    origin: str,
    listener: int,
    session: int | None,
    started_ms: int,
    ended_ms: int,
    method: str,
    status: int,
    bytes_sent: int | None,
    rendition: str,
    number: int | None,
    country: str,
    app: str,
    exclusion: str,
    rule: str,
    received_ms: int,
) -> EventRow:
    return EventRow(
        id=id_,
        source=source,
        stream=stream,
        origin=origin,
        listener=f"{listener:016x}",
        session=None if session is None else f"{session % 2**64:016x}",
        time_start=_iso(started_ms),
        time_end=_iso(ended_ms),
        seconds_connected=(ended_ms - started_ms) / 1000,
        method=method,
        status=status,
        bytes_sent=bytes_sent,
        rendition=rendition,
        segment=number,
        country=country,
        app=app,
        exclusion=exclusion,
        rule=rule,
        received=_iso(received_ms),
    )


def _iso(ms: int) -> str:
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
