"""The figures of a period, for cron and for the terminal."""

from __future__ import annotations

import datetime as dt
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import IO, Any

import msgspec
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ... import conf
from ...errors import ConfigurationError
from ...models import Stream
from ...reports import blurs, report_rows, report_tables, spans, tables, workbook
from ...reports.blurs import Sense
from ...reports.periods import PeriodFigure, PeriodReport, Scope, ScopeKind, Unit
from ...reports.program import title_and_station
from ...reports.scope_report import ScopeReport, scope_report
from ...reports.spans import Span
from . import _files, _words

FORMATS = ("text", "csv", "json", "xlsx")

NAME_WIDTH, VALUE_WIDTH, CHANGE_WIDTH = 20, 22, 11
"""Characters of the columns of the text."""

NOTHING_KNOWN = 3
"""The exit status where the period has a report in which no figure is known."""


class Command(BaseCommand):
    help = (
        "Writes the figures of a period beside those of the period before and of the same one last year, as the page "
        "of the report shows them. Exit status 0; 1 where what is asked cannot be understood or written; 3 where "
        "nothing is known of the period (the report is written all the same)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--period",
            nargs="+",
            default=["last-week"],
            metavar="PERIOD",
            help=f"{', '.join(spans.NAMED)}, {spans.EXAMPLES} (default: last-week)",
        )
        parser.add_argument(
            "--daypart", metavar="HOURS", help=f"of each day these alone: {', '.join(spans.DAYPART_NAMES)}"
        )
        parser.add_argument(
            "--scope",
            default="station",
            metavar="SCOPE",
            help="station, stream:SLUG, program:ID, episode:ID, diffusion:ID or track:ID (default: station)",
        )
        parser.add_argument("--station", metavar="SLUG", help="which station, where there are several")
        parser.add_argument("--rules", metavar="NAME", help="the rule-set (default: the station's)")
        parser.add_argument("--format", default="text", choices=FORMATS, help="default: %(default)s")
        parser.add_argument(
            "--table",
            default="figures",
            choices=list(report_tables.TABLES),
            help="of CSV: which (default: %(default)s)",
        )
        parser.add_argument("--output", default="-", metavar="FILE", help="default: the standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        settings, now = conf.get(), timezone.now()
        try:
            rules = settings.rules(options["rules"])
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        span = _span(options["period"], options["daypart"], now)
        made = scope_report(_scope(options["scope"], options["station"]), span, rules, now=now)
        with timezone.override(settings.zone), _files.written(options["output"]) as file:
            _write(file, made, options["format"], options["table"], settings.minimum_cell)
        if not made.report.is_known:
            raise CommandError(
                f"Nothing is known of {span.name} under {rules.name!r}: no stream was observed in it, or "
                "listen_stats_rebuild has not computed its figures.",
                returncode=NOTHING_KNOWN,
            )


def _span(words: list[str], hours: str | None, now: dt.datetime) -> Span:
    try:
        span = spans.read(words, conf.get(), now=now)
        return span if hours is None else span.within(spans.daypart(hours))
    except ValueError as error:
        raise CommandError(str(error)) from error


def _scope(text: str, station: str | None) -> Scope:
    kind, _, name = text.partition(":")
    kinds = [one.value for one in ScopeKind]
    if kind not in kinds or bool(name) != (kind != ScopeKind.STATION):
        allowed = ", ".join(one if one == ScopeKind.STATION else f"{one}:…" for one in kinds)
        raise CommandError(f"--scope is {text!r}. Allowed: {allowed}, such as stream:live or program:12.")
    if kind == ScopeKind.STREAM:
        stream = _words.stream(name)
        return Scope(kind=ScopeKind.STREAM, id=stream.pk, station_id=stream.station_id)
    if kind == ScopeKind.STATION:
        return Scope.station(_station(station))
    if not name.isdecimal():
        raise CommandError(f"--scope is {text!r}; expected {kind}: and aircox's number, such as {kind}:12.")
    if kind == ScopeKind.PROGRAM and station is None:
        _, station_id = title_and_station(int(name))
        if station_id is None:
            raise CommandError(f"No diffusion of program {name} is known. Its number is that of aircox's admin.")
        return Scope(kind=ScopeKind.PROGRAM, id=int(name), station_id=station_id)
    return Scope(kind=ScopeKind(kind), id=int(name), station_id=_station(station))


def _station(name: str | None) -> int:
    """The station that was named, or the only one that has streams."""
    if name is not None:
        return _words.station(name) or 0
    known = sorted(set(Stream.objects.counting().values_list("station_id", flat=True)))
    if len(known) != 1:
        raise CommandError(f"There are {len(known)} stations with streams; name one with --station.")
    return known[0]


def _write(file: IO[bytes], made: ScopeReport, form: str, table: str, minimum: int) -> None:
    match form:
        case "csv":
            held = report_tables.table(made, table, minimum=minimum)
            file.writelines(tables.write(held.header, held.rows))
        case "json":
            file.write(msgspec.json.encode(made.hiding_below(minimum)) + b"\n")
        case "xlsx":
            workbook.write_workbook(file, report_tables.sheets(made, minimum=minimum))
        case _:
            file.write("".join(f"{line}\n" for line in _text(made.hiding_below(minimum))).encode())


# Text --------------------------------------------------------------------------------------------


def _text(made: ScopeReport) -> Iterator[str]:
    """The figures as lines of fixed width; names and units are those of the tables."""
    comparison = made.comparison
    year_before = comparison.year_before
    yield f"{made.report.scope.kind} {made.report.scope.id}, {made.report.span.name}, rule-set {made.report.rule_set}"
    until = made.report.until.astimezone(made.report.span.zone_info)
    yield f"{made.report.span.started.isoformat()} to {until.isoformat()}"
    yield ""
    yield _line("figure", made.report.span.name, comparison.before.span.name, "change", year_before, "change")
    for row in report_rows.figure_rows(comparison):
        yield _line(
            row.now.name,
            _value(row.now),
            _value(row.before),
            _change(row.change, row.change_is),
            year_before and row.year_before,
            _change(row.change_on_year, row.change_on_year_is),
        )
    yield _line(
        "coverage_share",
        _share(made.report.coverage),
        _share(comparison.before.coverage),
        "",
        year_before and _share(year_before.coverage),
        "",
    )
    yield _line(
        "settled",
        _settled(made.report),
        _settled(comparison.before),
        "",
        year_before and _settled(year_before),
        "",
    )
    yield _line(
        "at_least_because",
        _because(made.report),
        _because(comparison.before),
        "",
        year_before and _because(year_before),
        "",
    )


def _line(
    name: str,
    value: str,
    before: str,
    change: str,
    year_before: PeriodReport | PeriodFigure | str | None,
    change_on_year: str,
) -> str:
    columns = [
        f"{name:<{NAME_WIDTH}}",
        f"{value:>{VALUE_WIDTH}}",
        f"{before:>{VALUE_WIDTH}}",
        f"{change:>{CHANGE_WIDTH}}",
    ]
    if isinstance(year_before, PeriodReport):
        year_before = year_before.span.name
    if isinstance(year_before, PeriodFigure):
        year_before = _value(year_before)
    if year_before is not None:
        columns += [f"{year_before:>{VALUE_WIDTH}}", f"{change_on_year:>{CHANGE_WIDTH}}"]
    return "".join(columns).rstrip()


def _value(one: PeriodFigure) -> str:
    """The value with ≥ where a part was not observed, the bounds where only these are known, a dash for unknown."""
    if one.value is None:
        edges = (None if edge is None else _number(edge, one.unit) for edge in (one.lower, one.upper))
        lower, upper = edges
        if lower and upper and not one.is_lower_bound:
            return f"{lower}..{upper}"
        return f">={lower}" if lower else f"<={upper}" if upper else "-"
    if one.upper == one.value and one.lower is None:
        return f"<={_number(one.value, one.unit)}"
    mark = ">=" if one.is_lower_bound and one.unit in (Unit.HOURS, Unit.HEADS, Unit.SESSIONS, Unit.BYTES) else ""
    return mark + _number(one.value, one.unit)


def _number(value: float | dt.datetime, unit: Unit) -> str:
    if isinstance(value, dt.datetime):
        return timezone.localtime(value).strftime("%Y-%m-%dT%H:%M:%S")
    if unit is Unit.SHARE:
        return _share(value)
    return f"{value}" if isinstance(value, int) else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _change(value: float | None, sense: Sense) -> str:
    """With >= or <= where that is all that is known, and in parentheses what is of what was counted alone."""
    if value is None:
        return ""
    form = {Sense.PLAIN: "{}", Sense.AT_LEAST: ">={}", Sense.AT_MOST: "<={}", Sense.COUNTED: "({})"}[sense]
    return form.format(f"{value:+.1%}")


def _because(report: PeriodReport) -> str:
    return blurs.reasons_cell(report.at_least_because) or "-"


def _settled(report: PeriodReport) -> str:
    if not report.is_known:
        return "-"
    return "settled" if report.settled else "provisional"
