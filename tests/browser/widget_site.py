"""The example station over ASGI with its static files; websockets only when the environment says so."""

from __future__ import annotations

import os
from typing import Any

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from aircox_listen_stats.asgi import application as live

SOCKETS_VARIABLE = "LISTEN_STATS_TEST_SOCKETS"
"""Path of a file: while it exists, websockets are served."""

STRICT_POLICY = "default-src 'self'; script-src 'self'; style-src 'self'; connect-src 'self' ws:"
STRICT_QUERY = b"strict"
"""A page that is asked for with this query comes with the policy."""

_pages = ASGIStaticFilesHandler(live)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Pages and static files; a websocket is refused as a server without any would."""
    if scope["type"] == "http":
        await _pages(scope, receive, _with_policy(send) if scope["query_string"] == STRICT_QUERY else send)
    elif scope["type"] == "websocket" and not os.path.exists(os.environ[SOCKETS_VARIABLE]):
        await receive()
        await send({"type": "websocket.close"})
    else:
        await live(scope, receive, send)


def _with_policy(send: Any) -> Any:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"content-security-policy", STRICT_POLICY.encode())]
        await send(message)

    return sending
