"""Sessions as lines of a log, without any address."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from ...models import Stream
from ...pipeline.retold import mount_of
from ...reports import session_log, sessions
from . import _files, _words


class Command(BaseCommand):
    help = (
        "Writes the sessions that ended in some broadcast days as a log in Icecast's or the W3C's extended form. The "
        "address is a pseudonym of this one file, in the network of documents 2001:db8::/32; the agent is the app's "
        "name. Excluded sessions are left out. listen_stats_import reads Icecast's form back."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("first", metavar="FROM", help="the first broadcast day")
        parser.add_argument("last", metavar="TO", help="the last broadcast day, included")
        parser.add_argument("--form", default="icecast", choices=sorted(session_log.FORMS), help="default: %(default)s")
        parser.add_argument(
            "--stream", action="append", default=[], metavar="SLUG", help="this stream alone; may be repeated"
        )
        parser.add_argument("--output", default="-", metavar="FILE", help="default: the standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        period = _files.period(options["first"], options["last"])
        streams = [_words.stream(slug) for slug in options["stream"]] or list(Stream.objects.counting())
        mounts = {stream.pk: mount_of(stream) for stream in streams}
        lines = session_log.FORMS[options["form"]]
        found = sessions.each_ended(list(mounts), period.started_ms, period.ended_ms) if mounts else ()
        with _files.written(options["output"]) as file:
            file.writelines(lines(found, mounts, session_log.Mask()))
