"""Stations for the tests of the pages: what was on air and who listened, in a few words.

Sessions and airings are written as the pipeline leaves them; the figures are
computed from them by the pipeline itself.
"""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.kernel.types import Layer
from aircox_listen_stats.models import LONG_SESSION_MS, Airing, Audience, Coverage, Session, Stream
from aircox_listen_stats.pipeline import cumes, quarters, rollup, shares

ZONE = ZoneInfo("Europe/Brussels")
NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)
WEEK = dt.timedelta(weeks=1)
COUNTRIES = ("BE", "BE", "FR", "", "NL")
APPS = ("Chrome", "VLC", "Sonos", "", "Radioplayer", "Firefox")
REFERRERS = ("-", "radio-campus.example", None, "player.of-the-partners-of-the-station.example")


def local(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> dt.datetime:
    """A wall clock time in Brussels."""
    return dt.datetime(year, month, day, hour, minute, tzinfo=ZONE).astimezone(dt.UTC)


@dataclass(kw_only=True)
class PastStation:
    """A station that can be filled with a past. One stream unless more are asked for."""

    id: int = 1
    stream_slugs: tuple[str, ...] = ("live",)
    streams: list[Stream] = field(default_factory=list)
    listeners: int = 0
    airings: int = 0

    def __post_init__(self) -> None:
        self.streams = [
            Stream.objects.create(slug=slug, station_id=self.id, title=slug.title(), source="icecast")
            for slug in self.stream_slugs
        ]

    def observed(self, started: dt.datetime, ended: dt.datetime, *, stream: int = 0) -> None:
        """The stream was observed all along."""
        Coverage.objects.create(stream=self.streams[stream], started=started, ended=ended)

    def diffusion(
        self,
        program_id: int | None,
        started: dt.datetime,
        minutes: float = 60,
        *,
        program: str = "",
        title: str = "",
        **values: object,
    ) -> Airing:
        """Something planned that was on air."""
        program = program or f"Program {program_id}"
        given = {"program_id": program_id, "program_title": program, "title": title or program, **values}
        return self._airing(Layer.DIFFUSION, started, minutes, diffusion_id=1000 + self.airings, **given)

    def track(self, title: str, started: dt.datetime, minutes: float, *, artist: str = "") -> Airing:
        return self._airing(Layer.TRACK, started, minutes, title=title, artist=artist)

    def sound(self, title: str, started: dt.datetime, minutes: float) -> Airing:
        return self._airing(Layer.SOUND, started, minutes, title=title)

    def session(
        self,
        started: dt.datetime,
        ended: dt.datetime,
        *,
        stream: int = 0,
        listener: int | None = None,
        is_open: bool = False,
        exclusion: str = "",
    ) -> Session:
        """Somebody listened, a new listener unless told."""
        return Session.objects.create(**self.session_values(started, ended, stream, listener, is_open, exclusion))

    def session_values(
        self,
        started: dt.datetime,
        ended: dt.datetime,
        stream: int = 0,
        listener: int | None = None,
        is_open: bool = False,
        exclusion: str = "",
    ) -> dict[str, object]:
        """The columns of a session of one part."""
        self.listeners += 1
        played = to_ms(ended) - to_ms(started)
        return {
            "stream": self.streams[stream],
            "listener": self.listeners if listener is None else listener,
            "started": started,
            "ended": ended,
            "played_ms": played,
            "is_open": is_open,
            "is_long": played > LONG_SESSION_MS,
            "exclusion": exclusion,
            "country": "BE",
            "source": "icecast",
        }

    def compute(self, started: dt.datetime, ended: dt.datetime, *, now: dt.datetime = NOW, **how: object) -> None:
        """Lets the pipeline compute the figures of that time, as at ``now``."""
        rollup.refresh(self.id, to_ms(started), to_ms(ended), now_ms=to_ms(now), **how)

    def roll_up(self, started: dt.datetime, ended: dt.datetime, *, now: dt.datetime = NOW) -> None:
        """The same for the quarter-hours, the distinct listeners, and the countries, apps and referrers of days."""
        for part in (quarters, shares, cumes):
            part.refresh(self.id, to_ms(started), to_ms(ended), now_ms=to_ms(now), rule_sets=("triton",))

    def _airing(self, layer: Layer, started: dt.datetime, minutes: float, **values: object) -> Airing:
        self.airings += 1
        given = {"start_basis": "observed", "end_basis": "observed", **values}
        return Airing.objects.create(
            station_id=self.id,
            layer=layer,
            key=f"{layer}-{self.airings}",
            started=started,
            ended=started + dt.timedelta(minutes=minutes),
            **given,
        )


def weekly(
    station: PastStation, program_id: int, weeks: int, *, program: str = "", now: dt.datetime = NOW
) -> list[Airing]:
    """An hour in each of the last ``weeks`` weeks: two listeners in the newest, one more in each before."""
    found = []
    for week in range(weeks):
        started = now - (week + 1) * WEEK
        airing = station.diffusion(program_id, started, program=program)
        for _ in range(2 + week):
            station.session(started - 5 * MINUTE, started + HOUR)
        found.append(airing)
    station.observed(now - (weeks + 1) * WEEK, now)
    station.compute(now - (weeks + 1) * WEEK, now, now=now)
    return found


SCHEDULE = (
    # program, its title, weekday from Monday 0, hour, minutes, how many listen in the middle of it
    (11, "Morning Café", 0, 7, 120, 55),
    (11, "Morning Café", 2, 7, 120, 60),
    (11, "Morning Café", 4, 7, 120, 58),
    (12, "Campus Jazz", 3, 20, 60, 42),
    (13, "Bass Culture", 5, 22, 120, 85),
    (14, "Les Voix du soir", 1, 19, 60, 24),
    (15, "Contre-champ: cinema, books & noise", 6, 18, 90, 12),
)
"""The week of the station that is shown in screenshots."""

TRACKS = (
    ("Blue Hour", "Nadia Okafor Trio"), ("Strange Weather", "The Low Tide"), ("Canal at Night", "Maarten V."),
    ("Ostinato No. 4", "Quartet Lumen"), ("A Train to Ghent", "Elise Aubry"), ("Slow Reading", "Hearth & Sons"),
    ("Perpetuum", "Kaja Lind"), ("Second Skin", "Osmose"), ("Undertow", "Carla Reyes"), ("Old Port", "Harbour Five"),
    ("Tunnel Song", "Mirek Dvořák"), ("The Long Way Home", "Nadia Okafor Trio"),
)  # fmt: skip


def lively(station: PastStation, weeks: int, *, now: dt.datetime = NOW, seed: int = 7) -> None:
    """Fills the station with a plausible past: programs, tracks, listeners who come and go, one on air now."""
    chance = random.Random(seed)
    first_monday = (now.astimezone(ZONE) - weeks * WEEK).replace(hour=0, minute=0, second=0, microsecond=0)
    first_monday -= first_monday.weekday() * DAY
    sessions: list[Session] = []
    for week in range(weeks + 1):
        season = 1 + 0.25 * week / max(weeks, 1) + chance.uniform(-0.12, 0.12)
        for program_id, program, weekday, hour, minutes, size in SCHEDULE:
            day = (first_monday + week * WEEK + weekday * DAY).date()
            started = dt.datetime.combine(day, dt.time(hour), tzinfo=ZONE).astimezone(dt.UTC)
            if started > now:
                continue
            ended = started + minutes * MINUTE
            is_live = program_id == 11
            station.diffusion(
                program_id, started, minutes, program=program, is_live=is_live, is_running=ended > now,
                start_basis="scheduled" if is_live else "observed", end_basis="scheduled" if is_live else "observed",
                scheduled_start=started, scheduled_end=ended,
            )  # fmt: skip
            if program_id in (12, 13) and now - started < 30 * DAY:
                _tracks(station, started, minutes, chance)
            sessions += _crowd(station, started, minutes, size * season, now, chance)
    on_air = now.replace(minute=0, second=0, microsecond=0) - 10 * MINUTE
    station.diffusion(
        14, on_air, 100, program="Les Voix du soir", is_running=True, end_basis="scheduled",
        scheduled_start=on_air, scheduled_end=on_air + 100 * MINUTE,
    )  # fmt: skip
    _tracks(station, on_air, 40, chance)
    sessions += _crowd(station, on_air, 100, 30, now, chance)
    Session.objects.bulk_create(sessions, batch_size=500)
    begin = first_monday.astimezone(dt.UTC)
    lost = jazz_nights().order_by("-started")[1].started + 22 * MINUTE
    station.observed(begin, lost)
    station.observed(lost + 14 * MINUTE, now)
    for start in range((now - begin) // WEEK + 1):
        station.compute(begin + start * WEEK, min(begin + (start + 1) * WEEK, now), now=now)


def jazz_nights():
    """The diffusions of the program with tracks; of the second newest a quarter of an hour was not observed."""
    return Airing.objects.filter(program_id=12, layer=Layer.DIFFUSION)


def _tracks(station: PastStation, started: dt.datetime, minutes: int, chance: random.Random) -> None:
    at, ended, number = started, started + minutes * MINUTE, 0
    station.sound(f"episode_{started:%Y%m%d}.flac", started, minutes)
    songs = chance.sample(TRACKS, len(TRACKS))
    while at < ended - 2 * MINUTE and number < 24:
        length = min(chance.uniform(2.5, 7.5), (ended - at) / MINUTE)
        title, artist = songs[number % len(songs)]
        station.track(title, at, length, artist=artist)
        at, number = at + length * MINUTE, number + 1


def _crowd(
    station: PastStation, started: dt.datetime, minutes: int, size: float, now: dt.datetime, chance: random.Random
) -> list[Session]:
    found = []
    for _ in range(int(size * 2.1)):
        # Half of them come around the beginning, the others at any time.
        offset = chance.gauss(-3, 6) if chance.random() < 0.5 else chance.uniform(-10, minutes - 3)
        begun = started + offset * MINUTE
        left = begun + min(chance.expovariate(1 / (minutes * 0.55)), 5 * 60) * MINUTE + dt.timedelta(seconds=20)
        if begun >= now:
            continue
        regular = chance.randrange(400) + 1_000_000
        values = station.session_values(begun, min(left, now), listener=regular, is_open=left > now)
        values |= {"country": COUNTRIES[regular % 13 % 5], "app": APPS[regular % 17 % 6]}
        values["referrer"] = REFERRERS[regular % 11 % 4]
        found.append(Session(**values))
    return found


def figures_of(airing: Airing) -> Audience:
    """The stored figures under the default rule-set."""
    return Audience.objects.get(airing=airing, rule_set="triton")
