"""A real Icecast that restarts, and one that is killed: nobody is lost, nobody is counted on, nobody twice."""

from __future__ import annotations

import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from aircox_listen_stats import conf
from aircox_listen_stats.errors import SourceUnavailable
from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import Connection, Session
from aircox_listen_stats.pipeline import ingest, streams
from aircox_listen_stats.sources import registry
from aircox_listen_stats.sources.icecast import IcecastSource
from tests.parts.icecast import Icecast
from tools import parts

MOUNT = "/live.mp3"
SOURCE_SECONDS = 60.0
LISTENERS = 5


class Tower:
    """An encoder that sends a tone to the mount, and sockets that listen to it."""

    def __init__(self, icecast: Icecast, tone: Path) -> None:
        self.icecast = icecast
        self.tone = tone
        self.encoder: subprocess.Popen[bytes] | None = None
        self.sockets: list[socket.socket] = []

    def send(self) -> None:
        """Starts the encoder and waits for its stream."""
        address = f"icecast://source:{self.icecast.source_password}@127.0.0.1:{self.icecast.port}{MOUNT}"
        quietly = ["-v", "error", "-re", "-stream_loop", "-1"]
        copied = ["-c", "copy", "-content_type", "audio/mpeg", "-f", "mp3", address]
        self.encoder = subprocess.Popen([parts.find("ffmpeg"), *quietly, "-i", str(self.tone), *copied])
        deadline = time.monotonic() + SOURCE_SECONDS
        while not self.icecast.has_source(MOUNT):
            assert time.monotonic() < deadline, "ffmpeg brought no stream to Icecast"
            time.sleep(0.1)

    def listen(self, number: int) -> None:
        for who in range(number):
            line = socket.create_connection(("127.0.0.1", self.icecast.port), SOURCE_SECONDS, (f"127.8.0.{who + 1}", 0))
            line.sendall(f"GET {MOUNT} HTTP/1.0\r\nUser-Agent: VLC/3.0.21\r\n\r\n".encode())
            assert b"200" in line.recv(200)
            self.sockets.append(line)

    def hang_up(self) -> None:
        for line in self.sockets:
            line.close()
        self.sockets = []

    def stop(self) -> None:
        self.hang_up()
        if self.encoder is not None:
            self.encoder.terminate()
            self.encoder.wait(SOURCE_SECONDS)
            self.encoder = None


@pytest.fixture
def tower(icecast_server: Callable[..., Icecast], tmp_path: Path) -> Iterator[Tower]:
    tone = tmp_path / "tone.mp3"
    sine = ["-f", "lavfi", "-i", "sine=frequency=440:duration=20", "-b:a", "64k"]
    subprocess.run([parts.find("ffmpeg"), "-v", "error", *sine, str(tone)], check=True)
    built = Tower(icecast_server([MOUNT]), tone)
    yield built
    built.stop()


@pytest.fixture
def source(tower: Tower, transactional_db: None) -> Iterator[IcecastSource]:
    user, password = tower.icecast.admin_auth
    settings: dict[str, Any] = {
        "SOURCES": {"ice": {"backend": "icecast", "url": tower.icecast.url, "user": user, "password": password}},
        "STREAMS": {"live": {"source": "ice", "mount": MOUNT, "station": 1}},
    }
    with override_settings(AIRCOX_LISTEN_STATS=settings):
        streams.sync(lambda slug, entry: 1)
        built = registry.build(conf.get())["ice"]
        assert isinstance(built, IcecastSource)
        yield built
        built.close()


class Listener:
    """What a collector does with one source, a poll at a time."""

    def __init__(self, source: IcecastSource) -> None:
        self.source = source
        self.cursor: dict[str, Any] = {}

    def poll(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        report = self.source.pull(self.cursor, now_ms=now_ms)
        ingest.store(report, now_ms=now_ms)
        self.cursor = dict(report.cursor or {})


@pytest.mark.real
def test_after_a_restart_the_same_numbers_are_other_listeners(tower: Tower, source: IcecastSource) -> None:
    collector = Listener(source)
    tower.send()
    tower.listen(LISTENERS)
    collector.poll()
    seen = {row.client: to_ms(row.seen) for row in Connection.objects.all()}
    assert len(seen) == LISTENERS
    tower.stop()
    tower.icecast.restart()
    tower.send()
    tower.listen(LISTENERS)
    collector.poll()
    rows = list(Connection.objects.order_by("pk"))
    old = [row for row in rows if row.ended]
    new = [row for row in rows if not row.ended]
    assert {row.client: to_ms(row.seen) for row in old} == seen
    assert len(new) == LISTENERS
    assert {row.client for row in new} & {row.client for row in old}, "client numbers did not begin again"
    # The same five people, back within the gap: each is one session of two sockets.
    assert Session.objects.count() == LISTENERS
    assert set(Counter(row.session_id for row in rows).values()) == {2}


@pytest.mark.real
def test_after_a_kill_nobody_ends_until_the_next_poll_that_is_answered(tower: Tower, source: IcecastSource) -> None:
    collector = Listener(source)
    tower.send()
    tower.listen(LISTENERS)
    collector.poll()
    time.sleep(1.2)
    collector.poll()
    last_seen = sorted(to_ms(row.seen) for row in Connection.objects.all())
    tower.icecast.sigkill()
    tower.stop()
    with pytest.raises(SourceUnavailable) as failed:
        collector.poll()
    assert tower.icecast.admin_auth[1] not in str(failed.value)
    assert Session.objects.open().count() == LISTENERS
    tower.icecast.start()
    tower.send()
    collector.poll()
    assert not Session.objects.open().exists()
    assert sorted(to_ms(row.ended) for row in Session.objects.all()) == last_seen


@pytest.mark.real
def test_without_a_stream_nobody_listens_and_with_it_back_they_are_new_sockets(
    tower: Tower, source: IcecastSource
) -> None:
    collector = Listener(source)
    collector.poll()
    assert not Connection.objects.exists()
    tower.send()
    tower.listen(2)
    collector.poll()
    assert Session.objects.open().count() == 2
    tower.stop()
    deadline = time.monotonic() + SOURCE_SECONDS
    while tower.icecast.has_source(MOUNT) and time.monotonic() < deadline:
        time.sleep(0.1)
    collector.poll()
    assert Session.objects.count() == 2
    assert not Session.objects.open().exists()
