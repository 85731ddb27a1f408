"""The servers and programs that the tests use and pip cannot bring: are they here, and how to get them.

Nothing of this is needed to install the app, nor for ``make demo``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

LOCK_WAIT_SECONDS = 600
"""How long to wait for another apt to finish: a first boot's own upgrade takes minutes."""

POSTGRESQL_BIN = "lib/postgresql/*/bin"
"""Where Debian keeps initdb and postgres, below /usr; neither is on PATH."""


class PartMissing(Exception):
    """A program is missing; the message says which, what for, and the command that gets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One program outside Python."""

    name: str
    packages: tuple[str, ...]
    """Debian packages."""
    programs: tuple[str, ...]
    """Any of them will do."""
    purpose: str


PARTS = {
    part.name: part
    for part in (
        Part(
            name="icecast2",
            packages=("icecast2",),
            programs=("icecast2", "icecast"),
            purpose="a real streaming server with real listeners",
        ),
        Part(
            name="liquidsoap",
            packages=("liquidsoap",),
            programs=("liquidsoap",),
            purpose="a real playout, as aircox drives it",
        ),
        Part(
            name="ffmpeg",
            packages=("ffmpeg",),
            programs=("ffmpeg",),
            purpose="sounds to play and players that listen",
        ),
        Part(
            name="nginx",
            packages=("nginx-light",),
            programs=("nginx",),
            purpose="a real web server that serves HLS and logs who fetches it",
        ),
        Part(
            name="goaccess",
            packages=("goaccess",),
            programs=("goaccess",),
            purpose="the peer of the benchmark of imports",
        ),
        Part(
            name="redis",
            packages=("redis-server",),
            programs=("redis-server", "valkey-server"),
            purpose="the channel layer of a station with several processes",
        ),
        Part(
            name="postgresql",
            packages=("postgresql",),
            programs=("initdb",),
            purpose="the database of a station",
        ),
        Part(
            name="chromium",
            packages=("chromium",),
            programs=("chromium", "chromium-browser", "google-chrome"),
            purpose="the pages and the widget in a real browser",
        ),
    )
}


def find(name: str) -> Path:
    """The program's path; raises PartMissing with the way to get it."""
    found = locate(PARTS[name])
    if found is None:
        raise PartMissing(missing_sentence(PARTS[name]))
    return found


def locate(part: Part) -> Path | None:
    """The program's path, also where Debian hides it, or None."""
    # Users without sbin on PATH still have Debian's servers there.
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    for program in part.programs:
        found = shutil.which(program, path=path)
        if found:
            return Path(found)
    if part.name == "postgresql":
        folders = sorted(Path("/usr").glob(POSTGRESQL_BIN), key=_version_of, reverse=True)
        return next((folder / "initdb" for folder in folders if (folder / "initdb").exists()), None)
    return None


def missing_sentence(part: Part) -> str:
    """What is missing, what for, and what installs it."""
    return (
        f"{part.name} is missing ({part.purpose}): none of {', '.join(part.programs)} was found. "
        f"Run make parts, or: apt-get install --no-install-recommends {' '.join(part.packages)}"
    )


def may_install() -> bool:
    """Whether apt-get is here and may be used without a password."""
    if shutil.which("apt-get") is None:
        return False
    if os.geteuid() == 0:
        return True
    if shutil.which("sudo") is None:
        return False
    asked = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    return asked.returncode == 0


def apt_install(packages: list[str]) -> None:
    """Installs Debian packages, waiting for another apt, and renewing the lists of packages when they fall short."""
    apt = ["apt-get", "-q", "-o", f"DPkg::Lock::Timeout={LOCK_WAIT_SECONDS}"]
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    # RUNLEVEL=1 lets Debian's invoke-rc.d leave new services stopped, where it can: the
    # tests start private ones, and the machine's owner did not ask for more.
    quietly = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    install = [*root, *quietly, *apt, "install", "-y", "--no-install-recommends", *packages]
    if _run(install, shows_failure=False) == 0:
        return
    # A new machine has no lists of packages yet, or stale ones.
    _run([*root, *quietly, *apt, "update"])
    if _run(install) == 0:
        return
    raise PartMissing(f"apt-get could not install {' '.join(packages)}; its messages stand above.")


def install(names: list[str]) -> list[Part]:
    """The parts that are still missing after installing what may be installed."""
    wanted = [PARTS[name] for name in names]
    missing = [part for part in wanted if locate(part) is None]
    if not missing or not may_install():
        return missing
    packages = [package for part in missing for package in part.packages]
    print(f"Installing {' '.join(packages)} for the tests", flush=True)
    started = time.monotonic()
    apt_install(packages)
    print(f"Installed in {time.monotonic() - started:.0f} s", flush=True)
    return [part for part in wanted if locate(part) is None]


def main(arguments: list[str]) -> None:
    """Lists the parts, or with ``--install`` gets those that are missing."""
    names = [name for name in arguments if not name.startswith("-")] or list(PARTS)
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise PartMissing(f"Unknown part {unknown[0]!r}. Known: {', '.join(PARTS)}.")
    if "--install" not in arguments:
        for name in names:
            print(f"{name:12}{locate(PARTS[name]) or 'missing'}")
        return
    for part in install(names):
        # Not fatal here: the tests that need it fail, with the same sentence.
        print(missing_sentence(part), file=sys.stderr)


def _run(command: list[str], *, shows_failure: bool = True) -> int:
    """The exit status; the output is shown only when it failed, if at all."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode and shows_failure:
        print(done.stdout + done.stderr, file=sys.stderr)
    return done.returncode


def _version_of(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0.0


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PartMissing as error:
        sys.exit(str(error))
