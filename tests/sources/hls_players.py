"""Scripted players on a real HLS output, and the truth about when each of them played."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.sources.hls_run import Client
from tools import parts

__all__ = ["Plan", "plans", "play"]

MASTER = "/hls/live.m3u8"
APPLE = "AppleCoreMedia/1.0.0.21F90 (iPhone; U; CPU OS 17_5 like Mac OS X; fr_be)"
AGENTS = (APPLE, "hls.js/1.5", "ExoPlayerLib/2.19", "Mozilla/5.0 (X11; Linux x86_64) Chrome/126.0.0.0")
BEGINS_WITH = 3
"""Segments that a player fetches at once (RFC 8216, 6.3.3)."""
LOOKS_AT_SECONDS = 15.0
"""When those come by who listen to nothing."""
ANSWER_SECONDS = 5.0
BROKEN_ANSWERS = 5
BROKEN_WAIT_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One player: who, how it names itself, and when it plays (seconds from the start of the run)."""

    label: str
    ip: str
    agent: str
    parts: tuple[tuple[float, float], ...]
    session: str = ""
    query: str = ""
    rendition: str = "hi"
    changes: tuple[tuple[float, str], ...] = ()  # from then on that rendition
    is_ffmpeg: bool = False


@dataclass(slots=True)
class _Seen:
    parts: list[tuple[float, float]] = field(default_factory=list)
    segments: int = 0


def plans(run_seconds: float) -> list[Plan]:
    """Players with and without ids, twins, changes of rendition, pauses, short ones and ffmpeg."""
    made = []
    for number in range(8):
        join = 1.3 + 3.7 * number
        leave = min(run_seconds, join + 17.1 + 6.3 * number)
        made.append(_plan(f"header-{number}", number, join, leave, session=f"7E57-{number:04d}-4000-8000"))
    for number in range(3):
        made.append(
            _plan(f"query-{number}", 10 + number, 4.2 + 9.1 * number, 47 + 13.3 * number, query=f"?sid=q{number}")
        )
    for number in range(4):
        made.append(_plan(f"noid-{number}", 20 + number, 2.6 + 8.4 * number, 33 + 14.7 * number))
    made += [
        _plan("twin-id-1", 30, 3.1, 81.4, session="twin-1"),
        _plan("twin-id-2", 30, 21.7, 60.9, session="twin-2"),
        _plan("twin-hi-1", 31, 5.4, 84.2),
        _plan("twin-hi-2", 31, 24.9, 63.3),
        _plan("twin-hi", 32, 2.2, 79.6),
        _plan("twin-lo", 32, 19.5, 58.8, rendition="lo"),
        _plan("change-id", 33, 6.6, 77.7, session="change", changes=((30, "lo"), (55, "hi"))),
        _plan("change", 34, 7.9, 71.3, changes=((35, "lo"),)),
        _plan("pause-id", 35, 3.8, 31.2, (52.4, 80.5), session="pause"),
        _plan("pause", 36, 9.3, 34.4, (56.1, 83.7)),
        _plan("short-id", 37, 40.3, 43.5, session="short"),
        _plan("short", 38, 44.4, 52.1),
    ]
    for number, (join, leave) in enumerate(((10.5, 66.1), (28.2, 82.9))):
        # It takes the address that the system gives it.
        made.append(
            Plan(
                label=f"ffmpeg-{number}", ip="127.0.0.1", agent=f"Lavf-{number}", parts=((join, leave),), is_ffmpeg=True
            )
        )
    return made


def _plan(
    label: str, who: int, join: float, leave: float, *more: tuple[float, float], session: str = "", query: str = "",
    rendition: str = "hi", changes: tuple[tuple[float, str], ...] = (),
) -> Plan:  # fmt: skip
    return Plan(
        label=label,
        ip=f"127.9.1.{who + 1}",
        agent=AGENTS[who % len(AGENTS)],
        parts=((join, leave), *more),
        session=session,
        query=query,
        rendition=rendition,
        changes=changes,
    )


async def play(port: int, planned: Sequence[Plan], began: float, target_seconds: float) -> list[Client]:
    """Runs every plan, and some that listen to nothing; the truth, instants in seconds since 1970."""
    odd = asyncio.create_task(_look_only(port, began))
    clients = await asyncio.gather(
        *((_ffmpeg if plan.is_ffmpeg else _puller)(port, plan, began, target_seconds) for plan in planned)
    )
    await odd
    return list(clients)


async def _puller(port: int, plan: Plan, began: float, target_seconds: float) -> Client:
    seen = _Seen()
    for number, (join, leave) in enumerate(plan.parts):
        await asyncio.sleep(max(0.0, began + join - time.time()))
        start = time.time()
        try:
            async with asyncio.timeout(began + leave - start):
                await _pull(port, plan, began, target_seconds, seen, asks_master=number == 0)
        except TimeoutError:
            pass
        seen.parts.append((start, time.time()))
    return _client(plan, seen)


async def _pull(port: int, plan: Plan, began: float, target_seconds: float, seen: _Seen, *, asks_master: bool) -> None:
    """Plays until it is cancelled: the playlist once in each target duration, and what is new in it."""
    if asks_master:
        await _playlist(port, plan, MASTER)
    last = -1
    while True:
        now = time.time() - began
        rendition = next((name for since, name in reversed(plan.changes) if now >= since), plan.rendition)
        listed = [line for line in (await _playlist(port, plan, f"/hls/{rendition}.m3u8")).split() if line[:1] != b"#"]
        segments = [line.decode() for line in listed if line.endswith(b".ts")]
        numbers = {int(name.rpartition("_")[2][:-3]): name for name in segments}
        fresh = sorted(number for number in numbers if number > last)[-BEGINS_WITH if last < 0 else 0 :]
        for number in fresh:
            await _fetch(port, plan, f"/hls/{numbers[number]}")
            seen.segments += 1
            last = number
        await asyncio.sleep(target_seconds if fresh else target_seconds / 2)


async def _playlist(port: int, plan: Plan, path: str) -> bytes:
    """A playlist. Liquidsoap 2.1 writes it in place, and nginx hangs up on who asks meanwhile: players ask again."""
    for _ in range(BROKEN_ANSWERS):
        try:
            return await _fetch(port, plan, path)
        except ConnectionResetError:
            await asyncio.sleep(BROKEN_WAIT_SECONDS)
    return await _fetch(port, plan, path)


async def _fetch(
    port: int, plan: Plan, path: str, *, method: str = "GET", more: str = "", status: bytes = b"200"
) -> bytes:
    """The body of one answer, on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(plan.ip, 0))
    session = f"X-Playback-Session-Id: {plan.session}\r\n" if plan.session else ""
    head = f"{method} {path}{plan.query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    writer.write(f"{head}User-Agent: {plan.agent}\r\n{session}{more}\r\n".encode("latin-1"))
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await reader.read(-1)
    finally:
        writer.transport.abort()
    if not answer:
        raise ConnectionResetError(f"{method} {path}: nginx hung up")
    head_bytes, _, body = answer.partition(b"\r\n\r\n")
    if head_bytes.split(b" ")[1:2] != [status]:
        raise AssertionError(f"{method} {path} answered {head_bytes[:60]!r}, not {status!r}")
    return body


async def _look_only(port: int, began: float) -> None:
    """Who listens to nothing: a link checker, an old bookmark, a probe, a page that loads the master alone."""
    await asyncio.sleep(max(0.0, began + LOOKS_AT_SECONDS - time.time()))
    for number, (method, path, more, status) in enumerate(
        (
            ("HEAD", MASTER, "", b"200"),
            ("GET", "/hls/hi_999999.ts", "", b"404"),
            ("GET", MASTER, "Range: bytes=0-1\r\n", b"206"),
            ("GET", MASTER, "", b"200"),
        )
    ):
        looker = Plan(label=f"looker-{number}", ip="127.9.1.200", agent=f"looker/{number}", parts=())
        await _fetch(port, looker, path, method=method, more=more, status=status)


async def _ffmpeg(port: int, plan: Plan, began: float, target_seconds: float) -> Client:
    ((join, leave),) = plan.parts
    await asyncio.sleep(max(0.0, began + join - time.time()))
    seen = _Seen()
    program: Path = parts.find("ffmpeg")
    start = time.time()
    player = await asyncio.create_subprocess_exec(
        program, "-v", "error", "-nostdin", "-user_agent", plan.agent,
        "-i", f"http://127.0.0.1:{port}{MASTER}", "-f", "null", "-",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await asyncio.wait_for(player.wait(), max(0.1, began + leave - time.time()))
    except TimeoutError:
        player.kill()
        await player.wait()
    else:
        # As players do, for instance at a playlist that is just being written. Then that is when it stopped.
        print(f"\n{plan.label} ended by itself with {player.returncode}, {time.time() - start:.1f} s after it began")
    seen.parts.append((start, time.time()))
    return _client(plan, seen)


def _client(plan: Plan, seen: _Seen) -> Client:
    return Client(
        label=plan.label,
        ip=plan.ip,
        agent=plan.agent,
        is_named=bool(plan.session or plan.query),
        parts=tuple(seen.parts),
        segments=seen.segments,
    )
