"""Scripted listeners on real sockets, and the truth about when each of them listened."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Heard", "Plan", "listen", "plans"]

READ_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One socket to be: who, on which mount, from when to when (seconds from the start of the run)."""

    mount: str
    ip: str
    agent: str
    join: float
    leave: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What one socket truly did: instants in seconds since 1970."""

    plan: Plan
    start: float
    stop: float
    received: int


@dataclass(slots=True)
class _Room:
    heard: list[Heard] = field(default_factory=list)


def plans(mounts: Sequence[str], *, each: int, seconds: float, seed: int) -> list[Plan]:
    """``each`` listeners per mount over a run of ``seconds``; one per mount reconnects every 12 s or so."""
    rng = random.Random(seed)
    agents = ("VLC/3.0.21 LibVLC/3.0.21", "Winamp/5.6 (Sonos)", "mpv 0.40.0", "Lavf/61.7.100", 'Ra"dio\\1 \xe9')
    made: list[Plan] = []
    for number, mount in enumerate(mounts):
        for who in range(each):
            ip, agent = f"127.7.{number + 1}.{who + 1}", agents[who % len(agents)]
            join = rng.uniform(1, seconds * 0.75)
            leave = min(seconds, join + rng.uniform(4, seconds * 0.8))
            if who == 0:
                at = 5.0
                while at < seconds * 0.5:
                    made.append(Plan(mount=mount, ip=ip, agent=agent, join=at, leave=at + 12))
                    at += 12 + rng.uniform(2, 4)
                continue
            made.append(Plan(mount=mount, ip=ip, agent=agent, join=join, leave=leave))
    return made


async def listen(port: int, plans: Sequence[Plan], began: float) -> list[Heard]:
    """Runs every plan against the Icecast on ``port``; ``began`` is the run's start (seconds since 1970)."""
    room = _Room()
    await asyncio.gather(*(_socket(port, plan, began, room) for plan in plans))
    return sorted(room.heard, key=lambda one: one.start)


async def _socket(port: int, plan: Plan, began: float, room: _Room) -> None:
    await asyncio.sleep(max(0.0, began + plan.join - time.time()))
    start = time.time()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(plan.ip, 0))
    request = f"GET {plan.mount} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: {plan.agent}\r\n\r\n"
    writer.write(request.encode("latin-1"))
    received = 0
    try:
        async with asyncio.timeout(max(0.1, began + plan.leave - time.time())):
            head = await reader.readline()
            if b"200" not in head:
                raise AssertionError(f"{plan.mount} answered {head!r}: a listener was turned away")
            while chunk := await reader.read(READ_BYTES):
                received += len(chunk)
    except TimeoutError:
        pass
    stop = time.time()
    writer.transport.abort()
    room.heard.append(Heard(plan=plan, start=start, stop=stop, received=received))
