"""The audience of one program: its diffusions over time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q

from ..fields import to_ms
from ..kernel.types import Layer
from ..models import Airing, Audience
from ..querysets import AiringQuerySet
from .figures import MINUTE, MS_PER_HOUR, Figures, average, change, share
from .programs import period_sums, with_figures
from .query import Period, ReportQuery

PAGE_DIFFUSIONS = 52
"""Diffusions on one page: a year of a weekly program."""

READ_AT_ONCE = 500
"""Rows that a streamed export holds in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionLine:
    """One diffusion. ``figures`` is None where they are not computed yet."""

    airing_id: int
    program_id: int | None
    program_title: str
    diffusion_id: int | None
    title: str
    started: dt.datetime
    ended: dt.datetime
    start_basis: str
    end_basis: str
    length_minutes: float
    is_live: bool
    is_running: bool
    is_rerun: bool
    figures: Figures | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramTotals:
    """The period in one line. Distinct listeners are missing on purpose: they cannot be added up."""

    diffusions: int
    computed: int
    provisional: int
    listening_hours: float
    average: float | None
    average_before: float | None
    change: float | None
    peak: int | None
    coverage: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramAudience:
    """A program's diffusions in the period, newest first, one page of them.

    ``title`` is the one that the program had in the newest of them; empty where none was ever on air.
    """

    program_id: int
    title: str
    rule_set: str
    period: Period
    totals: ProgramTotals
    page: int
    pages: int
    lines: tuple[DiffusionLine, ...]


def program_audience(program_id: int, query: ReportQuery, *, now: dt.datetime, page: int = 1) -> ProgramAudience:
    """The program in the period, in two queries; a page past the last one is the last one."""
    before_ms = query.period.before().started_ms
    airings = _diffusions(program_id, query.rules.name, before_ms, query.period.ended_ms, now)
    totals = _totals(airings, query.period.started_ms)
    pages = max(1, -(-totals.diffusions // PAGE_DIFFUSIONS))
    page = min(max(page, 1), pages)
    first = (page - 1) * PAGE_DIFFUSIONS
    within = airings.filter(started__gte=query.period.started_ms)
    lines = tuple(read_lines(within, first, first + PAGE_DIFFUSIONS))
    title = lines[0].program_title if lines else _newest_title(program_id)
    return ProgramAudience(
        program_id=program_id,
        title=title,
        rule_set=query.rules.name,
        period=query.period,
        totals=totals,
        page=page,
        pages=pages,
        lines=lines,
    )


def each_diffusion(program_id: int, query: ReportQuery, *, now: dt.datetime) -> Iterator[DiffusionLine]:
    """Every diffusion of the period, newest first, read while it is written: for exports."""
    period = query.period
    airings = _diffusions(program_id, query.rules.name, period.started_ms, period.ended_ms, now)
    for row in _rows(airings).iterator(chunk_size=READ_AT_ONCE):
        yield line_of(row)


def rule_sets_in_use(*, now: dt.datetime, program_id: int | None = None) -> tuple[str, ...]:
    """The rule-sets under which the newest diffusion, of a program or of all, has figures, by name."""
    newest = Airing.objects.on_layer(Layer.DIFFUSION).filter(started__lt=now)
    if program_id is None:
        newest = newest.order_by("-id")
    else:
        newest = newest.filter(program_id=program_id).order_by("-started", "-id")
    rows = Audience.objects.filter(airing=newest.values("id")[:1]).order_by("rule_set")
    return tuple(rows.values_list("rule_set", flat=True))


def read_lines(airings: AiringQuerySet, first: int, last: int) -> list[DiffusionLine]:
    """Lines ``first`` to ``last`` (excluded), newest first: the one query of the roll-up."""
    return [line_of(row) for row in _rows(airings)[first:last]]


LINE_COLUMNS = (
    "id",
    "program_id",
    "program_title",
    "diffusion_id",
    "title",
    "started",
    "ended",
    "start_basis",
    "end_basis",
    "is_live",
    "is_running",
    "initial_id",
)
"""What :func:`line_of` reads of an airing, before the columns of its figures."""

ALL_COLUMNS = (*LINE_COLUMNS, *(f"figures__{name}" for name in Figures.COLUMNS))


def line_of(row: tuple[Any, ...]) -> DiffusionLine:
    """The line of a row of ``ALL_COLUMNS``."""
    values = dict(zip(LINE_COLUMNS, row[: len(LINE_COLUMNS)], strict=True))
    started, ended = values["started"], values["ended"]
    return DiffusionLine(
        airing_id=values.pop("id"),
        is_rerun=values.pop("initial_id") is not None,
        length_minutes=(ended - started) / MINUTE,
        figures=Figures.of(row[len(LINE_COLUMNS) :], started, ended),
        **values,
    )


def _diffusions(program_id: int, rule_set: str, started_ms: int, ended_ms: int, now: dt.datetime) -> AiringQuerySet:
    airings = Airing.objects.on_layer(Layer.DIFFUSION).filter(
        program_id=program_id, started__gte=started_ms, started__lt=min(ended_ms, to_ms(now))
    )
    return with_figures(airings, rule_set)


def _rows(airings: AiringQuerySet) -> AiringQuerySet:
    # The id breaks ties, so that no diffusion is shown on two pages or on none.
    return airings.order_by("-started", "-id").values_list(*ALL_COLUMNS)


def _totals(airings: AiringQuerySet, started_ms: int) -> ProgramTotals:
    within = Q(started__gte=started_ms)
    row = airings.aggregate(
        diffusions=Count("id", filter=within),
        computed=Count("figures__id", filter=within),
        provisional=Count("figures__id", filter=within & Q(figures__settled=False)),
        **period_sums(within),
    )
    mean = average(row["known_listening"], row["known_length"])
    before = average(row["known_listening_before"], row["known_length_before"])
    return ProgramTotals(
        diffusions=row["diffusions"],
        computed=row["computed"],
        provisional=row["provisional"],
        listening_hours=(row["listening"] or 0) / MS_PER_HOUR,
        average=mean,
        average_before=before,
        change=change(mean, before),
        peak=row["peak"],
        coverage=share(row["observed"], row["length"]),
    )


def _newest_title(program_id: int) -> str:
    newest = Airing.objects.on_layer(Layer.DIFFUSION).filter(program_id=program_id).order_by("-started", "-id")
    return newest.values_list("program_title", flat=True).first() or ""
