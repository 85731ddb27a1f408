"""The thread that writes down what the Monitor hook saw, on a database connection of its own.

Whoever calls `take()` never waits: the queue is bounded and drops its oldest
entry, the thread does the hashing, the look-ups and the writing. Each write is
one row in autocommit with short lock and statement timeouts, so that SQLite's
one write lock is never held for longer than a row. What could not be written
is kept, up to a bound, and tried again: a database that was locked for ten
minutes gets the true times afterwards.
"""

from __future__ import annotations

import atexit
import copy
import datetime as dt
import logging
import math
import os
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db import (
    DEFAULT_DB_ALIAS,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connections,
    models,
    router,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from ..fields import from_ms, to_ms
from ..models import Airing, MonitorWatch, OnAirChange, StaleWindow
from . import aircox
from .base import item_of

__all__ = ["Counts", "DiffusionNote", "LogNote", "Recorder", "Tick"]

logger = logging.getLogger("aircox_listen_stats.onair")

QUEUE_LENGTH = 4096
"""Entries that wait at most: more than an hour of one station's ticks."""
PENDING_ROWS = 1024
"""Rows that wait at most for a database that does not take them."""
EXTEND_MS = 5_000
"""A row that only grows (`seen`) is written at most this often."""
SILENCE_MS = 15_000
"""Without a tick for longer than this, nobody watched: a new stretch begins."""
RETRY_SECONDS = 1.0
"""Pause after a failed write."""
COMPLAIN_SECONDS = 60.0
"""At most one line in the log per that time."""
EXIT_SECONDS = 0.5
"""How long the end of the interpreter waits for a last write: Liquidsoap is ended after it."""
LOCK_TIMEOUT_MS = 2_000
STATEMENT_TIMEOUT_MS = 3_000
WORTH_ANOTHER_TRY = (OperationalError, InterfaceError, ProgrammingError)
"""The database is locked, away, or not migrated yet."""
TITLE_LENGTH = 255
PATH = re.compile(r"\s*(?:file:|/[^/]+/|[A-Za-z]:\\)")
"""How a path begins: on this server, as an address, or on the machine where the file was made."""
SOURCE_LENGTH = 64
STATUS_LENGTH = 16


class Tick(NamedTuple):
    """What one tick of the Monitor saw. `source` is '' where nothing is on air. The uri stays in memory."""

    at_ms: int
    station_id: int
    source: str = ""
    uri: str = ""
    air_time: dt.datetime | None = None
    remaining: float | None = None
    status: str = ""
    title: str = ""
    artist: str = ""


class LogNote(NamedTuple):
    """A new row of aircox's Log."""

    station_id: int
    date: dt.datetime


class DiffusionNote(NamedTuple):
    """A diffusion that was saved or deleted, as it is planned now."""

    diffusion_id: int | None
    program_id: int | None
    start: dt.datetime
    end: dt.datetime


@dataclass(slots=True)
class Counts:
    """What became of the ticks and notes of this process."""

    taken: int = 0
    dropped: int = 0  # the queue was full: the oldest went
    failed: int = 0  # attributes that could not be read, a thread that could not start
    written: int = 0
    refused: int = 0  # writes that failed; they are tried again
    lost: int = 0  # rows that waited too long for the database


@dataclass(slots=True)
class _Air:
    """What is known of one station: the item on air, the stretch of watching, and what of it is written."""

    change: OnAirChange | None = None
    change_written_ms: int = 0
    identity: tuple[str, str, dt.datetime | None] | None = None
    was_running: bool = False  # it had time left once, so that "0 left" means its end
    uri: str = ""
    watch: MonitorWatch | None = None
    watch_written_ms: int = 0


@dataclass(slots=True)
class _Pending:
    """Rows to write, oldest first; a row that changes again before it is written is there once."""

    rows: dict[int, models.Model] = field(default_factory=dict)
    uris: dict[int, str] = field(default_factory=dict)

    def add(self, row: models.Model) -> None:
        self.rows[id(row)] = row

    def done(self, row: models.Model) -> None:
        self.rows.pop(id(row), None)
        self.uris.pop(id(row), None)


class Recorder:
    """Takes ticks and notes from any thread; writes them from one of its own."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # After a fork the thread is gone, and locks may be held by nobody.
        self.queue: deque[Tick | LogNote | DiffusionNote] = deque(maxlen=QUEUE_LENGTH)
        self.wake = threading.Event()
        self.stopping = False
        self.busy = False
        self.thread: threading.Thread | None = None
        self.starting = threading.Lock()
        self.air: dict[int, _Air] = {}
        self.notes: list[LogNote | DiffusionNote] = []
        self.pending = _Pending()
        self.complained_at = -COMPLAIN_SECONDS

    def take(self, entry: Tick | LogNote | DiffusionNote) -> None:
        """Nothing; the entry waits for the thread. Never blocks on anything but a thread's start."""
        self.counts.taken += 1
        if len(self.queue) == QUEUE_LENGTH:
            self.counts.dropped += 1
        self.queue.append(entry)
        if self.thread is None or not self.thread.is_alive():
            self._start()
        self.wake.set()

    def _start(self) -> None:
        if not self.starting.acquire(blocking=False):
            return  # another thread is at it
        try:
            if self.thread is None or not self.thread.is_alive():
                self.stopping = False
                thread = threading.Thread(target=self._run, name="listen-stats-recorder", daemon=True)
                thread.start()
                self.thread = thread
                atexit.register(self.stop, EXIT_SECONDS)
        finally:
            self.starting.release()

    def drain(self, seconds: float) -> bool:
        """True once everything taken so far is written, False when that took longer than `seconds`."""
        until = time.monotonic() + seconds
        while self.queue or self.busy or self.notes or self.pending.rows:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def stop(self, seconds: float) -> None:
        """Nothing; the thread writes what it can within `seconds` and ends. A later entry starts a new one."""
        thread, self.thread = self.thread, None
        self.stopping = True
        self.wake.set()
        if thread is not None:
            thread.join(seconds)
            atexit.unregister(self.stop)

    def _run(self) -> None:
        connection = _own_connection()
        try:
            while True:
                self.wake.wait(None if not (self.pending.rows or self.notes) else RETRY_SECONDS)
                self.wake.clear()
                last = self.stopping
                self.busy = True
                try:
                    self._work(connection)
                except Exception as error:  # noqa: BLE001  # the Monitor hook's broad except: see the module's text
                    self._recover(connection, error)
                finally:
                    if not self.air:
                        # A process without a Monitor takes a note now and then: it keeps no connection for that.
                        connection.close()
                    self.busy = False
                if last:
                    return
        finally:
            connection.close()

    def _recover(self, connection: BaseDatabaseWrapper, error: Exception) -> None:
        self.counts.refused += 1
        self._complain(error)
        try:
            connection.close()
        except Exception as second:  # noqa: BLE001  # a broken connection may fail to close, too
            self._complain(second)
        if not self.stopping:
            time.sleep(RETRY_SECONDS)

    def _complain(self, error: Exception) -> None:
        if time.monotonic() - self.complained_at >= COMPLAIN_SECONDS:
            self.complained_at = time.monotonic()
            # The type alone: a message may quote a row, and a row of aircox holds a path.
            logger.warning("What is on air could not be written, and will be tried again: %s.", type(error).__name__)

    def _work(self, connection: BaseDatabaseWrapper) -> None:
        """Nothing; every entry is followed, then every row that changed is written."""
        while self.queue:
            entry = self.queue.popleft()
            if isinstance(entry, Tick):
                self._follow(entry, connection)
            else:
                self.notes.append(entry)
        del self.notes[:-PENDING_ROWS]
        self._bound()
        if not self.pending.rows and not self.notes:
            return
        _prepare(connection)
        for row in list(self.pending.rows.values()):
            try:
                self._write(row)
            except WORTH_ANOTHER_TRY:
                raise
            except Exception as error:  # noqa: BLE001  # a row that no database takes must not hold up the others
                self._complain(error)
                self.counts.lost += 1
            self.pending.done(row)
        if self.notes:
            _mark_stale(self.notes)
            self.notes.clear()

    # -- following

    def _follow(self, tick: Tick, connection: BaseDatabaseWrapper) -> None:
        air = self.air.get(tick.station_id)
        if air is None:
            air = self.air[tick.station_id] = _Air()
            self._resume(air, tick, connection)
        self._heartbeat(air, tick)
        self._compare(air, tick)

    def _resume(self, air: _Air, tick: Tick, connection: BaseDatabaseWrapper) -> None:
        """Nothing; the stretch and the item of a process before us go on, when it ended just now."""
        try:
            _prepare(connection)
            since = from_ms(tick.at_ms - SILENCE_MS)
            ours = {"station_id": tick.station_id, "seen__gte": since}
            air.watch = MonitorWatch.objects.filter(**ours).order_by("-seen", "-pk").first()
            row = OnAirChange.objects.filter(**ours, ended=False).order_by("-started", "-pk").first()
        except Exception as error:  # noqa: BLE001  # then a new stretch begins, and the timeline joins the two
            self._recover(connection, error)
            return
        if row is not None and (row.source, row.item, row.air_time) == (
            _text(tick.source, SOURCE_LENGTH),
            item_of(tick.uri),
            _aware(tick.air_time),
        ):
            air.change, air.identity, air.uri = row, (tick.source, tick.uri, tick.air_time), tick.uri
            air.change_written_ms = to_ms(row.seen)
            air.was_running = bool(row.remaining_ms)

    def _heartbeat(self, air: _Air, tick: Tick) -> None:
        seen = from_ms(tick.at_ms)
        if air.watch is None or abs(tick.at_ms - to_ms(air.watch.seen)) > SILENCE_MS:
            air.watch = MonitorWatch(station_id=tick.station_id, started=seen, seen=seen)
        elif seen <= air.watch.seen:
            return
        else:
            air.watch.seen = seen
            if tick.at_ms - air.watch_written_ms < EXTEND_MS:
                return
        air.watch_written_ms = tick.at_ms
        self.pending.add(air.watch)

    def _compare(self, air: _Air, tick: Tick) -> None:
        remaining_ms = _milliseconds(tick.remaining)
        identity = (tick.source, tick.uri, tick.air_time) if tick.source else None
        if identity is None or identity != air.identity or _went_back(air.change, tick.at_ms):
            self._end(air, tick.at_ms)
            air.identity = identity
            if identity is not None and not _is_over(tick, remaining_ms):
                self._begin(air, tick, remaining_ms)
        elif air.change is None:
            if remaining_ms:
                self._begin(air, tick, remaining_ms)  # it was interrupted, and goes on
        elif remaining_ms == 0 and tick.uri and air.was_running:
            self._end(air, tick.at_ms)
        else:
            self._extend(air, tick, remaining_ms)

    def _begin(self, air: _Air, tick: Tick, remaining_ms: int | None) -> None:
        seen = from_ms(tick.at_ms)
        air.was_running = bool(remaining_ms)
        air.change = OnAirChange(
            station_id=tick.station_id,
            source=_text(tick.source, SOURCE_LENGTH),
            item=item_of(tick.uri),
            air_time=_aware(tick.air_time),
            started=seen,
            seen=seen,
            status=_text(tick.status, STATUS_LENGTH),
            remaining_ms=remaining_ms,
            title=_name(tick.title),
            artist=_name(tick.artist),
            is_live=not tick.uri,
        )
        air.change_written_ms = tick.at_ms
        self.pending.uris[id(air.change)] = tick.uri
        self.pending.add(air.change)

    def _extend(self, air: _Air, tick: Tick, remaining_ms: int | None) -> None:
        change = air.change
        if change is None or from_ms(tick.at_ms) <= change.seen:
            return
        change.seen = from_ms(tick.at_ms)
        change.remaining_ms = remaining_ms
        air.was_running = air.was_running or bool(remaining_ms)
        title, artist = _name(tick.title), _name(tick.artist)
        renamed = change.is_live and (change.title, change.artist) != (title, artist)
        if renamed:
            change.title, change.artist = title, artist
        if renamed or tick.at_ms - air.change_written_ms >= EXTEND_MS:
            air.change_written_ms = tick.at_ms
            self.pending.add(change)

    def _end(self, air: _Air, at_ms: int) -> None:
        """Nothing; the item is over as of this tick. After a silence nobody knows when it ended, and it stays open."""
        change, air.change = air.change, None
        if change is None:
            return
        if abs(at_ms - to_ms(change.seen)) <= SILENCE_MS:
            change.seen = max(change.seen, from_ms(at_ms))
            change.ended = True
        self.pending.add(change)

    # -- writing

    def _bound(self) -> None:
        for row in list(self.pending.rows.values())[:-PENDING_ROWS]:
            self.pending.done(row)
            self.counts.lost += 1

    def _write(self, row: models.Model) -> None:
        """Nothing; one statement, its own transaction."""
        if row.pk is not None:
            values = {one.attname: getattr(row, one.attname) for one in row._meta.fields if not one.primary_key}
            # No row is left where the retention was faster.
            type(row)._base_manager.filter(pk=row.pk).update(**values)
        else:
            uri = self.pending.uris.get(id(row))
            if uri and isinstance(row, OnAirChange):
                row.sound_id = aircox.log().sound_id_of(uri)
            row.save(force_insert=True)
        self.counts.written += 1


def _is_over(tick: Tick, remaining_ms: int | None) -> bool:
    """Whether a file was over before it was first seen: Liquidsoap goes on saying "playing" of it.

    A live input has nothing left at any time.
    """
    began = _aware(tick.air_time)
    return bool(tick.uri) and remaining_ms == 0 and began is not None and tick.at_ms - to_ms(began) > SILENCE_MS


def _went_back(change: OnAirChange | None, at_ms: int) -> bool:
    """Whether the clock was set back by more than a silence."""
    return change is not None and to_ms(change.seen) - at_ms > SILENCE_MS


def _text(value: Any, length: int) -> str:
    """Text that every database takes: PostgreSQL refuses NUL, and half of a surrogate pair."""
    return str(value).replace("\0", "").encode("utf-8", "replace").decode()[:length]


def _name(value: Any) -> str:
    """A title or an artist; '' for a path, which some encoders write there."""
    text = _text(value, TITLE_LENGTH)
    return "" if PATH.match(text) else text


def _aware(instant: Any) -> dt.datetime | None:
    return instant if isinstance(instant, dt.datetime) and instant.tzinfo is not None else None


def _milliseconds(seconds: Any) -> int | None:
    """Time left; None where Liquidsoap tells none: a live input answers with infinity or a negative number."""
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds) or seconds < 0:
        return None
    return round(seconds * 1000)


def _own_connection() -> BaseDatabaseWrapper:
    """A connection of this thread alone, outside any pool, with a short patience."""
    alias = router.db_for_write(OnAirChange) or DEFAULT_DB_ALIAS
    connection = connections.create_connection(alias)
    connection.settings_dict = copy.deepcopy(connection.settings_dict)
    connection.settings_dict["OPTIONS"].pop("pool", None)
    if connection.vendor == "sqlite":
        connection.settings_dict["OPTIONS"]["timeout"] = LOCK_TIMEOUT_MS / 1000
    connections[alias] = connection
    return connection


def _prepare(connection: BaseDatabaseWrapper) -> None:
    """Nothing; the connection is open, and waits no longer than our timeouts."""
    if connection.connection is not None:
        return
    connection.ensure_connection()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
            cursor.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")


def _mark_stale(notes: list[LogNote | DiffusionNote]) -> None:
    """Nothing; the windows that these notes touch are marked, joined where they overlap."""
    windows: dict[int, list[tuple[int, int]]] = {}
    for note in notes:
        for station_id, start_ms, end_ms in _windows(note):
            windows.setdefault(station_id, []).append((start_ms, end_ms))
    for station_id, found in windows.items():
        for start_ms, end_ms in _joined(found):
            StaleWindow(
                station_id=station_id, kind=StaleWindow.TIMELINE, started=from_ms(start_ms), ended=from_ms(end_ms)
            ).save(force_insert=True)


def _windows(note: LogNote | DiffusionNote) -> list[tuple[int, int, int]]:
    """Station and window of what the note touches: for a diffusion where it is now, and where we had it."""
    instants = (note.date,) if isinstance(note, LogNote) else (note.start, note.end)
    if not all(_aware(instant) for instant in instants):
        return []
    if isinstance(note, LogNote):
        at_ms = to_ms(note.date)
        # A row ends what was on air before it, too.
        return [(note.station_id, at_ms - 1000, at_ms + 1000)]
    station_id = None if note.program_id is None else aircox.log().station_id_of(note.program_id)
    had = Airing.objects.filter(layer="diffusion", diffusion_id=note.diffusion_id)
    found = [(row.station_id, to_ms(row.started), to_ms(row.ended)) for row in had] if note.diffusion_id else []
    if station_id is not None:
        found.append((station_id, to_ms(note.start), max(to_ms(note.end), to_ms(note.start) + 1)))
    return found


def _joined(windows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start_ms, end_ms in sorted(windows):
        if joined and start_ms <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_ms))
        else:
            joined.append((start_ms, end_ms))
    return joined
