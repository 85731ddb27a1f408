"""A pretend Icecast: the real protocol on a loopback port, without an encoder.

It answers ``/admin/stats``, ``/admin/listclients`` and ``/status-json.xsl`` as
Icecast 2.4.4 does, writes its access log, posts the URL-authentication
callbacks, and serves silence to whoever opens a mount, who is then a
listener like the pretend ones.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import http.client
import json
import queue
import secrets
import threading
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

__all__ = ["Client", "PretendIcecast", "log_line"]

SILENT_FRAME = bytes.fromhex("fffb9000") + bytes(413)
"""One MPEG-1 layer III frame, 128 kbit/s at 44.1 kHz, 417 bytes, that decodes to silence."""

FRAME_SECONDS = 1152 / 44100
BYTES_PER_SECOND = 16_000
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def log_line(ip: str, mount: str, agent: str, start: float, end: float) -> str:
    """The access-log line of a listener who left: stamp = end, last field = whole seconds."""
    at = dt.datetime.fromtimestamp(int(end), dt.UTC)
    stamp = f"{at:%d}/{MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} +0000"
    seconds = int(end) - int(start)
    shown = "".join(c if " " <= c <= "~" and c not in '"\\' else "." for c in agent) or "-"
    return f'{ip} - - [{stamp}] "GET {mount} HTTP/1.1" 200 {seconds * BYTES_PER_SECOND} "-" "{shown}" {seconds}\n'


@dataclass(slots=True, kw_only=True)
class Client:
    """A connected listener."""

    number: int
    mount: str
    ip: str
    agent: str
    start: float


@dataclass(slots=True)
class PretendIcecast:
    """One server with its mounts. ``start()`` opens the port, ``stop()`` closes it."""

    mounts: Sequence[str] = ("/live.mp3",)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    callback_url: str | None = None  # listener_add and listener_remove are posted there
    log: Path | None = None
    port: int = 0
    clients: dict[int, Client] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    _next: int = 1
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _callbacks: queue.Queue = field(default_factory=lambda: queue.Queue(maxsize=10_000))
    _stopping: threading.Event = field(default_factory=threading.Event)
    _server: ThreadingHTTPServer | None = None
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        pretend = self

        class Handler(_Handler):
            icecast = pretend

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._threads = [
            threading.Thread(target=self._server.serve_forever, name="pretend-icecast", daemon=True),
            threading.Thread(target=self._post, name="pretend-icecast-callbacks", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def join(self, mount: str, ip: str, agent: str, *, at: float | None = None) -> int:
        """A listener connects; gives the client number. ``at`` in the past seeds those already there."""
        with self._lock:
            number, self._next = self._next, self._next + 1
            client = Client(number=number, mount=mount, ip=ip, agent=agent, start=time.time() if at is None else at)
            self.clients[number] = client
        self._tell("listener_add", client)
        return number

    def leave(self, number: int) -> None:
        """The listener is gone: the log gets its line, the callback is posted."""
        with self._lock:
            client = self.clients.pop(number, None)
        if client is None:
            return
        end = time.time()
        if self.log:
            with self._lock, self.log.open("a", encoding="ascii") as log:
                log.write(log_line(client.ip, client.mount, client.agent, client.start, end))
        self._tell("listener_remove", client, duration=int(end) - int(client.start))

    def _tell(self, action: str, client: Client, duration: int | None = None) -> None:
        if self.callback_url is None:
            return
        form = {
            "action": action,
            "server": "localhost",
            "port": str(self.port),
            "client": str(client.number),
            "mount": client.mount,
            "user": "",
            "pass": "",
        }
        if duration is not None:
            form["duration"] = str(duration)
        form |= {"ip": client.ip, "agent": client.agent or "-"}
        with contextlib.suppress(queue.Full):
            self._callbacks.put_nowait(urllib.parse.urlencode(form))

    def _post(self) -> None:
        while not self._stopping.is_set():
            try:
                body = self._callbacks.get(timeout=0.5)
            except queue.Empty:
                continue
            target = urllib.parse.urlsplit(self.callback_url or "")
            try:
                connection = http.client.HTTPConnection(target.hostname or "127.0.0.1", target.port, timeout=5)
                connection.request(
                    "POST",
                    target.path,
                    body,
                    {"Content-Type": "application/x-www-form-urlencoded", "User-Agent": "Icecast 2.4.4"},
                )
                connection.getresponse().read()
                connection.close()
            except OSError:
                continue  # as Icecast: a listener_remove that finds nobody is lost

    def stats_xml(self) -> str:
        start = dt.datetime.fromtimestamp(self.started, dt.UTC)
        sources = "".join(
            f"<source mount={quoteattr(mount)}><authenticator>url</authenticator>"
            f"<listeners>{len(self.on(mount))}</listeners>"
            f"<listenurl>http://localhost:{self.port}{escape(mount)}</listenurl><server_type>audio/mpeg</server_type>"
            f"<stream_start_iso8601>{start:%Y-%m-%dT%H:%M:%S+0000}</stream_start_iso8601></source>"
            for mount in self.mounts
        )
        return (
            f'<?xml version="1.0"?>\n<icestats><host>localhost</host><listeners>{len(self.clients)}</listeners>'
            f"<server_id>Icecast 2.4.4</server_id><server_start>{start:%a, %d %b %Y %H:%M:%S +0000}</server_start>"
            f"<server_start_iso8601>{start:%Y-%m-%dT%H:%M:%S+0000}</server_start_iso8601>"
            f"<sources>{len(self.mounts)}</sources>{sources}</icestats>\n"
        )

    def listclients_xml(self, mount: str) -> str:
        now = time.time()
        clients = self.on(mount)
        rows = "".join(
            f"<listener><IP>{client.ip}</IP><UserAgent>{escape(client.agent or 'Unknown')}</UserAgent>"
            f"<Connected>{int(now) - int(client.start)}</Connected><ID>{client.number}</ID></listener>"
            for client in clients
        )
        return (
            f'<?xml version="1.0"?>\n<icestats><source mount={quoteattr(mount)}>'
            f"<Listeners>{len(clients)}</Listeners>{rows}</source></icestats>\n"
        )

    def status_json(self) -> str:
        sources = [
            {"listenurl": f"http://localhost:{self.port}{mount}", "listeners": len(self.on(mount)), "dummy": None}
            for mount in self.mounts
        ]
        stats = {"server_id": "Icecast 2.4.4", "source": sources[0] if len(sources) == 1 else sources}
        return json.dumps({"icestats": stats})

    def on(self, mount: str) -> list[Client]:
        with self._lock:
            return [client for client in self.clients.values() if client.mount == mount]


class _Handler(BaseHTTPRequestHandler):
    icecast: PretendIcecast
    server_version = "Icecast"
    sys_version = "2.4.4"

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        if url.path.startswith("/admin/"):
            self._admin(url.path, urllib.parse.parse_qs(url.query))
        elif url.path == "/status-json.xsl":
            self._answer(200, "application/json", self.icecast.status_json())
        elif url.path in self.icecast.mounts:
            self._silence(url.path)
        else:
            self._answer(404, "text/html", "<b>The file you requested could not be found</b>\r\n")

    def _admin(self, path: str, query: dict[str, list[str]]) -> None:
        expected = base64.b64encode(f"admin:{self.icecast.password}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            self._answer(401, "text/plain", "You need to authenticate\r\n")
        elif path == "/admin/stats":
            self._answer(200, "text/xml", self.icecast.stats_xml())
        elif path == "/admin/listclients":
            mount = query.get("mount", [""])[0]
            if mount in self.icecast.mounts:
                self._answer(200, "text/xml", self.icecast.listclients_xml(mount))
            else:
                self._answer(400, "text/html", "<html><body>Source does not exist</body></html>\r\n")
        else:
            self._answer(400, "text/html", "<html><body>Unrecognised command</body></html>\r\n")

    def _answer(self, status: int, kind: str, body: str) -> None:
        content = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def _silence(self, mount: str) -> None:
        """Silence at the speed of sound until the listener leaves."""
        number = self.icecast.join(mount, self.client_address[0], self.headers.get("User-Agent", ""))
        try:
            self.send_response(200)
            self.send_header("Content-Type", "audio/mpeg")
            self.send_header("Cache-Control", "no-cache, no-store")
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            self.wfile.write(SILENT_FRAME * 80)
            while not self.icecast._stopping.is_set():
                self.wfile.write(SILENT_FRAME * 10)
                time.sleep(10 * FRAME_SECONDS)
        except OSError:
            pass
        finally:
            self.icecast.leave(number)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: an address is in that line."""
