"""The live figures as JSON: for stations without ASGI, and for whoever writes their own widget."""

from __future__ import annotations

import hashlib

from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.views.decorators.http import require_safe

from .. import conf
from ..errors import AircoxMissing, MalformedRecord
from ..onair import aircox
from . import door, frames
from .frames import View
from .hub import wall_ms

MAX_AGE_SECONDS = 1
"""How long a cache in front may answer in our place: the rate of the websocket."""
RETRY_SECONDS = 10


@require_safe
def live(request: HttpRequest, station: str) -> HttpResponseBase:
    """The visitors' view of the station; 404 for an unknown one, 403 where visitors are not let in."""
    settings = conf.get().live
    if not settings.public and not door.is_house(request.user):
        return _refused("The live count of this station is not public. Log in as staff.", status=403)
    response = _answer(request, station, View.PUBLIC)
    scope = "public" if settings.public else "private"
    response["Cache-Control"] = f"{scope}, max-age={MAX_AGE_SECONDS}"
    return response


@require_safe
def staff(request: HttpRequest, station: str) -> HttpResponseBase:
    """The staff's view of the station; 403 for everybody else."""
    if not door.is_house(request.user):
        return _refused("This view is for the staff. Log in first.", status=403)
    response = _answer(request, station, View.STAFF)
    response["Cache-Control"] = "private, no-store"
    return response


def _answer(request: HttpRequest, slug: str, view: View) -> HttpResponseBase:
    now_ms = wall_ms()
    try:
        station = aircox.log().station(slug)
        frame = frames.read(station.id) if station is not None else None
    except (AircoxMissing, DatabaseError, MalformedRecord):
        response = _refused("The live figures cannot be read at the moment.", status=503)
        response["Retry-After"] = str(RETRY_SECONDS)
        return response
    if station is None:
        return _refused("No such station. Its slug stands in the admin.", status=404)
    frame = frame or frames.nothing_heard(slug, now_ms=now_ms)
    body = frames.encode(frame.shown(view, now_ms=now_ms)).encode()
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    full = HttpResponse(body, content_type="application/json", headers={"ETag": etag})
    response = get_conditional_response(request, etag=etag, response=full) or full
    if view is View.PUBLIC:
        _share(request, response)
    return response


def _share(request: HttpRequest, response: HttpResponseBase) -> None:
    """Lets the pages of LIVE's allowed_origins read the answer (without cookies)."""
    patch_vary_headers(response, ["Origin"])
    origin = request.headers.get("Origin", "")
    allowed = conf.get().live.allowed_origins
    if origin and door.is_allowed(origin, host="", allowed=allowed):
        response["Access-Control-Allow-Origin"] = "*" if "*" in allowed else origin


def _refused(message: str, *, status: int) -> JsonResponse:
    return JsonResponse({"error": message}, status=status, headers={"Cache-Control": "no-store"})
