"""One message to many sockets: a slow one is left behind, and dropped, and delays nobody."""

from __future__ import annotations

import asyncio
from functools import partial
from types import SimpleNamespace

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


async def turns(number: int = 20) -> None:
    """Lets everything that is ready go on, however slow the machine is."""
    for _ in range(number):
        await asyncio.sleep(0)


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
    await turns()
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
    await turns()
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
        await turns()
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


class Transport:
    """A Twisted transport whose client takes ``room`` bytes more."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken = b""
        self.dataBuffer = b""
        self.offset = 0
        self._tempDataBuffer: list[bytes] = []
        self.aborted = 0

    def writeSomeData(self, some: bytes) -> int | Exception:
        if self.room < 0:
            return ConnectionError("gone")
        part = some[: self.room]
        self.taken += part
        self.room -= len(part)
        return len(part)

    def write(self, some: bytes) -> None:
        self._tempDataBuffer.append(some)

    def drain(self) -> None:
        self.taken += b"".join(self._tempDataBuffer)
        self._tempDataBuffer = []

    def abortConnection(self) -> None:
        self.aborted += 1


class Websocket:
    """Daphne's websocket, as far as the fan-out knows it; ``framed`` counts the frames that were made."""

    STATE_OPEN = 3
    framed = 0

    def __init__(self, room: int = 1_000_000) -> None:
        self.state = self.STATE_OPEN
        self.transport = Transport(room)
        self.factory = self

    def prepareMessage(self, payload: bytes, *, doNotCompress: bool) -> SimpleNamespace:
        type(self).framed += 1
        assert doNotCompress
        return SimpleNamespace(payloadHybi=b"<" + payload + b">")

    def sendPreparedMessage(self, prepared: object) -> None:
        raise AssertionError("the transport is written to directly")


def on_daphne(circle: Circle, room: int = 1_000_000) -> tuple[Websocket, Socket, list[str]]:
    async def handle_reply(websocket: Websocket, message: Message) -> None:
        raise AssertionError("daphne would frame it anew")

    websocket, dropped = Websocket(room), []
    socket = Socket(partial(handle_reply, websocket), drop=lambda: dropped.append("dropped"))
    circle.welcome(socket)
    return websocket, socket, dropped


async def test_on_daphne_a_message_is_framed_once_for_all(monkeypatch):
    monkeypatch.setattr(Websocket, "framed", 0)
    circle = Circle()
    websockets = [on_daphne(circle)[0] for _ in range(50)]
    await tell(circle, "one", 10.0)
    assert {one.transport.taken for one in websockets} == {b"<one>"}
    assert Websocket.framed == 1


async def test_on_daphne_a_frame_is_never_cut_nor_overtaken():
    circle = Circle()
    websocket, socket, dropped = on_daphne(circle, room=3)
    await tell(circle, "one", 10.0)
    assert websocket.transport.taken == b"<on"
    assert socket.is_blocked
    await tell(circle, "two", 12.0)
    await tell(circle, "three", 14.0)
    websocket.transport.drain()
    websocket.transport.room = 100
    await circle.send(now=16.0)
    assert websocket.transport.taken == b"<one><three>"
    assert (socket.is_blocked, dropped) == (False, [])


async def test_on_daphne_a_client_that_takes_nothing_is_dropped():
    circle = Circle()
    websocket, socket, dropped = on_daphne(circle, room=3)
    await tell(circle, "one", 10.0)
    await circle.send(now=10.0 + fanout.DROP_SECONDS - 0.1)
    assert not socket.gone
    await circle.send(now=10.0 + fanout.DROP_SECONDS)
    assert (socket.gone, dropped, websocket.transport.aborted) == (True, ["dropped"], 1)


@pytest.mark.parametrize("how", ["closed", "broken"])
async def test_on_daphne_a_client_that_left_is_gone(how):
    circle = Circle()
    websocket, socket, _ = on_daphne(circle)
    if how == "closed":
        websocket.state = 0
    else:
        websocket.transport.room = -1
    await tell(circle, "one", 10.0)
    assert socket.gone


def test_another_server_s_send_is_left_as_it_is():
    async def send(message: Message) -> None:
        raise AssertionError("not now")

    assert Socket(partial(send, object()), drop=lambda: None)._daphne is None
    assert Socket(send, drop=lambda: None)._daphne is None
