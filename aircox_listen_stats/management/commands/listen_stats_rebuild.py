"""Derives sessions, timeline and audiences of a window again."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from tqdm import tqdm

from ...errors import ListenStatsError
from ...pipeline import rebuild
from . import _words
from ._writing import WritingCommand


class Command(WritingCommand):
    help = (
        "Derives everything that is derived again: sessions from their sockets where these are still kept, "
        "the timeline from aircox's rows, the audience of every airing. Twice is once; the collector may run beside it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        _words.add_window(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        now_ms = _words.now_ms()
        started_ms, ended_ms = _words.window(options, now_ms)
        with tqdm(unit="step", disable=True if options["verbosity"] == 0 else None, file=self.stderr) as bar:

            def progress(done: int, of_all: int) -> None:
                bar.total = of_all
                bar.update(done - bar.n)

            try:
                done = rebuild.rebuild(
                    _words.station(options["station"]), started_ms, ended_ms, now_ms=now_ms, progress=progress
                )
            except ListenStatsError as error:
                raise CommandError(str(error)) from error
        if options["verbosity"]:
            self.stdout.write(
                f"{done.windows} days; {done.sessions} sessions and {done.audiences} audiences "
                f"differed and were written; {done.plays} plays of recordings were derived again."
            )
