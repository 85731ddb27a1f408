"""Old Icecast access logs become sessions: resumable, idempotent, with counts of every line."""

from __future__ import annotations

import datetime as dt
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from tqdm import tqdm

from ... import conf
from ...errors import ListenStatsError
from ...fields import to_ms
from ...models import Ruling
from ...onair import aircox
from ...pipeline import importing, labels, streams
from ...sources import registry
from ...sources.logfile import BlockLog
from ._writing import WritingCommand

DEFAULT_SOURCE = "import"

LABELS = {
    "read": "lines read",
    "kept": "kept",
}


class Command(WritingCommand):
    help = (
        "Imports Icecast access logs, plain or .gz, in any order. Interrupted, it goes on where it stopped; "
        "the same log twice changes nothing; a log that has grown gives its new part."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="access.log, rotated ones, .gz")
        parser.add_argument(
            "--stream",
            action="append",
            default=[],
            metavar="SLUG=/MOUNT",
            help="which mount of the logs is which stream; default: every stream with its own mount",
        )
        parser.add_argument(
            "--source",
            default=DEFAULT_SOURCE,
            help="the name under which the sessions are kept (default: %(default)s)",
        )
        parser.add_argument(
            "--replace",
            action="store_true",
            help="remove what other sources told of the same streams in the hours of these logs",
        )
        parser.add_argument("--from", dest="from_", metavar="WHEN", help="only what ends at WHEN or later")
        parser.add_argument("--to", metavar="WHEN", help="only what ends before WHEN")
        parser.add_argument("--dry-run", action="store_true", help="read and count, store nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        try:
            plan = importing.Plan(
                source=_name(options["source"]),
                mounts=_mounts(options["stream"]),
                replace=options["replace"],
                from_ms=_instant(options["from_"], "--from"),
                to_ms=_instant(options["to"], "--to"),
                dry_run=options["dry_run"],
            )
            streams.sync(_station_of)
            logs = [BlockLog(Path(name)) for name in options["files"]]
            imported = self._run(logs, plan, is_quiet=options["verbosity"] == 0)
            if not plan.dry_run and Ruling.objects.exists():
                labels.lay(Ruling(source=plan.source))
        except ListenStatsError as error:
            raise CommandError(str(error)) from error
        if options["verbosity"]:
            self._tell(imported, plan, time.monotonic() - started)

    def _run(self, logs: list[BlockLog], plan: importing.Plan, *, is_quiet: bool) -> importing.Imported:
        total = sum(log.size for log in logs)
        at: dict[int, int] = {}
        with tqdm(
            total=total, unit="B", unit_scale=True, desc="Importing", disable=None if not is_quiet else True
        ) as bar:

            def show(log: Any, chunk: Any) -> None:
                done = log.bytes_read()
                bar.update(max(0, done - at.get(id(log), 0)))
                at[id(log)] = done
                bar.set_postfix_str(f"{log.label[:30]}", refresh=False)

            return importing.run(logs, plan, now_ms=to_ms(timezone.now()), progress=show)

    def _tell(self, imported: importing.Imported, plan: importing.Plan, seconds: float) -> None:
        for label in sorted(set(imported.already)):
            self.stdout.write(f"{label}: nothing new, imported before.")
        counts = dict(imported.counts)
        read, kept = counts.pop("read", 0), counts.pop("kept", 0)
        self.stdout.write(f"{read} lines read, {kept} kept.")
        for verb in ("skipped", "refused"):
            some = {name: n for name, n in counts.items() if name.startswith(f"{verb}_") and n}
            if some:
                reasons = ", ".join(
                    f"{name.removeprefix(f'{verb}_').replace('_', ' ')} {n}" for name, n in sorted(some.items())
                )
                self.stdout.write(f"{sum(some.values())} {verb}: {reasons}.")
        word = "would be stored" if plan.dry_run else "stored"
        self.stdout.write(f"{imported.sessions} sessions {word} in {seconds:.1f} s.")
        if imported.outside:
            self.stdout.write(f"{imported.outside} sessions end outside the window and were left out.")
        if imported.replaced:
            self.stdout.write(f"{imported.replaced} sessions of other sources replaced.")
        if imported.straddling:
            self.stdout.write(
                f"{imported.straddling} sessions of other sources go on beyond these logs and were left whole."
            )


def _name(source: str) -> str:
    """The name of the import. A live source's own would hide from us that it told of the same listening."""
    if source in conf.get().sources:
        raise CommandError(
            f"--source is {source!r}, which is a source of SOURCES: what it heard and what the log tells of the same "
            f"listening would be counted twice. Take another name, or leave the option out ({DEFAULT_SOURCE!r})."
        )
    return source


def _mounts(given: list[str]) -> dict[str, str]:
    """mount -> slug, from --stream or from the settings. Raises ConfigurationError."""
    settings = conf.get()
    if not given:
        return {mount: slug for name in settings.sources for mount, slug in registry.mounts(settings, name).items()}
    found: dict[str, str] = {}
    for one in given:
        slug, equals, mount = one.partition("=")
        if slug not in settings.streams:
            raise CommandError(
                f"Unknown stream {slug!r} in --stream. Configured: {', '.join(sorted(settings.streams)) or 'none'}."
            )
        if equals and not mount.startswith("/"):
            raise CommandError(f"--stream {one!r} names no mount. Example: --stream {slug}=/live.mp3")
        mount = mount or settings.streams[slug].mount or f"/{slug}"
        if found.setdefault(mount, slug) != slug:
            raise CommandError(f"Mount {mount!r} is given to two streams: {found[mount]!r} and {slug!r}.")
    return found


def _instant(text: str | None, option: str) -> int | None:
    """Milliseconds of a date or a time; without an offset it is the station's local time."""
    if text is None:
        return None
    try:
        given = parse_datetime(text) or dt.datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{option} is {text!r}; expected a time such as 2026-11-22T06:00 or 2026-11-22.") from None
    if given.tzinfo is None:
        given = given.replace(tzinfo=conf.get().zone)
    return to_ms(given)


def _station_of(slug: str, entry: conf.StreamSettings) -> int | None:
    log = aircox.log()
    if entry.station is None:
        station = log.default_station()
    else:
        station = log.station(entry.station)
    return None if station is None else station.id
