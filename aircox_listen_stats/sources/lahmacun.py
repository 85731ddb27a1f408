"""The daily CSV of Lahmacun Radio's fetcher: AzuraCast's listeners, polled twice a minute, a row for each address.

``ip;location;connected_time;valid``, where ``connected_time`` is a Python list
of ``['22:00:33.03271', datetime.timedelta(seconds=9598)]``; older files are
separated by commas, and tell the start with its date. Behind the rows stand
totals (github.com/lahmacunradio/analytics, fetcher and examples).

What must be known of it:

- The start is the time of day of the first poll that showed the listener, up
  to 30 s late, without a date and without a zone. Rows and sessions come in the
  order in which they were first seen: a time of day that goes back is the next
  day. The file's own name has the day on which it ENDS.
- A new session is where AzuraCast's counter went back. All listeners behind
  one address share a row.
- ``valid`` and the totals contradict the sessions beside them: they are
  computed anew and never used.
- The location is ``N/A`` where AzuraCast told none, which mostly is a shared or
  internal address: how many people listen behind it is unknown, one at least.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from ..errors import MalformedRecord
from ..kernel.types import MS, Address

__all__ = ["SHARED", "Flags", "Listener", "PolledDay", "read_day", "write_day"]

COLUMNS = ["ip", "location", "connected_time", "valid"]

POLL_SECONDS = 30.0

LONG_SECONDS = 300
"""A listener is valid with one session that is longer (fetcher.py, LONG_LISTENER_THRES)."""

SHORT_SECONDS = 60
"""A listener is short with one session alone, and that shorter (SHORT_LISTENER_THRES)."""

LONGEST_SECONDS = 7 * 24 * 3600
"""A file is of a day; who ran the fetcher for longer kept a week at most."""

SHARED = "N/A"

_ITEM = re.compile(
    r"[\[(]\s*(?:'(?P<text>[^']*)'|datetime\.datetime\((?P<whole>[\d\s,]+)\))\s*,\s*"
    r"(?:datetime\.timedelta\((?P<delta>[^()]*)\)|(?P<seconds>\d+(?:\.\d+)?))\s*[\])]\s*,?\s*"
)
_DELTA = re.compile(r"\s*(?:(days|seconds|microseconds)\s*=\s*)?(-?\d{1,12})\s*")
_TIME = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})(?:\.(\d{1,6}))?")
_TOTALS = re.compile(r"^Total\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What the file counts. ``rows`` are addresses, of which one may be many people."""

    rows: int = 0
    long_rows: int = 0
    short_rows: int = 0
    shared_rows: int = 0
    sessions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A row: an address and its sessions, ``(start, end)`` in milliseconds."""

    address: Address
    is_shared: bool
    location: str = ""
    sessions: tuple[tuple[int, int], ...]

    @property
    def is_long(self) -> bool:
        return any(end - start > LONG_SECONDS * MS for start, end in self.sessions)

    @property
    def is_short(self) -> bool:
        return len(self.sessions) == 1 and self.sessions[0][1] - self.sessions[0][0] < SHORT_SECONDS * MS


@dataclass(frozen=True, slots=True, kw_only=True)
class PolledDay:
    """A file's rows, in its order. ``wrong_flags`` of its rows contradict their sessions."""

    listeners: tuple[Listener, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    wrong_flags: int = 0

    @property
    def flags(self) -> Flags:
        """The file's totals, computed from its sessions."""
        return Flags(
            rows=len(self.listeners),
            long_rows=sum(one.is_long for one in self.listeners),
            short_rows=sum(one.is_short for one in self.listeners),
            shared_rows=sum(one.is_shared for one in self.listeners),
            sessions=sum(len(one.sessions) for one in self.listeners),
        )

    @property
    def span_ms(self) -> tuple[int, int]:
        """From the first sighting to the last; (0, 0) where nobody listened."""
        spans = [span for one in self.listeners for span in one.sessions]
        return (min(start for start, _ in spans), max(end for _, end in spans)) if spans else (0, 0)


def read_day(text: str, *, date: dt.date, zone: ZoneInfo) -> PolledDay:
    """What the file of ``date``, the local day on which it BEGINS, tells. Raises MalformedRecord for no such file.

    Rows that do not follow the format are counted by reason and left out.
    """
    lines = _rows(text)
    if next(lines, None) != COLUMNS:
        raise MalformedRecord("not_lahmacun", f"The file does not begin with the columns {', '.join(COLUMNS)}.")
    counts: Counter[str] = Counter()
    listeners = []
    wrong_flags = 0
    days = _Days(date, zone)
    for cells in lines:
        if not cells or _TOTALS.match(cells[0]):
            continue
        counts["read"] += 1
        try:
            listener = _listener(cells, days)
        except MalformedRecord as error:
            counts[f"refused_{error.reason}"] += 1
            continue
        counts["kept"] += 1
        listeners.append(listener)
        wrong_flags += cells[3].strip() not in (("1", "1.0") if listener.is_long else ("0", "0.0"))
    return PolledDay(listeners=tuple(listeners), counts=dict(counts), wrong_flags=wrong_flags)


def write_day(listeners: Sequence[Listener], zone: ZoneInfo) -> Iterator[str]:
    """The file as its lines, the totals last, every start with its date and its offset in ``zone``.

    ``valid`` and the totals are those of the sessions; :func:`read_day` reads it back.
    """
    day = PolledDay(listeners=tuple(listeners))
    yield ";".join(COLUMNS) + "\n"
    for one in day.listeners:
        told = ", ".join(_told(start_ms, end_ms, zone) for start_ms, end_ms in one.sessions)
        yield f"{one.address.ip};{one.location or SHARED};[{told}];{int(one.is_long)}\n"
    flags = day.flags
    yield f"Total Listeners;;;{flags.rows}\n"
    yield f"Total Long Listeners;;;{flags.long_rows}\n"
    yield f"Total Short Listeners;;;{flags.short_rows}\n"
    yield f"Total N/A entries;;;{flags.shared_rows}\n"
    yield f"Total Sessions;;;{flags.sessions}\n"


def _told(start_ms: int, end_ms: int, zone: ZoneInfo) -> str:
    started = dt.datetime.fromtimestamp(start_ms / MS, tz=zone).isoformat(timespec="milliseconds")
    seconds, rest_ms = divmod(end_ms - start_ms, MS)
    return f"['{started}', datetime.timedelta(seconds={seconds}, microseconds={rest_ms * MS})]"


def _rows(text: str) -> Iterator[list[str]]:
    text = text.removeprefix("\ufeff")
    separator = ";" if ";" in text.partition("\n")[0] else ","
    try:
        yield from csv.reader(io.StringIO(text), delimiter=separator)
    except csv.Error as error:
        raise MalformedRecord("csv", f"The file is no CSV ({error}).") from None


def _listener(cells: Sequence[str], days: _Days) -> Listener:
    if len(cells) != len(COLUMNS):
        raise MalformedRecord("columns", f"A row of {len(cells)} columns; expected {len(COLUMNS)}.")
    ip, location, told, _ = cells
    if not ip.strip():
        raise MalformedRecord("ip", "A row without an address.")
    sessions = days.placed(list(_sessions(told)))
    location = location.strip()
    is_shared = location in (SHARED, "")
    return Listener(address=Address(ip=ip), is_shared=is_shared, location=location, sessions=sessions)


def _sessions(told: str) -> Iterator[tuple[dt.datetime | dt.time, float]]:
    """Starts, with a date where there is one, and seconds."""
    inner = told.strip()
    if not (inner.startswith("[") and inner.endswith("]")):
        raise MalformedRecord("connected_time", "The sessions are no list.")
    inner, at = inner[1:-1].strip(), 0
    while at < len(inner):
        item = _ITEM.match(inner, at)
        if item is None:
            raise MalformedRecord("connected_time", "A session that is no start and duration.")
        at = item.end()
        seconds = float(item["seconds"]) if item["seconds"] else _duration(item["delta"])
        if not 0 <= seconds <= LONGEST_SECONDS:
            raise MalformedRecord("duration", "A session that lasts less than nothing, or for weeks.")
        yield (_whole(item["whole"]) if item["whole"] else _start(item["text"])), seconds


def _duration(told: str) -> float:
    units = {"days": 86400.0, "seconds": 1.0, "microseconds": 1e-6}
    total = 0.0
    for number, part in enumerate(told.split(",")):
        found = _DELTA.fullmatch(part)
        if found is None or number > 2:
            raise MalformedRecord("duration", "A duration that cannot be read.")
        total += units[found[1] or ("days", "seconds", "microseconds")[number]] * int(found[2])
    return total


def _whole(told: str) -> dt.datetime:
    try:
        year, month, day, *clock = (int(one) for one in told.split(","))
        return dt.datetime.combine(dt.date(year, month, day), dt.time(*clock[:4]))
    except (TypeError, ValueError):
        raise MalformedRecord("start", "A start that cannot be read.") from None


def _start(told: str) -> dt.datetime | dt.time:
    found = _TIME.fullmatch(told)
    try:
        if found is None:
            return dt.datetime.fromisoformat(told)
        hour, minute, second = (int(one) for one in found.groups()[:3])
        return dt.time(hour, minute, second, int((found[4] or "0").ljust(6, "0")))
    except ValueError:
        raise MalformedRecord("start", "A start that cannot be read.") from None


class _Days:
    """Gives starts their day: of rows, and of the sessions of a row, each begins after the one before."""

    def __init__(self, date: dt.date, zone: ZoneInfo) -> None:
        self._zone = zone
        self._latest = dt.datetime.combine(date, dt.time.min)  # the start of the row before

    def placed(self, told: Sequence[tuple[dt.datetime | dt.time, float]]) -> tuple[tuple[int, int], ...]:
        """The sessions of a row, in milliseconds."""
        if not told:
            raise MalformedRecord("connected_time", "A row without a session.")
        latest, found = self._latest, []
        for number, (start, seconds) in enumerate(told):
            instant, latest = self._place(latest, start)
            start_ms = round(instant.timestamp() * MS)
            found.append((start_ms, start_ms + round(seconds * MS)))
            if number == 0:
                first = latest
        self._latest = first
        return tuple(found)

    def _place(self, latest: dt.datetime, start: dt.datetime | dt.time) -> tuple[dt.datetime, dt.datetime]:
        """The instant, and what the clock on the wall showed."""
        if isinstance(start, dt.datetime) and start.tzinfo:
            return start, start.astimezone(self._zone).replace(tzinfo=None)
        wall = start if isinstance(start, dt.datetime) else self._after(latest, start)
        return wall.replace(tzinfo=self._zone), wall

    def _after(self, latest: dt.datetime, start: dt.time) -> dt.datetime:
        """The first instant at this time of day that is not before ``latest``."""
        same_day = dt.datetime.combine(latest.date(), start)
        return same_day if same_day >= latest else same_day + dt.timedelta(days=1)
