"""The pages. Each asks one report and shows it as HTML, as a table or as JSON (``?format=``)."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from .. import conf
from ..pipeline import letters
from ..reports import diffusion as diffusions
from ..reports import episode, hiding, report_tables
from ..reports.definitions import DEFINITIONS, PERIOD_DEFINITIONS
from ..reports.periods import Scope, ScopeKind
from ..reports.program import each_diffusion, program_audience, rule_sets_in_use, title_and_station
from ..reports.programs import has_figures, program_list
from ..reports.query import WEEK_CHOICES
from ..reports.report_rows import page_rows
from ..reports.scope_report import scope_report
from ..reports.societies import SOCIETIES
from ..reports.spans import DAYPART_NAMES
from ..reports.status import status as collection_status
from . import api_page, drawing, exports, marks, openapi, report_asking, tables
from .access import Reach, for_people, reach_of, station_programs, stations
from .asking import Asked, read
from .minutes import chart_figures, minute_rows
from .report_asking import AskedReport

PROGRAM_WEEKS = 52
"""What the page of one program shows unless asked: a year, so that seasons can be compared."""


GREATEST_ID = 2**31 - 1
"""Of an integer column; SQLite refuses to be asked for more than 64 bits."""


@require_safe
@for_people
def programs(request: HttpRequest) -> HttpResponse:
    """Every program that the visitor may see, over a period."""
    settings, now = conf.get(), timezone.now()
    known = station_programs()
    reach = reach_of(request.user, known)
    if reach.program_ids == frozenset():
        return _forbidden(request, _("No program has been given to you yet."))
    asked = read(request.GET, settings, now=now, stations=stations())
    report = program_list(asked.query, now=now, titles=_titles(known, asked), only=reach.program_ids)
    match request.GET.get("format"):
        case "csv":
            return tables.csv_response(request, exports.programs_table(report, minimum=settings.minimum_cell))
        case "xlsx":
            table = exports.programs_table(report, minimum=settings.minimum_cell)
            return tables.xlsx_response(request, table.name, [replace(table, name="programs")])
        case "json":
            return exports.json_response(hiding.programs_hiding(report, settings.minimum_cell))
    context = {
        "report": report,
        "asked": asked,
        "rule_sets": rule_sets_in_use(now=now),
        "marks": marks.of_programs(report),
        "is_first_day": not any(line.computed for line in report.lines) and not has_figures(),
    }
    return _page(request, "programs.html", context, reach)


@require_safe
@for_people
def program(request: HttpRequest, program_id: int) -> HttpResponse:
    """The diffusions of one program over a period."""
    settings, now = conf.get(), timezone.now()
    known = station_programs()
    reach = reach_of(request.user, known)
    if not reach.covers(program_id):
        return _forbidden(request, _("This program has not been given to you."))
    if program_id > GREATEST_ID:
        return _missing(request, _("There is no program %(number)d.") % {"number": program_id})
    asked = read(request.GET, settings, now=now, weeks=PROGRAM_WEEKS)
    if request.GET.get("format") in ("csv", "xlsx"):
        return _program_tables(request, program_id, asked, now)
    report = program_audience(program_id, asked.query, now=now, page=_page_number(request))
    aircox_program = known.get(program_id)
    if not report.title and aircox_program is None:
        return _missing(request, _("There is no program %(number)d.") % {"number": program_id})
    if request.GET.get("format") == "json":
        return exports.json_response(hiding.program_hiding(report, settings.minimum_cell))
    context = {
        "report": report,
        "asked": asked,
        "rule_sets": rule_sets_in_use(now=now, program_id=program_id),
        "title": (aircox_program and aircox_program.title) or report.title,
        "chart": drawing.bars(report.lines, settings.zone),
        "marks": marks.of_program(report),
        "letters": _letters(request.user, program_id, settings),
    }
    return _page(request, "program.html", context, reach)


def _letters(user: Any, program_id: int, settings: conf.Settings) -> dict[str, Any] | None:
    """Whether the visitor gets letters about the program, and where; None where the station sends none."""
    if not settings.letters.enabled:
        return None
    address = getattr(user, user.get_email_field_name(), "")
    return {"address": address, "is_wanted": letters.is_wanted(user.pk, program_id)}


def _program_tables(request: HttpRequest, program_id: int, asked: Asked, now: dt.datetime) -> HttpResponse:
    """The diffusions of the program, and its episodes, all of the period: one of them as CSV, or a workbook of both."""
    settings, query = conf.get(), asked.query
    lines, again = (each_diffusion(program_id, query, now=now) for _ in range(2))
    found = episode.each_of_program(again, query.rules, settings, now=now)
    held = {
        "diffusions": exports.program_table(program_id, lines, query, minimum=settings.minimum_cell),
        "episodes": exports.episodes_table(program_id, found, query, minimum=settings.minimum_cell),
    }
    if request.GET["format"] == "xlsx":
        sheets = [replace(table, name=name) for name, table in held.items()]
        return tables.xlsx_response(request, held["diffusions"].name, sheets)
    name = request.GET.get("table", "diffusions")
    if name not in held:
        raise Http404(f"There is no table {name!r}; there are {', '.join(held)}.")
    return tables.csv_response(request, held[name])


@require_safe
@for_people
def report(request: HttpRequest) -> HttpResponse:
    """The figures of the station, or of one of its streams, over a period: for those who may see everything."""
    settings, now = conf.get(), timezone.now()
    reach = reach_of(request.user)
    if not reach.is_everything:
        return _forbidden(request, _("This page is for the station's staff."), is_about_programs=False)
    asked = report_asking.read(request.GET, settings, now=now, stations=stations())
    return _report_page(request, asked, reach)


@require_safe
@for_people
def program_report(request: HttpRequest, program_id: int) -> HttpResponse:
    """The figures of one program over a period."""
    settings, now = conf.get(), timezone.now()
    known = station_programs()
    reach = reach_of(request.user, known)
    if not reach.covers(program_id):
        return _forbidden(request, _("This program has not been given to you."))
    title, station_id = title_and_station(program_id) if program_id <= GREATEST_ID else ("", None)
    if program_id in known:
        title, station_id = known[program_id].title, known[program_id].station_id
    if station_id is None:
        return _missing(request, _("There is no program %(number)d.") % {"number": program_id})
    scope = Scope(kind=ScopeKind.PROGRAM, id=program_id, station_id=station_id)
    asked = report_asking.read(request.GET, settings, now=now, stations=(), program=scope)
    return _report_page(request, asked, reach, title=title)


def _report_page(request: HttpRequest, asked: AskedReport, reach: Reach, title: str = "") -> HttpResponse:
    """A report as it is asked for: page, table, workbook or JSON."""
    settings, now = conf.get(), timezone.now()
    made = scope_report(asked.scope, asked.span, asked.rules, now=now)
    match request.GET.get("format"):
        case "csv":
            name = request.GET.get("table", "figures")
            if name not in report_tables.TABLES:
                raise Http404(f"There is no table {name!r}; there are {', '.join(report_tables.TABLES)}.")
            return tables.csv_response(request, report_tables.table(made, name, minimum=settings.minimum_cell))
        case "xlsx":
            sheets = report_tables.sheets(made, minimum=settings.minimum_cell)
            return tables.xlsx_response(request, report_tables.file_name(made), sheets)
        case "json":
            return exports.json_response(made.hiding_below(settings.minimum_cell))
    rows, unknown = page_rows(made.comparison)
    context = {
        "made": made,
        "report": made.report,
        "asked": asked,
        "title": title,
        "choices": report_asking.CHOICES,
        "dayparts": DAYPART_NAMES,
        "rule_sets": rule_sets_in_use(now=now),
        "chart": drawing.step_bars(made, settings.zone),
        "rows": rows,
        "unknown": unknown,
        "definitions": PERIOD_DEFINITIONS,
    }
    return _page(request, "report.html", context, reach)


@require_safe
@for_people
def diffusion(request: HttpRequest, airing_id: int) -> HttpResponse:
    """One diffusion: its figures, its curve, and what was on air under it."""
    settings, now = conf.get(), timezone.now()
    reach = reach_of(request.user)
    airing = diffusions.find(airing_id)
    if airing is None and reach.is_everything:
        return _missing(request, _("There is no diffusion %(number)d.") % {"number": airing_id})
    if airing is None or not reach.covers(airing.program_id):
        return _forbidden(request, _("This diffusion belongs to no program that has been given to you."))
    asked = read(request.GET, settings, now=now)
    report = diffusions.diffusion_audience(airing, asked.query.rules, settings, now=now)
    report = diffusions.within_reach(report, reach.covers)
    match request.GET.get("format"):
        case "csv":
            table = request.GET.get("table", "figures")
            if table not in exports.DIFFUSION_TABLES:
                raise Http404(f"There is no table {table!r}; there are {', '.join(exports.DIFFUSION_TABLES)}.")
            return tables.csv_response(request, exports.diffusion_table(report, table, minimum=settings.minimum_cell))
        case "xlsx":
            sheets = exports.diffusion_tables(report, minimum=settings.minimum_cell)
            return tables.xlsx_response(request, exports.diffusion_name(report), sheets)
        case "json":
            return exports.json_response(hiding.diffusion_hiding(report, settings.minimum_cell))
    chart = drawing.curve(report)
    context = {
        "report": report,
        "asked": asked,
        "rule_sets": diffusions.rule_sets_of(airing.pk),
        "chart": chart,
        "chart_figures": chart_figures(report, top=chart.top_value),
        "minute_rows": minute_rows(report),
        "retention_lines": {
            "of_start": drawing.retention_line(report.retention, chart.minutes),
            "of_all": drawing.retention_line(report.retention_of_all, chart.minutes),
        },
        "on_demand": [(line, drawing.recording_chart(line)) for line in report.on_demand if line.retention],
        "marks": marks.of_diffusion(report),
        "under": sorted((*report.sounds, *report.tracks), key=lambda line: (line.started, line.layer)),
    }
    return _page(request, "diffusion.html", context, reach)


@require_safe
@for_people
def diffusion_of(request: HttpRequest, diffusion_id: int) -> HttpResponse:
    """To the page of aircox's diffusion of that number: what a station's own pages link to."""
    airing = diffusions.newest_of(diffusion_id)
    if airing is None:
        return _missing(request, _("Diffusion %(number)d has not been on air yet.") % {"number": diffusion_id})
    return HttpResponseRedirect(reverse("listen_stats:diffusion", args=[airing.pk]))


@require_safe
@for_people
def status(request: HttpRequest) -> HttpResponse:
    """How the collection is doing, for those who may see everything."""
    settings, now = conf.get(), timezone.now()
    reach = reach_of(request.user)
    if not reach.is_everything:
        return _forbidden(request, _("This page is for the station's technicians."), is_about_programs=False)
    report = collection_status(settings, now=now)
    if request.GET.get("format") == "json":
        return exports.json_response(report)
    strips = {stream.slug: drawing.strip(stream.spans, report.window_started, report.at) for stream in report.streams}
    names = {station.id: station.name for station in stations()}
    return _page(request, "status.html", {"report": report, "strips": strips, "stations": names}, reach)


@require_safe
@for_people
def performances(request: HttpRequest) -> HttpResponse:
    """Per-track performances, in the columns of the society that is asked for: for those who may see everything."""
    settings, now = conf.get(), timezone.now()
    reach = reach_of(request.user)
    if not reach.is_everything:
        return _forbidden(request, _("This page is for the station's staff."), is_about_programs=False)
    asked = read(request.GET, settings, now=now, stations=stations(), weeks=WEEK_CHOICES[0])
    name = request.GET.get("society")
    if name is None:
        return _page(request, "performances.html", {"asked": asked, "societies": SOCIETIES}, reach)
    if name not in SOCIETIES:
        raise Http404(f"There is no society {name!r}; there are {', '.join(SOCIETIES)}.")
    table = exports.performances_table(name, asked, now=now)
    if request.GET.get("format") == "xlsx":
        return tables.xlsx_response(request, table.name, [replace(table, name="performances")])
    return tables.csv_response(request, table)


@require_safe
@for_people
def api(request: HttpRequest) -> HttpResponse:
    """The endpoints for programs, to read."""
    operations = api_page.operations(openapi.document(openapi.prefix()))
    return _page(request, "api.html", {"operations": operations}, reach_of(request.user))


def _page(
    request: HttpRequest, template: str, context: dict[str, Any], reach: Reach, *, status: int = 200
) -> HttpResponse:
    """The page, rendered on the clock of the station."""
    settings = conf.get()
    shared = {
        "base_template": settings.base_template,
        "own_rule_set": settings.rule_set,
        "definitions": DEFINITIONS,
        "rules": context["asked"].rules if "asked" in context else settings.rules(),
        "sees_everything": reach.is_everything,
        # What aircox's own base template expects of a view.
        "station": getattr(request, "station", None),
        "page": None,
        "week_choices": WEEK_CHOICES,
        "zone": settings.zone.key,
    }
    with timezone.override(settings.zone):
        return render(request, f"aircox_listen_stats/{template}", {**shared, **context}, status=status)


def _forbidden(request: HttpRequest, reason: str, *, is_about_programs: bool = True) -> HttpResponse:
    """Why not, whom to ask where asking helps, and the way to what the visitor may see."""
    reach = reach_of(request.user)
    context = {"reason": reason, "is_about_programs": is_about_programs, "has_programs": bool(reach.program_ids)}
    return _page(request, "forbidden.html", context, reach, status=403)


def _missing(request: HttpRequest, reason: str) -> HttpResponse:
    return _page(request, "missing.html", {"reason": reason}, reach_of(request.user), status=404)


def _titles(known: dict[int, Any], asked: Asked) -> dict[int, str]:
    """The programs that may still be on air, by id, of the station that was asked for."""
    station_id = asked.query.station_id
    return {key: one.title for key, one in known.items() if one.active and station_id in (None, one.station_id)}


def _page_number(request: HttpRequest) -> int:
    asked = request.GET.get("page", "")
    return int(asked) if asked.isdecimal() and len(asked) < 9 else 1
