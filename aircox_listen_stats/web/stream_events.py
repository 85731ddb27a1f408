"""Stream events over HTTP: taken in batches, read back in pages. docs/sources/stream_events.md tells how.

Nothing of a body is logged, and no answer quotes one: addresses stand in it.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from typing import Any

import msgspec
from django.core.handlers.asgi import ASGIRequest
from django.db import Error as DatabaseError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from .. import conf
from ..errors import ConfigurationError, place_of
from ..fields import to_ms
from ..models import IngestToken
from ..pipeline import blurs, stream_events, tokens
from ..reports.stream_events import EventQuery, chunks
from ..sources import registry
from ..sources.stream_events import NoList, StreamEventsSource
from .hub import wall_ms
from .pace import Pace
from .tables import in_turn

__all__ = ["events", "ingest"]

log = logging.getLogger(__name__)

DEFAULT_LIMIT = 1_000
MOST_LIMIT = 100_000
RETRY_SECONDS = 5
READ_BYTES = 64 * 1024
LONGEST_TOKEN = 256
SLUG = "^[-a-zA-Z0-9_]{1,64}$"
LONGEST_ID = 18
"""Digits of a cursor that both databases can hold."""

View = Callable[..., HttpResponseBase]


class Refused(Exception):
    """A request that is answered with an error: its status and its words."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


token_pace = Pace()


def _endpoint(method: str, scope: str) -> Callable[[View], View]:
    """A view for programs: one method, a token with ``scope``, errors as JSON."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @transaction.non_atomic_requests
        @wraps(view)
        def answered(request: HttpRequest) -> HttpResponseBase:
            try:
                if request.method != method:
                    raise Refused(405, f"Use {method}.", Allow=method)
                now_ms = wall_ms()
                return view(request, _token(request, scope, now_ms), now_ms)
            except Refused as refused:
                return _answer({"error": refused.message}, refused.status, refused.headers)
            except DatabaseError as error:
                # Not its text: it may quote a row.
                log.warning("Stream events wait: the database takes none (%s).", place_of(error))
                return _answer(
                    {"error": "The database cannot be used at the moment. Send the same again later: it counts once."},
                    503,
                    {"Retry-After": str(RETRY_SECONDS)},
                )

        answered.login_required = False  # type: ignore[attr-defined]  # Django 5.1's middleware: we have tokens
        return answered

    return decorate


@_endpoint("POST", IngestToken.INGEST)
def ingest(request: HttpRequest, token: IngestToken, now_ms: int) -> HttpResponseBase:
    """Takes a batch: 200 where nothing was refused, 207 where some or all of the events were."""
    source = _source(token)
    limits = conf.get().ingest
    try:
        taken = stream_events.take(source, _body(request, limits), most_events=limits.max_events, now_ms=now_ms)
    except NoList as error:
        raise Refused(400, f"{error} Expected a JSON list of events.") from None
    except stream_events.TooManyEvents as error:
        raise Refused(413, str(error)) from None
    blurs.look_in_time(now_ms=now_ms)
    return _answer(taken, 207 if taken.refused else 200)


@_endpoint("GET", IngestToken.READ)
def events(request: HttpRequest, token: IngestToken, now_ms: int) -> HttpResponseBase:
    """Streams a page of events; ``next`` is the address of the following one, or null."""
    query = _query(request, token)
    pieces = _page(request, query)
    # Under ASGI Django would gather a plain iterator first and warn of it.
    content: Any = in_turn(pieces) if isinstance(request, ASGIRequest) else pieces
    return StreamingHttpResponse(content, content_type="application/json", headers={"Cache-Control": "no-store"})


# Who asks -------------------------------------------------------------------------------------------


def _token(request: HttpRequest, scope: str, now_ms: int) -> IngestToken:
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() not in ("token", "bearer") or not text.strip():
        raise Refused(401, "Send the header 'Authorization: Token …'.", WWW_Authenticate="Token")
    row = tokens.valid(text.strip(), now_ms=now_ms) if len(text) <= LONGEST_TOKEN else None
    if row is None:
        raise Refused(
            401,
            "Unknown, expired or revoked token. listen_stats_token makes a new one.",
            WWW_Authenticate='Token error="invalid_token"',
        )
    if scope not in row.scopes.split():
        raise Refused(403, f"This token has the scopes {row.scopes!r}; this needs {scope!r}.")
    wait_seconds = token_pace.take(row.pk, per_minute=conf.get().ingest.requests_per_minute, now_ms=now_ms)
    if wait_seconds:
        raise Refused(
            429, "Too many requests with this token. Send larger batches.", Retry_After=str(math.ceil(wait_seconds))
        )
    tokens.note_use(row, now_ms=now_ms)
    return row


_built: tuple[conf.Settings, dict[str, StreamEventsSource]] | None = None


def _source(token: IngestToken) -> StreamEventsSource:
    """The source that the token tells, built once for each settings."""
    global _built
    settings = conf.get()
    if _built is None or _built[0] is not settings:
        _built = (settings, {})
    found = _built[1].get(token.source)
    if found is None:
        try:
            made = registry.source(settings, token.source)
        except ConfigurationError:
            made = None
        if not isinstance(made, StreamEventsSource):
            raise Refused(403, f"The token's source {token.source!r} is no source of stream events in the settings.")
        found = _built[1][token.source] = made
    return found


# What is sent ---------------------------------------------------------------------------------------


def _body(request: HttpRequest, limits: conf.IngestSettings) -> bytes:
    if request.content_type != "application/json":
        raise Refused(415, f"Content-Type is {request.content_type[:64]!r}; expected application/json.")
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip"):
        raise Refused(
            415, f"Content-Encoding is {encoding[:32]!r}; expected gzip, or none.", Accept_Encoding="gzip, identity"
        )
    length = request.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > limits.max_bytes:
        raise _too_large(limits.max_bytes)
    body = b"".join(_read(request, limits.max_bytes))
    return _inflated(body, limits.max_inflated_bytes) if encoding == "gzip" else body


def _read(request: HttpRequest, most: int) -> Iterator[bytes]:
    total = 0
    while piece := request.read(READ_BYTES):
        total += len(piece)
        if total > most:
            raise _too_large(most)
        yield piece


def _inflated(body: bytes, most: int) -> bytes:
    """The body unpacked, never more than ``most`` bytes of it."""
    found = bytearray()
    while body:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)  # 16: gzip's header and checksum
        try:
            found += unpacker.decompress(body, most - len(found) + 1)
        except zlib.error:
            raise Refused(400, "The body is no gzip, though Content-Encoding says so.") from None
        if len(found) > most:
            raise _too_large(most)
        if not unpacker.eof:
            raise Refused(400, "The gzip body is cut.")
        body = unpacker.unused_data  # a gzip file may have several members
    return bytes(found)


def _too_large(most: int) -> Refused:
    return Refused(413, f"More than {most} bytes. Send smaller batches.")


# What is read ---------------------------------------------------------------------------------------


def _query(request: HttpRequest, token: IngestToken) -> EventQuery:
    asked = request.GET
    return EventQuery(
        after=_number(asked.get("cursor", "0"), "cursor", 0, 10**LONGEST_ID - 1),
        limit=_number(asked.get("limit", str(DEFAULT_LIMIT)), "limit", 1, MOST_LIMIT),
        source=token.source,
        stream=_slug(asked.get("stream")),
        from_ms=_instant(asked.get("from"), "from"),
        to_ms=_instant(asked.get("to"), "to"),
    )


def _slug(told: str | None) -> str:
    if told is not None and not re.fullmatch(SLUG, told):
        raise Refused(400, "stream is no slug of a stream.")
    return told or ""


def _number(told: str, name: str, least: int, most: int) -> int:
    if not (told.isascii() and told.isdigit() and len(told) <= LONGEST_ID and least <= int(told) <= most):
        raise Refused(400, f"{name} is no number from {least} to {most}.")
    return int(told)


def _instant(told: str | None, name: str) -> int | None:
    if told is None:
        return None
    try:
        at = dt.datetime.fromisoformat(told.replace(" ", "+") if "T" in told else told)  # a + that nobody quoted
        if at.tzinfo is None:
            at = at.replace(tzinfo=conf.get().zone)
        return to_ms(at)
    except (ValueError, OverflowError):
        raise Refused(400, f"{name} is no day or instant such as 2026-11-22 or 2026-11-22T10:00:00Z.") from None


def _page(request: HttpRequest, query: EventQuery) -> Iterator[bytes]:
    """The page in pieces; which one is next is known at its end."""
    yield b'{"results":['
    count, last = 0, query.after
    for some in chunks(query):
        yield (b"," if count else b"") + b",".join(map(_encode, some))
        count += len(some)
        last = some[-1].id
    more = count == query.limit and any(chunks(replace(query, after=last, limit=1)))
    yield b'],"next":%s,"cursor":"%d"}' % (_encode(_next(request, last) if more else None), last)


_encode = msgspec.json.Encoder().encode


def _next(request: HttpRequest, last: int) -> str:
    asked = request.GET.copy()
    asked["cursor"] = str(last)
    return request.build_absolute_uri(f"{request.path}?{asked.urlencode()}")


def _answer(told: object, status: int, headers: dict[str, str] | None = None) -> HttpResponse:
    response = HttpResponse(
        _encode(told), content_type="application/json", status=status, headers={"Cache-Control": "no-store"}
    )
    for name, value in (headers or {}).items():
        response[name] = value
    response._has_been_logged = True  # a wrong token is no news for the log
    return response
