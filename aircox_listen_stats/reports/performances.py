"""Performances: each play of a track by how many listeners heard any portion of it.

One track played once to one listener is one performance (37 CFR 380.7), however
long she stayed and whoever she is: the rule-set is ``all``.
"""

from __future__ import annotations

import datetime as dt
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.db.models import Count, Min, Sum

from ..fields import from_ms, to_ms
from ..kernel.types import Layer
from ..models import Airing, Audience, QuarterHour
from .figures import MS_PER_HOUR
from .query import Period

RULE_SET = "all"
"""Any portion counts: 37 CFR 380.7."""

READ_AT_ONCE = 500
"""Plays that a streamed export holds in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """A track that was on air once. ``performances`` and ``listening_ms`` are None where nobody knows."""

    airing_id: int
    station_id: int
    started: dt.datetime
    ended: dt.datetime
    title: str
    artist: str
    program_title: str
    performances: int | None
    listening_ms: int | None
    coverage: float | None
    settled: bool


@dataclass(slots=True, kw_only=True)
class Recording:
    """All plays of one artist's title. ``unknown`` of them have no figures, and are in no sum."""

    title: str
    artist: str
    plays: int = 0
    unknown: int = 0
    performances: int = 0
    listening_ms: int = 0

    def add(self, play: Play) -> None:
        self.plays += 1
        if play.performances is None or play.listening_ms is None:
            self.unknown += 1
            return
        self.performances += play.performances
        self.listening_ms += play.listening_ms


@dataclass(slots=True, kw_only=True)
class Totals:
    """What all plays come to; it grows while they are read."""

    plays: int = 0
    unknown: int = 0
    provisional: int = 0
    in_part: int = 0  # of them, observed for a part of their time alone
    performances: int = 0
    listening_ms: int = 0

    def counting(self, plays: Iterable[Play]) -> Iterator[Play]:
        """The same plays, counted as they pass."""
        for play in plays:
            self.plays += 1
            if play.performances is None or play.listening_ms is None:
                self.unknown += 1
            else:
                self.performances += play.performances
                self.listening_ms += play.listening_ms
                self.provisional += not play.settled
                self.in_part += play.coverage is not None and play.coverage < 1
            yield play

    @property
    def tuning_hours(self) -> float:
        """Listener-hours of music: ATH of the tracks."""
        return self.listening_ms / MS_PER_HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Whose report it is: what a society's columns ask beside the music."""

    name: str = ""
    category: str = ""
    tuning_hours: float | None = None  # of the whole period, music or not
    period: Period
    totals: Totals = field(default_factory=Totals)


def each_play(period: Period, station_id: int | None, *, now: dt.datetime) -> Iterator[Play]:
    """The tracks that began in the period and by now, oldest first, read while they are written."""
    stations = _stations() if station_id is None else [station_id]
    until_ms = min(period.ended_ms, to_ms(now))
    yield from heapq.merge(*(_of_station(one, period.started_ms, until_ms) for one in stations), key=_by_start)


def _of_station(station_id: int, started_ms: int, until_ms: int) -> Iterator[Play]:
    after_ms, after_id = started_ms, -1
    while True:
        plays = [_play(row) for row in _select(station_id, after_ms, after_id, until_ms)]
        yield from plays
        if len(plays) < READ_AT_ONCE:
            return
        after_ms, after_id = to_ms(plays[-1].started), plays[-1].airing_id


def _by_start(play: Play) -> tuple[dt.datetime, int]:
    return play.started, play.airing_id


def _stations() -> list[int]:
    """All that ever had an airing, each found by a step in the index."""
    found: list[int] = []
    while True:
        behind = Airing.objects.filter(station_id__gt=found[-1]) if found else Airing.objects.all()
        following = behind.aggregate(first=Min("station_id"))["first"]
        if following is None:
            return found
        found.append(following)


def by_recording(plays: Iterable[Play]) -> list[Recording]:
    """The plays added up by artist and title, whatever their capitals; most performances first."""
    found: dict[tuple[str, str], Recording] = {}
    for play in plays:
        key = (play.artist.strip().casefold(), play.title.strip().casefold())
        found.setdefault(key, Recording(title=play.title, artist=play.artist)).add(play)
    return [one for _, one in sorted(found.items(), key=lambda item: (-item[1].performances, item[0]))]


def tuning_hours(period: Period, station_id: int | None, stream_ids: Sequence[int] = ()) -> float | None:
    """All listener-hours of the period, music or not; None where no quarter-hour of it is known.

    Of the station as a whole, or of the given streams alone.
    """
    quarters = QuarterHour.objects.filter(
        rule_set=RULE_SET, started__gte=period.started_ms, started__lt=period.ended_ms,
        stream_id__in=stream_ids or [QuarterHour.STATION],
    )  # fmt: skip
    if station_id is not None:
        quarters = quarters.filter(station_id=station_id)
    sums = quarters.aggregate(quarters=Count("id"), listening=Sum("listening_ms"))
    return sums["listening"] / MS_PER_HOUR if sums["quarters"] else None


_COLUMNS = ("id", "station_id", "started", "ended", "title", "artist", "program_title")


def _select(station_id: int, after_ms: int, after_id: int, until_ms: int) -> list[tuple[Any, ...]]:
    """The next rows: by SQL, since Django would take several times as long to build the same.

    Of one station, and with a bound that is no choice: what comes first is then found in the index.
    """
    columns = ", ".join(f"a.{name}" for name in _COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns}, f.listeners, f.listening_ms, f.coverage, f.settled FROM {Airing._meta.db_table} a"
            f" LEFT JOIN {Audience._meta.db_table} f ON f.airing_id = a.id AND f.rule_set = %s"
            " WHERE a.station_id = %s AND a.layer = %s AND a.started >= %s AND a.started < %s"
            " AND (a.started > %s OR a.id > %s) ORDER BY a.started, a.id LIMIT %s",
            [RULE_SET, station_id, Layer.TRACK.value, after_ms, until_ms, after_ms, after_id, READ_AT_ONCE],
        )
        return cursor.fetchall()


def _play(row: Sequence[Any]) -> Play:
    airing_id, station_id, started_ms, ended_ms, title, artist, program_title, *figures = row
    performances, listening_ms, coverage, settled = figures
    # Of what nobody observed the figures are zero, and that zero means nothing.
    is_known = bool(coverage or listening_ms)
    return Play(
        airing_id=airing_id,
        station_id=station_id,
        started=from_ms(started_ms),
        ended=from_ms(ended_ms),
        title=title,
        artist=artist,
        program_title=program_title,
        performances=performances if is_known else None,
        listening_ms=listening_ms if is_known else None,
        coverage=coverage,
        settled=bool(settled),
    )
