"""The listening of broadcast days by country, app and referrer: what the tables of a month or a year stand on.

At most MOST_VALUES of a day, stream, rule-set and kind have a row, those that
were heard longest; what is left is one more. Whoever makes referrers up thus
fills no table, and the rows always add up to all that was heard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction

from .. import conf
from ..fields import from_ms, to_ms
from ..kernel import calendar
from ..kernel.shares import OTHER, PeriodLabels, Share, capped, label_periods
from ..models import DayShare, Stream
from ..reports.heard import HeardBy, Label, heard_by
from . import lease, rows
from .heard import sessions_known_from_ms
from .lateness import late_ms

__all__ = ["MOST_VALUES", "refresh", "unsettled"]

Ints = npt.NDArray[np.int64]

MOST_VALUES = 40
"""Values of one day that have a row: more countries, apps or referrers nobody reads in a table."""

ALWAYS = frozenset({DayShare.UNKNOWN, DayShare.NONE})
"""What is no value keeps its row: it must not look like one of the rest."""

AT_ONCE = 7
"""Days whose sessions are read together."""

ROWS_AT_ONCE = 50
"""Rows of one statement: SQLite took no more than 999 parameters until 3.32."""

assert OTHER == DayShare.OTHER


class _Key(NamedTuple):
    """What one set of shares is of."""

    stream_id: int
    rule_set: str
    kind: str
    started_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Set:
    """The shares of one day, which add up to all that was heard."""

    shares: frozenset[Share]
    settled: bool
    version: int = 0


_NOTHING = _Set(shares=frozenset(), settled=False)
"""Where no row stands yet."""


class _Counted(NamedTuple):
    """What each label of one stream heard of each day, under each rule-set; ``settled`` has an element a day."""

    stream_id: int
    under: Sequence[PeriodLabels]
    settled: npt.NDArray[np.bool_]


def refresh(station_id: int, started_ms: int, ended_ms: int, *, now_ms: int, rule_sets: Sequence[str]) -> int:
    """How many sets of shares were written for the broadcast days that the window touches, the running one too.

    A day that nobody heard has no row. Days of which sessions were deleted stay as they are. Twice is once.
    """
    settings = conf.get()
    streams = list(Stream.objects.of(station_id))
    days = calendar.broadcast_days(
        settings.zone, started_ms, min(ended_ms, now_ms + 1), starts=settings.broadcast_day_start
    )
    known = days.starts_ms >= sessions_known_from_ms(now_ms)
    starts, ends = days.starts_ms[known], days.ends_ms[known]
    written = 0
    for first in range(0, len(starts), AT_ONCE) if streams else ():
        some = slice(first, first + AT_ONCE)
        found = dict(_computed(streams, starts[some], ends[some], rule_sets, now_ms - late_ms(streams)))
        written += _write(station_id, starts[some], rule_sets, found)
    return written


def unsettled(station_id: int, *, now_ms: int, back_ms: int) -> list[tuple[int, int]]:
    """The broadcast days of the last ``back_ms`` that may settle now."""
    until_ms = now_ms - late_ms(Stream.objects.of(station_id)) - calendar.HOUR_MS * 23  # the shortest day
    found = DayShare.objects.filter(
        station_id=station_id, settled=False, started__lte=from_ms(until_ms), started__gt=from_ms(until_ms - back_ms)
    )
    starts = found.order_by("started").values_list("started", flat=True).distinct()
    return [(to_ms(one), to_ms(one) + 1) for one in starts]


# Computing --------------------------------------------------------------------------


def _computed(
    streams: Sequence[Stream], starts: Ints, ends: Ints, rule_sets: Sequence[str], settled_before_ms: int
) -> Iterator[tuple[_Key, _Set]]:
    """The sets of each stream and of all together that hold anything."""
    alone = [(one.pk, heard_by([one], int(starts[0]), int(ends[-1]))) for one in streams]
    places = {label: place for place, label in enumerate(dict.fromkeys(one for _, by in alone for one in by.labels))}
    counted = []
    for stream_id, by in alone:
        settled = np.array([by.heard.is_settled(end, settled_before_ms) for end in ends.tolist()])
        counted.append(_Counted(stream_id, _under_each(by, places, starts, ends, rule_sets), settled))
    counted.append(
        _Counted(
            DayShare.STATION,
            [reduce(PeriodLabels.together, some) for some in zip(*(one.under for one in counted), strict=True)],
            np.logical_and.reduce([one.settled for one in counted]),
        )
    )
    for kind in Label._fields:
        values = sorted({getattr(label, kind) for label in places})
        numbers = {value: number for number, value in enumerate(values)}
        value = np.array([numbers[getattr(label, kind)] for label in places], dtype=np.int64)
        for one in counted:
            for name, found in zip(rule_sets, one.under, strict=True):
                by_value = found.by(value, len(values))
                for day, (started_ms, settled) in enumerate(zip(starts.tolist(), one.settled.tolist(), strict=True)):
                    shares = frozenset(capped(_shares(by_value, day, values), MOST_VALUES, always=ALWAYS))
                    if shares:
                        yield _Key(one.stream_id, name, kind, started_ms), _Set(shares=shares, settled=settled)


def _under_each(
    by: HeardBy, places: Mapping[Label, int], starts: Ints, ends: Ints, rule_sets: Sequence[str]
) -> list[PeriodLabels]:
    """What the labels of all streams heard of one stream, under each rule-set; what counts the same is counted once."""
    label = np.array([places[one] for one in by.labels], dtype=np.int64)[by.label]
    masks = [by.heard.counting(conf.get().rules(name)) for name in rule_sets]
    distinct = {mask.tobytes(): mask for mask in masks}
    found = label_periods(by.heard.listening, label, len(places), starts, ends, list(distinct.values()))
    under = dict(zip(distinct, found, strict=True))
    return [under[mask.tobytes()] for mask in masks]


def _shares(found: PeriodLabels, day: int, values: Sequence[str]) -> list[Share]:
    heard = np.flatnonzero(found.listening_ms[day])
    columns = (found.listening_ms[day, heard], found.inherited[day, heard], found.begun[day, heard])
    return [
        Share(value=values[number], listening_ms=listening_ms, inherited=inherited, begun=begun)
        for number, listening_ms, inherited, begun in zip(
            heard.tolist(), *(column.tolist() for column in columns), strict=True
        )
    ]


# Writing ----------------------------------------------------------------------------

_KEY = ("stream_id", "rule_set", "kind", "started")
_SHARE = ("value", "listening_ms", "inherited", "begun")
_COLUMNS = ("station_id", *_KEY, *_SHARE, "settled", "version")


def _write(station_id: int, starts: Ints, rule_sets: Sequence[str], found: Mapping[_Key, _Set]) -> int:
    stored = _stored(station_id, starts, rule_sets)
    differing = {
        key: renewed
        for key in {**stored, **found}
        if (renewed := _renewed(stored.get(key, _NOTHING), found.get(key, _NOTHING))) is not None
    }
    fresh = [
        (station_id, *key, one.value, one.listening_ms, one.inherited, one.begun, some.settled, some.version)
        for key, some in differing.items()
        for one in sorted(some.shares, key=lambda one: one.value)
    ]
    if differing:
        with transaction.atomic():
            lease.ensure()
            rows.change_each(
                f"DELETE FROM {rows.table(DayShare)} WHERE station_id = %s"
                f" AND {' AND '.join(f'{name} = %s' for name in _KEY)}",
                [(station_id, *key) for key in differing if key in stored],
            )
            for first in range(0, len(fresh), ROWS_AT_ONCE):
                _insert(fresh[first : first + ROWS_AT_ONCE])
    return len(differing)


def _stored(station_id: int, starts: Ints, rule_sets: Sequence[str]) -> dict[_Key, _Set]:
    """The sets of these days and rule-sets as they stand."""
    marks = ", ".join(["%s"] * len(rule_sets))
    shares: dict[tuple[_Key, bool, int], list[Share]] = {}
    for *key, value, listening_ms, inherited, begun, settled, version in rows.fetch(
        f"SELECT {', '.join(_COLUMNS[1:])} FROM {rows.table(DayShare)}"
        f" WHERE station_id = %s AND started BETWEEN %s AND %s AND rule_set IN ({marks})",
        [station_id, int(starts[0]), int(starts[-1]), *rule_sets],
    ):
        shares.setdefault((_Key(*key), bool(settled), version), []).append(
            Share(value=value, listening_ms=listening_ms, inherited=inherited, begun=begun)
        )
    return {
        key: _Set(shares=frozenset(some), settled=settled, version=version)
        for (key, settled, version), some in shares.items()
    }


def _renewed(old: _Set, new: _Set) -> _Set | None:
    """What to write over ``old``; None where nothing differs. What is settled stays so, in a version of its own."""
    if old.shares == new.shares and (old.settled or not new.settled):
        return None
    settled = old.settled or new.settled
    shares = new.shares
    if old.settled and not shares:  # nobody: that is a version too
        shares = frozenset({Share(value=DayShare.UNKNOWN, listening_ms=0, inherited=0, begun=0)})
        if old.shares == shares:
            return None
    return _Set(shares=shares, settled=settled, version=old.version + settled)


def _insert(some: Sequence[tuple[Any, ...]]) -> None:
    marks = ", ".join(["(" + ", ".join(["%s"] * len(_COLUMNS)) + ")"] * len(some))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {rows.table(DayShare)} ({', '.join(_COLUMNS)}) VALUES {marks}"
            f" ON CONFLICT (station_id, {', '.join(_KEY)}, value) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[len(_KEY) + 2 :]),
            [value for row in some for value in row],
        )
