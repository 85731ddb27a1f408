"""The producer's letters on the pages: the switch on her program's, and the way out that needs no login."""

from __future__ import annotations

import time

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from .. import conf
from ..models import Airing
from ..pipeline import letters
from ..pipeline.letter_mail import read_stop_token
from .access import for_people, reach_of

MS = 1000


@require_POST
@for_people
def switch(request: HttpRequest, program_id: int) -> HttpResponse:
    """Begins or stops letters about the program to whoever asks, and goes back to its page."""
    if not conf.get().letters.enabled or not reach_of(request.user).covers(program_id):
        return HttpResponse(status=403)
    if request.POST.get("wanted") == "yes":
        letters.subscribe(request.user.pk, program_id, now_ms=round(time.time() * MS))
    else:
        letters.unsubscribe(request.user.pk, program_id)
    return HttpResponseRedirect(reverse("listen_stats:program", args=[program_id]) + "#letters")


@csrf_exempt  # mail programs post here of their own accord, without a cookie (RFC 8058); the token says who may
@require_http_methods(["GET", "HEAD", "POST"])
def stop(request: HttpRequest, token: str) -> HttpResponse:
    """Asks whether the letters are to stop; a POST stops them. A GET never does: scanners follow links."""
    found = read_stop_token(token)
    if found is not None and request.method == "POST":
        letters.unsubscribe(*found)
    context = {
        "base_template": conf.get().base_template,
        "station": getattr(request, "station", None),
        "page": None,
        "program": "" if found is None else _title(found[1]),
        "is_known": found is not None,
        "is_wanted": found is not None and letters.is_wanted(*found),
    }
    response = render(request, "aircox_listen_stats/letters_stop.html", context, status=200 if found else 404)
    add_never_cache_headers(response)
    response["Referrer-Policy"] = "no-referrer"
    response["X-Robots-Tag"] = "noindex"
    return response


def _title(program_id: int) -> str:
    newest = Airing.objects.filter(program_id=program_id).exclude(program_title="").order_by("-started", "-id")
    return newest.values_list("program_title", flat=True).first() or ""
