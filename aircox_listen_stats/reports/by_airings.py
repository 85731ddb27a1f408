"""The sums of a program, episode, diffusion or track: of its airings' stored audiences, and of their sessions.

An airing belongs to the broadcast day, and the daypart, in which it started, whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import conf
from ..kernel import metrics
from ..kernel.arrays import Ints
from ..kernel.correlate import Listening
from ..kernel.metrics import QUARTER_HOUR_MS, Periods
from ..kernel.types import Layer, RuleSet
from ..models import Airing, Audience, Stream
from . import keys, rows
from .amounts import UNKNOWN, Amounts, Count, Performances, StandsOn
from .blurs import NEVER, Times
from .by_quarters import again
from .figures import KNOWN_COVERAGE
from .heard import heard_on_air, sessions_known_from_ms
from .quarters import columns_of
from .spans import Span

__all__ = ["MOST_SESSIONS", "Airings", "amounts", "by_program", "performances"]

HOUR_MS = 3_600_000

MOST_SESSIONS = 50_000
"""Sessions that are read for one report, as :data:`.flow.MOST_SESSIONS`. Of more, the stored audiences stand alone."""

ANY_PORTION = "all"
"""The rule-set of performances: any portion counts. 37 CFR 380.7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Airings:
    """Which airings: a layer of a station, and the column and number that name them (None: all of the layer)."""

    station_id: int
    layer: Layer
    column: str | None = None
    number: int | None = None

    def where(self, span: Span, until_ms: int) -> tuple[str, list[Any]]:
        """Those that started in the span and by ``until_ms``, as SQL on ``a``."""
        sql = "a.station_id = %s AND a.layer = %s AND a.started >= %s AND a.started < %s"
        values = [self.station_id, self.layer.value, span.started_ms, min(span.ended_ms, until_ms)]
        if self.column is None:
            return sql, values
        return f"{sql} AND a.{self.column} = %s", [*values, self.number]


def amounts(
    airings: Airings, streams: Sequence[Stream], span: Span, rules: RuleSet, *, until_ms: int, now_ms: int
) -> Amounts | None:
    """The sums of the airings that started in the span and by ``until_ms``; None where there was none."""
    found = _Stored.read(airings, span, rules, until_ms)
    if not len(found):
        return None
    made = found.sums()
    made = replace(made, settled=made.settled and span.ended_ms <= until_ms)
    made = replace(made, cume=_cume(airings, span, rules, found, made))
    can_read = rules.gap_seconds == conf.get().rules().gap_seconds and span.daypart is None
    if not (can_read and streams) or int(found["sessions"].sum()) > MOST_SESSIONS:
        return made
    if int(found["started"].min()) < sessions_known_from_ms(now_ms):
        return made
    where, values = airings.where(span, until_ms)
    listening = metrics.counting(heard_on_air(streams, where, values).listening, rules)
    return _with_sessions(made, listening, *found.stretches())


def by_program(
    station_id: int, span: Span, rules: RuleSet, *, until_ms: int, blurred: Times = NEVER
) -> dict[int, Amounts]:
    """The sums of each program's diffusions that started in the span, by its number.

    ``blurred``: when listeners of the station could not be told apart.
    """
    mine = Airings(station_id=station_id, layer=Layer.DIFFUSION)
    found = _Stored.read(mine, span, rules, until_ms)
    numbers = found["program_id"]
    mine_of = {one: found.only(numbers == one) for one in np.unique(numbers[numbers >= 0]).tolist()}
    return {
        one: replace(stored.sums(), at_least_because=blurred.during(*stored.stretches()))
        for one, stored in mine_of.items()
    }


def performances(airings: Airings, span: Span, *, until_ms: int) -> Performances | None:
    """What the tracks had that began in the span; None where no track has figures.

    They are many: a daypart's are read, any other ones are added up by the database.
    """
    rules = conf.get().rules(ANY_PORTION)
    if span.daypart is not None:
        found = _Stored.read(airings, span, rules, until_ms)
        known = found.only(found.is_known)
        sums = (
            len(known), known["listeners"].sum(), known["listening_ms"].sum(),
            found.covered_ms.sum() * PARTS_OF_COVERAGE, found["length_ms"].sum(), found["settled"].min(initial=1),
        )  # fmt: skip
    else:
        where, values = airings.where(span, until_ms)
        columns = ", ".join(f"{sql} AS {name}" for name, sql in _COLUMNS.items())
        of_known = "SUM(CASE WHEN coverage > 0 AND listening_ms >= 0 OR listening_ms > 0 THEN {} ELSE 0 END)".format
        [sums] = rows.fetch(
            f"SELECT {of_known(1)}, {of_known('listeners')}, {of_known('listening_ms')},"
            " SUM(length_ms * coverage), SUM(length_ms), MIN(settled)"
            f" FROM (SELECT {columns} FROM {_joined()} WHERE {where}) AS found",
            [rules.name, *values],
        )
    count, listeners, listening_ms, covered, length_ms, settled = (int(one or 0) for one in sums)
    if not count:
        return None
    return Performances(
        performances=listeners,
        listening_ms=listening_ms,
        coverage=covered / PARTS_OF_COVERAGE / length_ms if length_ms else 0.0,
        settled=bool(settled) and span.ended_ms <= until_ms,
    )


# Stored audiences --------------------------------------------------------------------------------

PARTS_OF_COVERAGE = 10_000
"""Coverage is kept to four decimals: a share is read as so many parts."""

_COLUMNS: Mapping[str, str] = {
    "program_id": "COALESCE(a.program_id, -1)",
    "started": "a.started",
    "length_ms": "(CASE WHEN f.computed < a.ended THEN f.computed ELSE a.ended END) - a.started",
    "listening_ms": "COALESCE(f.listening_ms, -1)",
    "sessions": "COALESCE(f.sessions, 0)",
    "listeners": "COALESCE(f.listeners, 0)",
    "peak": "COALESCE(f.peak, 0)",
    "peak_at": "COALESCE(f.peak_at, -1)",
    "inherited": "COALESCE(f.inherited, 0)",
    "joined": "COALESCE(f.joined, 0)",
    "coverage": f"CAST(ROUND(COALESCE(f.coverage, 0) * {PARTS_OF_COVERAGE}) AS BIGINT)",
    "settled": "CASE WHEN f.settled THEN 1 ELSE 0 END",
}
"""SQL of whole numbers, of an airing ``a`` and its audience ``f``; a listening time of -1 is not computed yet."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stored:
    """Airings with their audience under one rule-set, by start."""

    values: Ints

    @classmethod
    def read(cls, airings: Airings, span: Span, rules: RuleSet, until_ms: int) -> _Stored:
        where, values = airings.where(span, until_ms)
        sql = f"SELECT {', '.join(_COLUMNS.values())} FROM {_joined()} WHERE {where} ORDER BY a.started, a.id"
        found = cls(values=columns_of(sql, [rules.name, *values], len(_COLUMNS)))
        if span.daypart is None:
            return found
        starts, ends = span.slots(until_ms)
        place = np.searchsorted(starts, found["started"], side="right") - 1
        return found.only((place >= 0) & (found["started"] < np.append(ends, 0)[place]))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, column: str) -> Ints:
        return self.values[:, tuple(_COLUMNS).index(column)]

    def only(self, mask: np.ndarray) -> _Stored:
        return _Stored(values=self.values[mask])

    @property
    def covered_ms(self) -> np.ndarray:
        return self["length_ms"] * self["coverage"] / PARTS_OF_COVERAGE

    @property
    def is_known(self) -> np.ndarray:
        """Of what nobody observed the figures are zero, and that zero means nothing."""
        return (self["coverage"] > 0) & (self["listening_ms"] >= 0) | (self["listening_ms"] > 0)

    def stretches(self) -> tuple[Ints, Ints]:
        """When it was on air, as far as the figures tell; airings that overlap are one."""
        starts, ends = self["started"], self["started"] + np.maximum(self["length_ms"], 0)
        if not len(starts):
            return starts, ends
        reached = np.maximum.accumulate(ends)
        is_new = np.concatenate(([True], starts[1:] >= reached[:-1]))
        first = np.flatnonzero(is_new)
        begins, stops = starts[first], reached[np.append(first[1:], len(starts)) - 1]
        lasts = stops > begins
        return begins[lasts], stops[lasts]

    def sums(self) -> Amounts:
        known = self.only(self.is_known)
        averaged = known.only(known["coverage"] >= KNOWN_COVERAGE * PARTS_OF_COVERAGE)
        peak = int(known["peak"].max(initial=0))
        sessions = int(known["sessions"].sum())
        settled = bool(self["settled"].all())
        if len(self) == 1:
            active = Count.exactly(sessions, StandsOn.ROLL_UP, settled=settled)
        else:
            first = int(known["inherited"][0]) if len(known) else 0
            least = first + int(known["joined"].sum())
            active = Count(lower=least, upper=sessions, stands_on=StandsOn.ROLL_UP, settled=settled)
        computed = self.only(self["listening_ms"] >= 0)
        return Amounts(
            length_ms=int(computed["length_ms"].sum()),
            covered_ms=float(computed.covered_ms.sum()),
            listening_ms=int(known["listening_ms"].sum()),
            averaged_ms=int(averaged["listening_ms"].sum()),
            averaged_length_ms=int(averaged["length_ms"].sum()),
            begun=int(known["joined"].sum()),
            peak=peak,
            peak_at_ms=int(known["peak_at"][int(np.argmax(known["peak"]))]) if peak else None,
            active=active,
            settled=settled,
            airings=len(self),
            airings_unknown=len(self) - len(known),
        )


def _joined() -> str:
    """Airings with their audience under the rule-set that is the first parameter."""
    return f"{rows.table(Airing)} a LEFT JOIN {rows.table(Audience)} f ON f.airing_id = a.id AND f.rule_set = %s"


def _cume(airings: Airings, span: Span, rules: RuleSet, found: _Stored, made: Amounts) -> Count:
    if len(found) == 1 and made.is_known:
        return Count.exactly(int(found["listeners"][0]), StandsOn.ROLL_UP, settled=made.settled)
    counted = UNKNOWN
    if airings.column == "program_id" and airings.number is not None:
        counted = keys.counted_in_its_time("program", airings.number, airings.station_id, span, rules.name)
    if counted.value is not None or not made.is_known:
        return counted
    least = max(int(found["listeners"].max()), counted.lower or 0)
    return Count(lower=least, stands_on=StandsOn.ROLL_UP, settled=made.settled)


# Sessions ----------------------------------------------------------------------------------------


def _with_sessions(made: Amounts, listening: Listening, starts: Ints, ends: Ints) -> Amounts:
    """The sums with what only the sessions of the airtime tell."""
    if not len(starts):
        return made
    periods = Periods(listening=listening, starts_ms=starts, ends_ms=ends)
    touched = -(-ends // QUARTER_HOUR_MS) - starts // QUARTER_HOUR_MS
    listening_ms = periods.audience.listening_ms
    met = int(periods.audience.sessions.sum()) - again(listening, starts, ends)
    fields: dict[str, Any] = {
        "active": Count.exactly(met, StandsOn.SESSIONS, settled=made.settled),
        "person_ms": round(float(periods.person_hours.sum()) * HOUR_MS),
        "elapsed_ms": round(float(periods.elapsed_hours.sum()) * HOUR_MS),
        "quarters": int(touched.sum()),
        "quarter_listeners": round(float((periods.aqh * touched).sum())),
        "quarter_listeners_in_one_piece": round(float((periods.aqh_in_one_piece * touched).sum())),
        "bytes_sent": int(periods.bytes_sent.sum()),
        "bytes_told_ms": round(float((periods.bytes_share * listening_ms).sum())),
        "delivered_ms": round(float(periods.delivered_hours.sum()) * HOUR_MS),
        "delivered_told_ms": round(float((periods.delivered_share * listening_ms).sum())),
    }
    if keys.are_comparable(int(starts[0]), int(ends[-1])):
        reached = int(metrics.reach(listening, starts, ends, np.zeros(len(starts), dtype=np.int64))[0])
        fields["reach"] = Count.exactly(reached, StandsOn.SESSIONS, settled=made.settled)
        if made.cume.value is None:
            heads = keys.distinct(listening, starts, ends)
            fields["cume"] = Count.exactly(heads, StandsOn.SESSIONS, settled=made.settled)
    return replace(made, **fields, from_sessions=frozenset(fields))
