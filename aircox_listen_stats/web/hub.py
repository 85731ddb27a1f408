"""The hub: one per process and event loop, between the collector and every open socket.

A station costs a process one channel-layer subscription, however many sockets
listen, and each frame is encoded once for each view. Where the channel layer
says nothing, one query a second keeps the count live all the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import Error as DatabaseError

from .. import conf
from ..errors import AircoxMissing, MalformedRecord
from ..onair import aircox
from ..onair.base import StationRef
from . import frames
from .fanout import LAST_WORD_SECONDS, Circle, Socket
from .frames import Frame, View

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.25
"""How often a feed looks whether something is due."""
REPEAT_SECONDS = 15.0
"""Unchanged figures are sent again after this time: the widget takes a line that is silent
for three times as long for dead."""
SILENCE_SECONDS = 2.0
"""After this time without a channel-layer message the feed reads the database itself."""
POLL_SECONDS = 1.0
"""How often it does so while the silence lasts."""
RENEW_SECONDS = 300.0
"""How often the group membership is renewed: it heals a Redis that forgot it, and the layer's
``group_expiry`` (24 h in channels_redis) never comes."""
BACK_OFF_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses before the next try to subscribe; the last one from then on."""
FAREWELL_SECONDS = 2.0
"""How long leaving a group may take; a dead Redis must not hold up the end of a feed."""
LINGER_SECONDS = 5.0
"""A feed outlives its last socket by this time: a page change must not resubscribe."""
STATION_SECONDS = 30.0
"""How long the answer to "which station has this slug" is kept."""
SLUGS = 256
"""How many such answers are kept: invented slugs must not fill the memory."""

WARN_SECONDS = 60.0
"""At most one warning about refused sockets in this time."""

CLOSE_TOO_MANY = 4429
CLOSE_FULL = 4503
"""Ours, after HTTP's 429 and 503: this address, or this process, has too many sockets."""


def wall_ms() -> int:
    """Now, in whole milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


class Feed:
    """One station in one process: what is known of it, and who wants to see it."""

    def __init__(self, station: StationRef, *, ended: Callable[[Feed], None]) -> None:
        self.station = station
        self.frame = frames.nothing_heard(station.slug, now_ms=wall_ms())
        # The staff first: the studio does not wait for thousands of visitors.
        self.circles = {View.STAFF: Circle(), View.PUBLIC: Circle()}
        self._told: dict[View, frames.Payload] = {}
        self._ended = ended
        self._news = asyncio.Event()
        self._heard_at = float("-inf")
        self._linger: asyncio.TimerHandle | None = None
        self._troubles: set[str] = set()
        self._ready = asyncio.create_task(self._begin())
        self._tasks = [asyncio.create_task(part) for part in (self._show(), self._listen(), self._poll())]

    async def join(self, socket: Socket, view: View) -> None:
        """Takes the socket in; it has the snapshot when this returns."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        # However many join at once, the database was asked once.
        await asyncio.shield(self._ready)
        if not socket.gone:
            self.circles[view].welcome(socket)

    def leave(self, socket: Socket, view: View) -> None:
        """Lets the socket go; after the last one the feed ends, a little later."""
        socket.leave()
        self.circles[view].sockets.pop(socket, None)
        if self._is_empty() and self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._end)

    def hear(self, frame: Frame) -> None:
        """Takes ``frame`` as the last word on the station."""
        self.frame = frame
        self._news.set()

    def _is_empty(self) -> bool:
        return not any(circle.sockets for circle in self.circles.values())

    def _end(self) -> None:
        self._linger = None
        if self._is_empty():
            for task in self._tasks:
                task.cancel()
            self._ended(self)

    async def _begin(self) -> None:
        await self._read()
        self._compose(time.monotonic())

    async def _show(self) -> None:
        """Sends what is new, once a second at most, and what has become stale."""
        await self._ready
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._news.wait()
            self._news.clear()
            now = time.monotonic()
            self._compose(now)
            for circle in self.circles.values():
                await circle.send(now=now)

    def _compose(self, now: float) -> None:
        """Announces to each view what it was not told yet, unless it is too early to."""
        for view, circle in self.circles.items():
            if now - circle.announced_at < LAST_WORD_SECONDS:
                continue
            payload = self.frame.shown(view, now_ms=wall_ms())
            figures = frames.figures(payload)
            if figures != self._told.get(view) or now - circle.announced_at >= REPEAT_SECONDS:
                self._told[view] = figures
                circle.announce(frames.encode(payload), now=now)

    async def _listen(self) -> None:
        """Hears the collector through the channel layer, and comes back after every failure."""
        layer = get_channel_layer()
        failures = 0
        while layer is not None:
            heard_before = self._heard_at
            try:
                await self._subscribed(layer)
            except Exception as error:  # noqa: BLE001 - each layer has its own errors, and the feed outlives all
                failures = failures + 1 if self._heard_at == heard_before else 0
                self._trouble("channel layer", error)
            await asyncio.sleep(BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)])

    async def _subscribed(self, layer: Any) -> None:
        group = frames.group_name(self.station.id)
        channel = await layer.new_channel()
        await layer.group_add(group, channel)
        renewing = asyncio.create_task(self._renew(layer, group, channel))
        try:
            while True:
                message = await layer.receive(channel)
                self._trouble("channel layer", None)
                try:
                    self.hear(frames.from_message(message))
                except MalformedRecord as error:
                    self._trouble("frame", error)
                else:
                    self._heard_at = time.monotonic()
        finally:
            renewing.cancel()
            with suppress(Exception):
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await layer.group_discard(group, channel)

    async def _renew(self, layer: Any, group: str, channel: str) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await layer.group_add(group, channel)
            except Exception as error:  # noqa: BLE001 - as above; the next renewal comes
                self._trouble("channel layer", error)

    async def _poll(self) -> None:
        """Reads the database while the channel layer is silent, absent or another process's own."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if time.monotonic() - self._heard_at >= SILENCE_SECONDS:
                await self._read()

    async def _read(self) -> None:
        asked_at = time.monotonic()
        try:
            frame = await database_sync_to_async(frames.read)(self.station.id)
        except (DatabaseError, MalformedRecord) as error:
            self._trouble("database", error)
            return
        self._trouble("database", None)
        # What the layer said in the meantime is younger than what was read.
        if frame is not None and self._heard_at < asked_at:
            self.hear(frame)

    def _trouble(self, what: str, error: Exception | None) -> None:
        """Logs the begin and the end of a trouble, not its every second."""
        if error is None and what in self._troubles:
            self._troubles.discard(what)
            logger.info("Live feed of station %s: the %s is back.", self.station.id, what)
        elif error is not None and what not in self._troubles:
            self._troubles.add(what)
            logger.warning(
                "Live feed of station %s: trouble with the %s (%s). It goes on trying; see docs/live.md.",
                self.station.id,
                what,
                type(error).__name__,
            )


class Hub:
    """The feeds of one event loop, its seats, and which station a slug means."""

    def __init__(self) -> None:
        self.feeds: dict[int, Feed] = {}
        self.seats = 0
        self._seats_of: Counter[bytes] = Counter()
        self._stations: dict[str, tuple[float, asyncio.Task[StationRef | None]]] = {}
        self._warned_at = float("-inf")

    def take_seat(self, client: bytes | None) -> int:
        """0 when there is room for one more socket of ``client``, else the close code."""
        live = conf.get().live
        if self.seats >= live.max_connections:
            self._warn("MAX_CONNECTIONS (%d) are open in this process.", live.max_connections)
            return CLOSE_FULL
        if client is not None and self._seats_of[client] >= live.max_connections_per_address:
            self._warn(
                "One address holds max_connections_per_address (%d). A proxy belongs into TRUSTED_PROXIES.",
                live.max_connections_per_address,
            )
            return CLOSE_TOO_MANY
        self.seats += 1
        if client is not None:
            self._seats_of[client] += 1
        return 0

    def free_seat(self, client: bytes | None) -> None:
        """Gives back a seat that was taken."""
        self.seats -= 1
        if client is not None:
            self._seats_of[client] -= 1
            if not self._seats_of[client]:
                del self._seats_of[client]

    async def station(self, slug: str) -> StationRef | None:
        """The station of that slug, or None; asked once, however many want to know at the same time."""
        now = time.monotonic()
        known = self._stations.get(slug)
        if known is None or now - known[0] >= STATION_SECONDS:
            self._stations.pop(slug, None)
            while len(self._stations) >= SLUGS:
                del self._stations[next(iter(self._stations))]
            known = (now, asyncio.create_task(_find(slug)))
            self._stations[slug] = known
        try:
            return await asyncio.shield(known[1])
        except (DatabaseError, AircoxMissing):
            self._stations.pop(slug, None)  # no answer is not an answer to keep
            raise

    def feed(self, station: StationRef) -> Feed:
        """The feed of that station, begun if this is its first socket."""
        if station.id not in self.feeds:
            self.feeds[station.id] = Feed(station, ended=self._forget)
        return self.feeds[station.id]

    def _forget(self, feed: Feed) -> None:
        if self.feeds.get(feed.station.id) is feed:
            del self.feeds[feed.station.id]

    def _warn(self, message: str, *values: object) -> None:
        now = time.monotonic()
        if now - self._warned_at >= WARN_SECONDS:
            self._warned_at = now
            logger.warning("A live socket was refused: " + message, *values)


_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = weakref.WeakKeyDictionary()


def current() -> Hub:
    """The hub of the running event loop."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())


def _find(slug: str) -> Coroutine[Any, Any, StationRef | None]:
    return database_sync_to_async(lambda: aircox.log().station(slug))()
