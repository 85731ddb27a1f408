"""What a real Icecast 2.4.4 says to the sources that are polled: totals, faults of its template, two edges."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from aircox_listen_stats.sources.icecast import IcecastSource
from aircox_listen_stats.sources.icecast_totals import IcecastTotalsSource, parse_status
from tests.parts.icecast import Icecast, Mount

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 60.0


@contextmanager
def stream(server: Icecast, mount: str, **headers: str) -> Iterator[None]:
    """A source of silence on ``mount``."""
    account = base64.b64encode(f"source:{server.source_password}".encode()).decode()
    lines = [f"SOURCE {mount} HTTP/1.0", f"Authorization: Basic {account}", "Content-Type: audio/mpeg"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as line:
        line.sendall("\r\n".join([*lines, "", ""]).encode())
        assert b"200" in line.recv(1024)
        line.sendall(bytes(16_384))
        until(lambda: server.has_source(mount))
        yield


@contextmanager
def listener(server: Icecast, mount: str, agent: str) -> Iterator[None]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS) as line:
        line.sendall(f"GET {mount} HTTP/1.0\r\nUser-Agent: {agent}\r\n\r\n".encode())
        assert b"200 OK" in line.recv(1024)
        yield


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def page(server: Icecast) -> bytes:
    return httpx.get(f"{server.url}/status-json.xsl", timeout=PATIENCE_SECONDS).content


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_totals_of_a_real_server_with_none_one_and_two_mounts(icecast_server: Callable[..., Icecast]) -> None:
    server = icecast_server(["/live.mp3", "/low.mp3", Mount(name="/hidden.mp3", hidden=True)])
    streams = {"/live.mp3": "live", "/low.mp3": "low", "/hidden.mp3": "hidden"}
    polled = IcecastTotalsSource("totals", streams, {"url": server.url})
    until(lambda: parse_status(page(server)) == {})
    assert polled.pull({}, now_ms=now_ms()).totals == {}
    with ExitStack() as running:
        running.enter_context(stream(server, "/live.mp3"))
        running.enter_context(listener(server, "/live.mp3", "one"))
        running.enter_context(listener(server, "/live.mp3", "two"))
        until(lambda: polled.pull({}, now_ms=now_ms()).totals == {"live": 2})
        assert isinstance(json.loads(page(server))["icestats"]["source"], dict)
        running.enter_context(stream(server, "/low.mp3"))
        running.enter_context(stream(server, "/hidden.mp3"))
        until(lambda: polled.pull({}, now_ms=now_ms()).totals == {"live": 2, "low": 0})
        assert isinstance(json.loads(page(server))["icestats"]["source"], list)
    polled.close()


def test_a_title_of_a_dash_breaks_the_real_page_and_not_the_count(icecast_server: Callable[..., Icecast]) -> None:
    server = icecast_server(["/live.mp3"])
    with stream(server, "/live.mp3", ice_name="-"), listener(server, "/live.mp3", "one"):
        until(lambda: server.listeners("/live.mp3") == 1)
        with pytest.raises(ValueError, match="Expecting value"):
            json.loads(page(server))
        assert parse_status(page(server)) == {"/live.mp3": 1}


def test_two_real_edges_add_up(icecast_server: Callable[..., Icecast]) -> None:
    one, other = icecast_server(["/live.mp3"]), icecast_server(["/live.mp3"])
    options: dict[str, Any] = {"urls": [one.url, other.url], "password": one.admin_auth[1]}
    polled = IcecastSource("edges", {"/live.mp3": "live"}, options)
    with ExitStack() as running:
        for server in (one, other):
            running.enter_context(stream(server, "/live.mp3"))
        for server, agent in ((one, "a"), (one, "b"), (other, "c")):
            running.enter_context(listener(server, "/live.mp3", agent))
        until(lambda: one.listeners("/live.mp3") == 2 and other.listeners("/live.mp3") == 1)
        first = polled.pull({}, now_ms=now_ms())
        again = polled.pull(json.loads(json.dumps(first.cursor)), now_ms=now_ms())
    assert sorted(found.address.agent for found in first.observations if found.address) == ["a", "b", "c"]
    told = [{(found.client, found.started_ms) for found in report.observations} for report in (first, again)]
    assert told[0] == told[1]
    assert len(told[0]) == 3
    polled.close()
