"""The example station as a Django app: it carries the demo's commands."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class ExampleProjectConfig(AppConfig):
    name = "example_project"
    label = "example_project"
    verbose_name = "Example station"

    def ready(self) -> None:
        connection_created.connect(write_ahead, dispatch_uid="example_project.write_ahead")


def write_ahead(connection: Any, **_: Any) -> None:
    """Nothing; a new SQLite connection reads while another one writes.

    A settings entry would be enough from Django 5.1 on; 4.2 has none.
    """
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")
