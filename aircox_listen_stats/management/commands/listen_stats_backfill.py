"""Lets a second source count for some hours of one stream, and takes it back."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from ...errors import ListenStatsError
from ...fields import from_ms
from ...models import Ruling
from ...pipeline import backfill
from . import _words
from ._writing import WritingCommand
from .listen_stats_reconcile import add_second_source, heard_again, window


class Command(WritingCommand):
    help = (
        "Replaces what counted on a stream in some hours by what a second source tells of them, such as the access "
        "log after an outage of the poll. What is replaced stays, labelled, and comes back with --undo. "
        "listen_stats_reconcile shows beforehand how far the two agree. Without arguments the back-fills are listed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("stream", nargs="?", metavar="STREAM", help="the stream's slug")
        parser.add_argument("from_", nargs="?", metavar="FROM", help="a day, or an instant")
        parser.add_argument("to", nargs="?", metavar="TO", help="up to, not including")
        add_second_source(parser)
        parser.add_argument("--undo", metavar="NAME", help="let count again what this back-fill replaced")
        parser.add_argument("--why", metavar="TEXT", default="", help="the reason; required")
        parser.add_argument("--by", metavar="NAME", help="who says so (default: the system's user)")
        parser.add_argument("--dry-run", action="store_true", help="count, store nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        by = options["by"] or getpass.getuser()
        try:
            if options["undo"]:
                changes = backfill.undo(options["undo"], by=by, reason=options["why"], now_ms=_words.now_ms())
                count = sum(one.sessions for one in changes)
                self.stdout.write(f"{options['undo']} is undone; {count} sessions have another label.")
            elif options["stream"] is None:
                self._list()
            elif options["to"] is None:
                raise CommandError("Name the stream and the hours: STREAM FROM TO.")
            else:
                self._fill(options, by)
        except ListenStatsError as error:
            raise CommandError(str(error)) from error

    def _fill(self, options: dict[str, Any], by: str) -> None:
        stream, start_ms, end_ms = window(options)
        told = heard_again(stream, start_ms, end_ms, options)
        if options["dry_run"]:
            filled = backfill.plan(stream, start_ms, end_ms, told)
        else:
            filled = backfill.fill(stream, start_ms, end_ms, told, by=by, reason=options["why"], now_ms=_words.now_ms())
        would = "would be " if options["dry_run"] else ""
        for begin_ms, stop_ms in filled.heard:
            hours = f"{from_ms(begin_ms):%Y-%m-%d %H:%M:%S} to {from_ms(stop_ms):%Y-%m-%d %H:%M:%S} UTC"
            self.stdout.write(f"{hours}, by {told.telling.name}:")
        self.stdout.write(f"{filled.sessions} sessions {would}stored, {filled.replaced} {would}replaced.")
        if filled.left:
            self.stdout.write(f"{filled.left} sessions go on beyond what it tells and {would}left as they are.")
        if filled.name:
            self.stdout.write(f'To take it back: listen_stats_backfill --undo "{filled.name}" --why …')

    def _list(self) -> None:
        found = Ruling.objects.exclude(only_source="").select_related("stream").order_by("-pk")
        for one in found:
            state = "undone" if one.revoked else "stands"
            self.stdout.write(
                f"{one.only_source}  {state}: stream {one.stream.slug}, {one.started:%Y-%m-%d %H:%M} to "
                f"{one.ended:%Y-%m-%d %H:%M} UTC. {one.made_by}: {one.reason}"
            )
        if not found:
            self.stdout.write("There is no back-fill.")
