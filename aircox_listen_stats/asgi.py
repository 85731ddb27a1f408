"""An ASGI entry for a station that has none: ``uvicorn aircox_listen_stats.asgi:application``.

DJANGO_SETTINGS_MODULE names the station's settings (aircox: ``instance.settings``).
A station with an entry of its own wraps it with ``routing.with_live`` instead.
"""

from __future__ import annotations

from django.core.asgi import get_asgi_application

_http = get_asgi_application()

from .routing import with_live  # noqa: E402 - the apps must be loaded first

application = with_live(_http)
