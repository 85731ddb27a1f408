"""A private nginx that serves a folder, and writes the log that the test asks for."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from tests.parts.child import LOOPBACK, Child, answers, free_port, private_folder, write
from tools import parts

ACCOUNTS = ("www-data", "nginx", "nobody")

CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    types {{ application/vnd.apple.mpegurl m3u8; video/mp2t ts; }}
    default_type application/octet-stream;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{log_format}
    server {{
        listen {address}:{port} backlog={backlog};
        root {root};
        access_log {folder}/access.log {log_name};
        access_log {folder}/combined.log combined;
    }}
}}
"""


class Nginx:
    """One server with its own folder. Not running until ``start()``.

    ``log_format`` is a whole directive; the log ``access_log`` is written in
    it, and ``combined_log`` in nginx's own format.
    """

    def __init__(self, root: Path, *, log_format: str) -> None:
        self.root = root
        self.log_format = log_format
        self.folder = private_folder("nginx", ACCOUNTS)
        self.port = free_port()
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The base, without a slash at the end."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def access_log(self) -> Path:
        """The log in the format that was asked for."""
        return self.folder / "access.log"

    @property
    def combined_log(self) -> Path:
        """The same requests in the combined format."""
        return self.folder / "combined.log"

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.is_running

    def start(self) -> None:
        """Starts the server and returns when it answers."""
        program = parts.find("nginx")
        configuration = write(self.folder / "nginx.conf", self.configuration(), ACCOUNTS)
        self._child = Child(
            [program, "-p", self.folder, "-e", self.folder / "error.log", "-c", configuration],
            folder=self.folder,
            name="nginx",
            account=ACCOUNTS,
        )
        self._child.wait_until(lambda: answers(self.port))

    def stop(self) -> None:
        """Ends it in order."""
        if self._child is not None:
            self._child.stop()

    def rotate(self, suffix: str = ".1") -> None:
        """Both logs, moved as logrotate does, and nginx told to open new ones."""
        assert self._child is not None, "call start() first"
        for log in (self.access_log, self.combined_log):
            log.rename(log.with_name(log.name + suffix))
        self._child.popen.send_signal(signal.SIGUSR1)

    def configuration(self) -> str:
        """The text of nginx.conf."""
        return CONFIGURATION.format(
            folder=self.folder,
            root=self.root,
            address=LOOPBACK,
            port=self.port,
            backlog=socket.SOMAXCONN,
            log_format=self.log_format,
            log_name=self.log_format.split()[1],
        )
