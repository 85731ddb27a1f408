"""The stored quarter-hours of a stretch of time as columns: some milliseconds for a year of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection

from ..kernel.arrays import Bools, Ints
from ..kernel.metrics import QUARTER_HOUR_MS
from ..models import QuarterHour
from . import rows

__all__ = ["COLUMNS", "FIGURES", "LINE_COLUMNS", "Quarters", "columns_of", "read", "read_streams", "whole_quarters"]

FIGURES = (
    "listening_ms",
    "person_ms",
    "inherited",
    "begun",
    "listeners",
    "peak",
    "peak_at",
    "quarter_listeners",
    "quarter_listeners_in_one_piece",
    "bytes_sent",
    "bytes_told_ms",
    "delivered_ms",
    "delivered_told_ms",
    "covered_ms",
)
"""What a quarter-hour has besides its name, whether it is settled and its version."""

COLUMNS = ("started", *(name for name in FIGURES if name != "listeners"), "settled")
"""What figures of longer stretches are made of: listeners are never added."""

LINE_COLUMNS = ("started", "listening_ms", "begun", "peak", "covered_ms", "settled")
"""What a line of a table or a bar needs: a third of the columns take a third of the time."""

_NUMBERS = {"peak_at": "COALESCE(peak_at, -1)", "settled": "CASE WHEN settled THEN 1 ELSE 0 END"}
"""What is no number in both databases, as one."""

READ_AT_ONCE = 4000
"""Rows that stand in memory as Python's own numbers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quarters:
    """Quarter-hours of one stream, or of a station, under one rule-set, in order; those without a row are missing."""

    values: Ints  # a row for each quarter-hour
    columns: Sequence[str] = COLUMNS

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, column: str) -> Ints:
        return self.values[:, self.columns.index(column)]

    def only(self, mask: Bools) -> Quarters:
        return Quarters(values=self.values[mask], columns=self.columns)

    def within(self, starts_ms: Ints, ends_ms: Ints) -> Bools:
        """Which lie as a whole in one of the stretches, which are disjoint and ascend."""
        if not len(starts_ms):
            return np.zeros(len(self), dtype=np.bool_)
        started = self["started"]
        place = np.searchsorted(starts_ms, started, side="right") - 1
        inside = started + QUARTER_HOUR_MS <= ends_ms[np.maximum(place, 0)]
        return inside & (place >= 0)


def read(
    station_id: int,
    stream_id: int,
    rule_set: str,
    started_ms: int,
    ended_ms: int,
    *,
    columns: Sequence[str] = COLUMNS,
) -> Quarters:
    """Those that begin in ``[started_ms, ended_ms)``; ``stream_id`` may be QuarterHour.STATION."""
    sql = (
        f"SELECT {_named(columns)} FROM {rows.table(QuarterHour)}"
        " WHERE station_id = %s AND stream_id = %s AND rule_set = %s AND started >= %s AND started < %s"
        " ORDER BY started"
    )
    found = columns_of(sql, [station_id, stream_id, rule_set, started_ms, ended_ms], len(columns))
    return Quarters(values=found, columns=columns)


def read_streams(station_id: int, rule_set: str, started_ms: int, ended_ms: int) -> dict[int, Quarters]:
    """LINE_COLUMNS of each stream of a station, by its number."""
    sql = (
        f"SELECT {_named(LINE_COLUMNS)}, stream_id FROM {rows.table(QuarterHour)}"
        " WHERE station_id = %s AND stream_id <> %s AND rule_set = %s AND started >= %s AND started < %s"
        " ORDER BY stream_id, started"
    )
    parameters = [station_id, QuarterHour.STATION, rule_set, started_ms, ended_ms]
    found = columns_of(sql, parameters, len(LINE_COLUMNS) + 1)
    streams = found[:, -1]
    return {
        one: Quarters(values=found[streams == one, :-1], columns=LINE_COLUMNS) for one in np.unique(streams).tolist()
    }


def _named(columns: Sequence[str]) -> str:
    return ", ".join(_NUMBERS.get(name, name) for name in columns)


def columns_of(sql: str, parameters: Sequence[Any], width: int) -> Ints:
    """The rows of a query that gives whole numbers alone."""
    if connection.vendor == "postgresql":
        return _as_bytes(sql, parameters, width)
    pieces = [np.empty((0, width), dtype=np.int64)]
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        while some := cursor.fetchmany(READ_AT_ONCE):
            flat = np.fromiter(itertools.chain.from_iterable(some), dtype=np.int64, count=width * len(some))
            pieces.append(flat.reshape(-1, width))
    return np.concatenate(pieces)


def _as_bytes(sql: str, parameters: Sequence[Any], width: int) -> Ints:
    """The same from PostgreSQL as one value: integers in network order, as :mod:`.heard` reads sessions."""
    names = [f"c{place}" for place in range(width)]
    packed = " || ".join(f"int8send({name}::bigint)" for name in names)
    [(told,)] = rows.fetch(
        f"SELECT string_agg({packed}, ''::bytea) FROM ({sql}) AS found({', '.join(names)})", parameters
    )
    return np.frombuffer(told or b"", dtype=">i8").astype(np.int64).reshape(-1, width)


def whole_quarters(starts_ms: Ints, ends_ms: Ints) -> tuple[Ints, Ints]:
    """Of each stretch, the first instant and the end of its whole quarter-hours; no length where it has none."""
    first = -(-starts_ms // QUARTER_HOUR_MS) * QUARTER_HOUR_MS
    stop = ends_ms // QUARTER_HOUR_MS * QUARTER_HOUR_MS
    return first, np.maximum(first, stop)
