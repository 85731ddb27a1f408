"""The figures of a report as rows that stand beside each other: for its page and for its table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..reports.comparison import Change, Comparison
from ..reports.definitions import PERIOD_DEFINITIONS, Definition
from ..reports.periods import PeriodFigure


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """One figure of the period, of the one before and of the same one last year, which there may not be."""

    now: PeriodFigure
    before: PeriodFigure
    year_before: PeriodFigure | None
    change: float | None
    change_on_year: float | None

    @property
    def definition(self) -> Definition:
        return PERIOD_DEFINITIONS[self.now.name]


def figure_rows(comparison: Comparison) -> list[FigureRow]:
    """A row for each figure, in the order of the report."""
    return list(_rows(comparison))


def _rows(comparison: Comparison) -> Iterator[FigureRow]:
    changes = {one.name: one for one in comparison.changes}
    for now in comparison.report.figures:
        change = changes.get(now.name, Change(name=now.name, on_before=None, on_year_before=None))
        yield FigureRow(
            now=now,
            before=comparison.before[now.name],
            year_before=comparison.year_before and comparison.year_before[now.name],
            change=change.on_before,
            change_on_year=change.on_year_before,
        )
