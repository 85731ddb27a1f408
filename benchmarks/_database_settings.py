"""The example station on a database of its own, for the benchmarks that measure queries.

``BENCHMARK_DATABASE`` is ``sqlite:<file>`` or ``postgresql:<name>``.
"""

from __future__ import annotations

import os
from typing import Any

import django

from example_project.settings import *  # noqa: F403
from example_project.settings import INSTALLED_APPS as EXAMPLE_APPS

KIND, _, NAME = os.environ["BENCHMARK_DATABASE"].partition(":")

if KIND == "sqlite":
    DATABASES: dict[str, Any] = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": NAME}}
    if django.VERSION >= (5, 1):
        # As docs/operations.md recommends to a station on SQLite.
        DATABASES["default"]["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        }
else:
    from tests.parts import postgres

    DATABASES = {"default": postgres.server().django(NAME)}

DEBUG = False
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [app for app in EXAMPLE_APPS if app != "daphne"]
TIME_ZONE = "Europe/Brussels"
AIRCOX_LISTEN_STATS: dict[str, Any] = {
    "SOURCES": {"ice": {"backend": "icecast", "url": "http://127.0.0.1:9", "user": "admin", "password": "x"}},
    "STREAMS": {
        "live": {"source": "ice", "station": 1, "mount": "/live.mp3"},
        "low": {"source": "ice", "station": 1, "mount": "/low.mp3"},
    },
}
