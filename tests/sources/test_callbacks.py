"""Callbacks at each of their doors: every listener is admitted, whatever is broken, and no address is written."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import AsyncClient, Client, RequestFactory, override_settings

from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import Inbox
from aircox_listen_stats.sources import urlauth
from aircox_listen_stats.web import callbacks
from aircox_listen_stats.web.buffer import Buffer
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
def quiet_buffer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Buffer]:
    """A buffer of the test's own whose threads do not run, so that no answer waits for them."""
    buffer = Buffer(limit=1000, patience_seconds=0)
    monkeypatch.setattr(buffer, "_see_to_threads", lambda: None)
    monkeypatch.setattr(callbacks, "buffer", buffer)
    with override_settings(AIRCOX_LISTEN_STATS={**STATION, "JOURNAL_FOLDER": tmp_path / "journals"}):
        yield buffer
    buffer.journal.let_go()


def post(body: bytes, *, source: str = "icecast", token: str = "t0k3n", method: str = "POST", **more: Any) -> Any:
    request = RequestFactory().generic(method, "/callback/", data=body, content_type=FORM, **more)
    return callbacks.callback(request, source, token)


def admits(response: Any) -> bool:
    return response.headers["icecast-auth-user"] == "1"


@pytest.mark.django_db
def test_every_recorded_callback_is_admitted_and_listeners_reach_the_inbox(quiet_buffer: Buffer) -> None:
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
def test_an_inbox_row_becomes_the_observation_of_its_callback(quiet_buffer: Buffer) -> None:
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
    given: dict[str, Any], status: int, quiet_buffer: Buffer
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


def test_the_middleware_answers_before_one_that_needs_the_database(quiet_buffer: Buffer) -> None:
    """aircox's asks for the station of every request; any query would fail this test."""
    with override_settings(**FIRST):
        client = Client()
        assert admits(client.generic("POST", "/callback/icecast/t0k3n/", ADD, content_type=FORM))
        assert len(quiet_buffer) == 1
        with pytest.raises(RuntimeError, match="Database access not allowed"):
            client.get("/callback/")


async def test_the_middleware_answers_under_asgi(quiet_buffer: Buffer) -> None:
    with override_settings(**FIRST):
        response = await AsyncClient().post("/callback/icecast/t0k3n/", data=ADD.decode(), content_type=FORM)
    assert admits(response)
    assert len(quiet_buffer) == 1


def test_no_database_is_touched_before_the_answer() -> None:
    """Without the database's mark any query fails the test."""
    assert admits(post(ADD))


# The raw ASGI door --------------------------------------------------------------


async def untouched(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError(f"Django was asked for {scope['path']}")


async def ask(*parts: bytes, path: str = "/callback/icecast/t0k3n/", leaves: bool = False, **more: Any) -> Any:
    """Status and headers of the raw ASGI door's answer; None where it gives none."""
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    waiting[-1]["more_body"] = leaves
    sent: list[Any] = []

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "method": "POST", "root_path": "", **more}
    with override_settings(ROOT_URLCONF=FIRST["ROOT_URLCONF"]):
        await callbacks.callbacks_first(more.pop("http", untouched))(scope, receive, send)
    return (sent[0]["status"], dict(sent[0]["headers"])) if sent else None


@pytest.mark.parametrize(
    ("parts", "more", "status"),
    [
        ((ADD,), {}, 200),
        ((ADD[:20], b"", ADD[20:]), {}, 200),
        ((ADD,), {"path": "/radio/callback/icecast/t0k3n/", "root_path": "/radio"}, 200),
        ((ADD,), {"path": "/callback/icecast/wrong/"}, 404),
        ((ADD,), {"path": "/callback/icecast/t0k3n\udcff/"}, 404),
        ((ADD,), {"path": "/callback/other/t0k3n/"}, 404),
        ((ADD,), {"method": "GET"}, 405),
        ((b"rubbish",), {}, 400),
        ((b"",), {}, 400),
        ((b"x" * (urlauth.MAX_BODY_BYTES + 1),), {}, 413),
        ((b"x" * 40_000, b"x" * 40_000), {}, 413),
    ],
)
async def test_the_raw_door_admits_whatever_it_answers(
    parts: tuple[bytes, ...], more: dict[str, Any], status: int, quiet_buffer: Buffer
) -> None:
    answered, headers = await ask(*parts, **more)
    assert (answered, headers[b"icecast-auth-user"]) == (status, b"1")
    assert len(quiet_buffer) == (status == 200)


async def test_the_raw_door_reads_no_more_than_it_must(quiet_buffer: Buffer) -> None:
    """A body without an end is not collected: 200 parts of 1 kB wait, and 65 are taken."""
    taken = 0

    async def receive() -> Any:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": bytes(1024), "more_body": taken < 200}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/callback/icecast/t0k3n/", "method": "POST"}
    with override_settings(ROOT_URLCONF=FIRST["ROOT_URLCONF"]):
        await callbacks.callbacks_first(untouched)(scope, receive, send)
    assert sent[0]["status"] == 413
    assert taken == urlauth.MAX_BODY_BYTES // 1024 + 1


async def test_a_body_that_does_not_come_is_answered(monkeypatch: pytest.MonkeyPatch, quiet_buffer: Buffer) -> None:
    monkeypatch.setattr(callbacks, "BODY_SECONDS", 0.01)

    async def endless() -> Any:
        if asked:
            await asyncio.sleep(60)
        asked.append(1)
        return {"type": "http.request", "body": ADD[:5], "more_body": True}

    asked: list[int] = []
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/callback/icecast/t0k3n/", "method": "POST"}
    with override_settings(ROOT_URLCONF=FIRST["ROOT_URLCONF"]):
        await callbacks.callbacks_first(untouched)(scope, endless, send)
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"icecast-auth-user"]) == (408, b"1")


async def test_who_leaves_before_the_end_gets_no_answer(quiet_buffer: Buffer) -> None:
    assert await ask(ADD[:5], leaves=True) is None
    assert len(quiet_buffer) == 0


async def test_a_broken_door_admits(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(urlauth, "parse_body", _raise(ValueError("192.0.2.7")))
    status, headers = await ask(ADD)
    assert (status, headers[b"icecast-auth-user"]) == (500, b"1")
    assert "could not be taken (ValueError in " in caplog.text
    assert "192" not in caplog.text


async def test_all_other_pages_go_to_django() -> None:
    seen = []

    async def http(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])

    for path in ("/", "/audience/programs/", "/callback/", "/callback/icecast/", "/x/callback/icecast/t0k3n/"):
        await ask(b"", path=path, http=http)
    assert len(seen) == 5


def _raise(error: Exception) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(callbacks.hmac, "compare_digest", lambda *pair: compared.append(pair) or False)
    assert post(ADD).status_code == 404
    assert compared == [(b"t0k3n", b"t0k3n")]
