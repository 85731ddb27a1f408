"""Makes, lists, rotates and revokes the tokens of programs that tell or read stream events."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ... import conf
from ...errors import ConfigurationError
from ...fields import from_ms, to_ms
from ...models import IngestToken
from ...pipeline import tokens
from ...sources import registry
from ...sources.stream_events import StreamEventsSource
from . import _words

HOUR_MS = 3600 * 1000
GRACE_HOURS = 24.0
"""Time enough to bring the new token to every shipper."""


class Command(BaseCommand):
    help = (
        "Tokens of programs that tell stream events (scope ingest) or read them (scope read). "
        "A token is shown once, when it is made; only its hash is kept."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        create = actions.add_parser("create", help="make a token and show it")
        create.add_argument("name", help="what it is for, such as the host of a log shipper")
        create.add_argument("--source", default="", help="its source in the settings; only a reader can do without")
        create.add_argument("--scope", action="append", choices=tokens.SCOPES, help="ingest (default), read, or both")
        rotate = actions.add_parser("rotate", help="make a second token; the old one lives a little longer")
        rotate.add_argument("prefix", help="how the old one begins, as the list shows it")
        rotate.add_argument("--grace-hours", type=float, default=GRACE_HOURS, help="how long (%(default)s)")
        revoke = actions.add_parser("revoke", help="make a token nobody's, at once")
        revoke.add_argument("prefix", help="how it begins, as the list shows it")
        actions.add_parser("list", help="show all tokens, without themselves")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, options["action"])(options)

    def create(self, options: dict[str, Any]) -> None:
        scopes = options["scope"] or [IngestToken.INGEST]
        if not options["source"] and IngestToken.INGEST in scopes:
            raise CommandError("A token to ingest needs its --source.")
        if options["source"]:
            _require_source(options["source"])
        row, token = tokens.create(
            name=options["name"], source=options["source"], scopes=scopes, now_ms=_words.now_ms()
        )
        self._show(row, token)

    def rotate(self, options: dict[str, Any]) -> None:
        if options["grace_hours"] < 0:
            raise CommandError(f"--grace-hours is {options['grace_hours']:g}; expected 0 or more.")
        now_ms = _words.now_ms()
        old = _found(options["prefix"], now_ms)
        row, token = tokens.rotate(old, grace_ms=round(options["grace_hours"] * HOUR_MS), now_ms=now_ms)
        old.refresh_from_db()
        self._show(row, token)
        self.stdout.write(f"{old.prefix}… is good until {_instant(old.expires)}.")

    def revoke(self, options: dict[str, Any]) -> None:
        now_ms = _words.now_ms()
        row = _found(options["prefix"], now_ms)
        tokens.revoke(row, now_ms=now_ms)
        self.stdout.write(f"{row.prefix}… ({row.name}) is revoked.")

    def list(self, options: dict[str, Any]) -> None:
        now_ms = _words.now_ms()
        for row in IngestToken.objects.order_by("created"):
            self.stdout.write(
                f"{row.prefix}…  {row.name}  source: {row.source or 'all'}  scopes: {row.scopes}"
                f"  created: {_instant(row.created)}  last used: {_instant(row.used)}  {_state(row, now_ms)}"
            )

    def _show(self, row: IngestToken, token: str) -> None:
        self.stdout.write(f"Token of {row.name}, source: {row.source or 'all'}, scopes: {row.scopes}.")
        self.stdout.write("It is shown this once:")
        self.stdout.write(token)


def _found(prefix: str, now_ms: int) -> IngestToken:
    """The living token that begins so."""
    beginning = prefix.rstrip("…")[: tokens.SHOWN]
    rows = [
        row
        for row in IngestToken.objects.filter(prefix__startswith=beginning)
        if beginning and _state(row, now_ms) != "revoked"
    ]
    if len(rows) != 1:
        found = ", ".join(f"{row.prefix}… ({row.name})" for row in rows) or "none"
        raise CommandError(f"{len(rows)} tokens begin with {beginning!r}: {found}. Expected one; see the list.")
    return rows[0]


def _require_source(name: str) -> None:
    settings = conf.get()
    known = [one for one in settings.sources if _is_stream_events(settings, one)]
    if name not in known:
        raise CommandError(
            f"{name!r} is no source of stream events. Configured: {', '.join(sorted(known)) or 'none'}. "
            "Add one to SOURCES with 'backend': 'stream_events'."
        )


def _is_stream_events(settings: conf.Settings, name: str) -> bool:
    try:
        return issubclass(registry.backend(settings.sources[name].backend), StreamEventsSource)
    except ConfigurationError:
        return False


def _state(row: IngestToken, now_ms: int) -> str:
    if row.revoked is not None:
        return "revoked"
    if row.expires is None:
        return "good"
    return "expired" if to_ms(row.expires) <= now_ms else f"good until {_instant(row.expires)}"


def _instant(at: Any) -> str:
    return "never" if at is None else from_ms(to_ms(at)).astimezone(conf.get().zone).strftime("%Y-%m-%d %H:%M")
