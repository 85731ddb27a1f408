"""Windows that wait to be computed again, taken in pieces so that the live count never waits for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from django.db import transaction

from ..fields import from_ms, to_ms
from ..models import StaleWindow
from . import lease
from .ingest import run_together

PIECE_MS = 24 * 3600 * 1000
"""A longer window is taken a day at a time, its newest day first."""

TAKEN_AT_ONCE = 500
"""Rows of one station that are run together and computed at once."""


PUT_OFF_MS = 5 * 60 * 1000
"""How long windows that could not be computed let others go first."""


@dataclass(slots=True)
class PutOff:
    """The rows that could not be computed lately, so that one bad window holds up no other."""

    until_ms: dict[int, int] = field(default_factory=dict)

    def add(self, row_ids: Iterable[int], now_ms: int) -> None:
        self.until_ms.update(dict.fromkeys(row_ids, now_ms + PUT_OFF_MS))

    def current(self, now_ms: int) -> set[int]:
        """The rows to leave alone; also after the clock went back."""
        self.until_ms = {row: until for row, until in self.until_ms.items() if now_ms < until <= now_ms + PUT_OFF_MS}
        return set(self.until_ms)


@dataclass(slots=True)
class _Taken:
    ids: list[int] = field(default_factory=list)
    shortened: dict[int, int] = field(default_factory=dict)  # row id: its new end
    spans: list[tuple[int, int]] = field(default_factory=list)


def work_off(kind: str, station_id: int, compute: Callable[[int, int], object], *, put_off: PutOff, now_ms: int) -> int:
    """How many windows were computed: the newest pieces of what waits for the station.

    The rows go once their windows are computed, so that no write lock is held
    meanwhile: aircox's Monitor would wait for it. Who is killed in between
    computes again, which changes nothing; what became stale meanwhile has rows
    of its own and is taken next time. What ``compute`` raises is raised, and
    its windows are put off.
    """
    taken = _take(kind, station_id, put_off.current(now_ms))
    spans = run_together(taken.spans)
    if not spans:
        return 0
    try:
        for started_ms, ended_ms in spans:
            compute(started_ms, ended_ms)
    except lease.LeaseLost:
        raise
    except Exception:
        put_off.add([*taken.ids, *taken.shortened], now_ms)
        raise
    with transaction.atomic():
        lease.ensure()
        StaleWindow.objects.filter(pk__in=taken.ids).delete()
        for row_id, ended_ms in taken.shortened.items():
            StaleWindow.objects.filter(pk=row_id).update(ended=from_ms(ended_ms))
    return len(spans)


def stations(kind: str) -> list[int]:
    """The stations for which something waits."""
    return sorted(set(StaleWindow.objects.filter(kind=kind).values_list("station_id", flat=True)))


def waiting() -> dict[str, int]:
    """How many rows wait, by kind."""
    counts: dict[str, int] = defaultdict(int)
    for kind in StaleWindow.objects.values_list("kind", flat=True):
        counts[kind] += 1
    return dict(counts)


def _take(kind: str, station_id: int, left_alone: set[int]) -> _Taken:
    taken = _Taken()
    reaches_ms = None
    found = StaleWindow.objects.filter(kind=kind, station_id=station_id).exclude(pk__in=left_alone)
    for row in found.order_by("-ended", "pk")[:TAKEN_AT_ONCE]:
        start_ms, end_ms = to_ms(row.started), to_ms(row.ended)
        if reaches_ms is None:
            reaches_ms = end_ms - PIECE_MS
        if end_ms <= reaches_ms:
            break
        if start_ms < reaches_ms:
            taken.shortened[row.pk] = reaches_ms
            start_ms = reaches_ms
        else:
            taken.ids.append(row.pk)
        taken.spans.append((start_ms, end_ms))
    return taken
