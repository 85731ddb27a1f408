"""A private server process: started on a free port, waited for, ended by its own pid."""

from __future__ import annotations

import atexit
import errno
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
READY_SECONDS = 120.0
"""How long a server may take to answer, on a slow machine that does other things too."""
STOP_SECONDS = 30.0
"""How long a server may take to end by itself before it is killed."""
KILLED_SECONDS = 60.0
"""How long a machine may take to end what was killed."""
POLL_SECONDS = 0.05
TAIL_LINES = 30
"""Lines of a server's output that are worth showing when it failed."""


class PartFailed(Exception):
    """A part did not start or ended early; the message holds the end of its output."""


class Child:
    """One running program, its output in ``log``.

    ``account`` names users, best first: as root the program runs as the first of
    them that exists, since Icecast, Liquidsoap and PostgreSQL refuse root.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        folder: Path,
        name: str,
        account: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.out"
        self._stop_signal = stop_signal
        user = account_as_root(account)
        with self.log.open("ab") as output:
            self.popen = subprocess.Popen(
                [str(word) for word in command],
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C ends pytest, which then ends its servers in order.
                start_new_session=True,
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=[] if user else None,
            )
        self._owner = os.getpid()
        atexit.register(self.stop)

    @property
    def pid(self) -> int:
        """The process id, also after its end."""
        return self.popen.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return self.popen.poll() is None

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = READY_SECONDS) -> None:
        """Returns when ``ready()`` is true; raises PartFailed when the server ends or is late."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.is_running:
                raise PartFailed(f"{self.name} ended with status {self.popen.returncode}.\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise PartFailed(f"{self.name} did not answer within {seconds:g} s.\n{self.tail()}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Ends the process and waits for it; killed when it does not follow."""
        if os.getpid() != self._owner:
            return  # a fork of the test run must not end its parent's servers
        if self.is_running:
            self.popen.send_signal(self._stop_signal)
            try:
                self.popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        atexit.unregister(self.stop)

    def kill(self) -> None:
        """Ends the process at once (SIGKILL), as a crash would."""
        if self.is_running:
            self.popen.kill()
        self.popen.wait(KILLED_SECONDS)

    def tail(self) -> str:
        """The last lines that the process wrote."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])


def account_as_root(names: Sequence[str]) -> pwd.struct_passwd | None:
    """The first user that exists, when we are root and names are given; else None: ourselves."""
    if os.geteuid() != 0 or not names:
        return None
    known = {user.pw_name: user for user in pwd.getpwall()}
    for name in names:
        if name in known:
            return known[name]
    raise PartFailed(f"As root this part needs an unprivileged user; none of {', '.join(names)} exists.")


def private_folder(name: str, account: Sequence[str] = ()) -> Path:
    """A new folder outside pytest's own (which other users may not enter), removed at exit."""
    folder = Path(tempfile.mkdtemp(prefix=f"listen-stats-{name}-"))
    folder.chmod(0o755)
    user = account_as_root(account)
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder


def write(path: Path, text: str, account: Sequence[str] = ()) -> Path:
    """The file, written so that the account can read it and others cannot change it."""
    path.write_text(text)
    user = account_as_root(account)
    if user:
        os.chown(path, user.pw_uid, user.pw_gid)
    return path


def free_port() -> int:
    """A TCP port of the loopback that nobody listened on a moment ago, and that no other test run is given.

    Several runs start servers beside each other, and a busy machine lets a
    while pass until a server listens. The name of a socket in Linux's abstract
    space belongs to one process, and is free again when that one has ended.
    """
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port = probe.getsockname()[1]
        if not sys.platform.startswith("linux"):
            return port
        keeper = socket.socket(socket.AF_UNIX)
        try:
            keeper.bind(f"\0listen-stats-tests-port-{port}")
        except OSError as error:
            keeper.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            keeper.detach()  # open, and so ours, until this process ends
            return port


def answers(port: int) -> bool:
    """Whether something accepts connections on that port of the loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0


def python_path(environment: Mapping[str, str] = os.environ) -> str:
    """The repository, behind whatever the environment puts first, such as another Django."""
    given = environment.get("PYTHONPATH") or os.environ.get("PYTHONPATH", "")
    # Absolute, since a private server starts in its own folder.
    folders = [os.path.abspath(part) for part in given.split(os.pathsep) if part]
    return os.pathsep.join(dict.fromkeys([*folders, str(ROOT)]))
