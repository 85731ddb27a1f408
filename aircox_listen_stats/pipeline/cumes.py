"""Distinct listeners of broadcast days, weeks and months, without a stored address and without a lasting key.

Each day leaves a sketch of its listeners' keys under the week's and the month's
secret. When nothing late can come any more the sketches are merged into a count
with its bounds; then keys, sketches and secret are destroyed, all in one
transaction: killed at any moment, it ends the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from django.db import transaction

from .. import conf
from ..fields import from_ms, to_ms
from ..kernel import calendar, sketches
from ..kernel.types import Layer
from ..models import Airing, Cume, PeriodKey, PeriodSecret, Sketch, Stream
from . import lease, rows, secrets
from .heard import Heard, heard, sessions_known_from_ms, together
from .lateness import late_ms

__all__ = ["PROGRAM", "STATION", "STREAM", "close_periods", "refresh", "unsettled"]

Ints = npt.NDArray[np.int64]

STATION, STREAM, PROGRAM = "station", "stream", "program"

ROWS_AT_ONCE = 80
"""Rows of one statement: SQLite took no more than 999 parameters until 3.32."""


class _Scope(NamedTuple):
    """Whose listeners are counted: the sessions that met one of the spans."""

    scope: str
    scope_id: int
    heard: Heard
    spans: Ints  # a row [start, end) each


class _Keys(NamedTuple):
    """The listeners of a week or month whose key under its secret is known, ascending, and that key."""

    bases: Ints
    keys: Ints


def refresh(station_id: int, started_ms: int, ended_ms: int, *, now_ms: int, rule_sets: Sequence[str]) -> None:
    """Counts the broadcast days that the window touches anew; their weeks and months too, where these are not settled.

    Days of which sessions were deleted stay as they are.
    """
    streams = list(Stream.objects.of(station_id))
    settings = conf.get()
    days = calendar.broadcast_days(
        settings.zone, started_ms, min(ended_ms, now_ms + 1), starts=settings.broadcast_day_start
    )
    if not streams:
        return
    known_from_ms = sessions_known_from_ms(now_ms)  # of a day that begins here or later, all are there
    settled_before_ms = now_ms - late_ms(streams)
    for day_ms, end_ms in zip(days.starts_ms.tolist(), days.ends_ms.tolist(), strict=True):
        if day_ms >= known_from_ms:
            _count_day(station_id, streams, day_ms, end_ms, rule_sets, settled_before_ms)


def unsettled(station_id: int, *, now_ms: int, back_ms: int) -> list[tuple[int, int]]:
    """The broadcast days of the last ``back_ms`` that may settle now."""
    until_ms = now_ms - late_ms(Stream.objects.of(station_id)) - calendar.HOUR_MS * 23  # the shortest day
    found = Cume.objects.filter(
        station_id=station_id,
        kind="day",
        settled=False,
        started__lte=from_ms(until_ms),
        started__gt=from_ms(until_ms - back_ms),
    )
    starts = found.order_by("started").values_list("started", flat=True).distinct()
    return [(to_ms(one), to_ms(one) + 1) for one in starts]


def close_periods(*, now_ms: int, rule_sets: Sequence[str]) -> int:
    """How many weeks and months were settled and forgotten: those of which nothing late can come any more."""
    closed = 0
    streams = list(Stream.objects.counting())
    until_ms = now_ms - late_ms(streams)
    stations = sorted({one.station_id for one in streams})
    for row in PeriodSecret.objects.order_by("started"):
        started_ms = to_ms(row.started)
        ended_ms = _end_of(row.kind, started_ms)
        if ended_ms > until_ms:
            continue
        for station_id in stations:  # once more its last day, whose sessions went on
            refresh(station_id, ended_ms - 1, ended_ms, now_ms=now_ms, rule_sets=rule_sets)
        with transaction.atomic():
            lease.ensure()
            _settle(row.kind, started_ms)
            Sketch.objects.filter(kind=row.kind, started=row.started).delete()
            PeriodKey.objects.filter(kind=row.kind, started=row.started).delete()
            secrets.destroy_of_period(row.kind, started_ms)
        closed += 1
    return closed


def _settle(kind: str, started_ms: int) -> None:
    """Merges the sketches of the days. What is settled already stays: its listeners are forgotten."""
    of_period = Sketch.objects.filter(kind=kind, started=from_ms(started_ms))
    scopes = of_period.values_list("station_id", "scope", "scope_id", "rule_set").order_by().distinct()
    made = []
    for station_id, scope, scope_id, rule_set in scopes:
        days = list(of_period.filter(station_id=station_id, scope=scope, scope_id=scope_id, rule_set=rule_set))
        found = sketches.reach((bytes(one.known) for one in days), (bytes(one.strangers) for one in days))
        made.append(
            Cume(
                station_id=station_id,
                scope=scope,
                scope_id=scope_id,
                kind=kind,
                started=from_ms(started_ms),
                rule_set=rule_set,
                count=found.count,
                lower=found.lower,
                upper=found.upper,
                settled=True,
            )
        )
    Cume.objects.bulk_create(made, ignore_conflicts=True, batch_size=ROWS_AT_ONCE)


def _end_of(kind: str, started_ms: int) -> int:
    settings = conf.get()
    slots_of = {"week": calendar.weeks, "month": calendar.months}[kind]
    slots = slots_of(settings.zone, started_ms, started_ms + 1, starts=settings.broadcast_day_start)
    return int(slots.ends_ms[0])


def _count_day(
    station_id: int, streams: Sequence[Stream], day_ms: int, end_ms: int, rule_sets: Sequence[str], until_ms: int
) -> None:
    scopes = list(_scopes(station_id, streams, day_ms, end_ms))
    everything = scopes[0].heard
    periods = {
        (kind, started_ms): _keys_of(kind, started_ms, everything, day_ms) for kind, started_ms in _open_periods(day_ms)
    }
    counted, sketched = [], []
    for one in scopes:
        met = _met(one)
        made: dict[bytes, dict[tuple[str, int], tuple[bytes, bytes]]] = {}  # most rule-sets count nearly the same
        for name in rule_sets:
            mask = met & one.heard.counting(conf.get().rules(name))
            listener = np.unique(one.heard.listening.listener[mask])
            if mask.tobytes() not in made:
                made[mask.tobytes()] = {period: _sketches(listener, keys) for period, keys in periods.items()}
            key = {"station_id": station_id, "scope": one.scope, "scope_id": one.scope_id, "rule_set": name}
            count = len(listener)
            counted.append(
                Cume(
                    **key,
                    kind="day",
                    started=from_ms(day_ms),
                    count=count,
                    lower=count,
                    upper=count,
                    settled=end_ms <= until_ms,
                )
            )
            for (kind, started_ms), (known, strangers) in made[mask.tobytes()].items():
                sketched.append(
                    Sketch(
                        **key,
                        kind=kind,
                        started=from_ms(started_ms),
                        day=from_ms(day_ms),
                        known=known,
                        strangers=strangers,
                    )
                )
    _write(station_id, day_ms, counted, sketched)


def _sketches(listener: Ints, keys: _Keys) -> tuple[bytes, bytes]:
    known, strangers = sketches.period_keys(listener, keys.bases, keys.keys)
    return sketches.sketch(known), sketches.sketch(strangers)


def _write(station_id: int, day_ms: int, counted: Sequence[Cume], sketched: Sequence[Sketch]) -> None:
    day = from_ms(day_ms)
    with transaction.atomic():
        lease.ensure()
        Cume.objects.filter(station_id=station_id, kind="day", started=day).delete()
        Cume.objects.bulk_create(counted, batch_size=ROWS_AT_ONCE)
        for kind, started in {(one.kind, one.started) for one in sketched}:
            Sketch.objects.filter(station_id=station_id, kind=kind, started=started, day=day).delete()
        Sketch.objects.bulk_create(sketched, batch_size=ROWS_AT_ONCE)


def _scopes(station_id: int, streams: Sequence[Stream], day_ms: int, end_ms: int) -> Iterator[_Scope]:
    """The station first, then its streams, then the programs that were on air."""
    whole_day = np.array([[day_ms, end_ms]], dtype=np.int64)
    alone = [heard([one], day_ms, end_ms) for one in streams]
    everything = together(alone)
    yield _Scope(STATION, station_id, everything, whole_day)
    for one, found in zip(streams, alone, strict=True):
        yield _Scope(STREAM, one.pk, found, whole_day)
    for program_id, spans in _on_air(station_id, day_ms, end_ms).items():
        yield _Scope(PROGRAM, program_id, everything, np.array(spans, dtype=np.int64))


def _on_air(station_id: int, day_ms: int, end_ms: int) -> Mapping[int, list[tuple[int, int]]]:
    """When each program was on air in the day."""
    found: dict[int, list[tuple[int, int]]] = {}
    airings = Airing.objects.on_layer(Layer.DIFFUSION).touching(from_ms(day_ms), from_ms(end_ms))
    airings = airings.filter(station_id=station_id, program_id__isnull=False)
    for program_id, started, ended in airings.values_list("program_id", "started", "ended"):
        found.setdefault(program_id, []).append((max(to_ms(started), day_ms), min(to_ms(ended), end_ms)))
    return found


def _met(one: _Scope) -> npt.NDArray[np.bool_]:
    """Which sessions have a part in one of the spans."""
    listening = one.heard.listening
    met = np.zeros(len(listening), dtype=np.bool_)
    for started_ms, ended_ms in one.spans.tolist():
        inside = (listening.part_started_ms < ended_ms) & (listening.part_ended_ms > started_ms)
        met[listening.part_session[inside]] = True
    return met


def _open_periods(day_ms: int) -> list[tuple[str, int]]:
    """The week and the month of the day, where their secrets still live."""
    settings = conf.get()
    mine = {
        kind: calendar.period_start(day_ms, kind, settings.zone, settings.broadcast_day_start)
        for kind in secrets.PERIODS
    }
    alive: Iterable[tuple] = PeriodSecret.objects.filter(kind__in=mine).values_list("kind", "started")
    return sorted((kind, to_ms(started)) for kind, started in alive if mine[kind] == to_ms(started))


def _keys_of(kind: str, started_ms: int, everything: Heard, day_ms: int) -> _Keys:
    """Keys of whoever was seen since the period of the listener keys in which the day's first session began."""
    settings = conf.get()
    first_ms = int(min(everything.listening.started_ms.min(initial=day_ms), day_ms))
    since_ms = calendar.period_start(first_ms, settings.key_rotation, settings.zone, settings.broadcast_day_start)
    found = np.array(
        rows.fetch(
            f"SELECT listener, key FROM {rows.table(PeriodKey)}"
            " WHERE kind = %s AND started = %s AND day >= %s ORDER BY listener",
            [kind, started_ms, since_ms],
        ),
        dtype=np.int64,
    ).reshape(-1, 2)
    return _Keys(found[:, 0], found[:, 1])
