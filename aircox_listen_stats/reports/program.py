"""The audience of one program: its diffusions over time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Case, Count, Exists, Max, Q, When

from .. import conf
from ..fields import to_ms
from ..kernel.types import Layer
from ..models import Airing, Audience
from . import blurs, episode
from .blurs import Blurred, Reason, Sense, sense_of
from .episode import EpisodeTotals
from .figures import average, change, falls_short, hours, share
from .lines import DiffusionLine, line_of, marked, select
from .programs import because, both_periods, period_sums, with_figures
from .query import Period, ReportQuery

PAGE_DIFFUSIONS = 52
"""Diffusions on one page: a year of a weekly program."""

READ_AT_ONCE = 500
"""Rows that a streamed export holds in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramTotals:
    """The period in one line. Distinct listeners are missing on purpose: they cannot be added up.

    ``at_least_because``: why listeners could not be told apart in some of its diffusions; ``before_…``: those before.
    """

    diffusions: int
    computed: int
    provisional: int
    listening_hours: float | None
    average: float | None
    average_before: float | None
    change: float | None
    peak: int | None
    coverage: float | None
    at_least_because: tuple[Reason, ...] = ()
    before_at_least_because: tuple[Reason, ...] = ()
    change_is: Sense = Sense.PLAIN

    @property
    def is_lower_bound(self) -> bool:
        """Whether a part that matters was not observed."""
        return falls_short(self.coverage)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramAudience:
    """A program's diffusions in the period, newest first, one page of them.

    ``episodes`` are those of these diffusions that were heard more than once, SHOWN of them.
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
    episodes: tuple[EpisodeTotals, ...]


def program_audience(program_id: int, query: ReportQuery, *, now: dt.datetime, page: int = 1) -> ProgramAudience:
    """The program in the period, in two queries (four where listeners could not be told apart) and those of its
    episodes; a page past the last one is the last one.
    """
    totals, blurred = _totals(program_id, query, now)
    pages = max(1, -(-totals.diffusions // PAGE_DIFFUSIONS))
    page = min(max(page, 1), pages)
    lines = tuple(marked(read_lines(program_id, query, now=now, first=(page - 1) * PAGE_DIFFUSIONS), blurred))
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
        episodes=episode.of_program(lines, query.rules, conf.get(), now=now, blurred=blurred),
    )


def each_diffusion(program_id: int, query: ReportQuery, *, now: dt.datetime) -> Iterator[DiffusionLine]:
    """Every diffusion of the period, newest first, read while it is written: for exports."""
    where, values = _within(program_id, query, now)
    after: list[object] = []
    while True:
        older = " AND (a.started < %s OR (a.started = %s AND a.id < %s))" if after else ""
        rest = f"{where}{older} {NEWEST_FIRST} LIMIT %s"
        lines = marked([line_of(row) for row in select(query.rules.name, rest, [*values, *after, READ_AT_ONCE])])
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
    return [line_of(row) for row in read_rows(program_id, query, now=now, first=first, count=count)]


def read_rows(
    program_id: int, query: ReportQuery, *, now: dt.datetime, first: int = 0, count: int = PAGE_DIFFUSIONS
) -> list[tuple[Any, ...]]:
    """The same as the database holds it: the one query of the roll-up."""
    where, values = _within(program_id, query, now)
    return select(query.rules.name, f"{where} {NEWEST_FIRST} LIMIT %s OFFSET %s", [*values, count, first])


NEWEST_FIRST = "ORDER BY a.started DESC, a.id DESC"
"""The id breaks ties, so that no diffusion is shown on two pages or on none."""


def _within(program_id: int, query: ReportQuery, now: dt.datetime) -> tuple[str, list[object]]:
    """The program's diffusions of the period, those planned for later left out, as SQL."""
    ended_ms = min(query.period.ended_ms, to_ms(now))
    where = "a.layer = %s AND a.program_id = %s AND a.started >= %s AND a.started < %s"
    return where, [Layer.DIFFUSION.value, program_id, query.period.started_ms, ended_ms]


def _totals(program_id: int, query: ReportQuery, now: dt.datetime) -> tuple[ProgramTotals, Blurred]:
    """The totals, and when listeners could not be told apart in the two periods: mostly never, which costs no query."""
    reach = both_periods(query, now)
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
        is_blurred=Max(Case(When(Exists(blurs.within(*reach)), then=1), default=0)),
        **period_sums(within),
    )
    blurred = blurs.read(*reach) if row["is_blurred"] else Blurred(of=reach)
    mean = average(row["known_listening"], row["known_length"])
    before = average(row["known_listening_before"], row["known_length_before"])
    why = because(airings, blurred, query.period.started_ms)
    changed, reasons, reasons_before = change(mean, before), *(why[program_id, at] for at in (True, False))
    totals = ProgramTotals(
        diffusions=row["diffusions"],
        computed=row["computed"],
        provisional=row["provisional"],
        listening_hours=hours(row["listening"]),
        average=mean,
        average_before=before,
        change=changed,
        peak=row["peak"],
        coverage=share(row["observed"], row["length"]),
        at_least_because=reasons,
        before_at_least_because=reasons_before,
        change_is=sense_of(changed, "average", reasons, reasons_before),
    )
    return totals, blurred


def _newest_title(program_id: int) -> str:
    return title_and_station(program_id)[0]


def title_and_station(program_id: int) -> tuple[str, int | None]:
    """What the program was called in its newest diffusion, and on which station that was; none where there is none."""
    newest = Airing.objects.on_layer(Layer.DIFFUSION).filter(program_id=program_id).order_by("-started", "-id")
    return newest.values_list("program_title", "station_id").first() or ("", None)
