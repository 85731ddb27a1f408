"""The grant pack: totals with all that is needed to compute them again."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ... import conf
from ...errors import AircoxMissing, ConfigurationError, MalformedRecord
from ...models import QuarterHour, Stream
from ...onair import aircox
from ...reports.grant_check import disagreements
from ...reports.grant_pack import GrantPack
from . import _files, _words


class Command(BaseCommand):
    help = (
        "Writes totals by month and of the whole, programs, diffusions, quarter-hours, coverage, definitions and a "
        "manifest as one ZIP. With --verify it computes a pack's totals again from the pack alone; exit status 1 "
        "where they disagree."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("first", metavar="FROM", nargs="?", help="the first broadcast day")
        parser.add_argument("last", metavar="TO", nargs="?", help="the last broadcast day, included")
        parser.add_argument("--output", metavar="FILE", help="the ZIP to write")
        parser.add_argument("--station", metavar="SLUG", help="which station, where there are several")
        parser.add_argument("--rules", metavar="NAME", help="the rule-set (default: the station's)")
        parser.add_argument("--verify", metavar="FILE", type=Path, help="look into this pack and write none")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verify"]:
            self._verify(options["verify"])
            return
        if not (options["first"] and options["last"] and options["output"]):
            raise CommandError("FROM, TO and --output are needed to write a pack, --verify FILE to look into one.")
        try:
            rules = conf.get().rules(options["rules"])
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        period = _files.period(options["first"], options["last"])
        station_id = _station(options["station"])
        quarters = QuarterHour.objects.filter(station_id=station_id, rule_set=rules.name)
        if not quarters.filter(started__gte=period.started_ms, started__lt=period.ended_ms).exists():
            raise CommandError(
                f"No quarter-hour of {period.first} to {period.last} is kept under {rules.name!r}; there would be "
                "nothing in the pack. listen_stats_rebuild computes them while the sessions are there."
            )
        pack = GrantPack(
            period=period, rules=rules, station_id=station_id, station_name=_name(station_id), now=timezone.now()
        )
        with _files.written(options["output"]) as file:
            pack.write(file)
        self.stderr.write(f"{Path(options['output']).name} is written.", self.style.SUCCESS)

    def _verify(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                found = disagreements(file)
        except OSError as error:
            raise CommandError(f"{path.name} cannot be read ({type(error).__name__}).") from error
        except MalformedRecord as error:
            raise CommandError(f"{path.name}: {error}") from error
        for one in found:
            self.stdout.write(one)
        if found:
            raise CommandError(f"{path.name} does not agree with itself: {len(found)} findings.")
        self.stdout.write(f"{path.name} agrees: every file with its hash, every total with its tables.")


def _station(name: str | None) -> int:
    """The station that was named, or the only one that has streams."""
    if name is not None:
        return _words.station(name) or 0
    known = sorted(set(Stream.objects.counting().values_list("station_id", flat=True)))
    if len(known) != 1:
        raise CommandError(f"There are {len(known)} stations with streams; name one with --station.")
    return known[0]


def _name(station_id: int) -> str:
    try:
        return next((one.name for one in aircox.log().stations() if one.id == station_id), "")
    except AircoxMissing:
        return ""
