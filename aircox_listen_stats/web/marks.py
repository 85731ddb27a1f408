"""Which marks stand in the table of a page, so that it explains those and no others.

``bound`` is ≥, ``unknown`` –, ``planned`` ~, and ``provisional`` a word of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..kernel.types import Basis
from ..reports.diffusion import DiffusionAudience
from ..reports.figures import Figures
from ..reports.program import ProgramAudience
from ..reports.programs import ProgramList

NOT_OBSERVED = frozenset({Basis.SCHEDULED.value, Basis.INFERRED.value})
"""What a start stands on that gets a ~."""


def of_programs(report: ProgramList) -> frozenset[str]:
    """The marks in the list of programs."""
    on_air = [line for line in report.lines if line.diffusions]
    return _named(
        bound=any(line.is_lower_bound and line.average is not None for line in on_air),
        unknown=any(line.average is None or line.change is None for line in on_air),
        provisional=any(line.provisional for line in on_air),
    )


def of_program(report: ProgramAudience) -> frozenset[str]:
    """The marks in the table of a program's diffusions."""
    return _of_figures(line.figures for line in report.lines) | _named(
        planned=any(line.start_basis in NOT_OBSERVED for line in report.lines),
        provisional=any(line.figures and not line.figures.settled for line in report.lines),
    )


def of_diffusion(report: DiffusionAudience) -> frozenset[str]:
    """The marks in the table of what was on air during a diffusion."""
    return _of_figures(line.figures for line in (*report.sounds, *report.tracks))


def _of_figures(all_figures: Iterable[Figures | None]) -> frozenset[str]:
    known = [figures for figures in all_figures if figures is not None]
    return _named(
        bound=any(figures.is_lower_bound and figures.average is not None for figures in known),
        unknown=any(figures.average is None for figures in known),
    )


def _named(**marks: bool) -> frozenset[str]:
    return frozenset(name for name, occurs in marks.items() if occurs)
