"""A diffusion beside what its slot usually has, and how sure that is."""

from __future__ import annotations

import datetime as dt
import json
import zoneinfo
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.db import connection

from ..fields import from_ms, to_ms
from ..kernel.baseline import Usual, usual
from ..kernel.diffusions import CANCELLED_BY_MONITOR, CANCELLED_ON_AIR
from ..kernel.types import Layer
from ..models import Airing, Audience
from . import blurs
from .blurs import Sense, sense_of
from .figures import KNOWN_COVERAGE, MINUTE, Figures, average, change, falls_short

COMPARED = 8
"""Diffusions of the slot before this one that it is compared with: two months of a weekly program."""

COMPARED_AT_LEAST = 4
"""With fewer, any figure lies outside of them one time in two: (n - 1)/(n + 1) is what their range holds."""

SLOT = dt.timedelta(minutes=30)
"""How far on the local clock a diffusion may start from another one in the same slot."""

NOTABLE = 0.05
"""A change smaller than five per cent is called usual: every week differs that much."""

LOOK_BACK = dt.timedelta(weeks=52)
"""A slot that was not filled for a year is a new one. Monthly programs reach eight in it."""

WEEK = dt.timedelta(weeks=1)

CLOCKS_DIFFER = dt.timedelta(hours=3)
"""The greatest change of a zone's clock since 2020 is two hours (Antarctica/Troll); another is one for good measure."""


class Verdict(StrEnum):
    """What the comparison says."""

    RUNNING = "running"  # on air: nothing to compare yet
    UNOBSERVED = "unobserved"  # of it so much is unknown that it could be more, or less, or neither
    FEW = "few"  # comparable diffusions
    USUAL = "usual"
    MORE = "more"
    LESS = "less"


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The average audience beside that of the slot's last comparable diffusions.

    Comparable: the same program at the same weekday and local time, half an
    hour more or less, settled, not cancelled on air, observed for at least
    half; of a repeat the repeats, of a first run the first runs.
    ``comparable`` of ``wanted`` were found, ``partly_observed`` of which less
    than all was observed: their averages are lower bounds. ``spread``: half of
    them lie within it of the median. ``as_far`` of them had as many or more,
    or as few or less; ``chance`` is how often one that is nothing special does.
    What needs more than there is, is None. ``change_is``: what the comparison
    says where listeners could not be told apart in the diffusion, or in one of
    those that it is compared with.
    """

    verdict: Verdict
    average: float | None
    comparable: int
    wanted: int
    partly_observed: int
    median: float | None
    spread: float | None
    least: float | None
    most: float | None
    change: float | None  # 0.1: ten per cent above the median
    as_far: int | None
    chance: float | None
    is_provisional: bool
    is_lower_bound: bool
    change_is: Sense = Sense.PLAIN

    @property
    def is_beyond_all(self) -> bool:
        """Whether none of the others had so many, or so few."""
        return self.as_far == 0

    @property
    def one_in(self) -> int | None:
        """One diffusion in so many would by chance lie beyond all of them."""
        return self.comparable + 1 if self.is_beyond_all else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparable:
    started: dt.datetime  # as planned
    average: float
    coverage: float
    on_air_ms: tuple[int, int]


def slot_baseline(airing: Airing, figures: Figures | None, rule_set: str, zone: zoneinfo.ZoneInfo) -> Baseline | None:
    """The diffusion beside its slot, in two queries; None where it has no figures or belongs to no program."""
    if figures is None or airing.program_id is None:
        return None
    found: list[_Comparable] = []
    for one in _candidates(airing, rule_set):
        if _is_same_slot(one.started, _planned(airing), zone):
            found.append(one)
        if len(found) == COMPARED:
            break
    others = usual([one.average for one in found]) if len(found) >= COMPARED_AT_LEAST else None
    verdict = _verdict(airing, figures, others)
    is_compared = verdict in (Verdict.USUAL, Verdict.MORE, Verdict.LESS)
    value = figures.average
    changed = change(value, others.median) if is_compared and others else None
    return Baseline(
        verdict=verdict,
        average=value,
        comparable=len(found),
        wanted=COMPARED,
        partly_observed=sum(falls_short(one.coverage) for one in found),
        median=others and others.median,
        spread=others and others.spread,
        least=others and others.least,
        most=others and others.most,
        change=changed,
        as_far=others.as_far(value) if is_compared and others and value is not None else None,
        chance=others.chance(value) if is_compared and others and value is not None else None,
        is_provisional=not figures.settled,
        is_lower_bound=figures.is_lower_bound,
        change_is=_sense(changed, airing, figures, found),
    )


def _sense(changed: float | None, airing: Airing, figures: Figures, others: Sequence[_Comparable]) -> Sense:
    if changed is None:
        return Sense.PLAIN
    starts, ends = zip(*(one.on_air_ms for one in others), strict=True)
    blurred = blurs.read(min(starts), max(ends), station_id=airing.station_id)
    before = blurred.of_station(airing.station_id).during(starts, ends)
    return sense_of(changed, "average", figures.at_least_because, before)


def _verdict(airing: Airing, figures: Figures, others: Usual | None) -> Verdict:
    if airing.is_running:
        return Verdict.RUNNING
    if others is None:
        return Verdict.FEW
    if figures.average is None or figures.coverage < KNOWN_COVERAGE:
        return Verdict.UNOBSERVED
    told = _against(figures.average, others.median)
    # What was not observed may have been as full as the rest. Only what holds either way is said.
    return told if told is _against(figures.average / figures.coverage, others.median) else Verdict.UNOBSERVED


def _against(value: float, median: float) -> Verdict:
    if abs(value - median) <= NOTABLE * median:
        return Verdict.USUAL
    return Verdict.MORE if value > median else Verdict.LESS


def _is_same_slot(one: dt.datetime, other: dt.datetime, zone: zoneinfo.ZoneInfo) -> bool:
    """Whether both begin at the same time of the week on the clock of the wall, half an hour more or less."""
    # Without their zone: what lies between is told by the clocks, also where these were changed meanwhile.
    apart = (one.astimezone(zone).replace(tzinfo=None) - other.astimezone(zone).replace(tzinfo=None)) % WEEK
    return min(apart, WEEK - apart) <= SLOT


def _planned(airing: Airing) -> dt.datetime:
    return airing.scheduled_start or airing.started


def _candidates(airing: Airing, rule_set: str) -> Iterator[_Comparable]:
    """Comparable diffusions at about that time of the week, as planned, else as aired; newest first."""
    week_ms, slack_ms = (round(one / dt.timedelta(milliseconds=1)) for one in (WEEK, SLOT + CLOCKS_DIFFER))
    planned_ms, started_ms = to_ms(_planned(airing)), to_ms(airing.started)
    since = "(%s - COALESCE(a.scheduled_start, a.started) + %s) %% %s"
    repeats = "NOT NULL" if airing.initial_id is not None else "NULL"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COALESCE(a.scheduled_start, a.started), a.started, a.ended, a.notes, f.listening_ms, f.coverage"
            f" FROM {Airing._meta.db_table} a JOIN {Audience._meta.db_table} f ON f.airing_id = a.id"
            " WHERE a.program_id = %s AND a.layer = %s AND a.station_id = %s AND a.started < %s AND a.started >= %s"
            f" AND a.initial_id IS {repeats} AND f.rule_set = %s AND f.settled AND f.coverage >= %s"
            # One week more keeps the dividend above zero, whose remainders databases agree on.
            f" AND {since} <= %s ORDER BY a.started DESC, a.id DESC",
            [
                airing.program_id, Layer.DIFFUSION.value, airing.station_id,
                started_ms, to_ms(airing.started - LOOK_BACK - MINUTE), rule_set, KNOWN_COVERAGE,
                planned_ms, week_ms + slack_ms, week_ms, 2 * slack_ms,
            ],
        )  # fmt: skip
        rows = cursor.fetchall()
    for planned, started, ended, notes, listening_ms, coverage in rows:
        mean = average(listening_ms, ended - started)
        if mean is not None and not _is_cancelled(_notes(notes)):
            yield _Comparable(started=from_ms(planned), average=mean, coverage=coverage, on_air_ms=(started, ended))


def _is_cancelled(notes: Sequence[str]) -> bool:
    return CANCELLED_ON_AIR in notes or CANCELLED_BY_MONITOR in notes


def _notes(stored: Any) -> Sequence[str]:
    """The notes of an airing as a cursor gives them: SQLite text, PostgreSQL text or a list."""
    return json.loads(stored) if isinstance(stored, str) else stored
