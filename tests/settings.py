"""Django settings of the suite: the example station on the database that LISTEN_STATS_TEST_DB names.

A process that a test starts gets the environment of the fixture
``child_environment``: it then works on the test's own database.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import django

RUN_FOLDER_VARIABLE = "LISTEN_STATS_TEST_FOLDER"
DATABASE_VARIABLE = "LISTEN_STATS_TEST_DATABASE"
KINDS = ("sqlite", "postgresql")
BUSY_SECONDS = 20
"""How long a writer on SQLite waits for another one."""


def _run_folder() -> Path:
    """The folder of this run, made by its first process and removed when that one ends."""
    if RUN_FOLDER_VARIABLE not in os.environ:
        folder = tempfile.mkdtemp(prefix="listen-stats-tests-")
        os.environ[RUN_FOLDER_VARIABLE] = folder
        owner = os.getpid()
        atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return Path(os.environ[RUN_FOLDER_VARIABLE])


RUN_FOLDER = _run_folder()
os.environ.setdefault("EXAMPLE_STATION_DIR", str(RUN_FOLDER / "station"))
# The journals of this run's callbacks, and of no station on this machine.
os.environ["XDG_STATE_HOME"] = str(RUN_FOLDER / "state")

from example_project.settings import *  # noqa: E402, F403
from example_project.settings import INSTALLED_APPS as EXAMPLE_APPS  # noqa: E402


def _database(kind: str) -> dict[str, Any]:
    """The entry of DATABASES for ``sqlite`` or ``postgresql``."""
    child_name = os.environ.get(DATABASE_VARIABLE)
    if kind == "sqlite":
        test_name = str(RUN_FOLDER / f"test-{os.getpid()}.sqlite3")
        options: dict[str, Any] = {"timeout": BUSY_SECONDS}
        if django.VERSION >= (5, 1):
            # A transaction that reads first and writes later would fail, not wait, without it.
            options["transaction_mode"] = "IMMEDIATE"
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": child_name or str(RUN_FOLDER / "unused.sqlite3"),
            "OPTIONS": options,
            # A file: several threads and processes use it, as at a station.
            "TEST": {"NAME": test_name},
        }
    if kind == "postgresql":
        from tests.parts import postgres

        name = f"listen_stats_{os.getpid()}"
        return {**postgres.server().django(child_name or name), "TEST": {"NAME": f"test_{name}"}}
    raise ValueError(f"LISTEN_STATS_TEST_DB is {kind!r}. Allowed: {', '.join(KINDS)}.")


TEST_DB = os.environ.get("LISTEN_STATS_TEST_DB", "sqlite")
DATABASES = {"default": _database(TEST_DB)}

SECRET_KEY = "of-the-tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "Europe/Brussels"
LANGUAGE_CODE = "en"
# Daphne's app changes runserver and installs Twisted's reactor in the test process.
INSTALLED_APPS = [app for app in EXAMPLE_APPS if app != "daphne"]
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
if os.environ.get("LISTEN_STATS_TEST_REDIS"):
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            # redis-py 8 gives up on idle sockets after 5 s unless it is told not to.
            "CONFIG": {
                "hosts": [{"address": os.environ["LISTEN_STATS_TEST_REDIS"], "socket_timeout": None}],
                # Two runs beside each other share one Redis and hear nothing of one another.
                "prefix": os.environ.get(
                    "LISTEN_STATS_TEST_REDIS_PREFIX", Path(os.environ.get(DATABASE_VARIABLE, str(os.getpid()))).name
                ),
            },
        }
    }
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
AIRCOX_LISTEN_STATS: dict[str, Any] = {}
