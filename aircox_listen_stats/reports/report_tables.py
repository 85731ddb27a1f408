"""Reports of a period as tables: the same values that their page shows."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from .blurs import reasons_cell
from .definitions import PERIOD_DEFINITIONS
from .periods import PeriodFigure, PeriodReport
from .report_rows import figure_rows
from .scope_report import LineFigures, ReportLine, ScopeReport
from .tables import Row, Table

TERMS_HEADER = ("period", "daypart", "rule_set", "time_zone", "hidden_below")

VALUE_HEADER = ("value", "lower", "upper", "stands_on", "coverage_share", "is_settled", "at_least_because")

CHANGE_HEADER = ("change_on_before_share", "change_on_before_is")

CHANGE_ON_YEAR_HEADER = ("change_on_year_before_share", "change_on_year_before_is")

FIGURES_HEADER = (
    "scope",
    "scope_id",
    "figure",
    "unit",
    *VALUE_HEADER,
    "confidence_share",
    *(f"before_{name}" for name in VALUE_HEADER),
    *CHANGE_HEADER,
    *(f"year_before_{name}" for name in VALUE_HEADER),
    *CHANGE_ON_YEAR_HEADER,
    "period_start",
    "period_end",
    "figures_until",
    "before_start",
    "before_until",
    "year_before_start",
    "year_before_until",
    *TERMS_HEADER,
)

LINE_FIGURES_HEADER = (
    "listening_hours",
    "average_audience",
    "peak",
    "started_sessions",
    "coverage_share",
    "is_settled",
    "at_least_because",
)

STEPS_HEADER = ("start", "end", "start_utc", *LINE_FIGURES_HEADER, *TERMS_HEADER)


def _lines_header(kind: str) -> tuple[str, ...]:
    return (
        f"{kind}_id",
        kind,
        *LINE_FIGURES_HEADER,
        *(f"before_{name}" for name in LINE_FIGURES_HEADER),
        *CHANGE_HEADER,
        *(f"year_before_{name}" for name in LINE_FIGURES_HEADER),
        *CHANGE_ON_YEAR_HEADER,
        *TERMS_HEADER,
    )


SHARES_HEADER = (
    "kind",
    "kind_value",
    "listening_hours",
    "active_sessions",
    "share_of_listening",
    "before_share_of_listening",
    *CHANGE_HEADER,
    "year_before_share_of_listening",
    *CHANGE_ON_YEAR_HEADER,
    "coverage_share",
    "is_settled",
    "is_partial",
    "stands_on",
    "at_least_because",
    *TERMS_HEADER,
)

CHANGES_HEADER = (
    "changed_at",
    "because",
    "by",
    "start",
    "end",
    "quarter_hours",
    "listening_hours_before",
    "listening_hours_after",
    *TERMS_HEADER,
)

PROGRAMS_HEADER = _lines_header("program")
STREAMS_HEADER = _lines_header("stream")


def table(made: ScopeReport, name: str, *, minimum: int) -> Table:
    """One of TABLES, called by scope and period."""
    shown = made.hiding_below(minimum)
    header, rows = TABLES[name]
    return Table(name=f"{file_name(made)}_{name}", header=header, rows=rows(shown, minimum))


def sheets(made: ScopeReport, *, minimum: int) -> list[Table]:
    """All tables that have rows, called by what they hold, and what each figure means."""
    shown = made.hiding_below(minimum)
    found = [
        Table(name=name, header=header, rows=list(rows(shown, minimum))) for name, (header, rows) in TABLES.items()
    ]
    meanings = [(name, str(one.label), str(one.text)) for name, one in PERIOD_DEFINITIONS.items()]
    explained = Table(name="figures explained", header=("figure", "label", "definition"), rows=meanings)
    return [*(one for one in found if one.rows), explained]


def file_name(made: ScopeReport) -> str:
    """What its files are called, without table and suffix."""
    return f"report_{made.report.scope.name}_{made.report.span.name}"


def _figures(made: ScopeReport, minimum: int) -> Iterator[Row]:
    report, before, year_before = made.report, made.comparison.before, made.comparison.year_before
    local = report.span.zone_info
    for row in figure_rows(made.comparison):
        yield (
            report.scope.kind.value,
            report.scope.id,
            row.now.name,
            row.now.unit.value,
            *_value(row.now, local),
            row.now.confidence,
            *_value(row.before, local),
            row.change,
            row.change_is.value or None,
            *(_value(row.year_before, local) if row.year_before else (None,) * len(VALUE_HEADER)),
            row.change_on_year,
            row.change_on_year_is.value or None,
            report.span.started,
            report.span.ended,
            report.until.astimezone(local),
            before.span.started,
            before.until.astimezone(local),
            year_before and year_before.span.started,
            year_before and year_before.until.astimezone(local),
            *_terms(report, minimum),
        )


def _value(one: PeriodFigure, local: zoneinfo.ZoneInfo) -> Row:
    value = one.value.astimezone(local) if isinstance(one.value, dt.datetime) else one.value
    is_known = any(bound is not None for bound in (one.value, one.lower, one.upper))
    return (
        value,
        one.lower,
        one.upper,
        one.stands_on.value or None,
        one.coverage,
        one.settled if is_known else None,
        reasons_cell(one.at_least_because),
    )


def _steps(made: ScopeReport, minimum: int) -> Iterator[Row]:
    local = made.report.span.zone_info
    for step in made.steps:
        yield (
            step.started.astimezone(local),
            step.ended.astimezone(local),
            step.started,
            *_line_figures(step.figures),
            *_terms(made.report, minimum),
        )


def _programs(made: ScopeReport, minimum: int) -> Iterator[Row]:
    return _lines(made.programs, made.report, minimum)


def _streams(made: ScopeReport, minimum: int) -> Iterator[Row]:
    return _lines(made.streams, made.report, minimum)


def _shares(made: ScopeReport, minimum: int) -> Iterator[Row]:
    for table in made.shares:
        for line in table.lines or ():
            yield (
                table.kind.value,
                line.value,
                line.listening_hours,
                line.sessions,
                line.share,
                line.share_before,
                line.change,
                None if line.change is None else table.change_is.value or None,
                line.share_year_before,
                line.change_on_year,
                None if line.change_on_year is None else table.change_on_year_is.value or None,
                table.coverage,
                table.settled,
                table.is_partial,
                table.stands_on.value,
                reasons_cell(table.at_least_because),
                *_terms(made.report, minimum),
            )


def _changes(made: ScopeReport, minimum: int) -> Iterator[Row]:
    local = made.report.span.zone_info
    for one in made.changes:
        for cause in one.causes:
            yield (
                one.at,
                cause.why,
                cause.who,
                one.started.astimezone(local),
                one.ended.astimezone(local),
                one.quarter_hours,
                one.hours_before,
                one.hours_after,
                *_terms(made.report, minimum),
            )


def _lines(lines: Sequence[ReportLine], report: PeriodReport, minimum: int) -> Iterator[Row]:
    for line in lines:
        yield (
            line.id,
            line.title,
            *_line_figures(line.now),
            *_line_figures(line.before),
            line.change,
            line.change_is.value or None,
            *_line_figures(line.year_before),
            line.change_on_year,
            line.change_on_year_is.value or None,
            *_terms(report, minimum),
        )


def _line_figures(figures: LineFigures | None) -> Row:
    if figures is None:
        return (None,) * len(LINE_FIGURES_HEADER)
    return (
        figures.listening_hours,
        figures.average,
        figures.peak,
        figures.started_sessions,
        figures.coverage,
        figures.settled,
        reasons_cell(figures.at_least_because),
    )


def _terms(report: PeriodReport, minimum: int) -> Row:
    span = report.span
    return (replace(span, daypart=None).name, span.daypart_hours or None, report.rule_set, span.zone, minimum)


TABLES: Mapping[str, tuple[Sequence[str], Callable[[ScopeReport, int], Iterator[Row]]]] = {
    "figures": (FIGURES_HEADER, _figures),
    "days": (STEPS_HEADER, _steps),
    "programs": (PROGRAMS_HEADER, _programs),
    "streams": (STREAMS_HEADER, _streams),
    "shares": (SHARES_HEADER, _shares),
    "changes": (CHANGES_HEADER, _changes),
}
"""The tables of a report, by the value of ``?table=``; ``days`` of a single day are its hours."""
