"""The two websocket consumers: the visitors' view and the staff's.

They speak and never listen: whatever a client sends closes its socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from channels.consumer import get_handler_name
from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import Error as DatabaseError

from .. import conf
from ..errors import AircoxMissing
from . import door, hub
from .fanout import Send, Socket
from .frames import View

CLOSE_SPOKE = 4400
CLOSE_SESSION = 4401
CLOSE_FORBIDDEN = 4403
CLOSE_UNKNOWN_STATION = 4404
CLOSE_UNAVAILABLE = 4503
"""Ours, after HTTP's. Of RFC 6455's own codes daphne lets an application send 1000 alone."""
STAFF_SECONDS = 3600.0
"""A staff socket lives this long; then the browser comes back and shows its session again."""


class LiveConsumer(AsyncWebsocketConsumer):
    """What every visitor may see of one station.

    Unlike other consumers it has no channel of its own and no task beside the
    server's: the hub sends to it.
    """

    view = View.PUBLIC

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
        self.scope = scope
        self.base_send = send
        self.task = asyncio.current_task()
        self.dropped = False
        self.client: bytes | None = None
        self.seated: hub.Hub | None = None
        self.feed: hub.Feed | None = None
        self.socket = Socket(send, drop=self.drop)
        try:
            while True:
                await self.dispatch(await receive())
        except StopConsumer:
            pass
        except asyncio.CancelledError:
            if not self.dropped:
                raise
        finally:
            self.stand_up()

    async def dispatch(self, message: Any) -> None:
        """Hands the server's message to its handler; no database connection is open to be closed."""
        await getattr(self, get_handler_name(message))(message)

    async def websocket_connect(self, message: Any) -> None:
        """Accepts, and gives the snapshot; or refuses with a close code."""
        code = await self.refusal()
        if code:
            await self.close(code)
            raise StopConsumer
        await self.accept()
        await self.feed.join(self.socket, self.view)

    async def websocket_receive(self, message: Any) -> None:
        """Closes, once: a client has nothing to say here."""
        if not self.socket.gone:
            self.socket.leave()
            await self.close(CLOSE_SPOKE)

    async def websocket_disconnect(self, message: Any) -> None:
        """Ends the consumer."""
        raise StopConsumer

    async def refusal(self) -> int:
        """0 when the client may come in, else the close code; the cheap questions come first."""
        settings = conf.get()
        headers = self.scope["headers"]
        origin = door.header(headers, b"origin")
        if not door.is_allowed(origin, host=door.asked_host(headers), allowed=settings.live.allowed_origins):
            return CLOSE_FORBIDDEN
        here = hub.current()
        self.client = door.client_key(self.scope, trusted_proxies=settings.trusted_proxies)
        code = here.take_seat(self.client)
        if code:
            return code
        self.seated = here
        try:
            if not await self.may_look():
                return CLOSE_FORBIDDEN
            station = await here.station(self.scope["url_route"]["kwargs"]["station"])
        except (DatabaseError, AircoxMissing):
            return CLOSE_UNAVAILABLE
        if station is None:
            return CLOSE_UNKNOWN_STATION
        self.feed = here.feed(station)
        return 0

    async def may_look(self) -> bool:
        """Whether this view is open to the client."""
        return conf.get().live.public or await self.is_house()

    async def is_house(self) -> bool:
        """Whether the client is logged in as one of the station's own."""
        return await database_sync_to_async(door.is_house)(self.scope.get("user"))

    def drop(self) -> None:
        """Cuts a client that does not take its frames.

        A close frame would wait behind the frames that it did not take, so the
        connection is aborted where the server lets us reach it, and else left
        to the server by ending here.
        """
        self.dropped = True
        transport = getattr(getattr(self.base_send, "__self__", None), "transport", None)
        with suppress(AttributeError):
            transport.abort()
        self.task.cancel()

    def stand_up(self) -> None:
        """Gives back the seat and the place in the circle."""
        if self.feed is not None:
            self.feed.leave(self.socket, self.view)
        if self.seated is not None:
            self.seated.free_seat(self.client)
            self.seated = None


class StaffConsumer(LiveConsumer):
    """What the staff may see: the same, with streams, countries and apps."""

    view = View.STAFF

    async def websocket_connect(self, message: Any) -> None:
        await super().websocket_connect(message)
        self.expiry = asyncio.get_running_loop().call_later(STAFF_SECONDS, self.expire)

    async def may_look(self) -> bool:
        return await self.is_house()

    def expire(self) -> None:
        """Sends the client away, to come back with a session that is still good."""
        self.socket.leave()
        self.expiring = asyncio.create_task(self.close(CLOSE_SESSION))

    def stand_up(self) -> None:
        if hasattr(self, "expiry"):
            self.expiry.cancel()
        super().stand_up()
