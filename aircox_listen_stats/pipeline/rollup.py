"""The audience of every airing of a window: computed anew from the sessions, written where it differs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction

from .. import conf
from ..kernel import correlate
from ..kernel.correlate import Listening
from ..kernel.types import Layer, RuleSet, Why
from ..models import Airing, Audience, Stream
from ..reports.heard import SESSIONS_KNOWN_FROM, sessions_cutoff_ms
from . import causes, lease, rows
from .causes import Cause
from .heard import Heard, covered, heard, heard_otherwise, heard_until
from .lateness import late_ms

Ints = npt.NDArray[np.int64]

LONGEST_AIRING_MS = 24 * 3600 * 1000
"""An airing that started longer before a window does not touch it: aircox plans days, not more."""

CURVED = frozenset({Layer.DIFFUSION, Layer.SOUND})
"""Layers whose airings keep a curve by the minute: a track is over within a few."""

CURVE_DECIMALS = 3
"""A thousandth of a listener is 60 ms of one minute."""

SWEPT_AT_ONCE = 100_000
"""Sessions, of all rule-sets together: of more, memory would count and time would not."""

AT_ONCE = 40
"""Rows of one statement: SQLite took no more than 999 parameters until 3.32."""

CHANGES_KEPT = 20
"""Notes of replaced versions that a row keeps."""

FIGURES = (
    "listening_ms",
    "sessions",
    "listeners",
    "peak",
    "peak_at",
    "at_start",
    "at_end",
    "inherited",
    "joined",
    "left",
    "kept",
    "stayed",
    "curve",
    "retained",
    "coverage",
)
"""The columns of Audience that are figures, in the order in which they are written."""

_NOTED = tuple(name for name in FIGURES if name not in ("curve", "retained"))


class _Air(NamedTuple):
    id: int
    layer: str
    started_ms: int
    ended_ms: int  # of one still on air: up to where it was heard
    is_running: bool


class _Stored(NamedTuple):
    """A row of Audience as it stands."""

    figures: tuple[Any, ...] | None
    settled: bool
    version: int
    changes: list[dict[str, Any]]


_NOTHING = _Stored(None, False, 0, [])
"""Where no row stands yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Computed:
    airing_id: int
    rule_set: str
    figures: tuple[Any, ...]
    settled: bool
    as_of_ms: int


def refresh(
    station_id: int,
    started_ms: int,
    ended_ms: int,
    *,
    now_ms: int,
    rule_sets: Sequence[str] | None = None,
    layers: Collection[str] = tuple(Layer),
    why: Why | None = None,
) -> int:
    """How many rows of Audience were written for the airings that touch the window.

    An airing is computed whole, also where it reaches out of the window; one
    that is on air, up to the last moment in which its streams were heard. Twice is once. An airing older than the kept
    sessions is left as it is. ``rule_sets``: their names; the station's own alone where none are given,
    :func:`every_rule_set` is what the collector keeps. A settled
    figure that changes gets a note: with ``why``, and with what made its window stale.
    """
    names = rule_sets or (conf.get().rule_set,)
    airings, computed = _computed(station_id, started_ms, ended_ms, now_ms, names, layers)
    own = [] if why is None else [Cause(why, causes.who())]
    return _write(computed, _Causes(station_id, {one.id: one for one in airings}, own), now_ms)


def differing(
    station_id: int, started_ms: int, ended_ms: int, *, now_ms: int, rule_sets: Sequence[str]
) -> tuple[int, int]:
    """How many settled rows the airings that touch the window have, and how many of them would be others now.

    Nothing is written.
    """
    _, computed = _computed(station_id, started_ms, ended_ms, now_ms, rule_sets, tuple(Layer))
    stored = _stored({one.airing_id for one in computed}, set(rule_sets))
    pairs = ((one, stored.get((one.airing_id, one.rule_set), _NOTHING)) for one in computed)
    settled = [(one, old) for one, old in pairs if old.settled]
    return len(settled), sum(one.figures != old.figures for one, old in settled)


def would_be(
    station_id: int, started_ms: int, ended_ms: int, *, relabelled: Collection[int], now_ms: int
) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
    """The diffusions that touch the window whose figures, under the station's own rule-set, would be others.

    They would if these sessions, by id, counted where they do not, and did not where they do: each airing's id, its
    figures now and then. Nothing is written.
    """
    streams = list(Stream.objects.of(station_id))
    until_ms = heard_until(streams, now_ms)
    airings = _airings(station_id, started_ms, ended_ms, now_ms, until_ms, (Layer.DIFFUSION,))
    if not airings or not streams:
        return []
    starts = np.array([one.started_ms for one in airings], dtype=np.int64)
    ends = np.array([one.ended_ms for one in airings], dtype=np.int64)
    shares = covered(streams, starts, ends)
    rules = conf.get().rules()
    told = []
    for ids in ((), relabelled):
        found = heard_otherwise(streams, int(starts.min()), int(ends.max()), ids)
        told.append(_figures(airings, found.listening, [found.counting(rules)], shares)[0])
    return [
        (one.id, dict(zip(FIGURES, now, strict=True)), dict(zip(FIGURES, then, strict=True)))
        for one, now, then in zip(airings, *told, strict=True)
        if now != then
    ]


def every_rule_set() -> tuple[str, ...]:
    """The names of the rule-sets that the kept sessions can be counted under, the station's own first.

    Sessions are stitched within the gap of the station's rule-set; one with another gap would need others.
    """
    settings = conf.get()
    own = settings.rules()
    names = dict.fromkeys((own.name, *conf.RULE_SETS, *settings.rule_sets))
    return tuple(name for name in names if settings.rules(name).gap_seconds == own.gap_seconds)


def _computed(
    station_id: int,
    started_ms: int,
    ended_ms: int,
    now_ms: int,
    rule_sets: Sequence[str],
    layers: Collection[str],
) -> tuple[list[_Air], list[_Computed]]:
    """The airings that touch the window, and the figures of each under each rule-set."""
    # No transaction around the reading: one of SQLite that reads first fails, rather than waits,
    # where another process wrote meanwhile. What changes meanwhile has a stale window of its own.
    streams = list(Stream.objects.of(station_id))
    airings = _airings(station_id, started_ms, ended_ms, now_ms, heard_until(streams, now_ms), layers)
    if not airings or not streams:
        return [], []
    starts = np.array([one.started_ms for one in airings], dtype=np.int64)
    ends = np.array([one.ended_ms for one in airings], dtype=np.int64)
    found = heard(streams, int(starts.min()), int(ends.max()))
    shares = covered(streams, starts, ends)
    asked = [conf.get().rules(name) for name in rule_sets]
    return airings, _compute(airings, found, shares, asked, now_ms - late_ms(streams), now_ms)


# Airings ----------------------------------------------------------------------------


def _airings(
    station_id: int, started_ms: int, ended_ms: int, now_ms: int, until_ms: int, layers: Collection[str]
) -> list[_Air]:
    marks = ",".join(["%s"] * len(layers))
    found = rows.fetch(
        f"SELECT id, layer, started, ended, is_running FROM {rows.table(Airing)}"
        f" WHERE station_id = %s AND layer IN ({marks}) AND started >= %s AND started < %s AND ended > %s"
        f" AND started >= {SESSIONS_KNOWN_FROM} ORDER BY started, id",
        [
            station_id,
            *layers,
            max(started_ms - LONGEST_AIRING_MS, sessions_cutoff_ms(now_ms)),
            min(ended_ms, until_ms),
            started_ms,
        ],
    )
    return [
        _Air(id_, layer, started, min(ended, until_ms), bool(is_running) or ended > until_ms)
        for id_, layer, started, ended, is_running in found
    ]


# Computing --------------------------------------------------------------------------


def _compute(
    airings: Sequence[_Air],
    found: Heard,
    shares: npt.NDArray[np.float64],
    asked: Sequence[RuleSet],
    settled_before_ms: int,
    now_ms: int,
) -> list[_Computed]:
    """The figures of every airing under every rule-set; what counts the same sessions is computed once."""
    masks = [found.counting(rules) for rules in asked]
    distinct = {mask.tobytes(): mask for mask in masks}
    under = dict(zip(distinct, _under_each(airings, found.listening, list(distinct.values()), shares), strict=True))
    return [
        _Computed(
            airing_id=one.id,
            rule_set=rules.name,
            figures=row,
            settled=not one.is_running and found.is_settled(one.ended_ms, settled_before_ms),
            as_of_ms=one.ended_ms if one.is_running else now_ms,
        )
        for rules, mask in zip(asked, masks, strict=True)
        for one, row in zip(airings, under[mask.tobytes()], strict=True)
    ]


def _under_each(
    airings: Sequence[_Air],
    listening: Listening,
    masks: Sequence[npt.NDArray[np.bool_]],
    shares: npt.NDArray[np.float64],
) -> list[list[tuple[Any, ...]]]:
    """For each of ``masks``, the row of FIGURES of each airing from its sessions.

    Few sessions are laid out once for each mask, one mask after the other in time, and swept at once: for an
    hour's, numpy's calls take as long as what they compute.
    """
    together = max(1, min(len(masks), SWEPT_AT_ONCE // max(len(listening), 1)))
    found = []
    for first in range(0, len(masks), together):
        found += _figures(airings, listening, masks[first : first + together], shares)
    return found


def _figures(
    airings: Sequence[_Air],
    listening: Listening,
    masks: Sequence[npt.NDArray[np.bool_]],
    shares: npt.NDArray[np.float64],
) -> list[list[tuple[Any, ...]]]:
    """For the sessions of each of ``masks``, the row of FIGURES of each airing."""
    starts = np.array([one.started_ms for one in airings], dtype=np.int64)
    ends = np.array([one.ended_ms for one in airings], dtype=np.int64)
    apart_ms = _span_ms(listening, starts, ends)
    listening = listening.under_each(masks, apart_ms)
    places = np.arange(len(masks))[:, np.newaxis]
    begins, stops = (starts + places * apart_ms).ravel(), (ends + places * apart_ms).ravel()
    columns = correlate.audience(listening, begins, stops)
    curved = np.flatnonzero([one.layer in CURVED for one in airings] * len(masks))
    curves = dict(zip(curved.tolist(), _curves(listening, begins[curved], stops[curved]), strict=True))
    back_ms = np.repeat(places * apart_ms, len(airings))
    peak_at = np.where(columns.peak_at_ms < 0, -1, columns.peak_at_ms - back_ms).tolist()
    counts = zip(
        columns.listening_ms.tolist(),
        columns.sessions.tolist(),
        columns.listeners.tolist(),
        columns.peak.tolist(),
        [None if instant < 0 else instant for instant in peak_at],
        columns.at_start.tolist(),
        columns.at_end.tolist(),
        columns.inherited.tolist(),
        columns.joined.tolist(),
        columns.left.tolist(),
        columns.kept.tolist(),
        columns.stayed.tolist(),
        strict=True,
    )
    told = shares.tolist() * len(masks)
    rows = [(*row, *curves.get(number, ([], [])), told[number]) for number, row in enumerate(counts)]
    return [rows[first : first + len(airings)] for first in range(0, len(rows), len(airings))]


def _span_ms(listening: Listening, starts: Ints, ends: Ints) -> int:
    """So far apart, what is laid one after the other does not touch: milliseconds."""
    first = min(int(starts.min()), int(listening.started_ms.min(initial=starts[0])))
    last = max(int(ends.max()), int(listening.ended_ms.max(initial=ends[0])))
    return last - first + 1


def _curves(listening: Listening, starts: Ints, ends: Ints) -> list[tuple[list[float], list[int]]]:
    """The mean audience of each minute of each airing, and who of those at its start is left at each."""
    means = correlate.minute_curves(listening, starts, ends)
    kept = correlate.retained_curves(listening, starts, ends)
    return [(np.round(mean, CURVE_DECIMALS).tolist(), left.tolist()) for mean, left in zip(means, kept, strict=True)]


# Writing ----------------------------------------------------------------------------


class _Causes:
    """Why the settled figures of an airing change; what waits is asked for when the first one does."""

    def __init__(self, station_id: int, airings: Mapping[int, _Air], own: Sequence[Cause]) -> None:
        self._station_id = station_id
        self._airings = airings
        self._own = own
        self._waiting: list[causes.Waiting] | None = None

    def of(self, airing_id: int) -> list[Cause]:
        """Each once: what made the airing's time stale, and what was told beside it."""
        if self._waiting is None:
            first_ms = min(one.started_ms for one in self._airings.values())
            last_ms = max(one.ended_ms for one in self._airings.values())
            self._waiting = causes.waiting(self._station_id, first_ms, last_ms)
        air = self._airings[airing_id]
        touching = (
            one.cause for one in self._waiting if one.started_ms < air.ended_ms and one.ended_ms > air.started_ms
        )
        return list(dict.fromkeys((*touching, *self._own))) or [Cause(Why.ANEW, causes.who())]


def _write(computed: Sequence[_Computed], why: _Causes, now_ms: int) -> int:
    stored = _stored({one.airing_id for one in computed}, {one.rule_set for one in computed})
    differing = [
        (one.airing_id, one.rule_set, *row)
        for one in computed
        if (row := _renewed(stored.get((one.airing_id, one.rule_set), _NOTHING), one, why, now_ms)) is not None
    ]
    pieces = [differing[first : first + AT_ONCE] for first in range(0, len(differing), AT_ONCE)]
    if len(pieces) == 1 and not lease.is_asked_for():
        _upsert(pieces[0])  # one statement is a transaction
    elif pieces:
        with transaction.atomic():
            lease.ensure()
            for piece in pieces:
                _upsert(piece)
    return len(differing)


def _upsert(some: Sequence[tuple[Any, ...]]) -> None:
    columns = ["airing_id", "rule_set", *FIGURES, "settled", "version", "changes", "computed"]
    marks = ", ".join(["(" + ", ".join(["%s"] * len(columns)) + ")"] * len(some))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {rows.table(Audience)} ({', '.join(map(_quoted, columns))}) VALUES {marks}"
            " ON CONFLICT (airing_id, rule_set) DO UPDATE SET "
            + ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in columns[2:]),
            [value for row in some for value in row],
        )


def _stored(airing_ids: Collection[int], rule_sets: Collection[str]) -> Mapping[tuple[int, str], _Stored]:
    """The rows as they stand, by airing and rule-set."""
    columns = ", ".join(_quoted(name) for name in FIGURES)
    marks = ", ".join(["%s"] * len(rule_sets))
    found = {}
    for airing_id, rule_set, settled, version, changes, *figures in rows.fetch_in(
        f"SELECT airing_id, rule_set, settled, version, changes, {columns} FROM {rows.table(Audience)}"
        f" WHERE rule_set IN ({marks}) AND airing_id IN ({{values}})",
        sorted(rule_sets),
        sorted(airing_ids),
    ):
        figures[12:14] = [json.loads(one) if isinstance(one, str) else one for one in figures[12:14]]
        notes = json.loads(changes) if isinstance(changes, str) else changes
        found[airing_id, rule_set] = _Stored(tuple(figures), bool(settled), version, notes)
    return found


def _renewed(old: _Stored, one: _Computed, why: _Causes, now_ms: int) -> tuple[Any, ...] | None:
    """What to write over ``old``; None where nothing differs.

    What is settled stays settled: other figures make a new version, with a
    note of who made them differ, why, and from what to what.
    """
    if old.figures == one.figures and (old.settled or not one.settled):
        return None
    version, changes = old.version, old.changes
    if old.settled:
        version += 1
        changes = [*changes, _note(old, one, version, why.of(one.airing_id), now_ms)][-CHANGES_KEPT:]
    elif one.settled:
        version += 1
    texts = [json.dumps(value) if isinstance(value, list) else value for value in one.figures]
    return (*texts, old.settled or one.settled, version, json.dumps(changes), one.as_of_ms)


def _note(old: _Stored, one: _Computed, version: int, why: Sequence[Cause], now_ms: int) -> dict[str, Any]:
    before, after = (dict(zip(FIGURES, figures or (), strict=True)) for figures in (old.figures, one.figures))
    differing = [name for name in _NOTED if before[name] != after[name]]
    return {
        "version": version,
        "at_ms": now_ms,
        "causes": [[str(cause.why), cause.who] for cause in why],
        "before": {name: before[name] for name in differing},
        "after": {name: after[name] for name in differing},
        "minutes": sum(
            left != right
            for left, right in itertools.zip_longest(
                itertools.zip_longest(before["curve"], before["retained"]),
                itertools.zip_longest(after["curve"], after["retained"]),
            )
        ),
    }


def _quoted(name: str) -> str:
    """``left`` is a word of SQL."""
    return f'"{name}"'
