"""The figures of a report as rows that stand beside each other: for its page and for its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .blurs import Reason, Sense, together
from .comparison import Change, Comparison
from .definitions import PERIOD_DEFINITIONS, Definition
from .periods import PeriodFigure

SHARES: Mapping[str, str] = {"delivered_hours": "delivered_share", "bytes_sent": "bytes_share"}
"""Figures that are known of a share of the listening, and the figure that is this share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRow:
    """One figure of the period, of the one before and of the same one last year, which there may not be."""

    now: PeriodFigure
    before: PeriodFigure
    year_before: PeriodFigure | None
    change: float | None
    change_on_year: float | None
    change_is: Sense = Sense.PLAIN
    change_on_year_is: Sense = Sense.PLAIN
    of: PeriodFigure | None = None  # the share of the listening of which it is known

    @property
    def is_known(self) -> bool:
        """Whether any of the periods knows it, or bounds of it."""
        told = [one for one in (self.now, self.before, self.year_before) if one is not None]
        return any(edge is not None for one in told for edge in (one.value, one.lower, one.upper))

    @property
    def at_least_because(self) -> tuple[Reason, ...]:
        """Why listeners that it counts could not be told apart in some of the periods."""
        return together(one.at_least_because for one in (self.now, self.before, self.year_before) if one)

    @property
    def definition(self) -> Definition:
        return PERIOD_DEFINITIONS[self.now.name]


def figure_rows(comparison: Comparison) -> list[FigureRow]:
    """A row for each figure, in the order of the report."""
    return list(_rows(comparison))


def page_rows(comparison: Comparison) -> tuple[list[FigureRow], list[FigureRow]]:
    """The rows that a page shows, a share beside its figure, and those of which nothing is known."""
    found = [row for row in _rows(comparison) if row.now.name not in SHARES.values()]
    return [row for row in found if row.is_known], [row for row in found if not row.is_known]


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
            change_is=change.on_before_is,
            change_on_year_is=change.on_year_before_is,
            of=comparison.report[SHARES[now.name]] if now.name in SHARES else None,
        )
