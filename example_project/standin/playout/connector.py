"""Liquidsoap's command socket."""

from __future__ import annotations

import re
import socket

END = b"\r\nEND\r\n"
CHUNK_BYTES = 4096
# Our own choice: Liquidsoap answers in milliseconds, aircox itself would wait for ever.
ANSWER_SECONDS = 5.0

_PAIR = re.compile(r'^([^=\s]+)="((?:[^"\\]|\\.)*)"\s*$')


class LiquidsoapSocket:
    """A Unix socket that stays open between commands, and is opened anew once when it broke."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket: socket.socket | None = None

    def ask(self, command: str) -> str | None:
        """Liquidsoap's answer without its end mark; None when nobody answers."""
        for _ in range(2):
            try:
                return self._exchange(command)
            except OSError:
                self.close()
        return None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, command: str) -> str:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(ANSWER_SECONDS)
            self._socket.connect(self.address)
        self._socket.sendall(f"{command}\n".encode())
        answer = b""
        while not answer.endswith(END):
            chunk = self._socket.recv(CHUNK_BYTES)
            if not chunk:
                raise ConnectionResetError(f"{self.address} was closed by Liquidsoap")
            answer += chunk
        return answer.removesuffix(END).decode("utf-8", "replace").strip()


def pairs(answer: str) -> dict[str, str]:
    """The `key="value"` lines of an answer; other lines are passed over."""
    found = (_PAIR.match(line) for line in answer.splitlines())
    return {pair[1]: re.sub(r"\\(.)", r"\1", pair[2]) for pair in found if pair}
