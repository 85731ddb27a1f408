"""Stream events on their way into the database: where their addresses end, and how they are stored once.

An event's key is a hash of all that is kept of it, its listener under the
secret of the period in which it ended: whenever it is told again, it is the same.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.db import IntegrityError, connection, transaction

from .. import conf
from ..fields import from_ms
from ..kernel import calendar
from ..kernel.types import Address, ListenerMark
from ..models import Inbox, StreamEvent
from ..sources.stream_events import Event, Request, StreamEventsSource, Told
from . import recognise, rows, secrets

DAY_MS = 24 * 3600 * 1000

PORTION = 1_000
"""Events of one transaction: on SQLite a thirtieth of a second, and a third for the collector's,
for which aircox's Monitor waits."""


class Door:
    """Where the addresses of one batch end."""

    def __init__(self, source: StreamEventsSource, now_ms: int) -> None:
        settings = conf.get()
        self.source = source
        self.secrets = secrets.current(now_ms)
        self.oldest_ms = max(
            calendar.period_start(
                self.secrets.started_ms - 1, settings.key_rotation, settings.zone, settings.broadcast_day_start
            ),
            now_ms - settings.keep_events_days * DAY_MS,
        )
        self._people: dict[tuple[str, str | None, str | None], tuple[ListenerMark, ListenerMark, bool]] = {}
        self._same: Counter[int] = Counter()

    def told(self, event: Event, request: Request) -> Told:
        """The event as it is kept. Raises BadField."""
        mark, identity_known = self.mark(event, request.ended_ms)
        session = self.session(self.source.session_of(event), request.ended_ms)
        key = event_key(self.source.name, request, mark.listener, session)
        self._same[key] += 1
        if self._same[key] > 1:  # two of the same second that nothing tells apart are two, in one batch
            key = _hashed(f"{key} {self._same[key]}")
        return Told(key=key, request=request, who=mark, identity_known=identity_known, session=session)

    def mark(self, event: Event, ended_ms: int) -> tuple[ListenerMark, bool]:
        """Who it was, under the secret of the period in which the event ended: the same whenever it is told.

        Raises BadField.
        """
        person = event.ip, event.user_agent, event.forwarded_for
        found = self._people.get(person)
        if found is None:
            address, identity_known = self.source.address_of(event)
            found = self._people[person] = (*self._marks(address), identity_known)
        now, before, identity_known = found
        return (now if ended_ms >= self.secrets.started_ms else before), identity_known

    def _marks(self, address: Address) -> tuple[ListenerMark, ListenerMark]:
        mark = recognise.mark(address, self.secrets)
        if mark.previous is None:
            return mark, mark
        return mark, replace(mark, listener=mark.previous, previous=None)

    def session(self, told: str, ended_ms: int) -> int | None:
        """A hash of the player's session id under the same secret; None where it has none."""
        if not told:
            return None
        secret = self.secrets.current
        if ended_ms < self.secrets.started_ms and self.secrets.previous is not None:
            secret = self.secrets.previous
        return _hashed(told, secret)


def event_key(source: str, request: Request, listener: int, session: int | None) -> int:
    """A number for all that is kept of an event."""
    return _hashed(
        f"{source}\0{request.stream}\0{request.origin}\0{listener}\0{session}\0{request.started_ms}\0"
        f"{request.ended_ms}\0{request.method}\0{request.status}\0{request.bytes_sent}\0{request.rendition}\0"
        f"{request.number}\0{request.is_whole}"
    )


def _hashed(text: str, key: bytes = b"") -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "big", signed=True)


# Storing -------------------------------------------------------------------------------------------

COLUMNS = (
    "key",
    "batch",
    "source",
    "stream",
    "origin",
    "listener",
    "identity_known",
    "started",
    "ended",
    "method",
    "status",
    "bytes_sent",
    "rendition",
    "number",
    "is_whole",
    "session",
    "country",
    "app",
    "exclusion",
    "rule",
    "received",
)


def store(source: str, told: Sequence[Told], counts: Counter[str], *, now_ms: int) -> int:
    """How many of these were new. ``counts`` are noted with the first portion, by the collector."""
    stored = 0
    for start in range(0, len(told), PORTION) if told else (0,):
        stored += _store(source, told[start : start + PORTION], counts, now_ms)
        counts = Counter()
    return stored


def _store(source: str, told: Sequence[Told], counts: Counter[str], now_ms: int) -> int:
    try:
        return _store_new(source, told, counts, now_ms)
    except IntegrityError:  # another process took the same batch at the same moment
        return _store_new(source, told, counts, now_ms)


def _store_new(source: str, told: Sequence[Told], counts: Counter[str], now_ms: int) -> int:
    new = unknown(told)
    noted = {**counts, "kept": len(new), "duplicates": len(told) - len(new)}
    noted = {name: count for name, count in noted.items() if count}
    if not noted:
        return 0
    previous = {one.who.listener: one.who.previous for one in new if isinstance(one.who, ListenerMark)}
    with transaction.atomic():
        batch = Inbox.objects.create(
            source=source,
            received=from_ms(now_ms),
            payload={
                "events": len(new),
                "previous": [[listener, before] for listener, before in previous.items() if before is not None],
                "counts": noted,
            },
        ).pk
        _insert([_row(source, batch, now_ms, one) for one in new])
    return len(new)


def unknown(told: Sequence[Told]) -> list[Told]:
    """Those of these events that are not there yet, each once."""
    name, keys = rows.table(StreamEvent), [one.key for one in told]
    if connection.vendor == "postgresql":
        found = rows.fetch(f"SELECT key FROM {name} WHERE key = ANY(%s)", [keys])
    else:
        found = rows.fetch_in(f"SELECT key FROM {name} WHERE key IN ({{values}})", [], keys)
    known = {key for (key,) in found}
    return list({one.key: one for one in told if one.key not in known}.values())


def _row(source: str, batch: int, now_ms: int, one: Told) -> tuple[Any, ...]:
    request, mark = one.request, one.who
    assert isinstance(mark, ListenerMark)
    return (
        one.key,
        batch,
        source,
        request.stream,
        request.origin,
        mark.listener,
        one.identity_known,
        request.started_ms,
        request.ended_ms,
        request.method,
        request.status,
        request.bytes_sent,
        request.rendition,
        request.number,
        request.is_whole,
        one.session,
        mark.country,
        mark.app,
        mark.exclusion,
        mark.rule,
        now_ms,
    )


def _insert(new: Sequence[tuple[Any, ...]]) -> None:
    """Writes the rows: by COPY where the driver has it. Raises IntegrityError for one that is there already."""
    name, columns = rows.table(StreamEvent), ", ".join(COLUMNS)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql" and hasattr(cursor.cursor, "copy"):
            with connection.wrap_database_errors, cursor.copy(f"COPY {name} ({columns}) FROM STDIN") as copy:
                for row in new:
                    copy.write_row(row)
        elif new:
            marks = ", ".join(["%s"] * len(COLUMNS))
            cursor.executemany(f"INSERT INTO {name} ({columns}) VALUES ({marks})", new)
