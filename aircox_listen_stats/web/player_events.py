"""Where web players tell of themselves: answered after one durable write, worked on by the collector.

A page first asks (GET) for a visit, a random number that we sign and that
expires; what it then tells (POST) names that visit and counts. An event is
thus taken once: the database refuses a count that it has, for longer than the
visit is valid. Nothing is kept on the visitor's device, and nothing of
whoever says Do Not Track or Global Privacy Control.
"""

from __future__ import annotations

import logging
import math
import secrets as entropy
from collections.abc import Hashable
from typing import Annotated, Any

import msgspec
from django.core import signing
from django.db import Error as DatabaseError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt

from .. import conf
from ..errors import AircoxMissing
from ..fields import from_ms
from ..kernel.identity import KEY_BITS
from ..kernel.player import LATENESS_MS, PlayerState
from ..kernel.types import Address, ListenerMark
from ..models import PlayerEvent
from ..onair import aircox
from ..pipeline import blurs, households, media, secrets
from ..pipeline.players import VISIT_SECONDS
from ..sources.urlauth import beyond_proxies
from . import door
from .hub import wall_ms
from .pace import Pace

__all__ = ["MAX_BODY_BYTES", "Told", "player_events"]

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 4096
"""An event with the longest address allowed, three bytes a character, and room to spare."""

MOST_EVENTS = 10_000
"""Of one visit: each time that one comes, all of them are looked at. A day of playing has some 3,000."""

DAY_MS = 24 * 3600 * 1000
"""No recording is longer."""

TYPES = ("application/json", "text/plain")
"""The second is what ``navigator.sendBeacon`` sends."""

RETRY_SECONDS = 10
PREFLIGHT_SECONDS = 24 * 3600
SALT = "aircox_listen_stats.player.visit"

LOOPBACK = "127.0.0.1"
LOOPBACK_NETWORKS = ("127.0.0.0/8", "::1/128")
"""This machine itself, and a Unix socket, are a proxy of the station's."""

visit_pace = Pace()
listener_pace = Pace()
address_pace = Pace()
"""The bound: who asks may invent any number of visits and agents, but not of addresses."""

Milliseconds = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of one event."""

    visit: Annotated[str, msgspec.Meta(max_length=128)]
    sequence: Annotated[int, msgspec.Meta(ge=0, lt=MOST_EVENTS)]
    state: PlayerState
    src: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    position_ms: Milliseconds | None = None
    duration_ms: Milliseconds | None = None
    age_ms: Annotated[int, msgspec.Meta(ge=0, lt=2**53)] = 0


class _Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, *, wait_seconds: float = 0) -> None:
        super().__init__(message)
        self.status = status
        self.wait_seconds = wait_seconds


@csrf_exempt
@transaction.non_atomic_requests
def player_events(request: HttpRequest) -> HttpResponse:
    """GET: 200 with a visit. POST: 204. Both: 204 and nothing kept for who does not want to be counted.

    400, 403, 404, 405, 413, 415, 429 and 503 come with a JSON ``error``.
    """
    try:
        response = _answer(request, now_ms=wall_ms())
    except _Refused as refused:
        response = JsonResponse({"error": str(refused)}, status=refused.status)
        if refused.wait_seconds:
            response["Retry-After"] = str(math.ceil(refused.wait_seconds))
        if refused.status == 405:
            response["Allow"] = "GET, POST, OPTIONS"
    response["Cache-Control"] = "no-store"
    return _shared(request, response)


player_events.login_required = False  # type: ignore[attr-defined]  # Django 5.1's middleware: visitors have none


def _answer(request: HttpRequest, *, now_ms: int) -> HttpResponse:
    settings = conf.get().player
    if not settings.enabled:
        raise _Refused(404, "Web players are not heard here. To hear them, set PLAYER's 'enabled'.")
    if not _is_from_allowed_page(request):
        raise _Refused(403, "Pages of this origin may not tell of players. PLAYER's 'allowed_origins' names those.")
    if request.method == "OPTIONS":
        return HttpResponse(status=204)
    if request.method not in ("GET", "POST"):
        raise _Refused(405, f"{request.method} is not allowed here. Allowed: GET, POST, OPTIONS.")
    if request.headers.get("DNT") == "1" or request.headers.get("Sec-GPC") == "1":
        return HttpResponse(status=204)
    # Before all else of it is looked at; those whose address nobody tells us share a turn.
    _take_turn(address_pace, _address_key(request), settings.address_events_per_minute, now_ms)
    if request.method == "GET":
        _take_turn(listener_pace, _mark(request, now_ms).listener, settings.listener_events_per_minute, now_ms)
        return JsonResponse({"visit": _signed(entropy.randbits(KEY_BITS)), "expires_in": VISIT_SECONDS})
    told = _told(request)
    visit = _visit(told.visit)
    _take_turn(visit_pace, visit, settings.events_per_minute, now_ms)
    mark = _mark(request, now_ms)
    _take_turn(listener_pace, mark.listener, settings.listener_events_per_minute, now_ms)
    _keep(told, visit, mark, now_ms)
    blurs.look_in_time(now_ms=now_ms)
    return HttpResponse(status=204)


def _told(request: HttpRequest) -> Told:
    if request.content_type not in TYPES:
        raise _Refused(415, f"The body is not of a known type. Allowed: {', '.join(TYPES)}.")
    length = request.headers.get("Content-Length", "")
    is_too_long = length.isdigit() and int(length) > MAX_BODY_BYTES
    body = b"" if is_too_long else request.read(MAX_BODY_BYTES + 1)
    if is_too_long or len(body) > MAX_BODY_BYTES:
        raise _Refused(413, f"The body is longer than {MAX_BODY_BYTES} bytes.")
    try:
        given = msgspec.json.decode(body, type=dict[str, str | int | float | None])
        return msgspec.convert({name: _whole(value) for name, value in given.items()}, Told)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _Refused(400, f"The body is not an event: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    """What is wrong, without what was sent: it may hold anything."""
    text = str(error)
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if text.startswith("Invalid enum value"):
        return f"`state` is none of {', '.join(PlayerState)}"
    if text.startswith("Object contains unknown field"):
        return f"it has an unknown field. Known: {', '.join(Told.__struct_fields__)}"
    return text


def _whole(value: Any) -> Any:
    """1.0 is a whole number to JSON Schema, and to no programmer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _keep(told: Told, visit: int, mark: ListenerMark, now_ms: int) -> None:
    """The one durable write. An event that is there already is left as it is."""
    try:
        stream_id, sound_id = media.medium_of(told.src, aircox.log(), now_ms=now_ms)
        if stream_id is None and sound_id is None:
            raise _Refused(404, "Neither a stream nor a sound of this station has that address.")
        event = PlayerEvent(
            visit=visit,
            sequence=told.sequence,
            state=told.state,
            # Our clock; of the player's only how long ago, and that within limits.
            at=from_ms(now_ms - min(told.age_ms, LATENESS_MS)),
            stream_id=stream_id,
            sound_id=sound_id,
            position_ms=_within_a_day(told.position_ms) if sound_id is not None else None,
            duration_ms=_within_a_day(told.duration_ms) if sound_id is not None else None,
            listener=mark.listener,
            country=mark.country,
            app=mark.app,
            exclusion=mark.exclusion,
            rule=mark.rule,
        )
        PlayerEvent.objects.bulk_create([event], ignore_conflicts=True)
    except (AircoxMissing, DatabaseError) as error:
        # Not the error's text: it may quote a row.
        log.warning("What a web player told could not be written (%s).", type(error).__name__)
        raise _Refused(503, "Nothing can be written at the moment.", wait_seconds=RETRY_SECONDS) from None


def _within_a_day(time_ms: int | None) -> int | None:
    return None if time_ms is None else min(time_ms, DAY_MS)


def _take_turn(pace: Pace, key: Hashable, per_minute: int, now_ms: int) -> None:
    wait_seconds = pace.take(key, per_minute=per_minute, now_ms=now_ms)
    if wait_seconds:
        raise _Refused(429, f"More than {per_minute} events in a minute.", wait_seconds=wait_seconds)


def _address_key(request: HttpRequest) -> bytes | None:
    peer, forwarded = request.META.get("REMOTE_ADDR", ""), request.headers.get("X-Forwarded-For", "")
    return door.address_key(peer, forwarded, trusted_proxies=conf.get().trusted_proxies)


def _mark(request: HttpRequest, now_ms: int) -> ListenerMark:
    """Who it is. The address ends here."""
    proxies = (*LOOPBACK_NETWORKS, *conf.get().trusted_proxies)
    peer = request.META.get("REMOTE_ADDR") or LOOPBACK
    ip, _ = beyond_proxies(peer, request.headers.get("X-Forwarded-For", ""), proxies)
    address = Address(ip=ip, agent=request.headers.get("User-Agent", ""))
    try:
        return households.mark(address, secrets.current(now_ms))
    except DatabaseError as error:
        log.warning("Who plays could not be made out (%s).", type(error).__name__)
        raise _Refused(503, "Nothing can be written at the moment.", wait_seconds=RETRY_SECONDS) from None


# Visits --------------------------------------------------------------------------------------------


def _signed(visit: int) -> str:
    return signing.TimestampSigner(salt=SALT).sign(f"{visit:x}")


def _visit(token: str) -> int:
    """The visit that we signed not too long ago."""
    try:
        return int(signing.TimestampSigner(salt=SALT).unsign(token, max_age=VISIT_SECONDS), 16)
    except signing.BadSignature:
        raise _Refused(403, "The visit is not one of ours, or is over. GET this address for a new one.") from None


# Other sites' pages --------------------------------------------------------------------------------


def _is_from_allowed_page(request: HttpRequest) -> bool:
    allowed = conf.get().player.allowed_origins
    return door.is_allowed(request.headers.get("Origin", ""), host=request.get_host(), allowed=allowed)


def _shared(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Lets the pages of PLAYER's allowed_origins ask and read (without cookies)."""
    patch_vary_headers(response, ["Origin"])
    origin = request.headers.get("Origin", "")
    if origin and _is_from_allowed_page(request):
        response["Access-Control-Allow-Origin"] = origin
        if request.method == "OPTIONS":
            response["Access-Control-Allow-Methods"] = "GET, POST"
            response["Access-Control-Allow-Headers"] = "Content-Type"
            response["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
    return response
