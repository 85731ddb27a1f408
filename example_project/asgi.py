"""The example station over ASGI: its pages, and the live count by websocket.

With DEBUG it serves the static files as well, as runserver would.
"""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
# Django first: the consumers below import models.
pages = get_asgi_application()

from django.conf import settings  # noqa: E402
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402

from aircox_listen_stats.routing import with_live  # noqa: E402

application = with_live(ASGIStaticFilesHandler(pages) if settings.DEBUG else pages)
