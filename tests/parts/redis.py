"""A Redis to test on: the one that is named, else one that is here, else a private one."""

from __future__ import annotations

import os
from dataclasses import dataclass

import redis

from tests.parts.child import LOOPBACK, Child, PartFailed, free_port, private_folder
from tools import parts

ACCOUNTS = ("redis", "nobody")
USUAL_PORT = 6379
CONNECT_SECONDS = 30.0
"""A busy machine may let a server wait; where none listens, that is known at once."""


@dataclass(slots=True, kw_only=True)
class Server:
    """A Redis; a private one can be stopped and started again on the same port."""

    url: str
    child: Child | None = None

    @property
    def is_private(self) -> bool:
        """Whether it is ours to stop."""
        return self.child is not None

    def stop(self) -> None:
        """Ends the server, if it is ours."""
        if self.child is not None:
            self.child.stop()

    def restart(self) -> None:
        """Starts it again, empty, where it was."""
        if self.child is None:
            raise PartFailed(f"The Redis at {self.url} is not ours to restart; take one from redis.start().")
        self.child.stop()
        self.child = _launch(int(self.url.rsplit(":", 1)[1].split("/")[0]))


def server() -> Server:
    """REDIS_URL's, else the one on the usual port, else a private one."""
    named = os.environ.get("REDIS_URL")
    if named:
        if not _pings(named):
            raise PartFailed("The Redis that REDIS_URL names does not answer PING. Mend or unset REDIS_URL.")
        return Server(url=named)
    usual = f"redis://{LOOPBACK}:{USUAL_PORT}/0"
    return Server(url=usual) if _pings(usual) else start()


def start() -> Server:
    """A new private server, without a file on disk."""
    port = free_port()
    return Server(url=f"redis://{LOOPBACK}:{port}/0", child=_launch(port))


def _launch(port: int) -> Child:
    program = parts.find("redis")
    folder = private_folder("redis", ACCOUNTS)
    command = [program, "--bind", LOOPBACK, "--port", str(port), "--save", "", "--appendonly", "no"]
    child = Child([*command, "--dir", folder], folder=folder, name="redis", account=ACCOUNTS)
    child.wait_until(lambda: _pings(f"redis://{LOOPBACK}:{port}/0"))
    return child


def _pings(url: str) -> bool:
    client = redis.Redis.from_url(url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS)
    try:
        return bool(client.ping())
    except redis.exceptions.RedisError:
        return False
    finally:
        client.close()
