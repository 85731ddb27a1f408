"""Sessions stitched anew from the sockets of the listeners that a report touched; what differs is written."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from ..fields import from_ms
from ..kernel import sessionize
from ..kernel.identity import household_key
from ..kernel.rulings import Facts, Rulings
from ..kernel.types import ConnectionSpan, SessionSpan
from ..models import LONG_SESSION_MS, Connection, Session, Stream
from . import rows
from .rulings import stored

MS = 1000

UNDECIDED_MS = 600 * MS
"""Up to this much played in one piece, whether a session counts under some rule-set may still
change, and with it all that it met: after ten minutes five lie within one clock quarter-hour
(nielsen5), whichever way its border cuts them."""

Who = tuple[int, int]
"""A stream's id and a listener's key."""

Window = tuple[int, int, int]
"""A stream's id, start and end in milliseconds: where figures became stale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stitched:
    """What stitching changed."""

    opened: int = 0
    changed: int = 0
    removed: int = 0
    windows: tuple[Window, ...] = ()


class Socket(NamedTuple):
    id: int
    session_id: int | None
    stream_id: int
    listener: int
    key: str
    started_ms: int
    seen_ms: int
    ended: bool
    country: str
    app: str
    exclusion: str
    rule: str
    source: str
    bytes_sent: int | None
    delivered_ms: int | None
    rendition: str | None
    switches: int | None
    referrer: str | None


class SessionRow(NamedTuple):
    """What a session's row holds, in the order of _FIELDS."""

    stream_id: int
    listener: int
    started_ms: int
    ended_ms: int
    played_ms: int
    parts: str | None  # JSON
    is_open: bool
    country: str
    app: str
    exclusion: str
    rule: str
    source: str
    told_exclusion: str | None = None  # what the sockets say, where a ruling says otherwise
    told_rule: str | None = None
    bytes_sent: int | None = None
    delivered_ms: int | None = None
    rendition: str | None = None
    switches: int | None = None
    referrer: str | None = None


_FIELDS = (
    "stream_id",
    "listener",
    "started",
    "ended",
    "played_ms",
    "parts",
    "is_open",
    "country",
    "app",
    "exclusion",
    "rule",
    "source",
    "told_exclusion",
    "told_rule",
    "bytes_sent",
    "delivered_ms",
    "rendition",
    "switches",
    "referrer",
)


def listeners(station_id: int, started_ms: int, ended_ms: int, *, at_once: int) -> Iterator[set[Who]]:
    """Those of a station whose sockets, as far as they are kept, touch the stretch: ``at_once`` of them at a time."""
    streams = list(Stream.objects.of(station_id).values_list("pk", flat=True))
    heard = Connection.objects.filter(stream__in=streams, started__lt=from_ms(ended_ms), seen__gte=from_ms(started_ms))
    found = sorted(set(heard.values_list("stream_id", "listener")))
    for first in range(0, len(found), at_once):
        yield set(found[first : first + at_once])


def restitch(touched: Collection[Who], *, gap_ms: int) -> Stitched:
    """Brings the sessions of ``touched`` in line with their sockets; says what changed.

    A session keeps its row as long as one of its sockets does. Sessions whose
    sockets were pruned are settled and not looked at.
    """
    if not touched:
        return Stitched()
    plan = _plan(touched, gap_ms)
    _write(plan)
    return plan.outcome


def differing(touched: Collection[Who], *, gap_ms: int) -> tuple[int, int]:
    """How many sessions the sockets of ``touched`` make, and how many are stored otherwise. Nothing is written."""
    plan = _plan(touched, gap_ms)
    return plan.wanted, plan.outcome.opened + plan.outcome.changed + plan.outcome.removed


def _plan(touched: Collection[Who], gap_ms: int) -> _Plan:
    sockets = _sockets(touched)
    wanted = _ruled([(row, group) for some in sockets.values() for row, group in sessions_of(some, gap_ms)])
    return _compared(wanted, _known({one.session_id for some in sockets.values() for one in some if one.session_id}))


def _sockets(touched: Collection[Who]) -> dict[Who, list[Socket]]:
    found: dict[Who, list[Socket]] = defaultdict(list)
    for row in rows.fetch_in(
        "SELECT id, session_id, stream_id, listener, key, started, seen, ended, country, app, exclusion,"
        " rule, source, bytes_sent, delivered_ms, rendition, switches, referrer"
        f" FROM {rows.table(Connection)} WHERE listener IN ({{values}})",
        [],
        {listener for _, listener in touched},
    ):
        who = (row[2], row[3])
        if who in touched:
            found[who].append(Socket._make(row))
    return found


def sessions_of(sockets: Sequence[Socket], gap_ms: int) -> Iterable[tuple[SessionRow, list[Socket]]]:
    """The sessions of one listener on one stream, each with its sockets, first one first."""
    if len(sockets) == 1 and sockets[0].seen_ms > sockets[0].started_ms:
        one = sockets[0]  # nearly always, and there is nothing to stitch
        yield _row([one], (one.started_ms, one.seen_ms), one.seen_ms - one.started_ms, None, not one.ended, 0), [one]
        return
    by_key = {f"{one.key}\0{one.source}": one for one in sockets}
    spans = sessionize.stitch(
        [
            ConnectionSpan(key=key, started_ms=one.started_ms, seen_ms=one.seen_ms, is_open=not one.ended)
            for key, one in by_key.items()
        ],
        gap_ms=gap_ms,
    )
    for span in spans:
        group = sorted((by_key[key] for key in span.keys), key=lambda one: (one.started_ms, one.key))
        hull = (span.started_ms, span.ended_ms)
        yield _row(group, hull, span.played_ms, _parts(span), span.is_open, span.lane), group


def _row(
    group: Sequence[Socket], hull: tuple[int, int], played_ms: int, parts: str | None, is_open: bool, lane: int
) -> SessionRow:
    first = group[0]
    return SessionRow(
        stream_id=first.stream_id,
        listener=household_key(first.listener, lane),
        started_ms=hull[0],
        ended_ms=hull[1],
        played_ms=played_ms,
        parts=parts,
        is_open=is_open,
        country=first.country,
        app=first.app,
        exclusion=first.exclusion,
        rule=first.rule,
        source=first.source,
        bytes_sent=_sum(one.bytes_sent for one in group),
        delivered_ms=_sum(one.delivered_ms for one in group),
        rendition=_rendition(group),
        switches=_switches(group),
        referrer=next((one.referrer for one in group if one.referrer is not None), None),
    )


def _sum(told: Iterable[int | None]) -> int | None:
    """The sum of what was told; None where nothing was."""
    known = [one for one in told if one is not None]
    return sum(known) if known else None


def _rendition(group: Sequence[Socket]) -> str | None:
    """The rendition of which most was sent."""
    sent: dict[str, int] = defaultdict(int)
    for one in group:
        if one.rendition is not None:
            sent[one.rendition] += one.delivered_ms or 0
    return min(sent, key=lambda name: (-sent[name], name), default=None)


def _switches(group: Sequence[Socket]) -> int | None:
    """The changes within the sockets, and those from one to the next."""
    within = _sum(one.switches for one in group)
    if within is None:
        return None
    names = [one.rendition for one in group if one.rendition is not None]
    return within + sum(name != other for name, other in pairwise(names))


def _ruled(wanted: Sequence[tuple[SessionRow, list[Socket]]]) -> list[tuple[SessionRow, list[Socket]]]:
    """The same with the labels that rulings give them."""
    standing = stored(since_ms=min((row.started_ms for row, _ in wanted), default=0))
    if not standing:
        return list(wanted)
    return [(_labelled(row, standing), group) for row, group in wanted]


def _labelled(row: SessionRow, standing: Rulings) -> SessionRow:
    label = standing.label(
        Facts(
            stream_id=row.stream_id,
            source=row.source,
            exclusion=row.exclusion,
            rule=row.rule,
            app=row.app,
            listener=row.listener,
            started_ms=row.started_ms,
            ended_ms=row.ended_ms,
            is_open=row.is_open,
        )
    )
    if label is None:
        return row
    return row._replace(exclusion=label[0], rule=label[1], told_exclusion=row.exclusion, told_rule=row.rule)


def _parts(span: SessionSpan) -> str | None:
    if len(span.parts) == 1:
        return None
    return json.dumps([[start - span.started_ms, end - span.started_ms] for start, end in span.parts])


def _known(ids: Collection[int]) -> dict[int, SessionRow]:
    found = {}
    for id_, *columns in rows.fetch_in(
        f"SELECT id, {', '.join(_FIELDS)} FROM {rows.table(Session)} WHERE id IN ({{values}})", [], ids
    ):
        columns[6] = bool(columns[6])  # SQLite has no booleans
        found[id_] = SessionRow._make(columns)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What has to be written so that sessions are as wanted."""

    wanted: int
    known: dict[int, SessionRow]
    changed: list[tuple[int, SessionRow]]
    new: list[tuple[SessionRow, list[Socket]]]
    moved: list[tuple[int, int]]  # session id, socket id
    gone: list[int]
    windows: list[Window]

    @property
    def outcome(self) -> Stitched:
        return Stitched(
            opened=len(self.new), changed=len(self.changed), removed=len(self.gone), windows=tuple(self.windows)
        )


def _compared(wanted: Sequence[tuple[SessionRow, list[Socket]]], known: dict[int, SessionRow]) -> _Plan:
    free = set(known)
    changed: list[tuple[int, SessionRow]] = []
    new: list[tuple[SessionRow, list[Socket]]] = []
    moved: list[tuple[int, int]] = []
    windows: list[Window] = []
    for row, group in wanted:
        own = min((one.session_id for one in group if one.session_id in free), default=None)
        if own is None:
            new.append((row, group))
            windows.append((row.stream_id, row.started_ms - 1, row.ended_ms + 1))
            continue
        free.discard(own)
        moved += [(own, one.id) for one in group if one.session_id != own]
        if row != known[own]:
            changed.append((own, row))
            windows += _stale(known[own], row)
    windows += [(known[id_].stream_id, known[id_].started_ms - 1, known[id_].ended_ms + 1) for id_ in free]
    return _Plan(
        wanted=len(wanted), known=known, changed=changed, new=new, moved=moved, gone=sorted(free), windows=windows
    )


def _write(plan: _Plan) -> None:
    _update(plan.changed, plan.known)
    moved = [*plan.moved, *create(plan.new)]
    rows.change_each(f"UPDATE {rows.table(Connection)} SET session_id = %s WHERE id = %s", moved)
    rows.change_in(f"DELETE FROM {rows.table(Session)} WHERE id IN ({{values}})", [], plan.gone)


_GROWING: dict[str, Any] = {
    "ended_ms": 0,
    "played_ms": 0,
    "is_open": False,
    "bytes_sent": None,
    "delivered_ms": None,
    "rendition": None,
    "switches": None,
}
"""What differs where a session only goes on."""


def _stale(old: SessionRow, new: SessionRow) -> list[Window]:
    """Where the figures change when ``old`` becomes ``new``.

    A session that only goes on, or closes, changes nothing that lies before
    its old end; one millisecond more, since an airing may end there.
    """
    same = old._replace(**_GROWING) == new._replace(**_GROWING)
    if same and min(old.played_ms, new.played_ms) > UNDECIDED_MS:
        ends = (old.ended_ms, new.ended_ms)
        return [(new.stream_id, min(ends) - 1, max(ends) + 1)]
    return [
        (row.stream_id, row.started_ms - 1, row.ended_ms + 1)
        for row in (old, new._replace(ended_ms=max(old.ended_ms, new.ended_ms)))
    ]


def _update(changed: Sequence[tuple[int, SessionRow]], known: dict[int, SessionRow]) -> None:
    """Writes the changed rows: those that only go on to one instant in one statement."""
    name = rows.table(Session)
    going_on: dict[int, list[int]] = defaultdict(list)
    rest = []
    for id_, row in changed:
        old = known[id_]
        if row.parts is None and row == old._replace(ended_ms=row.ended_ms, played_ms=row.played_ms):
            going_on[row.ended_ms].append(id_)
        else:
            rest.append((id_, row))
    for ended_ms, ids in going_on.items():
        rows.change_in(
            f"UPDATE {name} SET ended = %s, played_ms = %s - started, is_long = (%s - started > {LONG_SESSION_MS})"
            " WHERE id IN ({values})",
            [ended_ms, ended_ms, ended_ms],
            ids,
        )
    rows.change_each(
        f"UPDATE {name} SET {', '.join(f'{one} = %s' for one in _FIELDS)}, is_long = %s WHERE id = %s",
        [(*row, row.ended_ms - row.started_ms > LONG_SESSION_MS, id_) for id_, row in rest],
    )


def create(new: Sequence[tuple[SessionRow, list[Socket]]]) -> list[tuple[int, int]]:
    """Stores new sessions; pairs of session id and socket id."""
    stored = rows.insert_numbered(
        Session,
        (*_FIELDS, "is_long"),
        [(*row, row.ended_ms - row.started_ms > LONG_SESSION_MS) for row, _ in new],
        ("stream_id", "listener", "started", "ended"),
    )
    ids: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for id_, *told in stored:  # in any order
        ids[tuple(told)].append(id_)
    return [
        (id_, one.id)
        for row, group in new
        for id_ in [ids[row.stream_id, row.listener, row.started_ms, row.ended_ms].pop()]
        for one in group
    ]
