"""An Icecast that calls back without end: keep-alive connections, one request at a time on each.

    python -m benchmarks._callback_client PORT PATH SECONDS RATE

RATE 0 sends as fast as it is answered; else, after a second of that, so many a second are due,
and each is timed from the instant at which it was due. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

CONNECTIONS = 16
WARM_SECONDS = 1.0
"""Requests of the first second are answered and not timed: caches fill, threads start."""
AGENTS = 300
"""Different agents; a station meets some thousand in a month."""
LISTENERS = 20_000
PLAIN = ("action", "port", "client", "duration")
"""The fields that Icecast does not escape."""
STATION = b"\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "


def bodies(mount: str) -> list[bytes]:
    """What Icecast 2.4.4 sends, arrivals and departures of as many listeners."""
    made = []
    for client in range(LISTENERS):
        address = f"198.{18 + client % 2}.{client // 256 % 256}.{client % 256}"
        agent = f"Mozilla/5.0 (X11; Linux x86_64; rv:{client % AGENTS}.0) Gecko/20100101 Firefox/{client % AGENTS}.0"
        form: dict[str, Any] = {"action": "listener_add", "server": "radio.example", "port": 8000, "client": client}
        form |= {"mount": mount, "user": "", "pass": "", "ip": address, "agent": agent}
        if client % 2:
            form |= {"action": "listener_remove", "duration": client % 4000}
        told = [f"{name}={value if name in PLAIN else _escaped(str(value))}" for name, value in form.items()]
        made.append("&".join(told).encode())
    return made


def _escaped(text: str) -> str:
    """As Icecast does it: every byte that is no letter and no digit."""
    return "".join(chr(byte) if chr(byte).isalnum() else f"%{byte:02x}" for byte in text.encode())


class Caller(asyncio.Protocol):
    """One connection: asks, waits for the whole answer, asks again when it is time."""

    def __init__(self, run: Run, first: int) -> None:
        self.run = run
        self.turn = self.first = first
        self.paced = 0  # how many of its requests were due at an instant
        self.asked = 0.0
        self.answer = b""
        self.is_free = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        now = time.perf_counter()
        if now >= self.run.until:
            self.run.over(self)
            return
        self.asked = now
        if self.run.rate and now >= self.run.timed_from:
            due = self.run.timed_from + (self.first + self.paced * CONNECTIONS) / self.run.rate
            if due > now:
                asyncio.get_running_loop().call_later(due - now, self.ask)
                return
            self.asked = due
            self.paced += 1
        self.transport.write(self.run.requests[self.turn % len(self.run.requests)])
        self.turn += CONNECTIONS

    def data_received(self, data: bytes) -> None:
        self.answer += data
        head, end, rest = self.answer.partition(b"\r\n\r\n")
        if not end or (b"chunked" in head and not rest.endswith(b"0\r\n\r\n")):
            return
        self.answer = b""
        now = time.perf_counter()
        self.run.answered += 1
        self.run.admitted += b"icecast-auth-user: 1" in head.lower()
        if self.asked >= self.run.timed_from:
            self.run.took.append(now - self.asked)
        self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        self.run.over(self)


class Run:
    """All connections of one measurement."""

    def __init__(self, path: str, seconds: float, rate: float, mount: str) -> None:
        head = f"POST {path} HTTP/1.1".encode() + STATION
        self.requests = [head + b"%d\r\n\r\n" % len(body) + body for body in bodies(mount)]
        self.rate = rate
        self.timed_from = time.perf_counter() + WARM_SECONDS
        self.until = self.timed_from + seconds
        self.answered = self.admitted = 0
        self.took: list[float] = []
        self.left = CONNECTIONS
        self.ended = asyncio.get_running_loop().create_future()

    def over(self, caller: Caller) -> None:
        if not caller.is_free:
            caller.is_free = True
            self.left -= 1
            caller.transport.close()
        if not self.left and not self.ended.done():
            self.ended.set_result(None)


async def call(port: int, path: str, seconds: float, rate: float) -> dict[str, Any]:
    """What came of it: answers, those that admit, the timed ones' rate and quantiles in milliseconds."""
    run = Run(path, seconds, rate, "/live.mp3")
    loop = asyncio.get_running_loop()
    for first in range(CONNECTIONS):
        await loop.create_connection(lambda first=first: Caller(run, first), "127.0.0.1", port)
    await run.ended
    took = sorted(run.took) or [0.0]
    return {
        "answered": run.answered,
        "admitted": run.admitted,
        "per_second": len(took) / seconds,
        "p50_ms": 1000 * took[len(took) // 2],
        "p99_ms": 1000 * took[int(len(took) * 0.99)],
        "worst_ms": 1000 * took[-1],
    }


def main() -> None:
    port, path, seconds, rate = sys.argv[1:]
    try:
        import uvloop
    except ImportError:
        print(json.dumps(asyncio.run(call(int(port), path, float(seconds), float(rate)))))
        return
    print(json.dumps(uvloop.run(call(int(port), path, float(seconds), float(rate)))))


if __name__ == "__main__":
    main()
