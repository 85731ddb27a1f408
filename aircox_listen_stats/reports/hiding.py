"""Reports without counts so small that they could point at somebody: for whatever leaves the pages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from .diffusion import DiffusionAudience
from .figures import Figures, is_hidden
from .program import ProgramAudience
from .programs import ProgramList
from .tune_out import TuneOut

_Line = TypeVar("_Line")


def programs_hiding(report: ProgramList, minimum: int) -> ProgramList:
    """The report with counts below ``minimum`` hidden."""
    lines = tuple(replace(line, peak=shown(line.peak, minimum)) for line in report.lines)
    return replace(report, lines=lines)


def program_hiding(report: ProgramAudience, minimum: int) -> ProgramAudience:
    """The report with counts below ``minimum`` hidden."""
    totals = replace(report.totals, peak=shown(report.totals.peak, minimum))
    return replace(
        report,
        totals=totals,
        lines=tuple(line_hiding(line, minimum) for line in report.lines),
        episodes=tuple(one.hiding_below(minimum) for one in report.episodes),
    )


def diffusion_hiding(report: DiffusionAudience, minimum: int) -> DiffusionAudience:
    """The report with counts below ``minimum`` hidden, in its minutes too."""
    if minimum <= 1:
        return report
    flow = report.flow and replace(
        report.flow,
        joined=tuple(shown(count, minimum) for count in report.flow.joined),
        left=tuple(shown(count, minimum) for count in report.flow.left),
        there=tuple(shown(count, minimum) for count in report.flow.there),
    )
    at_start = report.figures.at_start if report.figures else None
    return replace(
        report,
        line=line_hiding(report.line, minimum),
        curve=tuple(shown(mean, minimum) for mean in report.curve),
        # A share of a few people would tell their number.
        retention=() if is_hidden(at_start, minimum) else report.retention,
        retention_of_all=_of_all_shown(report, minimum),
        flow=flow,
        tracks=tuple(line_hiding(line, minimum) for line in report.tracks),
        sounds=tuple(line_hiding(line, minimum) for line in report.sounds),
        tune_outs=tune_outs_hiding(report, minimum),
        on_demand=tuple(line.hiding_below(minimum) for line in report.on_demand),
        episode=report.episode and report.episode.hiding_below(minimum),
        revisions=tuple(one.hiding_below(minimum) for one in report.revisions),
    )


def _of_all_shown(report: DiffusionAudience, minimum: int) -> tuple[float | None, ...]:
    """The shares of all, without those of so few, or of so many, that they would tell a hidden number."""
    flow, met = report.flow, report.figures.met if report.figures else None
    if flow is None or met is None or is_hidden(met, minimum):
        return ()
    return tuple(
        None if there is None or is_hidden(there, minimum) else share
        for there, share in zip(flow.there, report.retention_of_all, strict=False)
    )


def tune_outs_hiding(report: DiffusionAudience, minimum: int) -> tuple[TuneOut, ...]:
    """Without those whose few who left could point at somebody."""
    return tuple(one for one in report.tune_outs if not is_hidden(one.left, minimum))


def line_hiding(line: _Line, minimum: int) -> _Line:
    """The line with the counts of its figures below ``minimum`` hidden."""
    figures: Figures | None = line.figures  # type: ignore[attr-defined]
    return line if figures is None else replace(line, figures=figures.hiding_below(minimum))  # type: ignore[type-var]


def shown(count: Any, minimum: int) -> Any:
    """``count``, None where it is hidden."""
    return None if is_hidden(count, minimum) else count
