"""The callbacks of Icecast's URL authentication: answered at once, worked on later.

Icecast admits a listener when the answer carries ``icecast-auth-user: 1``,
whatever its status, and asks one listener at a time per mount. So every
answer of this module carries that header: to a wrong token, to a body that
makes no sense, and when anything of ours is broken. What is wrong shows in
the figures and in the checks, never at the listeners.

Three doors, one judgement: :func:`callbacks_first` answers before Django does,
in an ASGI application; :class:`CallbacksFirst` before any other middleware;
:func:`callback` is the view behind both. No database and no network is touched
before the answer; what was heard is in this process's journal by then (see
``buffer``).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings as django_settings
from django.http import HttpRequest, HttpResponse
from django.urls import resolve
from django.views.decorators.csrf import csrf_exempt

from .. import conf
from ..errors import MalformedRecord, place_of
from ..sources import registry, urlauth
from .buffer import Arrived, buffer

__all__ = ["CallbacksFirst", "callback", "callbacks_first", "lifespan"]

log = logging.getLogger(__name__)

ADMIT = {"icecast-auth-user": "1"}

START_SECONDS = 5.0
"""How long a server waits, when it starts, for the database to tell the period's secret."""

BODY_SECONDS = 5.0
"""How long the rest of a body is waited for. Icecast sends it with the head, and gives up after 15 s."""

KNOWN_PATHS = 64
"""A station has a source or two; with the paths of those who guess, the oldest is forgotten."""

ASGIApplication = Callable[[Any, Any, Any], Awaitable[None]]


@csrf_exempt
def callback(request: HttpRequest, source: str, token: str) -> HttpResponse:
    """Takes one callback: 200, 400, 404, 405, 413 or 500, and always the header that admits."""
    try:
        status, arrived = _judged_request(request, source, token)
        if arrived is not None:
            buffer.keep(arrived)
        return _answer(status)
    except Exception as error:  # noqa: BLE001 - whatever of ours is broken, the listener is admitted
        return _answer(_broken(error))


async def _callback(request: HttpRequest, source: str, token: str) -> HttpResponse:
    """The view for an event loop, which must not wait."""
    try:
        status, arrived = _judged_request(request, source, token)
        if arrived is not None:
            await buffer.keep_waiting(arrived)
        return _answer(status)
    except Exception as error:  # noqa: BLE001 - as above
        return _answer(_broken(error))


def _broken(error: Exception) -> int:
    log.error("A callback could not be taken (%s); its listener was admitted.", place_of(error))
    return 500


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
        return _callback(request, *found) if self.is_async else callback(request, *found)


def callbacks_first(http: ASGIApplication) -> ASGIApplication:
    """``http``, with callbacks answered in front of it: some ten times as many as behind Django's handler."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        found = _resolved(_path_info(scope)) if scope["type"] == "http" else None
        if found is None:
            await http(scope, receive, send)
            return
        try:
            status = await _taken(scope, receive, *found)
        except _Gone:
            return
        except Exception as error:  # noqa: BLE001 - whatever of ours is broken, the listener is admitted
            status = _broken(error)
        await send({"type": "http.response.start", "status": status, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b""})

    return application


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """Lets a server that speaks of its start and its end (uvicorn) wait, not too long, for the callbacks.

    At its start until they can be journalled; at its end, which a signal may make of it without
    further ado, until they are in the Inbox.
    """
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(START_SECONDS):
                    await asyncio.to_thread(buffer.prepare)
            # What is there by now stays; walking over it again and again takes 50 ms each time.
            gc.collect()
            gc.freeze()
        else:
            await asyncio.to_thread(buffer.finish)
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


_HEADERS = [*((name.encode(), value.encode()) for name, value in ADMIT.items()), (b"content-length", b"0")]


class _Gone(Exception):
    """Whoever called did not wait for the answer."""


async def _taken(scope: Any, receive: Any, source: str, token: str) -> int:
    """The status of the answer to a callback; what it told is kept."""
    status = _refusal(source, token, scope["method"])
    if status:
        return status
    try:
        body = await _body(receive)
    except TimeoutError:
        return 408
    status, arrived = _judged(source, body)
    if arrived is not None:
        await buffer.keep_waiting(arrived)
    return status


async def _body(receive: Any) -> bytes:
    """The body, as far as it is looked at: of one that is too long, more than MAX_BODY_BYTES.

    Raises TimeoutError where the rest does not come.
    """
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _Gone
    body = message.get("body", b"")
    if not message.get("more_body", False):
        return body
    parts = [body]
    async with asyncio.timeout(BODY_SECONDS):  # dearer than all the rest: for those that need it
        while message.get("more_body", False) and sum(map(len, parts)) <= urlauth.MAX_BODY_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            parts.append(message.get("body", b""))
    return b"".join(parts)


def _path_info(scope: Any) -> str:
    """The path below the prefix that the server took off, as Django reckons it."""
    root = django_settings.FORCE_SCRIPT_NAME or scope.get("root_path", "")
    return scope["path"].removeprefix(root) if root else scope["path"]


def _resolved(path: str) -> tuple[str, str] | None:
    """Source and token where ``path`` is a callback's; None for any other page, and any failure."""
    return _lookup(path, django_settings.ROOT_URLCONF) if "/callback/" in path else None


@functools.lru_cache(maxsize=KNOWN_PATHS)
def _lookup(path: str, urlconf: str) -> tuple[str, str] | None:
    try:
        match = resolve(path, urlconf)
    except Exception:  # noqa: BLE001 - a broken URL configuration is for Django to tell
        return None
    return (match.kwargs["source"], match.kwargs["token"]) if match.func is callback else None


def _answer(status: int) -> HttpResponse:
    """An answer that admits, and that Django does not log: its path holds the token."""
    response = HttpResponse(status=status, headers=ADMIT)
    response._has_been_logged = True
    return response


def _judged_request(request: HttpRequest, source: str, token: str) -> tuple[int, Arrived | None]:
    status = _refusal(source, token, request.method or "")
    if status:
        return status, None
    if int(request.META.get("CONTENT_LENGTH") or 0) > urlauth.MAX_BODY_BYTES:
        return 413, None
    return _judged(source, request.body)


def _refusal(source: str, token: str, method: str) -> int:
    """404 for a wrong token, 405 for what is no POST, else 0: then the body is worth reading."""
    expected = conf.get().callback_tokens.get(source, "")
    if not expected or not hmac.compare_digest(expected.encode(), token.encode("utf-8", "surrogatepass")):
        return 404
    return 0 if method == "POST" else 405


def _judged(source: str, body: bytes) -> tuple[int, Arrived | None]:
    """The status of the answer, and what is to be kept of a listener on one of our streams."""
    received_ms = time.time_ns() // 1_000_000
    settings = conf.get()
    if len(body) > urlauth.MAX_BODY_BYTES:
        return 413, None
    try:
        event = urlauth.parse_body(body, trusted_proxies=settings.trusted_proxies)
    except MalformedRecord as error:
        log.warning("A callback for source %r was refused: %s.", source, error.reason)
        return 400, None
    stream = _streams(settings, source).get(event.mount)
    if not event.is_listener or stream is None:
        return 200, None
    return 200, Arrived(source=source, stream=stream, received_ms=received_ms, event=event)


_mounts: tuple[conf.Settings | None, dict[str, Mapping[str, str]]] = (None, {})


def _streams(settings: conf.Settings, source: str) -> Mapping[str, str]:
    """mount -> slug of the source's streams, made once for these settings."""
    global _mounts
    if _mounts[0] is not settings:
        _mounts = (settings, {})
    known = _mounts[1]
    if source not in known:
        known[source] = registry.mounts(settings, source)
    return known[source]
