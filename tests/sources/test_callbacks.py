"""The callback view: it admits every listener, whatever is broken, and writes no address."""

from __future__ import annotations

import json
import logging
import os
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import DatabaseError
from django.test import AsyncClient, Client, RequestFactory, override_settings

from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import Inbox
from aircox_listen_stats.pipeline import recognise
from aircox_listen_stats.sources import urlauth
from aircox_listen_stats.web import callbacks
from tests.sources.recording import rows

STATION = {
    "STREAMS": {
        "live": {"source": "icecast", "mount": "/live.mp3"},
        "ogg": {"source": "icecast", "mount": "/live.ogg"},
    },
    "SOURCES": {"icecast": {"backend": "icecast", "url": "http://127.0.0.1:8000", "password": "x"}},
    "CALLBACK_TOKENS": {"icecast": "t0k3n"},
}
FORM = "application/x-www-form-urlencoded"
ADD = b"action=listener_add&client=54&mount=%2flive%2emp3&user=&pass=&ip=192%2e0%2e2%2e7&agent=VLC%2f3%2e0%2e20"


@pytest.fixture(autouse=True)
def quiet_buffer(monkeypatch: pytest.MonkeyPatch) -> Iterator[callbacks.Buffer]:
    """A buffer of the test's own whose writer does not run by itself."""
    buffer = callbacks.Buffer(limit=1000)
    monkeypatch.setattr(buffer, "_see_to_writer", lambda: None)
    monkeypatch.setattr(callbacks, "buffer", buffer)
    with override_settings(AIRCOX_LISTEN_STATS=STATION):
        yield buffer


def post(body: bytes, *, source: str = "icecast", token: str = "t0k3n", method: str = "POST", **more: Any) -> Any:
    request = RequestFactory().generic(method, "/callback/", data=body, content_type=FORM, **more)
    return callbacks.callback(request, source, token)


def admits(response: Any) -> bool:
    return response.headers["icecast-auth-user"] == "1"


@pytest.mark.django_db
def test_every_recorded_callback_is_admitted_and_listeners_reach_the_inbox(quiet_buffer: callbacks.Buffer) -> None:
    recorded = rows("url_auth.jsonl")
    for row in recorded:
        response = post(row["raw_body"].encode())
        assert response.status_code == 200
        assert admits(response)
    wanted = [
        row["parsed"]
        for row in recorded
        if row["parsed"]["action"] in urlauth.LISTENER_ACTIONS
        and row["parsed"]["mount"].partition("?")[0] in ("/live.mp3", "/live.ogg")
    ]
    assert quiet_buffer.flush() == len(wanted) == 102
    kept = list(Inbox.objects.order_by("pk"))
    assert [(one.payload["action"], one.payload["client"]) for one in kept] == [
        (one["action"], one["client"]) for one in wanted
    ]
    text = json.dumps([one.payload for one in kept])
    for secret in ("127.0", "198.51", "labsource", "hunter", "VLC/3", "curl/7", "token=", "bob"):
        assert secret not in text


@pytest.mark.django_db
def test_an_inbox_row_becomes_the_observation_of_its_callback(quiet_buffer: callbacks.Buffer) -> None:
    post(ADD)
    quiet_buffer.flush()
    row = Inbox.objects.get()
    (told,) = urlauth.observations(row.payload, received_ms=to_ms(row.received))
    assert (told.stream, told.client, told.ended) == ("live", "54", False)
    assert told.mark is not None
    assert told.mark.app == "VLC"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"token": "wrong"}, 404),
        ({"source": "other"}, 404),
        ({"token": ""}, 404),
        ({"token": "t0k3n\N{SNOWMAN}"}, 404),
        ({"method": "GET"}, 405),
        ({"body": b"rubbish"}, 400),
        ({"body": b""}, 400),
        ({"body": b"x" * (urlauth.MAX_BODY_BYTES + 1)}, 413),
        ({"CONTENT_LENGTH": "many"}, 500),
    ],
)
def test_whatever_is_wrong_with_a_callback_its_listener_is_admitted(
    given: dict[str, Any], status: int, quiet_buffer: callbacks.Buffer
) -> None:
    response = post(**{"body": ADD, **given})
    assert response.status_code == status
    assert admits(response)
    assert len(quiet_buffer) == 0


def test_broken_settings_admit() -> None:
    with override_settings(AIRCOX_LISTEN_STATS={"STREAMS": {"live": {"sorce": "x"}}}):
        assert admits(post(ADD))


def test_a_broken_parser_admits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urlauth, "parse_body", lambda *a, **k: 1 / 0)
    assert admits(post(ADD))


FIRST = {
    "ROOT_URLCONF": "aircox_listen_stats.web.callback_urls",
    "MIDDLEWARE": ["aircox_listen_stats.web.callbacks.CallbacksFirst", *settings.MIDDLEWARE],
}


def test_a_refusal_logs_neither_token_nor_address(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), override_settings(**FIRST):
        client = Client(raise_request_exception=False)
        for token, body in (("t0k3n", b"rubbish ip=192%2e0%2e2%2e7"), ("wr0ng", ADD)):
            response = client.generic("POST", f"/callback/icecast/{token}/", body, content_type=FORM)
            assert admits(response)
    assert "t0k3n" not in caplog.text
    assert "wr0ng" not in caplog.text
    assert "192" not in caplog.text


def test_the_middleware_answers_before_one_that_needs_the_database(quiet_buffer: callbacks.Buffer) -> None:
    """aircox's asks for the station of every request; any query would fail this test."""
    with override_settings(**FIRST):
        client = Client()
        assert admits(client.generic("POST", "/callback/icecast/t0k3n/", ADD, content_type=FORM))
        assert len(quiet_buffer) == 1
        with pytest.raises(RuntimeError, match="Database access not allowed"):
            client.get("/callback/")


async def test_the_middleware_answers_under_asgi(quiet_buffer: callbacks.Buffer) -> None:
    with override_settings(**FIRST):
        response = await AsyncClient().post("/callback/icecast/t0k3n/", data=ADD.decode(), content_type=FORM)
    assert admits(response)
    assert len(quiet_buffer) == 1


def test_no_database_is_touched_before_the_answer() -> None:
    """Without the database's mark any query fails the test."""
    assert admits(post(ADD))


@pytest.mark.django_db
def test_what_cannot_be_written_waits_in_order(quiet_buffer: callbacks.Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    for client in range(3):
        post(ADD.replace(b"client=54", b"client=%d" % client))
    with monkeypatch.context() as broken:
        broken.setattr(Inbox.objects, "bulk_create", _raise(DatabaseError("locked")))
        with pytest.raises(DatabaseError):
            quiet_buffer.flush()
    with monkeypatch.context() as broken:
        broken.setattr(recognise, "mark", _raise(DatabaseError("no secrets")))
        with pytest.raises(DatabaseError):
            quiet_buffer.flush()
    assert len(quiet_buffer) == 3
    assert quiet_buffer.flush() == 3
    assert [one.payload["client"] for one in Inbox.objects.order_by("pk")] == ["0", "1", "2"]


def _raise(error: Exception) -> Any:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


@pytest.mark.django_db
def test_a_full_buffer_drops_the_oldest_and_counts_it(
    quiet_buffer: callbacks.Buffer, caplog: pytest.LogCaptureFixture
) -> None:
    for client in range(1003):
        post(ADD.replace(b"client=54", b"client=%d" % client))
    assert (len(quiet_buffer), quiet_buffer.dropped) == (1000, 3)
    assert "dropped" in caplog.text
    quiet_buffer.flush()
    assert Inbox.objects.earliest("pk").payload["client"] == "3"


@pytest.mark.django_db(transaction=True)
def test_the_writer_writes_by_itself_and_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = callbacks.Buffer()
    monkeypatch.setattr(callbacks, "buffer", buffer)
    monkeypatch.setattr(callbacks, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(callbacks, "RETRY_SECONDS", 0.05)
    fails = [DatabaseError("locked"), DatabaseError("locked")]
    write = Inbox.objects.bulk_create

    def sometimes(*args: Any, **kwargs: Any) -> Any:
        if fails:
            raise fails.pop()
        return write(*args, **kwargs)

    monkeypatch.setattr(Inbox.objects, "bulk_create", sometimes)
    post(ADD)
    until = time.monotonic() + 10
    while time.monotonic() < until and not (len(buffer) == 0 and Inbox.objects.exists()):
        time.sleep(0.02)
    assert Inbox.objects.count() == 1
    assert not fails


@pytest.mark.django_db(transaction=True)
def test_a_locked_database_does_not_delay_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = callbacks.Buffer()
    monkeypatch.setattr(callbacks, "buffer", buffer)
    monkeypatch.setattr(callbacks, "FLUSH_SECONDS", 0.0)
    release = threading.Event()
    monkeypatch.setattr(Inbox.objects, "bulk_create", lambda rows: release.wait(20))
    try:
        took = []
        for _ in range(300):
            begun = time.perf_counter()
            assert admits(post(ADD))
            took.append(time.perf_counter() - begun)
        median_ms, worst_ms = statistics.median(took) * 1e3, max(took) * 1e3
        print(f"\nCallback behind a locked database: median {median_ms:.2f} ms, worst {worst_ms:.1f} ms")
        assert statistics.median(took) < 0.01
        assert len(buffer) == 300
    finally:
        release.set()


def test_a_fork_begins_with_an_empty_buffer() -> None:
    buffer = callbacks.Buffer()
    buffer._waiting.append(object())  # type: ignore[arg-type]
    buffer._lock.acquire()
    buffer.begin_anew()
    assert len(buffer) == 0
    assert buffer._lock.acquire(blocking=False)
    assert buffer._writer_pid != os.getpid()
