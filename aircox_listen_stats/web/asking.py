"""From the address of a page to the question that it asks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.utils.translation import gettext as _

from .. import conf
from ..kernel.types import RuleSet
from ..onair.base import StationRef
from ..reports import query
from ..reports.query import Period, ReportQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question and how it was put. ``problem`` says why the default stands in for what was typed."""

    query: ReportQuery
    weeks: int | None  # None: from and to were given
    default_weeks: int  # what the page shows unasked
    rule_set: str
    station: StationRef | None
    stations: Sequence[StationRef]
    problem: str = ""

    @property
    def period(self) -> Period:
        return self.query.period

    @property
    def rules(self) -> RuleSet:
        return self.query.rules

    def address(self, **changes: object) -> str:
        """The query string that asks the same with ``changes``, empty for the defaults; None takes a key out."""
        asked: dict[str, object] = {}
        if self.weeks is None:
            asked |= {"from": self.period.first, "to": self.period.last}
        elif self.weeks != self.default_weeks:
            asked["weeks"] = self.weeks
        if self.rule_set != conf.get().rule_set:
            asked["rules"] = self.rule_set
        if self.station is not None and len(self.stations) > 1:
            asked["station"] = self.station.slug
        asked |= changes
        kept = urlencode({key: value for key, value in asked.items() if value is not None})
        return f"?{kept}" if kept else ""


def read(
    given: Mapping[str, str],
    settings: conf.Settings,
    *,
    now: dt.datetime,
    stations: Sequence[StationRef] = (),
    weeks: int = query.DEFAULT_WEEKS,
) -> Asked:
    """What the parameters ``weeks``, ``from``, ``to``, ``rules`` and ``station`` ask.

    Nothing here is an error page: what cannot be understood becomes the default and a sentence.
    """
    problems: list[str] = []
    rules = read_rules(given, settings, problems)
    chosen = _weeks(given, weeks, problems)
    period = query.last_weeks(chosen, settings, now=now)
    if "weeks" not in given and (given.get("from") or given.get("to")):
        asked = _days(given, period, settings, problems)
        period, chosen = (asked, None) if asked else (period, chosen)
    station = next((one for one in stations if one.slug == given.get("station")), None)
    return Asked(
        query=ReportQuery(period=period, rules=rules, station_id=station and station.id),
        weeks=chosen,
        default_weeks=weeks,
        rule_set=rules.name,
        station=station,
        stations=stations,
        problem=" ".join(problems),
    )


def rule_set_names(settings: conf.Settings) -> tuple[str, ...]:
    """The known rule-sets, the station's own choice first."""
    others = sorted({*conf.RULE_SETS, *settings.rule_sets} - {settings.rule_set})
    return (settings.rule_set, *others)


def read_rules(given: Mapping[str, str], settings: conf.Settings, problems: list[str]) -> RuleSet:
    """The rule-set that is asked for; of an unknown one a sentence is added to ``problems``."""
    name = given.get("rules") or settings.rule_set
    known = rule_set_names(settings)
    if name not in known:
        problems.append(
            _("There is no rule-set “%(name)s”; there are %(known)s.") % {"name": name, "known": ", ".join(known)}
        )
        name = settings.rule_set
    return settings.rules(name)


def _weeks(given: Mapping[str, str], default: int, problems: list[str]) -> int:
    asked = given.get("weeks")
    if not asked:
        return default
    most = query.LONGEST_DAYS // query.DAYS_A_WEEK
    # Python reads no number of more than 4300 digits.
    if asked.isdecimal() and len(asked) <= len(str(most)) and 1 <= int(asked) <= most:
        return int(asked)
    problems.append(_("“%(weeks)s” is no number of weeks from 1 to %(most)d.") % {"weeks": asked, "most": most})
    return default


def _days(given: Mapping[str, str], default: Period, settings: conf.Settings, problems: list[str]) -> Period | None:
    try:
        first = dt.date.fromisoformat(given.get("from") or default.first.isoformat())
        last = dt.date.fromisoformat(given.get("to") or default.last.isoformat())
    except ValueError:
        problems.append(_("A date could not be read; write it as 2026-03-31."))
        return None
    if last < first:
        problems.append(_("The period ends before it begins."))
        return None
    if (last - first).days >= query.LONGEST_DAYS or first.year < 1971 or last.year > 9000:
        problems.append(_("A period may last up to five years."))
        return None
    return query.days(first, last, settings)
