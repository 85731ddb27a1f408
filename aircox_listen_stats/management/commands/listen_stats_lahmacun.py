"""Daily files of Lahmacun Radio's fetcher become sessions; their flags are computed anew."""

from __future__ import annotations

import datetime as dt
import getpass
import zoneinfo
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from ... import conf
from ...errors import ListenStatsError
from ...models import Stream
from ...pipeline import backfill, retold
from ...sources.lahmacun import PolledDay, read_day
from . import _words
from ._writing import WritingCommand


class Command(WritingCommand):
    help = (
        "Imports one daily CSV of Lahmacun Radio's AzuraCast fetcher as a back-fill: it counts in the hours of "
        "the file in place of what counted there, and listen_stats_backfill --undo takes it back. The same file "
        "again changes no figure."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("stream", metavar="STREAM", help="the stream's slug")
        parser.add_argument("file", metavar="FILE", type=Path, help="the CSV")
        parser.add_argument(
            "--date", required=True, metavar="DAY", help="the local day on which the file begins: it tells none"
        )
        parser.add_argument("--zone", metavar="ZONE", help="the zone of its clock (default: the station's)")
        parser.add_argument("--by", metavar="NAME", help="who imports it (default: the system's user)")
        parser.add_argument("--dry-run", action="store_true", help="read and count, store nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        stream = _words.stream(options["stream"])
        try:
            day = read_day(_text(options["file"]), date=_date(options["date"]), zone=_zone(options["zone"]))
            self._tell_file(day)
            if day.flags.sessions == 0:
                self.stdout.write("Nobody listened.")
                return
            self._fill(stream, day, options)
        except ListenStatsError as error:
            raise CommandError(str(error)) from error

    def _fill(self, stream: Stream, day: PolledDay, options: dict[str, Any]) -> None:
        start_ms, end_ms = day.span_ms
        told = retold.from_polled_day(day, options["file"].name, stream.slug)
        window = (stream, start_ms, end_ms, told)
        if options["dry_run"]:
            filled = backfill.plan(*window)
        else:
            reason = f"Imported from {options['file'].name}."
            by = options["by"] or getpass.getuser()
            filled = backfill.fill(*window, by=by, reason=reason, now_ms=_words.now_ms())
        would = "would be " if options["dry_run"] else ""
        self.stdout.write(f"{filled.sessions} sessions {would}stored, {filled.replaced} {would}replaced.")
        if filled.name:
            self.stdout.write(f'To take it back: listen_stats_backfill --undo "{filled.name}" --why …')

    def _tell_file(self, day: PolledDay) -> None:
        flags = day.flags
        refused = {name: count for name, count in day.counts.items() if name.startswith("refused_")}
        self.stdout.write(
            f"{flags.rows} addresses with {flags.sessions} sessions: {flags.long_rows} longer than 5 minutes, "
            f"{flags.short_rows} of one session under a minute."
        )
        if refused:
            reasons = ", ".join(f"{name.removeprefix('refused_')} {count}" for name, count in sorted(refused.items()))
            self.stdout.write(f"{sum(refused.values())} rows refused: {reasons}.")
        if flags.shared_rows:
            self.stdout.write(
                f"{flags.shared_rows} addresses without a location are most likely shared: as many listened there, or "
                "more."
            )
        if day.wrong_flags:
            self.stdout.write(f"{day.wrong_flags} flags of the file contradict its sessions; none is used.")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path.name} cannot be read ({type(error).__name__}).") from error


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"--date is {text!r}; expected a day such as 2026-11-22.") from None


def _zone(name: str | None) -> zoneinfo.ZoneInfo:
    if name is None:
        return conf.get().zone
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise CommandError(f"--zone is {name!r}, which is no zone. Example: 'Europe/Budapest'.") from None
