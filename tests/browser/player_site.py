"""The example station with what its player plays: recordings by ranges, and a stream that has no end."""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
import wave
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from aircox_listen_stats.asgi import application as live
from aircox_listen_stats.pipeline import media

SECONDS = 120
RATE = 8000
BYTES_PER_SECOND = 4000
"""Of the stream: 32 kbit/s."""
BURST_SECONDS = 16
"""What a server of streams sends at once, so that players begin soon: Icecast 64 kB."""
STREAM_FILE_VARIABLE = "LISTEN_STATS_TEST_STREAM_FILE"
HEARD_FILE_VARIABLE = "LISTEN_STATS_TEST_HEARD_FILE"
"""Where each request of a player is written down as it came: a line of JSON each, as in tests/data/player_events/."""

ENDPOINT = "/player-events/"

media.REMEMBERED_MS = 1
"""Each test has its own rows, and the server outlives them."""

STRICT_POLICY = "default-src 'self'; connect-src 'self' ws:"

_pages = ASGIStaticFilesHandler(live)


def recording() -> bytes:
    """Two minutes of silence, as a WAV file: every position is where it is asked for."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(RATE)
        sound.writeframes(b"\x80" * RATE * SECONDS)
    return file.getvalue()


async def application(scope: Any, receive: Any, send: Any) -> None:
    path = scope.get("path", "")
    if path == settings.MOUNT:
        await _stream(receive, send)
    elif path.startswith(settings.MEDIA_URL):
        await _ranges(scope, send, recording())
    elif path.endswith(ENDPOINT):
        await _pages(scope, *_written_down(scope, receive, send))
    elif path.startswith(settings.STATIC_URL):
        await _pages(scope, receive, _with_header(send, b"access-control-allow-origin", b"*"))
    else:
        policy = (b"content-security-policy", STRICT_POLICY.encode())
        await _pages(scope, receive, _with_header(send, *policy) if scope["type"] == "http" else send)


async def _ranges(scope: Any, send: Any, body: bytes) -> None:
    asked = dict(scope["headers"]).get(b"range", b"bytes=0-").decode().removeprefix("bytes=")
    first, _, last = asked.partition("-")
    start, stop = int(first), int(last) + 1 if last else len(body)
    headers = [
        (b"content-type", b"audio/wav"),
        (b"accept-ranges", b"bytes"),
        (b"content-range", f"bytes {start}-{stop - 1}/{len(body)}".encode()),
        (b"content-length", str(stop - start).encode()),
    ]
    await send({"type": "http.response.start", "status": 206, "headers": headers})
    await send({"type": "http.response.body", "body": body[start:stop]})


async def _stream(receive: Any, send: Any) -> None:
    """Sound at its own pace, without a length, until the player hangs up."""
    sound = Path(os.environ[STREAM_FILE_VARIABLE]).read_bytes()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"audio/mpeg")]})
    gone = asyncio.create_task(_gone(receive))
    place = 0
    size = BYTES_PER_SECOND * BURST_SECONDS
    while not gone.done() and place < len(sound):
        await send({"type": "http.response.body", "body": sound[place : place + size], "more_body": True})
        place += size
        size = BYTES_PER_SECOND // 2
        await asyncio.wait([gone], timeout=0.5)


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _with_header(send: Any, name: bytes, value: bytes) -> Any:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (name, value)]
        await send(message)

    return sending


def _written_down(scope: Any, receive: Any, send: Any) -> tuple[Any, Any]:
    """Both ends of a request, of which a line is written once it is answered."""
    line: dict[str, Any] = {"at_ms": time.time_ns() // 1_000_000, "method": scope["method"]}
    line["headers"] = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    body = bytearray()

    async def receiving() -> Any:
        message = await receive()
        body.extend(message.get("body", b""))
        return message

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            line.update(body=body.decode("latin-1"), status=message["status"])
            with open(os.environ[HEARD_FILE_VARIABLE], "a") as file:
                file.write(json.dumps(line) + "\n")
        await send(message)

    return receiving, sending
