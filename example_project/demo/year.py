"""A year of a pretend station: its programs, its diffusions, and who listened.

The rows of aircox are made here; the audience is written as the access log of
an Icecast, to be imported like any station's old logs.
"""

from __future__ import annotations

import datetime as dt
import random
import zoneinfo
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .icecast import log_line
from .listeners import Audience, Show

DAYS = 365
MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, SATURDAY, SUNDAY = range(7)
WORKDAYS = (MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY)
TRACK_SECONDS = 285
"""About the length of a song: the tracks of a music program follow each other at this distance."""

LOGS_KEPT_DAYS = 60
"""aircox's archiver moves older rows of its log away; the demo's past looks the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A program of the demo and its place in the week."""

    title: str
    slug: str
    days: Sequence[int]
    at: dt.time
    minutes: int
    draw: float  # listeners that a diffusion brings, on average
    sounds: int = 0  # 0: live, without any recording
    tracks: bool = False
    rerun: tuple[int, dt.time] | None = None  # weekday and time of the repeat
    growth: float = 0.0  # of the draw, over the year


PLANS: Sequence[Plan] = (
    Plan(title="Petit matin", slug="petit-matin", days=WORKDAYS, at=dt.time(7), minutes=120, draw=92, growth=0.35),
    Plan(title="Midi pile", slug="midi-pile", days=WORKDAYS, at=dt.time(12), minutes=60, draw=44),
    Plan(
        title="Voix de quartier",
        slug="voix-de-quartier",
        days=(WEDNESDAY,),
        at=dt.time(17),
        minutes=60,
        draw=31,
        sounds=2,
        growth=-0.3,
    ),
    Plan(
        title="Ondes courtes",
        slug="ondes-courtes",
        days=(MONDAY, THURSDAY),
        at=dt.time(18),
        minutes=60,
        draw=52,
        sounds=1,
        tracks=True,
        rerun=(SUNDAY, dt.time(10)),
    ),
    Plan(
        title="La boîte à jazz",
        slug="la-boite-a-jazz",
        days=(TUESDAY,),
        at=dt.time(20),
        minutes=120,
        draw=71,
        sounds=1,
        tracks=True,
        rerun=(SATURDAY, dt.time(14)),
        growth=0.6,
    ),
    Plan(title="Nuit blanche", slug="nuit-blanche", days=(FRIDAY,), at=dt.time(22), minutes=150, draw=58),
    Plan(
        title="Atelier sonore",
        slug="atelier-sonore",
        days=(SUNDAY,),
        at=dt.time(19),
        minutes=60,
        draw=19,
        sounds=1,
        tracks=True,
    ),
)

ARTISTS = (
    "Les Ondes", "Marée Basse", "Nadia Ferrand", "Trio Canal", "Kofi & the Tide", "La Fanfare du Coin",
    "Ilse Vermeer", "Grand Bruit", "Soledad Ruiz", "Petit Soir", "Orchestre Minuit", "Vent d'Est",
)  # fmt: skip
WORDS = (
    "Nuit", "Canal", "Lumière", "Tram 51", "Bords de l'eau", "Retour", "Sable", "Hiver", "Café du port", "Demain",
    "Sirènes", "Sous les toits", "Vitesse lente", "Aurore", "Parade", "Silences",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One diffusion to be: which plan, when, and how many it drew."""

    plan: Plan
    start: dt.datetime
    end: dt.datetime
    draw: float
    episode: int  # counted through the year; a repeat carries its first run's number
    is_rerun: bool = False


def slots(today: dt.date, zone: zoneinfo.ZoneInfo, until: dt.datetime, rng: random.Random) -> list[Slot]:
    """Every diffusion of the year before ``until``, in order of time."""
    found: list[Slot] = []
    first = today - dt.timedelta(days=DAYS)
    for plan in PLANS:
        episode = 0
        for offset in range(DAYS + 1):
            day = first + dt.timedelta(days=offset)
            progress = offset / DAYS
            season = 0.82 if day.month in (7, 8) else 1.0
            base = plan.draw * (1 + plan.growth * (progress - 0.5)) * season * rng.lognormvariate(0, 0.13)
            if day.weekday() in plan.days:
                episode += 1
                found.append(_slot(plan, day, plan.at, zone, base, episode, False))
            if plan.rerun and episode and day.weekday() == plan.rerun[0]:
                found.append(_slot(plan, day, plan.rerun[1], zone, base * 0.35, episode, True))
    return sorted((slot for slot in found if slot.end <= until), key=lambda slot: slot.start)


def _slot(
    plan: Plan, day: dt.date, at: dt.time, zone: zoneinfo.ZoneInfo, draw: float, episode: int, is_rerun: bool
) -> Slot:
    start = dt.datetime.combine(day, at, tzinfo=zone).astimezone(dt.UTC)
    end = start + dt.timedelta(minutes=plan.minutes)
    return Slot(plan=plan, start=start, end=end, draw=draw, episode=episode, is_rerun=is_rerun)


class Archive:
    """Writes the year into aircox's tables: what the station's team would have entered, and what was logged."""

    def __init__(self, station: Any, media: Path, rng: random.Random) -> None:
        self.station = station
        self.media = media
        self.rng = rng
        self.programs: dict[str, Any] = {}
        self.episodes: dict[tuple[str, int], Any] = {}
        self.first_runs: dict[tuple[str, int], Any] = {}
        self.sounds: dict[tuple[str, int], list[Any]] = {}

    def write(self, slots: Sequence[Slot], now: dt.datetime) -> None:
        from aircox.models import Program

        for plan in PLANS:
            self.programs[plan.slug] = Program.objects.create(
                title=plan.title, slug=plan.slug, station=self.station, status=Program.STATUS_PUBLISHED
            )
        for slot in slots:
            self.diffusion(slot)
        self._log(slots, now)

    def diffusion(self, slot: Slot) -> Any:
        """The Diffusion row of ``slot``, its episode and its sounds made at need."""
        from aircox.models import Diffusion, Episode

        key = (slot.plan.slug, slot.episode)
        if key not in self.episodes:
            self.episodes[key] = Episode.objects.create(
                parent=self.programs[slot.plan.slug],
                title=f"{slot.plan.title} n° {slot.episode}",
                slug=f"{slot.plan.slug}-{slot.episode}",
                status=Episode.STATUS_PUBLISHED,
            )
            self.sounds[key] = [self._sound(slot, number) for number in range(slot.plan.sounds)]
        diffusion = Diffusion.objects.create(
            program=self.programs[slot.plan.slug],
            episode=self.episodes[key],
            initial=self.first_runs.get(key),
            start=slot.start,
            end=slot.end,
            type=Diffusion.TYPE_ON_AIR,
        )
        self.first_runs.setdefault(key, diffusion)
        return diffusion

    def _sound(self, slot: Slot, number: int) -> Any:
        from aircox.models import Sound, Track

        seconds = slot.plan.minutes * 60 // slot.plan.sounds - 15
        sound = Sound(
            name=f"{slot.plan.slug} {slot.episode} {number + 1}",
            program=self.programs[slot.plan.slug],
            episode=self.episodes[slot.plan.slug, slot.episode],
            type=Sound.TYPE_ARCHIVE,
            position=number,
            duration=length_as_time(seconds),
        )
        name = f"programs/{slot.plan.slug}/archives/{slot.episode:03d}_{number + 1}.mp3"
        if hasattr(Sound, "file"):
            sound.file = name
        else:
            sound.path = str(self.media / name)
        sound.save(check=False)
        if slot.plan.tracks:
            Track.objects.bulk_create(
                Track(
                    sound=sound,
                    position=position,
                    timestamp=at,
                    title=self.rng.choice(WORDS),
                    artist=self.rng.choice(ARTISTS),
                )
                for position, at in enumerate(range(40, seconds - 60, TRACK_SECONDS))
            )
        return sound

    def _log(self, slots: Sequence[Slot], now: dt.datetime) -> None:
        """What the Monitor logged of them. Rows are made at once: no receiver has to hear the past."""
        from aircox.models import Log

        rows = []
        for slot in slots:
            key = (slot.plan.slug, slot.episode)
            if not self.sounds[key]:
                continue  # a live diffusion logs nothing
            diffusion = self.first_runs[key]
            if slot.is_rerun:
                diffusion = diffusion.rerun_set.get(start=slot.start)
            late = dt.timedelta(seconds=self.rng.uniform(0.2, 2.5))
            rows.append(
                Log(
                    station=self.station, type=Log.TYPE_START, date=slot.start + late, source="dealer",
                    diffusion=diffusion, comment=str(diffusion),
                )
            )  # fmt: skip
            at = (slot.start + late + dt.timedelta(seconds=1)).replace(microsecond=0)
            for sound in self.sounds[key]:
                path = sound.file.path if hasattr(sound, "file") else sound.path
                rows.append(
                    Log(
                        station=self.station, type=Log.TYPE_ON_AIR, date=at, source="dealer",
                        sound=sound, diffusion=diffusion, comment=path,
                    )
                )  # fmt: skip
                length = sound.duration
                at += dt.timedelta(hours=length.hour, minutes=length.minute, seconds=length.second)
        Log.objects.bulk_create(rows)


def length_as_time(seconds: int) -> dt.time:
    """A length below a day, as aircox keeps it."""
    return dt.time(seconds // 3600, seconds // 60 % 60, seconds % 60)


def forget_old_logs(now: dt.datetime) -> int:
    """Does what aircox's archiver does: rows older than 60 days leave the table."""
    from aircox.models import Log

    return Log.objects.filter(date__lt=now - dt.timedelta(days=LOGS_KEPT_DAYS)).delete()[0]


def shows(slots: Sequence[Slot], rng: random.Random) -> Iterator[Show]:
    """What draws the listeners: the diffusions, and the music between them."""
    for slot in slots:
        start, end = slot.start.timestamp(), slot.end.timestamp()
        disliked = [start + 40 + TRACK_SECONDS * rng.randrange(2, 9)] if slot.plan.tracks and rng.random() < 0.6 else []
        yield Show(start=start, end=end, draw=slot.draw, tune_outs=disliked)


def background(first: dt.datetime, until: dt.datetime, zone: zoneinfo.ZoneInfo) -> Iterator[Show]:
    """The music around the diffusions: hour by hour, few at night."""
    hour = first.replace(minute=0, second=0, microsecond=0)
    while hour < until:
        local = hour.astimezone(zone).hour
        draw = 1.2 if local < 6 else 9 if 8 <= local < 23 else 4
        end = min(hour + dt.timedelta(hours=1), until)
        yield Show(start=hour.timestamp(), end=end.timestamp(), draw=draw)
        hour += dt.timedelta(hours=1)


def write_access_log(
    path: Path, audience: Audience, shows: Iterator[Show], *, until: float, mounts: Sequence[tuple[str, float]]
) -> int:
    """Writes the year as Icecast would have: a line when a listener leaves. Gives the number of lines."""
    ends: list[tuple[float, str]] = []
    names = [mount for mount, _share in mounts]
    shares = [share for _mount, share in mounts]
    for show in shows:
        for heard in audience.of(show):
            if heard.end >= until:
                continue
            mount = audience.random.choices(names, shares)[0]
            ends.append((heard.end, log_line(heard.listener.ip, mount, heard.listener.agent, heard.start, heard.end)))
    ends.sort()
    with path.open("w", encoding="ascii") as log:
        log.writelines(line for _end, line in ends)
    return len(ends)
