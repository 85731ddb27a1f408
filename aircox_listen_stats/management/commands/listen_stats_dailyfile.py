"""One day's listeners in the form of Lahmacun Radio's daily file, with its block of totals."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from ... import conf
from ...kernel.types import Address
from ...models import Stream
from ...reports import sessions
from ...reports.query import Period
from ...sources.lahmacun import SHARED, Listener, write_day
from . import _files, _words


class Command(BaseCommand):
    help = (
        "Writes the listeners of one broadcast day as Lahmacun Radio's daily CSV: a row for each listener, under a "
        "number that means nothing outside of the file, with its sessions, and totals at the end. No session is too "
        "short for it; excluded ones are left out."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("stream", metavar="STREAM", help="the stream's slug")
        parser.add_argument("day", metavar="DAY", help="the broadcast day in which the sessions began")
        parser.add_argument("--output", default="-", metavar="FILE", help="default: the standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        stream, day = _words.stream(options["stream"]), _files.period(options["day"], options["day"])
        with _files.written(options["output"]) as file:
            file.writelines(line.encode() for line in write_day(_listeners(stream, day), conf.get().zone))


def _listeners(stream: Stream, day: Period) -> list[Listener]:
    """The day's listeners, numbered in the order in which they were first heard."""
    spans: dict[int, list[tuple[int, int]]] = {}
    countries: dict[int, str] = {}
    for one in sessions.begun([stream.pk], day.started_ms, day.ended_ms):
        spans.setdefault(one.listener, []).append((one.started_ms, one.ended_ms))
        countries[one.listener] = countries.get(one.listener) or one.country
    return [
        Listener(
            address=Address(ip=str(number)),
            is_shared=not countries[listener],
            location=countries[listener] or SHARED,
            sessions=tuple(some),
        )
        for number, (listener, some) in enumerate(spans.items(), start=1)
    ]
