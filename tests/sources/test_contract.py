"""Every source keeps the contract that a third party's source inherits."""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest

from aircox_listen_stats.kernel.types import ListenerMark
from aircox_listen_stats.sources import urlauth
from aircox_listen_stats.sources.accesslog import AccessLogSource
from aircox_listen_stats.sources.azuracast import AzuraCastSource
from aircox_listen_stats.sources.hls import HlsSource
from aircox_listen_stats.sources.icecast import IcecastSource
from aircox_listen_stats.sources.icecast_totals import IcecastTotalsSource
from aircox_listen_stats.sources.player_events import PlayerEventsSource
from aircox_listen_stats.sources.registry import backend, short_names
from aircox_listen_stats.sources.shoutcast import ShoutcastSource
from aircox_listen_stats.sources.stream_events import StreamEventsSource
from aircox_listen_stats.sources.urlauth import UrlAuthSource
from aircox_listen_stats.testing import PolledContract, PullContract, PushContract, SourceContract
from tests.sources import player_recording

DATA = Path(__file__).resolve().parent.parent / "data"
ICECAST, AZURACAST, SHOUTCAST, HLS = DATA / "icecast", DATA / "azuracast", DATA / "shoutcast", DATA / "hls"
PASSWORD = "tr0ub4dor-and-3"


class TestIcecast(PolledContract):
    source_class = IcecastSource
    streams = {"/live.mp3": "live"}
    options = {"url": "http://localhost:9", "password": PASSWORD}
    hidden = ("127.0.0.1", "127.0.2.", "VLC/", "Mozilla", PASSWORD)

    def answer(self, request: httpx.Request) -> httpx.Response:
        name = "sample_admin_stats.xml" if request.url.path == "/admin/stats" else "sample_listclients_live.mp3.xml"
        return httpx.Response(200, content=(ICECAST / name).read_bytes())


class TestIcecastKh(PolledContract):
    source_class = IcecastSource
    streams = {"/live.mp3": "live"}
    options = {"url": "http://localhost:9", "password": PASSWORD}
    hidden = ("192.0.2.", "2001:db8", "VLC/", "Sonos", "bob", PASSWORD)

    def answer(self, request: httpx.Request) -> httpx.Response:
        name = "kh_stats.xml" if request.url.path == "/admin/stats" else "kh_listclients.xml"
        return httpx.Response(200, content=(ICECAST / name).read_bytes())


class TestIcecastEdges(TestIcecastKh):
    options = {"urls": ["http://localhost:9", "http://edge.localhost:9"], "password": PASSWORD}
    address_option = "urls"
    address_is_list = True


class TestIcecastTotals(PolledContract):
    source_class = IcecastTotalsSource
    streams = {"/live.mp3": "live", "/hidden.mp3": "hidden"}
    options = {"url": "http://localhost:9"}
    hidden = ("lab.localhost", "Lab Orchestra")
    hears_somebody = False

    def answer(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=(ICECAST / "status-json.json").read_bytes())


class TestAzuraCast(PolledContract):
    source_class = AzuraCastSource
    streams = {"/radio.mp3": "live", "/low.mp3": "low"}
    options = {"url": "http://localhost:9", "station": 1, "api_key": PASSWORD}
    hidden = ("192.0.2.", "2001:db8", "198.51.100.", "VLC/", "Sonos", PASSWORD)

    def answer(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["X-API-Key"] == PASSWORD
        return httpx.Response(200, content=(AZURACAST / "listeners.json").read_bytes())


class TestAzuraCastWithNobody(TestAzuraCast):
    hears_somebody = False

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/api/nowplaying/"):
            return httpx.Response(200, content=(AZURACAST / "nowplaying_nobody.json").read_bytes())
        return httpx.Response(200, json=[])


class TestShoutcast(PolledContract):
    source_class = ShoutcastSource
    streams = {"1": "live"}
    options = {"url": "http://localhost:9", "password": PASSWORD}
    hidden = ("192.0.2.", "203.0.113.", "Winamp", "Mozilla", PASSWORD)
    ending = "json"

    def answer(self, request: httpx.Request) -> httpx.Response:
        assert request.url.params["mode"] == f"view{self.ending}"
        name = {"1": "summary", "3": "listeners"}[request.url.params["page"]]
        return httpx.Response(200, content=(SHOUTCAST / f"{name}_2.6.{self.ending}").read_bytes())


class TestShoutcastByXml(TestShoutcast):
    options = {**TestShoutcast.options, "format": "xml"}
    ending = "xml"


class TestShoutcastWithNobody(TestShoutcast):
    hears_somebody = False

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.params["page"] == "3":
            return httpx.Response(200, json=[])
        return httpx.Response(200, content=(SHOUTCAST / "summary_nobody.json").read_bytes())


class TestAccessLog(PullContract):
    source_class = AccessLogSource
    streams = {"/live.mp3": "live", "/low.mp3": "low"}
    options = {"path": str(ICECAST / "icecast_access.log"), "start_at": "beginning"}
    hidden = ("127.0.0.1", "127.0.2.", "VLC/", "icecast_access.log")
    now_ms = 1_795_313_600_000

    @pytest.fixture(autouse=True)
    def folder(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as name:
            self.path = Path(name)
            yield

    def failing(self) -> Iterable[tuple[str, Any]]:
        yield "no such file", self.source(path=str(self.path / "icecast_access.log"))
        yield "a folder", self.source(path=str(self.path))
        if os.geteuid() != 0:  # root may read everything
            closed = self.path / "closed.log"
            closed.touch(mode=0)
            yield "not ours to read", self.source(path=str(closed))


class TestHls(TestAccessLog):
    source_class = HlsSource
    streams = {"/hls/live.m3u8": "live"}
    options = {"path": str(HLS / "nginx_hls_json.log"), "start_at": "beginning", "target_seconds": 3}
    hidden = ("127.0.4.", "hls.js", "Mozilla", "A1B2C3D4", "b-twin", "bq-77", "nginx_hls_json.log")


class TestHlsCombined(TestHls):
    """nginx's own format, of which three clients and more are told apart by address and agent alone."""

    options = {**TestHls.options, "path": str(HLS / "nginx_hls_combined.log")}
    hidden = ("127.0.4.", "hls.js", "Mozilla", "b-twin", "bq-77", "nginx_hls_combined.log")


class TestUrlAuth(PushContract):
    source_class = UrlAuthSource
    streams = {"/live.mp3": "live"}
    hidden = ("192.0.2.7", "VLC/3.0.20", PASSWORD)

    def payloads(self) -> Sequence[Mapping[str, Any]]:
        return [self.payload(b"listener_add"), self.payload(b"listener_remove", b"&duration=295")]

    def payload(self, action: bytes, more: bytes = b"") -> Mapping[str, Any]:
        form = b"&client=54&mount=%2flive%2emp3&user=&pass=" + PASSWORD.encode() + b"&ip=192%2e0%2e2%2e7"
        event = urlauth.parse_body(b"action=" + action + form + b"&agent=VLC%2f3%2e0%2e20" + more)
        kept = urlauth.payload_of(event, stream="live", mark=ListenerMark(listener=7, country="BE", app="VLC"))
        self.assert_hidden(json.dumps(kept), "what waits in the Inbox")
        return kept

    def malformed(self) -> Sequence[Any]:
        good = self.payload(b"listener_remove", b"&duration=295")
        lacking = [{key: value for key, value in good.items() if key != name} for name in good]
        wrong = [{**good, "duration_s": -1}, {**good, "duration_s": None}, {**good, "client": 54}, {**good, "mark": 1}]
        return [{}, None, [], *(one for one in lacking if "identity_known" in one), *wrong]


class TestStreamEvents(PushContract):
    source_class = StreamEventsSource
    streams = {"/live.mp3": "live", "/hls/live.m3u8": "live-hls"}
    options = {"target_seconds": 4}
    hidden = ("192.0.2.7", "2001:db8", "198.51.100.20", "Sonos", "AppleCoreMedia", "7C1AC2F5", "favicon", "sid=abc")

    def payloads(self) -> Sequence[Mapping[str, Any]]:
        return json.loads((DATA / "stream_events" / "batch.json").read_text())

    def malformed(self) -> Sequence[Any]:
        cases = json.loads((DATA / "stream_events" / "malformed.json").read_text())
        return [case["event"] for case in cases]


class TestPlayerEvents(PushContract):
    source_class = PlayerEventsSource
    streams = {"/live.mp3": "live"}
    hidden = ("127.0.0.1", "Mozilla/5.0", "radio.mp3")
    received_ms = max(now_ms for _, now_ms in player_recording.stretches())

    def payloads(self) -> Sequence[Mapping[str, Any]]:
        kept = [row for row, _ in player_recording.stretches()]
        assert {row["ended"] for row in kept} == {True, False}
        self.assert_hidden(json.dumps(kept), "what waits in the Inbox")
        return kept

    def malformed(self) -> Sequence[Any]:
        good = self.payloads()[-1]
        lacking = [{key: value for key, value in good.items() if key != name} for name in good]
        wrong = [{**good, "started_ms": "1"}, {**good, "ended": 1}, {**good, "client": 54}, {**good, "mark": 1}]
        before, after = {**good, "seen_ms": good["started_ms"] - 1}, {**good, "seen_ms": self.received_ms + 60_000}
        return [{}, None, [], *lacking, *wrong, before, after, *self.told()]

    def told(self) -> Iterator[Any]:
        """What players send, well-formed or not, is no row of the Inbox: it has an address, and no listener."""
        yield from (json.loads(body) for body in player_recording.bodies())
        for case in player_recording.malformed():
            with contextlib.suppress(ValueError, RecursionError):
                yield json.loads(case["body"])


def test_every_source_is_under_the_contract() -> None:
    """Here, or in a test file of its own."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("test_"):
            import_module(f"{__package__}.{module.name}")
    tested = {kind.source_class for kind in vars_of(SourceContract) if hasattr(kind, "source_class")}
    assert [name for name in short_names() if backend(name) not in tested] == []


def vars_of(kind: type) -> list[type]:
    return [one for sub in kind.__subclasses__() for one in (sub, *vars_of(sub))]
