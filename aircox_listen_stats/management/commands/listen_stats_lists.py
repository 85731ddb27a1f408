"""Says where the maintained lists of agents and clouds are, and fetches them when asked."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ...pipeline import lists


class Command(BaseCommand):
    help = (
        "Tells where the lists are published by which bots, apps and clouds are recognised, and under which terms. "
        "With --fetch they are downloaded; else no network is asked, neither here nor by the collector."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--fetch", metavar="FOLDER", type=Path, help="download them into this folder")
        known = [one.name for one in lists.PUBLISHED]
        parser.add_argument("--only", action="append", choices=known, metavar="NAME", help=f"of {', '.join(known)}")

    def handle(self, *args: Any, **options: Any) -> None:
        chosen = [one for one in lists.PUBLISHED if not options["only"] or one.name in options["only"]]
        if options["fetch"] is None:
            for one in chosen:
                self.stdout.write(f"{one.name:20} EXCLUDE['{one.key}'], {one.terms}\n{'':20} {one.url}")
            return
        failed = 0
        for one in chosen:
            try:
                lists.fetch(one, options["fetch"])
            except lists.ListRefused as error:
                failed += 1
                self.stderr.write(f"{error} What was there before stays.")
            else:
                self.stdout.write(f"{one.name:20} fetched, for EXCLUDE['{one.key}']")
        if failed:
            raise CommandError(f"{failed} of {len(chosen)} lists could not be fetched.")
        self.stdout.write("Name the files in the settings; running processes read them when they start again.")
