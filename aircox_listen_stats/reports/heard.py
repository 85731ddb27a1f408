"""What was heard of a window: its sessions as columns, and how much of it was observed."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from django.db import connection

from .. import conf
from ..kernel import metrics
from ..kernel.correlate import Listening
from ..kernel.types import RuleSet
from ..models import Airing, Coverage, Lease, Session, Stream
from ..querysets import FOUR_HOURS_MS
from . import rows

__all__ = [
    "Heard",
    "HeardBy",
    "Label",
    "covered",
    "heard",
    "heard_by",
    "heard_by_on_air",
    "heard_for_long",
    "heard_on_air",
    "heard_otherwise",
    "sessions_known_from_ms",
    "together",
]

Ints = npt.NDArray[np.int64]

DAY_MS = 24 * 3600 * 1000

HORIZON = "retention"
"""The row of Lease whose ``expires`` remembers from when on sessions are known."""

SESSIONS_KNOWN_FROM = (
    f"COALESCE((SELECT expires FROM {connection.ops.quote_name(Lease._meta.db_table)} WHERE name = '{HORIZON}'), 0)"
)
"""SQL: no session that ended later was ever deleted. Figures of older airings stand as they are.

It is remembered, so that keeping sessions longer from today on does not make
old airings look as if nobody had listened.
"""


def sessions_cutoff_ms(now_ms: int) -> int:
    """Sessions that ended earlier are deleted."""
    return now_ms - conf.get().keep_sessions_days * DAY_MS


def sessions_known_from_ms(now_ms: int) -> int:
    """No session that ended later was ever deleted, or may be now."""
    [(known_ms,)] = rows.fetch(f"SELECT {SESSIONS_KNOWN_FROM}")
    return max(int(known_ms), sessions_cutoff_ms(now_ms))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heard:
    """The sessions of one window in the studio's time, the excluded ones left out."""

    listening: Listening
    played_ms: Ints
    open_since_ms: int | None  # the earliest start of a session that is still open

    def counting(self, rules: RuleSet) -> npt.NDArray[np.bool_]:
        """Which sessions count. How long an open one will be is not known: it counts until it has ended too short."""
        return metrics.counted(self.played_ms, rules, listening=self.listening) | self.listening.is_open

    def is_settled(self, ended_ms: int, settled_before_ms: int) -> bool:
        """Can nothing late be told of what ended at ``ended_ms``, and has everybody who met it left?"""
        return ended_ms <= settled_before_ms and (self.open_since_ms is None or self.open_since_ms >= ended_ms)


class Label(NamedTuple):
    """What is known of whoever listens. Blank is unknown; a referrer of ``-`` could have been named and was not."""

    country: str
    app: str
    referrer: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeardBy:
    """What was heard, and by whom: ``label`` of each session is a place in ``labels``, which holds each once."""

    heard: Heard
    label: Ints
    labels: Sequence[Label]


def heard(streams: Sequence[Stream], begin_ms: int, end_ms: int, *, amounts: bool = False) -> Heard:
    """What was heard of ``[begin_ms, end_ms)``, shifted by each stream's delay.

    With ``amounts`` the listening also tells what was sent: bytes, and the sound of segments.
    """
    columns = (*_COLUMNS, *_AMOUNTS) if amounts else _COLUMNS
    return _heard(streams, begin_ms, end_ms, columns, _COUNTED)[0]


def heard_by(streams: Sequence[Stream], begin_ms: int, end_ms: int) -> HeardBy:
    """What was heard of ``[begin_ms, end_ms)``, and what is known of whoever listened."""
    return _with_labels(_found(streams, begin_ms, end_ms, _COLUMNS, _COUNTED, labelled=True))


def heard_by_on_air(streams: Sequence[Stream], where: str, values: Sequence[Any]) -> HeardBy:
    """The same of the airings ``a`` that the SQL condition ``where`` names."""
    return _with_labels(
        [
            _later(_sessions_on_air(ids, delay_ms, _COLUMNS, where, values, labelled=True), -delay_ms)
            for delay_ms, ids in _by_delay(streams).items()
        ]
    )


def _with_labels(found: Sequence[_Sessions]) -> HeardBy:
    made, _ = _as_heard(found, _COLUMNS)
    told = [*itertools.chain.from_iterable(some.labels for some in found)]
    places = {label: place for place, label in enumerate(dict.fromkeys(told))}
    return HeardBy(
        heard=made,
        label=np.fromiter(map(places.__getitem__, told), dtype=np.int64, count=len(told)),
        labels=[_label(one) for one in places],
    )


def heard_for_long(streams: Sequence[Stream], begin_ms: int, end_ms: int) -> Heard:
    """Of what was heard of ``[begin_ms, end_ms)``, the sessions of more than four hours and those that are open."""
    found = [
        _later(_long_sessions(ids, begin_ms + delay_ms, end_ms + delay_ms), -delay_ms)
        for delay_ms, ids in _by_delay(streams).items()
    ]
    return _as_heard(found, _COLUMNS)[0]


def heard_on_air(streams: Sequence[Stream], where: str, values: Sequence[Any]) -> Heard:
    """What was heard of the airings ``a`` that the SQL condition ``where`` names, with what was sent."""
    columns = (*_COLUMNS, *_AMOUNTS)
    found = [
        _later(_sessions_on_air(ids, delay_ms, columns, where, values), -delay_ms)
        for delay_ms, ids in _by_delay(streams).items()
    ]
    return _as_heard(found, columns)[0]


def heard_otherwise(streams: Sequence[Stream], begin_ms: int, end_ms: int, relabelled: Collection[int]) -> Heard:
    """What would be heard if these sessions, by id, counted where they do not, and did not where they do."""
    found, [ids, counts] = _heard(streams, begin_ms, end_ms, (*_COLUMNS, *_LABELS), _ALL)
    mask = (counts != 0) ^ np.isin(ids, list(relabelled))
    listening = found.listening.only(mask)
    open_starts = listening.started_ms[listening.is_open]
    return Heard(
        listening=listening,
        played_ms=found.played_ms[mask],
        open_since_ms=int(open_starts.min()) if len(open_starts) else None,
    )


def _heard(
    streams: Sequence[Stream], begin_ms: int, end_ms: int, columns: Sequence[str], which: str
) -> tuple[Heard, list[Ints]]:
    """What was heard, and beside it the columns after those of ``_COLUMNS``."""
    return _as_heard(_found(streams, begin_ms, end_ms, columns, which), columns)


def _found(
    streams: Sequence[Stream], begin_ms: int, end_ms: int, columns: Sequence[str], which: str, *, labelled: bool = False
) -> list[_Sessions]:
    """The sessions of the streams of each delay, in the studio's time."""
    return [
        _later(_sessions(ids, begin_ms + delay_ms, end_ms + delay_ms, columns, which, labelled=labelled), -delay_ms)
        for delay_ms, ids in _by_delay(streams).items()
    ]


def _as_heard(found: Sequence[_Sessions], columns: Sequence[str]) -> tuple[Heard, list[Ints]]:
    started, state, listener, *sent = np.concatenate([some.columns for some in found], axis=1)
    ended, open_mask = state >> _STATE_BITS, state & _IS_OPEN != 0
    part_starts, part_ends, part_session = _parts(
        started, ended, np.flatnonzero(state & _IS_SPLIT), [parts for some in found for parts in some.split]
    )
    bytes_sent, delivered_ms = sent if columns[len(_COLUMNS) :] == _AMOUNTS else (None, None)
    listening = Listening(
        part_started_ms=part_starts,
        part_ended_ms=part_ends,
        part_session=part_session,
        started_ms=started,
        ended_ms=ended,
        is_open=open_mask,
        listener=listener,
        bytes_sent=bytes_sent,
        delivered_ms=delivered_ms,
    )
    made = Heard(
        listening=listening,
        played_ms=metrics.played_ms(listening),
        open_since_ms=int(started[open_mask].min()) if open_mask.any() else None,
    )
    return made, sent


def together(some: Sequence[Heard]) -> Heard:
    """The sessions of all of them; ``some`` is not empty."""
    since = [one.open_since_ms for one in some if one.open_since_ms is not None]
    return Heard(
        listening=reduce(Listening.together, (one.listening for one in some)),
        played_ms=np.concatenate([one.played_ms for one in some]),
        open_since_ms=min(since, default=None),
    )


_APART = "\x1f"
"""Between the country, the app and the referrer of one session: neither first nor last holds it."""

_IS_OPEN, _IS_SPLIT, _STATE_BITS = 1, 2, 2
_COLUMNS = (
    "started",
    f"ended * {1 << _STATE_BITS} + CASE WHEN is_open THEN {_IS_OPEN} ELSE 0 END"
    f" + CASE WHEN parts IS NULL THEN 0 ELSE {_IS_SPLIT} END",
    "listener",
)
"""The last bits of the end tell how the session is, and the parts what was played: of thousands of rows, each costs."""

_AMOUNTS = ("COALESCE(bytes_sent, -1)", "COALESCE(delivered_ms, -1)")
"""-1 where a source does not tell."""

_LABELS = ("id", "CASE WHEN exclusion = '' THEN 1 ELSE 0 END")
_LABEL = f"country || '{_APART}' || app || '{_APART}' || COALESCE(referrer, '')"
_COUNTED, _ALL = " AND exclusion = ''", ""
"""Which sessions are read."""


class _Sessions(NamedTuple):
    """The columns that were asked for, the parts of each split session in their order, and everybody's label."""

    columns: Ints
    split: list[list[list[int]]]
    labels: Sequence[str] = ()


def _later(some: _Sessions, delay_ms: int) -> _Sessions:
    if delay_ms:
        some.columns[0] += delay_ms
        some.columns[1] += delay_ms << _STATE_BITS
    return some


def _label(told: str) -> Label:
    country, _, rest = told.partition(_APART)
    app, _, referrer = rest.rpartition(_APART)
    return Label(country, app, referrer)


def _sessions(
    stream_ids: Sequence[int], begin_ms: int, end_ms: int, columns: Sequence[str], which: str, *, labelled: bool
) -> _Sessions:
    """Sessions that meet ``[begin_ms, end_ms)`` and every open one that began before its end.

    Closed ones of up to four hours ended at most so long after the window
    (for a window that ended just now: nearly all are wanted), long ones have
    an index of their own, and so have the open ones. The plus keeps SQLite from
    reading all that ever started instead.
    """
    select = f"{_select(columns, labelled=labelled)} WHERE stream_id IN ({_marks(stream_ids)}){which} AND +started < %s"
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
    return _fetched(met, parameters, len(columns), labelled)


def _long_sessions(stream_ids: Sequence[int], begin_ms: int, end_ms: int) -> _Sessions:
    select = f"{_select(_COLUMNS)} WHERE stream_id IN ({_marks(stream_ids)}){_COUNTED} AND +started < %s"
    met = f"{select} AND ended > %s AND is_long AND NOT is_open UNION ALL {select} AND is_open"
    return _fetched(met, [*stream_ids, end_ms, begin_ms, *stream_ids, end_ms], len(_COLUMNS))


def _sessions_on_air(
    stream_ids: Sequence[int],
    delay_ms: int,
    columns: Sequence[str],
    where: str,
    values: Sequence[Any],
    *,
    labelled: bool = False,
) -> _Sessions:
    """As :func:`_sessions`, of every airing. A cross join is taken in the order of its words by SQLite."""
    met = (
        f"SELECT s.id FROM {rows.table(Airing)} a CROSS JOIN {rows.table(Session)} s"
        f" WHERE ({where}) AND s.stream_id IN ({_marks(stream_ids)}) AND s.exclusion = '' AND +s.started < a.ended + %s"
    )
    ended = " AND s.ended > a.started + %s"
    each = (
        f"{met}{ended} AND s.ended < a.ended + %s AND NOT s.is_open AND NOT s.is_long"
        f" UNION {met}{ended} AND s.is_long AND NOT s.is_open"
        f" UNION {met} AND s.is_open"
    )
    given = [*values, *stream_ids, delay_ms]
    parameters = [*given, delay_ms, delay_ms + FOUR_HOURS_MS, *given, delay_ms, *given]
    return _fetched(f"{_select(columns, labelled=labelled)} WHERE id IN ({each})", parameters, len(columns), labelled)


def _select(columns: Sequence[str], *, labelled: bool = False) -> str:
    named = ", ".join(f"{column} AS c{place}" for place, column in enumerate(columns))
    return f"SELECT {named}{f', {_LABEL} AS label' if labelled else ''}, parts FROM {rows.table(Session)}"


def _marks(values: Sequence[Any]) -> str:
    return ",".join(["%s"] * len(values))


def _fetched(sql: str, parameters: Sequence[Any], width: int, labelled: bool = False) -> _Sessions:
    """Many rows in a few values: to read the rows themselves takes twice as long."""
    read = _from_postgresql if connection.vendor == "postgresql" else _from_sqlite
    return read(sql, parameters, [f"c{place}" for place in range(width)], labelled)


def _from_postgresql(met: str, parameters: Sequence[Any], names: Sequence[str], labelled: bool) -> _Sessions:
    """All numbers in one value, in network order."""
    [(packed, split, labels)] = rows.fetch(
        f"SELECT string_agg({' || '.join(f'int8send({name}::bigint)' for name in names)}, ''::bytea),"
        " (json_agg(parts) FILTER (WHERE parts IS NOT NULL))::text,"
        f" {'array_agg(label)' if labelled else 'NULL'} FROM ({met}) AS met",
        parameters,
    )
    found = np.frombuffer(packed or b"", dtype=">i8").reshape(-1, len(names)).T
    return _Sessions(found.astype(np.int64, order="C"), msgspec.json.decode(split or "[]"), labels or ())


def _from_sqlite(met: str, parameters: Sequence[Any], names: Sequence[str], labelled: bool) -> _Sessions:
    """The numbers of each column in one text."""
    [(*texts, split, labels)] = rows.fetch(
        f"SELECT {', '.join(f'group_concat({name})' for name in (*names, 'parts'))},"
        f" {'json_group_array(label)' if labelled else 'NULL'} FROM ({met}) AS met",
        parameters,
    )
    found = [np.fromstring(text or "", dtype=np.int64, sep=",") for text in texts]
    return _Sessions(np.stack(found), msgspec.json.decode(f"[{split or ''}]"), msgspec.json.decode(labels or "[]"))


def _by_delay(streams: Iterable[Stream]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for stream in streams:
        found[stream.delay_ms].append(stream.pk)
    return found


def _parts(
    starts: Ints, ends: Ints, split_at: Ints, split: Sequence[Sequence[Sequence[int]]]
) -> tuple[Ints, Ints, Ints]:
    """Starts, ends and session numbers of all parts: ``split`` are those of the sessions ``split_at``."""
    if not split:
        return starts, ends, np.arange(len(starts))
    offsets = np.array([pair for parts in split for pair in parts], dtype=np.int64)
    owner = np.repeat(split_at, [len(parts) for parts in split])
    whole = np.delete(np.arange(len(starts)), split_at)
    return (
        np.concatenate((starts[whole], starts[owner] + offsets[:, 0])),
        np.concatenate((ends[whole], starts[owner] + offsets[:, 1])),
        np.concatenate((whole, owner)),
    )


def covered(streams: Sequence[Stream], starts: Ints, ends: Ints) -> npt.NDArray[np.float64]:
    """Of each ``[starts, ends)`` (milliseconds), the share in which the streams were observed, 0 to 1: their mean.

    A stream that is switched off and was not observed in all that time is not asked.
    """
    begin_ms, end_ms = int(starts.min()), int(ends.max())
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
    return np.round(np.mean(shares, axis=0), 4) if shares else np.zeros(len(starts))


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
