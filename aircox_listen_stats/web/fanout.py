"""One message to many sockets: offered to each in turn, waited for by nobody."""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any

LAST_WORD_SECONDS = 1.0
"""At most one message to a socket in this time (the documented rate)."""
DROP_SECONDS = 10.0
"""A socket that has not taken a frame for this time is dropped."""
BREATH_SOCKETS = 128
"""After so many sends the event loop gets a turn, for accepts, closes and other pages: about two
milliseconds. Between 32 and all at once the fan-out itself was measured no faster nor slower."""

WEBSOCKET = ("factory", "sendPreparedMessage", "state", "STATE_OPEN", "transport")
"""What autobahn's websocket, which daphne uses, must have for a frame to be given to it directly."""
TRANSPORT = ("abortConnection", "dataBuffer", "offset", "_tempDataBuffer", "write", "writeSomeData")
"""The same of its Twisted transport. Where one is missing, it is sent to as any other server's socket."""

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Message(dict[str, Any]):
    """An ASGI message that many sockets are given; ``framed`` is the same as bytes for the wire, once made."""

    framed: Any = None


class Socket:
    """One open websocket as the fan-out sees it.

    ``send`` is the server's own ASGI callable. It is stepped by hand: where
    the server's buffer has room it ends without suspending, and no task is
    made. Only for a socket that blocks does a task wait, in everyone's place.
    """

    __slots__ = ("_daphne", "_drop", "_send", "blocked_at", "gone", "message", "sent_at", "task")

    def __init__(self, send: Send, *, drop: Callable[[], None]) -> None:
        self._send = send
        self._daphne = _daphne(send)
        self._drop = drop
        self.message: Message | None = None  # the last one that the server was given
        self.sent_at = 0.0
        self.task: asyncio.Task[None] | None = None
        self.blocked_at = 0.0
        self.gone = False

    def offer(self, message: Message, *, now: float) -> None:
        """Gives ``message`` to the server; one that cannot be sent to any longer is ``gone``."""
        self.message = message
        self.sent_at = now
        if self._daphne is not None:
            self._offer_framed(message, now)
            return
        sending = self._send(message).__await__()
        try:
            awaited = next(sending)
        except StopIteration:
            return
        except Exception:  # noqa: BLE001 - each server has its own error for a client that left
            self.gone = True
            return
        self.blocked_at = now
        self.task = asyncio.get_running_loop().create_task(_rest(awaited, sending))
        self.task.add_done_callback(self._unblocked)

    @property
    def is_blocked(self) -> bool:
        """Whether something that was sent has not been taken yet."""
        return self.task is not None or (self._daphne is not None and _has_backlog(self._daphne.transport))

    def _offer_framed(self, message: Message, now: float) -> None:
        """Gives daphne's websocket the bytes of ``message``, framed once for all of them.

        Daphne itself would frame them for each socket, and Twisted watch each
        socket for a moment in which it can be written to, which it nearly
        always can at once: together three quarters of a fan-out's time.
        """
        websocket = self._daphne
        if websocket.state != websocket.STATE_OPEN:
            self.gone = True
            return
        if message.framed is None:
            # An uncompressed frame is good on a connection that negotiated compression, too.
            message.framed = websocket.factory.prepareMessage(message["text"].encode(), doNotCompress=True)
        frame = message.framed.payloadHybi
        written = 0 if _has_backlog(websocket.transport) else websocket.transport.writeSomeData(frame)
        if not isinstance(written, int) or written < 0:
            self.gone = True  # Twisted gives an error instead of a number for a client that left
        elif written < len(frame):
            websocket.transport.write(frame[written:])
            self.blocked_at = now

    def leave(self) -> None:
        """Forgets what still waits to be sent."""
        self.gone = True
        if self.task is not None:
            self.task.cancel()

    def drop(self) -> None:
        """Ends a socket that does not take its frames."""
        self.leave()
        if self._daphne is not None:
            self._daphne.transport.abortConnection()
        self._drop()

    def _unblocked(self, task: asyncio.Task[None]) -> None:
        self.task = None
        if not task.cancelled() and task.exception() is not None:
            self.gone = True


def _daphne(send: Send) -> Any:
    """The websocket behind daphne's ``send``, where it is one that a frame can be given to; else None."""
    bound = getattr(send, "args", ())
    if not bound or not all(hasattr(bound[0], name) for name in WEBSOCKET):
        return None
    return bound[0] if all(hasattr(bound[0].transport, name) for name in TRANSPORT) else None


def _has_backlog(transport: Any) -> bool:
    """Whether bytes wait in a Twisted transport for the client to take them."""
    return bool(transport._tempDataBuffer) or len(transport.dataBuffer) > transport.offset


@types.coroutine
def _rest(awaited: Any, sending: Generator[Any, Any, None]) -> Generator[Any, Any, None]:
    """The rest of a coroutine that was begun by hand and stopped at ``awaited``."""
    while True:
        try:
            answer = yield awaited
        except BaseException as error:  # noqa: BLE001 - handed on into the coroutine, as `await` does
            step = partial(sending.throw, error)
        else:
            step = partial(sending.send, answer)
        try:
            awaited = step()
        except StopIteration:
            return


class Circle:
    """The sockets that see the same, and the message that all of them should have."""

    def __init__(self) -> None:
        self.sockets: dict[Socket, None] = {}
        self.message: Message | None = None
        self.announced_at = float("-inf")
        self._behind = False

    def announce(self, text: str, *, now: float) -> None:
        """Makes ``text`` the message; encoded once, it goes out with the next :meth:`send`."""
        self.message = Message(type="websocket.send", text=text)
        self.announced_at = now
        self._behind = True

    def welcome(self, socket: Socket) -> None:
        """Takes a new socket in and gives it the message at once."""
        self.sockets[socket] = None
        if self.message is not None:
            socket.offer(self.message, now=time.monotonic())
            self._behind = self._behind or socket.is_blocked

    async def send(self, *, now: float) -> None:
        """Offers the message to every socket that lacks it, and drops those that block too long."""
        if self.message is None or not self._behind:
            return
        self._behind = False
        sent = 0
        for socket in tuple(self.sockets):
            if socket.gone:
                continue
            if socket.is_blocked:
                self._behind = True
                if now - socket.blocked_at >= DROP_SECONDS:
                    socket.drop()
            elif socket.message is not self.message:
                if now - socket.sent_at < LAST_WORD_SECONDS:
                    self._behind = True  # it has just had its snapshot
                    continue
                socket.offer(self.message, now=now)
                self._behind = self._behind or socket.is_blocked
                sent += 1
                if sent % BREATH_SOCKETS == 0:
                    await asyncio.sleep(0)
