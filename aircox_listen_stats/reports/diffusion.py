"""The audience of one diffusion: its figures, its curve, and what was on air under it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from ..conf import Settings
from ..fields import from_ms, to_ms
from ..kernel.types import Layer, RuleSet
from ..models import Airing, Audience
from . import adjacent, blurs, episode, observed, on_demand
from .adjacent import Adjacent
from .baseline import Baseline, slot_baseline
from .blurs import Reason, Times
from .episode import EpisodeTotals
from .figures import COUNTS, MINUTE, MS_PER_MINUTE, Figures, is_hidden
from .flow import MinuteFlow, minute_flow
from .lines import DiffusionLine, read_line, with_reasons
from .observed import Gap
from .on_demand import RecordingLine
from .tune_out import TuneOut, tune_outs

LONGEST_ITEM_MS = 24 * 3_600_000
"""A sound or track that began longer before is not under the diffusion: a bound that the index can use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderLine:
    """A track or a sound that was on air during the diffusion, with the audience of its own span."""

    airing_id: int
    layer: str
    title: str
    artist: str
    started: dt.datetime
    ended: dt.datetime
    start_basis: str
    end_basis: str
    length_minutes: float
    program_id: int | None
    figures: Figures | None

    @property
    def at_least_because(self) -> tuple[Reason, ...]:
        """Why listeners could not be told apart in some of it."""
        return self.figures.at_least_because if self.figures else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionCause:
    """Why settled figures changed (:class:`~aircox_listen_stats.kernel.types.Why`), and who made them change."""

    why: str
    who: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisedFigure:
    """A figure before and after, as its column of Audience has it. None: unknown, or hidden."""

    name: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A version that took the place of a settled one: when, why, by whom, and each figure that differs.

    ``minutes``: of its curve and of who was left at each minute, how many minutes differ.
    """

    version: int
    at: dt.datetime
    causes: tuple[RevisionCause, ...]
    figures: tuple[RevisedFigure, ...]
    minutes: int

    def hiding_below(self, minimum: int) -> Revision:
        """The same without counts from 1 to ``minimum - 1``, and without the instant of a peak that is hidden."""
        figures = [
            replace(one, before=_shown(one.before, minimum), after=_shown(one.after, minimum))
            if one.name in COUNTS
            else one
            for one in self.figures
        ]
        if any(one.name == "peak" and None in (one.before, one.after) for one in figures):
            figures = [one for one in figures if one.name != "peak_at"]
        return replace(self, figures=tuple(figures))


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """The program's diffusion before or after this one."""

    airing_id: int
    started: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionAudience:
    """One diffusion under one rule-set.

    ``curve[m]`` is the mean audience of minute ``m``, None where it was not observed;
    ``retention[m]`` the share of those present in the first moment who have not left by
    minute ``m``, empty where nobody was present; ``retention_of_all[m]`` the share of all
    who met it who are there when minute ``m`` begins, empty without flow. ``flow`` is None once the sessions are
    no longer kept, or where they no longer add up to the stored figures. ``at_least_because``: why listeners could not
    be told apart in some of it.
    """

    line: DiffusionLine
    station_id: int
    rule_set: str
    zone: str
    scheduled_start: dt.datetime | None
    scheduled_end: dt.datetime | None
    notes: tuple[str, ...]
    evidence_gone: bool
    revisions: tuple[Revision, ...]
    curve: tuple[float | None, ...]
    retention: tuple[float, ...]
    retention_of_all: tuple[float | None, ...]
    flow: MinuteFlow | None
    gaps: tuple[Gap, ...]
    tracks: tuple[UnderLine, ...]
    sounds: tuple[UnderLine, ...]
    tune_outs: tuple[TuneOut, ...]
    on_demand: tuple[RecordingLine, ...]
    episode: EpisodeTotals | None
    baseline: Baseline | None
    before: Adjacent | None
    after: Adjacent | None
    earlier: Neighbour | None
    later: Neighbour | None
    at_least_because: tuple[Reason, ...] = ()

    @property
    def figures(self) -> Figures | None:
        return self.line.figures

    @property
    def to_come_from(self) -> dt.datetime | None:
        """Where the curve of what is on air ends and the future begins; None once all of it has been."""
        until = self.line.started + len(self.curve) * MINUTE
        return until if self.line.is_running and until < self.line.ended else None

    @property
    def standing_out(self) -> tuple[TuneOut, ...]:
        """The tracks of which it is sure that more tuned out than in the rest."""
        return tuple(one for one in self.tune_outs if one.stands_out)

    @property
    def retained_at_end(self) -> float | None:
        return self.retention[-1] if self.retention else None


def rule_sets_of(airing_id: int) -> tuple[str, ...]:
    """The rule-sets under which the airing has figures, by name."""
    return tuple(Audience.objects.filter(airing_id=airing_id).order_by("rule_set").values_list("rule_set", flat=True))


def find(airing_id: int) -> Airing | None:
    """The diffusion of that number, or None."""
    return Airing.objects.on_layer(Layer.DIFFUSION).filter(pk=airing_id).first()


def newest_of(diffusion_id: int) -> Airing | None:
    """The last airing of aircox's diffusion of that number, or None: aircox may use a number again."""
    airings = Airing.objects.on_layer(Layer.DIFFUSION).filter(diffusion_id=diffusion_id)
    return airings.order_by("-started", "-id").first()


def diffusion_audience(airing: Airing, rules: RuleSet, settings: Settings, *, now: dt.datetime) -> DiffusionAudience:
    """Everything known of one diffusion, in at most 15 queries and two for each repeat on a day of another part."""
    line = read_line(airing.pk, rules.name)
    started_ms = to_ms(airing.started)
    # Of what is still on air, the figures tell as far as they were computed.
    ended_ms = to_ms(min(airing.ended, line.figures.computed if line.figures else now))
    streams = observed.streams(airing.station_id)
    gaps = observed.gaps(streams, started_ms, ended_ms)
    row = Audience.objects.filter(airing=airing).under(rules.name).values_list("curve", "retained", "changes").first()
    curve, retained, changes = row or ((), (), ())
    curve = _without_gaps(curve, gaps, airing.started)
    flow = line.figures and minute_flow(streams, started_ms, ended_ms, rules, met=line.figures.sessions or 0)
    under = _under(airing, rules.name)
    times = _blurred(airing, under)
    because = times.during([started_ms], [ended_ms])
    line, under = with_reasons(line, because), _with_reasons(under, times)
    tracks = tuple(one for one in under if one.layer == Layer.TRACK)
    return DiffusionAudience(
        line=line,
        station_id=airing.station_id,
        rule_set=rules.name,
        zone=settings.zone.key,
        scheduled_start=airing.scheduled_start,
        scheduled_end=airing.scheduled_end,
        notes=tuple(airing.notes),
        evidence_gone=airing.evidence_gone,
        revisions=tuple(_revision(note) for note in changes),
        curve=curve,
        retention=tuple(count / retained[0] for count in retained) if retained and retained[0] else (),
        retention_of_all=_of_all(flow, line.figures),
        flow=flow and flow.unknown_with(curve),
        gaps=gaps,
        tracks=tracks,
        sounds=tuple(one for one in under if one.layer == Layer.SOUND),
        tune_outs=() if airing.is_running else tuple(tune_outs(tracks, airing.started, airing.ended, line.figures)),
        on_demand=on_demand.of_episode(airing.episode_id),
        episode=episode.of_airing(airing, rules, settings, now=now),
        baseline=slot_baseline(airing, line.figures, rules.name, settings.zone),
        before=adjacent.before(airing),
        after=adjacent.after(airing, now=now),
        earlier=_neighbour(_others(airing).filter(started__lt=airing.started).order_by("-started", "-id")),
        later=_neighbour(_others(airing).filter(started__gt=airing.started, started__lt=now).order_by("started", "id")),
        at_least_because=because,
    )


def within_reach(report: DiffusionAudience, may_see: Callable[[int | None], bool]) -> DiffusionAudience:
    """The report without the figures of what other programs played across its bounds, where they may not be seen.

    Theirs reach out of the diffusion: they tell who heard the program before or after it.
    """

    def shown(lines: Sequence[UnderLine]) -> tuple[UnderLine, ...]:
        return tuple(
            one if one.program_id is None or may_see(one.program_id) else replace(one, figures=None) for one in lines
        )

    def reachable(one: Adjacent | None) -> Adjacent | None:
        return one if one is None or may_see(one.program_id) else replace(one, airing_id=None)

    return replace(
        report,
        tracks=shown(report.tracks),
        sounds=shown(report.sounds),
        before=reachable(report.before),
        after=reachable(report.after),
    )


def _under(airing: Airing, rule_set: str) -> list[UnderLine]:
    names = ("id", "layer", "title", "artist", "started", "ended", "start_basis", "end_basis", "program_id")
    columns = [*(f'a."{name}"' for name in names), *(f'f."{name}"' for name in Figures.COLUMNS)]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join(columns)} FROM {Airing._meta.db_table} a"
            f" LEFT JOIN {Audience._meta.db_table} f ON f.airing_id = a.id AND f.rule_set = %s"
            " WHERE a.station_id = %s AND a.layer IN (%s, %s) AND a.started >= %s AND a.started < %s AND a.ended > %s"
            " ORDER BY a.started, a.id",
            [
                rule_set, airing.station_id, Layer.TRACK.value, Layer.SOUND.value,
                to_ms(airing.started) - LONGEST_ITEM_MS, to_ms(airing.ended), to_ms(airing.started),
            ],
        )  # fmt: skip
        return [_under_line(*row) for row in cursor.fetchall()]


def _under_line(
    airing_id: int, layer: str, title: str, artist: str, started_ms: int, ended_ms: int,
    start_basis: str, end_basis: str, program_id: int | None, *figures: Any,
) -> UnderLine:  # fmt: skip
    return UnderLine(
        airing_id=airing_id,
        layer=layer,
        title=title,
        artist=artist,
        started=from_ms(started_ms),
        ended=from_ms(ended_ms),
        start_basis=start_basis,
        end_basis=end_basis,
        length_minutes=(ended_ms - started_ms) / MS_PER_MINUTE,
        program_id=program_id,
        figures=Figures.of(figures, started_ms, ended_ms),
    )


def _blurred(airing: Airing, under: Sequence[UnderLine]) -> Times:
    """When the station's listeners could not be told apart while the diffusion, and what was under it, was on air."""
    first = min([airing.started, *(one.started for one in under)])
    last = max([airing.ended, *(one.ended for one in under)])
    return blurs.read(to_ms(first), to_ms(last), station_id=airing.station_id).of_station(airing.station_id)


def _with_reasons(under: Sequence[UnderLine], times: Times) -> list[UnderLine]:
    because = times.each([to_ms(one.started) for one in under], [to_ms(one.ended) for one in under])
    return [with_reasons(one, why) for one, why in zip(under, because, strict=True)]


def _revision(note: Mapping[str, Any]) -> Revision:
    before, after = note["before"], note.get("after", {})
    return Revision(
        version=note["version"],
        at=from_ms(note["at_ms"]),
        causes=tuple(RevisionCause(why=why, who=who) for why, who in note.get("causes", ())),
        figures=tuple(RevisedFigure(name=name, before=value, after=after.get(name)) for name, value in before.items()),
        minutes=note.get("minutes", 0),
    )


def _of_all(flow: MinuteFlow | None, figures: Figures | None) -> tuple[float | None, ...]:
    if flow is None or figures is None or not figures.met:
        return ()
    return tuple(None if there is None else there / figures.met for there in flow.there)


def _shown(count: float | None, minimum: int) -> float | None:
    return None if is_hidden(count, minimum) else count


def _without_gaps(curve: Sequence[float | None], gaps: Sequence[Gap], started: dt.datetime) -> tuple[float | None, ...]:
    """The curve with None in each minute that no stream was observed in at all."""
    known = list(curve)
    for gap in gaps:
        if not gap.is_total:
            continue
        first = -((started - gap.started) // MINUTE)
        last = (gap.ended - started) // MINUTE
        for minute in range(max(first, 0), min(last, len(known))):
            known[minute] = None
    return tuple(known)


def _others(airing: Airing) -> QuerySet[Airing]:
    if airing.program_id is None:
        return Airing.objects.none()
    return Airing.objects.on_layer(Layer.DIFFUSION).filter(program_id=airing.program_id)


def _neighbour(airings: QuerySet[Airing]) -> Neighbour | None:
    found = airings.values_list("id", "started").first()
    return None if found is None else Neighbour(airing_id=found[0], started=found[1])
