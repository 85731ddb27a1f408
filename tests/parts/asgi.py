"""A real ASGI server, uvicorn or daphne, serving an application in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tests.parts.child import LOOPBACK, Child, answers, free_port, private_folder, python_path

LEAVE_SECONDS = 1
"""How long uvicorn waits for open sockets when it is told to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AsgiServer:
    """A server that answers."""

    port: int
    child: Child

    @property
    def url(self) -> str:
        """The base for pages, without a slash at the end."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def ws_url(self) -> str:
        """The base for websockets, without a slash at the end."""
        return f"ws://{LOOPBACK}:{self.port}"

    def stop(self) -> None:
        """Ends it."""
        self.child.stop()


def serve(
    application: str,
    *,
    server: Literal["uvicorn", "daphne"] = "uvicorn",
    environment: Mapping[str, str] | None = None,
) -> AsgiServer:
    """``application``, such as ``example_project.asgi:application``, on a free port."""
    port = free_port()
    commands = {
        "uvicorn": [
            *("uvicorn", "--host", LOOPBACK, "--port", str(port), "--log-level", "warning"),
            *("--timeout-graceful-shutdown", str(LEAVE_SECONDS), application),
        ],
        "daphne": ["daphne", "-b", LOOPBACK, "-p", str(port), "-v", "1", application],
    }
    folder = private_folder(server)
    child = Child(
        [sys.executable, "-m", *commands[server]],
        folder=folder,
        name=server,
        environment={**(environment or {}), "PYTHONPATH": python_path(environment or {})},
    )
    child.wait_until(lambda: answers(port))
    return AsgiServer(port=port, child=child)
