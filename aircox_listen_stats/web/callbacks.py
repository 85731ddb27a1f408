"""The callbacks of Icecast's URL authentication: answered at once, worked on later.

Icecast admits a listener when the answer carries ``icecast-auth-user: 1``,
whatever its status, and asks one listener at a time per mount. So every
answer of this module carries that header: to a wrong token, to a body that
makes no sense, and when anything of ours is broken. What is wrong shows in
the figures and in the checks, never at the listeners.

What is heard waits in this process's memory for a fraction of a second, until
a thread of its own has forgotten the addresses and written what is left into
the Inbox. Callbacks that wait when the process is killed are lost; the poll of
the same server, where there is one, makes up for them.
"""

from __future__ import annotations

import atexit
import hmac
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import resolve
from django.views.decorators.csrf import csrf_exempt

from .. import conf
from ..errors import MalformedRecord
from ..fields import from_ms
from ..models import Inbox
from ..pipeline import recognise, secrets
from ..sources import registry, urlauth

__all__ = ["Buffer", "CallbacksFirst", "buffer", "callback"]

log = logging.getLogger(__name__)

ADMIT = {"icecast-auth-user": "1"}

MS = 1000

MAX_WAITING = 20_000
"""Callbacks kept while the database cannot be written: 5 MB, some minutes of a large station."""

BATCH = 500
"""Rows in one statement; SQLite's limit of variables is kept by Django."""

FLUSH_SECONDS = 0.2
"""How long a callback waits for others to share its transaction."""

RETRY_SECONDS = 2.0
"""How long the writer leaves a database alone that refused it."""

LAST_FLUSH_SECONDS = 2.0
"""How long the end of the process waits for the writer."""


@csrf_exempt
def callback(request: HttpRequest, source: str, token: str) -> HttpResponse:
    """Takes one callback: 200, 400, 404, 405, 413 or 500, and always the header that admits.

    No database, no file and no network is touched before the answer.
    """
    try:
        return _answered(request, source, token, now_ms=time.time_ns() // 1_000_000)
    except Exception:  # whatever of ours is broken, the listener is admitted
        log.exception("A callback could not be taken; its listener was admitted.")
        return _refused(500)


class CallbacksFirst:
    """Middleware: answers callbacks before any other middleware runs.

    aircox's own asks the database for the station of every request, and a
    session's or a site's may too: behind them a dead database would answer for
    this module, without the header that admits. Put it first.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        found = _resolved(request.path_info)
        if found is None:
            return self.get_response(request)
        answer = callback(request, **found)
        return _ready(answer) if self.is_async else answer


async def _ready(answer: HttpResponse) -> HttpResponse:
    return answer


def _resolved(path: str) -> dict[str, Any] | None:
    """The view's arguments where ``path`` is a callback's; None for any other page, and any failure."""
    if "/callback/" not in path:
        return None
    try:
        match = resolve(path)
    except Exception:  # noqa: BLE001 - a broken URL configuration is for Django to tell
        return None
    return dict(match.kwargs) if match.func is callback else None


def _refused(status: int) -> HttpResponse:
    """An answer that admits all the same, and that Django does not log: its path holds the token."""
    response = HttpResponse(status=status, headers=ADMIT)
    response._has_been_logged = True
    return response


def _answered(request: HttpRequest, source: str, token: str, *, now_ms: int) -> HttpResponse:
    settings = conf.get()
    expected = settings.callback_tokens.get(source, "")
    if not expected or not hmac.compare_digest(expected.encode(), token.encode()):
        return _refused(404)
    if request.method != "POST":
        return _refused(405)
    if int(request.META.get("CONTENT_LENGTH") or 0) > urlauth.MAX_BODY_BYTES:
        return _refused(413)
    try:
        event = urlauth.parse_body(request.body, trusted_proxies=settings.trusted_proxies)
    except MalformedRecord as error:
        log.warning("A callback for source %r was refused: %s.", source, error.reason)
        return _refused(400)
    stream = registry.mounts(settings, source).get(event.mount)
    if event.is_listener and stream is not None:
        buffer.put(Waiting(source=source, stream=stream, received_ms=now_ms, event=event))
    return HttpResponse(headers=ADMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A callback that was answered and is not yet written. Holds an address: memory only."""

    source: str
    stream: str
    received_ms: int
    event: urlauth.AuthEvent


class Buffer:
    """Callbacks on their way to the Inbox: bounded, in order, written by one thread of the process."""

    def __init__(self, *, limit: int = MAX_WAITING) -> None:
        self.limit = limit
        self.dropped = 0
        self._waiting: deque[Waiting] = deque()
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._filled = threading.Event()
        self._writer: threading.Thread | None = None
        self._writer_pid = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, one: Waiting) -> None:
        """Takes a callback; the oldest one is dropped where the buffer is full. Never waits."""
        with self._lock:
            if len(self._waiting) >= self.limit:
                self._waiting.popleft()
                self.dropped += 1
                if self.dropped in (1, 10, 100) or self.dropped % MS == 0:
                    log.error("%d callbacks were dropped: the database takes none.", self.dropped)
            self._waiting.append(one)
        self._filled.set()
        self._see_to_writer()

    def flush(self) -> int:
        """Writes all that waits, in order; how many rows. What cannot be written goes on waiting."""
        written = 0
        with self._flushing:
            while True:
                with self._lock:
                    batch = list(islice(self._waiting, BATCH))
                if not batch:
                    return written
                Inbox.objects.bulk_create([_row(one) for one in batch])
                with self._lock:
                    # Those that were dropped meanwhile were the oldest: the first of this batch.
                    for one in batch:
                        if self._waiting and self._waiting[0] is one:
                            self._waiting.popleft()
                written += len(batch)

    def clear(self) -> None:
        """Forgets all that waits (tests)."""
        with self._lock:
            self._waiting.clear()

    def begin_anew(self) -> None:
        """In the child of a fork: the parent keeps what waits, and its locks are nobody's here."""
        self.__init__(limit=self.limit)  # type: ignore[misc]

    def _see_to_writer(self) -> None:
        """Starts the writer: once in each process, anew after a fork or a death."""
        if self._writer is not None and self._writer_pid == os.getpid() and self._writer.is_alive():
            return
        with self._lock:
            if self._writer is None or self._writer_pid != os.getpid() or not self._writer.is_alive():
                self._writer = threading.Thread(target=self._write_on, name="listen-stats-callbacks", daemon=True)
                self._writer_pid = os.getpid()
                self._writer.start()

    def _write_on(self) -> None:
        while True:
            self._filled.wait()
            self._filled.clear()
            time.sleep(FLUSH_SECONDS)
            try:
                self.flush()
            except Exception as error:  # noqa: BLE001 - the writer goes on when the database is back
                # Not the error's text: it may quote a row.
                log.warning("Callbacks wait in memory: the Inbox cannot be written (%s).", type(error).__name__)
                time.sleep(RETRY_SECONDS)
                self._filled.set()
            finally:
                connection.close()


def _row(one: Waiting) -> Inbox:
    """The Inbox row of a callback. This is where its address ends."""
    mark = recognise.mark(one.event.address, secrets.current(one.received_ms))
    return Inbox(
        source=one.source,
        received=from_ms(one.received_ms),
        payload=urlauth.payload_of(one.event, stream=one.stream, mark=mark),
    )


buffer = Buffer()
os.register_at_fork(after_in_child=buffer.begin_anew)


@atexit.register
def _flush_at_the_end() -> None:
    """Writes what still waits when the process ends in an orderly way, within a time limit."""
    if not len(buffer):
        return
    last = threading.Thread(target=_flush_quietly, daemon=True)
    last.start()
    last.join(LAST_FLUSH_SECONDS)


def _flush_quietly() -> None:
    try:
        buffer.flush()
    except Exception as error:  # noqa: BLE001 - the process is ending
        log.warning("%d callbacks were lost at the end (%s).", len(buffer), type(error).__name__)
    finally:
        connection.close()


def status() -> Mapping[str, Any]:
    """How many callbacks wait in this process and how many were dropped."""
    return {"waiting": len(buffer), "dropped": buffer.dropped}
