"""How the collection itself is doing: for technicians."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from django.db.models import Count, Max, Min, Q, Sum

from ..conf import Settings
from ..fields import from_ms, to_ms
from ..models import (
    Audience,
    Connection,
    Inbox,
    Lease,
    Letter,
    LetterSubscription,
    LiveState,
    MonitorWatch,
    PlayerSession,
    SourceState,
    StaleWindow,
    Stream,
)
from ..querysets import NO_STATION
from . import observed
from .blurs import Reason, StreamBlur, now_of
from .figures import MS_PER_HOUR, share
from .observed import ObservedStream

WINDOW = dt.timedelta(hours=24)
"""How far back coverage is shown: a night's failure is still there in the morning."""

COLLECTOR_LEASE = "collector"
"""The row that the active collector keeps renewing; retention keeps its horizon in another one."""

LATE = dt.timedelta(minutes=3)
"""A source or the Monitor that was not heard of for longer is late: polls come every few seconds to a minute."""

WELL_COVERED = 0.99
"""Share of 24 hours; the rest is 14 minutes, one restart of a machine."""


class Health(StrEnum):
    """How a part is doing, best first. Off: it never ran, or is no longer configured."""

    WELL = "well"
    WARNING = "warning"
    OFF = "off"
    FAILING = "failing"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLine:
    """One ear."""

    name: str
    backend: str
    health: Health
    is_configured: bool
    heard: dt.datetime | None
    succeeded: dt.datetime | None
    failed: dt.datetime | None
    failures: int
    error: str
    counts: Mapping[str, Any]
    waiting: int  # callbacks that wait for the collector


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLine:
    """One stream over the last 24 hours. ``spans`` are its observed stretches, ``blurs`` say why its listeners
    cannot be told apart at the moment. ``is_total``: its source tells how many listen and nobody apart, ``total`` of
    them, None where that is not known."""

    slug: str
    title: str
    station_id: int
    source: str
    health: Health
    coverage: float
    open_connections: int
    spans: tuple[tuple[dt.datetime, dt.datetime], ...]
    blurs: tuple[StreamBlur, ...] = ()
    is_total: bool = False
    total: int | None = None
    is_counted: bool = True  # or is only compared with another stream

    @property
    def is_blurred(self) -> bool:
        """Whether there is something to be mended: what a source cannot do is no fault of the station's."""
        return any(one.why != Reason.SOURCE for one in self.blurs)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorLine:
    """The lease: ``health`` is off where no collector ever ran."""

    health: Health
    holder: str
    heartbeat: dt.datetime | None
    expires: dt.datetime | None
    progress: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorLine:
    """The heartbeat of the hook in aircox's Monitor, for one station."""

    station_id: int
    health: Health
    seen: dt.datetime
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLine:
    """When the live figures of one station were last published."""

    station_id: int
    health: Health
    published: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayersLine:
    """What web players told in the last 24 hours, whole sessions that ended in it; ``playing`` is now."""

    sessions: int
    live_hours: float
    on_demand_hours: float
    playing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LettersLine:
    """Letters to producers: how many want some, and what became of those of the last 24 hours and those not done."""

    health: Health
    subscriptions: int
    sent: int
    waiting: int
    oldest_waiting: dt.datetime | None
    dead: int
    doubtful: int
    error: str  # the newest


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingWork:
    """What the collector still has to compute."""

    stale_windows: int
    oldest_stale: dt.datetime | None
    provisional_airings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The whole collection at ``at``."""

    at: dt.datetime
    zone: str
    window_started: dt.datetime
    monitor_hook: bool
    collectors: tuple[CollectorLine, ...]
    sources: tuple[SourceLine, ...]
    streams: tuple[StreamLine, ...]
    monitors: tuple[MonitorLine, ...]
    live: tuple[LiveLine, ...]
    players: PlayersLine | None  # None where none is heard
    letters: LettersLine | None
    work: WaitingWork

    @property
    def has_totals(self) -> bool:
        return any(one.is_total for one in self.streams)

    @property
    def health(self) -> Health:
        """The worst of what should run."""
        lines = (*self.collectors, *self.sources, *self.streams, *self.monitors)
        return max((line.health for line in lines), key=list(Health).index)


def status(settings: Settings, *, now: dt.datetime) -> Status:
    """The state of every part of the collection."""
    return Status(
        at=now,
        zone=settings.zone.key,
        window_started=now - WINDOW,
        monitor_hook=settings.monitor_hook,
        collectors=_collectors(now),
        sources=_sources(settings, now),
        streams=_streams(now),
        monitors=_monitors(now),
        live=_live(settings, now),
        players=_players(now) if settings.player.enabled else None,
        letters=_letters(now) if settings.letters.enabled else None,
        work=_work(),
    )


def _collectors(now: dt.datetime) -> tuple[CollectorLine, ...]:
    lines = [
        CollectorLine(
            health=Health.WELL if lease.expires > now else Health.FAILING,
            holder=lease.holder,
            heartbeat=lease.heartbeat,
            expires=lease.expires,
            progress=lease.progress,
        )
        for lease in Lease.objects.filter(pk=COLLECTOR_LEASE)
    ]
    never = CollectorLine(health=Health.OFF, holder="", heartbeat=None, expires=None, progress={})
    return tuple(lines) or (never,)


def _sources(settings: Settings, now: dt.datetime) -> tuple[SourceLine, ...]:
    states = {state.source: state for state in SourceState.objects.all()}
    waiting = dict(Inbox.objects.order_by().values_list("source").annotate(Count("id")))
    return tuple(
        _source(name, states.get(name), settings, waiting.get(name, 0), now)
        for name in sorted({*settings.sources, *states})
    )


def _source(name: str, state: SourceState | None, settings: Settings, waiting: int, now: dt.datetime) -> SourceLine:
    configured = settings.sources.get(name)
    return SourceLine(
        name=name,
        backend=configured.backend if configured else "",
        health=_source_health(state, is_configured=configured is not None, now=now),
        is_configured=configured is not None,
        heard=state and state.heard,
        succeeded=state and state.succeeded,
        failed=state and state.failed,
        failures=state.failures if state else 0,
        error=state.error if state else "",
        counts=state.counts if state else {},
        waiting=waiting,
    )


def _source_health(state: SourceState | None, *, is_configured: bool, now: dt.datetime) -> Health:
    if not is_configured or state is None or (state.succeeded is None and state.failed is None):
        return Health.OFF
    if state.failures:
        return Health.FAILING
    if state.succeeded is None or now - state.succeeded > LATE:
        return Health.WARNING
    return Health.WELL


def _streams(now: dt.datetime) -> tuple[StreamLine, ...]:
    streams = list(Stream.objects.active())
    opened = dict(Connection.objects.open().order_by().values_list("stream").annotate(Count("id")))
    # Here the clock is the server's: delays only matter where listening meets the programme.
    undelayed = [ObservedStream(id=stream.pk, title=str(stream), delay_ms=0) for stream in streams]
    spans = observed.intervals(undelayed, to_ms(now - WINDOW), to_ms(now), by_totals_too=True)
    blurred: dict[int, list[StreamBlur]] = {stream.pk: [] for stream in streams}
    for one in now_of(blurred, now=now):
        blurred[one.stream_id].append(one)
    totals = _totals(now)
    return tuple(
        replace(
            _stream(stream, spans[stream.pk], opened.get(stream.pk, 0), now),
            blurs=tuple(blurred[stream.pk]),
            is_total=stream.source in totals,
            total=totals.get(stream.source, {}).get(stream.slug),
        )
        for stream in streams
    )


def _totals(now: dt.datetime) -> dict[str, Mapping[str, int]]:
    """Of each source that tells totals alone, how many listen to its streams; to none where that is too long ago."""
    states = [state for state in SourceState.objects.all() if SourceState.TOTALS in state.cursor]
    return {
        state.source: state.cursor[SourceState.TOTALS] if state.heard and now - state.heard <= LATE else {}
        for state in states
    }


def _stream(stream: Stream, spans: list[tuple[int, int]], opened: int, now: dt.datetime) -> StreamLine:
    coverage = share(sum(right - left for left, right in spans), WINDOW // dt.timedelta(milliseconds=1)) or 0.0
    is_late = not spans or to_ms(now) - spans[-1][1] > LATE // dt.timedelta(milliseconds=1)
    health = Health.FAILING if is_late else Health.WELL if coverage >= WELL_COVERED else Health.WARNING
    return StreamLine(
        slug=stream.slug,
        title=str(stream),
        station_id=stream.station_id,
        source=stream.source,
        health=health if coverage else Health.OFF,
        coverage=coverage,
        open_connections=opened,
        spans=tuple((from_ms(left), from_ms(right)) for left, right in spans),
        is_counted=stream.station_id != NO_STATION,
    )


def _monitors(now: dt.datetime) -> tuple[MonitorLine, ...]:
    rows = MonitorWatch.objects.filter(seen__gt=now - WINDOW).order_by("station_id", "started")
    watched: dict[int, dt.timedelta] = {}
    for watch in rows:
        length = watch.seen - max(watch.started, now - WINDOW)
        watched[watch.station_id] = watched.get(watch.station_id, dt.timedelta()) + length
    seen = dict(MonitorWatch.objects.order_by().values_list("station_id").annotate(Max("seen")))
    return tuple(
        MonitorLine(
            station_id=station_id,
            health=Health.WELL if now - seen[station_id] <= LATE else Health.FAILING,
            seen=seen[station_id],
            coverage=min(watched.get(station_id, dt.timedelta()) / WINDOW, 1.0),
        )
        for station_id in sorted(seen)
    )


def _live(settings: Settings, now: dt.datetime) -> tuple[LiveLine, ...]:
    stale = dt.timedelta(seconds=settings.live.stale_seconds)
    return tuple(
        LiveLine(
            station_id=state.station_id,
            health=Health.WELL if now - state.published <= stale else Health.FAILING,
            published=state.published,
        )
        for state in LiveState.objects.order_by("station_id")
    )


def _players(now: dt.datetime) -> PlayersLine:
    told = PlayerSession.objects.filter(ended__gt=now - WINDOW, exclusion="").aggregate(
        sessions=Count("id"),
        live=Sum("live_ms", default=0),
        on_demand=Sum("on_demand_ms", default=0),
        playing=Count("id", filter=Q(is_open=True)),
    )
    return PlayersLine(
        sessions=told["sessions"],
        live_hours=told["live"] / MS_PER_HOUR,
        on_demand_hours=told["on_demand"] / MS_PER_HOUR,
        playing=told["playing"],
    )


def _letters(now: dt.datetime) -> LettersLine:
    recent = Q(changed__gt=now - WINDOW)
    told = Letter.objects.aggregate(
        sent=Count("id", filter=recent & Q(state=Letter.State.SENT)),
        waiting=Count("id", filter=Q(state__in=(Letter.State.WAITING, Letter.State.SENDING))),
        oldest=Min("queued", filter=Q(state=Letter.State.WAITING)),
        dead=Count("id", filter=recent & Q(state=Letter.State.DEAD)),
        doubtful=Count("id", filter=recent & Q(state=Letter.State.DOUBTFUL)),
    )
    troubled = Letter.objects.exclude(error="").exclude(state__in=(Letter.State.SENT, Letter.State.DROPPED))
    error = troubled.filter(recent).order_by("-changed", "-pk").values_list("error", flat=True).first() or ""
    return LettersLine(
        health=Health.FAILING if told["dead"] else Health.WARNING if error else Health.WELL,
        subscriptions=LetterSubscription.objects.count(),
        sent=told["sent"],
        waiting=told["waiting"],
        oldest_waiting=told["oldest"],
        dead=told["dead"],
        doubtful=told["doubtful"],
        error=error,
    )


def _work() -> WaitingWork:
    stale = StaleWindow.objects.aggregate(count=Count("id"), oldest=Min("started"))
    return WaitingWork(
        stale_windows=stale["count"],
        oldest_stale=stale["oldest"],
        provisional_airings=Audience.objects.unsettled().count(),
    )
