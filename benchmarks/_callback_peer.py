"""The ordinary way to take a callback: a Django view that writes a row and answers, under gunicorn."""

from __future__ import annotations

import hmac

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402

from aircox_listen_stats.models import Inbox  # noqa: E402
from benchmarks._callback_settings import TOKEN  # noqa: E402


@csrf_exempt
def callback(request: HttpRequest, token: str) -> HttpResponse:
    """Checks the token, keeps what was told, admits."""
    if not hmac.compare_digest(token, TOKEN):
        return HttpResponse(status=404)
    told = request.POST
    payload = {"action": told["action"], "client": told["client"], "stream": told["mount"]}
    payload |= {"duration_s": told.get("duration"), "app": told["agent"]}
    Inbox.objects.create(source="peer", received=timezone.now(), payload=payload)
    return HttpResponse(headers={"icecast-auth-user": "1", "Content-Length": "0"})


urlpatterns = [path("callback/<str:token>/", callback)]
