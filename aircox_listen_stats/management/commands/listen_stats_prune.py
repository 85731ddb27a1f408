"""Deletes what the settings say is old."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from ...pipeline import retention
from . import _words
from ._writing import WritingCommand

WORDS = {
    "sessions": "sessions older than KEEP_SESSIONS_DAYS",
    "connections": "sockets older than KEEP_CONNECTIONS_HOURS",
    "lapsed": "open sockets of a silent source, to be ended at their last sighting",
    "onair_changes": "observations of the Monitor",
    "secrets": "secrets of past periods",
    "stale_windows": "windows that nothing is left to compute from",
    "callbacks": "callbacks that nobody collected",
    "letters": "letters to producers that were sent or given up long ago",
    "rulings": "rulings about one listener whose sessions are gone",
    "player_events": "what web players told, older than PLAYER's keep_events_days",
    "plays": "plays and sessions of web players older than KEEP_SESSIONS_DAYS: their listeners, not their figures",
    "events": "stream events older than KEEP_EVENTS_DAYS",
    "dead_letters": "dead letters older than KEEP_DEAD_LETTERS_DAYS",
}


class Command(WritingCommand):
    help = (
        "Deletes sessions, sockets and observations older than the settings say, and secrets of past periods. "
        "Airings, audiences and coverage stay. The collector does this once a day."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="count, delete nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        pruned = retention.prune(now_ms=_words.now_ms(), dry_run=options["dry_run"])
        if options["verbosity"]:
            verb = "would go" if options["dry_run"] else "gone"
            for name, count in asdict(pruned).items():
                self.stdout.write(f"{count:>10}  {verb}: {WORDS[name]}")
