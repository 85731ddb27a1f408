"""The audience of one program: its diffusions over time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Count, Q

from ..fields import from_ms, to_ms
from ..kernel.types import Layer
from ..models import Airing, Audience
from .figures import MS_PER_MINUTE, Figures, average, change, falls_short, hours, share
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
    listening_hours: float | None
    average: float | None
    average_before: float | None
    change: float | None
    peak: int | None
    coverage: float | None

    @property
    def is_lower_bound(self) -> bool:
        """Whether a part that matters was not observed."""
        return falls_short(self.coverage)


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
    totals = _totals(program_id, query, now)
    pages = max(1, -(-totals.diffusions // PAGE_DIFFUSIONS))
    page = min(max(page, 1), pages)
    lines = tuple(read_lines(program_id, query, now=now, first=(page - 1) * PAGE_DIFFUSIONS))
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
    where, values = _within(program_id, query, now)
    after: list[object] = []
    while True:
        older = " AND (a.started < %s OR (a.started = %s AND a.id < %s))" if after else ""
        rest = f"{where}{older} {NEWEST_FIRST} LIMIT %s"
        lines = [_line(row) for row in _select(query.rules.name, rest, [*values, *after, READ_AT_ONCE])]
        yield from lines
        if len(lines) < READ_AT_ONCE:
            return
        last_ms = to_ms(lines[-1].started)
        after = [last_ms, last_ms, lines[-1].airing_id]


def rule_sets_in_use(*, now: dt.datetime, program_id: int | None = None) -> tuple[str, ...]:
    """The rule-sets under which the newest diffusion, of a program or of all, has figures, by name."""
    newest = Airing.objects.on_layer(Layer.DIFFUSION).filter(started__lt=now)
    if program_id is None:
        newest = newest.order_by("-id")
    else:
        newest = newest.filter(program_id=program_id).order_by("-started", "-id")
    rows = Audience.objects.filter(airing=newest.values("id")[:1]).order_by("rule_set")
    return tuple(rows.values_list("rule_set", flat=True))


def read_lines(
    program_id: int, query: ReportQuery, *, now: dt.datetime, first: int = 0, count: int = PAGE_DIFFUSIONS
) -> list[DiffusionLine]:
    """``count`` lines from the ``first`` on, newest first."""
    return [_line(row) for row in read_rows(program_id, query, now=now, first=first, count=count)]


def read_rows(
    program_id: int, query: ReportQuery, *, now: dt.datetime, first: int = 0, count: int = PAGE_DIFFUSIONS
) -> list[tuple[Any, ...]]:
    """The same as the database holds it: the one query of the roll-up."""
    where, values = _within(program_id, query, now)
    return _select(query.rules.name, f"{where} {NEWEST_FIRST} LIMIT %s OFFSET %s", [*values, count, first])


def read_line(airing_id: int, rule_set: str) -> DiffusionLine:
    """The line of one diffusion, which must exist."""
    (row,) = _select(rule_set, "a.id = %s", [airing_id])
    return _line(row)


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
"""What a line takes from its airing, before the columns of its figures."""

NEWEST_FIRST = "ORDER BY a.started DESC, a.id DESC"
"""The id breaks ties, so that no diffusion is shown on two pages or on none."""


def _select(rule_set: str, rest: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
    """Rows by SQL: Django would spend several times the database's time on building and converting the same."""
    columns = [*(f'a."{name}"' for name in LINE_COLUMNS), *(f'f."{name}"' for name in Figures.COLUMNS)]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join(columns)} FROM {Airing._meta.db_table} a"
            f" LEFT JOIN {Audience._meta.db_table} f ON f.airing_id = a.id AND f.rule_set = %s WHERE {rest}",
            [rule_set, *values],
        )
        return cursor.fetchall()


def _within(program_id: int, query: ReportQuery, now: dt.datetime) -> tuple[str, list[object]]:
    """The program's diffusions of the period, those planned for later left out, as SQL."""
    ended_ms = min(query.period.ended_ms, to_ms(now))
    where = "a.layer = %s AND a.program_id = %s AND a.started >= %s AND a.started < %s"
    return where, [Layer.DIFFUSION.value, program_id, query.period.started_ms, ended_ms]


def _line(row: Sequence[Any]) -> DiffusionLine:
    (
        airing_id, program_id, program_title, diffusion_id, title, started_ms, ended_ms,
        start_basis, end_basis, is_live, is_running, initial_id, *figures,
    ) = row  # fmt: skip
    return DiffusionLine(
        airing_id=airing_id,
        program_id=program_id,
        program_title=program_title,
        diffusion_id=diffusion_id,
        title=title,
        started=from_ms(started_ms),
        ended=from_ms(ended_ms),
        start_basis=start_basis,
        end_basis=end_basis,
        length_minutes=(ended_ms - started_ms) / MS_PER_MINUTE,
        is_live=bool(is_live),
        is_running=bool(is_running),
        is_rerun=initial_id is not None,
        figures=Figures.of(figures, started_ms, ended_ms),
    )


def _totals(program_id: int, query: ReportQuery, now: dt.datetime) -> ProgramTotals:
    airings = Airing.objects.on_layer(Layer.DIFFUSION).filter(
        program_id=program_id,
        started__gte=query.period.before().started_ms,
        started__lt=min(query.period.ended_ms, to_ms(now)),
    )
    within = Q(started__gte=query.period.started_ms)
    row = with_figures(airings, query.rules.name).aggregate(
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
        listening_hours=hours(row["listening"]),
        average=mean,
        average_before=before,
        change=change(mean, before),
        peak=row["peak"],
        coverage=share(row["observed"], row["length"]),
    )


def _newest_title(program_id: int) -> str:
    newest = Airing.objects.on_layer(Layer.DIFFUSION).filter(program_id=program_id).order_by("-started", "-id")
    return newest.values_list("program_title", flat=True).first() or ""
