"""Commands that may change settled figures: the notes of these name the command and who gave it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from ...pipeline import causes


class WritingCommand(BaseCommand):
    """A command in whose name figures are computed again."""

    def execute(self, *args: Any, **options: Any) -> Any:
        name = self.__class__.__module__.rpartition(".")[2]
        with causes.acting_as(causes.by_command(name, options.get("by") or "")):
            return super().execute(*args, **options)
