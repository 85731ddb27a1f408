"""Old access logs, Icecast's and of HLS, become sessions: resumable, idempotent, with counts of every line."""

from __future__ import annotations

import datetime as dt
import time
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from tqdm import tqdm

from ... import conf
from ...errors import ListenStatsError
from ...fields import from_ms, to_ms
from ...models import Ruling
from ...onair import aircox
from ...pipeline import hls_importing, importing, labels, streams
from ...sources import registry
from ...sources.hls import HlsSource
from ...sources.hlsfile import HlsLogFile, is_hls_log
from ...sources.logfile import BlockLog
from ._writing import WritingCommand

DEFAULT_SOURCE = "import"

LABELS = {
    "read": "lines read",
    "kept": "kept",
}


class Command(WritingCommand):
    help = (
        "Imports Icecast's access logs and nginx's logs of HLS, plain or compressed, in any order. Interrupted, it "
        "goes on where it stopped; the same log twice changes nothing; a log that has grown gives its new part."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "files", nargs="+", metavar="FILE", help="access.log, hls.log, rotated ones; .gz, .bz2, .xz"
        )
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
            imported = self._run([Path(name) for name in options["files"]], plan, is_quiet=options["verbosity"] == 0)
            if not plan.dry_run and Ruling.objects.exists():
                labels.lay(Ruling(source=plan.source))
        except ListenStatsError as error:
            raise CommandError(str(error)) from error
        if options["verbosity"]:
            self._tell(imported, plan, time.monotonic() - started)

    def _run(self, paths: list[Path], plan: importing.Plan, *, is_quiet: bool) -> importing.Imported:
        kinds = _by_kind(paths, plan.mounts)
        at: dict[int, int] = {}
        with tqdm(
            total=sum(log.size for kind in kinds for log in kind.logs),
            unit="B",
            unit_scale=True,
            desc="Importing",
            disable=None if not is_quiet else True,
        ) as bar:

            def show(log: Any, chunk: Any) -> None:
                done = log.bytes_read()
                bar.update(max(0, done - at.get(id(log), 0)))
                at[id(log)] = done
                bar.set_postfix_str(f"{log.label[:30]}", refresh=False)

            now_ms = to_ms(timezone.now())
            imported = []
            for kind in kinds:
                part = replace(plan, mounts=kind.mounts)
                if kind.source is None:
                    imported.append(importing.run(kind.logs, part, now_ms=now_ms, progress=show))
                else:
                    imported.append(hls_importing.run(kind.logs, part, kind.source, now_ms=now_ms, progress=show))
            return _together(imported)

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
        for slug, one in imported.shared:
            since, until = (f"{from_ms(ms):%Y-%m-%d %H:%M}" for ms in (one.since_ms, one.until_ms))
            self.stdout.write(
                f"Stream {slug!r}, {since} to {until} UTC: most listeners come from one address, {one.most} of "
                f"{one.compared}, as behind a proxy that hides them. Distinct listeners are lower bounds then: "
                "“Who cannot be told apart” in docs/sources/icecast.md."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """Logs of one kind, and the mounts that they tell of. ``source`` says what HLS streams are; None for Icecast's."""

    logs: list[Any]
    mounts: dict[str, str]
    source: HlsSource | None = None


def _by_kind(paths: list[Path], mounts: Mapping[str, str]) -> list[_Kind]:
    """Each log with those that are read alike: of HLS by their lines, if a stream is counted so."""
    settings = conf.get()
    hls: dict[str, dict[str, str]] = {}
    for mount, slug in mounts.items():
        name = settings.streams[slug].source
        if issubclass(registry.backend(settings.sources[name].backend), HlsSource):
            hls.setdefault(name, {})[mount] = slug
    of_hls = [path for path in paths if hls and is_hls_log(path)]
    icecast = [path for path in paths if path not in of_hls]
    found = []
    if icecast:
        rest = {mount: slug for mount, slug in mounts.items() if not any(mount in some for some in hls.values())}
        if mounts and not rest:
            raise CommandError(
                f"{icecast[0].name} is no log of HLS, and every stream given is counted by HLS: "
                f"{', '.join(sorted(mounts.values()))}. Name the stream of this log with --stream."
            )
        found.append(_Kind(logs=[BlockLog(path) for path in icecast], mounts=rest))
    if of_hls:
        if len(hls) > 1:
            raise CommandError(
                f"Which of the sources {', '.join(sorted(hls))} wrote these HLS logs? "
                "Name the streams of one with --stream."
            )
        ((name, own),) = hls.items()
        entry = settings.sources[name]
        source = HlsSource(name, own, entry.options, trusted_proxies=settings.trusted_proxies)
        found.append(_Kind(logs=[HlsLogFile(path) for path in of_hls], mounts=own, source=source))
    return found


def _together(imported: Sequence[importing.Imported]) -> importing.Imported:
    """What was imported of all kinds."""
    names = [field.name for field in fields(importing.Imported)]
    return importing.Imported(**{name: reduce(add, (getattr(one, name) for one in imported)) for name in names})


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
        every = [one for name in settings.sources for one in registry.mounts(settings, name).items()]
        return {mount: slug for mount, slug in every if not settings.streams[slug].beside}
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
