"""What web players told becomes visits, sessions in the player, plays of recordings, and live listening.

The request that brings an event writes one row and no more. Here the
collector looks at what is fresh, and at players that have fallen silent.
Nothing is counted up: whatever is made of a page's events is made anew from all
of them, and the sessions of a day's pages (:mod:`.player_sessions`) from what is
made of each, so that order of arrival, repetition and a collector that was
killed change nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from django.db import transaction
from django.db.models import Min, Q, QuerySet

from .. import conf
from ..errors import ConfigurationError
from ..fields import from_ms, to_ms
from ..kernel import calendar, player
from ..kernel.player import Played, PlayerState, Told
from ..kernel.sections import sections_of
from ..kernel.types import MS, ListenerMark
from ..models import Inbox, PlayerEvent, PlayerSession, PlayerVisit, Recording, RecordingPlay, Stream
from ..onair.base import OnAirLog
from ..sources import registry
from ..sources.player_events import PlayerEventsSource, payload_of
from . import lease, player_labels, player_sessions, rows, rulings
from .player_sessions import Household, Page, who

STREAM, SOUND = "stream", "sound"
"""The two kinds of media: listened to live, or on demand."""

VISIT_SECONDS = 24 * 3600
"""How long a page may tell of itself. Its events are kept for longer, so that none is taken twice."""

BATCH = 1_000
"""Fresh events of one transaction, as many as callbacks of one."""

VISITS_AT_ONCE = 50
"""Visits of which all events are in memory: of one that goes on for a day some 3,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What a look at the players brought."""

    events: int = 0
    visits: int = 0
    plays: int = 0
    more: bool = False  # more is fresh than was taken


def refresh(onair: OnAirLog, *, now_ms: int) -> Refreshed:
    """Takes what is fresh, and closes what has fallen silent; in one transaction or not at all."""
    fresh = list(PlayerEvent.objects.filter(is_fresh=True).order_by("pk").values_list("pk", "visit", "at")[:BATCH])
    silent_ms = now_ms - player.SILENCE_MS - player.LATENESS_MS
    silent = PlayerVisit.objects.filter(is_open=True, seen__lt=silent_ms).values_list("visit", flat=True)[:BATCH]
    since_ms = dict.fromkeys(silent, 0)
    for _, visit, at in fresh:
        since_ms[visit] = min(since_ms.get(visit, to_ms(at)), to_ms(at))
    if not since_ms:
        return Refreshed()
    _know_recordings(onair, since_ms)
    with transaction.atomic():
        _begin()
        PlayerEvent.objects.filter(pk__in=[pk for pk, _, _ in fresh]).update(is_fresh=False)
        plays = _Refresh(since_ms, now_ms).run()
    return Refreshed(events=len(fresh), visits=len(since_ms), plays=plays, more=len(fresh) == BATCH)


def rebuild(started_ms: int, ended_ms: int, *, now_ms: int) -> int:
    """How many plays were written: those of all visits that began in ``[started_ms, ended_ms)``, with their sessions.

    Nothing is told of streams that players count: their sockets are kept, and stitched anew by themselves.
    """
    began = PlayerVisit.objects.filter(started__gte=from_ms(started_ms), started__lt=from_ms(ended_ms))
    plays = 0
    for visits in _chunks(began.values_list("visit", flat=True)):
        with transaction.atomic():
            _begin()
            plays += _Refresh(dict.fromkeys(visits, now_ms), now_ms).run()
    return plays


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """Visits derived once more. ``counts`` are those of :class:`~..kernel.player.Closing`."""

    counts: Mapping[str, int]
    plays: int
    plays_differing: int
    sessions: int
    sessions_differing: int


def derived(started_ms: int, ended_ms: int, *, now_ms: int) -> Derived:
    """What the visits that began in ``[started_ms, ended_ms)`` make, held against what is stored; nothing is written.

    Left out are listeners who play still, and of whom something is fresh.
    """
    fresh = PlayerEvent.objects.filter(is_fresh=True)
    busy = PlayerVisit.objects.filter(Q(is_open=True) | Q(visit__in=fresh.values("visit"))).values("listener")
    over = PlayerVisit.objects.filter(started__gte=from_ms(started_ms), started__lt=from_ms(ended_ms)).exclude(
        Q(listener__in=busy) | Q(visit__in=fresh.values("visit"))
    )
    looking = _Refresh({}, now_ms)
    counts: Counter[str] = Counter()
    made: set[_Play] = set()
    households: set[Household] = set()
    numbers = list(over.values_list("visit", flat=True))
    for visit in looking.visits(numbers):
        counts.update(player.closing(visit.told, now_ms=now_ms).counts)
        made.update(_play(play) for play in looking.plays(visit))
        households.add(visit.page.household)
    known = {_play(play) for some in _chunks(numbers) for play in RecordingPlay.objects.filter(visit__in=some)}
    sessions, stored = looking.sessions_of(households)
    return Derived(
        counts=counts,
        plays=len(made),
        plays_differing=len({key[:2] for key in made ^ known}),
        sessions=len(sessions),
        sessions_differing=max(len(sessions - stored), len(stored - sessions)),
    )


def prune(*, events_before_ms: int, sessions_before_ms: int, now_ms: int) -> tuple[int, int]:
    """How many events were deleted, and how many plays and sessions were made nobody's.

    The events of the pages that a listener opened in one broadcast day go
    together, once all of them are over and old: what is made of them is never
    made anew from a rest of them. What was heard of a recording stays, without
    the key of who heard it: once nothing could bring that key back.
    """
    deleted = 0
    for visits in _over_before(events_before_ms, now_ms):
        for some in _chunks(visits.values_list("visit", flat=True)):
            with transaction.atomic():
                _begin()
                deleted += PlayerEvent.objects.filter(visit__in=some, is_fresh=False).delete()[0]
                told = PlayerEvent.objects.filter(visit__in=some).values("visit")
                PlayerVisit.objects.filter(visit__in=some).exclude(visit__in=told).delete()
    nobodys = {"listener": None, "country": "", "app": ""}
    old_plays, old_sessions = _old(sessions_before_ms, kept=PlayerVisit.objects.all())
    plays, sessions = old_plays.update(**nobodys), old_sessions.update(**nobodys, visit=None)
    return deleted, plays + sessions


def waiting_to_be_pruned(*, events_before_ms: int, sessions_before_ms: int, now_ms: int) -> tuple[int, int]:
    """What :func:`prune` would do."""
    events = 0
    kept = PlayerVisit.objects.all()
    for visits in _over_before(events_before_ms, now_ms):
        events += PlayerEvent.objects.filter(is_fresh=False, visit__in=visits.values("visit")).count()
        kept = kept.exclude(visit__in=visits.values("visit"))
    plays, sessions = _old(sessions_before_ms, kept=kept)
    return events, plays.count() + sessions.count()


def _old(before_ms: int, *, kept: QuerySet[PlayerVisit]) -> tuple[QuerySet[RecordingPlay], QuerySet[PlayerSession]]:
    """Plays and sessions of so long ago that are somebody's, and are made of no visit that is ``kept``."""
    plays = RecordingPlay.objects.filter(seen__lt=from_ms(before_ms), listener__isnull=False)
    sessions = PlayerSession.objects.filter(ended__lt=from_ms(before_ms), listener__isnull=False)
    return plays.exclude(visit__in=kept.values("visit")), sessions.exclude(listener__in=kept.values("listener"))


def _over_before(before_ms: int, now_ms: int) -> Iterator[QuerySet[PlayerVisit]]:
    """For each broadcast day the visits of those of whom none of that day is open, recent, or may be told of yet."""
    before_ms = min(before_ms, now_ms - 2 * VISIT_SECONDS * MS)
    before = from_ms(before_ms)
    first = PlayerVisit.objects.filter(seen__lt=before).aggregate(first=Min("started"))["first"]
    if first is None:
        return
    waiting = PlayerEvent.objects.filter(is_fresh=True)
    awaited = PlayerVisit.objects.filter(visit__in=waiting.values("visit"))
    settings = conf.get()
    days = calendar.broadcast_days(settings.zone, to_ms(first), before_ms, starts=settings.broadcast_day_start)
    for day_ms in days.starts_ms.tolist():
        opened = player_sessions.opened_on(day_ms)
        recent = opened.filter(Q(seen__gte=before) | Q(is_open=True))
        yield (
            opened.exclude(listener__in=recent.values("listener"))
            .exclude(listener__in=waiting.values("listener"))
            .exclude(listener__in=awaited.values("listener"))
        )


def _begin() -> None:
    """To be called first in a transaction that derives: nobody else does, and nobody lays rulings meanwhile."""
    lease.ensure()
    lease.alone(player_labels.PLAYERS)


def _chunks(values: Iterable[int], size: int = BATCH) -> Iterable[list[int]]:
    known = list(values)
    return (known[start : start + size] for start in range(0, len(known), size))


def _know_recordings(onair: OnAirLog, visits: Iterable[int]) -> None:
    """Keeps our own copy of what the sounds of these visits are called."""
    ids = set(
        PlayerEvent.objects.filter(visit__in=list(visits), sound_id__isnull=False)
        .values_list("sound_id", flat=True)
        .distinct()
    )
    if not ids:
        return
    found = onair.sounds(ids)
    known = {row.sound_id: row for row in Recording.objects.filter(sound_id__in=ids)}
    for sound_id in sorted(ids):
        sound = found.get(sound_id)
        if sound is None:
            if sound_id not in known:
                Recording.objects.get_or_create(sound_id=sound_id)
            continue
        told = {
            "title": sound.title[:255],
            "episode_id": next(iter(sound.episode_ids), None),
            "program_id": sound.program_id,
            "program_title": sound.program_title[:255],
            "duration_ms": sound.duration_ms,
        }
        row = known.get(sound_id)
        if row is None or any(getattr(row, name) != value for name, value in told.items()):
            Recording.objects.update_or_create(sound_id=sound_id, defaults=told)


class _Event(NamedTuple):
    """What a row of PlayerEvent holds, in the order of _EVENTS."""

    visit: int
    sequence: int
    state: str
    at_ms: int
    stream_id: int | None
    sound_id: int | None
    position_ms: int | None
    duration_ms: int | None
    listener: int
    country: str
    app: str
    exclusion: str
    rule: str


_EVENTS = (
    "SELECT visit, sequence, state, at, stream_id, sound_id, position_ms, duration_ms, listener, country, app,"
    f" exclusion, rule FROM {rows.table(PlayerEvent)} WHERE visit IN ({{values}})"
)


@dataclass(slots=True, kw_only=True)
class _Visit:
    """One page that plays, and all that it told."""

    number: int
    mark: ListenerMark
    told: list[Told]
    stretches: list[Played]

    @property
    def page(self) -> Page:
        """What is kept of it for the sessions that it is part of."""
        return Page(
            visit=self.number,
            opened_ms=self.told[0].at_ms,
            mark=self.mark,
            stretches=tuple((one.started_ms, one.ended_ms, one.medium[0] == STREAM) for one in self.stretches),
            plays=any(one.is_open for one in self.stretches),
        )


_Session = tuple[int | None, int, int, int, int, int]
"""A session in the player, to be compared: listener, start, end, live, on demand, played."""

_Play = tuple[int, int, int, str]
"""A play, to be compared: visit, recording, played, sections."""


class _Refresh:
    """The visits that something is new of, and the sessions that they are part of."""

    def __init__(self, since_ms: Mapping[int, int], now_ms: int) -> None:
        self.since_ms = since_ms
        self.now_ms = now_ms
        self.recordings: dict[int | None, Recording] = {}
        self.counted = _counted_streams()
        self.rulings = rulings.stored()

    def run(self) -> int:
        """How many plays of recordings were written."""
        numbers = list(self.since_ms)
        # Whose a visit was taken to be, and since when, before an earlier event of it came.
        before = PlayerVisit.objects.filter(visit__in=numbers).values_list("listener", "started")
        households = {(listener, player_sessions.day_of(to_ms(started))) for listener, started in before}
        plays = 0
        for some in _chunks(numbers, VISITS_AT_ONCE):
            visits = list(self.visits(some))
            households |= self._write_visits(visits)
            plays += self._write_plays(visits)
            self._tell_live(visits)
        player_sessions.store(households, numbers, self.rulings)
        return plays

    def visits(self, numbers: Iterable[int]) -> Iterator[_Visit]:
        """Those of them that told anything; the events of a few are in memory at a time."""
        for some in _chunks(numbers, VISITS_AT_ONCE):
            events: dict[int, list[_Event]] = defaultdict(list)
            for row in rows.fetch_in(_EVENTS, [], some):
                events[row[0]].append(_Event._make(row))
            sounds = {event.sound_id for group in events.values() for event in group} - {None, *self.recordings}
            self.recordings |= {row.sound_id: row for row in Recording.objects.filter(sound_id__in=sounds)}
            yield from (self._visit(number, events[number]) for number in some if events[number])

    def _visit(self, number: int, events: Sequence[_Event]) -> _Visit:
        first = min(events, key=lambda event: event.sequence)
        told = player.in_step([self._told(event) for event in events])
        return _Visit(
            number=number,
            # Who it was at first: a page that plays over the change of the secret stays one listener.
            mark=ListenerMark(
                listener=first.listener,
                country=first.country,
                app=first.app,
                exclusion=first.exclusion,
                rule=first.rule,
            ),
            told=told,
            stretches=player.played(told, now_ms=self.now_ms),
        )

    def _told(self, event: _Event) -> Told:
        medium = (STREAM, event.stream_id or 0) if event.sound_id is None else (SOUND, event.sound_id)
        duration_ms = event.duration_ms
        recording = self.recordings.get(event.sound_id)
        if recording is not None and (duration_ms is None or duration_ms < MS):
            duration_ms = recording.duration_ms  # a player that has not read the file tells none, or a fraction
        return Told(
            sequence=event.sequence,
            state=PlayerState(event.state),
            at_ms=event.at_ms,
            medium=medium,
            position_ms=event.position_ms,
            duration_ms=duration_ms,
        )

    def sessions_of(self, households: Iterable[Household]) -> tuple[set[_Session], set[_Session]]:
        """The sessions that these households' pages make, and those that are stored."""
        made: set[_Session] = set()
        stored: set[_Session] = set()
        for listener, day_ms in sorted(households):
            opened = player_sessions.opened_on(day_ms).filter(listener=listener)
            pages = [visit.page for visit in self.visits(opened.values_list("visit", flat=True))]
            made.update(_session(one) for one in player_sessions.made_of(pages, self.rulings))
            kept = PlayerSession.objects.filter(listener=listener, day=from_ms(day_ms))
            stored.update(_session(one) for one in kept)
        return made, stored

    # Visits -----------------------------------------------------------------------

    def _write_visits(self, visits: Sequence[_Visit]) -> set[Household]:
        """The households that they belong to."""
        pages = [visit.page for visit in visits]
        PlayerVisit.objects.bulk_create(
            [
                PlayerVisit(
                    visit=page.visit,
                    started=from_ms(page.opened_ms),
                    seen=from_ms(visit.told[-1].at_ms),
                    is_open=page.plays,
                    stretches=page.stretches,
                    **who(page.mark, self.rulings, page.opened_ms, visit.told[-1].at_ms),
                )
                for page, visit in zip(pages, visits, strict=True)
            ],
            update_conflicts=True,
            unique_fields=["visit"],
            update_fields=["started", "seen", "is_open", "stretches", *_WHO],
        )
        return {page.household for page in pages}

    # Plays of recordings -------------------------------------------------------------

    def _write_plays(self, visits: Sequence[_Visit]) -> int:
        plays = [play for visit in visits for play in self.plays(visit)]
        kept = {(play.visit, play.recording_id) for play in plays}
        for known in RecordingPlay.objects.filter(visit__in=[visit.number for visit in visits]):
            if (known.visit, known.recording_id) not in kept:
                known.delete()
        RecordingPlay.objects.bulk_create(
            plays,
            update_conflicts=True,
            unique_fields=["visit", "recording"],
            update_fields=["visit_started", "started", "seen", "sections", "played_ms", "dropped", *_WHO],
        )
        return len(plays)

    def plays(self, visit: _Visit) -> list[RecordingPlay]:
        told_of: dict[int, list[Told]] = defaultdict(list)
        for one in visit.told:
            if one.medium[0] == SOUND and one.position_ms is not None:
                told_of[one.medium[1]].append(one)
        plays = []
        for sound_id, told in told_of.items():
            recording = self.recordings.get(sound_id)
            if recording is None:
                continue  # told of since we looked: still fresh, and taken next time
            found = sections_of(_positions(told, recording.duration_ms))
            if found.played_ms == 0:
                continue
            started_ms = told[0].at_ms
            seen_ms = told[len(told) - found.dropped - 1].at_ms  # what was dropped is not heard of
            plays.append(
                RecordingPlay(
                    recording=recording,
                    visit=visit.number,
                    visit_started=from_ms(visit.told[0].at_ms),
                    started=from_ms(started_ms),
                    seen=from_ms(seen_ms),
                    sections=[list(section) for section in found.sections],
                    played_ms=found.played_ms,
                    dropped=found.dropped,
                    **who(visit.mark, self.rulings, started_ms, seen_ms),
                )
            )
        return plays

    # Live listening ------------------------------------------------------------------

    def _tell_live(self, visits: Sequence[_Visit]) -> None:
        """Puts into the Inbox what is new of streams that players count."""
        told = []
        for visit in visits:
            for stretch in visit.stretches:
                source = self.counted.get(stretch.medium[1]) if stretch.medium[0] == STREAM else None
                is_new = stretch.is_open or stretch.ended_ms >= self.since_ms[visit.number] - player.SILENCE_MS
                if source is not None and is_new:
                    name, slug = source
                    payload = payload_of(stretch, stream=slug, visit=visit.number, mark=visit.mark)
                    told.append(Inbox(source=name, received=from_ms(self.now_ms), payload=payload))
        Inbox.objects.bulk_create(told)


def _counted_streams() -> dict[int, tuple[str, str]]:
    """Source and slug of each stream that players count, by its id."""
    settings = conf.get()
    sources = {name for name, entry in settings.sources.items() if _is_players(entry.backend)}
    slugs = {slug: stream.source for slug, stream in settings.streams.items() if stream.source in sources}
    return {row.pk: (slugs[row.slug], row.slug) for row in Stream.objects.filter(slug__in=slugs)} if slugs else {}


def _is_players(backend: str) -> bool:
    try:
        return issubclass(registry.backend(backend), PlayerEventsSource)
    except ConfigurationError:
        return False  # a check tells it


def _play(one: RecordingPlay) -> _Play:
    return one.visit, one.recording_id, one.played_ms, str(one.sections)


def _session(one: PlayerSession) -> _Session:
    return one.listener, to_ms(one.started), to_ms(one.ended), one.live_ms, one.on_demand_ms, one.played_ms


_WHO = ("listener", "country", "app", "exclusion", "rule", "told_exclusion", "told_rule")


def _positions(told: Sequence[Told], duration_ms: int | None) -> list[tuple[bool, int]]:
    """Where in the recording each event was; what follows a stop begins anew, as a seek does."""
    found = []
    was_stopped = False
    for one in told:
        assert one.position_ms is not None
        position_ms = one.position_ms if duration_ms is None else min(one.position_ms, duration_ms)
        found.append((was_stopped or one.state is PlayerState.SEEK, position_ms))
        was_stopped = one.state is PlayerState.STOPPED
    return found
