"""Shows, mends and tells again the stream events that were refused."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Count, QuerySet

from ... import conf
from ...errors import ConfigurationError
from ...models import DeadLetter
from ...pipeline import dead_letters
from ...sources import registry
from ...sources.stream_events import EXPECTED, StreamEventsSource
from . import _words

SHOWN = 50

TOO_OLD = (
    "What is too old is not told again: if the shipper sent the right event too, it would count twice. "
    "Import those hours from the log instead (listen_stats_import), then drop the letters."
)


class Command(BaseCommand):
    help = (
        "Stream events that were refused: lists them, shows one, mends fields, tells them again, drops them. "
        "A letter holds its listener as a key, and of what was wrong only the shape: 9 for digits, a for letters."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        listing = actions.add_parser("list", help="how many there are of each kind, and the newest")
        _choose(listing, ids=False)
        listing.add_argument("--limit", type=int, default=SHOWN, help="letters to list (%(default)s)")
        show = actions.add_parser("show", help="everything that one letter keeps")
        show.add_argument("id", type=int)
        mend = actions.add_parser(
            "mend", help="give fields another value: mend --reason wrong --field status status=200"
        )
        mend.add_argument("values", nargs="+", metavar="field=value")
        _choose(mend, ids=True)
        mend.add_argument("--dry-run", action="store_true", help="say what would be well, change nothing")
        replay = actions.add_parser("replay", help="tell them again; what is well-formed now leaves the dead letters")
        _choose(replay, ids=True)
        replay.add_argument("--dry-run", action="store_true", help="count, change nothing")
        drop = actions.add_parser("drop", help="delete them")
        _choose(drop, ids=True)
        drop.add_argument("--dry-run", action="store_true", help="count, delete nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, options["action"])(options)

    def list(self, options: dict[str, Any]) -> None:
        letters = _chosen(options)
        kinds = letters.values("source", "field", "reason").annotate(count=Count("pk")).order_by("-count")
        for kind in kinds:
            self.stdout.write(f"{kind['count']:>8}  {kind['source']}  {_what(kind['field'], kind['reason'])}")
        for row in letters.order_by("-pk")[: options["limit"]]:
            at = row.received.astimezone(conf.get().zone)
            self.stdout.write(f"{row.pk}  {at:%Y-%m-%d %H:%M:%S}  {_what(row.field, row.reason)}  {row.value!r}")
        if not kinds:
            self.stdout.write("No dead letters.")

    def show(self, options: dict[str, Any]) -> None:
        row = DeadLetter.objects.filter(pk=options["id"]).first()
        if row is None:
            raise CommandError(f"No dead letter {options['id']}. The list shows their numbers.")
        self.stdout.write(f"{row.pk}: source {row.source}, place {row.index} of its batch")
        self.stdout.write(
            f"{_what(row.field, row.reason)}: {row.value!r}; expected {EXPECTED.get(row.field, 'a text')}"
        )
        self.stdout.write(json.dumps(row.event, indent=2, ensure_ascii=False, sort_keys=True))

    def mend(self, options: dict[str, Any]) -> None:
        values = _values(options["values"])
        well = 0
        left: dict[str, int] = {}
        for row in _chosen(options, required=True):
            try:
                error = dead_letters.mend(_source(row.source), row, values, now_ms=_words.now_ms())
            except dead_letters.UnknownField as unknown:
                raise CommandError(str(unknown)) from None
            if error is None:
                well += 1
            else:
                what = _what(error.field, error.reason)
                left[what] = left.get(what, 0) + 1
            if not options["dry_run"]:
                row.save()
        verb = "would be" if options["dry_run"] else "are"
        self.stdout.write(f"{well} {verb} well-formed; replay tells them again.")
        for what, count in sorted(left.items()):
            self.stdout.write(f"{count} {verb} still wrong: {what}.")
        if any(what.endswith(" too_old") for what in left):
            self.stdout.write(TOO_OLD)

    def replay(self, options: dict[str, Any]) -> None:
        letters = _chosen(options, required=True)
        for name in sorted(set(letters.values_list("source", flat=True))):
            some = letters.filter(source=name).order_by("pk").iterator(chunk_size=1000)
            done = dead_letters.replay(_source(name), some, now_ms=_words.now_ms(), dry_run=options["dry_run"])
            verb = "would be " if options["dry_run"] else ""
            self.stdout.write(
                f"{name}: {done.accepted} {verb}accepted, {done.duplicates} there already, "
                f"{done.ignored} no listening, {done.refused} still wrong, {done.too_old} too old."
            )
            if done.too_old:
                self.stdout.write(TOO_OLD)

    def drop(self, options: dict[str, Any]) -> None:
        letters = _chosen(options, required=True)
        if options["dry_run"]:
            self.stdout.write(f"{letters.count()} would go.")
        else:
            self.stdout.write(f"{letters.delete()[0]} gone.")


def _choose(parser: ArgumentParser, *, ids: bool) -> None:
    """The options that say which letters."""
    if ids:
        parser.add_argument("--id", type=int, action="append", help="this one; may be repeated")
        parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--source", help="those of this source")
    parser.add_argument("--field", help="those in which this field was wrong")
    parser.add_argument("--reason", help="those of this reason")


def _chosen(options: dict[str, Any], *, required: bool = False) -> QuerySet[DeadLetter]:
    given = {name: options[name] for name in ("source", "field", "reason") if options.get(name) is not None} | (
        {"pk__in": options["id"]} if options.get("id") else {}
    )
    if required and not given and not options.get("all"):
        raise CommandError("Which ones? Give --id, --source, --field, --reason, or --all.")
    return DeadLetter.objects.filter(**given)


def _values(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            # Not the pair: it may be an address.
            raise CommandError("A value to mend is written field=value, such as status=200.")
    return dict(pair.split("=", 1) for pair in pairs)


def _source(name: str) -> StreamEventsSource:
    try:
        found = registry.source(conf.get(), name)
    except ConfigurationError as error:
        raise CommandError(str(error)) from None
    if not isinstance(found, StreamEventsSource):
        raise CommandError(f"{name!r} is no source of stream events any more. Its letters can be dropped.")
    return found


def _what(field: str, reason: str) -> str:
    return f"{field or 'event'} {reason}" if reason else "mended"
