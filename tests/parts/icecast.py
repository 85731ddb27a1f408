"""A private Icecast: its mounts, its URL authentication and its access log are the test's."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import httpx

from tests.parts.child import LOOPBACK, Child, free_port, private_folder, write
from tools import parts

ACCOUNTS = ("icecast2", "icecast", "nobody")
SOURCE_PASSWORD = "source-of-the-tests"
ADMIN_USER = "admin"
ADMIN_PASSWORD = "admin-of-the-tests"
SHARED_FILES = (Path("/usr/share/icecast2"), Path("/usr/share/icecast"))
"""Where packages keep Icecast's web and admin pages."""
MOST_CLIENTS = 2_000
PATIENCE_SECONDS = 300
"""How long a source or a client may send nothing: some of ours are silent by design, all while a machine is busy."""
HTTP_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount; ``url_auth`` holds Icecast's options (listener_add, listener_remove, headers ...)."""

    name: str
    url_auth: Mapping[str, str] = field(default_factory=dict)
    fallback: str = ""
    hidden: bool = False


class Icecast:
    """One server with its own folder. Not running until ``start()``."""

    def __init__(
        self,
        mounts: Sequence[Mount | str] = ("/live.mp3",),
        *,
        environment: Mapping[str, str] | None = None,
        burst_bytes: int = 65_535,
    ) -> None:
        self.mounts = tuple(Mount(name=one) if isinstance(one, str) else one for one in mounts)
        self.folder = private_folder("icecast", ACCOUNTS)
        self.port = free_port()
        self._environment = dict(environment or {})  # such as TZ, which the log's offset follows
        self._burst_bytes = burst_bytes
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """The base, without a slash at the end."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def admin_url(self) -> str:
        """Base of the admin pages, without a slash at the end."""
        return f"{self.url}/admin"

    @property
    def admin_auth(self) -> tuple[str, str]:
        """User and password of the admin pages."""
        return ADMIN_USER, ADMIN_PASSWORD

    @property
    def source_password(self) -> str:
        """The password of the user ``source`` on every mount."""
        return SOURCE_PASSWORD

    @property
    def access_log(self) -> Path:
        """The access log; it appears with the first request that ended."""
        return self.folder / "access.log"

    @property
    def error_log(self) -> Path:
        """Icecast's own messages."""
        return self.folder / "error.log"

    @property
    def pid(self) -> int:
        """The process id of the server that runs."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.is_running

    def start(self) -> None:
        """Starts the server and returns when it answers."""
        program = parts.find("icecast2")
        configuration = write(self.folder / "icecast.xml", self.configuration(), ACCOUNTS)
        self._child = Child(
            [program, "-c", configuration],
            folder=self.folder,
            name="icecast",
            account=ACCOUNTS,
            environment=self._environment,
        )
        self._child.wait_until(self._answers)

    def stop(self) -> None:
        """Ends it in order: listeners get their log lines and removals."""
        if self._child is not None:
            self._child.stop()

    def sigkill(self) -> None:
        """Ends it as a crash does: no log line, no removal."""
        self._running().kill()

    def restart(self) -> None:
        """Stops and starts it: client ids begin at 1 again."""
        self.stop()
        self.start()

    def rotate(self, suffix: str = ".1") -> Path:
        """The old log, moved as logrotate does; the new one appears at the next request."""
        moved = self.access_log.with_name(self.access_log.name + suffix)
        self.access_log.rename(moved)
        self._running().popen.send_signal(signal.SIGHUP)
        return moved

    def has_source(self, mount: str) -> bool:
        """Whether somebody streams into the mount."""
        answer = httpx.get(f"{self.admin_url}/listmounts", auth=self.admin_auth, timeout=HTTP_SECONDS)
        return any(one.get("mount") == mount for one in ElementTree.fromstring(answer.text).iter("source"))

    def listeners(self, mount: str) -> int:
        """How many listen on the mount now; 0 without a source."""
        answer = httpx.get(f"{self.admin_url}/listmounts", auth=self.admin_auth, timeout=HTTP_SECONDS)
        for one in ElementTree.fromstring(answer.text).iter("source"):
            if one.get("mount") == mount:
                return int(one.findtext("listeners", "0"))
        return 0

    def configuration(self) -> str:
        """The text of icecast.xml."""
        root = ElementTree.Element("icecast")
        _add(root, {"location": "test", "admin": "nobody@localhost", "hostname": "localhost", "fileserve": 1})
        limits = {
            "clients": MOST_CLIENTS,
            "sources": 20,
            "client-timeout": PATIENCE_SECONDS,
            "source-timeout": PATIENCE_SECONDS,
        }
        _add(ElementTree.SubElement(root, "limits"), {**limits, "burst-size": self._burst_bytes})
        passwords = {"source-password": SOURCE_PASSWORD, "relay-password": SOURCE_PASSWORD}
        admin = {"admin-user": ADMIN_USER, "admin-password": ADMIN_PASSWORD}
        _add(ElementTree.SubElement(root, "authentication"), passwords | admin)
        _add(ElementTree.SubElement(root, "listen-socket"), {"port": self.port, "bind-address": LOOPBACK})
        for mount in self.mounts:
            root.append(_mount(mount))
        _add(ElementTree.SubElement(root, "paths"), self._paths())
        logging = {"accesslog": "access.log", "errorlog": "error.log", "playlistlog": "playlist.log", "loglevel": 3}
        _add(ElementTree.SubElement(root, "logging"), logging)
        _add(ElementTree.SubElement(root, "security"), {"chroot": 0})
        ElementTree.indent(root)
        return ElementTree.tostring(root, encoding="unicode")

    def _paths(self) -> dict[str, object]:
        shared = next((folder for folder in SHARED_FILES if folder.is_dir()), SHARED_FILES[0])
        return {"basedir": shared, "logdir": self.folder, "webroot": shared / "web", "adminroot": shared / "admin"}

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/status-json.xsl", timeout=HTTP_SECONDS).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _running(self) -> Child:
        assert self._child is not None, "call start() first"
        return self._child


def _mount(mount: Mount) -> ElementTree.Element:
    node = ElementTree.Element("mount", {"type": "normal"})
    words: dict[str, object] = {"mount-name": mount.name}
    if mount.fallback:
        words |= {"fallback-mount": mount.fallback, "fallback-override": 1}
    if mount.hidden:
        words["hidden"] = 1
    _add(node, words)
    if mount.url_auth:
        auth = ElementTree.SubElement(node, "authentication", {"type": "url"})
        for name, value in mount.url_auth.items():
            ElementTree.SubElement(auth, "option", {"name": name, "value": value})
    return node


def _add(node: ElementTree.Element, words: Mapping[str, object]) -> None:
    for name, value in words.items():
        ElementTree.SubElement(node, name).text = str(value)
