"""The stamps of web servers' logs: ``22/Nov/2026:01:48:42 +0000``."""

from __future__ import annotations

import calendar
import re

from ..errors import MalformedRecord

__all__ = ["instant"]

_MONTHS = {
    name: number
    for number, name in enumerate(
        (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"), start=1
    )
}
"""English, whatever the locale."""

_STAMP = re.compile(rb"(\d{2})/([A-Z][a-z]{2})/(\d{4}):(\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})(\d{2})")

_hours: dict[bytes, int] = {}
"""Epoch second at which each hour, by its offset, begins: of those seen lately, a log has few."""

REMEMBERED_HOURS = 4096

_SIXTY = {b"%02d" % number: number for number in range(60)}


def instant(stamp: bytes) -> int:
    """Epoch seconds of ``22/Nov/2026:01:48:42 +0000``. Raises MalformedRecord."""
    hour = _hours.get(stamp[:15] + stamp[20:])
    if hour is not None and len(stamp) == 26 and stamp[17:18] == b":":
        minute, second = _SIXTY.get(stamp[15:17]), _SIXTY.get(stamp[18:20])
        if minute is not None and second is not None:
            return hour + minute * 60 + second
    return _slowly(stamp)


def _slowly(stamp: bytes) -> int:
    match = _STAMP.fullmatch(stamp)
    if match is None or match[2] not in _MONTHS:
        raise MalformedRecord("stamp", "A stamp that is not of the form 22/Nov/2026:01:48:42 +0000.")
    day, year, hour, minute, second, offset_h, offset_m = (int(match[n]) for n in (1, 3, 4, 5, 6, 8, 9))
    month = _MONTHS[match[2]]
    if year < 1970 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        raise MalformedRecord("stamp", "A stamp with a day that does not exist.")
    if hour > 23 or minute > 59 or second > 60 or offset_h > 14 or offset_m > 59:
        raise MalformedRecord("stamp", "A stamp with a time that does not exist.")
    offset = (offset_h * 60 + offset_m) * (1 if match[7] == b"+" else -1)
    begins = calendar.timegm((year, month, day, hour, 0, 0)) - offset * 60
    if len(_hours) >= REMEMBERED_HOURS:
        _hours.clear()
    _hours[stamp[:15] + stamp[20:]] = begins
    return begins + minute * 60 + second
