"""A database that lives as long as one benchmark."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KINDS = ("sqlite", "postgresql")


def on_each_database(module: str, *, quick: bool) -> int:
    """On how many kinds of database ``python -m benchmarks.<module> --on <kind>`` missed a must: a process for each."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *(["--quick"] if quick else []), "--on"]
    return sum(subprocess.run([*command, kind], check=False).returncode != 0 for kind in KINDS)


@contextmanager
def own_database(kind: str) -> Iterator[None]:
    """Django set up on an empty, migrated database of that kind, gone afterwards. Once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="listen-stats-bench-"))
    name = f"listen_stats_bench_{os.getpid()}"
    os.environ["EXAMPLE_STATION_DIR"] = str(folder)
    os.environ["BENCHMARK_DATABASE"] = f"{kind}:{folder / 'bench.sqlite3' if kind == 'sqlite' else name}"
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks._database_settings"
    if kind == "postgresql":
        _administer(f'CREATE DATABASE "{name}"')
    try:
        _migrate()
        yield
    finally:
        _leave(kind, name)
        shutil.rmtree(folder, ignore_errors=True)


def _migrate() -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0, run_syncdb=True)


def _leave(kind: str, name: str) -> None:
    from django.db import connections

    connections.close_all()
    if kind == "postgresql":
        from tests.parts import postgres

        _administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        postgres.stop()


def _administer(statement: str) -> None:
    import psycopg

    from tests.parts import postgres

    with psycopg.connect(postgres.server().dsn, autocommit=True) as server:
        server.execute(statement)
