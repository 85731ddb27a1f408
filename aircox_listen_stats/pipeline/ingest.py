"""A report becomes rows, in one transaction, a long list in several; sent twice or out of order, the rows are the same.

How two tellings of one socket meet
    The same source, the server's number of the socket, and starts at most
    SAME_START_MS apart: a poll counts whole seconds, a callback is stamped
    when it arrives, an access log rounds down. The smallest start is kept.
What ends a socket
    An end that the server told (a callback, a log line) is final; of several
    the first counts, and a later sighting changes nothing. Without one, a
    census that no longer shows the socket ends it at its last sighting, and a
    later sighting opens it again. A socket is thus a function of the *set* of
    what was told about it.
Who it is
    An ear that knows the listener's address wins over one that sees our own
    proxy's, whichever was first.
What is never done
    Counting up. The sessions of every listener touched are stitched anew from
    that listener's sockets, and what differs is written.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import connection, transaction
from django.db.models import F

from .. import conf
from ..fields import from_ms, to_ms
from ..kernel import calendar
from ..kernel.referrers import better
from ..kernel.types import ListenerMark, Observation, Why
from ..models import Connection, Inbox, PeriodKey, PeriodSecret, SourceState, StaleWindow, Stream
from ..querysets import NO_STATION
from ..sources.base import Census, Heard, Report
from . import causes, households, lease, recognise, rows, secrets, stitching, streams
from .coverage import extend_coverage

log = logging.getLogger(__name__)

MS = 1000

SAME_START_MS = 3 * MS
"""Two tellings of one socket agree on its start to the second; one more for clocks, one for
a slow callback."""

CENSUS_GRACE_MS = 1 * MS
"""Icecast announces a listener before it lists it (0.1 s were seen)."""

CLOCK_TOLERANCE_MS = 60 * MS
"""What was heard later than this from now was heard by a clock that was wrong."""

LISTED_AT_ONCE = 500
"""Sockets of a list that are stored in one transaction, for which aircox's Monitor waits on SQLite: a tenth of a
second where all are new."""

BREATH = 0.25
"""Of a transaction's time, how long SQLite is left to others before the next one: SQLite lets nobody queue."""

Who = stitching.Who


@dataclass(slots=True, kw_only=True)
class Socket:
    """A row of Connection, as it is being put together."""

    id: int | None
    key: str
    client: str
    stream_id: int
    listener: int
    started_ms: int
    seen_ms: int
    ended: bool
    told: bool
    bytes_sent: int | None
    delivered_ms: int | None = None
    rendition: str | None = None
    switches: int | None = None
    referrer: str | None = None
    identity_known: bool = True
    country: str = ""
    app: str = ""
    exclusion: str = ""
    rule: str = ""
    changed: bool = False
    only_seen: bool = True  # nothing changed but the last sighting

    @property
    def who(self) -> Who:
        return self.stream_id, self.listener

    def deliver(self, one: Observation) -> None:
        """Takes what was sent so far; sums that were told before are no smaller for being told again."""
        if one.bytes_sent is not None:
            self.bytes_sent = max(self.bytes_sent or 0, one.bytes_sent)
        if one.switches is not None:
            self.switches = max(self.switches or 0, one.switches)
        if one.delivered_ms is not None and one.delivered_ms >= (self.delivered_ms or 0):
            self.delivered_ms = one.delivered_ms
            self.rendition = one.rendition or self.rendition
        self.referrer = better(self.referrer, one.referrer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What a report changed."""

    connections_new: int = 0
    connections_changed: int = 0
    connections_ended: int = 0
    unknown_streams: int = 0  # observations of a stream that no setting names
    sessions: stitching.Stitched = field(default_factory=stitching.Stitched)
    stations: frozenset[int] = frozenset()  # whose figures are stale
    more: bool = False  # of a transaction: a census has ended more sockets than one may write
    seconds: float = 0.0  # that the transactions took


def store(report: Report, *, now_ms: int, join_ms: int = 30 * MS) -> Ingested:
    """What ``report`` changed. Everything is committed, cursor included, or nothing is; but for a long list.

    A list of more than LISTED_AT_ONCE sockets is stored in several
    transactions: first that these are there, and with the last of them, and
    only then, that others are not, of whom so many are ended at once. After a
    crash between two of them the next list names who is there again, and the
    census that is stored ends the others.

    ``join_ms``: observed stretches no further apart run together (two
    intervals of the source).
    """
    _recognise(report, now_ms)
    *some, last = _pieces(report)
    done = []
    for piece in some:
        done.append(_store(piece, now_ms, join_ms, is_last=False))
        _breathe(done[-1])
    done.append(_store(last, now_ms, join_ms, is_last=True))
    while done[-1].more:
        _breathe(done[-1])
        done.append(_store(Report(source=report.source), now_ms, join_ms, is_last=True))
    return _together(done)


def _store(report: Report, now_ms: int, join_ms: int, *, is_last: bool) -> Ingested:
    began = time.monotonic()
    with transaction.atomic():
        lease.ensure()
        state = _locked_state(report.source)
        done = _Ingest(report, state, streams.by_slug(), now_ms, is_last=is_last).run(join_ms)
    return replace(done, seconds=time.monotonic() - began)


def _breathe(done: Ingested) -> None:
    if connection.vendor == "sqlite":
        time.sleep(done.seconds * BREATH)


def _pieces(report: Report) -> list[Report]:
    """The report in pieces that each may be stored alone; the last one has all but the earlier ones' sockets."""
    told, census = report.observations, report.census
    is_list = census is not None and not census.by_silence and all(one.client is not None for one in told)
    if not is_list or len(told) <= LISTED_AT_ONCE:
        return [report]
    assert census is not None
    pieces = [told[first : first + LISTED_AT_ONCE] for first in range(0, len(told), LISTED_AT_ONCE)]
    # Of the census the server's run alone: it says whose numbers these are.
    run = replace(census, streams=frozenset())
    return [
        *(Report(source=report.source, observations=some, census=run) for some in pieces[:-1]),
        replace(report, observations=pieces[-1]),
    ]


def _together(done: Sequence[Ingested]) -> Ingested:
    def total(name: str, of: Sequence[Any] = done) -> Any:
        return sum(getattr(one, name) for one in of)

    stitched = [one.sessions for one in done]
    return Ingested(
        connections_new=total("connections_new"),
        connections_changed=total("connections_changed"),
        connections_ended=total("connections_ended"),
        unknown_streams=total("unknown_streams"),
        sessions=stitching.Stitched(
            opened=total("opened", stitched),
            changed=total("changed", stitched),
            removed=total("removed", stitched),
            windows=tuple(window for one in stitched for window in one.windows),
        ),
        stations=frozenset().union(*(one.stations for one in done)),
        seconds=total("seconds"),
    )


def _recognise(report: Report, now_ms: int) -> None:
    """Makes the marks of whoever may be new, which are then remembered, before the write lock is taken.

    The period's secret is stored here too: one of a transaction that is
    rolled back would be known to this process alone.
    """
    known = secrets.current(now_ms)
    unmarked = [one for one in report.observations if one.address is not None]
    if not unmarked:
        return
    is_open = {
        client
        for (client,) in rows.fetch(
            f"SELECT client FROM {rows.table(Connection)} WHERE source = %s AND NOT ended AND identity_known",
            [report.source],
        )
    }
    for one in unmarked:
        if one.address is not None and (one.client is None or one.client not in is_open):
            recognise.mark(one.address, known, one.stream)


def _locked_state(source: str) -> SourceState:
    # Write first: a transaction of SQLite that reads first could find, when it comes to
    # write, that another one wrote meanwhile, and would fail instead of waiting.
    if not SourceState.objects.filter(pk=source).update(source=source):
        SourceState.objects.bulk_create([SourceState(source=source)], ignore_conflicts=True)
        SourceState.objects.filter(pk=source).update(source=source)
    return SourceState.objects.get(pk=source)


def wait_for_reports() -> None:
    """Keeps reports out until the transaction ends; to be called first in one that reads and writes sessions.

    What a report stored after we read, we would undo. And SQLite refuses a
    transaction that reads, and then finds another's writing when it writes.
    """
    SourceState.objects.update(failures=F("failures"))


class _Ingest:
    """One report on its way into the tables, or a piece of one, which is not the last."""

    def __init__(
        self, report: Report, state: SourceState, known: Mapping[str, Stream], now_ms: int, *, is_last: bool
    ) -> None:
        self.report = report
        self.is_last = is_last
        self.ended_by_census = 0
        self.more = False
        self.state = state
        self.streams = known
        self.slugs = {stream.pk: stream.slug for stream in known.values()}
        self.now_ms = now_ms
        self.gap_ms = conf.get().rules().gap_seconds * MS
        self.touched: set[Who] = set()
        self.behind_proxy = 0  # new sockets of which only our own proxy's address is known
        self.periods: dict[tuple[str, int, int], int] = {}  # by kind, start and listener: the key in that week or month
        self.named: list[tuple[Socket, Observation]] = []  # known better than before: by an ear that sees the listener

    def run(self, join_ms: int) -> Ingested:
        told = [one for one in self.report.observations if one.stream in self.streams]
        self._note_census()
        sockets, new = self._meet(told)
        for socket in sockets:
            self._conclude(socket)
        changed = [one for one in sockets if one.changed and one.id is not None]
        ended = sum(one.ended for one in [*changed, *new])
        self._write(changed, new)
        self._keep_period_keys()
        stitched = stitching.restitch(self.touched, gap_ms=self.gap_ms)
        heard = [one for one in self.report.heard if one.stream in self.streams]
        fresh = self._cover(heard, join_ms)
        stations = mark_stale_windows([*stitched.windows, *fresh])
        if self.is_last:
            self._finish(heard)
        else:
            self.state.save()
        return Ingested(
            connections_new=len(new),
            connections_changed=len(changed),
            connections_ended=ended,
            unknown_streams=len(self.report.observations) - len(told),
            sessions=stitched,
            stations=stations,
            more=self.more,
        )

    # Meeting ----------------------------------------------------------------

    def _meet(self, told: Sequence[Observation]) -> tuple[list[Socket], list[Socket]]:
        """All sockets that the report is about or that its census may end; the new ones again."""
        open_ones = self._open_ones(told)
        by_client: dict[str, list[Socket]] = defaultdict(list)
        for one in open_ones:
            by_client[one.client].append(one)
        sockets = {one.id: one for one in open_ones}
        unmet = {
            one.client
            for one in told
            if one.client is not None and _match(by_client[one.client], one, self.state.census.get("*", 0)) is None
        }
        for one in _sockets_in("source = %s AND client IN ({values})", [self.report.source], unmet):
            if one.id not in sockets:
                sockets[one.id] = one
                by_client[one.client].append(one)
        new: list[Socket] = []
        unmarked: list[Observation] = []
        lines: list[Observation] = []
        for one in told:
            if one.client is None:
                lines.append(one)
            elif (socket := _match(by_client[one.client], one, self.state.census.get("*", 0))) is not None:
                self._merge(socket, one)
            else:
                unmarked.append(one)
        keyed = self._new_lines(lines, sockets)
        self._open(sorted(unmarked, key=_by_start), by_client, new)
        self._name()
        new += keyed
        return [*sockets.values(), *new], new

    def _open_ones(self, told: Sequence[Observation]) -> list[Socket]:
        """The open sockets; before the last piece, which alone ends anybody, those that are told of."""
        where, source = "source = %s AND NOT ended", [self.report.source]
        if self.is_last:
            return _sockets(where, source)
        return _sockets_in(f"{where} AND client IN ({{values}})", source, {one.client for one in told})

    def _open(
        self,
        unmet: Sequence[Observation],
        by_client: dict[str, list[Socket]],
        new: list[Socket],
    ) -> None:
        marks = self._marks(unmet)
        listeners = self._listeners(unmet, marks)
        for one, mark, listener in zip(unmet, marks, listeners, strict=True):
            assert one.client is not None
            socket = _match(by_client[one.client], one, self.state.census.get("*", 0))
            if socket is not None:  # told twice in this report
                self._merge(socket, one)
                continue
            socket = self._socket(f"{one.client}@{one.started_ms}", one, mark, listener)
            by_client[one.client].append(socket)
            new.append(socket)

    def _new_lines(self, lines: Sequence[Observation], sockets: dict[int | None, Socket]) -> list[Socket]:
        """Sockets without a number: each line is one, named by what it says.

        Lines that say the same are told apart by their order in the report.
        """
        marks = self._marks(lines)
        listeners = self._listeners(lines, marks)
        seen_before: dict[str, int] = defaultdict(int)
        made: dict[str, Socket] = {}
        for one, mark, listener in zip(lines, marks, listeners, strict=True):
            name = f"{mark.listener:x}.{one.started_ms:x}.{one.seen_ms:x}"
            key = f"{name}.{seen_before[name]}"
            seen_before[name] += 1
            made[key] = self._socket(key, one, mark, listener)
        known = {
            key
            for (key,) in rows.fetch_in(
                f"SELECT key FROM {rows.table(Connection)} WHERE source = %s AND key IN ({{values}})",
                [self.report.source],
                made,
            )
        }
        return [socket for key, socket in made.items() if key not in known]

    def _socket(self, key: str, one: Observation, mark: ListenerMark, listener: int) -> Socket:
        socket = Socket(
            id=None,
            key=key,
            client=one.client or "",
            stream_id=self.streams[one.stream].pk,
            listener=listener,
            started_ms=one.started_ms,
            seen_ms=max(one.seen_ms, one.started_ms),
            ended=one.ended,
            told=one.ended,
            bytes_sent=one.bytes_sent,
            delivered_ms=one.delivered_ms,
            rendition=one.rendition or None,
            switches=one.switches,
            referrer=one.referrer,
            identity_known=one.identity_known,
            country=mark.country,
            app=mark.app,
            exclusion=mark.exclusion,
            rule=mark.rule,
            changed=True,
            only_seen=False,
        )
        self.touched.add(socket.who)
        self.behind_proxy += not one.identity_known
        self._note_periods(listener, mark)
        return socket

    def _merge(self, socket: Socket, one: Observation) -> None:
        """Takes what ``one`` tells about a socket that is known already."""
        if one.identity_known and not socket.identity_known:
            socket.identity_known = True
            self.named.append((socket, one))
        elif one.identity_known and one.address is not None:
            households.remember(one.address, socket.listener)
        before = _state(socket)
        if one.start_known and one.started_ms < socket.started_ms:
            socket.started_ms = one.started_ms
            socket.key = f"{socket.client}@{one.started_ms}"
        if self.report.census is None and self.streams[one.stream].pk != socket.stream_id:
            # Icecast's list names the mount where a listener was moved to, all else where it came in.
            self.touched.add(socket.who)
            socket.stream_id = self.streams[one.stream].pk
        if one.ended:
            end_ms = min(socket.seen_ms, one.seen_ms) if socket.told else one.seen_ms
            socket.seen_ms = max(end_ms, socket.started_ms)
            socket.told = True
        elif not socket.told:
            if socket.seen_ms > self.now_ms + CLOCK_TOLERANCE_MS:
                socket.seen_ms = one.seen_ms
            socket.seen_ms = max(socket.seen_ms, one.seen_ms, socket.started_ms)
        socket.deliver(one)
        after = _state(socket)
        if before != after:
            socket.changed = True
            socket.only_seen = socket.only_seen and before[1:] == after[1:]

    # The census ---------------------------------------------------------------

    def _note_census(self) -> None:
        """When all sockets of each stream were last seen; '*' is the server's last restart."""
        census = self.report.census
        if census is None:
            return
        marks: dict[str, int] = self.state.census
        latest_ms = max(marks.values(), default=0)
        if latest_ms > self.now_ms + CLOCK_TOLERANCE_MS:
            log.warning("The clock went back: what %s saw later than now is forgotten.", self.report.source)
            marks.clear()
            latest_ms = 0
        if census.at_ms >= latest_ms and census.server:
            if self.state.server and self.state.server != census.server:
                marks["*"] = census.at_ms
            self.state.server = census.server
        for slug in census.streams:
            marks[slug] = max(marks.get(slug, 0), census.at_ms)

    def _conclude(self, socket: Socket) -> None:
        """Is the socket still open, by all that was told and seen so far?"""
        marks = self.state.census
        slug = self.slugs[socket.stream_id]
        census_ms = max(marks.get(slug, 0), marks.get("*", 0))
        grace_ms = CENSUS_GRACE_MS if socket.seen_ms == socket.started_ms else 0
        in_future = socket.seen_ms > self.now_ms + CLOCK_TOLERANCE_MS
        ended = (
            socket.told or census_ms > socket.seen_ms + grace_ms or (in_future and census_ms > 0 and not socket.changed)
        )
        if ended != socket.ended and not socket.changed:
            if self.ended_by_census == LISTED_AT_ONCE:
                self.more = True  # and is found again: what ends a socket is stored
                return
            self.ended_by_census += 1
        if ended != socket.ended:
            socket.ended = ended
            socket.changed = True
            socket.only_seen = False
        if socket.changed:
            self.touched.add(socket.who)

    # Identity -------------------------------------------------------------------

    def _marks(self, told: Sequence[Observation]) -> list[ListenerMark]:
        """The address of each ends here."""
        marks = []
        for one in told:
            if one.mark is not None:
                marks.append(one.mark)
            elif one.address is not None:
                marks.append(households.mark(one.address, secrets.current(self.now_ms), one.stream))
            else:
                raise ValueError(
                    f"An observation of stream {one.stream!r} by {self.report.source!r} has neither "
                    "address nor mark; a source must give exactly one of them."
                )
        return marks

    def _name(self) -> None:
        """Gives sockets of which only our proxy's address was known to their listeners."""
        told = [one for _, one in self.named]
        marks = self._marks(told)
        for (socket, _), mark, listener in zip(self.named, marks, self._listeners(told, marks), strict=True):
            self.touched.add(socket.who)
            socket.listener = listener
            self._note_periods(listener, mark)
            socket.country, socket.app = mark.country, mark.app
            socket.exclusion, socket.rule = mark.exclusion, mark.rule
            socket.changed = True
            socket.only_seen = False
        self.behind_proxy -= len(self.named)

    def _listeners(self, told: Sequence[Observation], marks: Sequence[ListenerMark]) -> list[int]:
        """The key of each: the previous period's, while its session goes on."""
        before = {mark.previous for mark in marks if mark.previous is not None}
        if not before:
            return [mark.listener for mark in marks]
        heard = self._heard_under(before, since_ms=min(one.started_ms for one in told) - self.gap_ms)
        order = sorted(range(len(told)), key=lambda index: _by_start(told[index]))
        chosen = [mark.listener for mark in marks]
        for index in order:
            one, mark = told[index], marks[index]
            if mark.previous is None:  # told of the period before, in one report with this one's
                heard[self.streams[one.stream].pk, mark.listener].append((one.started_ms, one.seen_ms))
                continue
            who = (self.streams[one.stream].pk, mark.previous)
            if any(
                seen_ms >= one.started_ms - self.gap_ms and started_ms <= one.seen_ms + self.gap_ms
                for started_ms, seen_ms in heard[who]
            ):
                chosen[index] = mark.previous
                heard[who].append((one.started_ms, one.seen_ms))
        return chosen

    def _note_periods(self, listener: int, mark: ListenerMark) -> None:
        for kind, started_ms, key in mark.periods:
            self.periods.setdefault((kind, started_ms, listener), key)

    def _keep_period_keys(self) -> None:
        """Only of weeks and months whose secret still lives: a callback that waited long must not outlive it."""
        if not self.periods:
            return
        settings = conf.get()
        day_ms = calendar.broadcast_day_start(self.now_ms, settings.zone, settings.broadcast_day_start)
        alive = {(kind, to_ms(started)) for kind, started in PeriodSecret.objects.values_list("kind", "started")}
        made = [
            (kind, began, listener, key, day_ms)
            for (kind, began, listener), key in self.periods.items()
            if (kind, began) in alive
        ]
        rows.insert(PeriodKey, ("kind", "started", "listener", "key", "day"), made, ignore_conflicts=True)

    def _heard_under(self, listeners: set[int], *, since_ms: int) -> dict[Who, list[tuple[int, int]]]:
        found: dict[Who, list[tuple[int, int]]] = defaultdict(list)
        for stream_id, listener, started_ms, seen_ms in rows.fetch_in(
            f"SELECT stream_id, listener, started, seen FROM {rows.table(Connection)}"
            " WHERE seen >= %s AND listener IN ({values})",
            [since_ms],
            listeners,
        ):
            found[stream_id, listener].append((started_ms, seen_ms))
        return found

    # Writing --------------------------------------------------------------------

    def _write(self, changed: Sequence[Socket], new: Sequence[Socket]) -> None:
        only_seen: dict[int, list[int | None]] = defaultdict(list)
        rest = []
        for one in changed:
            if one.only_seen:
                only_seen[one.seen_ms].append(one.id)
            else:
                rest.append(one)
        name = rows.table(Connection)
        for seen_ms, ids in only_seen.items():
            rows.change_in(f"UPDATE {name} SET seen = %s WHERE id IN ({{values}})", [seen_ms], ids)
        rows.change_each(
            f"UPDATE {name} SET key = %s, stream_id = %s, started = %s, seen = %s, ended = %s,"
            " told = %s, bytes_sent = %s, delivered_ms = %s, rendition = %s, switches = %s, referrer = %s"
            " WHERE id = %s",
            [
                (one.key, one.stream_id, one.started_ms, one.seen_ms, one.ended, one.told, *_sent(one), one.id)
                for one in rest
            ],
        )
        rows.change_each(
            f"UPDATE {name} SET listener = %s, identity_known = %s, country = %s, app = %s, exclusion = %s, rule = %s"
            " WHERE id = %s",
            [
                (one.listener, one.identity_known, one.country, one.app, one.exclusion, one.rule, one.id)
                for one, _ in self.named
                if one.id is not None
            ],
        )
        rows.insert(Connection, _INSERTED, [_inserted(self.report.source, one) for one in new])

    def _cover(self, heard: Sequence[Heard], join_ms: int) -> list[stitching.Window]:
        """Windows whose coverage changed otherwise than by going on.

        Totals are no sessions: an airing of that hour has no audience that is known, and must not show 0.
        """
        stretches = [(self.streams[one.stream].pk, one.started_ms, one.ended_ms) for one in heard]
        if self.report.totals is not None:
            extend_coverage(stretches, join_ms=join_ms, totals_only=True)
            return []
        return extend_coverage(stretches, join_ms=join_ms)

    def _finish(self, heard: Sequence[Heard]) -> None:
        state, report = self.state, self.report
        if report.cursor is not None:
            state.cursor = dict(report.cursor)
        if report.totals is not None:
            state.cursor = {**state.cursor, SourceState.TOTALS: dict(report.totals)}
        counts = dict(state.counts)
        for reason, count in report.counts.items():
            counts[reason] = counts.get(reason, 0) + count
        if self.behind_proxy:
            counts["identity_unknown"] = counts.get("identity_unknown", 0) + self.behind_proxy
        state.counts = counts
        latest_ms = max([one.ended_ms for one in heard] + _instants(report.census), default=None)
        if latest_ms is not None:
            known_ms = 0 if state.heard is None else _ms(state)
            if known_ms > self.now_ms + CLOCK_TOLERANCE_MS:
                known_ms = 0
            state.heard = from_ms(max(known_ms, latest_ms))
        state.succeeded = from_ms(self.now_ms)
        state.failures = 0
        state.error = ""
        state.save()
        if report.inbox_ids:
            rows.change_in(f"DELETE FROM {rows.table(Inbox)} WHERE id IN ({{values}})", [], report.inbox_ids)


def mark_stale_windows(windows: Iterable[stitching.Window], why: Why = Why.LATE) -> frozenset[int]:
    """Notes that the audiences of these windows must be computed again; the stations that they are of."""
    by_station = _by_station(windows, streams.by_slug())
    mark_stale(StaleWindow.AUDIENCE, by_station, why)
    return frozenset(by_station) - {NO_STATION}


def mark_stale(kind: str, windows: Mapping[int, Iterable[tuple[int, int]]], why: Why) -> None:
    """Notes that the figures of these windows, by station, must be computed again, and in whose name."""
    who = causes.who()
    StaleWindow.objects.bulk_create(
        StaleWindow(
            station_id=station_id, kind=kind, started=from_ms(start_ms), ended=from_ms(end_ms), why=why, who=who
        )
        for station_id, spans in windows.items()
        if station_id != NO_STATION
        for start_ms, end_ms in spans
    )


def _by_station(windows: Iterable[stitching.Window], known: Mapping[str, Stream]) -> dict[int, list[tuple[int, int]]]:
    """Per station, the windows in the studio's time, those that meet run together."""
    by_id = {stream.pk: stream for stream in known.values()}
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for stream_id, start_ms, end_ms in windows:
        stream = by_id[stream_id]
        spans[stream.station_id].append((start_ms - stream.delay_ms, end_ms - stream.delay_ms))
    return {station_id: run_together(some) for station_id, some in spans.items()}


def run_together(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of the spans, sorted and disjoint."""
    joined: list[tuple[int, int]] = []
    for start_ms, end_ms in sorted(spans):
        if joined and start_ms <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_ms))
        else:
            joined.append((start_ms, end_ms))
    return joined


def _match(candidates: Iterable[Socket], one: Observation, restarted_ms: int) -> Socket | None:
    """The socket that ``one`` tells of: the nearest start, the earlier of two as near.

    Numbers begin again when the server restarts (``restarted_ms``; 0: it did
    not): a socket that was sighted before is none that is seen after.
    """
    near = [
        socket
        for socket in candidates
        if ((not one.start_known and not socket.ended) or abs(socket.started_ms - one.started_ms) <= SAME_START_MS)
        and not (socket.started_ms < socket.seen_ms < restarted_ms <= one.seen_ms)
        and not (one.started_ms < one.seen_ms < restarted_ms <= socket.seen_ms)
    ]
    return min(near, key=lambda socket: (abs(socket.started_ms - one.started_ms), socket.started_ms), default=None)


def _by_start(one: Observation) -> tuple[int, int]:
    return one.started_ms, one.seen_ms


def _instants(census: Census | None) -> list[int]:
    return [] if census is None else [census.at_ms]


def _ms(state: SourceState) -> int:
    assert state.heard is not None
    return to_ms(state.heard)


def _sent(one: Socket) -> tuple[int | None, int | None, str | None, int | None, str | None]:
    return one.bytes_sent, one.delivered_ms, one.rendition, one.switches, one.referrer


def _state(one: Socket) -> tuple[object, ...]:
    """What an observation may change, the last sighting first."""
    return one.seen_ms, one.started_ms, one.told, one.stream_id, *_sent(one)


_COLUMNS = (
    "id, key, client, stream_id, listener, started, seen, ended, told, identity_known,"
    " bytes_sent, delivered_ms, rendition, switches, referrer"
)


def _sockets(where: str, parameters: Sequence[object]) -> list[Socket]:
    return _read(rows.fetch(f"SELECT {_COLUMNS} FROM {rows.table(Connection)} WHERE {where}", parameters))


def _sockets_in(where: str, before: Sequence[object], values: Iterable[object]) -> list[Socket]:
    sql = f"SELECT {_COLUMNS} FROM {rows.table(Connection)} WHERE {where}"
    return _read(rows.fetch_in(sql, before, values))


def _read(found: Iterable[tuple]) -> list[Socket]:
    return [
        Socket(
            id=id_,
            key=key,
            client=client,
            stream_id=stream_id,
            listener=listener,
            started_ms=started,
            seen_ms=seen,
            ended=bool(ended),
            told=bool(told),
            identity_known=bool(identity_known),
            bytes_sent=sent[0],
            delivered_ms=sent[1],
            rendition=sent[2],
            switches=sent[3],
            referrer=sent[4],
        )
        for id_, key, client, stream_id, listener, started, seen, ended, told, identity_known, *sent in found
    ]


_INSERTED = (
    *("source", "key", "client", "stream_id", "listener", "identity_known", "started", "seen", "ended", "told"),
    *("country", "app", "exclusion", "rule"),
    *("bytes_sent", "delivered_ms", "rendition", "switches", "referrer"),
)


def _inserted(source: str, one: Socket) -> tuple[object, ...]:
    """A new socket's columns, in the order of _INSERTED."""
    return (
        *(source, one.key, one.client, one.stream_id, one.listener, one.identity_known),
        *(one.started_ms, one.seen_ms, one.ended, one.told),
        *(one.country, one.app, one.exclusion, one.rule),
        *_sent(one),
    )
