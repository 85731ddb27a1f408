"""How the pages write figures: in the language of the reader, a dash for what is unknown."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

from django import template
from django.template.defaultfilters import date, filesizeformat, floatformat
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.html import format_html, strip_tags
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aircox_listen_stats.fields import from_ms
from aircox_listen_stats.reports.baseline import NOTABLE, Baseline
from aircox_listen_stats.reports.blurs import BY_SOURCE, Reason, Sense, affecting, together
from aircox_listen_stats.reports.definitions import (
    BASES,
    BLURS,
    DEFINITIONS,
    PERIOD_DEFINITIONS,
    REASONS,
    STANDS_ON,
)
from aircox_listen_stats.reports.episode import EpisodeTotals
from aircox_listen_stats.reports.figures import MS_PER_HOUR, Figures
from aircox_listen_stats.reports.periods import MEANS, PeriodFigure, Unit
from aircox_listen_stats.reports.program import ProgramTotals
from aircox_listen_stats.reports.programs import ProgramLine, Spark
from aircox_listen_stats.reports.scope_report import LineFigures, ScopeReport
from aircox_listen_stats.reports.shares import ShareTable
from aircox_listen_stats.reports.spans import Span
from aircox_listen_stats.web import drawing

register = template.Library()

Line = Figures | LineFigures | ProgramLine | ProgramTotals | EpisodeTotals
"""What has figures that may be lower bounds."""

MANY = 100
"""Averages below this are written with one decimal: between 1 and 2 listeners lies a world."""

LONG_VALUE = 9
"""Characters that a figure's box holds in large letters on the narrowest phone."""

ROUGH_SHARES: Mapping[float, Promise] = {
    0.1: gettext_lazy("a tenth"),
    0.2: gettext_lazy("a fifth"),
    0.25: gettext_lazy("a quarter"),
    1 / 3: gettext_lazy("a third"),
    0.5: gettext_lazy("half"),
    2 / 3: gettext_lazy("two thirds"),
    0.75: gettext_lazy("three quarters"),
}
"""Shares that people say: a percentage of a median of eight would claim more than it knows."""

FROM_TWICE = 0.875
"""A greater change is nearer to twice as many than to three quarters more."""

TWICE = 2

TO_LITTLE = -0.8
"""A change below which what is left is said, not what is lacking."""

THOUSANDS_SPACE = "\N{NARROW NO-BREAK SPACE}"
"""What French typography and the browser's own Intl put between thousands; Django's formats have a wide one."""

PLAIN_SPACES = re.compile(r"[ \t\r\n]+")
"""Not those that keep a number and its unit together."""

MINUTES_PER_HOUR = 60
SECONDS_PER_MINUTE = 60


@register.filter
def count(value: float | None) -> str:
    """Whole heads: ``1,234``."""
    return _unknown() if value is None else _written(value, "0g")


@register.filter
def mean(value: float | None) -> str:
    """An average of heads: ``8.3``, ``142``."""
    if value is None:
        return _unknown()
    return _written(value, "1g" if abs(value) < MANY else "0g")


@register.filter
def hours(value: float | None) -> str:
    """``12.5 h``."""
    return _unknown() if value is None else _glued(_("%(hours)s h") % {"hours": mean(value)})


@register.filter
def minutes(value: float | None) -> str:
    """``55 min``, or ``2 h 05`` from an hour on."""
    if value is None:
        return _unknown()
    whole = round(value)
    if whole < MINUTES_PER_HOUR:
        return _glued(_("%(minutes)s min") % {"minutes": whole})
    parts = {"hours": whole // MINUTES_PER_HOUR, "minutes": f"{whole % MINUTES_PER_HOUR:02d}"}
    return _glued(_("%(hours)s h %(minutes)s") % parts)


@register.filter
def clock_length(value: float) -> str:
    """Minutes as a player shows them: ``3:42``."""
    seconds = round(value * SECONDS_PER_MINUTE)
    return f"{seconds // SECONDS_PER_MINUTE}:{seconds % SECONDS_PER_MINUTE:02d}"


@register.filter
def ago(at: dt.datetime, now: dt.datetime) -> str:
    """How long ago: ``12 s``, from a minute on as Django says it: ``3 minutes``."""
    seconds = max(int((now - at).total_seconds()), 0)
    return _("%(seconds)s s") % {"seconds": seconds} if seconds < SECONDS_PER_MINUTE else timesince(at, now)


@register.filter
def dated(at: dt.datetime | dt.date | None, form: str) -> str:
    """As Django's ``date``, with short months as the language writes them: ``M`` in the form stands for them."""
    if at is None:
        return ""
    # Translators: Django's letter for a short month, M or N: M capitalises, which French months do not bear.
    return date(timezone.localtime(at) if isinstance(at, dt.datetime) else at, form.replace("M", _("M")))


@register.filter
def percent(value: float | None) -> str:
    """A share of one: ``98.7 %``. Only what is whole is written 100 %."""
    if value is None:
        return _unknown()
    shown = 100 * value
    if 99.9 < shown < 100:
        shown = 99.9
    return _glued(_("%(share)s %%") % {"share": floatformat(shown, "-1")})


@register.filter
def change(value: float | None) -> str:
    """More or less than before: ``+12 %``, ``−8 %``."""
    if value is None:
        return _unknown()
    whole = round(100 * value)
    sign = "+" if whole > 0 else "\N{MINUS SIGN}" if whole < 0 else "±"
    return _glued(_("%(sign)s%(share)s %%") % {"sign": sign, "share": _written(abs(whole), "0g")})


@register.filter
def direction(value: float | None) -> str:
    """``up``, ``down`` or ``level``, as a class of the style sheet."""
    if value is None or abs(value) < NOTABLE:
        return "level"
    return "up" if value > 0 else "down"


@register.filter
def least(figures: Line | None, name: str) -> str:
    """A figure of a line by its name, in its unit, with ≥ before it where it is a lower bound for either reason."""
    if figures is None:
        return _unknown()
    value = _FORMS.get(name, count)(getattr(figures, name))
    return at_least(bound(value, figures), affecting(figures.at_least_because, name))


@register.filter
def is_least(figures: Line, name: str) -> bool:
    """Whether a figure of that name is a lower bound for either reason."""
    return figures.is_lower_bound or bool(affecting(figures.at_least_because, name))


@register.filter
def bound(value: str, figures: Line | ShareTable | None) -> str:
    """``value`` with ≥ before it where a part of that time was not observed."""
    if figures is None or not figures.is_lower_bound or not value[:1].isdigit():
        return value
    return _glued(f"≥ {value}")


@register.filter
def at_least(value: str, because: Sequence[str]) -> str:
    """``value`` with ≥ before it where there is a reason why listeners could not be told apart."""
    return _glued(f"≥ {value}") if because and value[:1].isdigit() else value


@register.filter
def sensed(value: str, sense: str) -> str:
    """A written change as it is to be read: ``≥ +12 %``, ``≤ +12 %``, or ``(+12 %)`` of what was counted alone."""
    return _glued(_SENSES[Sense(sense)].format(value))


@register.simple_tag
def changed(value: float | None, sense: str = "") -> SafeString:
    """How much more or less than before, coloured where that is sure; nothing where nothing can be said."""
    if value is None:
        return mark_safe("")
    is_sure = sense in (Sense.PLAIN, Sense.AT_LEAST if value > 0 else Sense.AT_MOST)
    way = direction(value) if is_sure else "level"
    return format_html('<span class="ls-change ls-{}">{}</span>', way, sensed(change(value), sense))


@register.inclusion_tag("aircox_listen_stats/_told_apart.html")
def told_apart(lines: Iterable[Any], said: Collection[Reason] = ()) -> dict[str, Any]:
    """What the marks of a table's lines stand for where listeners could not be told apart; nothing where they could.

    A line tells ``at_least_because``, and may tell ``change_is`` and ``change_on_year_is``. ``said``: what the page
    has told right above the table.
    """
    known = [line for line in lines if line is not None]
    senses = {getattr(line, name, Sense.PLAIN) for line in known for name in ("change_is", "change_on_year_is")}
    because = tuple(why for why in together(line.at_least_because for line in known) if why not in said)
    return {"because": because, "senses": {sense.value for sense in senses if sense}}


@register.filter
def is_by_source(because: Iterable[str]) -> bool:
    """Whether listening time is missing too."""
    return not BY_SOURCE.isdisjoint(because)


@register.filter
def reasons(because: Iterable[str]) -> str:
    """Why listeners could not be told apart, in words."""
    told = [str(BLURS[why]) for why in because]
    return reduce(lambda first, then: _("%(first)s; %(then)s") % {"first": first, "then": then}, told)


@register.filter
def from_to(whole: EpisodeTotals) -> str:
    """Its distinct listeners: ``42``, ``42–57`` where they are not known better, ``≥ 42`` where there may be more."""
    fewest, most, because = whole.listeners_at_least, whole.listeners_at_most, whole.at_least_because
    is_bound = whole.is_lower_bound or bool(because)
    if fewest is None or most is None or whole.is_exact or is_bound:
        return at_least(bound(count(fewest), whole), because)
    return f"{count(fewest)}–{count(most)}"


@register.filter
def period_value(one: PeriodFigure | None) -> str:
    """A figure of a report in its unit, with ≥ where a part was not observed; its bounds where only these are known."""
    if one is None:
        return _unknown()
    if one.value is not None:
        shown = _in_unit(one.value, one.unit, one.name in MEANS)
        if one.upper == one.value and one.lower is None:
            return _glued(f"≤ {shown}")
        return _glued(f"≥ {shown}") if one.is_lower_bound and one.unit in _GROWING else shown
    lower, upper = (None if edge is None else _in_unit(edge, one.unit, False) for edge in (one.lower, one.upper))
    if upper and not one.is_lower_bound:
        return f"{lower} – {upper}" if lower else _glued(f"≤ {upper}")
    return _glued(f"≥ {lower}") if lower and one.unit in _GROWING else _unknown()


@register.filter
def period_bounds(one: PeriodFigure | None) -> str:
    """Between what an estimate lies, and how surely; empty of what is exact, and of what is told by its bounds."""
    if one is None or one.value is None:
        return ""
    lower, upper = (None if edge is None else _in_unit(edge, one.unit, False) for edge in (one.lower, one.upper))
    if lower is None or upper is None:
        if one.confidence is None or lower is upper:
            return ""
        shown = {"lower": lower, "upper": upper, "share": percent(one.confidence)}
        if upper is None:
            return _("at least %(lower)s, %(share)s sure") % shown
        return _("at most %(upper)s, %(share)s sure") % shown
    if one.confidence is None:
        return _("between %(lower)s and %(upper)s") % {"lower": lower, "upper": upper}
    return _("between %(lower)s and %(upper)s, %(share)s sure") % {
        "lower": lower,
        "upper": upper,
        "share": percent(one.confidence),
    }


@register.filter
def day_of(at: dt.datetime, span: Span) -> dt.date:
    """The broadcast day that begins at that instant."""
    return at.astimezone(span.zone_info).date()


@register.filter
def stands_on(one: PeriodFigure) -> str:
    """What a figure was computed from."""
    return str(STANDS_ON[one.stands_on]) if one.stands_on else _unknown()


@register.inclusion_tag("aircox_listen_stats/_figure.html")
def period_box(made: ScopeReport, name: str) -> dict[str, Any]:
    """A figure of a report with its definition behind its name, and how it changed."""
    one = made.report[name]
    found = next((given for given in made.comparison.changes if given.name == name), None)
    beside = ""
    if found is not None and found.on_before is not None:
        shown = sensed(change(found.on_before), found.on_before_is)
        beside = _("%(change)s on the period before") % {"change": shown}
    value = period_value(one)
    is_long = len(strip_tags(value)) > LONG_VALUE
    given = {"name": name, "definition": PERIOD_DEFINITIONS[name], "value": value, "is_long": is_long}
    return {**given, "beside": period_bounds(one) or beside}


@register.filter
def basis(value: str) -> str:
    """On what evidence a bound stands."""
    return str(BASES.get(value, value))


@register.filter
def revised_label(name: str) -> str:
    """The label of a column of Audience."""
    if name == "peak_at":
        return _("Time of the peak")
    definition = DEFINITIONS.get({"listening_ms": "listening_hours"}.get(name, name))
    return str(definition.label) if definition else name


@register.filter
def against_usual(one: Baseline) -> str:
    """How a diffusion that differs from what is usual compares: ``About a fifth more than this slot usually has``."""
    if not one.median or one.change is None:
        return _("More than this slot usually has")
    if one.change >= FROM_TWICE:
        if round(1 + one.change) == TWICE:
            return _("About twice what this slot usually has")
        return _("About %(times)s times what this slot usually has") % {"times": round(1 + one.change)}
    if one.change <= TO_LITTLE:
        return _("Less than a fifth of what this slot usually has")
    share = ROUGH_SHARES[min(ROUGH_SHARES, key=lambda rough: abs(rough - abs(one.change)))]
    if one.change > 0:
        return _("About %(share)s more than this slot usually has") % {"share": share}
    return _("About %(share)s less than this slot usually has") % {"share": share}


@register.filter
def reason(why: str) -> str:
    """Why a settled figure changed."""
    return str(REASONS.get(why, why))


@register.filter
def doer(who: str) -> str:
    """Who made it change: a command and a user's name are shown as they are noted."""
    return str(_("the collector")) if who == "collector" else who


@register.filter
def revised(name: str, value: Any) -> str:
    """A figure of some version, from the column ``name`` of Audience."""
    if value is None:
        return _unknown()
    if name == "listening_ms":
        return hours(value / MS_PER_HOUR)
    if name == "peak_at":
        return date(timezone.localtime(from_ms(value)), "H:i:s")
    return percent(value) if name == "coverage" else count(value)


@register.filter
def one_line(html: str) -> str:
    """The words of some HTML on one line, still escaped: for the plain text of letters."""
    return mark_safe(PLAIN_SPACES.sub(" ", strip_tags(html)).strip())


@register.filter
def at_key(mapping: dict[Any, Any], key: Any) -> Any:
    return mapping.get(key, "")


@register.filter
def as_json(value: Any) -> str:
    """For a ``data-`` attribute; the template escapes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@register.simple_tag
def address(asked: Any, **changes: Any) -> str:
    """The query string that asks the same question with ``changes``, to stand alone: ``?`` where it is empty."""
    return asked.address(**changes) or "?"


@register.simple_tag
def carry(asked: Any, **changes: Any) -> str:
    """The same to stand behind another page's address: nothing where it is empty."""
    return asked.address(**changes)


@register.inclusion_tag("aircox_listen_stats/_figure.html")
def figure(name: str, value: str, beside: str = "") -> dict[str, Any]:
    """One figure with its definition behind its name."""
    is_long = len(strip_tags(value)) > LONG_VALUE
    return {"name": name, "definition": DEFINITIONS[name], "value": value, "beside": beside, "is_long": is_long}


@register.simple_tag
def term(name: str, label: str = "") -> SafeString:
    """The name of a figure, or ``label``, as a link to its definition on the same page."""
    # aircox's page swap would fetch what a link without a target leads to.
    words = (name, label or DEFINITIONS[name].label)
    return format_html('<a class="ls-term" href="#ls-def-{}" target="_self">{}</a>', *words)


@register.inclusion_tag("aircox_listen_stats/_sparkline.html")
def sparkline(sparks: Sequence[Spark]) -> dict[str, Any]:
    """The last diffusions of a program in the height of a line."""
    return {"marks": drawing.sparkline(sparks)}


@register.simple_tag
def share_bar(value: float | None, whole: float | None) -> str:
    """``value`` of ``whole`` as the width of a bar."""
    return drawing.percent(min(value / whole, 1)) if value and whole else "0%"


_FORMS: Mapping[str, Callable[[float | None], str]] = {"average": mean, "listening_hours": hours}
"""How figures of a line are written that are no count."""

_SENSES: Mapping[Sense, str] = {
    Sense.PLAIN: "{}",
    Sense.AT_LEAST: "≥ {}",
    Sense.AT_MOST: "≤ {}",
    Sense.COUNTED: "({})",
}

_GROWING = frozenset({Unit.HOURS, Unit.HEADS, Unit.SESSIONS, Unit.BYTES})
"""Units of figures that would be more had everything been observed."""


def _in_unit(value: float | dt.datetime, unit: Unit, is_mean: bool) -> str:
    if isinstance(value, dt.datetime):
        return f"{dated(value, 'D j M Y')}, {date(timezone.localtime(value), 'H:i')}"
    match unit:
        case Unit.HOURS:
            return hours(value)
        case Unit.SECONDS:
            return minutes(value / SECONDS_PER_MINUTE)
        case Unit.SHARE:
            return percent(value)
        case Unit.BYTES:
            return filesizeformat(value)
    return mean(value) if is_mean else count(value)


def _written(value: float, form: str) -> str:
    """The number in the reader's language, with ``floatformat``'s ``form``."""
    return floatformat(value, form).replace("\N{NO-BREAK SPACE}", THOUSANDS_SPACE)


def _glued(words: str) -> str:
    """A number and its unit, kept on one line."""
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _unknown() -> SafeString:
    return format_html('<span title="{}">–</span>', _("unknown"))
