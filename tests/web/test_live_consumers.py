"""The websocket of the live count: who gets in, what is told, and how fast."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client

from aircox_listen_stats.onair import aircox
from aircox_listen_stats.routing import with_live
from aircox_listen_stats.web import consumers, fanout, frames, hub
from tests.web import live_station

pytestmark = pytest.mark.django_db(transaction=True)

PUBLIC = "/ws/listen-stats/campus/"
STAFF = "/ws/listen-stats/campus/staff/"
SOON_SECONDS = 30.0
"""Nobody waits so long where all is well."""
QUIET_SECONDS = 0.3


@pytest.fixture(autouse=True)
def fresh_layer(settings):
    # A layer belongs to an event loop, and each test has its own.
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}


@pytest.fixture
def station(transactional_db):
    return live_station.create()


class Clock:
    """The clock of the hub and of its fan-out: it stands still, however slow the machine is, until the test goes on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed_seconds = 0.0
        began_ms, began_seconds = live_station.now_ms(), time.monotonic()
        monkeypatch.setattr(hub, "wall_ms", lambda: began_ms + round(self.passed_seconds * 1000))
        here = SimpleNamespace(monotonic=lambda: began_seconds + self.passed_seconds)
        for module in (hub, fanout):
            monkeypatch.setattr(module, "time", here)

    def forward(self, seconds: float) -> None:
        self.passed_seconds += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


async def turns(number: int = 50) -> None:
    """Lets everything that is ready go on, however slow the machine is."""
    for _ in range(number):
        await asyncio.sleep(0)


def configure(settings, **live):
    settings.AIRCOX_LISTEN_STATS = {"LIVE": live}


def socket(path: str = PUBLIC, *, client: str = "192.0.2.7", **headers: str) -> WebsocketCommunicator:
    named = {"host": "radio.example", **headers}
    communicator = WebsocketCommunicator(
        with_live(None),
        path,
        headers=[(name.replace("_", "-").encode(), value.encode()) for name, value in named.items()],
    )
    communicator.scope["client"] = [client, 4711]
    return communicator


async def opened(path: str = PUBLIC, **kwargs) -> WebsocketCommunicator:
    communicator = socket(path, **kwargs)
    connected, code = await communicator.connect(SOON_SECONDS)
    assert connected, f"refused with {code}"
    return communicator


async def refused(path: str = PUBLIC, **kwargs) -> int:
    connected, code = await socket(path, **kwargs).connect(SOON_SECONDS)
    assert not connected, "the socket was accepted"
    return code


async def told(communicator: WebsocketCommunicator) -> dict:
    return json.loads(await communicator.receive_from(SOON_SECONDS))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)


async def is_quiet(communicator: WebsocketCommunicator, seconds: float = QUIET_SECONDS) -> bool:
    return await communicator.receive_nothing(timeout=seconds)


async def login(**kwargs) -> str:
    """The cookie header of a logged-in user."""

    def log_in() -> str:
        user = get_user_model().objects.create_user("dj", password="x", **kwargs)
        if not user.is_staff:
            user.user_permissions.add(Permission.objects.get(codename="view_all_audiences"))
        client = Client()
        client.force_login(user)
        return f"sessionid={client.cookies['sessionid'].value}"

    return await sync_to_async(log_in)()


# What is told


async def test_the_snapshot_comes_at_once(station):
    await sync_to_async(station.store)(42)
    visitor = await opened()
    payload = await told(visitor)
    assert (payload["station"], payload["listeners"], payload["on_air"]["title"]) == ("campus", 42, "Morgenröte")
    assert "streams" not in payload
    await visitor.disconnect()


async def test_a_station_that_was_never_counted_is_unknown_and_not_zero(station):
    visitor = await opened()
    assert (await told(visitor))["listeners"] is None
    await visitor.disconnect()


async def test_a_message_of_the_collector_reaches_every_socket(station, clock):
    await sync_to_async(station.store)(1)
    visitors = [await opened(client=f"192.0.2.{number}") for number in range(1, 20)]
    assert [(await told(one))["listeners"] for one in visitors] == [1] * 19
    clock.forward(1.0)
    await station.send(2)
    assert [(await told(one))["listeners"] for one in visitors] == [2] * 19
    for one in visitors:
        await one.disconnect()


async def test_a_socket_hears_at_most_one_message_a_second_and_the_last_one_wins(station, clock):
    await sync_to_async(station.store)(0)
    visitor = await opened()
    arrived = [(clock.passed_seconds, (await told(visitor))["listeners"])]

    async def read() -> None:
        while True:
            payload = await told(visitor)
            arrived.append((clock.passed_seconds, payload["listeners"]))

    reading = asyncio.create_task(read())
    for count in range(1, 36):
        clock.forward(0.125)
        await station.send(count)
        await turns()
    clock.forward(1.0)
    await until(lambda: arrived[-1][1] == 35)
    reading.cancel()
    assert arrived == [(0.0, 0), (1.0, 8), (2.0, 16), (3.0, 24), (4.0, 32), (5.375, 35)]


async def test_a_socket_that_has_just_come_waits_its_second_too(station, clock):
    await sync_to_async(station.store)(1)
    first = await opened()
    await told(first)
    clock.forward(0.5)
    second = await opened(client="192.0.2.8")
    await told(second)
    clock.forward(0.5)
    await station.send(2)
    assert (await told(first))["listeners"] == 2
    assert await is_quiet(second)
    clock.forward(0.5)
    assert (await told(second))["listeners"] == 2
    await first.disconnect()
    await second.disconnect()


async def test_unchanged_figures_are_not_sent_again_but_after_a_while(station, clock):
    await sync_to_async(station.store)(5)
    visitor = await opened()
    await told(visitor)
    for _ in range(5):
        clock.forward((hub.REPEAT_SECONDS - 1) / 5)
        await station.send(5)
        assert await is_quiet(visitor)
    clock.forward(1)
    assert (await told(visitor))["listeners"] == 5
    await visitor.disconnect()


async def test_the_count_becomes_unknown_when_the_collector_falls_silent(station, clock):
    await sync_to_async(station.store)(7, at_ms=hub.wall_ms())
    visitor = await opened()
    assert (await told(visitor))["listeners"] == 7
    clock.forward(live_station.STALE_MS / 1000 - 1)
    assert (await told(visitor))["listeners"] == 7  # it is repeated
    clock.forward(1)
    payload = await told(visitor)
    assert payload["listeners"] is None
    assert payload["on_air"]["title"] == "Morgenröte"
    clock.forward(1)
    await station.send(8, at_ms=hub.wall_ms())
    assert (await told(visitor))["listeners"] == 8
    await visitor.disconnect()


async def test_a_snapshot_that_is_stale_already_is_unknown(station):
    await sync_to_async(station.store)(7, at_ms=live_station.now_ms() - 61_000)
    visitor = await opened()
    assert (await told(visitor))["listeners"] is None
    await visitor.disconnect()


@pytest.mark.parametrize("layer", ["none", "in-process"])
async def test_without_news_by_the_layer_the_database_is_read_every_second(station, settings, layer):
    if layer == "none":
        settings.CHANNEL_LAYERS = {}
    await sync_to_async(station.store)(1)
    visitor = await opened()
    await told(visitor)
    await sync_to_async(station.store)(2)  # as another process would, whose layer is its own
    assert (await told(visitor))["listeners"] == 2
    await visitor.disconnect()


async def test_a_message_of_another_shape_changes_nothing(station, clock, caplog):
    await sync_to_async(station.store)(1)
    visitor = await opened()
    await told(visitor)
    await get_channel_layer().group_send(frames.group_name(station.id), {"type": "live.frame", "public": "{"})
    clock.forward(1.0)
    await station.send(2)
    assert (await told(visitor))["listeners"] == 2
    assert "MalformedRecord" in caplog.text
    await visitor.disconnect()


async def test_the_channel_layer_may_fail_and_come_back(station, monkeypatch):
    monkeypatch.setattr(hub, "BACK_OFF_SECONDS", (0.1,))
    layer = get_channel_layer()
    real_receive, asked = layer.receive, []

    async def receive(channel: str) -> dict:
        asked.append(channel)
        if len(asked) == 1:
            raise ConnectionError("gone")
        return await real_receive(channel)

    monkeypatch.setattr(layer, "receive", receive)
    await sync_to_async(station.store)(1)
    visitor = await opened()
    await told(visitor)
    await until(lambda: len(asked) == 2)
    await station.send(3)
    assert (await told(visitor))["listeners"] == 3
    await visitor.disconnect()


# One subscription, one query


async def test_many_sockets_cost_one_subscription_and_one_query_of_each_kind(station, monkeypatch):
    await sync_to_async(station.store)(1)
    asked = []

    def counted(function):
        def count(*args):
            asked.append(function.__name__)
            return function(*args)

        return count

    monkeypatch.setattr(frames, "read", counted(frames.read))
    monkeypatch.setattr(aircox, "log", counted(aircox.log))
    visitors = await asyncio.gather(*(opened(client=f"192.0.2.{number}") for number in range(1, 101)))
    for one in visitors:
        assert (await told(one))["listeners"] == 1
    assert sorted(asked) == ["log", "read"]
    assert len(get_channel_layer().groups[frames.group_name(station.id)]) == 1
    for one in visitors:
        await one.disconnect()


async def test_the_subscription_ends_a_little_after_the_last_socket(station, monkeypatch):
    monkeypatch.setattr(hub, "LINGER_SECONDS", 3600)
    visitor = await opened()
    await told(visitor)
    here = hub.current()
    group = frames.group_name(station.id)
    assert group in get_channel_layer().groups
    assert here.seats == 1
    await visitor.disconnect()
    assert here.seats == 0
    assert station.id in here.feeds
    monkeypatch.setattr(hub, "LINGER_SECONDS", 0.1)
    await (await opened()).disconnect()
    await until(lambda: here.feeds == {} and group not in get_channel_layer().groups)


async def test_a_quick_return_keeps_the_subscription(station, monkeypatch):
    monkeypatch.setattr(hub, "LINGER_SECONDS", 3600)
    await (await opened()).disconnect()
    feed = hub.current().feeds[station.id]
    visitor = await opened()
    loop = asyncio.get_running_loop()
    before = loop.time
    monkeypatch.setattr(loop, "time", lambda: before() + hub.LINGER_SECONDS)
    await asyncio.sleep(0.1)  # whatever was to come by then has come
    assert hub.current().feeds[station.id] is feed
    await visitor.disconnect()


# Who gets in


async def test_an_unknown_station_is_refused(station):
    assert await refused("/ws/listen-stats/nowhere/") == consumers.CLOSE_UNKNOWN_STATION == 4404


async def test_an_unknown_path_is_refused(station):
    assert await refused("/ws/elsewhere/") == 4404


@pytest.mark.parametrize("path", [PUBLIC, STAFF])
async def test_a_page_of_another_site_is_refused(station, path):
    assert await refused(path, origin="https://evil.example") == consumers.CLOSE_FORBIDDEN == 4403


async def test_a_page_of_an_allowed_origin_gets_in(station, settings):
    configure(settings, allowed_origins=["https://player.example"])
    visitor = await opened(origin="https://player.example")
    await visitor.disconnect()


async def test_a_page_of_the_site_gets_in(station):
    visitor = await opened(origin="https://radio.example")
    await visitor.disconnect()


async def test_the_staff_view_is_denied_to_visitors(station):
    assert await refused(STAFF) == 4403


@pytest.mark.parametrize("who", [{"is_staff": True}, {"is_staff": False}], ids=["staff", "permission"])
async def test_the_staff_view_has_streams_countries_and_apps(station, who):
    await sync_to_async(station.store)(9)
    one = await opened(STAFF, cookie=await login(**who))
    payload = await told(one)
    assert (payload["streams"][0]["listeners"], payload["countries"], payload["apps"]) == (9, [["BE", 9]], [["VLC", 9]])
    await one.disconnect()


async def test_a_user_who_was_switched_off_is_denied(station):
    cookie = await login(is_staff=True)
    await sync_to_async(get_user_model().objects.update)(is_active=False)
    assert await refused(STAFF, cookie=cookie) == 4403


async def test_a_staff_socket_is_sent_away_to_show_its_session_again(station, monkeypatch):
    monkeypatch.setattr(consumers, "STAFF_SECONDS", 0.1)
    one = await opened(STAFF, cookie=await login(is_staff=True))
    await told(one)
    assert (await one.receive_output(SOON_SECONDS))["code"] == consumers.CLOSE_SESSION == 4401
    await one.disconnect()


async def test_a_count_that_is_not_public_is_shown_to_staff_alone(station, settings):
    configure(settings, public=False)
    assert await refused() == 4403
    one = await opened(cookie=await login(is_staff=True))
    assert "streams" not in await told(one)
    await one.disconnect()


@pytest.mark.parametrize("said", [{"text_data": "hello"}, {"bytes_data": b"\x00"}])
async def test_whatever_a_client_says_closes_its_socket(station, said):
    visitor = await opened()
    await told(visitor)
    await visitor.send_to(**said)
    await visitor.send_to(**said)
    closing = await visitor.receive_output(SOON_SECONDS)
    assert (closing["type"], closing["code"]) == ("websocket.close", 4400)
    await asyncio.sleep(1.0)
    await station.send(5)
    assert await is_quiet(visitor)
    await visitor.disconnect()
    assert hub.current().seats == 0


async def test_one_address_has_a_limit_and_a_seat_that_is_given_back_can_be_taken(station, settings):
    configure(settings, max_connections_per_address=2)
    first, second = await opened(), await opened()
    assert await refused() == hub.CLOSE_TOO_MANY == 4429
    other = await opened(client="192.0.2.8")
    await first.disconnect()
    third = await opened()
    for one in (second, other, third):
        await one.disconnect()
    assert hub.current().seats == 0


async def test_behind_a_proxy_the_limit_holds_for_the_address_that_the_proxy_saw(station, settings):
    settings.AIRCOX_LISTEN_STATS = {
        "LIVE": {"max_connections_per_address": 1},
        "TRUSTED_PROXIES": ["198.51.100.0/24"],
    }
    proxy = {"client": "198.51.100.1"}
    first = await opened(**proxy, x_forwarded_for="192.0.2.7")
    second = await opened(**proxy, x_forwarded_for="192.0.2.8")
    assert await refused(**proxy, x_forwarded_for="203.0.113.5, 192.0.2.7") == 4429
    for one in (first, second):
        await one.disconnect()


async def test_a_process_has_a_limit(station, settings):
    configure(settings, max_connections=1)
    first = await opened()
    assert await refused(client="192.0.2.8") == hub.CLOSE_FULL == 4503
    await first.disconnect()


async def test_a_refused_socket_keeps_no_seat(station):
    await refused("/ws/listen-stats/nowhere/")
    await refused(STAFF)
    assert hub.current().seats == 0


async def test_a_warning_about_limits_names_no_address(station, settings, caplog):
    configure(settings, max_connections_per_address=0)
    assert await refused() == 4429
    assert "TRUSTED_PROXIES" in caplog.text
    assert "192.0.2" not in caplog.text


async def test_invented_slugs_do_not_fill_the_memory(station):
    here = hub.current()
    for number in range(hub.SLUGS + 20):
        assert await here.station(f"nowhere-{number}") is None
    assert len(here._stations) <= hub.SLUGS
