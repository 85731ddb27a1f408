"""A period on one page: figures beside those of other periods, and tables of what they are made of."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..fields import from_ms, to_ms
from ..kernel import calendar
from ..kernel.arrays import Ints
from ..kernel.types import Layer, RuleSet
from ..models import Airing, QuarterChange, QuarterHour, Stream
from . import blurs, by_airings, quarters
from .amounts import Amounts
from .blurs import Blurred, Reason, Sense, sense_of
from .comparison import Comparison, comparable_change, compared, until_of
from .diffusion import RevisionCause
from .figures import average, falls_short, hours, is_hidden, share
from .periods import PeriodReport, Scope, ScopeKind
from .quarters import Quarters
from .shares import ShareTable, share_tables
from .spans import Kind, Span

__all__ = ["Changed", "LineFigures", "ReportLine", "ScopeReport", "Step", "scope_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFigures:
    """What a line of a table has of one period. All None where nothing is known.

    ``at_least_because``: why listeners could not be told apart in some of it.
    """

    listening_hours: float | None
    average: float | None
    peak: int | None
    started_sessions: int | None
    coverage: float | None
    settled: bool
    diffusions: int | None = None
    at_least_because: tuple[Reason, ...] = ()

    @property
    def is_lower_bound(self) -> bool:
        """Whether a part that matters was not observed."""
        return falls_short(self.coverage)

    @classmethod
    def of(cls, made: Amounts) -> LineFigures:
        known = made.is_known
        return cls(
            listening_hours=hours(made.listening_ms) if known else None,
            average=share(made.averaged_ms, made.averaged_length_ms) if known else None,
            peak=made.peak if known else None,
            started_sessions=made.begun if known else None,
            coverage=made.coverage if made.length_ms else None,
            settled=made.settled,
            diffusions=made.airings,
            at_least_because=made.at_least_because,
        )

    def hiding_below(self, minimum: int) -> LineFigures:
        """The same without counts from 1 to ``minimum - 1``."""
        small = {name: None for name in ("peak", "started_sessions") if is_hidden(getattr(self, name), minimum)}
        return replace(self, **small)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLine:
    """A program or stream: the period, the one before, and the same one last year."""

    id: int
    title: str
    now: LineFigures
    before: LineFigures | None
    year_before: LineFigures | None
    change: float | None  # of the average audience
    change_on_year: float | None
    change_is: Sense = Sense.PLAIN
    change_on_year_is: Sense = Sense.PLAIN

    @property
    def at_least_because(self) -> tuple[Reason, ...]:
        """Why listeners could not be told apart in some of its periods."""
        return blurs.together(one.at_least_because for one in (self.now, self.before, self.year_before) if one)

    def hiding_below(self, minimum: int) -> ReportLine:
        """The same without counts from 1 to ``minimum - 1``."""
        others = (one and one.hiding_below(minimum) for one in (self.before, self.year_before))
        before, year_before = others
        return replace(self, now=self.now.hiding_below(minimum), before=before, year_before=year_before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A broadcast day of the period, or an hour of a single day; ``figures`` is None of what is still to come."""

    started: dt.datetime
    ended: dt.datetime
    figures: LineFigures | None

    @property
    def at_least_because(self) -> tuple[Reason, ...]:
        """Why listeners could not be told apart in some of it."""
        return self.figures.at_least_because if self.figures else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Settled quarter-hours of the period that came to be others; ``hours`` are their listening hours."""

    at: dt.datetime
    causes: tuple[RevisionCause, ...]
    started: dt.datetime
    ended: dt.datetime
    quarter_hours: int
    hours_before: float
    hours_after: float


MOST_CHANGES = 50
"""The latest are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeReport:
    """Figures, and tables by country, app and referrer; of a station or stream the steps by day (or hour), and what
    changed after it was settled, latest first; of a station its programs and, of several, its streams.
    """

    comparison: Comparison
    is_by_hour: bool
    steps: tuple[Step, ...]
    programs: tuple[ReportLine, ...]
    streams: tuple[ReportLine, ...]
    shares: tuple[ShareTable, ...]
    changes: tuple[Changed, ...] = ()

    @property
    def report(self) -> PeriodReport:
        return self.comparison.report

    def hiding_below(self, minimum: int) -> ScopeReport:
        """The same without counts from 1 to ``minimum - 1``."""
        if minimum <= 1:
            return self
        return replace(
            self,
            comparison=self.comparison.hiding_below(minimum),
            steps=tuple(replace(one, figures=one.figures and one.figures.hiding_below(minimum)) for one in self.steps),
            programs=tuple(one.hiding_below(minimum) for one in self.programs),
            streams=tuple(one.hiding_below(minimum) for one in self.streams),
            shares=tuple(one.hiding_below(minimum) for one in self.shares),
        )


_Of = Callable[[int, Span, RuleSet, int, Blurred], dict[int, LineFigures]]
"""Gives the lines of a station's span under some rules up to an instant, by number."""

_OF_QUARTERS = (ScopeKind.STATION, ScopeKind.STREAM)


def scope_report(scope: Scope, span: Span, rules: RuleSet, *, now: dt.datetime) -> ScopeReport:
    """Everything of one scope over a period. Programs are those of a station: their figures are of all its streams."""
    comparison = compared(scope, span, rules, now=now)
    others = {"before": comparison.before, "year_before": comparison.year_before}
    spans = {name: (one.span, until_of(one.span, comparison.report)) for name, one in others.items() if one}
    spans["now"] = (span, comparison.report.until)

    blurred = _blurred(scope, spans.values())

    def lines(titles: Mapping[int, str], of: _Of) -> tuple[ReportLine, ...]:
        made = {name: of(scope.station_id, one, rules, to_ms(until), blurred) for name, (one, until) in spans.items()}
        return tuple(_lines(titles, made))

    programs: tuple[ReportLine, ...] = ()
    streams: tuple[ReportLine, ...] = ()
    if scope.kind is ScopeKind.STATION:
        programs = lines(_program_titles(scope.station_id, span), _by_program)
        titles = {one.pk: str(one) for one in Stream.objects.of(scope.station_id)}
        if len(titles) > 1:
            streams = lines(titles, _by_stream)
    return ScopeReport(
        comparison=comparison,
        is_by_hour=span.kind is Kind.DAY,
        steps=tuple(_steps(scope, span, rules, comparison.report, blurred)) if scope.kind in _OF_QUARTERS else (),
        programs=programs,
        streams=streams,
        shares=tuple(_with_reasons(one, comparison) for one in share_tables(scope, span, rules, now=now)),
        changes=tuple(_changes(scope, span, rules)) if scope.kind in _OF_QUARTERS else (),
    )


def _with_reasons(table: ShareTable, comparison: Comparison) -> ShareTable:
    return replace(
        table,
        at_least_because=comparison.report.at_least_because,
        before_at_least_because=comparison.before.at_least_because,
        year_before_at_least_because=comparison.year_before.at_least_because if comparison.year_before else (),
    )


def _blurred(scope: Scope, spans: Collection[tuple[Span, dt.datetime]]) -> Blurred:
    """When listeners of the station's streams could not be told apart, from the first of the spans to the last."""
    if scope.kind not in _OF_QUARTERS:
        return Blurred()  # there are no lines
    return blurs.read(
        min(span.started_ms for span, _ in spans),
        max(to_ms(until) for _, until in spans) + blurs.LONGEST_AIRING_MS,
        station_id=scope.station_id,
    )


def _changes(scope: Scope, span: Span, rules: RuleSet) -> Iterator[Changed]:
    stream_id = QuarterHour.STATION if scope.kind is ScopeKind.STATION else scope.id
    found = QuarterChange.objects.filter(
        station_id=scope.station_id,
        stream_id=stream_id,
        rule_set=rules.name,
        ended__gt=span.started_ms,
        started__lt=span.ended_ms,
    )
    for one in found.order_by("-made", "-pk")[:MOST_CHANGES]:
        yield Changed(
            at=one.made,
            causes=tuple(RevisionCause(why=why, who=who) for why, who in one.causes),
            started=one.started,
            ended=one.ended,
            quarter_hours=one.quarters,
            hours_before=hours(one.before_ms),
            hours_after=hours(one.after_ms),
        )


# Steps -------------------------------------------------------------------------------------------


def _steps(scope: Scope, span: Span, rules: RuleSet, report: PeriodReport, blurred: Blurred) -> list[Step]:
    """Each day of the span, or each hour of a single one; a quarter-hour belongs to the one in which it begins."""
    slots = (
        calendar.hours(span.zone_info, span.started_ms, span.ended_ms)
        if span.kind is Kind.DAY
        else calendar.broadcast_days(span.zone_info, span.started_ms, span.ended_ms, starts=span.day_starts)
    )
    starts, ends = np.maximum(slots.starts_ms, span.started_ms), np.minimum(slots.ends_ms, span.ended_ms)
    until_ms = to_ms(report.until)
    stream_id = QuarterHour.STATION if scope.kind is ScopeKind.STATION else scope.id
    times = (blurred.of_station if scope.kind is ScopeKind.STATION else blurred.of_stream)(scope.id)
    asked = (scope.station_id, stream_id, rules.name, span.started_ms, until_ms)
    stored = quarters.read(*asked, columns=quarters.LINE_COLUMNS)
    inside_starts, inside_ends = span.slots(until_ms)
    stored = stored.only(stored.within(inside_starts, inside_ends))
    place = np.searchsorted(starts, stored["started"], side="right") - 1
    length_ms = _overlaps(starts, ends, inside_starts, inside_ends)

    def added(column: str) -> Ints:
        return np.bincount(place, weights=stored[column], minlength=len(starts)).astype(np.int64)

    peak = np.zeros(len(starts), dtype=np.int64)
    np.maximum.at(peak, place, stored["peak"])
    provisional = np.bincount(place, weights=1 - stored["settled"], minlength=len(starts)) > 0
    columns = (
        starts.tolist(), ends.tolist(), length_ms.tolist(), added("listening_ms").tolist(), added("begun").tolist(),
        added("covered_ms").tolist(), peak.tolist(), provisional.tolist(),
    )  # fmt: skip
    return [
        Step(
            started=from_ms(start),
            ended=from_ms(end),
            figures=_line_figures(
                listening_ms=listening,
                length_ms=length,
                begun=begun,
                covered_ms=observed,
                peak=most,
                settled=end <= until_ms and not is_provisional,
                at_least_because=times.during(np.maximum(inside_starts, start), np.minimum(inside_ends, end)),
            )
            if length
            else None,
        )
        for start, end, length, listening, begun, observed, most, is_provisional in zip(*columns, strict=True)
    ]


def _overlaps(starts: Ints, ends: Ints, inside_starts: Ints, inside_ends: Ints) -> Ints:
    """How much of each stretch lies in the inner ones; both are disjoint and ascend."""
    before = np.concatenate(([0], np.cumsum(inside_ends - inside_starts)))

    def until(instants: Ints) -> Ints:
        place = np.searchsorted(inside_starts, instants, side="right")
        last = np.maximum(place - 1, 0)
        if not len(inside_starts):
            return np.zeros_like(instants)
        return np.where(place > 0, before[last] + np.minimum(instants, inside_ends[last]) - inside_starts[last], 0)

    return until(ends) - until(starts)


# Lines -------------------------------------------------------------------------------------------


def _by_program(station_id: int, span: Span, rules: RuleSet, until_ms: int, blurred: Blurred) -> dict[int, LineFigures]:
    times = blurred.of_station(station_id)
    made = by_airings.by_program(station_id, span, rules, until_ms=until_ms, blurred=times)
    return {number: LineFigures.of(one) for number, one in made.items()}


def _by_stream(station_id: int, span: Span, rules: RuleSet, until_ms: int, blurred: Blurred) -> dict[int, LineFigures]:
    """Of the whole quarter-hours of each stream."""
    starts, ends = span.slots(until_ms)
    if not len(starts):
        return {}
    found = quarters.read_streams(station_id, rules.name, int(starts[0]), int(ends[-1]))
    length_ms = int((ends - starts).sum())
    return {
        number: _summed(
            stored.only(stored.within(starts, ends)),
            length_ms,
            is_over=span.ended_ms <= until_ms,
            at_least_because=blurred.of_stream(number).during(starts, ends),
        )
        for number, stored in found.items()
    }


def _summed(stored: Quarters, length_ms: int, *, is_over: bool, at_least_because: tuple[Reason, ...]) -> LineFigures:
    return _line_figures(
        listening_ms=int(stored["listening_ms"].sum()),
        length_ms=length_ms,
        begun=int(stored["begun"].sum()),
        covered_ms=int(stored["covered_ms"].sum()),
        peak=int(stored["peak"].max(initial=0)),
        settled=is_over and bool(stored["settled"].all()),
        at_least_because=at_least_because,
    )


def _line_figures(
    *,
    listening_ms: int,
    length_ms: int,
    begun: int,
    covered_ms: int,
    peak: int,
    settled: bool,
    at_least_because: tuple[Reason, ...],
) -> LineFigures:
    known = covered_ms > 0 or listening_ms > 0
    return LineFigures(
        listening_hours=hours(listening_ms) if known else None,
        average=average(listening_ms, length_ms) if known else None,
        peak=peak if known else None,
        started_sessions=begun if known else None,
        coverage=share(covered_ms, length_ms),
        settled=settled,
        at_least_because=at_least_because,
    )


def _program_titles(station_id: int, span: Span) -> dict[int, str]:
    """What each program was called in the newest of its diffusions of the span."""
    found = Airing.objects.on_layer(Layer.DIFFUSION).filter(
        station_id=station_id,
        program_id__isnull=False,
        started__gte=from_ms(span.started_ms),
        started__lt=from_ms(span.ended_ms),
    )
    newest_last = found.order_by("started", "id").values_list("program_id", "program_title")
    return dict(newest_last.iterator())


def _lines(titles: Mapping[int, str], made: Mapping[str, Mapping[int, LineFigures]]) -> list[ReportLine]:
    """Those of the period itself, most listening first."""
    found = []
    for number, now in made["now"].items():
        before, year_before = (made.get(name, {}).get(number) for name in ("before", "year_before"))
        change, change_on_year = _change(now, before), _change(now, year_before)
        found.append(
            ReportLine(
                id=number,
                title=titles.get(number, ""),
                now=now,
                before=before,
                year_before=year_before,
                change=change,
                change_on_year=change_on_year,
                change_is=_sense(change, now, before),
                change_on_year_is=_sense(change_on_year, now, year_before),
            )
        )
    return sorted(found, key=lambda one: (-(one.now.listening_hours or 0), one.title.casefold(), one.id))


def _change(now: LineFigures, other: LineFigures | None) -> float | None:
    if other is None:
        return None
    return comparable_change(now.average, now.coverage, other.average, other.coverage)


def _sense(change: float | None, now: LineFigures, other: LineFigures | None) -> Sense:
    return sense_of(change, "average", now.at_least_because, other.at_least_because if other else ())
