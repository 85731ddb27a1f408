"""The live count on real servers: uvicorn and daphne, with and without Redis, good clients and bad ones."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket as sockets
import time
import urllib.request
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from channels_redis.pubsub import RedisPubSubChannelLayer
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from aircox_listen_stats.web import frames
from tests.web import live_station

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]

APPLICATION = "aircox_listen_stats.asgi:application"
SERVERS = ("uvicorn", "daphne")
PATH = "/ws/listen-stats/campus/"
PREFIX = "of-this-test"
SOON_SECONDS = 60.0
"""Nobody waits so long where all is well."""
PROMPT_SECONDS = 1.5
POLLED_SECONDS = 3.5
"""Silence and a poll. At least one of some counts comes so soon, however busy the machine is."""
COUNTS = range(2, 7)


@pytest.fixture
def station(transactional_db):
    station = live_station.create()
    station.store(1)
    return station


@pytest.fixture(params=SERVERS)
def web_server(request, station, asgi_server, child_environment):
    """Our ASGI entry on each server; the channel layer is in that process and hears nobody."""
    return asgi_server(APPLICATION, server=request.param, environment=child_environment)


@pytest.fixture(params=SERVERS)
def server_on_redis(request, station, asgi_server, child_environment, private_redis):
    """The same with a Redis of this test alone between the collector and it."""
    environment = {
        **child_environment,
        "LISTEN_STATS_TEST_REDIS": private_redis.url,
        "LISTEN_STATS_TEST_REDIS_PREFIX": PREFIX,
    }
    return asgi_server(APPLICATION, server=request.param, environment=environment)


async def told(client, seconds: float = SOON_SECONDS) -> dict:
    async with asyncio.timeout(seconds):
        return json.loads(await client.recv())


async def told_until(client, listeners: int | None) -> float:
    """Seconds until the client was told that number."""
    begun = time.monotonic()
    async with asyncio.timeout(SOON_SECONDS):
        while json.loads(await client.recv())["listeners"] != listeners:
            pass
    return time.monotonic() - begun


@contextlib.asynccontextmanager
async def collector(url: str):
    """The collector's end of the channel layer."""
    layer = RedisPubSubChannelLayer(hosts=[{"address": url, "socket_timeout": None}], prefix=PREFIX)
    yield layer
    await layer.flush()


async def hears(client, layer, station, listeners: int) -> None:
    """Returns when the client was told that number through Redis: the hub may not have subscribed yet."""
    async with asyncio.timeout(SOON_SECONDS):
        while True:
            await layer.group_send(frames.group_name(station.id), station.message(listeners))
            with contextlib.suppress(TimeoutError):
                while (await told(client, PROMPT_SECONDS))["listeners"] != listeners:
                    pass
                return


async def test_the_snapshot_comes_at_once_and_changes_by_polling_the_database(web_server, station):
    async with connect(web_server.ws_url + PATH, origin=web_server.url) as client:
        assert (await told(client))["listeners"] == 1
        await sync_to_async(station.store)(2)
        await told_until(client, 2)


async def test_a_message_through_redis_arrives_within_a_second(server_on_redis, station, private_redis):
    """The database keeps 1: whatever else arrives came through Redis."""
    delays = []
    async with connect(server_on_redis.ws_url + PATH) as client, collector(private_redis.url) as layer:
        await told(client)
        await hears(client, layer, station, 100)
        for count in COUNTS:
            await layer.group_send(frames.group_name(station.id), station.message(count))
            delays.append(await told_until(client, count))
    assert min(delays) < PROMPT_SECONDS, delays


async def test_the_hub_hears_the_collector_again_after_redis_restarts(server_on_redis, station, private_redis):
    async with connect(server_on_redis.ws_url + PATH) as client:
        async with collector(private_redis.url) as layer:
            await told(client)
            await hears(client, layer, station, 2)
        await asyncio.to_thread(private_redis.stop)
        # Without Redis the count stays live, from the database.
        await sync_to_async(station.store)(3)
        await told_until(client, 3)
        await asyncio.to_thread(private_redis.restart)
        # The database keeps 3: whatever else arrives came through Redis.
        async with collector(private_redis.url) as layer:
            await hears(client, layer, station, 4)


async def test_the_count_becomes_unknown_when_nobody_collects(web_server, station):
    async with connect(web_server.ws_url + PATH) as client:
        assert (await told(client))["listeners"] == 1
        await sync_to_async(station.store)(1, stale_after_ms=4000)
        await told_until(client, None)


@pytest.mark.parametrize(
    ("path", "origin"),
    [(PATH, "https://evil.example"), ("/ws/listen-stats/nowhere/", None), (PATH + "staff/", None), ("/ws/x/", None)],
    ids=["another site", "unknown station", "staff only", "no such path"],
)
async def test_who_may_not_come_in_is_refused_before_the_socket_opens(web_server, path, origin):
    with pytest.raises(InvalidStatus) as refusal:
        async with connect(web_server.ws_url + path, origin=origin):
            pass
    assert refusal.value.response.status_code == 403


async def test_whatever_a_client_says_closes_its_socket(web_server):
    async with connect(web_server.ws_url + PATH) as client:
        await told(client)
        await client.send("hello")
        await client.send("anybody there?")
        with pytest.raises(ConnectionClosed) as closing:
            await told_until(client, -1)
        assert closing.value.rcvd.code == 4400
    assert "Exception" not in web_server.child.tail()


async def test_a_client_that_never_reads_delays_nobody(web_server, station):
    deaf = [_deaf_client(web_server.port) for _ in range(20)]
    async with connect(web_server.ws_url + PATH) as client:
        await told(client)
        delays = []
        for count in COUNTS:
            await sync_to_async(station.store)(count)
            delays.append(await told_until(client, count))
    assert min(delays) < POLLED_SECONDS, delays
    for one in deaf:
        one.close()


@pytest.mark.parametrize("name", SERVERS)
async def test_a_client_that_takes_nothing_is_dropped_while_others_go_on(name, station, asgi_server, child_environment):
    # Titles of this size fill the kernel's buffers within a few frames.
    server = asgi_server("tests.web.live_slow:application", server=name, environment=child_environment)
    await sync_to_async(_store_large)(station, 1)
    async with connect(server.ws_url + PATH, max_size=None) as client:
        await told(client)
        deaf = _deaf_client(server.port)
        assert await asyncio.to_thread(deaf.recv, 12, sockets.MSG_PEEK) == b"HTTP/1.1 101"
        begun, count = time.monotonic(), 1
        while _is_held(server.port, deaf):
            assert time.monotonic() - begun < 2 * SOON_SECONDS, "the deaf client is still connected"
            count += 1
            await sync_to_async(_store_large)(station, count)
            await told_until(client, count)
        count += 1
        await sync_to_async(_store_large)(station, count)
        await told_until(client, count)
    deaf.close()


def test_the_same_figures_are_there_as_json(web_server, station):
    # The page prefix of the example station.
    with urllib.request.urlopen(f"{web_server.url}/audience/live/campus.json") as answer:
        assert json.load(answer)["listeners"] == 1


def _deaf_client(port: int) -> sockets.socket:
    """A websocket that was opened and is never read."""
    client = sockets.socket()
    client.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(
        f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return client


def _is_held(port: int, client: sockets.socket) -> bool:
    """Whether the server still has the connection open; a client that does not read is told nothing of it.

    In Linux's table a connection that no process holds any longer has the inode 0.
    """
    ours, theirs = f":{port:04X}", f":{client.getsockname()[1]:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(ours) and row[2].endswith(theirs) and row[9] != "0" for row in rows)


def _store_large(station, listeners: int) -> None:
    from aircox_listen_stats.models import LiveState

    payload = station.payload(listeners)
    payload["public"]["on_air"]["title"] = "x" * 2_000_000
    LiveState.objects.update_or_create(
        station_id=station.id, defaults={"published": payload["at_ms"], "payload": payload}
    )
