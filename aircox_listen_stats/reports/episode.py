"""An episode as a whole: its first run, its repeats, and its recordings on demand, added up."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np

from ..conf import Settings
from ..fields import to_ms
from ..kernel import calendar
from ..kernel.distinct import Part, Range, distinct
from ..kernel.types import Layer, RuleSet
from ..models import Airing, Recording, RecordingPlay, Stream
from . import rows
from .blurs import Blurred, Reason, together
from .figures import MS_PER_HOUR, falls_short, hours, is_hidden, share
from .flow import MOST_SESSIONS
from .heard import heard
from .lines import DiffusionLine, line_of, marked, select

SHOWN = 12
"""Episodes on the page of a program: a season of a weekly one. The table to take along has all."""

AT_ONCE = 50
"""Episodes that a streamed export holds in memory."""

Ints = np.ndarray[Any, np.dtype[np.int64]]
PeriodOf = Callable[[int], int]
"""When the period of the listener keys began in which an instant lies, both in milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeTotals:
    """An episode that was heard more than once, under one rule-set.

    ``lines`` are its diffusions as they were on air, oldest first; ``plays``
    those of its recordings, whoever does not count left out, to which no
    rule-set's minimum applies. Listening time is the sum of all. Distinct
    listeners lie from ``listeners_at_least`` to ``listeners_at_most``: who
    comes back in another period of the secret is not recognised. None:
    unknown, or hidden. Where a part was not observed or has no figures yet, all
    are lower bounds. ``at_least_because``: why listeners could not be told apart
    in some of its diffusions; how many they are at most is then unknown.
    """

    episode_id: int
    title: str
    rule_set: str
    lines: tuple[DiffusionLine, ...]
    plays: int | None
    broadcast_hours: float | None
    on_demand_hours: float | None
    listening_hours: float | None
    listeners_at_least: int | None
    listeners_at_most: int | None
    coverage: float | None
    settled: bool
    at_least_because: tuple[Reason, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Whether the distinct listeners are one number."""
        return self.listeners_at_least is not None and self.listeners_at_least == self.listeners_at_most

    @property
    def is_lower_bound(self) -> bool:
        """Whether a part that matters was not observed, or is not computed yet."""
        return falls_short(self.coverage) or any(line.figures is None for line in self.lines)

    def hiding_below(self, minimum: int) -> Self:
        """The same without counts from 1 to ``minimum - 1``, and without what would tell them."""
        lines = tuple(
            line if line.figures is None else replace(line, figures=line.figures.hiding_below(minimum))
            for line in self.lines
        )
        hidden: dict[str, None] = {}
        if is_hidden(self.plays, minimum):
            hidden |= dict.fromkeys(("plays", "on_demand_hours", "listening_hours"))
        if is_hidden(self.listeners_at_least, minimum):
            hidden |= dict.fromkeys(("listeners_at_least", "listeners_at_most"))
        return replace(self, lines=lines, **hidden)


class _Play(NamedTuple):
    listener: int | None
    visit_started_ms: int | None
    played_ms: int


def of_airing(airing: Airing, rules: RuleSet, settings: Settings, *, now: dt.datetime) -> EpisodeTotals | None:
    """The episode of a diffusion; None where it has none, or was heard in this diffusion alone."""
    if airing.episode_id is None or airing.program_id is None:
        return None
    found = _episodes(airing.program_id, [airing.episode_id], rules, settings, now)
    return next(iter(found), None)


def of_program(
    lines: Iterable[DiffusionLine],
    rules: RuleSet,
    settings: Settings,
    *,
    now: dt.datetime,
    blurred: Blurred | None = None,
) -> tuple[EpisodeTotals, ...]:
    """The first SHOWN episodes of these diffusions of one program that were heard more than once, in their order.

    ``blurred``: when listeners could not be told apart, where that has been read.
    """
    asked = [(line.program_id, line.episode_id) for line in lines]
    ids = dict.fromkeys(episode_id for _, episode_id in asked if episode_id is not None)
    program_id = next((program_id for program_id, _ in asked), None)
    if not ids or program_id is None:
        return ()
    return tuple(_episodes(program_id, list(ids), rules, settings, now, most=SHOWN, blurred=blurred))


def each_of_program(
    lines: Iterable[DiffusionLine], rules: RuleSet, settings: Settings, *, now: dt.datetime
) -> Iterator[EpisodeTotals]:
    """All of them, read while they are written: for exports."""
    seen: set[int] = set()
    waiting: list[int] = []
    program_id = None
    for line in lines:
        if line.program_id is None or line.episode_id is None or line.episode_id in seen:
            continue
        program_id = line.program_id
        seen.add(line.episode_id)
        waiting.append(line.episode_id)
        if len(waiting) == AT_ONCE:
            yield from _episodes(program_id, waiting, rules, settings, now)
            waiting = []
    if waiting and program_id is not None:
        yield from _episodes(program_id, waiting, rules, settings, now)


def _episodes(
    program_id: int,
    ids: Sequence[int],
    rules: RuleSet,
    settings: Settings,
    now: dt.datetime,
    *,
    most: int | None = None,
    blurred: Blurred | None = None,
) -> Iterator[EpisodeTotals]:
    """The first ``most`` episodes of ``ids`` that were heard more than once, in order; one query, or three and more."""
    several = _heard_more_than_once(program_id, ids, now)
    chosen = [key for key in ids if key in several][:most]
    if not chosen:
        return
    aired, played = _aired(program_id, chosen, rules.name, now, blurred), _played(chosen)
    period_of = partial(
        calendar.period_start,
        rotation=settings.key_rotation,
        zone=settings.zone,
        starts=settings.broadcast_day_start,
    )
    for key in chosen:
        yield _totals(key, aired[key], played.get(key, []), rules, period_of)


def _heard_more_than_once(program_id: int, ids: Collection[int], now: dt.datetime) -> frozenset[int]:
    """Those that were on air more than once, or once and on demand too."""
    marks = ", ".join(["%s"] * len(ids))
    found = rows.fetch(
        "SELECT episode_id FROM ("
        f"SELECT episode_id FROM {rows.table(Airing)}"
        f" WHERE program_id = %s AND layer = %s AND started < %s AND episode_id IN ({marks})"
        f" UNION ALL SELECT r.episode_id FROM {rows.table(Recording)} r WHERE r.episode_id IN ({marks})"
        f" AND EXISTS (SELECT 1 FROM {rows.table(RecordingPlay)} p WHERE p.recording_id = r.id AND p.exclusion = '')"
        ") heard GROUP BY episode_id HAVING COUNT(*) > 1",
        [program_id, Layer.DIFFUSION.value, to_ms(now), *ids, *ids],
    )
    return frozenset(episode_id for (episode_id,) in found)


def _aired(
    program_id: int, ids: Collection[int], rule_set: str, now: dt.datetime, blurred: Blurred | None
) -> Mapping[int | None, list[DiffusionLine]]:
    marks = ", ".join(["%s"] * len(ids))
    where = (
        f"a.program_id = %s AND a.layer = %s AND a.started < %s AND a.episode_id IN ({marks}) ORDER BY a.started, a.id"
    )
    lines = [line_of(row) for row in select(rule_set, where, [program_id, Layer.DIFFUSION.value, to_ms(now), *ids])]
    found: dict[int | None, list[DiffusionLine]] = defaultdict(list)
    for line in marked(lines, blurred):
        found[line.episode_id].append(line)
    return found


def _played(ids: Collection[int]) -> Mapping[int, list[_Play]]:
    marks = ", ".join(["%s"] * len(ids))
    found: dict[int, list[_Play]] = defaultdict(list)
    for episode_id, *play in rows.fetch(
        "SELECT r.episode_id, p.listener, p.visit_started, p.played_ms"
        f" FROM {rows.table(RecordingPlay)} p JOIN {rows.table(Recording)} r ON p.recording_id = r.id"
        f" WHERE r.episode_id IN ({marks}) AND p.exclusion = ''",
        list(ids),
    ):
        found[episode_id].append(_Play(*play))
    return found


def _totals(
    episode_id: int, lines: Sequence[DiffusionLine], plays: Sequence[_Play], rules: RuleSet, period_of: PeriodOf
) -> EpisodeTotals:
    known = [line for line in lines if line.figures is not None and line.figures.listening_hours is not None]
    # Hours of whole milliseconds become these again: they are added up without any rounding.
    on_air_ms = [round(line.figures.listening_hours * MS_PER_HOUR) for line in known]  # type: ignore[union-attr, operator]
    played_ms = sum(play.played_ms for play in plays)
    heard_by = _listeners(known, plays, rules, period_of) if known or plays else None
    because = together(line.at_least_because for line in lines)
    computed = [(line.figures, line.length_minutes) for line in lines if line.figures is not None]
    return EpisodeTotals(
        episode_id=episode_id,
        title=next((line.title for line in lines if line.title), ""),
        rule_set=rules.name,
        lines=tuple(lines),
        plays=len(plays),
        broadcast_hours=hours(sum(on_air_ms)) if known else None,
        on_demand_hours=hours(played_ms),
        listening_hours=hours(sum(on_air_ms) + played_ms) if known or plays else None,
        listeners_at_least=heard_by and heard_by.lower,
        listeners_at_most=None if because else heard_by and heard_by.upper,
        coverage=share(sum(one.coverage * length for one, length in computed), sum(length for _, length in computed)),
        settled=all(line.figures is not None and line.figures.settled for line in lines),
        at_least_because=because,
    )


# Distinct listeners --------------------------------------------------------------------


def _listeners(lines: Sequence[DiffusionLine], plays: Sequence[_Play], rules: RuleSet, period_of: PeriodOf) -> Range:
    of_plays = _part_of_plays(plays, period_of)
    periods = [{period_of(to_ms(line.started)), period_of(_end_ms(line) - 1)} for line in lines]
    alike = [
        line
        for number, (line, own) in enumerate(zip(lines, periods, strict=True))
        if own & of_plays.keys.keys() or any(own & other for at, other in enumerate(periods) if at != number)
    ]
    with_keys = _keys_of(alike, rules, period_of)
    return distinct([of_plays, *(with_keys.get(line.airing_id) or Part.counted(_count(line)) for line in lines)])


def _part_of_plays(plays: Sequence[_Play], period_of: PeriodOf) -> Part:
    keys: dict[int, set[int]] = defaultdict(set)
    unplaced: set[int] = set()
    for listener, visit_started_ms, _ in plays:
        if listener is not None and visit_started_ms is not None:
            keys[period_of(visit_started_ms)].add(listener)
        elif listener is not None:
            unplaced.add(listener)
    # Of plays that are old, the key is deleted: each may have been somebody else's.
    strangers = sum(play.listener is None for play in plays)
    return Part(
        keys={period_ms: frozenset(some) for period_ms, some in keys.items()},
        unplaced=frozenset(unplaced),
        strangers=strangers,
    )


def _keys_of(lines: Sequence[DiffusionLine], rules: RuleSet, period_of: PeriodOf) -> Mapping[int, Part]:
    """By airing, where the sessions are kept and still add up to the stored figures.

    Only diffusions that share a period with another part are asked for: a listener of any other cannot be recognised.
    """
    if not lines or sum(line.figures.sessions or 0 for line in lines if line.figures) > MOST_SESSIONS:
        return {}
    station = Airing.objects.filter(pk=lines[0].airing_id).values("station_id")
    streams = list(Stream.objects.filter(station_id__in=station))
    found = {line.airing_id: _keys(line, streams, rules, period_of) for line in lines} if streams else {}
    return {airing_id: part for airing_id, part in found.items() if part is not None}


def _keys(line: DiffusionLine, streams: Sequence[Stream], rules: RuleSet, period_of: PeriodOf) -> Part | None:
    started_ms, ended_ms = to_ms(line.started), _end_ms(line)
    found = heard(streams, started_ms, ended_ms)
    listening = found.listening.only(found.counting(rules))
    meets = (listening.part_started_ms < ended_ms) & (listening.part_ended_ms > started_ms)
    sessions = np.unique(listening.part_session[meets])
    listeners, begun_ms = listening.listener[sessions], listening.started_ms[sessions]
    everybody = frozenset(listeners.tolist())
    figures = line.figures
    if figures is None or (len(sessions), len(everybody)) != (figures.sessions, figures.listeners):
        return None  # sessions have expired, or became known since: the stored figures stand alone
    # On the listener's own clock a start is later by the stream's delay, and at a change of secrets either may be true.
    longest_ms = max(stream.delay_ms for stream in streams)
    edges_ms = _edges(begun_ms, longest_ms, period_of)
    place = np.searchsorted(edges_ms, begun_ms, side="right") - 1
    is_sure = place == np.searchsorted(edges_ms, begun_ms + longest_ms, side="right") - 1
    keys = {
        int(edges_ms[at]): frozenset(listeners[is_sure & (place == at)].tolist())
        for at in np.unique(place[is_sure]).tolist()
    }
    return Part(keys=keys, unplaced=everybody.difference(*keys.values()), at_least=len(everybody))


def _edges(begun_ms: Ints, longest_ms: int, period_of: PeriodOf) -> Ints:
    """Where the periods began in which these starts lie, in order."""
    edges = [period_of(int(begun_ms.max(initial=0)) + longest_ms)]
    while edges[-1] > begun_ms.min(initial=edges[-1]):
        edges.append(period_of(edges[-1] - 1))
    return np.array(edges[::-1], dtype=np.int64)


def _end_ms(line: DiffusionLine) -> int:
    """Of what is on air, as far as its figures were computed."""
    return to_ms(min(line.ended, line.figures.computed) if line.is_running and line.figures else line.ended)


def _count(line: DiffusionLine) -> int:
    return (line.figures.listeners if line.figures else None) or 0
