"""From the address of a report's page to the span, stream, daypart and rule-set that it asks for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import conf
from ..kernel.types import RuleSet
from ..models import Stream
from ..onair.base import StationRef
from ..reports import spans
from ..reports.periods import Scope, ScopeKind
from ..reports.query import LONGEST_DAYS
from ..reports.spans import Span
from .asking import read_rules

DEFAULT = "last-week"
"""The newest period of a usual length that is over."""

CHOICES: Mapping[str, Promise] = {
    "yesterday": gettext_lazy("Yesterday"),
    "this-week": gettext_lazy("This week"),
    "last-week": gettext_lazy("Last week"),
    "this-month": gettext_lazy("This month"),
    "last-month": gettext_lazy("Last month"),
    "this-year": gettext_lazy("This year"),
    "last-year": gettext_lazy("Last year"),
}
"""Periods that the page offers with one touch, by their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedReport:
    """What is asked, and how it was put. ``problem`` says why the default stands in for what was typed."""

    scope: Scope
    span: Span
    rules: RuleSet
    named: str  # the name of the period; empty where days were given
    station: StationRef | None
    stations: Sequence[StationRef]
    stream: Stream | None
    streams: Sequence[Stream]
    problem: str = ""

    @property
    def rule_set(self) -> str:
        return self.rules.name

    @property
    def daypart(self) -> str:
        """As it is written in the address."""
        return self.span.daypart_hours

    def address(self, **changes: object) -> str:
        """The query string that asks the same with ``changes``, empty for the defaults; None takes a key out."""
        asked: dict[str, object] = {}
        if not self.named:
            asked |= {"from": self.span.first, "to": self.span.last}
        elif self.named != DEFAULT:
            asked["period"] = self.named
        if self.daypart:
            asked["daypart"] = self.daypart
        if self.stream is not None:
            asked["stream"] = self.stream.slug
        if self.rule_set != conf.get().rule_set:
            asked["rules"] = self.rule_set
        if self.station is not None and len(self.stations) > 1:
            asked["station"] = self.station.slug
        asked |= changes
        kept = urlencode({key: value for key, value in asked.items() if value not in (None, "")})
        return f"?{kept}" if kept else ""


def read(
    given: Mapping[str, str],
    settings: conf.Settings,
    *,
    now: dt.datetime,
    stations: Sequence[StationRef],
    program: Scope | None = None,
) -> AskedReport:
    """What ``period``, ``from``, ``to``, ``daypart``, ``stream``, ``rules`` and ``station`` ask.

    Nothing here is an error page: what cannot be understood becomes the default and a sentence. A
    ``program`` leaves no choice of station and stream.
    """
    problems: list[str] = []
    rules = read_rules(given, settings, problems)
    named, span = _span(given, settings, now, problems)
    span = span.within(_daypart(given, problems))
    station = None if program else _station(given, stations)
    station_id = program.station_id if program else _station_id(station)
    streams = [] if program else list(Stream.objects.of(station_id))
    stream = _stream(given, streams, problems)
    scope = program or Scope.station(station_id)
    if stream is not None:
        scope = Scope(kind=ScopeKind.STREAM, id=stream.pk, station_id=station_id)
    return AskedReport(
        scope=scope,
        span=span,
        rules=rules,
        named=named,
        station=station,
        stations=() if program else stations,
        stream=stream,
        streams=streams,
        problem=" ".join(problems),
    )


def _span(given: Mapping[str, str], settings: conf.Settings, now: dt.datetime, problems: list[str]) -> tuple[str, Span]:
    """The name of the span, where it has one, and the span."""
    first, last, name = given.get("from"), given.get("to"), given.get("period") or ""
    try:
        if name in spans.NAMED:
            return name, spans.read([name], settings, now=now)
        if name:
            return "", spans.read([name], settings, now=now)
        if first or last:
            return "", spans.read([first or last or "", last or first or ""], settings, now=now)
    except ValueError:
        problems.append(
            _("That is no period. Choose one above, or two days, the first before the last, within %(days)d days.")
            % {"days": LONGEST_DAYS}
        )
    return DEFAULT, spans.read([DEFAULT], settings, now=now)


def _daypart(given: Mapping[str, str], problems: list[str]) -> int | None:
    asked = given.get("daypart")
    if not asked:
        return None
    if asked in spans.DAYPART_NAMES:
        return spans.daypart(asked)
    problems.append(
        _("“%(asked)s” is no daypart; there are %(known)s.") % {"asked": asked, "known": ", ".join(spans.DAYPART_NAMES)}
    )
    return None


def _station(given: Mapping[str, str], stations: Sequence[StationRef]) -> StationRef | None:
    """The station that was asked for, else the default one: a report is never of several."""
    asked = [one for one in stations if one.slug == given.get("station")]
    return next(iter([*asked, *(one for one in stations if one.is_default), *stations]), None)


def _station_id(station: StationRef | None) -> int:
    """Without aircox, the station that has streams."""
    if station is not None:
        return station.id
    return Stream.objects.counting().order_by("station_id").values_list("station_id", flat=True).first() or 0


def _stream(given: Mapping[str, str], streams: Sequence[Stream], problems: list[str]) -> Stream | None:
    slug = given.get("stream")
    if not slug:
        return None
    found = next((one for one in streams if one.slug == slug), None)
    if found is None and streams:
        known = ", ".join(one.slug for one in streams)
        problems.append(_("There is no stream “%(slug)s”; there are %(known)s.") % {"slug": slug, "known": known})
    return found
