"""The example station over ASGI with its static files, every answer under a strict policy."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

settings.AIRCOX_LISTEN_STATS = {**settings.AIRCOX_LISTEN_STATS, "LETTERS": {"site": "https://radio.example"}}

STRICT_POLICY = b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'"

_pages = ASGIStaticFilesHandler(get_asgi_application())


async def application(scope: Any, receive: Any, send: Any) -> None:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"content-security-policy", STRICT_POLICY)]
        await send(message)

    await _pages(scope, receive, sending)
