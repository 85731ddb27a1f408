"""One message to many sockets: a slow one is left behind, and dropped, and delays nobody."""

from __future__ import annotations

import asyncio

import pytest

from aircox_listen_stats.web import fanout
from aircox_listen_stats.web.fanout import Circle, Message, Socket


class Server:
    """A server's send: it takes a message at once while it is ``writable``, as uvicorn's does."""

    def __init__(self) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self.sent: list[str] = []
        self.dropped = 0

    async def send(self, message: fanout.Message) -> None:
        await self.writable.wait()
        await asyncio.sleep(0) if not self.writable.is_set() else None
        self.sent.append(message["text"])

    def drop(self) -> None:
        self.dropped += 1


def joined(circle: Circle) -> tuple[Server, Socket]:
    server = Server()
    socket = Socket(server.send, drop=server.drop)
    circle.welcome(socket)
    return server, socket


async def tell(circle: Circle, text: str, now: float) -> None:
    circle.announce(text, now=now)
    await circle.send(now=now)


async def test_a_server_with_room_costs_no_task():
    circle = Circle()
    servers = [joined(circle)[0] for _ in range(1000)]
    before = len(asyncio.all_tasks())
    await tell(circle, "one", 10.0)
    assert len(asyncio.all_tasks()) == before
    assert all(server.sent == ["one"] for server in servers)


async def test_a_socket_that_blocks_gets_the_latest_message_and_none_between():
    circle = Circle()
    server, _ = joined(circle)
    server.writable.clear()
    for number, text in enumerate(["one", "two", "three"]):
        await tell(circle, text, 10.0 + 2 * number)
    server.writable.set()
    await asyncio.sleep(0.01)
    await circle.send(now=16.0)
    assert server.sent == ["one", "three"]


async def test_one_slow_socket_delays_no_other():
    circle = Circle()
    slow, _ = joined(circle)
    slow.writable.clear()
    others = [joined(circle)[0] for _ in range(500)]
    await tell(circle, "one", 10.0)
    assert slow.sent == []
    assert all(server.sent == ["one"] for server in others)
    slow.writable.set()
    await asyncio.sleep(0.01)
    assert slow.sent == ["one"]


async def test_a_socket_that_stays_blocked_is_dropped_once_and_its_task_ended():
    circle = Circle()
    server, socket = joined(circle)
    server.writable.clear()
    await tell(circle, "one", 10.0)
    task = socket.task
    await circle.send(now=10.0 + fanout.DROP_SECONDS - 0.1)
    assert server.dropped == 0
    await circle.send(now=10.0 + fanout.DROP_SECONDS)
    await circle.send(now=11.0 + fanout.DROP_SECONDS)
    assert server.dropped == 1
    await asyncio.wait([task])
    assert task.cancelled()
    assert server.sent == []


async def test_a_socket_that_blocks_on_its_snapshot_is_dropped_too():
    circle = Circle()
    circle.announce("one", now=10.0)
    server = Server()
    server.writable.clear()
    socket = Socket(server.send, drop=server.drop)
    circle.welcome(socket)
    await circle.send(now=socket.blocked_at + fanout.DROP_SECONDS)
    assert server.dropped == 1


@pytest.mark.parametrize("blocks_first", [False, True])
async def test_a_client_that_left_is_offered_nothing_more(blocks_first):
    async def send(message: fanout.Message) -> None:
        nonlocal calls
        calls += 1
        if blocks_first:
            await asyncio.sleep(0)
        raise ConnectionResetError

    calls = 0
    circle = Circle()
    circle.welcome(Socket(send, drop=lambda: None))
    for second in range(3):
        await tell(circle, str(second), 10.0 + second)
        await asyncio.sleep(0.01)
    assert calls == 1


async def test_a_message_goes_to_a_socket_once():
    circle = Circle()
    server, _ = joined(circle)
    await tell(circle, "one", 10.0)
    await circle.send(now=20.0)
    assert server.sent == ["one"]


async def test_the_event_loop_breathes_during_a_large_fan_out():
    circle = Circle()
    for _ in range(10 * fanout.BREATH_SOCKETS):
        joined(circle)
    turns = 0

    async def breathe() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    breathing = asyncio.create_task(breathe())
    await tell(circle, "one", 10.0)
    breathing.cancel()
    assert turns >= 9


async def test_a_coroutine_begun_by_hand_keeps_its_answers_and_its_errors():
    steps = []

    async def send(message: fanout.Message) -> None:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "answer")
        steps.append(await future)
        try:
            failing = asyncio.get_running_loop().create_future()
            failing.set_exception(ValueError("seen"))
            await asyncio.sleep(0)
            await failing
        except ValueError as error:
            steps.append(str(error))

    socket = Socket(send, drop=lambda: None)
    socket.offer(Message(type="websocket.send", text=""), now=0.0)
    await socket.task
    assert steps == ["answer", "seen"]
