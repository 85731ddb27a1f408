"""Builds the demo's past: a year of it, through the same doors as a station's own old logs."""

from __future__ import annotations

import datetime as dt
import os
import random
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import transaction

from aircox_listen_stats.models import ProgramAccess

from . import year
from .environment import MOUNTS
from .listeners import Audience, Show

SEED = 26
SHARES = {"radio-mp3": 0.8, "radio-low": 0.2}
PRODUCER, TECHNICIAN = "producer", "technician"
PRODUCERS_PROGRAMS = ("la-boite-a-jazz", "ondes-courtes")
PASSWORD = "radio"
OPEN_STUDIO_MINUTES = 90
MINUTES_ON_AIR = 14
"""How long the program that is on air has been so when the demo opens. Beyond 20 the Monitor
would think that it missed the start."""


def build(folder: Path, now: dt.datetime, zone: zoneinfo.ZoneInfo, tell: Callable[[str], None]) -> Any:
    """The station, with its year in the database; ``tell`` is given a line per step."""
    rng = random.Random(SEED)
    opening = open_studio_start(now)
    slots = year.slots(now.astimezone(zone).date(), zone, opening, rng)
    tell(f"{len(slots)} diffusions of {len(year.PLANS)} programs, a year of them")
    with transaction.atomic():
        station = _station()
        archive = year.Archive(station, folder / "media", rng)
        archive.write(slots, now)
        _open_studio(station, archive, opening, rng)
        _music(station, rng)
        _users(archive)
    audience = Audience(SEED)
    log = folder / "access.log"
    first = now - dt.timedelta(days=year.DAYS)

    def draws() -> Any:
        yield from year.shows(slots, rng)
        yield from year.background(first, now, zone)
        # Those who heard the first minutes of what is on air, and have left again.
        yield Show(start=opening.timestamp(), end=now.timestamp(), draw=OPEN_STUDIO.draw)

    lines = year.write_access_log(log, audience, draws(), until=now.timestamp(), mounts=[
        (mount, SHARES[slug]) for slug, mount in MOUNTS.items()
    ])  # fmt: skip
    tell(f"{lines:,} lines of an Icecast's access log; importing them")
    call_command("listen_stats_import", str(log))
    tell("Laying the listening over what was on air")
    call_command("listen_stats_rebuild", "--from", first.isoformat(), "--to", now.isoformat())
    gone = year.forget_old_logs(now)
    tell(f"{gone} rows of aircox's log are older than {year.LOGS_KEPT_DAYS} days and went, as its archiver does")
    return station


def stream_addresses() -> list[str]:
    """Where the public listens."""
    icecast = f"http://127.0.0.1:{os.environ['EXAMPLE_STATION_ICECAST_PORT']}"
    return [icecast + mount for mount in MOUNTS.values()]


def open_studio_start(now: dt.datetime) -> dt.datetime:
    """When the program that is on air now began: a whole minute."""
    return (now - dt.timedelta(minutes=MINUTES_ON_AIR)).replace(second=0, microsecond=0)


def _station() -> Any:
    from aircox.models import Port, Station

    station = Station.objects.create(
        name="Radio Rivage",
        slug="radio-rivage",
        default=True,
        active=True,
        audio_streams="\n".join(stream_addresses()),
    )
    Port.objects.create(
        station=station, direction=Port.DIRECTION_OUTPUT, type=Port.TYPE_ICECAST, settings='mount="/live.mp3"'
    )
    return station


OPEN_STUDIO = year.Plan(
    title="Studio ouvert",
    slug="studio-ouvert",
    days=(),
    at=dt.time(0),
    minutes=OPEN_STUDIO_MINUTES,
    draw=60,
    sounds=1,
    tracks=True,
)


def _open_studio(station: Any, archive: year.Archive, start: dt.datetime, rng: random.Random) -> None:
    """What is on air when the demo opens, and after it: one studio session after the other.

    The first is under way: its rows are those that the Monitor wrote when it started.
    """
    from aircox.models import Log, Program

    archive.programs[OPEN_STUDIO.slug] = Program.objects.create(
        title=OPEN_STUDIO.title, slug=OPEN_STUDIO.slug, station=station, status=Program.STATUS_PUBLISHED
    )
    for number in range(1, 5):
        end = start + dt.timedelta(minutes=OPEN_STUDIO_MINUTES)
        diffusion = archive.diffusion(
            year.Slot(plan=OPEN_STUDIO, start=start, end=end, draw=OPEN_STUDIO.draw, episode=number)
        )
        if number == 1:
            sound = archive.sounds[OPEN_STUDIO.slug, 1][0]
            path = sound.file.path if hasattr(sound, "file") else sound.path
            common = {"station": station, "source": "dealer", "diffusion": diffusion}
            at = start + dt.timedelta(seconds=1)
            Log.objects.bulk_create(
                [
                    Log(type=Log.TYPE_START, date=at, comment=str(diffusion), **common),
                    Log(type=Log.TYPE_ON_AIR, date=at, sound=sound, comment=path, **common),
                ]
            )
        start = end


def _music(station: Any, rng: random.Random) -> None:
    """The streamed program that plays where no diffusion does."""
    from aircox.models import Program, Sound, Stream, Track

    program = Program.objects.create(
        title="Flux continu", slug="flux-continu", station=station, status=Program.STATUS_PUBLISHED
    )
    Stream.objects.create(program=program)
    for number in range(1, 13):
        seconds = rng.randrange(150, 320)
        sound = Sound(
            name=f"flux {number}",
            program=program,
            type=Sound.TYPE_ARCHIVE,
            duration=year.length_as_time(seconds),
        )
        name = f"programs/flux-continu/archives/flux_{number:02d}.mp3"
        if hasattr(Sound, "file"):
            sound.file = name
        else:
            sound.path = name
        sound.save(check=False)
        Track.objects.create(
            sound=sound, position=0, timestamp=0, title=rng.choice(year.WORDS), artist=rng.choice(year.ARTISTS)
        )


def _users(archive: year.Archive) -> None:
    users = get_user_model().objects
    users.create_superuser(TECHNICIAN, password=PASSWORD)
    producer = users.create_user(PRODUCER, password=PASSWORD)
    for slug in PRODUCERS_PROGRAMS:
        program = archive.programs[slug]
        ProgramAccess.objects.create(user=producer, program_id=program.pk, program_title=program.title)
