"""The reports as tables and as JSON: the same values that the pages show.

Column names carry their unit and never change with the language.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from django.http import HttpResponse

from ..fields import from_ms
from ..reports import blurs, performances
from ..reports.diffusion import DiffusionAudience, RevisedFigure, UnderLine
from ..reports.episode import EpisodeTotals
from ..reports.figures import COUNTS, Figures
from ..reports.hiding import diffusion_hiding, shown, tune_outs_hiding
from ..reports.lines import DiffusionLine
from ..reports.on_demand import MARKS
from ..reports.performances import Service
from ..reports.programs import ProgramLine, ProgramList
from ..reports.query import ReportQuery
from ..reports.societies import SOCIETIES
from ..reports.tables import Row, Table
from .asking import Asked

FIGURE_HEADER = (
    "listening_hours",
    "average_audience",
    "peak",
    "peak_at",
    "distinct_listeners",
    "sessions",
    "at_start",
    "at_end",
    "already_there",
    "tuned_in",
    "tuned_out",
    "listened_on",
    "stayed_throughout",
    "coverage_share",
    "is_settled",
    "version",
    "at_least_because",
)

TERMS_HEADER = ("rule_set", "time_zone", "hidden_below")

PROGRAMS_HEADER = (
    "program_id",
    "program",
    "diffusions",
    "diffusions_with_figures",
    "diffusions_provisional",
    "listening_hours",
    "average_audience",
    "average_audience_before",
    "peak",
    "coverage_share",
    "at_least_because",
    "before_at_least_because",
    "period_start",
    "period_end",
    *TERMS_HEADER,
)

DIFFUSIONS_HEADER = (
    "airing_id",
    "diffusion_id",
    "program_id",
    "program",
    "title",
    "start",
    "end",
    "start_utc",
    "length_minutes",
    "start_basis",
    "end_basis",
    "is_live",
    "is_rerun",
    "is_on_air",
    *FIGURE_HEADER,
    *TERMS_HEADER,
)

MINUTES_HEADER = (
    "airing_id",
    "minute",
    "start",
    "start_utc",
    "average_audience",
    "retention_share",
    "retention_of_all_share",
    "tuned_in",
    "tuned_out",
    "is_observed",
    *TERMS_HEADER,
)

UNDER_HEADER = (
    "airing_id",
    "layer",
    "title",
    "artist",
    "start",
    "end",
    "start_utc",
    "length_minutes",
    "start_basis",
    "end_basis",
    *FIGURE_HEADER,
    "tuned_out_expected",
    "tuned_out_chance_share",
    *TERMS_HEADER,
)

BASELINE_HEADER = (
    "airing_id",
    "verdict",
    "average_audience",
    "comparable_diffusions",
    "partly_observed_diffusions",
    "usual_average_audience",
    "usual_spread",
    "usual_least",
    "usual_most",
    "change_share",
    "change_is",
    "as_far_diffusions",
    "chance_share",
    "is_provisional",
    "is_lower_bound",
    *TERMS_HEADER,
)

ON_DEMAND_HEADER = (
    "airing_id",
    "sound_id",
    "title",
    "length_minutes",
    "plays",
    "listening_hours",
    *(f"heard_at_{mark:.0%}_share".replace("%", "") for mark in MARKS),
    "first_play_utc",
    "last_play_utc",
    "hidden_below",
)

ON_DEMAND_MINUTES_HEADER = (
    "airing_id",
    "sound_id",
    "minute",
    "retention_share",
    "hidden_below",
)

EPISODES_HEADER = (
    "program_id",
    "episode_id",
    "title",
    "diffusions",
    "first_start",
    "last_start",
    "plays",
    "listening_hours",
    "on_air_hours",
    "on_demand_hours",
    "distinct_listeners_at_least",
    "distinct_listeners_at_most",
    "coverage_share",
    "is_settled",
    "at_least_because",
    *TERMS_HEADER,
)

EPISODE_HEADER = (
    "episode_id",
    "part",
    "airing_id",
    "start",
    "start_utc",
    "is_rerun",
    "plays",
    "listening_hours",
    "distinct_listeners_at_least",
    "distinct_listeners_at_most",
    "coverage_share",
    "is_settled",
    "at_least_because",
    *TERMS_HEADER,
)

REVISIONS_HEADER = (
    "airing_id",
    "version",
    "at",
    "at_utc",
    "why",
    "who",
    "figure",
    "before",
    "after",
    *TERMS_HEADER,
)


def programs_table(report: ProgramList, *, minimum: int) -> Table:
    """One row for each program."""
    period = report.period
    terms = (period.started, period.ended, report.rule_set, period.zone, minimum)
    rows = ((*_program(line, minimum), *terms) for line in report.lines)
    return Table(name=f"programs_{period.first}_{period.last}", header=PROGRAMS_HEADER, rows=rows)


def program_table(program_id: int, lines: Iterator[DiffusionLine], query: ReportQuery, *, minimum: int) -> Table:
    """One row for each diffusion of a program, however many there are."""
    period = query.period
    rows = _diffusions(lines, query.rules.name, period.zone, minimum)
    return Table(name=f"program_{program_id}_{period.first}_{period.last}", header=DIFFUSIONS_HEADER, rows=rows)


def episodes_table(program_id: int, episodes: Iterator[EpisodeTotals], query: ReportQuery, *, minimum: int) -> Table:
    """One row for each episode of a program that was heard more than once."""
    period = query.period
    terms = (query.rules.name, period.zone, minimum)
    rows = ((program_id, *_episode(one.hiding_below(minimum), period.zone), *terms) for one in episodes)
    name = f"program_{program_id}_{period.first}_{period.last}_episodes"
    return Table(name=name, header=EPISODES_HEADER, rows=rows)


def diffusion_table(report: DiffusionAudience, table: str, *, minimum: int) -> Table:
    """The diffusion's figures, or with ``table`` its minutes or what was on air under it."""
    header, rows = DIFFUSION_TABLES[table](report, minimum)
    return Table(name=f"{diffusion_name(report)}_{table}", header=header, rows=rows)


def diffusion_tables(report: DiffusionAudience, *, minimum: int) -> list[Table]:
    """All tables of the diffusion, called by what they hold."""
    found = {name: make(report, minimum) for name, make in DIFFUSION_TABLES.items()}
    return [Table(name=name, header=header, rows=rows) for name, (header, rows) in found.items()]


def diffusion_name(report: DiffusionAudience) -> str:
    """What its files are called, without table and suffix."""
    started = report.line.started.astimezone(zoneinfo.ZoneInfo(report.zone))
    return f"diffusion_{report.line.airing_id}_{started:%Y-%m-%d}"


def performances_table(name: str, asked: Asked, *, now: dt.datetime) -> Table:
    """The plays of the asked period in the columns of the society called ``name``."""
    period, station_id = asked.period, asked.query.station_id
    called = asked.station or (asked.stations[0] if len(asked.stations) == 1 else None)
    service = Service(
        name=called.name if called else "",
        tuning_hours=performances.tuning_hours(period, station_id),
        period=period,
    )
    plays = performances.each_play(period, station_id, now=now)
    return SOCIETIES[name].table(f"performances_{name}_{period.first}_{period.last}", plays, service)


def json_response(report: Any) -> HttpResponse:
    """The report's own values; instants in UTC, unknown and hidden numbers null."""
    response = HttpResponse(msgspec.json.encode(report), content_type="application/json")
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _program(line: ProgramLine, minimum: int) -> Row:
    return (
        line.program_id,
        line.title,
        line.diffusions,
        line.computed,
        line.provisional,
        line.listening_hours,
        line.average,
        line.average_before,
        shown(line.peak, minimum),
        line.coverage,
        blurs.reasons_cell(line.at_least_because),
        blurs.reasons_cell(line.before_at_least_because),
    )


def _diffusions(lines: Iterator[DiffusionLine], rule_set: str, zone: str, minimum: int) -> Iterator[Row]:
    local = zoneinfo.ZoneInfo(zone)
    for line in lines:
        yield (
            line.airing_id,
            line.diffusion_id,
            line.program_id,
            line.program_title,
            line.title,
            _local(line.started, local),
            _local(line.ended, local),
            _utc(line.started),
            line.length_minutes,
            line.start_basis,
            line.end_basis,
            line.is_live,
            line.is_rerun,
            line.is_running,
            *_figures(line.figures, local, minimum),
            rule_set,
            zone,
            minimum,
        )


def _figures(figures: Figures | None, local: zoneinfo.ZoneInfo, minimum: int) -> Row:
    if figures is None:
        return (None,) * len(FIGURE_HEADER)
    shown = figures.hiding_below(minimum)
    return (
        shown.listening_hours,
        shown.average,
        shown.peak,
        shown.peak_at and _local(shown.peak_at, local),
        *(getattr(shown, name) for name in COUNTS if name != "peak"),
        shown.coverage,
        shown.settled,
        shown.version,
        blurs.reasons_cell(shown.at_least_because),
    )


def _figures_table(report: DiffusionAudience, minimum: int) -> tuple[Sequence[str], Iterator[Row]]:
    return DIFFUSIONS_HEADER, _diffusions(iter([report.line]), report.rule_set, report.zone, minimum)


def _minutes_table(report: DiffusionAudience, minimum: int) -> tuple[Sequence[str], Iterator[Row]]:
    return MINUTES_HEADER, _minutes(diffusion_hiding(report, minimum), minimum)


def _under_table(report: DiffusionAudience, minimum: int) -> tuple[Sequence[str], Iterator[Row]]:
    return UNDER_HEADER, _under((*report.sounds, *report.tracks), report, minimum)


def _baseline_table(report: DiffusionAudience, minimum: int) -> tuple[Sequence[str], Iterator[Row]]:
    return BASELINE_HEADER, _baseline(report, minimum)


def _on_demand_table(report: DiffusionAudience, minimum: int) -> tuple[Sequence[str], Iterator[Row]]:
    return ON_DEMAND_HEADER, _on_demand(diffusion_hiding(report, minimum), minimum)


def _on_demand_minutes_table(report: DiffusionAudience, minimum: int) -> tuple[Sequence[str], Iterator[Row]]:
    shown = diffusion_hiding(report, minimum)
    rows = (
        (shown.line.airing_id, line.sound_id, minute, share, minimum)
        for line in shown.on_demand
        for minute, share in enumerate(line.retention)
    )
    return ON_DEMAND_MINUTES_HEADER, rows


def _episode_table(report: DiffusionAudience, minimum: int) -> tuple[Sequence[str], Iterator[Row]]:
    return EPISODE_HEADER, _episode_parts(diffusion_hiding(report, minimum), minimum)


def _revisions_table(report: DiffusionAudience, minimum: int) -> tuple[Sequence[str], Iterator[Row]]:
    return REVISIONS_HEADER, _revisions(diffusion_hiding(report, minimum), minimum)


def _baseline(report: DiffusionAudience, minimum: int) -> Iterator[Row]:
    """One row, or none where the diffusion is compared with nothing."""
    one = report.baseline
    if one is not None:
        yield (
            report.line.airing_id,
            one.verdict.value,
            one.average,
            one.comparable,
            one.partly_observed,
            one.median,
            one.spread,
            one.least,
            one.most,
            one.change,
            one.change_is.value or None,
            one.as_far,
            one.chance,
            one.is_provisional,
            one.is_lower_bound,
            report.rule_set,
            report.zone,
            minimum,
        )


def _revisions(report: DiffusionAudience, minimum: int) -> Iterator[Row]:
    """A row for each figure of each version after the first; several causes stand in one cell."""
    local = zoneinfo.ZoneInfo(report.zone)
    for one in report.revisions:
        why, who = ("; ".join(dict.fromkeys(getattr(cause, name) for cause in one.causes)) for name in ("why", "who"))
        for figure in one.figures or [RevisedFigure(name="curve", before=None, after=None)]:
            yield (
                report.line.airing_id,
                one.version,
                _local(one.at, local),
                _utc(one.at),
                why,
                who,
                figure.name,
                *(_revised(figure.name, value) for value in (figure.before, figure.after)),
                report.rule_set,
                report.zone,
                minimum,
            )


def _revised(name: str, value: float | None) -> float | dt.datetime | None:
    return _utc(from_ms(int(value))) if name == "peak_at" and value is not None else value


def _on_demand(report: DiffusionAudience, minimum: int) -> Iterator[Row]:
    for line in report.on_demand:
        yield (
            report.line.airing_id,
            line.sound_id,
            line.title,
            line.length_minutes,
            line.plays,
            line.listening_hours,
            *(share for _, share in line.heard or [(mark, None) for mark in MARKS]),
            _utc(line.first_play),
            _utc(line.last_play),
            minimum,
        )


def _episode(one: EpisodeTotals, zone: str) -> Row:
    local = zoneinfo.ZoneInfo(zone)
    starts = [_local(line.started, local) for line in one.lines] or [None]
    return (
        one.episode_id,
        one.title,
        len(one.lines),
        starts[0],
        starts[-1],
        one.plays,
        one.listening_hours,
        one.broadcast_hours,
        one.on_demand_hours,
        one.listeners_at_least,
        one.listeners_at_most,
        one.coverage,
        one.settled,
        blurs.reasons_cell(one.at_least_because),
    )


def _episode_parts(report: DiffusionAudience, minimum: int) -> Iterator[Row]:
    """A row for each diffusion of the episode, one for its plays on demand, and one for all of it."""
    whole, local = report.episode, zoneinfo.ZoneInfo(report.zone)
    if whole is None:
        return
    terms = (report.rule_set, report.zone, minimum)
    for line in whole.lines:
        figures = line.figures
        known = figures and (
            figures.listening_hours, figures.listeners, None if figures.at_least_because else figures.listeners,
            figures.coverage, figures.settled,
            blurs.reasons_cell(figures.at_least_because),
        )  # fmt: skip
        when = (_local(line.started, local), _utc(line.started), line.is_rerun)
        yield whole.episode_id, "diffusion", line.airing_id, *when, None, *(known or [None] * 6), *terms
    nothing = (None, None, None, None)
    if report.on_demand:
        played = (whole.plays, whole.on_demand_hours, None, None, None, None, None)
        yield whole.episode_id, "on-demand", *nothing, *played, *terms
    together = (
        whole.plays, whole.listening_hours, whole.listeners_at_least, whole.listeners_at_most, whole.coverage,
        whole.settled, blurs.reasons_cell(whole.at_least_because),
    )  # fmt: skip
    yield whole.episode_id, "episode", *nothing, *together, *terms


def _minutes(report: DiffusionAudience, minimum: int) -> Iterator[Row]:
    local = zoneinfo.ZoneInfo(report.zone)
    for minute, mean in enumerate(report.curve):
        started = report.line.started + dt.timedelta(minutes=minute)
        yield (
            report.line.airing_id,
            minute,
            _local(started, local),
            _utc(started),
            mean,
            _at(report.retention, minute),
            _at(report.retention_of_all, minute),
            _at(report.flow and report.flow.joined, minute),
            _at(report.flow and report.flow.left, minute),
            not any(gap.started < started + dt.timedelta(minutes=1) and started < gap.ended for gap in report.gaps),
            report.rule_set,
            report.zone,
            minimum,
        )


def _under(lines: Sequence[UnderLine], report: DiffusionAudience, minimum: int) -> Iterator[Row]:
    local = zoneinfo.ZoneInfo(report.zone)
    judged = {one.airing_id: (one.expected, one.chance) for one in tune_outs_hiding(report, minimum)}
    for line in sorted(lines, key=lambda line: (line.started, line.airing_id)):
        yield (
            line.airing_id,
            line.layer,
            line.title,
            line.artist,
            _local(line.started, local),
            _local(line.ended, local),
            _utc(line.started),
            line.length_minutes,
            line.start_basis,
            line.end_basis,
            *_figures(line.figures, local, minimum),
            *judged.get(line.airing_id, (None, None)),
            report.rule_set,
            report.zone,
            minimum,
        )


DIFFUSION_TABLES: dict[str, Callable[[DiffusionAudience, int], tuple[Sequence[str], Iterator[Row]]]] = {
    "figures": _figures_table,
    "minutes": _minutes_table,
    "on-air": _under_table,
    "baseline": _baseline_table,
    "on-demand": _on_demand_table,
    "on-demand-minutes": _on_demand_minutes_table,
    "episode": _episode_table,
    "revisions": _revisions_table,
}
"""The tables of a diffusion, by the value of ``?table=``."""


def _at(values: Sequence[Any] | None, place: int) -> Any:
    return values[place] if values and place < len(values) else None


def _local(instant: dt.datetime, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    return instant.astimezone(zone)


def _utc(instant: dt.datetime) -> dt.datetime:
    return instant.astimezone(dt.UTC)
