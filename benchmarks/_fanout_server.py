"""The two applications that benchmarks/fanout.py compares: our routing, and Channels' own group_send."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks._fanout_settings")

from django.core.asgi import get_asgi_application

http = get_asgi_application()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import re_path  # noqa: E402

from aircox_listen_stats.routing import with_live  # noqa: E402

PEER_GROUP = "fanout-peer"


class GroupConsumer(AsyncWebsocketConsumer):
    """What Channels' tutorial shows: each socket joins the group and sends what it is handed.

    The text comes encoded, so that it has no JSON to pay for.
    """

    groups = [PEER_GROUP]

    async def live_frame(self, message: dict[str, Any]) -> None:
        await self.send(text_data=message["public"])


hub = with_live(http)
group_send = ProtocolTypeRouter({"http": http, "websocket": URLRouter([re_path("", GroupConsumer.as_asgi())])})
