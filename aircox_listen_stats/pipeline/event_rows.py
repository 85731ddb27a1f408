"""Stream events on their way into the database: where their addresses end, and how they are stored once.

An event's key is a hash of all that is kept of it, its listener under the
secret of the period in which it ended: whenever it is told again, it is the same.
"""

from __future__ import annotations

import hashlib
import secrets as entropy
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from django.db import IntegrityError, connection, transaction

from .. import conf
from ..fields import from_ms
from ..kernel import calendar
from ..kernel.types import ListenerMark
from ..models import Inbox, StreamEvent
from ..sources.stream_events import Event, Request, StreamEventsSource, Told
from . import households, rows, secrets

DAY_MS = 24 * 3600 * 1000

PORTION = 1_000
"""Events of one transaction: on SQLite a thirtieth of a second, and a third for the collector's,
for which aircox's Monitor waits."""

IN_TURN = 0x6C69_7374_656E_6576
"""PostgreSQL's advisory lock of whoever stores events: the letters "listenev"."""

TURN_SECONDS = 10
"""So long a portion waits for its turn, where each takes ten milliseconds. Then its shipper is to send it again."""

REMEMBERED_PEOPLE = 50_000
"""About 20 MB; who is not remembered is recognised anew."""


class _Person(NamedTuple):
    now: ListenerMark
    before: ListenerMark  # under the secret of the period before, where it is known
    identity_known: bool


class _People:
    """Who was told of lately, by a hash under a key that dies with the process: it tells no address.

    A listener comes again in every batch, and recognising takes longer than all else that is done for an event.
    """

    def __init__(self) -> None:
        self._key = entropy.token_bytes(32)
        self._known: dict[bytes, _Person] = {}
        self._valid_for: tuple[object, object] = (None, None)

    def begin(self, settings: conf.Settings, known: secrets.Secrets) -> None:
        """Forgets who was found out under other settings or secrets."""
        if self._valid_for[0] is not settings or self._valid_for[1] is not known:
            self._known, self._valid_for = {}, (settings, known)

    def name(self, *told: str | None) -> bytes:
        return hashlib.blake2b(
            "\0".join(map(str, told)).encode("utf-8", "surrogatepass"), digest_size=16, key=self._key
        ).digest()

    def of(self, name: bytes) -> _Person | None:
        return self._known.get(name)

    def remember(self, name: bytes, person: _Person) -> None:
        if len(self._known) >= REMEMBERED_PEOPLE:
            self._known = {}
        self._known[name] = person


_people = _People()


class Door:
    """Where the addresses of one batch end."""

    def __init__(self, source: StreamEventsSource, now_ms: int) -> None:
        settings = conf.get()
        self.source = source
        self.secrets = secrets.current(now_ms)
        self._before_ms = calendar.period_start(
            self.secrets.started_ms - 1, settings.key_rotation, settings.zone, settings.broadcast_day_start
        )
        self.oldest_ms = max(self._before_ms, oldest_known_ms(now_ms))
        self._same: dict[int, int] = {}
        self._people: dict[tuple[str | None, ...], _Person] = {}
        _people.begin(settings, self.secrets)

    def told(self, event: Event, request: Request) -> Told:
        """The event as it is kept. Raises BadField."""
        mark, identity_known = self.mark(event, request.stream, request.ended_ms)
        session = self.session(self.source.session_of(event), request.ended_ms)
        key = event_key(self.source.name, request, mark.listener, session)
        same = self._same[key] = self._same.get(key, 0) + 1
        if same > 1:  # two of the same second that nothing tells apart are two, in one batch
            key = _hashed(f"{key} {same}")
        return Told(key=key, request=request, who=mark, identity_known=identity_known, session=session)

    def mark(self, event: Event, stream: str, ended_ms: int) -> tuple[ListenerMark, bool]:
        """Who it was, under the secret of the period in which the event ended: the same whenever it is told.

        Raises BadField.
        """
        told = stream, event.ip, event.user_agent, event.forwarded_for
        person = self._people.get(told)
        if person is None:
            name = _people.name(*told)
            person = _people.of(name)
            if person is None:
                person = self._recognised(event, stream)
                _people.remember(name, person)
            self._people[told] = person
        return (person.now if ended_ms >= self.secrets.started_ms else person.before), person.identity_known

    def keys_since_ms(self, ended_ms: int) -> int:
        """When the period began under whose secret the keys of an event are made that ended then."""
        return self.secrets.started_ms if ended_ms >= self.secrets.started_ms else self._before_ms

    def _recognised(self, event: Event, stream: str) -> _Person:
        address, identity_known = self.source.address_of(event)
        mark = households.mark(address, self.secrets, stream)
        before = mark if mark.previous is None else replace(mark, listener=mark.previous, previous=None)
        return _Person(mark, before, identity_known)

    def session(self, told: str, ended_ms: int) -> int | None:
        """A hash of the player's session id under the same secret; None where it has none."""
        if not told:
            return None
        secret = self.secrets.current
        if ended_ms < self.secrets.started_ms and self.secrets.previous is not None:
            secret = self.secrets.previous
        return _hashed(told, secret)


def oldest_known_ms(now_ms: int) -> int:
    """An accepted event that ended then or later is still kept: told again, it is known."""
    return now_ms - conf.get().keep_events_days * DAY_MS


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
    "referrer",
)


def store(source: str, told: Sequence[Told], counts: Counter[str], *, now_ms: int) -> int:
    """How many of these were new. ``counts`` are noted with the first portion, by the collector.

    Of no events it is noted that somebody is there to tell of them.
    """
    stored = 0
    for start in range(0, len(told), PORTION) if told else (0,):
        stored += _store(source, told[start : start + PORTION], counts, now_ms)
        counts = Counter()
    return stored


def _store(source: str, told: Sequence[Told], counts: Counter[str], now_ms: int) -> int:
    """Stores them as if all were new, which they nearly always are; else those that are."""
    try:
        return _store_new(source, told, len(told), counts, now_ms)
    except IntegrityError:
        pass
    try:
        return _store_new(source, unknown(told), len(told), counts, now_ms)
    except IntegrityError:  # another process took the same batch at the same moment, and is done now
        return _store_new(source, unknown(told), len(told), counts, now_ms)


def _store_new(source: str, new: Sequence[Told], seen: int, counts: Counter[str], now_ms: int) -> int:
    """How many there are. Raises IntegrityError, and has stored nothing, where one of them is not new."""
    noted = {**counts, "kept": len(new), "duplicates": seen - len(new)}
    noted = {name: count for name, count in noted.items() if count}
    marks = {one.who for one in new if isinstance(one.who, ListenerMark) and one.who.previous is not None}
    with transaction.atomic():
        batch = Inbox.objects.create(
            source=source,
            received=from_ms(now_ms),
            payload={
                "events": len(new),
                "previous": [[mark.listener, mark.previous] for mark in marks],
                "counts": noted,
            },
        ).pk
        made = [_row(source, batch, now_ms, one) for one in new]
        _wait_for_turn()
        _insert(made)
    return len(new)


def _wait_for_turn() -> None:
    """Keeps other portions out until the transaction has ended, on SQLite as on PostgreSQL.

    So ids come to be seen in their order: who has read up to one has missed none before it, however long a
    portion took.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{TURN_SECONDS}s"])
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [IN_TURN])


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
        request.referrer,
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
