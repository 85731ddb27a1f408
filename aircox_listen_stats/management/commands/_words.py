"""What the commands' options have in common."""

from __future__ import annotations

import datetime as dt
import time
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError

from ... import conf
from ...fields import to_ms
from ...models import Stream
from ...onair import aircox


def now_ms() -> int:
    """The machine's clock."""
    return time.time_ns() // 1_000_000


def instant(text: str, option: str) -> int:
    """Milliseconds of a day or an instant, in the station's zone unless it names another."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{option} is {text!r}; expected a day such as 2026-11-22, or 2026-11-22T10:00.") from None
    return to_ms(found if found.tzinfo else found.replace(tzinfo=conf.get().zone))


def add_window(parser: ArgumentParser) -> None:
    """The options of a command that goes over a stretch of time, of one station or of all."""
    parser.add_argument("--from", dest="from_", required=True, metavar="WHEN", help="a day, or an instant")
    parser.add_argument("--to", metavar="WHEN", help="up to, not including (default: now)")
    parser.add_argument("--station", metavar="SLUG", help="this station alone")


def window(options: Mapping[str, Any], now_ms: int) -> tuple[int, int]:
    """The stretch of :func:`add_window`, in milliseconds."""
    started_ms = instant(options["from_"], "--from")
    ended_ms = instant(options["to"], "--to") if options["to"] else now_ms
    if ended_ms <= started_ms:
        raise CommandError(f"--to ({options['to'] or 'now'}) is not later than --from ({options['from_']}).")
    return started_ms, ended_ms


def stream(slug: str) -> Stream:
    """The stream of that slug."""
    found = Stream.objects.filter(slug=slug).first()
    if found is None:
        known = ", ".join(Stream.objects.values_list("slug", flat=True)) or "none"
        raise CommandError(f"Unknown stream {slug!r}. Known: {known}.")
    return found


def station(name: str | None) -> int | None:
    """The id of the station of that slug or id; None for None."""
    if name is None:
        return None
    log = aircox.log()
    found = log.station(name)
    if found is None:
        known = ", ".join(one.slug for one in log.stations()) or "none"
        raise CommandError(f"Unknown station {name!r}. Known: {known}.")
    return found.id
