"""Every figure of the trade for any scope and any period, with what it stands on and how sure it is.

Pages, tables, workbooks and JSON show the same :class:`PeriodReport`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ..fields import from_ms, to_ms
from ..kernel.types import MS, Layer, RuleSet
from ..models import Airing, QuarterHour, Stream
from . import blurs, by_airings, by_quarters
from .amounts import Amounts, Count, Performances, StandsOn
from .blurs import Reason
from .by_airings import Airings
from .by_quarters import Whole
from .figures import falls_short, hours, is_hidden, share
from .query import Period
from .spans import Span, of_period

__all__ = ["PeriodFigure", "PeriodReport", "Scope", "ScopeKind", "StandsOn", "Unit", "airings_of", "period_figures"]


class ScopeKind(StrEnum):
    """Whose figures; ids are aircox's, but that of a stream, which is our own."""

    STATION = "station"
    STREAM = "stream"
    PROGRAM = "program"
    EPISODE = "episode"
    DIFFUSION = "diffusion"
    TRACK = "track"


class Unit(StrEnum):
    """What a value counts."""

    HOURS = "hours"
    SECONDS = "seconds"
    HEADS = "heads"
    SESSIONS = "sessions"
    BYTES = "bytes"
    SHARE = "share"
    INSTANT = "instant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A station, or something of it, by number."""

    kind: ScopeKind
    id: int
    station_id: int

    @classmethod
    def station(cls, station_id: int) -> Scope:
        return cls(kind=ScopeKind.STATION, id=station_id, station_id=station_id)

    @property
    def name(self) -> str:
        """For a file: ``program_12``."""
        return f"{self.kind}_{self.id}"


Value = float | int | dt.datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodFigure:
    """One figure. ``name`` is also the key of its definition.

    ``value`` is None where it is not known; then ``lower`` and ``upper`` may still bound it. They
    are None where the value is exact as far as it was observed, see ``coverage``; with ``confidence`` they hold
    so often, else surely. ``at_least_because``: why those that it counts could not be told apart; there is no upper
    bound then, and of averages by listener or session no lower one: these are at most ``upper``.
    """

    name: str
    unit: Unit
    value: Value = None
    lower: float | None = None
    upper: float | None = None
    confidence: float | None = None
    stands_on: StandsOn = StandsOn.NOTHING
    coverage: float | None = None
    settled: bool = False
    at_least_because: tuple[Reason, ...] = ()

    @property
    def is_lower_bound(self) -> bool:
        """Whether a part that matters was not observed, or listeners that it counts could not be told apart."""
        return falls_short(self.coverage) or bool(self.at_least_because)

    def hiding_below(self, minimum: int) -> PeriodFigure:
        """The same without a count from 1 to ``minimum - 1``."""
        if self.unit not in (Unit.HEADS, Unit.SESSIONS) or self.name in MEANS:
            return self
        counts = (self.value, self.lower, self.upper)
        if not any(isinstance(one, int | float) and is_hidden(one, minimum) for one in counts):
            return self
        return replace(self, value=None, lower=None, upper=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodReport:
    """All figures of one scope in one span under one rule-set.

    ``until`` is where the figures of a running period end, else its end. ``airings`` are those that
    started in it, ``airings_unknown`` of them those that nobody observed or that have no figures yet; None for
    stations and streams. ``is_cut``: the period begins or ends within a quarter-hour whose sessions are gone, and
    that quarter-hour is in no figure. ``at_least_because``: why listeners could not be told apart in some of it.
    """

    scope: Scope
    span: Span
    rule_set: str
    until: dt.datetime
    figures: tuple[PeriodFigure, ...]
    coverage: float | None
    settled: bool
    is_cut: bool = False
    airings: int | None = None
    airings_unknown: int = 0
    at_least_because: tuple[Reason, ...] = ()

    def __getitem__(self, name: str) -> PeriodFigure:
        """The figure of that name. Raises KeyError."""
        for one in self.figures:
            if one.name == name:
                return one
        raise KeyError(name)

    @property
    def is_known(self) -> bool:
        """Whether anything is known at all."""
        return any(one.value is not None for one in self.figures)

    @property
    def is_running(self) -> bool:
        return to_ms(self.until) < self.span.ended_ms

    @property
    def is_lower_bound(self) -> bool:
        """Whether a part that matters was not observed."""
        return falls_short(self.coverage)

    def hiding_below(self, minimum: int) -> PeriodReport:
        """The same with counts from 1 to ``minimum - 1`` hidden, and with what would tell of such a one."""
        shown = {one.name: one.hiding_below(minimum) for one in self.figures}
        for name, told_by in TELL_OF.items():
            if shown[name] != self[name]:
                shown[told_by] = replace(shown[told_by], value=None, lower=None, upper=None)
        return replace(self, figures=tuple(shown.values()))


UNITS: Mapping[str, Unit] = {
    "tlh": Unit.HOURS,
    "aas": Unit.HEADS,
    "active_sessions": Unit.SESSIONS,
    "started_sessions": Unit.SESSIONS,
    "atsl_seconds": Unit.SECONDS,
    "cume": Unit.HEADS,
    "tsl_seconds": Unit.SECONDS,
    "reach": Unit.HEADS,
    "aqh": Unit.HEADS,
    "aqh_in_one_piece": Unit.HEADS,
    "peak": Unit.HEADS,
    "peak_at": Unit.INSTANT,
    "person_hours": Unit.HOURS,
    "elapsed_hours": Unit.HOURS,
    "delivered_hours": Unit.HOURS,
    "delivered_share": Unit.SHARE,
    "bytes_sent": Unit.BYTES,
    "bytes_share": Unit.SHARE,
    "performances": Unit.HEADS,
    "ath": Unit.HOURS,
}
"""The figures of a report in their order, with their units."""

TELL_OF: Mapping[str, str] = {"peak": "peak_at", "active_sessions": "atsl_seconds", "cume": "tsl_seconds"}
"""What says where a hidden count is to be found, or gives it by a division."""

MEANS = frozenset({"aas", "aqh", "aqh_in_one_piece"})
"""Averages of heads: no count that could point at somebody."""

_LAYERS: Mapping[ScopeKind, tuple[Layer, str]] = {
    ScopeKind.PROGRAM: (Layer.DIFFUSION, "program_id"),
    ScopeKind.EPISODE: (Layer.DIFFUSION, "episode_id"),
    ScopeKind.DIFFUSION: (Layer.DIFFUSION, "diffusion_id"),
    ScopeKind.TRACK: (Layer.TRACK, "track_id"),
}


def period_figures(
    scope: Scope, period: Span | Period, rules: RuleSet, *, now: dt.datetime, until: dt.datetime | None = None
) -> PeriodReport:
    """The figures of ``scope`` in ``period``, in a number of queries that no amount of listening changes.

    ``until`` cuts the period short, as ``now`` does: to hold one against another that still runs.
    """
    span = of_period(period) if isinstance(period, Period) else period
    now_ms = to_ms(now)
    until_ms = min(span.ended_ms, now_ms if until is None else min(now_ms, to_ms(until)))
    streams = list(Stream.objects.of(scope.station_id).order_by("pk"))
    if scope.kind in (ScopeKind.STATION, ScopeKind.STREAM):
        whole = _whole(scope, streams)
        if until_ms < span.ended_ms and until is None:
            until_ms = by_quarters.computed_until(whole, rules, now_ms)
        made = by_quarters.amounts(whole, span, rules, until_ms=until_ms, now_ms=now_ms)
    else:
        made = by_airings.amounts(airings_of(scope), streams, span, rules, until_ms=until_ms, now_ms=now_ms)
    tracks = _tracks(scope, streams)
    played = tracks and by_airings.performances(tracks, span, until_ms=until_ms)
    blurred = _blurred(scope, streams, span, until_ms)
    return PeriodReport(
        scope=scope,
        span=span,
        rule_set=rules.name,
        until=from_ms(max(until_ms, span.started_ms)),
        figures=tuple(_bounded(one, blurred) for one in _figures(made, played)),
        coverage=made.coverage if made and made.length_ms else None,
        settled=bool(made and made.settled),
        is_cut=bool(made and made.is_cut),
        airings=made.airings if made else None if scope.kind in (ScopeKind.STATION, ScopeKind.STREAM) else 0,
        airings_unknown=made.airings_unknown if made else 0,
        at_least_because=blurred,
    )


def _blurred(scope: Scope, streams: Sequence[Stream], span: Span, until_ms: int) -> tuple[Reason, ...]:
    """Why listeners could not be told apart; of a program or of less, while it was on air."""
    starts, ends = span.slots(until_ms)
    if scope.kind in (ScopeKind.STATION, ScopeKind.STREAM):
        numbers = [one.pk for one in _whole(scope, streams).streams]
        return blurs.reasons(numbers, zip(starts.tolist(), ends.tolist(), strict=True))
    layer, column = _LAYERS[scope.kind]
    airings = Airing.objects.on_layer(layer).filter(**{"station_id": scope.station_id, column: scope.id})
    return blurs.of_airings([one.pk for one in streams], airings, starts, ends)


def _bounded(one: PeriodFigure, blurred: Sequence[Reason]) -> PeriodFigure:
    """The figure without bounds that nobody knows where listeners could not be told apart."""
    because = blurs.affecting(blurred, one.name)
    if because:
        return replace(one, at_least_because=because, upper=None)
    if one.name not in blurs.PER_HEAD or not blurred:
        return one
    if not blurs.BY_SOURCE.isdisjoint(blurred):
        return replace(one, lower=None, upper=None)
    assert not isinstance(one.value, dt.datetime)
    return replace(one, lower=None, upper=one.value if one.upper is None else one.upper)


def airings_of(scope: Scope) -> Airings:
    """The airings of a program, episode, diffusion or track."""
    layer, column = _LAYERS[scope.kind]
    return Airings(station_id=scope.station_id, layer=layer, column=column, number=scope.id)


def _whole(scope: Scope, streams: Sequence[Stream]) -> Whole:
    if scope.kind is ScopeKind.STATION:
        return Whole(station_id=scope.station_id, stream_id=QuarterHour.STATION, streams=streams)
    return Whole(
        station_id=scope.station_id, stream_id=scope.id, streams=[one for one in streams if one.pk == scope.id]
    )


def _tracks(scope: Scope, streams: Sequence[Stream]) -> Airings | None:
    """The tracks whose performances are counted; None of one stream among several: their figures are of all."""
    column, number = None, None
    if scope.kind is ScopeKind.STREAM and len(streams) > 1:
        return None
    if scope.kind not in (ScopeKind.STATION, ScopeKind.STREAM):
        column, number = _LAYERS[scope.kind][1], scope.id
    return Airings(station_id=scope.station_id, layer=Layer.TRACK, column=column, number=number)


# Figures -----------------------------------------------------------------------------------------


def _figures(made: Amounts | None, played: Performances | None) -> Iterable[PeriodFigure]:
    """One of each of UNITS, in that order."""
    found = {one.name: one for one in (*_of_amounts(made), *_of_tracks(played))}
    for name, unit in UNITS.items():
        yield found.get(name) or PeriodFigure(name=name, unit=unit, coverage=made.coverage if made else None)


def _of_amounts(made: Amounts | None) -> Iterable[PeriodFigure]:
    if made is None or not made.is_known:
        return
    listening_s = made.listening_ms / MS

    def plain(name: str, value: Value, *fields: str) -> PeriodFigure:
        return PeriodFigure(
            name=name,
            unit=UNITS[name],
            value=value,
            stands_on=StandsOn.NOTHING
            if value is None
            else StandsOn.SESSIONS
            if made.from_sessions.intersection(fields)
            else made.stands_on,
            coverage=made.coverage,
            settled=made.settled,
        )

    yield plain("tlh", hours(made.listening_ms))
    yield plain("aas", share(made.averaged_ms, made.averaged_length_ms))
    yield _counted("active_sessions", made.active, made)
    yield plain("started_sessions", made.begun)
    yield _per("atsl_seconds", listening_s, made.active, made)
    yield _counted("cume", made.cume, made)
    yield _per("tsl_seconds", listening_s, made.cume, made)
    yield _counted("reach", made.reach, made)
    yield plain("aqh", share(made.quarter_listeners, made.quarters), "quarter_listeners")
    yield plain(
        "aqh_in_one_piece",
        share(made.quarter_listeners_in_one_piece, made.quarters),
        "quarter_listeners_in_one_piece",
    )
    yield plain("peak", made.peak)
    yield plain("peak_at", None if made.peak_at_ms is None else from_ms(made.peak_at_ms))
    yield plain("person_hours", hours(made.person_ms), "person_ms")
    yield plain("elapsed_hours", hours(made.elapsed_ms), "elapsed_ms")
    yield plain("delivered_hours", hours(made.delivered_ms) if made.delivered_told_ms else None, "delivered_ms")
    yield plain("delivered_share", share(made.delivered_told_ms, made.listening_ms), "delivered_told_ms")
    yield plain("bytes_sent", made.bytes_sent if made.bytes_told_ms else None, "bytes_sent")
    yield plain("bytes_share", share(made.bytes_told_ms, made.listening_ms), "bytes_told_ms")


def _counted(name: str, count: Count, made: Amounts) -> PeriodFigure:
    is_exact = count.value is not None and count.lower == count.upper
    return PeriodFigure(
        name=name,
        unit=UNITS[name],
        value=count.value,
        lower=None if is_exact else count.lower,
        upper=None if is_exact else count.upper,
        confidence=count.confidence,
        stands_on=count.stands_on,
        coverage=made.coverage,
        settled=count.settled,
    )


def _per(name: str, amount: float, count: Count, made: Amounts) -> PeriodFigure:
    """The amount by a count; the greatest count gives the least."""
    of_count = _counted(name, count, made)
    return replace(
        of_count,
        value=share(amount, count.value),
        lower=share(amount, of_count.upper),
        upper=share(amount, of_count.lower),
        settled=made.settled and count.settled,
    )


def _of_tracks(played: Performances | None) -> Iterable[PeriodFigure]:
    if played is None or not (played.coverage > 0 or played.listening_ms > 0):
        return
    for name, value in (("performances", played.performances), ("ath", hours(played.listening_ms))):
        yield PeriodFigure(
            name=name,
            unit=UNITS[name],
            value=value,
            stands_on=StandsOn.ROLL_UP,
            coverage=played.coverage,
            settled=played.settled,
        )
