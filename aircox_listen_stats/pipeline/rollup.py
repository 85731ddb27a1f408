"""The audience of every airing of a window: computed anew from the sessions, written where it differs."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction

from .. import conf
from ..fields import to_ms
from ..kernel import correlate, metrics
from ..kernel.correlate import Listening
from ..kernel.types import Layer, RuleSet
from ..models import Airing, Audience, Coverage, Session, SourceState, Stream
from ..querysets import FOUR_HOURS_MS
from . import lease, retention, rows
from .lateness import knows_who_is_there, late_ms

Ints = npt.NDArray[np.int64]

SILENT_MS = 2 * 60 * 1000
"""A source that was not heard for longer is silent: what it missed shows as a gap, not as a running airing's end."""

LONGEST_AIRING_MS = 24 * 3600 * 1000
"""An airing that started longer before a window does not touch it: aircox plans days, not more."""

CURVED = frozenset({Layer.DIFFUSION, Layer.SOUND})
"""Layers whose airings keep a curve by the minute: a track is over within a few."""

CURVE_DECIMALS = 3
"""A thousandth of a listener is 60 ms of one minute."""

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Heard:
    """The sessions of one window in the studio's time, the excluded ones left out."""

    listening: Listening
    played_ms: Ints
    open_since_ms: int | None  # the earliest start of a session that is still open


def refresh(
    station_id: int,
    started_ms: int,
    ended_ms: int,
    *,
    now_ms: int,
    rule_sets: Sequence[str] | None = None,
    layers: Collection[str] = tuple(Layer),
) -> int:
    """How many rows of Audience were written for the airings that touch the window.

    An airing is computed whole, also where it reaches out of the window; one
    that is on air, up to the last moment in which its streams were heard. Twice is once. An airing older than the kept
    sessions is left as it is. ``rule_sets``: their names; the station's own alone where none are given,
    :func:`every_rule_set` is what the collector keeps.
    """
    # No transaction around the reading: one of SQLite that reads first fails, rather than waits,
    # where another process wrote meanwhile. What changes meanwhile has a stale window of its own.
    streams = list(Stream.objects.of(station_id))
    until_ms = _heard_until(streams, now_ms)
    airings = _airings(station_id, started_ms, ended_ms, now_ms, until_ms, layers)
    if not airings or not streams:
        return 0
    begin_ms = min(one.started_ms for one in airings)
    end_ms = max(one.ended_ms for one in airings)
    heard = _heard(streams, begin_ms, end_ms)
    covered = _covered(streams, airings, begin_ms, end_ms)
    asked = [conf.get().rules(name) for name in rule_sets or (conf.get().rule_set,)]
    computed = _compute(airings, heard, covered, asked, now_ms - late_ms(streams), now_ms)
    return _write(computed, now_ms)


def every_rule_set() -> tuple[str, ...]:
    """The names of the rule-sets that the kept sessions can be counted under, the station's own first.

    Sessions are stitched within the gap of the station's rule-set; one with another gap would need others.
    """
    settings = conf.get()
    own = settings.rules()
    names = dict.fromkeys((own.name, *conf.RULE_SETS, *settings.rule_sets))
    return tuple(name for name in names if settings.rules(name).gap_seconds == own.gap_seconds)


# Loading ----------------------------------------------------------------------------


def _heard_until(streams: Sequence[Stream], now_ms: int) -> int:
    """The studio's instant up to which every stream was heard; now, where one has been silent for long.

    Between the last census and now nobody has been seen, and nobody has left.
    """
    states = SourceState.objects.filter(pk__in={stream.source for stream in streams if stream.active})
    heard = {state.source: to_ms(state.heard) for state in states if state.heard and knows_who_is_there(state)}
    delayed = [heard[one.source] - one.delay_ms for one in streams if one.active and one.source in heard]
    silent_since_ms = min((heard[one.source] for one in streams if one.active and one.source in heard), default=0)
    if silent_since_ms < now_ms - SILENT_MS:
        return now_ms
    return min(now_ms, *delayed)


def _airings(
    station_id: int, started_ms: int, ended_ms: int, now_ms: int, until_ms: int, layers: Collection[str]
) -> list[_Air]:
    marks = ",".join(["%s"] * len(layers))
    found = rows.fetch(
        f"SELECT id, layer, started, ended, is_running FROM {rows.table(Airing)}"
        f" WHERE station_id = %s AND layer IN ({marks}) AND started >= %s AND started < %s AND ended > %s"
        f" AND started >= {retention.SESSIONS_KNOWN_FROM} ORDER BY started, id",
        [
            station_id,
            *layers,
            max(started_ms - LONGEST_AIRING_MS, retention.sessions_cutoff_ms(now_ms)),
            min(ended_ms, until_ms),
            started_ms,
        ],
    )
    return [
        _Air(id_, layer, started, min(ended, until_ms), bool(is_running) or ended > until_ms)
        for id_, layer, started, ended, is_running in found
    ]


def _heard(streams: Sequence[Stream], begin_ms: int, end_ms: int) -> _Heard:
    """What was heard of ``[begin_ms, end_ms)``, shifted by each stream's delay."""
    found = [
        _later(_sessions(ids, begin_ms + delay_ms, end_ms + delay_ms), -delay_ms)
        for delay_ms, ids in _by_delay(streams).items()
    ]
    whole = np.concatenate([some.whole for some in found])
    split = [row for some in found for row in some.split]
    heads = np.array([row[:_PARTS] for row in split], dtype=np.int64).reshape(-1, _PARTS)
    columns = np.concatenate((whole, heads))
    started, ended, played, listener, is_open = (np.ascontiguousarray(columns[:, one]) for one in range(_PARTS))
    open_mask = is_open != 0
    part_starts, part_ends, part_session = _parts(started, ended, len(whole), split)
    return _Heard(
        listening=Listening(
            part_started_ms=part_starts,
            part_ended_ms=part_ends,
            part_session=part_session,
            started_ms=started,
            ended_ms=ended,
            is_open=open_mask,
            listener=listener,
        ),
        played_ms=played,
        open_since_ms=int(started[open_mask].min()) if open_mask.any() else None,
    )


class _Sessions(NamedTuple):
    """Sessions as rows of (start, end, played, listener, open), those of several parts apart, with these."""

    whole: Ints
    split: list[list[Any]]


_PARTS = 5
"""Where a row of ``split`` holds the parts."""


def _later(some: _Sessions, delay_ms: int) -> _Sessions:
    if delay_ms:
        some.whole[:, :2] += delay_ms
        for row in some.split:
            row[0] += delay_ms
            row[1] += delay_ms
    return some


def _sessions(stream_ids: Sequence[int], begin_ms: int, end_ms: int) -> _Sessions:
    """Sessions that meet ``[begin_ms, end_ms)`` and every open one that began before its end.

    Closed ones of up to four hours ended at most so long after the window
    (for a window that ended just now: nearly all are wanted), long ones have
    an index of their own, and so have the open ones. The plus keeps SQLite from
    reading all that ever started instead.
    """
    marks = ",".join(["%s"] * len(stream_ids))
    select = (
        f"SELECT started, ended, played_ms, listener, is_open, parts FROM {rows.table(Session)}"
        f" WHERE stream_id IN ({marks}) AND exclusion = '' AND +started < %s"
    )
    met = (
        f"{select} AND ended > %s AND ended < %s AND NOT is_open AND NOT is_long"
        f" UNION ALL {select} AND ended > %s AND is_long AND NOT is_open"
        f" UNION ALL {select} AND is_open"
    )
    parameters = [
        *stream_ids, end_ms, begin_ms, end_ms + FOUR_HOURS_MS,
        *stream_ids, end_ms, begin_ms,
        *stream_ids, end_ms,
    ]  # fmt: skip
    return _as_bytes(met, parameters) if connection.vendor == "postgresql" else _as_rows(met, parameters)


def _as_rows(met: str, parameters: Sequence[Any]) -> _Sessions:
    found = rows.fetch(met, parameters)
    whole = [row[:_PARTS] for row in found if row[_PARTS] is None]
    split = [[*row[:_PARTS], json.loads(row[_PARTS])] for row in found if row[_PARTS] is not None]
    flat = np.fromiter(itertools.chain.from_iterable(whole), dtype=np.int64, count=_PARTS * len(whole))
    return _Sessions(flat.reshape(-1, _PARTS), split)


def _as_bytes(met: str, parameters: Sequence[Any]) -> _Sessions:
    """The same from PostgreSQL as one value, twice as fast: nothing but integers, in network order."""
    [(packed, split)] = rows.fetch(
        f"WITH met AS MATERIALIZED ({met}) SELECT"
        " (SELECT string_agg(int8send(started) || int8send(ended) || int8send(played_ms) || int8send(listener)"
        " || int8send(is_open::int::bigint), ''::bytea) FROM met WHERE parts IS NULL),"
        " (SELECT json_agg(json_build_array(started, ended, played_ms, listener, is_open::int, parts))::text"
        " FROM met WHERE parts IS NOT NULL)",
        parameters,
    )
    whole = np.frombuffer(packed or b"", dtype=">i8").astype(np.int64).reshape(-1, _PARTS)
    return _Sessions(whole, json.loads(split) if split else [])


def _by_delay(streams: Iterable[Stream]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for stream in streams:
        found[stream.delay_ms].append(stream.pk)
    return found


def _parts(starts: Ints, ends: Ints, whole: int, split: Sequence[Sequence[Any]]) -> tuple[Ints, Ints, Ints]:
    """Starts, ends and session numbers of all parts; the first ``whole`` sessions are one part each."""
    if not split:
        return starts, ends, np.arange(whole)
    offsets = np.array([pair for row in split for pair in row[_PARTS]], dtype=np.int64)
    owner = np.repeat(np.arange(whole, whole + len(split)), [len(row[_PARTS]) for row in split])
    return (
        np.concatenate((starts[:whole], starts[owner] + offsets[:, 0])),
        np.concatenate((ends[:whole], starts[owner] + offsets[:, 1])),
        np.concatenate((np.arange(whole), owner)),
    )


def _covered(streams: Sequence[Stream], airings: Sequence[_Air], begin_ms: int, end_ms: int) -> npt.NDArray[np.float64]:
    """Of each airing, the share in which the streams were observed: their mean.

    A stream that is switched off and was not observed in the window is not asked.
    """
    starts = np.array([one.started_ms for one in airings], dtype=np.int64)
    ends = np.array([one.ended_ms for one in airings], dtype=np.int64)
    lasting = np.maximum(ends - starts, 1)
    by_stream: dict[int, list[tuple[int, int]]] = defaultdict(list)
    longest_delay_ms = max(abs(stream.delay_ms) for stream in streams)
    for stream_id, started, ended in rows.fetch_in(
        f"SELECT stream_id, started, ended FROM {rows.table(Coverage)}"
        " WHERE ended > %s AND started < %s AND NOT totals_only AND stream_id IN ({values}) ORDER BY started",
        [begin_ms - longest_delay_ms, end_ms + longest_delay_ms],
        [stream.pk for stream in streams],
    ):
        by_stream[stream_id].append((started, ended))
    shares = [
        _inside(by_stream[stream.pk], starts + stream.delay_ms, ends + stream.delay_ms) / lasting
        for stream in streams
        if stream.active or stream.pk in by_stream
    ]
    return np.round(np.mean(shares, axis=0), 4) if shares else np.zeros(len(airings))


def _inside(spans: Sequence[tuple[int, int]], starts: Ints, ends: Ints) -> Ints:
    """How much of each ``[starts, ends)`` lies in the disjoint, sorted spans."""
    if not spans:
        return np.zeros(len(starts), dtype=np.int64)
    bounds = np.array(spans, dtype=np.int64)
    before = np.concatenate(([0], np.cumsum(bounds[:, 1] - bounds[:, 0])))

    def until(instants: Ints) -> Ints:
        index = np.searchsorted(bounds[:, 0], instants, side="right")
        last = np.maximum(index - 1, 0)
        within = np.clip(instants, bounds[last, 0], bounds[last, 1]) - bounds[last, 0]
        return np.where(index > 0, before[last] + within, 0)

    return until(ends) - until(starts)


# Computing --------------------------------------------------------------------------


def _compute(
    airings: Sequence[_Air],
    heard: _Heard,
    covered: npt.NDArray[np.float64],
    asked: Sequence[RuleSet],
    settled_before_ms: int,
    now_ms: int,
) -> list[_Computed]:
    """The figures of every airing under every rule-set; what counts the same sessions is computed once."""
    under: dict[bytes, list[tuple[Any, ...]]] = {}
    found = []
    for rules in asked:
        # How long an open session will be is not known: it counts until it has ended too short.
        mask = metrics.counted(heard.played_ms, rules, listening=heard.listening) | heard.listening.is_open
        figures = under.get(mask.tobytes())
        if figures is None:
            figures = under[mask.tobytes()] = _figures(airings, heard.listening, mask, covered)
        found += [
            _Computed(
                airing_id=one.id,
                rule_set=rules.name,
                figures=row,
                settled=_is_settled(one, heard, settled_before_ms),
                as_of_ms=one.ended_ms if one.is_running else now_ms,
            )
            for one, row in zip(airings, figures, strict=True)
        ]
    return found


def _figures(
    airings: Sequence[_Air], listening: Listening, mask: npt.NDArray[np.bool_], covered: npt.NDArray[np.float64]
) -> list[tuple[Any, ...]]:
    """The row of FIGURES of each airing, from the sessions of ``mask``."""
    if not mask.all():
        listening = listening.only(mask)
    starts = np.array([one.started_ms for one in airings], dtype=np.int64)
    ends = np.array([one.ended_ms for one in airings], dtype=np.int64)
    found = correlate.audience(listening, starts, ends)
    peak_at = [None if instant < 0 else instant for instant in found.peak_at_ms.tolist()]
    curved = [index for index, one in enumerate(airings) if one.layer in CURVED]
    curves = dict(zip(curved, correlate.minute_curves(listening, starts[curved], ends[curved]), strict=True))
    columns = zip(
        found.listening_ms.tolist(),
        found.sessions.tolist(),
        found.listeners.tolist(),
        found.peak.tolist(),
        peak_at,
        found.at_start.tolist(),
        found.at_end.tolist(),
        found.inherited.tolist(),
        found.joined.tolist(),
        found.left.tolist(),
        found.kept.tolist(),
        found.stayed.tolist(),
        strict=True,
    )
    return [
        (*counts, *_curves(listening, one, curves.get(index)), float(covered[index]))
        for index, (one, counts) in enumerate(zip(airings, columns, strict=True))
    ]


def _curves(listening: Listening, one: _Air, curve: npt.NDArray[np.float64] | None) -> tuple[list[float], list[int]]:
    if curve is None:
        return [], []
    kept = correlate.retained(listening, one.started_ms, one.ended_ms)
    return np.round(curve, CURVE_DECIMALS).tolist(), kept.tolist()


def _is_settled(one: _Air, heard: _Heard, settled_before_ms: int) -> bool:
    """Is the airing over, can nothing late be told of it, and has everybody who met it left?"""
    return (
        not one.is_running
        and one.ended_ms <= settled_before_ms
        and (heard.open_since_ms is None or heard.open_since_ms >= one.ended_ms)
    )


# Writing ----------------------------------------------------------------------------


def _write(computed: Sequence[_Computed], now_ms: int) -> int:
    stored = _stored({one.airing_id for one in computed}, {one.rule_set for one in computed})
    differing = [
        (one.airing_id, one.rule_set, *row)
        for one in computed
        if (row := _renewed(stored.get((one.airing_id, one.rule_set), _NOTHING), one, now_ms)) is not None
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


def _renewed(old: _Stored, one: _Computed, now_ms: int) -> tuple[Any, ...] | None:
    """What to write over ``old``; None where nothing differs.

    What is settled stays settled: other figures make a new version, with a
    note of what it replaced.
    """
    if old.figures == one.figures and (old.settled or not one.settled):
        return None
    version, changes = old.version, old.changes
    if old.settled:
        version += 1
        changes = [*changes, _note(old, one, version, now_ms)][-CHANGES_KEPT:]
    elif one.settled:
        version += 1
    texts = [json.dumps(value) if isinstance(value, list) else value for value in one.figures]
    return (*texts, old.settled or one.settled, version, json.dumps(changes), one.as_of_ms)


def _note(old: _Stored, one: _Computed, version: int, now_ms: int) -> dict[str, Any]:
    before, after = (dict(zip(FIGURES, figures or (), strict=True)) for figures in (old.figures, one.figures))
    return {
        "version": version,
        "at_ms": now_ms,
        "before": {name: before[name] for name in _NOTED if before[name] != after[name]},
    }


def _quoted(name: str) -> str:
    """``left`` is a word of SQL."""
    return f'"{name}"'
