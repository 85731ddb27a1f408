"""Callbacks on real servers: what was answered survives kill -9, and a real Icecast's listeners are admitted."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings

from aircox_listen_stats.models import Inbox, JournalPosition
from aircox_listen_stats.onair import aircox
from aircox_listen_stats.pipeline import journal
from aircox_listen_stats.pipeline.collect import Collector
from tests.parts.asgi import AsgiServer
from tests.parts.icecast import Icecast, Mount
from tests.sources.test_real_icecast import listener, stream, until
from tests.web.callback_settings import AIRCOX_LISTEN_STATS, PATH

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]

APPLICATION = "aircox_listen_stats.asgi:application"
PATIENT = "tests.web.callback_patient:application"
CALLERS = 8
ANSWER_SECONDS = 60
"""Nobody waits so long where all is well."""
STORM_SECONDS = 1.0
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "journals"
    with override_settings(AIRCOX_LISTEN_STATS={**AIRCOX_LISTEN_STATS, "JOURNAL_FOLDER": path}):
        yield path


@pytest.fixture
def start(
    asgi_server: Callable[..., AsgiServer], child_environment: dict[str, str], journals: Path
) -> Callable[..., AsgiServer]:
    """Starts a uvicorn that takes callbacks."""
    environment = {
        **child_environment,
        "DJANGO_SETTINGS_MODULE": "tests.web.callback_settings",
        "LISTEN_STATS_TEST_JOURNALS": str(journals),
    }
    return lambda application=APPLICATION: asgi_server(application, environment=environment)


class Storm:
    """Callers that post one callback after the other, each with a number of its own, until the server is gone."""

    def __init__(self, port: int, numbers: Iterator[int]) -> None:
        self.port = port
        self.numbers = numbers
        self.answered: list[int] = []
        self.threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for one in self.threads:
            one.start()

    def _call(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)) as line:
            self._call_on(line)

    def _call_on(self, line: http.client.HTTPConnection) -> None:
        while True:
            number = next(self.numbers)
            body = f"action=listener_add&client={number}&mount=%2flive%2emp3&ip=198%2e51%2e100%2e{number % 256}&agent=V"
            try:
                line.request("POST", PATH, body=body, headers=FORM)
                answer = line.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return
            assert (answer.status, answer.headers["icecast-auth-user"]) == (200, "1")
            self.answered.append(number)

    def wait(self) -> None:
        for one in self.threads:
            one.join(2 * ANSWER_SECONDS)


def kept() -> Counter[int]:
    """How often each callback is in the Inbox."""
    return Counter(int(one["client"]) for one in Inbox.objects.values_list("payload", flat=True))


def assert_kept_once(storms: list[Storm]) -> None:
    found = kept()
    answered = {number for storm in storms for number in storm.answered}
    assert answered - set(found) == set(), "answered, and lost"
    assert [number for number, times in found.items() if times > 1] == []
    # Beside them at most what was kept and whose answer was under way.
    assert len(found) - len(answered) <= CALLERS * len(storms)


@contextmanager
def database_that_takes_nothing() -> Iterator[None]:
    """No other process can write into the Inbox meanwhile."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"LOCK TABLE {Inbox._meta.db_table} IN SHARE MODE")
        else:
            JournalPosition.objects.filter(pk="nobody").update(taken=0)
        yield


def step() -> None:
    """One step of a new collector, whose source has nothing to say."""
    collector = Collector(sources={}, onair=aircox.log())
    collector.step(now_ms=time.time_ns() // 1_000_000)
    assert collector.is_active
    collector.close()


@pytest.mark.parametrize("database", ["that works", "that takes nothing"])
def test_what_was_answered_survives_a_kill_and_is_in_the_inbox_once(
    start: Callable[..., AsgiServer], journals: Path, database: str
) -> None:
    numbers, storms = itertools.count(), []
    with ExitStack() as locked:
        for _ in range(2):
            server = start()
            storm = Storm(server.port, numbers)
            until(lambda storm=storm: len(storm.answered) > 20)
            until(lambda storm=storm: storms or Inbox.objects.exists())
            if database == "that takes nothing" and not storms:
                locked.enter_context(database_that_takes_nothing())
            time.sleep(STORM_SECONDS)
            server.child.kill()
            storm.wait()
            storms.append(storm)
            if database == "that works":
                step()
                assert_kept_once(storms)
    waiting = journal.waiting()
    if database == "that takes nothing":
        assert waiting.dead == 2
        assert sum(kept().values()) < sum(len(storm.answered) for storm in storms)
    until(lambda: step() or not journal.waiting().dead)
    assert_kept_once(storms)
    print(f"\n{database}: {sum(len(one.answered) for one in storms)} answered, {waiting.dead_bytes} bytes were left")


def test_the_next_process_takes_what_the_killed_one_left(start: Callable[..., AsgiServer], journals: Path) -> None:
    """Without a collector: on its first callback."""
    numbers = itertools.count()
    server = start()
    storm = Storm(server.port, numbers)
    until(Inbox.objects.exists)
    with database_that_takes_nothing():
        time.sleep(0.3)
        server.child.kill()
        storm.wait()
    assert journal.waiting().dead == 1
    another = start()
    body = "action=listener_remove&duration=9&client=999999&mount=%2flive%2emp3&ip=192.0.2.1"
    with closing(http.client.HTTPConnection("127.0.0.1", another.port, timeout=ANSWER_SECONDS)) as line:
        line.request("POST", PATH, body=body, headers=FORM)
        assert line.getresponse().status == 200
    storm.answered.append(999_999)
    until(lambda: set(storm.answered) <= set(kept()))
    assert_kept_once([storm])
    until(lambda: len(list(journals.iterdir())) == 1)


def test_an_orderly_end_leaves_nothing_behind(start: Callable[..., AsgiServer], journals: Path) -> None:
    server = start(PATIENT)
    storm = Storm(server.port, itertools.count())
    until(lambda: len(storm.answered) > 20)
    server.stop()
    storm.wait()
    assert_kept_once([storm])  # by itself: no collector looked yet
    step()
    assert journal.waiting() == journal.Waiting()


def test_a_real_icecasts_callbacks_come_through_the_raw_door_and_admit(
    start: Callable[..., AsgiServer], icecast_server: Callable[..., Icecast], journals: Path
) -> None:
    server = start()
    address = server.url + PATH
    options = {"listener_add": address, "listener_remove": address, "auth_header": "icecast-auth-user: 1"}
    station = icecast_server([Mount(name="/live.mp3", url_auth=options)])
    with stream(station, "/live.mp3"):
        for agent in ("VLC/3.0.20", "Sonos/1.0"):
            with listener(station, "/live.mp3", agent):
                until(lambda: station.listeners("/live.mp3") == 1)
            until(lambda: station.listeners("/live.mp3") == 0)
        until(lambda: Inbox.objects.count() == 4)
        told = [
            (one["action"], one["mark"]["app"])
            for one in Inbox.objects.order_by("pk").values_list("payload", flat=True)
        ]
        assert told == [
            ("listener_add", "VLC"),
            ("listener_remove", "VLC"),
            ("listener_add", "Sonos"),
            ("listener_remove", "Sonos"),
        ]
        # Whatever the answer is, it admits: also with a wrong word, and with no listener turned away after it.
        with socket.create_connection(("127.0.0.1", server.port), timeout=ANSWER_SECONDS) as line:
            line.sendall(f"POST {PATH[:-1]}x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            answer = line.recv(4096).lower()
        assert b" 404 " in answer.splitlines()[0]
        assert b"icecast-auth-user: 1" in answer
    assert "Exception" not in server.child.tail()


def test_a_real_icecast_admits_when_the_word_is_wrong(
    start: Callable[..., AsgiServer], icecast_server: Callable[..., Icecast]
) -> None:
    server = start()
    options: dict[str, Any] = {
        "listener_add": server.url + PATH[:-1] + "x/",
        "auth_header": "icecast-auth-user: 1",
    }
    station = icecast_server([Mount(name="/live.mp3", url_auth=options)])
    with stream(station, "/live.mp3"), listener(station, "/live.mp3", "VLC/3.0.20"):
        until(lambda: station.listeners("/live.mp3") == 1)
    assert not Inbox.objects.exists()
