"""Everything that is derived, derived again for a window: sessions, timeline, audiences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.db import transaction

from .. import conf
from ..fields import from_ms
from ..kernel.types import Why
from ..models import StaleWindow, Stream
from ..querysets import NO_STATION
from . import blurs, cumes, ingest, players, quarters, rollup, shares, stitching, timeline

MS = 1000
PIECE_MS = 24 * 3600 * MS
"""A day at a time, each in transactions of its own: the collector may go on beside it."""

LISTENERS_AT_ONCE = 500
ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild changed. Nothing, where nothing was wrong."""

    sessions: int = 0
    windows: int = 0
    audiences: int = 0
    plays: int = 0  # of recordings, written whether they differed or not


def rebuild(
    station_id: int | None,
    started_ms: int,
    ended_ms: int,
    *,
    now_ms: int,
    progress: Callable[[int, int], None] | None = None,
) -> Rebuilt:
    """Rebuilds ``[started_ms, ended_ms)`` of one station, or of all of them.

    Sessions are stitched anew where their sockets are still kept (imported and
    older ones stay), with all stations those of streams that are only
    compared too. The timeline keeps what it knows where aircox's rows are
    gone. Figures older than the kept sessions stay. What web players told is
    derived again where all stations are. ``progress(done, all)`` is
    called twice for each day: for its timeline, then for its figures.
    """
    known = {*Stream.objects.counting().values_list("station_id", flat=True)}
    stations = sorted(known) if station_id is None else [station_id]
    heard = stations if station_id is not None else [*stations, NO_STATION]
    sessions = sum(_restitch(one, started_ms, ended_ms) for one in heard)
    for stream_id in Stream.objects.filter(station_id__in=stations).values_list("pk", flat=True):
        blurs.of_sessions(stream_id, started_ms, min(ended_ms, now_ms), now_ms=now_ms)
    pieces = [(one, *piece) for one in stations for piece in _pieces(started_ms, min(ended_ms, now_ms))]
    steps = _Steps(2 * len(pieces), progress)
    window = StaleWindow.objects.filter(
        station_id__in=stations, started__gte=from_ms(started_ms), ended__lte=from_ms(min(ended_ms, now_ms))
    )
    waiting = list(window.filter(kind=StaleWindow.TIMELINE).values_list("pk", flat=True))
    for one, start_ms, end_ms in pieces:
        timeline.refresh(one, start_ms, end_ms, now_ms=now_ms)
        steps.done()
    waiting += window.filter(kind=StaleWindow.AUDIENCE).values_list("pk", flat=True)
    audiences = 0
    names = rollup.every_rule_set()
    for one, start_ms, end_ms in pieces:
        audiences += rollup.refresh(one, start_ms, end_ms, now_ms=now_ms, rule_sets=names, why=Why.REBUILD)
        steps.done()
    for one in stations:
        quarters.refresh(one, started_ms, min(ended_ms, now_ms), now_ms=now_ms, rule_sets=names, why=Why.REBUILD)
        shares.refresh(one, started_ms, ended_ms, now_ms=now_ms, rule_sets=names)
        cumes.refresh(one, started_ms, ended_ms, now_ms=now_ms, rule_sets=names)
    # Nothing says of which station a player is.
    plays = players.rebuild(started_ms, ended_ms, now_ms=now_ms) if station_id is None else 0
    # What waited for this is done; what became stale meanwhile has rows of its own.
    for first in range(0, len(waiting), ROWS_AT_ONCE):
        StaleWindow.objects.filter(pk__in=waiting[first : first + ROWS_AT_ONCE]).delete()
    return Rebuilt(sessions=sessions, windows=len(pieces), audiences=audiences, plays=plays)


@dataclass(slots=True)
class _Steps:
    """How far a rebuild is."""

    of_all: int
    progress: Callable[[int, int], None] | None
    taken: int = 0

    def done(self) -> None:
        self.taken += 1
        if self.progress is not None:
            self.progress(self.taken, self.of_all)


def _restitch(station_id: int, started_ms: int, ended_ms: int) -> int:
    changed = 0
    gap_ms = conf.get().rules().gap_seconds * MS
    for some in stitching.listeners(station_id, started_ms, ended_ms, at_once=LISTENERS_AT_ONCE):
        with transaction.atomic():
            ingest.wait_for_reports()
            done = stitching.restitch(some, gap_ms=gap_ms)
            ingest.mark_stale_windows(done.windows, Why.REBUILD)
        changed += done.opened + done.changed + done.removed
    return changed


def _pieces(started_ms: int, ended_ms: int) -> Iterator[tuple[int, int]]:
    while started_ms < ended_ms:
        yield started_ms, min(started_ms + PIECE_MS, ended_ms)
        started_ms += PIECE_MS
