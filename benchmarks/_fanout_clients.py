"""Thousands of websocket clients in one process: the least that a client can be.

Driven by lines on stdin: ``open <count> <port> <path>``, ``count <seq>``,
``report <file>``, ``close``; one line of JSON answers each.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from array import array
from collections import Counter
from pathlib import Path

ADDRESSES = 20
"""Source addresses 127.0.0.2 and on: one address alone would run out of ports before memory."""
AT_ONCE = 100
"""Handshakes under way at the same time."""
OPEN_SECONDS = 120.0
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The key of RFC 6455's example; nobody checks the answer here."""
MARK = b'"listeners":'
PING, CLOSE, TEXT = 0x9, 0x8, 0x1
LENGTH_16, LENGTH_64 = 126, 127
HIGHEST_SMALL = 125


class Log:
    """Which frame arrived when, over all clients."""

    def __init__(self) -> None:
        self.numbers = array("q")
        self.instants = array("q")
        self.counts: Counter[int] = Counter()
        self.open = 0
        self.closed = 0


class Client(asyncio.Protocol):
    """One websocket that logs each frame's number and instant, and answers pings."""

    def __init__(self, log: Log, path: str, ready: asyncio.Future[None]) -> None:
        self._log = log
        self._path = path
        self._ready = ready
        self._rest = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: fanout.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, received: bytes) -> None:
        instant = time.monotonic_ns()
        self._rest += received
        if not self._upgraded and not self._upgrade():
            return
        while (frame := self._next_frame()) is not None:
            kind, payload = frame
            if kind == TEXT:
                begin = payload.index(MARK) + len(MARK)
                number = int(payload[begin : payload.index(b",", begin)])
                self._log.numbers.append(number)
                self._log.instants.append(instant)
                self._log.counts[number] += 1
            elif kind == PING:
                # Masked with zeros: the payload goes back as it came.
                self._transport.write(bytes([0x8A, 0x80 | len(payload)]) + bytes(4) + payload)
            elif kind == CLOSE:
                self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._upgraded:
            self._log.open -= 1
            self._log.closed += 1
        elif not self._ready.done():
            self._ready.set_exception(error or ConnectionError("closed during the handshake"))

    def _upgrade(self) -> bool:
        head, end, rest = self._rest.partition(b"\r\n\r\n")
        if not end:
            return False
        if b" 101 " not in head.splitlines()[0]:
            self._ready.set_exception(ConnectionError(head.splitlines()[0].decode()))
            self._transport.close()
            return False
        self._rest, self._upgraded = rest, True
        self._log.open += 1
        self._ready.set_result(None)
        return True

    def _next_frame(self) -> tuple[int, bytes] | None:
        rest = self._rest
        if len(rest) < 2:
            return None
        length, begin = rest[1] & 0x7F, 2
        if length > HIGHEST_SMALL:
            begin = 4 if length == LENGTH_16 else 10
            if len(rest) < begin:
                return None
            length = int.from_bytes(rest[2:begin], "big")
        if len(rest) < begin + length:
            return None
        self._rest = rest[begin + length :]
        return rest[0] & 0x0F, rest[begin : begin + length]


async def open_clients(log: Log, count: int, port: int, path: str) -> int:
    """How many of ``count`` are open in the end; a refused handshake is tried once more."""
    loop = asyncio.get_running_loop()
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with at_once:
            for attempt in (1, 2):
                ready: asyncio.Future[None] = loop.create_future()
                source = (f"127.0.0.{2 + number % ADDRESSES}", 0)
                try:
                    await loop.create_connection(
                        lambda ready=ready: Client(log, path, ready), "127.0.0.1", port, local_addr=source
                    )
                    await ready
                    return
                except OSError:
                    if attempt == 2:
                        raise

    async with asyncio.timeout(OPEN_SECONDS):
        results = await asyncio.gather(*(one(number) for number in range(count)), return_exceptions=True)
    failed = [result for result in results if result is not None]
    if failed:
        print(f"{len(failed)} clients did not get in, the first by {failed[0]!r}", file=sys.stderr)
    return log.open


async def main() -> None:
    """Obeys stdin until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    log = Log()
    while line := (await reader.readline()).decode().split():
        match line:
            case ["open", count, port, path]:
                answer = {"open": await open_clients(log, int(count), int(port), path)}
            case ["count", number]:
                answer = {"count": log.counts[int(number)], "open": log.open, "closed": log.closed}
            case ["report", name]:
                Path(name).write_bytes(log.numbers.tobytes() + log.instants.tobytes())
                answer = {"frames": len(log.numbers)}
            case _:
                raise SystemExit(f"Unknown order {line}. Known: open, count, report.")
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())
