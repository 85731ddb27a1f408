"""Whatever is posted to a public endpoint, it is answered as documented; callbacks are admitted whatever they hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.test import RequestFactory, override_settings
from hypothesis import strategies as st

from aircox_listen_stats.kernel.player import PlayerState
from aircox_listen_stats.web import callbacks, player_events
from aircox_listen_stats.web.buffer import Buffer
from tests import fuzzing
from tests.fuzzing import anything, fuzzed
from tests.sources import player_recording
from tests.sources.recording import FOLDER
from tests.web.callback_settings import AIRCOX_LISTEN_STATS, TOKEN

FORM = "application/x-www-form-urlencoded"
STATUSES = {200, 400, 404, 405, 413}


@cache
def bodies() -> tuple[bytes, ...]:
    return tuple(json.loads(line)["raw_body"].encode() for line in (FOLDER / "url_auth.jsonl").read_text().splitlines())


@pytest.fixture(autouse=True)
def quiet_buffer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Buffer]:
    buffer = Buffer(limit=100, patience_seconds=0)
    monkeypatch.setattr(buffer, "_see_to_threads", lambda: None)
    monkeypatch.setattr(callbacks, "buffer", buffer)
    given = {**AIRCOX_LISTEN_STATS, "JOURNAL_FOLDER": tmp_path / "journals"}
    with override_settings(AIRCOX_LISTEN_STATS=given, ROOT_URLCONF="aircox_listen_stats.web.callback_urls"):
        yield buffer


def test_callbacks_to_the_view() -> None:
    @fuzzed(lambda: st.tuples(anything(bodies()), anything([TOKEN.encode()]), st.sampled_from(("POST", "GET", "PUT"))))
    def stands(told: tuple[bytes, bytes, str]) -> None:
        body, token, method = told
        request = RequestFactory().generic(method, "/", data=body, content_type=FORM)
        for given in (TOKEN, token.decode("utf-8", "surrogateescape")):
            with fuzzing.bounded():
                response = callbacks.callback(request, "icecast", given)
            assert response.status_code in STATUSES
            assert response.headers["icecast-auth-user"] == "1"

    stands()


def test_callbacks_to_the_raw_door() -> None:
    """Cut into any parts, to any path below the door's."""

    async def ask(path: str, parts: list[bytes]) -> tuple[int, dict[bytes, bytes]] | None:
        sent: list[Any] = []
        waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        waiting.append({"type": "http.request", "body": b"", "more_body": False})

        async def receive() -> Any:
            return waiting.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        async def django(scope: Any, receive: Any, send: Any) -> None:
            return

        scope = {"type": "http", "path": path, "method": "POST"}
        await callbacks.callbacks_first(django)(scope, receive, send)
        return (sent[0]["status"], dict(sent[0]["headers"])) if sent else None

    @fuzzed(
        lambda: st.tuples(
            anything([f"/callback/icecast/{TOKEN}/".encode()]), st.lists(anything(bodies()), max_size=3), st.booleans()
        )
    )
    def stands(told: tuple[bytes, list[bytes], bool]) -> None:
        path, parts, is_right = told
        given = f"/callback/icecast/{TOKEN}/" if is_right else path.decode("utf-8", "surrogateescape")
        with fuzzing.bounded():
            answer = asyncio.run(ask(given, parts))
        if is_right or answer is not None:
            assert answer is not None
            assert answer[0] in STATUSES
            assert answer[1][b"icecast-auth-user"] == b"1"

    stands()


def test_what_players_tell() -> None:
    malformed = [case["body"].encode("latin-1") for case in player_recording.malformed()]

    @fuzzed(lambda: anything([*player_recording.bodies(), *malformed]))
    def stands(body: bytes) -> None:
        request = RequestFactory().generic("POST", "/", data=body, content_type="application/json")
        told = fuzzing.told_or_refused(lambda _: player_events._told(request), body, player_events._Refused)
        if told is None:
            return
        assert isinstance(told.state, PlayerState)
        told.src.encode()
        for number in (told.sequence, told.position_ms, told.duration_ms, told.age_ms):
            assert number is None or 0 <= number < 2**53

    stands()
