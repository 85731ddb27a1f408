"""A private Liquidsoap that runs the test's own script and answers on a socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.parts.child import LOOPBACK, Child, PartFailed, account_as_root, free_port, private_folder, write
from tools import parts

ACCOUNTS = ("liquidsoap", "nobody")
ANSWER_SECONDS = 30.0
END_OF_ANSWER = "END"


@dataclass(slots=True)
class Liquidsoap:
    """One playout with its own folder. Not running until ``start(script)``.

    The script may use the variables of ``heading()``, which it gets in front:
    the socket's settings and ``folder``.
    """

    folder: Path = field(default_factory=lambda: private_folder("liquidsoap", ACCOUNTS))
    telnet_port: int = field(default_factory=free_port)
    _child: Child | None = field(default=None, init=False)

    @property
    def socket_path(self) -> Path:
        """The unix socket, as aircox's connector opens it."""
        return self.folder / "station.sock"

    @property
    def pid(self) -> int:
        """The process id of the playout that runs."""
        assert self._child is not None, "call start() first"
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.is_running

    def heading(self) -> str:
        """What goes before a script: both sockets, a log on stdout, and the folder's name."""
        return "\n".join(
            (
                f'folder = "{self.folder}"',
                "settings.log.file.set(false)",
                "settings.log.stdout.set(true)",
                "settings.server.telnet.set(true)",
                f'settings.server.telnet.bind_addr.set("{LOOPBACK}")',
                f"settings.server.telnet.port.set({self.telnet_port})",
                "settings.server.socket.set(true)",
                f'settings.server.socket.path.set("{self.socket_path}")',
                "settings.server.socket.permissions.set(0o666)",
                "",
            )
        )

    def start(self, script: str, environment: Mapping[str, str] | None = None) -> None:
        """Runs the script, behind ``heading()``; returns when the socket answers."""
        self.start_file(self.file("station.liq", self.heading() + script), environment)

    def start_file(
        self, path: Path, environment: Mapping[str, str] | None = None, socket_path: Path | None = None
    ) -> None:
        """Runs a whole script as it stands; ``socket_path`` where it opens another socket than ours."""
        program = parts.find("liquidsoap")
        self._child = Child(
            [program, path],
            folder=self.folder,
            name="liquidsoap",
            account=ACCOUNTS,
            environment={"HOME": str(self.folder), **(environment or {})},
        )
        waited = socket_path or self.socket_path
        self._child.wait_until(lambda: _answers(waited))

    def stop(self) -> None:
        """Ends it; its outputs disconnect."""
        if self._child is not None:
            self._child.stop()
        self.socket_path.unlink(missing_ok=True)

    def sigkill(self) -> None:
        """Ends it as a crash does: its socket file stays behind."""
        assert self._child is not None, "call start() first"
        self._child.kill()

    def file(self, name: str, content: str | bytes) -> Path:
        """A file in the folder that the playout may read."""
        path = self.folder / name
        if isinstance(content, str):
            return write(path, content, ACCOUNTS)
        path.write_bytes(content)
        user = account_as_root(ACCOUNTS)
        if user:
            os.chown(path, user.pw_uid, user.pw_gid)
        return path

    def ask(self, command: str) -> str:
        """The answer to one command, without its END line."""
        return ask(self.socket_path, command)

    def output(self) -> str:
        """The last lines of its log."""
        return self._child.tail() if self._child is not None else ""


def ask(socket_path: Path, command: str) -> str:
    """The playout's answer to one command on its unix socket, without its END line."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(ANSWER_SECONDS)
        line.connect(str(socket_path))
        line.sendall(command.encode() + b"\n")
        received = b""
        while not received.replace(b"\r\n", b"\n").endswith(b"END\n"):
            chunk = line.recv(65_536)
            if not chunk:
                raise PartFailed(f"Liquidsoap closed its socket after {received!r}, before {END_OF_ANSWER}.")
            received += chunk
        line.sendall(b"quit\n")
    lines = received.decode(errors="replace").splitlines()
    return "\n".join(lines[:-1])


def _answers(socket_path: Path) -> bool:
    try:
        return bool(ask(socket_path, "version"))
    except (OSError, PartFailed):
        return False
