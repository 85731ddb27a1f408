"""The audience of every program over a period."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import (
    BigIntegerField,
    Count,
    ExpressionWrapper,
    F,
    FilteredRelation,
    FloatField,
    Max,
    Q,
    Sum,
    Window,
)
from django.db.models.functions import Least, RowNumber

from ..fields import to_ms
from ..kernel.types import Layer
from ..models import Airing, Audience
from ..querysets import AiringQuerySet
from . import blurs
from .blurs import Blurred, Reason, Sense, sense_of
from .figures import KNOWN_COVERAGE, average, change, falls_short, hours, share
from .query import Period, ReportQuery

SPARK_DIFFUSIONS = 12
"""Diffusions in a program's small picture: a quarter of a weekly one."""

Because = Mapping[tuple[int, bool], tuple[Reason, ...]]
"""By program, and whether it is of the period or of the one before it; nothing where there is no reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spark:
    """One diffusion in a program's small picture."""

    started: dt.datetime
    average: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramLine:
    """One program over the period. Averages are weighted by time; ``change`` 0.1 is ten per cent more than before.

    ``at_least_because``: why listeners could not be told apart in some of its diffusions; ``before_…``: those before.
    """

    program_id: int
    title: str
    diffusions: int
    computed: int  # of them, how many have figures
    provisional: int
    listening_hours: float | None
    average: float | None
    average_before: float | None
    change: float | None
    peak: int | None
    coverage: float | None
    latest: tuple[Spark, ...]
    at_least_because: tuple[Reason, ...] = ()
    before_at_least_because: tuple[Reason, ...] = ()
    change_is: Sense = Sense.PLAIN

    @property
    def is_lower_bound(self) -> bool:
        """Whether a part that matters was not observed."""
        return falls_short(self.coverage)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramList:
    """Every program that had a diffusion in the period, by audience, then those that had none, by title."""

    rule_set: str
    period: Period
    coverage: float | None
    provisional: int
    lines: tuple[ProgramLine, ...]


def program_list(
    query: ReportQuery,
    *,
    now: dt.datetime,
    titles: Mapping[int, str] | None = None,
    only: Collection[int] | None = None,
) -> ProgramList:
    """The programs of the period, in three queries, and a fourth where listeners could not be told apart.

    ``titles`` names the station's programs as they stand today, so that those without
    a diffusion are listed too; ``only`` keeps the given ids (None: all).
    """
    titles = {key: title for key, title in (titles or {}).items() if only is None or key in only}
    before = query.period.before()
    airings = _diffusions(query, before.started_ms, min(query.period.ended_ms, to_ms(now)), only)
    latest = _latest(airings.filter(started__gte=query.period.started_ms))
    totals = list(_totals(airings, query.period.started_ms))
    blurred = blurs.read(*both_periods(query, now), station_id=query.station_id)
    why = because(airings, blurred, query.period.started_ms)
    lines = [_line(row, latest[row["program_id"]], titles, why) for row in totals if row["diffusions"]]
    lines.sort(key=lambda line: (-(line.average or 0), line.title.casefold(), line.program_id))
    listed = {line.program_id for line in lines}
    silent = [_silent(key, title) for key, title in titles.items() if key not in listed]
    silent.sort(key=lambda line: (line.title.casefold(), line.program_id))
    return ProgramList(
        rule_set=query.rules.name,
        period=query.period,
        coverage=share(sum(row["observed"] or 0 for row in totals), sum(row["length"] or 0 for row in totals)),
        provisional=sum(line.provisional for line in lines),
        lines=(*lines, *silent),
    )


def has_figures() -> bool:
    """Whether anything has figures at all: on a station's first day nothing has."""
    return Audience.objects.exists()


def with_figures(airings: AiringQuerySet, rule_set: str) -> AiringQuerySet:
    """The airings with ``figures__…`` of that rule-set; NULL where they are not computed yet."""
    return airings.annotate(figures=FilteredRelation("audiences", condition=Q(audiences__rule_set=rule_set)))


def length_ms() -> ExpressionWrapper:
    """How much of an airing its figures tell of; of what is still on air, as far as they were computed."""
    ended = Least("ended", "figures__computed", output_field=BigIntegerField())
    return ExpressionWrapper(ended - F("started"), output_field=BigIntegerField())


def observed_ms() -> ExpressionWrapper:
    """How much of that was observed."""
    return ExpressionWrapper(F("figures__coverage") * length_ms(), output_field=FloatField())


def period_sums(within: Q) -> dict[str, Any]:
    """Aggregates of the period, and of the one before it, that averages and shares are made of."""
    known = Q(figures__coverage__gte=KNOWN_COVERAGE)
    # Of what nobody observed the figures are zero, and that zero means nothing.
    heard = within & (Q(figures__coverage__gt=0) | Q(figures__listening_ms__gt=0))
    return {
        "listening": Sum("figures__listening_ms", filter=heard),
        "observed": Sum(observed_ms(), filter=within),
        "length": Sum(length_ms(), filter=within & Q(figures__id__isnull=False)),
        "peak": Max("figures__peak", filter=heard),
        "known_listening": Sum("figures__listening_ms", filter=within & known),
        "known_length": Sum(length_ms(), filter=within & known),
        "known_listening_before": Sum("figures__listening_ms", filter=~within & known),
        "known_length_before": Sum(length_ms(), filter=~within & known),
    }


def both_periods(query: ReportQuery, now: dt.datetime) -> tuple[int, int]:
    """From the start of the period before to where what was on air in the period has ended."""
    return query.period.before().started_ms, min(query.period.ended_ms, to_ms(now)) + blurs.LONGEST_AIRING_MS


def because(airings: AiringQuerySet, blurred: Blurred, started_ms: int) -> Because:
    """Why listeners could not be told apart in the airings of each program that began from that instant on, or before
    it; in one query, or in none.
    """
    found: dict[tuple[int, bool], set[Reason]] = defaultdict(set)
    if blurred:
        # PostgreSQL and SQLite give these rows in the time of the sums above: some thousand a year.
        told = list(airings.order_by().values_list("program_id", "station_id", "started", "ended"))
        starts, ends = ([to_ms(at) for at in column] for column in ([one[2] for one in told], [one[3] for one in told]))
        each = blurred.each([station_id for _, station_id, _, _ in told], starts, ends)
        for (program_id, *_), began_ms, reasons in zip(told, starts, each, strict=True):
            found[program_id, began_ms >= started_ms].update(reasons)
    return defaultdict(tuple, {key: blurs.in_order(reasons) for key, reasons in found.items()})


def _diffusions(query: ReportQuery, started_ms: int, ended_ms: int, only: Collection[int] | None) -> AiringQuerySet:
    airings = Airing.objects.on_layer(Layer.DIFFUSION).filter(
        program_id__isnull=False, started__gte=started_ms, started__lt=ended_ms
    )
    if query.station_id is not None:
        airings = airings.filter(station_id=query.station_id)
    if only is not None:
        airings = airings.filter(program_id__in=sorted(only))
    return with_figures(airings, query.rules.name)


def _totals(airings: AiringQuerySet, started_ms: int) -> Any:
    within = Q(started__gte=started_ms)
    return (
        airings.values("program_id")
        .annotate(
            diffusions=Count("id", filter=within),
            computed=Count("figures__id", filter=within),
            provisional=Count("figures__id", filter=within & Q(figures__settled=False)),
            **period_sums(within),
        )
        .order_by()
    )


def _latest(airings: AiringQuerySet) -> dict[int, list[tuple[str, Spark]]]:
    """The last diffusions of each program, oldest first, with the title that the program had."""
    newest_first = Window(RowNumber(), partition_by=[F("program_id")], order_by=[F("started").desc(), F("id").desc()])
    rows = (
        airings.annotate(rank=newest_first, length=length_ms())
        .filter(rank__lte=SPARK_DIFFUSIONS)
        .order_by("started", "id")
        .values_list("program_id", "program_title", "started", "length", "figures__listening_ms", "figures__coverage")
    )
    latest = defaultdict(list)
    for program_id, title, started, length, listening, coverage in rows:
        mean = average(listening, length) if coverage else None
        latest[program_id].append((title, Spark(started=started, average=mean)))
    return latest


def _line(row: dict[str, Any], latest: list[tuple[str, Spark]], titles: Mapping[int, str], why: Because) -> ProgramLine:
    mean = average(row["known_listening"], row["known_length"])
    before = average(row["known_listening_before"], row["known_length_before"])
    changed, reasons, reasons_before = change(mean, before), *(why[row["program_id"], at] for at in (True, False))
    return ProgramLine(
        program_id=row["program_id"],
        title=latest[-1][0] or titles.get(row["program_id"], ""),
        diffusions=row["diffusions"],
        computed=row["computed"],
        provisional=row["provisional"],
        listening_hours=hours(row["listening"]),
        average=mean,
        average_before=before,
        change=changed,
        peak=row["peak"],
        coverage=share(row["observed"], row["length"]),
        latest=tuple(spark for _, spark in latest),
        at_least_because=reasons,
        before_at_least_because=reasons_before,
        change_is=sense_of(changed, "average", reasons, reasons_before),
    )


def _silent(program_id: int, title: str) -> ProgramLine:
    return ProgramLine(
        program_id=program_id,
        title=title,
        diffusions=0,
        computed=0,
        provisional=0,
        listening_hours=None,
        average=None,
        average_before=None,
        change=None,
        peak=None,
        coverage=None,
        latest=(),
    )
