"""A period beside the one before it and the same one last year, each with its own coverage."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

from ..fields import from_ms, to_ms
from ..kernel.types import RuleSet
from .blurs import Sense, sense_of
from .figures import KNOWN_COVERAGE, change
from .periods import PeriodFigure, PeriodReport, Scope, Unit, period_figures
from .spans import Span

__all__ = ["Change", "Comparison", "comparable_change", "compared", "until_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How much more a figure is than before, 0.1 being ten per cent; None where nothing can be said."""

    name: str
    on_before: float | None
    on_year_before: float | None
    on_before_is: Sense = Sense.PLAIN
    on_year_before_is: Sense = Sense.PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The figures of a period, of the one before, and of the same one last year, where there is such a one.

    Those of a period that still runs are held against as much of the others.
    """

    report: PeriodReport
    before: PeriodReport
    year_before: PeriodReport | None
    changes: tuple[Change, ...]

    def hiding_below(self, minimum: int) -> Comparison:
        """The same with counts from 1 to ``minimum - 1`` hidden, and with the changes that would tell them."""
        reports = [one and one.hiding_below(minimum) for one in (self.report, self.before, self.year_before)]
        report, before, year_before = reports
        assert report is not None
        assert before is not None
        return replace(
            self, report=report, before=before, year_before=year_before, changes=_changes(report, before, year_before)
        )


def compared(scope: Scope, span: Span, rules: RuleSet, *, now: dt.datetime) -> Comparison:
    """The figures of ``scope`` in ``span``, and beside them those that they are held against."""
    report = period_figures(scope, span, rules, now=now)
    others = [
        None if other is None else period_figures(scope, other, rules, now=now, until=until_of(other, report))
        for other in (span.before(), span.year_before())
    ]
    before, year_before = others
    assert before is not None
    return Comparison(
        report=report, before=before, year_before=year_before, changes=_changes(report, before, year_before)
    )


def until_of(other: Span, report: PeriodReport) -> dt.datetime:
    """As far into another span as the report has come in its own."""
    return from_ms(other.as_far_as(report.span, to_ms(report.until)))


def comparable_change(
    now: float | None, coverage: float | None, before: float | None, coverage_before: float | None
) -> float | None:
    """:func:`~.figures.change`, and None too where either was observed for too little of its time."""
    if min(coverage or 0.0, coverage_before or 0.0) < KNOWN_COVERAGE:
        return None
    return change(now, before)


def _changes(report: PeriodReport, before: PeriodReport, year_before: PeriodReport | None) -> tuple[Change, ...]:
    return tuple(
        _of_figure(one, report, before, year_before)
        for one in report.figures
        if one.unit not in (Unit.INSTANT, Unit.SHARE)
    )


def _of_figure(
    one: PeriodFigure, report: PeriodReport, before: PeriodReport, year_before: PeriodReport | None
) -> Change:
    now, on_before = report.at_least_because, _change(one, before[one.name])
    on_year = year_before and _change(one, year_before[one.name])
    return Change(
        name=one.name,
        on_before=on_before,
        on_year_before=on_year,
        on_before_is=sense_of(on_before, one.name, now, before.at_least_because),
        on_year_before_is=sense_of(on_year, one.name, now, year_before.at_least_because if year_before else ()),
    )


def _change(one: PeriodFigure, other: PeriodFigure) -> float | None:
    if isinstance(one.value, dt.datetime) or isinstance(other.value, dt.datetime):
        return None
    return comparable_change(one.value, one.coverage, other.value, other.coverage)
