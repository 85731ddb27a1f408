"""Our own durable copy of what was on air: built anew for a window, and only differences written.

aircox's rows come and go (archived after 60 days, deleted with their
schedule): what was known stays, marked as without evidence. Titles are
snapshots. Running twice equals running once, and windows that overlap agree,
since each is built with a margin around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from django.db import transaction

from ..fields import from_ms, to_ms
from ..kernel import timeline as kernel
from ..kernel.airlog import OnAirSpan, WatchSpan
from ..kernel.types import Airing as AiringSpan
from ..kernel.types import Basis, Layer, Why
from ..models import Airing, MonitorWatch, OnAirChange, StaleWindow
from ..onair import aircox
from . import lease
from .ingest import mark_stale, run_together

__all__ = ["TimelineChange", "refresh"]

MARGIN_MS = 6 * 3_600_000
"""Read around the window: longer than an item of unknown length, and than a diffusion's overrun."""
LONGEST_MS = 24 * 3_600_000
"""No airing is looked for that began earlier than this before the time it should touch."""
KEYS_AT_ONCE = 500
TEXT_LENGTH = 255
"""Of the title fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineChange:
    """What a refresh wrote. `windows` are the times whose audience must be computed again."""

    created: int = 0
    updated: int = 0
    removed: int = 0
    windows: tuple[tuple[int, int], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.created or self.updated or self.removed)


@dataclass(slots=True, kw_only=True)
class _Stored:
    """A row of ours as the kernel sees it."""

    id: int
    airing: AiringSpan
    evidence_gone: bool


@dataclass(slots=True)
class _Plan:
    """What will be written."""

    create: list[tuple[AiringSpan, bool]] = field(default_factory=list)
    update: list[tuple[_Stored, AiringSpan, bool]] = field(default_factory=list)
    remove: list[_Stored] = field(default_factory=list)


def refresh(station_id: int, started_ms: int, ended_ms: int, *, now_ms: int) -> TimelineChange:
    """What changed in the airings that touch `[started_ms, ended_ms)`, which are now as all evidence says.

    Reads and builds first, and opens its one transaction only when there is
    something to write: on SQLite the playout loop waits for that.
    """
    stored = _stored(station_id, started_ms, ended_ms)
    touching = [one for one in stored if _touches(one.airing, started_ms, ended_ms)]
    first_ms = min([started_ms, *(one.airing.started_ms for one in touching)])
    low_ms, high_ms = first_ms - MARGIN_MS, ended_ms + MARGIN_MS
    spans = _spans(station_id, low_ms, high_ms)
    sound_ids = {span.sound_id for span in spans if span.sound_id is not None}
    records = aircox.log().records(station_id, low_ms, high_ms, sound_ids=sound_ids)
    planned = {row.id for row in records.diffusions}
    absent = [one for one in stored if one.airing.layer is Layer.DIFFUSION and one.airing.diffusion_id not in planned]
    elsewhere = aircox.log().diffusions({one.airing.diffusion_id for one in absent if one.airing.diffusion_id})
    moved = {row.id: row for row in elsewhere}
    built = kernel.build(
        records,
        spans,
        _watches(station_id, low_ms, high_ms),
        kept=[one.airing for one in stored if one not in absent or one.airing.diffusion_id not in moved],
        now_ms=now_ms,
    )
    plan = _plan(station_id, built, stored, started_ms, ended_ms, skip=moved.keys())
    change = _write(station_id, plan, now_ms)
    for one in touching:
        row = moved.get(one.airing.diffusion_id or 0) if one.airing.layer is Layer.DIFFUSION else None
        if row is not None:
            change = _sum(change, _follow(station_id, one, row.start_ms, row.end_ms, now_ms))
    return change


def _follow(station_id: int, one: _Stored, start_ms: int, end_ms: int, now_ms: int) -> TimelineChange:
    """What changed when a diffusion that was moved went to its new place; it goes where it is not on air there."""
    change = refresh(station_id, start_ms, end_ms, now_ms=now_ms)
    if Airing.objects.filter(pk=one.id, started=from_ms(one.airing.started_ms)).exists():
        change = _sum(change, _write(station_id, _Plan(remove=[one]), now_ms))
    return change


def _sum(one: TimelineChange, other: TimelineChange) -> TimelineChange:
    return TimelineChange(
        created=one.created + other.created,
        updated=one.updated + other.updated,
        removed=one.removed + other.removed,
        windows=one.windows + other.windows,
    )


# -- reading


def _touches(airing: AiringSpan, started_ms: int, ended_ms: int) -> bool:
    return airing.started_ms < ended_ms and airing.ended_ms > started_ms


def _stored(station_id: int, started_ms: int, ended_ms: int) -> list[_Stored]:
    """Diffusions and sounds of the window and its margin, tracks of the window alone."""
    wide = (started_ms - MARGIN_MS, ended_ms + MARGIN_MS)
    found = []
    for layer, (low_ms, high_ms) in (
        (Layer.DIFFUSION, wide),
        (Layer.SOUND, wide),
        (Layer.TRACK, (started_ms, ended_ms)),
    ):
        rows = Airing.objects.filter(station_id=station_id).on_layer(layer).touching(low_ms, high_ms)
        found += _read(rows.filter(started__gte=low_ms - LONGEST_MS))
    return found


def _read(rows: Iterable[Airing]) -> list[_Stored]:
    return [_Stored(id=row.pk, airing=_airing(row), evidence_gone=row.evidence_gone) for row in rows]


def _airing(row: Airing) -> AiringSpan:
    return AiringSpan(
        station_id=row.station_id,
        layer=Layer(row.layer),
        key=row.key,
        started_ms=to_ms(row.started),
        ended_ms=to_ms(row.ended),
        start_basis=Basis(row.start_basis),
        end_basis=Basis(row.end_basis),
        scheduled_start_ms=None if row.scheduled_start is None else to_ms(row.scheduled_start),
        scheduled_end_ms=None if row.scheduled_end is None else to_ms(row.scheduled_end),
        notes=tuple(row.notes),
        **{name: getattr(row, name) for name in _ALIKE},
    )


_OTHERWISE = {"started_ms", "ended_ms", "scheduled_start_ms", "scheduled_end_ms", "notes", "start_basis", "end_basis"}
_NAMES = {"station_id", "layer", "key"}
_ALIKE = tuple(one.name for one in fields(AiringSpan) if one.name not in _OTHERWISE | _NAMES)
"""What the kernel's airing and the row spell alike."""


def _values(airing: AiringSpan, evidence_gone: bool) -> dict[str, Any]:
    """The row's values beside its name."""
    return {
        **{name: getattr(airing, name) for name in _ALIKE},
        "title": airing.title[:TEXT_LENGTH],
        "artist": airing.artist[:TEXT_LENGTH],
        "program_title": airing.program_title[:TEXT_LENGTH],
        "started": from_ms(airing.started_ms),
        "ended": from_ms(airing.ended_ms),
        "start_basis": airing.start_basis.value,
        "end_basis": airing.end_basis.value,
        "scheduled_start": None if airing.scheduled_start_ms is None else from_ms(airing.scheduled_start_ms),
        "scheduled_end": None if airing.scheduled_end_ms is None else from_ms(airing.scheduled_end_ms),
        "notes": list(airing.notes),
        "evidence_gone": evidence_gone,
    }


def _spans(station_id: int, low_ms: int, high_ms: int) -> list[OnAirSpan]:
    rows = OnAirChange.objects.filter(
        station_id=station_id, started__gte=low_ms - LONGEST_MS, started__lt=high_ms, seen__gte=low_ms
    )
    return [
        OnAirSpan(
            source=row.source,
            item=row.item,
            started_ms=to_ms(row.started),
            seen_ms=to_ms(row.seen),
            ended=row.ended,
            air_time_ms=None if row.air_time is None else to_ms(row.air_time),
            remaining_ms=row.remaining_ms,
            sound_id=row.sound_id,
            title=row.title,
            artist=row.artist,
            is_live=row.is_live,
        )
        for row in rows.order_by("started", "pk")
    ]


def _watches(station_id: int, low_ms: int, high_ms: int) -> list[WatchSpan]:
    rows = MonitorWatch.objects.filter(station_id=station_id, seen__gte=low_ms, started__lt=high_ms)
    return [WatchSpan(started_ms=to_ms(row.started), seen_ms=to_ms(row.seen)) for row in rows.order_by("started", "pk")]


# -- comparing


def _plan(
    station_id: int,
    built: kernel.Timeline,
    stored: Sequence[_Stored],
    started_ms: int,
    ended_ms: int,
    *,
    skip: Iterable[int],
) -> _Plan:
    """The differences: only of what touches the window, as it is stored or as it was built."""
    by_key = {(one.airing.layer, one.airing.key): one for one in stored}
    new = {(airing.layer, airing.key): airing for airing in built.airings}
    here = {name for name, airing in new.items() if _touches(airing, started_ms, ended_ms)}
    by_key |= _far(station_id, here - by_key.keys())
    plan = _Plan()
    was_here = {name for name, one in by_key.items() if _touches(one.airing, started_ms, ended_ms)}
    for name in sorted(here | was_here):
        airing, one = new.get(name), by_key.get(name)
        if airing is not None:
            gone = airing.key in built.gone
            if one is None:
                plan.create.append((airing, gone))
            elif _values(one.airing, one.evidence_gone) != _values(airing, gone):
                plan.update.append((one, airing, gone))
        elif one is not None and not (name[0] is Layer.DIFFUSION and one.airing.diffusion_id in skip):
            plan.remove.append(one)
    return plan


def _far(station_id: int, names: Iterable[tuple[Layer, str]]) -> dict[tuple[Layer, str], _Stored]:
    """Rows of these names that are stored at quite another time."""
    keys = sorted(key for _, key in names)
    found: dict[tuple[Layer, str], _Stored] = {}
    for first in range(0, len(keys), KEYS_AT_ONCE):
        rows = Airing.objects.filter(station_id=station_id, key__in=keys[first : first + KEYS_AT_ONCE])
        found |= {(one.airing.layer, one.airing.key): one for one in _read(rows)}
    return found


# -- writing


def _write(station_id: int, plan: _Plan, now_ms: int) -> TimelineChange:
    if not (plan.create or plan.update or plan.remove):
        return TimelineChange()
    windows = run_together(_stale(plan, now_ms))
    with transaction.atomic():
        lease.ensure()
        if plan.remove:
            Airing.objects.filter(pk__in=[one.id for one in plan.remove]).delete()
        for one, airing, gone in plan.update:
            Airing.objects.filter(pk=one.id).update(**_values(airing, gone))
        Airing.objects.bulk_create(
            Airing(station_id=station_id, layer=airing.layer.value, key=airing.key, **_values(airing, gone))
            for airing, gone in plan.create
        )
        mark_stale(StaleWindow.AUDIENCE, {station_id: windows}, Why.TIMELINE)
    return TimelineChange(
        created=len(plan.create), updated=len(plan.update), removed=len(plan.remove), windows=tuple(windows)
    )


def _stale(plan: _Plan, now_ms: int) -> Iterable[tuple[int, int]]:
    """The times whose audience changes. What has not begun has none; what runs on is followed by the roll-up."""
    changed = [airing for airing, _ in plan.create] + [one.airing for one in plan.remove]
    for one, airing, _ in plan.update:
        old = one.airing
        runs_on = old.is_running and airing.is_running and old.started_ms == airing.started_ms
        bounds = (old.started_ms, old.ended_ms, old.is_running)
        if not runs_on and bounds != (airing.started_ms, airing.ended_ms, airing.is_running):
            changed += [old, airing]
    return ((one.started_ms, one.ended_ms) for one in changed if one.started_ms <= now_ms)
