"""Makes or renews .venv/: the app with its extras, Django 4.2 beside 5.2, the npm files.

Needs only the standard library of the Python that starts it. Runs in about a
second when nothing changed since the last time.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

OLDEST_PYTHON = (3, 11)
NEWER_PYTHONS = ("python3.13", "python3.12", "python3.11", "python3.14")
"""Tried in this order where ``python3`` is too old: 3.11 to 3.13 are tested."""

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
OVERLAY = VENV / "django42"
"""Only Django 4.2; put first on PYTHONPATH it shadows the Django of the environment."""

EXTRAS = "dev,letters,postgresql,redis,server"
LOCK = ROOT / "requirements-lock.txt"
OVERLAY_LOCK = ROOT / "requirements-django42.txt"
PIP = ("--disable-pip-version-check", "--no-input")


class SetupError(Exception):
    """The environment could not be made; the message says what to do."""


def main() -> None:
    """Brings the environment up to date, saying each step that it takes."""
    require_python()
    make_venv()
    step("app", (ROOT / "pyproject.toml", LOCK), install_app)
    step("django42", (OVERLAY_LOCK, LOCK), install_overlay)
    step("npm", (ROOT / "package.json", ROOT / "package-lock.json"), stage_npm_files)
    run([str(PYTHON), "-m", "tools.compile_messages"], "translations did not compile")
    print(f"Ready: {VENV.relative_to(ROOT)}/ ({version_of(PYTHON)}). Next: make demo, or make test.")


def require_python() -> None:
    """Goes on in a newer Python where this one is too old, or says what is needed."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    for name in NEWER_PYTHONS:
        found = shutil.which(name)
        if found:
            os.execv(found, [found, *sys.argv])
    raise SetupError(
        "Python {}.{} or newer is needed; {} is {}.{}, and none of {} is on PATH. "
        "Install one, or name it: make setup PYTHON=/path/to/python3.11".format(
            *OLDEST_PYTHON, sys.executable, *sys.version_info[:2], ", ".join(NEWER_PYTHONS)
        )
    )


def make_venv() -> None:
    """Makes .venv/ where there is none, or where its Python is gone."""
    if PYTHON.exists() and works(PYTHON):
        return
    print(f"Making {VENV.relative_to(ROOT)}/ with {sys.executable}")
    if not can_make_venvs():
        install_venv_module()
    run([sys.executable, "-m", "venv", "--clear", str(VENV)], "python -m venv failed")
    run([str(PYTHON), "-m", "pip", *PIP, "install", "-qq", "--upgrade", "pip"], "pip did not install")


def can_make_venvs() -> bool:
    """Whether this Python has what ``python -m venv`` needs; Debian splits it off."""
    asked = [sys.executable, "-c", "import ensurepip, venv"]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def install_venv_module() -> None:
    """Installs Debian's python3-venv where we may, or says that it is missing."""
    package = "python{}.{}-venv".format(*sys.version_info[:2])
    from tools import parts  # deferred: not needed on a machine that has venv

    if not parts.may_install():
        raise SetupError(
            f"{sys.executable} cannot make environments: ensurepip is missing. "
            f"Install it, for instance: apt-get install {package}"
        )
    parts.apt_install([package])


def install_app() -> None:
    """Installs the app in place, with all extras, in the versions of the lock file."""
    print(f"Installing aircox-listen-stats[{EXTRAS}], a minute or two the first time")
    command = [str(PYTHON), "-m", "pip", *PIP, "install", "-qq", "-c", str(LOCK)]
    run([*command, "-e", f".[{EXTRAS}]"], "pip could not install the app")


def install_overlay() -> None:
    """Installs Django 4.2 alone into its own folder; asgiref and sqlparse serve both."""
    print("Installing Django 4.2 beside it")
    shutil.rmtree(OVERLAY, ignore_errors=True)
    command = [str(PYTHON), "-m", "pip", *PIP, "install", "-qq", "--no-deps"]
    run([*command, "--target", str(OVERLAY), "-r", str(OVERLAY_LOCK)], "pip could not install Django 4.2")


def stage_npm_files() -> None:
    """Fetches the pinned npm packages and copies what the pages load into static/."""
    print("Staging the chart library from npm")
    run([str(PYTHON), "-m", "tools.stage_static"], "the npm files could not be staged")


def step(name: str, inputs: "Iterable[Path]", act: "Callable[[], None]") -> None:
    """Acts when the inputs, or this file, differ from those of the last time."""
    stamp = VENV / f"made-{name}"
    seen = fingerprint((*inputs, Path(__file__)))
    if stamp.exists() and stamp.read_text() == seen and is_whole(name):
        return
    act()
    stamp.write_text(seen)


def is_whole(name: str) -> bool:
    """Whether what the step made is still there."""
    if name == "django42":
        return (OVERLAY / "django").is_dir()
    if name == "npm":
        asked = [str(PYTHON), "-c", "import sys; from tools import stage_static as s; sys.exit(not s.is_staged())"]
        return (ROOT / "node_modules").is_dir() and run_quietly(asked) == 0
    return True


def fingerprint(paths: "Iterable[Path]") -> str:
    """One hash over the contents of the files and the version of Python."""
    digest = hashlib.sha256(version_of(PYTHON).encode())
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def version_of(python: Path) -> str:
    """Such as ``Python 3.11.7``."""
    return subprocess.run([str(python), "--version"], capture_output=True, text=True, check=True).stdout.strip()


def works(python: Path) -> bool:
    """Whether the environment's Python still starts, is new enough and has pip."""
    asked = f"import sys, pip; sys.exit(sys.version_info < {OLDEST_PYTHON!r})"
    return run_quietly([str(python), "-c", asked]) == 0


def run_quietly(command: "Sequence[str]") -> int:
    """The exit status."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode


def run(command: "Sequence[str]", failure: str) -> None:
    """Runs the command in the repository; its own output stays visible."""
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        raise SetupError(f"{failure}: exit status {done.returncode} of {' '.join(command)}")


def write_lock() -> None:
    """Renews the lock file from the newest versions that pyproject.toml allows."""
    command = [str(PYTHON), "-m", "pip", *PIP, "install", "-qq", "--upgrade", "--upgrade-strategy=eager"]
    run([*command, "-e", f".[{EXTRAS}]"], "pip could not install the app")
    command = [str(PYTHON), "-m", "pip", "freeze", "--exclude-editable", "--exclude=pip", "--exclude=setuptools"]
    frozen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pins = [line for line in frozen.splitlines() if "==" in line]
    LOCK.write_text("\n".join(["# Every version that the suite runs with, made by: make lock", *pins, ""]))
    print(f"{LOCK.name}: {len(pins)} versions")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    try:
        if sys.argv[1:] == ["--lock"]:
            write_lock()
        else:
            main()
    except SetupError as error:
        sys.exit(str(error))
