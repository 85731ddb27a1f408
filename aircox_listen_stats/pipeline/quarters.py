"""The quarter-hours of a window, by stream and for the whole station: what month and year reports stand on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction

from .. import conf
from ..fields import from_ms, to_ms
from ..kernel.correlate import Listening, listening_ms
from ..kernel.metrics import QUARTER_HOUR_MS, Periods
from ..kernel.types import Why
from ..models import QuarterChange, QuarterHour, Stream
from ..reports.quarters import FIGURES
from . import causes, lease, rows
from .causes import Cause
from .heard import covered, heard, sessions_known_from_ms, together
from .lateness import late_ms

Ints = npt.NDArray[np.int64]

HOUR_MS = 3_600_000

AT_ONCE = 7 * 96
"""Quarter-hours whose sessions are read together: a week, or a little of it."""

ROWS_AT_ONCE = 50
"""Rows of one statement: SQLite took no more than 999 parameters until 3.32."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Computed:
    """The quarter-hours of one stream, or of all together, under one rule-set."""

    stream_id: int
    rule_set: str
    figures: Ints  # a row for each quarter-hour, in the columns of FIGURES; -1 is no peak
    settled: npt.NDArray[np.bool_]


def refresh(
    station_id: int,
    started_ms: int,
    ended_ms: int,
    *,
    now_ms: int,
    rule_sets: Sequence[str],
    why: Why | None = None,
) -> int:
    """How many rows were written for the quarter-hours that the window touches and that are over.

    One that nobody observed and nobody heard has no row. Those older than the kept sessions stay as they are. Settled
    ones that change get a note (QuarterChange): with ``why``, and with what made their time stale.
    """
    streams = list(Stream.objects.of(station_id))
    first = max(started_ms, _known_from_ms(now_ms)) // QUARTER_HOUR_MS
    last = min(-(-ended_ms // QUARTER_HOUR_MS), now_ms // QUARTER_HOUR_MS)
    written = 0
    for begin in range(first, last, AT_ONCE) if streams else ():
        starts = np.arange(begin, min(begin + AT_ONCE, last), dtype=np.int64) * QUARTER_HOUR_MS
        computed = list(_compute(streams, starts, rule_sets, now_ms - late_ms(streams)))
        written += _write(station_id, starts, computed, why, now_ms)
    return written


def unsettled(station_id: int, *, now_ms: int, back_ms: int) -> list[tuple[int, int]]:
    """The quarter-hours of the last ``back_ms`` that may settle now."""
    until_ms = now_ms - late_ms(Stream.objects.of(station_id)) - QUARTER_HOUR_MS
    found = QuarterHour.objects.filter(
        station_id=station_id, settled=False, started__lte=from_ms(until_ms), started__gt=from_ms(until_ms - back_ms)
    )
    starts = found.order_by("started").values_list("started", flat=True).distinct()
    return [(to_ms(one), to_ms(one) + QUARTER_HOUR_MS) for one in starts]


def _known_from_ms(now_ms: int) -> int:
    """The first quarter-hour of which no session was ever deleted."""
    return -(-sessions_known_from_ms(now_ms) // QUARTER_HOUR_MS) * QUARTER_HOUR_MS


def _compute(
    streams: Sequence[Stream], starts: Ints, rule_sets: Sequence[str], settled_before_ms: int
) -> Iterator[_Computed]:
    begin_ms, end_ms = int(starts[0]), int(starts[-1]) + QUARTER_HOUR_MS
    ends = starts + QUARTER_HOUR_MS
    alone = [(one, heard([one], begin_ms, end_ms, amounts=True)) for one in streams]
    scopes = [(one.pk, found, [one]) for one, found in alone]
    scopes.append((QuarterHour.STATION, together([found for _, found in alone]), streams))
    for stream_id, found, of in scopes:
        covered_ms = np.rint(covered(of, starts, ends) * QUARTER_HOUR_MS).astype(np.int64)
        settled = np.array([found.is_settled(end, settled_before_ms) for end in ends.tolist()])
        under: dict[bytes, Ints] = {}
        for name in rule_sets:
            mask = found.counting(conf.get().rules(name))
            if mask.tobytes() not in under:
                under[mask.tobytes()] = _figures(found.listening.only(mask), starts, ends, covered_ms)
            yield _Computed(stream_id=stream_id, rule_set=name, figures=under[mask.tobytes()], settled=settled)


def _figures(listening: Listening, starts: Ints, ends: Ints, covered_ms: Ints) -> Ints:
    """The columns of FIGURES, a row for each quarter-hour."""
    quarters = Periods(listening=listening, starts_ms=starts, ends_ms=ends)
    heard_by = quarters.audience
    columns = {
        "listening_ms": heard_by.listening_ms,
        "person_ms": listening_ms(listening.persons, starts, ends),
        "inherited": heard_by.inherited,
        "begun": heard_by.joined,
        "listeners": heard_by.listeners,
        "peak": heard_by.peak,
        "peak_at": heard_by.peak_at_ms,
        "quarter_listeners": quarters.aqh,  # the mean of one quarter-hour is its count
        "quarter_listeners_in_one_piece": quarters.aqh_in_one_piece,
        "bytes_sent": quarters.bytes_sent,
        "bytes_told_ms": quarters.bytes_share * heard_by.listening_ms,
        "delivered_ms": quarters.delivered_hours * HOUR_MS,
        "delivered_told_ms": quarters.delivered_share * heard_by.listening_ms,
        "covered_ms": covered_ms,
    }
    return np.rint(np.stack([columns[name] for name in FIGURES], axis=1)).astype(np.int64)


def _write(station_id: int, starts: Ints, computed: Sequence[_Computed], why: Why | None, now_ms: int) -> int:
    stored = _stored(station_id, starts)
    renewed = [(one, list(_renewed(stored, station_id, starts, one))) for one in computed]
    differing = [row for _, some in renewed for row in some]
    if differing:
        changes = _changes(station_id, stored, renewed, why, now_ms)
        with transaction.atomic():
            lease.ensure()
            for first in range(0, len(differing), ROWS_AT_ONCE):
                _upsert(differing[first : first + ROWS_AT_ONCE])
            QuarterChange.objects.bulk_create(changes)
    return len(differing)


def _changes(
    station_id: int,
    stored: Mapping[tuple[int, str, int], tuple[int, ...]],
    renewed: Sequence[tuple[_Computed, Sequence[tuple[Any, ...]]]],
    why: Why | None,
    now_ms: int,
) -> list[QuarterChange]:
    """A note of the settled rows that change, for each stream and rule-set."""
    found = []
    for one, some in renewed:
        starts = [row[len(_KEY) - 1] for row in some]
        known = [stored.get((one.stream_id, one.rule_set, start_ms)) for start_ms in starts]
        changed = [
            (start_ms, before[_LISTENING], row[len(_KEY) + _LISTENING])
            for start_ms, before, row in zip(starts, known, some, strict=True)
            if before is not None and before[_SETTLED]
        ]
        if changed:
            found.append((one, changed))
    if not found:
        return []
    bounds = [start_ms for _, changed in found for start_ms, _, _ in changed]
    waiting = causes.waiting(station_id, min(bounds), max(bounds) + QUARTER_HOUR_MS)
    own = [] if why is None else [Cause(why, causes.who())]
    return [_change(station_id, one, changed, waiting, own, now_ms) for one, changed in found]


def _change(
    station_id: int,
    one: _Computed,
    changed: Sequence[tuple[int, int, int]],
    waiting: Sequence[causes.Waiting],
    own: Sequence[Cause],
    now_ms: int,
) -> QuarterChange:
    started_ms, ended_ms = changed[0][0], changed[-1][0] + QUARTER_HOUR_MS
    touching = [two.cause for two in waiting if two.started_ms < ended_ms and two.ended_ms > started_ms]
    why = list(dict.fromkeys((*touching, *own))) or [Cause(Why.ANEW, causes.who())]
    return QuarterChange(
        station_id=station_id,
        stream_id=one.stream_id,
        rule_set=one.rule_set,
        started=from_ms(started_ms),
        ended=from_ms(ended_ms),
        quarters=len(changed),
        made=from_ms(now_ms),
        causes=[[cause.why.value, cause.who] for cause in why],
        before_ms=sum(before_ms for _, before_ms, _ in changed),
        after_ms=sum(after_ms for _, _, after_ms in changed),
    )


_KEY = ("station_id", "stream_id", "rule_set", "started")


def _stored(station_id: int, starts: Ints) -> Mapping[tuple[int, str, int], tuple[int, ...]]:
    """The rows as they stand, by stream, rule-set and start: figures, settled, version."""
    columns = ", ".join((*FIGURES, "settled", "version"))
    found = rows.fetch(
        f"SELECT stream_id, rule_set, started, {columns} FROM {rows.table(QuarterHour)}"
        " WHERE station_id = %s AND started BETWEEN %s AND %s",
        [station_id, int(starts[0]), int(starts[-1])],
    )
    return {(stream_id, rule_set, started): tuple(rest) for stream_id, rule_set, started, *rest in found}


def _renewed(
    stored: Mapping[tuple[int, str, int], tuple[int, ...]], station_id: int, starts: Ints, one: _Computed
) -> Iterator[tuple[Any, ...]]:
    """The rows to write: what is settled stays so, and other figures make a new version of it."""
    for started_ms, figures, settled in zip(starts.tolist(), one.figures.tolist(), one.settled.tolist(), strict=True):
        known = stored.get((one.stream_id, one.rule_set, started_ms))
        row = tuple(
            None if name == "peak_at" and value < 0 else value for name, value in zip(FIGURES, figures, strict=True)
        )
        if known is None and not any(figures[:_PEAK_AT] + figures[_PEAK_AT + 1 :]):
            continue
        *before, was_settled, version = known or (None, False, 0)
        if tuple(before) == row and (was_settled or not settled):
            continue
        if was_settled or settled:
            version += 1
        yield station_id, one.stream_id, one.rule_set, started_ms, *row, bool(was_settled or settled), version


_PEAK_AT = FIGURES.index("peak_at")
_LISTENING, _SETTLED = FIGURES.index("listening_ms"), len(FIGURES)


def _upsert(some: Sequence[tuple[Any, ...]]) -> None:
    columns = (*_KEY, *FIGURES, "settled", "version")
    marks = ", ".join(["(" + ", ".join(["%s"] * len(columns)) + ")"] * len(some))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {rows.table(QuarterHour)} ({', '.join(columns)}) VALUES {marks}"
            f" ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in columns[len(_KEY) :]),
            [value for row in some for value in row],
        )
