"""The websocket side of the app: routes to include, and a whole ASGI application to wrap with.

Import it after ``get_asgi_application()`` was called, as with every Channels routing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import URLPattern, path, re_path

from . import conf
from .web.callbacks import callbacks_first, lifespan
from .web.consumers import CLOSE_UNKNOWN_STATION, LiveConsumer, StaffConsumer

ASGIApplication = Callable[[Any, Any, Any], Awaitable[None]]

_public = LiveConsumer.as_asgi()
_public_with_session = AuthMiddlewareStack(_public)


async def _live(scope: Any, receive: Any, send: Any) -> None:
    """The visitors' view; a session is looked up only where visitors are not let in."""
    await (_public if conf.get().live.public else _public_with_session)(scope, receive, send)


async def _no_such_route(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close", "code": CLOSE_UNKNOWN_STATION})


websocket_urlpatterns: list[URLPattern] = [
    path("ws/listen-stats/<slug:station>/", _live, name="listen_stats_live"),
    path(
        "ws/listen-stats/<slug:station>/staff/",
        AuthMiddlewareStack(StaffConsumer.as_asgi()),
        name="listen_stats_live_staff",
    ),
]
"""Origin, limits and sessions are checked inside: they need no middleware around them."""


def with_live(http: ASGIApplication, *more: URLPattern) -> ProtocolTypeRouter:
    """An ASGI application: ``http`` for pages, ours and ``more`` for websockets, callbacks before all of it.

    Websockets of any other path are refused, as an unknown page is.
    """
    routes = [*websocket_urlpatterns, *more, re_path("", _no_such_route)]
    parts = {"http": callbacks_first(http), "websocket": URLRouter(routes), "lifespan": lifespan}
    return ProtocolTypeRouter(parts)
