"""Says what is wrong, and how to mend it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ...doctor import Finding, Grade, examine
from . import _words

MARKS = {Grade.WELL: "ok     ", Grade.NOTE: "note   ", Grade.WARNING: "WARNING", Grade.ERROR: "ERROR  "}


class Command(BaseCommand):
    help = (
        "Examines the installation: settings, aircox, every source (each is asked once), the collector, the live "
        "count, clocks, gaps. Exit status 1 where something is broken. Prints no address, no path and no token."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        errors = 0
        for finding in examine(now_ms=_words.now_ms()):
            errors += finding.grade is Grade.ERROR
            if finding.grade is not Grade.WELL or options["verbosity"] > 0:
                self._tell(finding)
        if errors:
            raise CommandError(
                f"{errors} {'thing is' if errors == 1 else 'things are'} broken, see above.", returncode=1
            )

    def _tell(self, finding: Finding) -> None:
        style = {Grade.ERROR: self.style.ERROR, Grade.WARNING: self.style.WARNING, Grade.WELL: self.style.SUCCESS}
        mark = style.get(finding.grade, str)(MARKS[finding.grade])
        self.stdout.write(f"{mark}  {finding.subject}: {finding.text}")
        if finding.mend:
            self.stdout.write(f"         → {finding.mend}")
