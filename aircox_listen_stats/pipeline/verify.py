"""What is stored, held against what would be derived from what is kept: a check that writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from django.db import transaction

from .. import conf
from ..fields import from_ms
from ..kernel import calendar
from ..kernel.types import MS
from ..models import StaleWindow, Stream
from . import ingest, players, rollup, stitching

__all__ = ["Compared", "VerifiedDay", "verify"]

LISTENERS_AT_ONCE = 1_000
"""Stitched while nothing is stored meanwhile: some milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How many were derived again, and how many of them are stored otherwise."""

    derived: int = 0
    differing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedDay:
    """A broadcast day, or what of it was asked for.

    ``player_events`` says how many events there were and in which way they
    ended. ``waiting`` is how many windows the collector has still to compute:
    until then figures may differ and nothing is wrong.
    """

    started_ms: int
    ended_ms: int
    sessions: Compared
    figures: Compared
    plays: Compared
    player_sessions: Compared
    player_events: Mapping[str, int]
    waiting: int

    @property
    def differing(self) -> int:
        """How much of it is stored otherwise."""
        parts = (self.sessions, self.figures, self.plays, self.player_sessions)
        return sum(one.differing for one in parts)


def verify(station_id: int | None, started_ms: int, ended_ms: int, *, now_ms: int) -> Iterator[VerifiedDay]:
    """The broadcast days of ``[started_ms, ended_ms)``, of one station or of all, one after the other.

    Sessions are compared as long as their sockets are kept, settled figures as
    long as the sessions are, what players told as long as that is kept. Of
    players nothing says which station they belong to.
    """
    stations = sorted(
        {*Stream.objects.counting().values_list("station_id", flat=True)} if station_id is None else {station_id}
    )
    settings = conf.get()
    days = calendar.broadcast_days(
        settings.zone, started_ms, min(ended_ms, now_ms), starts=settings.broadcast_day_start
    )
    for first_ms, last_ms in zip(days.starts_ms.tolist(), days.ends_ms.tolist(), strict=True):
        yield _day(stations, max(first_ms, started_ms), min(last_ms, ended_ms, now_ms), now_ms)


def _day(stations: list[int], started_ms: int, ended_ms: int, now_ms: int) -> VerifiedDay:
    told = players.derived(started_ms, ended_ms, now_ms=now_ms)
    names = rollup.every_rule_set()
    return VerifiedDay(
        started_ms=started_ms,
        ended_ms=ended_ms,
        sessions=_sum(_sessions(one, started_ms, ended_ms) for one in stations),
        figures=_sum(rollup.differing(one, started_ms, ended_ms, now_ms=now_ms, rule_sets=names) for one in stations),
        plays=Compared(derived=told.plays, differing=told.plays_differing),
        player_sessions=Compared(derived=told.sessions, differing=told.sessions_differing),
        player_events=told.counts,
        waiting=StaleWindow.objects.filter(
            station_id__in=stations, started__lt=from_ms(ended_ms), ended__gt=from_ms(started_ms)
        ).count(),
    )


def _sessions(station_id: int, started_ms: int, ended_ms: int) -> tuple[int, int]:
    gap_ms = conf.get().rules().gap_seconds * MS
    found = []
    for some in stitching.listeners(station_id, started_ms, ended_ms, at_once=LISTENERS_AT_ONCE):
        with transaction.atomic():
            ingest.wait_for_reports()
            found.append(stitching.differing(some, gap_ms=gap_ms))
    return sum(derived for derived, _ in found), sum(differing for _, differing in found)


def _sum(pairs: Iterator[tuple[int, int]]) -> Compared:
    found = list(pairs)
    return Compared(derived=sum(one for one, _ in found), differing=sum(other for _, other in found))
