"""Runs what must hold before a change goes in: lint, then the suite on every Django and database.

The legs run in three lanes beside each other: much of the suite waits for what real
servers do in real time. The first lane prints as it goes, a leg of the others when
it has ended; the end is a table of all of them. Words after the command go to every
pytest: ``make test ARGS="-k lease"``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from tools import stage_static

ROOT = Path(__file__).resolve().parent.parent
OVERLAY = ROOT / ".venv" / "django42"
PYTHON = sys.executable
LEG_LIMIT_SECONDS = 28 * 60
"""A leg that takes longer hangs: the whole run is to stay below half an hour."""
CLOSING_LINE = re.compile(r"^=*\s*((\d+ \w+,? ?)+ in [\d.]+s.*?)\s*=*$")
ONCE = (
    "kernel",
    "infrastructure",
    "onair/test_standin_liquidsoap.py",
    "sources/test_hls_real.py",
    "sources/test_real_icecast.py",
    "web/test_live_servers.py",
)
"""What the database cannot change runs once, in the first leg: the arithmetic, the tools, and what a real Liquidsoap,
nginx, Icecast, uvicorn and daphne do. The tests beside them store the same on both databases."""
NO_DATABASE = tuple(f"--ignore=tests/{one}" for one in ONCE)
FIRST_HALF = ("browser", "infrastructure", "kernel", "onair", "test_*.py")
"""What waits for servers and browsers, in about the time that all the rest takes."""
SECOND_HALF = ("pipeline", "reports", "sources", "station", "web")
NO_TESTS = 5
"""pytest's status where it was told to run nothing that this leg has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One command of the run."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a leg ended."""

    leg: Leg
    status: int
    seconds: float
    closing: str
    """pytest's last line, empty for other commands."""


def lint_legs() -> list[Leg]:
    """What reads the code without running it, and the missing migrations."""
    migrations = ["makemigrations", "--check", "--dry-run", "aircox_listen_stats"]
    settings = {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    eslint = str(ROOT / "node_modules" / "eslint" / "bin" / "eslint.js")
    lint_imports = str(Path(PYTHON).parent / "lint-imports")
    return [
        Leg(name="ruff check", command=[PYTHON, "-m", "ruff", "check", "."]),
        Leg(name="ruff format", command=[PYTHON, "-m", "ruff", "format", "--check", "."]),
        Leg(name="import-linter", command=[lint_imports, "--no-cache"]),
        Leg(name="eslint", command=[str(stage_static.node()), eslint, "--max-warnings=0", "."]),
        Leg(name="migrations", command=[PYTHON, "-m", "example_project", *migrations], environment=settings),
    ]


def suite_lanes(arguments: Sequence[str]) -> list[list[Leg]]:
    """The suite on both Djangos and both databases, everything once on 5.2 with SQLite, in lanes of about one length.

    The run of the whole station is in two of them, at different times: it wants both processors.
    """
    fast = ("-m", "not real and not slow and not browser_only", *NO_DATABASE)
    without_first, without_second = (
        tuple(f"--ignore-glob=tests/{one}" for one in half) for half in (FIRST_HALF, SECOND_HALF)
    )
    on_database = (*fast, *without_first, "--ignore=tests/web")
    return [
        [
            _suite("5.2", "sqlite", (*without_second, *arguments), half="first half"),
            _suite("4.2", "sqlite", (*fast, *arguments)),
        ],
        [_suite("5.2", "sqlite", (*without_first, *arguments), half="second half")],
        [
            _suite("4.2", "postgresql", (*on_database, *arguments), half="what stores"),
            _suite("5.2", "postgresql", ("-m", "not browser_only", *NO_DATABASE, *arguments)),
        ],
    ]


def _suite(version: str, database: str, arguments: Sequence[str], *, half: str = "") -> Leg:
    environment = {"LISTEN_STATS_TEST_DB": database, "LISTEN_STATS_TEST_DJANGO": version}
    if version == "4.2":
        environment["PYTHONPATH"] = str(OVERLAY)
    return Leg(
        name=f"Django {version}, {database}{half and ', ' + half}",
        command=[PYTHON, "-m", "pytest", "-q", "--color=no", "--durations=10", *arguments],
        environment=environment,
    )


def run(leg: Leg, tell: Callable[[str], object]) -> Outcome:
    """Runs the leg to its end or its limit; each line of its output goes to ``tell`` as it comes."""
    tell(f"\n── {leg.name} ──\n")
    started = time.monotonic()
    closing = ""
    with subprocess.Popen(
        leg.command,
        cwd=ROOT,
        env={**os.environ, **leg.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as running:
        limit = threading.Timer(LEG_LIMIT_SECONDS, running.terminate)
        limit.start()
        try:
            for line in running.stdout or ():
                tell(line)
                matched = CLOSING_LINE.match(line.strip())
                closing = matched[1] if matched else closing
        except BaseException:
            running.terminate()
            raise
        finally:
            limit.cancel()
    status = running.returncode
    return Outcome(leg=leg, status=status, seconds=time.monotonic() - started, closing=closing)


def show(line: str) -> None:
    """Prints at once."""
    print(line, end="", flush=True)


def run_quietly(legs: Sequence[Leg], ending: threading.Event) -> list[Outcome]:
    """The outcomes of a lane that shows a leg when it has ended; no leg begins once ``ending`` is set."""
    outcomes = []
    for leg in legs:
        if ending.is_set():
            break
        lines: list[str] = []
        outcomes.append(run(leg, lines.append))
        show("".join(lines))
    return outcomes


def main(arguments: list[str]) -> int:
    """The number of legs that failed."""
    lint_only = "--lint-only" in arguments
    started = time.monotonic()
    outcomes = [run(leg, show) for leg in lint_legs()]
    if not lint_only:
        outcomes += run_suite([one for one in arguments if one != "--lint-only"])
    print("\n── all legs ──")
    for one in outcomes:
        word = "passed" if one.status == 0 else f"FAILED ({one.status})"
        print(f"{one.leg.name:40}{word:13}{one.seconds:6.1f} s   {one.closing}".rstrip())
    failed = [one for one in outcomes if one.status]
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} legs passed in {time.monotonic() - started:.0f} s")
    return len(failed)


def run_suite(arguments: Sequence[str]) -> list[Outcome]:
    """The outcomes of all legs, which share one PostgreSQL."""
    from tests.parts import postgres  # deferred: lint alone needs no server

    ending = threading.Event()
    try:
        show(f"\nPostgreSQL: {postgres.server().origin}\n")
        shown, *others = suite_lanes(arguments)
        with ThreadPoolExecutor(len(others), thread_name_prefix="lane") as beside:
            waiting = [beside.submit(run_quietly, lane, ending) for lane in others]
            try:
                outcomes = [run(leg, show) for leg in shown]
            except BaseException:
                ending.set()
                raise
            outcomes += [one for lane in waiting for one in lane.result()]
        if arguments and any(one.status == 0 for one in outcomes):
            return [replace(one, status=0) if one.status == NO_TESTS else one for one in outcomes]
        return outcomes
    finally:
        postgres.stop()


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
