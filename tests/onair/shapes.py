"""Runs facts on an aircox of another shape, in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Tens of tests with a database of their own, on a machine that does other things too.
RUN_SECONDS = 300
# Variables by which a run keeps its folder and its database: another interpreter makes its own.
OF_THIS_RUN = (
    "LISTEN_STATS_TEST_FOLDER",
    "LISTEN_STATS_TEST_DATABASE",
    "EXAMPLE_STATION_DIR",
    "DJANGO_SETTINGS_MODULE",
)


def run_in_shape(shape: str, *tests: str) -> subprocess.CompletedProcess[str]:
    """The outcome of pytest on these files with the stand-in in that shape; a failure is in its output."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_THIS_RUN}
    environment["AIRCOX_STANDIN_SHAPE"] = shape
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )


def run_in_python(shape: str, code: str) -> str:
    """What a piece of code prints in a fresh interpreter with the stand-in in that shape."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_THIS_RUN}
    environment |= {"AIRCOX_STANDIN_SHAPE": shape, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
