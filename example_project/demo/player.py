"""A listener as a process of its own: ``python -m example_project.demo.player PORT MOUNT ADDRESS AGENT SECONDS``.

It takes the stream and throws it away. Each has its own loopback address, so
that each is somebody else to Icecast.
"""

from __future__ import annotations

import socket
import sys
import time

READ_BYTES = 65_536


def listen(port: int, mount: str, address: str, agent: str, seconds: float) -> None:
    """Listens for ``seconds``, or until the stream ends."""
    until = time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0)) as line:
        line.sendall(f"GET {mount} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: {agent}\r\n\r\n".encode())
        while time.monotonic() < until and line.recv(READ_BYTES):
            pass


if __name__ == "__main__":
    port, mount, address, agent, seconds = sys.argv[1:]
    try:
        listen(int(port), mount, address, agent, float(seconds))
    except (KeyboardInterrupt, OSError):
        sys.exit(1)
