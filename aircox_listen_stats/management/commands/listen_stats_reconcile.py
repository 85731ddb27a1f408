"""Says how far two sources agree about the same hours of one stream."""

from __future__ import annotations

import csv
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ...errors import ListenStatsError
from ...kernel.agreement import Telling, Why
from ...models import Session, Stream
from ...pipeline import reconcile, retold
from . import _words

REASONS = {
    Why.UNOBSERVED: "nothing was heard there then (an outage)",
    Why.NOT_ENDED: "not ended when that log did",
    Why.REFUSED_LINE: "a line that ended then could not be read (cut, odd)",
    Why.BETWEEN_POLLS: "came and went between two polls",
    Why.TWIN: "a probe or a second socket of a listener who is there",
    Why.STITCHED: "the listener is there, in sessions cut otherwise",
    Why.RESTART: "the server ended everybody then (a restart)",
    Why.UNKNOWN: "unknown",
}


class Command(BaseCommand):
    help = (
        "Compares what counts on a stream with what a second source tells of the same hours, and stores nothing: "
        "sessions that both have, seconds, who is missing where and the likely reason. The second source are logs "
        "(--log), a source that hears the stream beside its own one, a configured source that follows a log, or "
        "sessions stored under another name (--with)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("stream", metavar="STREAM", help="the stream's slug")
        parser.add_argument("from_", metavar="FROM", help="a day, or an instant")
        parser.add_argument("to", metavar="TO", help="up to, not including")
        add_second_source(parser)
        parser.add_argument("--source", default="", help="stored sessions of this source alone, not all that count")
        parser.add_argument("--csv", metavar="FILE", help="every session of both sides as CSV; - for standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            stream, from_ms, to_ms = window(options)
            own = options["source"] or (stream.source if is_stored(stream, options["with_"]) else "")
            one = retold.stored(stream, from_ms, to_ms, source=own)
            other, same_keys = second(stream, from_ms, to_ms, options)
        except ListenStatsError as error:
            raise CommandError(str(error)) from error
        found = reconcile.reconcile(one, reconcile.within(other, from_ms, to_ms), same_keys=same_keys)
        if options["csv"]:
            _write_csv(found, options["csv"], self.stdout)
        if options["csv"] != "-":
            self._tell(found)

    def _tell(self, found: reconcile.Reconciled) -> None:
        one, other = f"here: {found.one.name}", f"there: {found.other.name}"
        if not found.same_keys:
            self.stdout.write(
                "The secret of these hours is gone, or the other side has another: sessions are matched by start and "
                "end alone."
            )
        if found.agreement.offset_ms:
            self.stdout.write(
                f"The clock of {found.other.name} is {found.agreement.offset_ms / 1000:+.0f} s off; its sessions were "
                "matched as if it were right."
            )
        matched_one, matched_other = found.matched
        self.stdout.write(f"{'':16}{one[:23]:>24}{other[:23]:>24}")
        self._row("", "sessions", "seconds", "sessions", "seconds")
        self._row("all", *_cells(found.in_one), *_cells(found.in_other))
        self._row("matched", *_cells(matched_one), *_cells(matched_other))
        ways = ", ".join(f"{count} by {way}" for way, count in sorted(found.ways.items()))
        if ways:
            self.stdout.write(f"  of these {ways}")
        for what, (median, largest) in found.errors().items():
            self.stdout.write(f"  {what}s there less here: median {median:+.1f} s, largest {largest:+.1f} s")
        for where, missing_in_one in (("there", False), ("here", True)):
            for why, totals in found.reasons(missing_in_one=missing_in_one).items():
                cells = (*_cells(totals), "", "") if not missing_in_one else ("", "", *_cells(totals))
                self._row(f"missing {where}", *cells, REASONS[Why(why)])

    def _row(self, name: str, *cells: str) -> None:
        columns = "".join(f"{cell:>12}" for cell in cells[:4])
        self.stdout.write(f"{name:16}{columns}  {cells[4] if len(cells) > 4 else ''}".rstrip())


def add_second_source(parser: ArgumentParser) -> None:
    """The options that name a second source of a stream."""
    parser.add_argument(
        "--log", nargs="+", metavar="FILE", help="access logs of Icecast, or nginx's of HLS; compressed ones too"
    )
    parser.add_argument("--mount", help="what the log calls the stream (default: its mount in STREAMS)")
    parser.add_argument(
        "--with",
        dest="with_",
        metavar="SOURCE",
        help="a source that hears the stream beside its own one (default, if there is one), or that follows a log",
    )


def window(options: dict[str, Any]) -> tuple[Stream, int, int]:
    """The stream and the hours that the command line names."""
    stream = _words.stream(options["stream"])
    from_ms, to_ms = _words.instant(options["from_"], "FROM"), _words.instant(options["to"], "TO")
    if to_ms <= from_ms:
        raise CommandError(f"TO ({options['to']}) is not later than FROM ({options['from_']}).")
    both, neither = options["log"] and options["with_"], not options["log"] and not options["with_"]
    if both or (neither and retold.compared(stream) is None):
        raise CommandError("Name one second source: --log FILE… or --with SOURCE.")
    return stream, from_ms, to_ms


def second(stream: Stream, from_ms: int, to_ms: int, options: dict[str, Any]) -> tuple[Telling, bool]:
    """What the second source tells, and whether its keys can be compared with the stored ones."""
    if other := beside(stream, options):
        return retold.stored(other, from_ms, to_ms), True
    if is_stored(stream, options["with_"]):
        return retold.stored(stream, from_ms, to_ms, source=options["with_"]), False
    found = heard_again(stream, from_ms, to_ms, options)
    retold.refuse_other_hours(found.telling, from_ms, to_ms)
    return found.telling, found.same_keys


def beside(stream: Stream, options: dict[str, Any]) -> Stream | None:
    """The stream, heard beside this one, that the command line names; None where it names another second source."""
    return None if options["log"] else retold.compared(stream, options["with_"] or "")


def is_stored(stream: Stream, name: str | None) -> bool:
    """Are there sessions of the stream under this other name (an import's, a back-fill's)?"""
    return bool(name) and name != stream.source and Session.objects.filter(stream=stream, source=name).exists()


def heard_again(stream: Stream, from_ms: int, to_ms: int, options: dict[str, Any]) -> retold.Retold:
    """What the log or the source that the command line names tells of these hours."""
    if other := beside(stream, options):
        return retold.from_compared(other, from_ms, to_ms)
    mount, now_ms = options["mount"] or retold.mount_of(stream), _words.now_ms()
    if options["with_"]:
        return retold.from_source(stream, options["with_"], mount, from_ms, to_ms, now_ms=now_ms)
    return retold.from_logs([Path(name) for name in options["log"]], stream, mount, from_ms, to_ms, now_ms=now_ms)


def _cells(totals: reconcile.Totals) -> tuple[str, str]:
    return f"{totals.sessions}", f"{totals.seconds:.0f}"


def _write_csv(found: reconcile.Reconciled, name: str, stdout: Any) -> None:
    if name == "-":
        _lines(found, stdout)
        return
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        _lines(found, file)


def _lines(found: reconcile.Reconciled, file: Any) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(reconcile.COLUMNS)
    writer.writerows(found.lines())
