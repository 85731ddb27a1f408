"""Holds what is stored against what would be derived from what is kept, day by day; writes nothing."""

from __future__ import annotations

import datetime as dt
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ... import conf
from ...errors import ListenStatsError
from ...pipeline.verify import Compared, VerifiedDay, verify
from . import _words

WAYS = {
    "open_playing": "played without an end",
    "by_next": "ended by the next",
    "by_duration": "by the recording's length",
    "shortened": "shortened",
    "lengthened": "lengthened",
}


class Command(BaseCommand):
    help = (
        "Derives sessions, settled figures and plays of a window again and says how many are stored otherwise, and how "
        "the events of web players ended. Nothing is written. Ends with status 1 where something differs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        _words.add_window(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        now_ms = _words.now_ms()
        started_ms, ended_ms = _words.window(options, now_ms)
        differing = waiting = 0
        try:
            for day in verify(_words.station(options["station"]), started_ms, ended_ms, now_ms=now_ms):
                self._tell(day)
                differing, waiting = differing + day.differing, waiting + day.waiting
        except ListenStatsError as error:
            raise CommandError(str(error)) from error
        if differing:
            first = f"{waiting} windows wait for the collector: try again when it is through. " if waiting else ""
            raise CommandError(
                f"{differing} are stored otherwise. {first}listen_stats_rebuild puts it right, with a note."
            )

    def _tell(self, day: VerifiedDay) -> None:
        began = dt.datetime.fromtimestamp(day.started_ms / 1000, tz=conf.get().zone)
        told = day.player_events
        ways = ", ".join(f"{words} {told[name]}" for name, words in WAYS.items() if told.get(name))
        self.stdout.write(
            f"{began:%Y-%m-%d %H:%M}  sessions {_words_of(day.sessions)}; settled figures {_words_of(day.figures)}; "
            f"plays {_words_of(day.plays)}; sessions in the player {_words_of(day.player_sessions)}; "
            f"player events {told.get('events', 0)}{f' ({ways})' if ways else ''}"
            + (f"; {day.waiting} windows wait" if day.waiting else "")
        )


def _words_of(compared: Compared) -> str:
    return f"{compared.derived}, {compared.differing} differ" if compared.differing else str(compared.derived)
