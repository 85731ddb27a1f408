"""The stand-in has two shapes, one per interpreter, and gives way to a real aircox."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.onair.shapes import ROOT, run_in_python, run_in_shape

CONTRACT = "tests/onair/test_contract.py"


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "files"), [("0.9", (CONTRACT, "tests/onair/facts_of_0_9.py")), ("1.0", (CONTRACT,))])
def test_the_contract_holds_in_shape(shape: str, files: tuple[str, ...]) -> None:
    done = run_in_shape(shape, *files)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("shape", ["1.0", "0.9"])
def test_the_migration_makes_the_tables_of_shape(shape: str) -> None:
    printed = run_in_python(
        shape,
        "import django; django.setup()\n"
        "from django.core.management import call_command\n"
        "call_command('makemigrations', 'aircox', check=True, dry_run=True)\n",
    )
    assert "No changes detected" in printed


@pytest.mark.parametrize(("shape", "zone"), [("1.0", "Europe/Brussels"), ("0.9", "UTC")])
def test_importing_the_command_of_0_9_puts_the_thread_into_utc(shape: str, zone: str) -> None:
    printed = run_in_python(
        shape,
        "import django; django.setup()\n"
        "import aircox_streamer.management.commands.streamer\n"
        "from django.utils import timezone\n"
        "print(timezone.get_current_timezone_name())\n",
    )
    assert printed.strip() == zone


@pytest.mark.parametrize(("shape", "found"), [("1.0", "True"), ("0.9", "False")])
def test_only_1_0_has_a_module_for_the_monitor(shape: str, found: str) -> None:
    printed = run_in_python(
        shape,
        "import django; django.setup()\n"
        "import aircox_streamer.controllers as controllers\n"
        "print(hasattr(controllers, '__path__'))\n",
    )
    assert printed.strip() == found


def test_a_real_aircox_is_taken_instead(tmp_path: Path) -> None:
    (tmp_path / "aircox").mkdir()
    (tmp_path / "aircox" / "__init__.py").write_text("")
    code = "from example_project import standin; import sys; print(standin.install(), 'standin' in ' '.join(sys.path))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["real", "False"]


def test_an_unknown_shape_is_refused() -> None:
    code = "from example_project import standin; standin.install()"
    environment = {**os.environ, "AIRCOX_STANDIN_SHAPE": "0.8", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert "Unknown shape '0.8' in AIRCOX_STANDIN_SHAPE. Known: 1.0, 0.9." in done.stderr
