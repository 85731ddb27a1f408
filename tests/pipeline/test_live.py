"""The live figures: known or unknown, told when they changed, never in anybody's way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from channels.layers import BaseChannelLayer

from aircox_listen_stats.fields import from_ms
from aircox_listen_stats.models import Inbox, LiveState, Session, SourceState, Stream
from aircox_listen_stats.pipeline import inbox, live
from aircox_listen_stats.pipeline.ingest import store
from aircox_listen_stats.sources.urlauth import UrlAuthSource
from aircox_listen_stats.web import frames

from .conftest import SETTINGS, at, heard, poll, told
from .scripted import OneStation
from .test_rollup import airing

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def station(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.aircox, "log", OneStation)


def now(seconds: float) -> live.LiveFigures:
    return live.figures(1, now_ms=at(seconds))


def test_listeners_are_counted_once_whatever_their_sockets(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "EXCLUDE": {"monitor_agents": ["Probe"]}}
    Stream.objects.create(slug="low", station_id=1, source="ice")
    shown = [
        heard(1, 0, 15, who=1),
        heard(2, 10, 15, who=1),  # its probe
        heard(3, 0, 15, who=1, stream="low"),  # the same listener on the other stream
        heard(4, 0, 15, who=2),
        heard(5, 0, 15, who=3, agent="Probe/1"),  # excluded
    ]
    store(poll(15, *shown, streams=("live", "low")), now_ms=at(15))
    figures = now(16)
    assert figures.listeners == 2
    assert [(one.slug, one.listeners) for one in figures.streams] == [("live", 2), ("low", 1)]
    assert figures.apps == (("VLC", 2),)


def test_nobody_is_zero_and_a_silent_source_is_unknown_never_zero(stream: Stream) -> None:
    assert now(0).listeners is None
    store(poll(15), now_ms=at(15))
    assert now(16).listeners == 0
    assert now(74).listeners == 0
    stale = now(75)
    assert stale.listeners is None
    assert stale.staff()["streams"][0]["listeners"] is None
    assert stale.countries == ()


def test_a_station_is_known_only_while_every_stream_is(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "SOURCES": {**SETTINGS["SOURCES"], "other": SETTINGS["SOURCES"]["ice"]}}
    Stream.objects.create(slug="far", station_id=1, source="other")
    store(poll(15, heard(1, 0, 15)), now_ms=at(15))
    figures = now(16)
    assert figures.listeners is None
    assert {one.slug: one.listeners for one in figures.streams} == {"live": 1, "far": None}
    SourceState.objects.create(source="other", heard=from_ms(at(10)))
    assert now(16).listeners == 1


def test_a_stream_that_is_only_known_afterwards_makes_nothing_unknown(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {
        **SETTINGS,
        "SOURCES": {**SETTINGS["SOURCES"], "log": {"backend": "accesslog", "path": "/var/log/icecast2/access.log"}},
    }
    Stream.objects.create(slug="archive", station_id=1, source="log")
    store(poll(15, heard(1, 0, 15)), now_ms=at(15))
    assert now(16).listeners == 1
    assert {one.slug: one.listeners for one in now(16).streams} == {"live": 1, "archive": None}


def test_a_source_that_is_only_told_who_left_never_says_nobody(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "SOURCES": {"ice": {"backend": "urlauth"}}}
    source = UrlAuthSource("ice", {"/live.mp3": "live"}, {})
    mark = {"listener": 5, "previous": None, "country": "", "app": "", "exclusion": "", "rule": ""}

    def callback(seconds: float, **payload: Any) -> None:
        received = from_ms(at(seconds))
        Inbox.objects.create(source="ice", received=received, payload={"stream": "live", "mark": mark, **payload})
        state = SourceState.objects.filter(pk="ice").first()
        report = inbox.report(source, state.cursor if state else {}, now_ms=at(seconds + 1))
        assert report is not None
        store(report, now_ms=at(seconds + 1))

    callback(10, action="listener_remove", client="3", duration_s=5)
    assert now(12).listeners is None
    callback(20, action="listener_add", client="4", duration_s=None)
    assert now(22).listeners == 1


def test_the_count_is_unknown_until_a_backlog_of_callbacks_is_worked_off(
    stream: Stream, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector was down for an hour: most of those it remembers have left, which it has yet to read."""
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "SOURCES": {"ice": {"backend": "urlauth"}}}
    monkeypatch.setattr(inbox, "BATCH", 2)
    source = UrlAuthSource("ice", {"/live.mp3": "live"}, {})
    mark = {"previous": None, "country": "", "app": "", "exclusion": "", "rule": ""}

    def callback(seconds: float, client: int, **payload: Any) -> None:
        payload |= {"stream": "live", "client": str(client), "mark": {**mark, "listener": client}}
        Inbox.objects.create(source="ice", received=from_ms(at(seconds)), payload=payload)

    def drain(seconds: float) -> None:
        state = SourceState.objects.filter(pk="ice").first()
        report = inbox.report(source, state.cursor if state else {}, now_ms=at(seconds))
        assert report is not None
        store(report, now_ms=at(seconds))

    for client in (1, 2):
        callback(client, client, action="listener_add", duration_s=None)
    drain(5)
    drain(6)
    assert now(7).listeners == 2
    for client in (1, 2):
        callback(600 + client, client, action="listener_remove", duration_s=600)
    callback(700, 3, action="listener_add", duration_s=None)
    assert now(3600).listeners is None
    drain(3600)
    assert now(3601).listeners is None, "there is more to read"
    drain(3601)
    assert now(3602).listeners == 1


def test_a_listener_in_a_gap_of_a_session_is_not_there(stream: Stream) -> None:
    store(poll(100, heard(1, 0, 100)), now_ms=at(100))
    store(poll(115), now_ms=at(115))
    assert now(116).listeners == 0
    store(poll(200, heard(2, 190, 200, who=1)), now_ms=at(200))
    assert Session.objects.count() == 1
    assert now(201).listeners == 1


def test_after_an_hour_without_a_collector_nobody_of_before_is_shown(stream: Stream) -> None:
    store(poll(100, heard(1, 0, 100), heard(2, 0, 100)), now_ms=at(100))
    assert now(3700).listeners is None
    store(told(heard(3, 3690, 3690)), now_ms=at(3700))  # a callback of the same server comes first
    assert now(3700).listeners is None
    store(poll(3710, heard(2, 0, 3710), heard(3, 3690, 3710)), now_ms=at(3710))
    assert now(3711).listeners == 2


def test_the_frame_says_until_when_it_holds(stream: Stream) -> None:
    store(poll(15), now_ms=at(15))
    assert now(20).holds_ms == 55_000
    assert now(500).holds_ms == 60_000


def test_on_air_is_the_diffusion_with_its_track(stream: Stream) -> None:
    airing(0, 3600, title="Episode 7", program_title="Morning", program_id=4, diffusion_id=9, is_live=True)
    airing(0, 200, layer="sound", title="a file")
    airing(30, 90, layer="track", title="Song", artist="Band")
    on_air = now(60).public()["on_air"]
    assert on_air == {
        "title": "Episode 7",
        "program": "Morning",
        "program_id": 4,
        "diffusion_id": 9,
        "started": "2026-11-22T10:00:00.000Z",
        "ends": "2026-11-22T11:00:00.000Z",
        "live": True,
        "track": {"title": "Song", "artist": "Band"},
    }
    assert now(100).on_air["track"] is None  # type: ignore[index]
    assert now(3600).on_air is None


def test_what_is_told_is_what_the_web_side_reads(stream: Stream) -> None:
    store(poll(15, heard(1, 0, 15)), now_ms=at(15))
    airing(0, 3600, title="x")
    live.Publisher().publish(1, now_ms=at(16))
    frame = frames.read(1)
    assert frame is not None
    assert frame.public["listeners"] == 1
    assert not frame.is_stale(at(74))
    assert frame.is_stale(at(75))


def test_it_is_told_at_most_once_a_second_when_changed_and_every_ten_seconds(stream: Stream) -> None:
    publisher = live.Publisher()
    store(poll(15), now_ms=at(15))
    assert publisher.publish(1, now_ms=at(16))
    assert not publisher.publish(1, now_ms=at(17))  # nothing new
    store(told(heard(1, 17, 17)), now_ms=at(17))
    assert publisher.publish(1, now_ms=at(17.1))
    store(told(heard(2, 17.2, 17.2)), now_ms=at(17.2))
    assert not publisher.publish(1, now_ms=at(17.5))  # too soon
    assert publisher.publish(1, now_ms=at(18.1))
    assert not publisher.publish(1, now_ms=at(28))
    assert publisher.publish(1, now_ms=at(28.1))
    assert LiveState.objects.get().payload["public"]["listeners"] == 2
    assert publisher.publish(1, now_ms=at(5))  # the clock went back


class StuckLayer(BaseChannelLayer):
    """A layer whose server is dead: it takes for ever, then fails."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.has_failed = threading.Event()

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.asked += 1
        while not self.has_failed.is_set():
            await asyncio.sleep(0.01)
        raise ConnectionError("gone")


class NotingLayer(BaseChannelLayer):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, dict[str, Any]]] = []

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.sent.append((group, message))


def test_a_dead_channel_layer_holds_nobody_up(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = StuckLayer()
    monkeypatch.setattr(live, "get_channel_layer", lambda: layer)
    monkeypatch.setattr(live, "SEND_SECONDS", 60)
    publisher = live.Publisher()
    for seconds in range(30):
        store(poll(seconds, *(heard(client, 0, seconds) for client in range(seconds))), now_ms=at(seconds))
        assert publisher.publish(1, now_ms=at(seconds))
        assert publisher.sender.failed == 0, "it was waited for"
    soon(lambda: layer.asked == 1)
    assert len(publisher.sender._waiting) == 1
    layer.has_failed.set()
    soon(lambda: publisher.sender.failed >= 1)
    publisher.close()


def test_a_send_is_given_up_in_time(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "get_channel_layer", StuckLayer)
    monkeypatch.setattr(live, "SEND_SECONDS", 0.1)
    publisher = live.Publisher()
    store(poll(15, heard(1, 0, 15)), now_ms=at(15))
    publisher.publish(1, now_ms=at(16))
    soon(lambda: publisher.sender.failed == 1)
    publisher.close()


def soon(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def test_the_message_is_one_per_station_with_both_views(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = NotingLayer()
    monkeypatch.setattr(live, "get_channel_layer", lambda: layer)
    store(poll(15, heard(1, 0, 15)), now_ms=at(15))
    publisher = live.Publisher()
    publisher.publish(1, now_ms=at(16))
    soon(lambda: bool(layer.sent))
    publisher.close()
    [(group, message)] = layer.sent
    assert group == frames.group_name(1)
    assert message["type"] == "live.frame"
    assert frames.from_message(message).staff["streams"][0]["listeners"] == 1


def test_no_open_session_is_forgotten_by_the_count(stream: Stream) -> None:
    store(poll(15, *(heard(client, 0, 15, who=client) for client in range(1, 40))), now_ms=at(15))
    assert now(16).listeners == 39 == Session.objects.open().count()
