"""Per-track performances in the columns of a collecting society."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ...errors import AircoxMissing
from ...onair import aircox
from ...pipeline.performances import of_streams
from ...reports import performances, tables, workbook
from ...reports.performances import Service, Totals
from ...reports.societies import SOCIETIES
from . import _files, _words


class Command(BaseCommand):
    help = (
        "Writes how many listeners heard each track, in the columns of a collecting society, as CSV or XLSX. One "
        "track played once to one listener is one performance, any portion of it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("first", metavar="FROM", help="the first broadcast day")
        parser.add_argument("last", metavar="TO", help="the last broadcast day, included")
        parser.add_argument(
            "--society", default="generic", choices=sorted(SOCIETIES), help="whose columns (default: %(default)s)"
        )
        parser.add_argument("--format", default="csv", choices=["csv", "xlsx"], help="default: %(default)s")
        parser.add_argument("--output", default="-", metavar="FILE", help="default: the standard output")
        parser.add_argument("--station", metavar="SLUG", help="this station alone")
        parser.add_argument(
            "--stream",
            action="append",
            default=[],
            metavar="SLUG",
            help="listeners of this stream alone; may be repeated",
        )
        parser.add_argument("--service", metavar="NAME", help="the service's name (default: the station's)")
        parser.add_argument(
            "--category", default="", metavar="LETTER", help="SoundExchange's transmission category of the service"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        period, now = _files.period(options["first"], options["last"]), timezone.now()
        streams = [_words.stream(slug) for slug in options["stream"]]
        station_id = _station(options["station"], {stream.station_id for stream in streams})
        plays = performances.each_play(period, station_id, now=now)
        if streams:
            plays = of_streams(plays, streams, now_ms=_words.now_ms())
        service = Service(
            name=_name(station_id) if options["service"] is None else options["service"],
            category=options["category"],
            tuning_hours=performances.tuning_hours(period, station_id, [stream.pk for stream in streams]),
            period=period,
        )
        table = SOCIETIES[options["society"]].table("performances", plays, service)
        with _files.written(options["output"]) as file:
            if options["format"] == "xlsx":
                workbook.write_workbook(file, [table])
            else:
                file.writelines(tables.write(table.header, table.rows))
        self._tell(service.totals)

    def _tell(self, totals: Totals) -> None:
        """On stderr: the standard output may be the file."""
        self.stderr.write(
            f"{totals.plays} plays, {totals.performances} performances, "
            f"{totals.tuning_hours:.2f} listener-hours of music.",
            self.style.SUCCESS,
        )
        if totals.unknown:
            self.stderr.write(
                f"{totals.unknown} plays have no figures and are in no sum: nobody observed them, or their figures "
                "under the rule-set 'all' are not computed yet (listen_stats_rebuild)."
            )
        if totals.in_part:
            self.stderr.write(
                f"{totals.in_part} plays were observed for a part of their time: their figures are lower bounds."
            )
        if totals.provisional:
            self.stderr.write(f"{totals.provisional} plays are still provisional.")


def _station(name: str | None, of_streams: set[int]) -> int | None:
    """The station that was named, or that of the streams, which must be one."""
    station_id = _words.station(name)
    if len(of_streams) > 1 or (station_id is not None and of_streams - {station_id}):
        raise CommandError("--stream names streams of another station; report each station on its own.")
    return station_id if station_id is not None else next(iter(of_streams), None)


def _name(station_id: int | None) -> str:
    """The station's name; empty where there is no aircox to ask, or no single station is meant."""
    try:
        found = [one.name for one in aircox.log().stations() if station_id in (None, one.id)]
    except AircoxMissing:
        return ""
    return found[0] if len(found) == 1 else ""
