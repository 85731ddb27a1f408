"""The timeline as rows of our own: what a refresh writes, leaves and keeps, from aircox's own tables."""

from __future__ import annotations

import datetime as dt
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from aircox.models import Diffusion, Log, Sound
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import Airing, MonitorWatch, OnAirChange, StaleWindow
from aircox_listen_stats.onair.base import item_of
from aircox_listen_stats.pipeline import timeline
from tests.onair.studio import Studio

EIGHT = datetime(2026, 3, 2, 20, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BRUSSELS = ZoneInfo("Europe/Brussels")
QUERIES_AT_MOST = 20

pytestmark = pytest.mark.django_db


@pytest.fixture
def studio() -> Studio:
    return Studio()


def refresh(studio: Studio, start: datetime, end: datetime, now: datetime | None = None) -> timeline.TimelineChange:
    return timeline.refresh(studio.station.pk, to_ms(start), to_ms(end), now_ms=to_ms(now or end + HOUR))


def on_air(studio: Studio, date: datetime, sound: Sound | None, source: str = "night_tones", **fields: Any) -> Log:
    comment = studio.path(sound.name) if sound else "/srv/lab/unknown.mp3"
    return Log.objects.create(
        station=studio.station,
        type=Log.TYPE_ON_AIR,
        date=date,
        source=source,
        sound=sound,
        comment=comment,
        **fields,
    )


def started(studio: Studio, date: datetime, diffusion: Diffusion) -> Log:
    return Log.objects.create(
        station=studio.station, type=Log.TYPE_START, date=date, source="dealer", diffusion=diffusion, comment="show"
    )


def lasting(sound: Sound, seconds: int) -> Sound:
    sound.duration = dt.time(seconds // 3600, seconds // 60 % 60, seconds % 60)
    sound.save(check=False)
    return sound


def airings(studio: Studio, layer: str | None = None) -> list[tuple]:
    rows = Airing.objects.filter(station_id=studio.station.pk).order_by("started", "layer", "key")
    return [
        (row.layer, row.key, row.started, row.ended, row.title, row.evidence_gone, row.is_running)
        for row in rows
        if layer in (None, row.layer)
    ]


def waiting() -> list[tuple[datetime, datetime]]:
    """The windows whose audience is stale, taken off."""
    found = sorted(StaleWindow.objects.filter(kind=StaleWindow.AUDIENCE).values_list("started", "ended"))
    StaleWindow.objects.all().delete()
    return found


@pytest.fixture
def evening(studio: Studio) -> dict[str, Any]:
    """Stream, a show of two sounds with a track, stream, a live show, stream."""
    song = lasting(studio.sound("song.mp3"), 180)
    studio.track(song, "First", 0)
    studio.track(song, "Second", 100, position=1)
    archive, live = studio.episode("Archive"), studio.episode("Live")
    parts = [lasting(studio.sound(f"part{number}.mp3", archive), 300) for number in (1, 2)]
    studio.track(parts[1], "In the show", 60)
    show = studio.diffusion(archive, EIGHT + 10 * MINUTE, minutes=15)
    talk = studio.diffusion(live, EIGHT + 30 * MINUTE, minutes=10)
    on_air(studio, EIGHT, song)
    on_air(studio, EIGHT + 8 * MINUTE, song)
    started(studio, show.start, show)
    on_air(studio, show.start, parts[0], "dealer", diffusion=show)
    on_air(studio, show.start + 5 * MINUTE, parts[1], "dealer", diffusion=show)
    on_air(studio, EIGHT + 21 * MINUTE, song)
    on_air(studio, EIGHT + 33 * MINUTE, song)
    on_air(studio, EIGHT + 41 * MINUTE, song)
    return {"song": song, "parts": parts, "show": show, "talk": talk}


def test_the_evening_is_told_in_three_layers(studio: Studio, evening: dict[str, Any]) -> None:
    change = refresh(studio, EIGHT, EIGHT + HOUR)
    assert change.created == Airing.objects.count() > 0
    minutes = [
        (row[0], (row[2] - EIGHT) / MINUTE, (row[3] - EIGHT) / MINUTE, row[4]) for row in airings(studio, "diffusion")
    ]
    assert minutes == [("diffusion", 10, 20, "Archive"), ("diffusion", 30, 40, "Live")]
    sounds = [((row[2] - EIGHT) / MINUTE, (row[3] - EIGHT) / MINUTE, row[4]) for row in airings(studio, "sound")]
    assert sounds == [
        (0, 3, "song.mp3"),
        (8, 10, "song.mp3"),
        (10, 15, "part1.mp3"),
        (15, 20, "part2.mp3"),
        (21, 24, "song.mp3"),
        (41, 44, "song.mp3"),
    ]
    live = Airing.objects.get(diffusion_id=evening["talk"].pk, layer="diffusion")
    assert (live.is_live, live.program_title, live.program_id) == (True, "The Show", studio.show.pk)
    within = Airing.objects.get(layer="track", title="In the show")
    assert (within.started, within.ended) == (EIGHT + 16 * MINUTE, EIGHT + 20 * MINUTE)
    assert within.diffusion_id == evening["show"].pk


def test_twice_is_once(studio: Studio, evening: dict[str, Any]) -> None:
    refresh(studio, EIGHT, EIGHT + HOUR)
    before, rows = airings(studio), list(Airing.objects.order_by("pk").values())
    waiting()
    assert not refresh(studio, EIGHT, EIGHT + HOUR)
    assert airings(studio) == before
    assert list(Airing.objects.order_by("pk").values()) == rows
    assert waiting() == []


def test_windows_that_overlap_agree_with_the_whole(studio: Studio, evening: dict[str, Any]) -> None:
    refresh(studio, EIGHT, EIGHT + HOUR, now=EIGHT + DAY)
    whole = airings(studio)
    Airing.objects.all().delete()
    for start in range(0, 60, 7):
        refresh(studio, EIGHT + start * MINUTE, EIGHT + (start + 11) * MINUTE, now=EIGHT + DAY)
    assert airings(studio) == whole
    for start in range(55, -5, -5):
        assert not refresh(studio, EIGHT + start * MINUTE, EIGHT + (start + 1) * MINUTE, now=EIGHT + DAY)


def test_followed_minute_by_minute_the_evening_ends_as_if_it_was_told_at_once(
    studio: Studio, evening: dict[str, Any]
) -> None:
    """The logs arrive one by one; a diffusion is planned, runs, and is over."""
    logs = list(Log.objects.order_by("date").values())
    Log.objects.all().delete()
    for minute in range(62):
        now = EIGHT + minute * MINUTE
        for row in [row for row in logs if row["date"] <= now]:
            Log.objects.create(**row)
            logs.remove(row)
        refresh(studio, now - 20 * MINUTE, now + 15 * MINUTE, now=now)
        running = Airing.objects.filter(is_running=True, layer="diffusion")
        assert running.count() == (10 <= minute < 20) + (30 <= minute < 40)
    followed = airings(studio)
    Airing.objects.all().delete()
    refresh(studio, EIGHT, EIGHT + HOUR, now=EIGHT + 62 * MINUTE)
    assert followed == airings(studio)


def test_only_what_changed_is_told_to_the_audience(studio: Studio, evening: dict[str, Any]) -> None:
    refresh(studio, EIGHT, EIGHT + HOUR)
    waiting()
    # A back-dated row: the manual push of a file that nobody knows.
    on_air(studio, EIGHT + 22 * MINUTE, None, "dealer")
    change = refresh(studio, EIGHT, EIGHT + HOUR)
    assert (change.created, change.removed) == (1, 1)  # the file; and the song's second track is not reached
    assert waiting() == [(EIGHT + 21 * MINUTE, EIGHT + 30 * MINUTE)]
    assert Airing.objects.get(layer="sound", sound_id=None).ended == EIGHT + 30 * MINUTE


def test_archived_logs_take_nothing(studio: Studio, evening: dict[str, Any]) -> None:
    """aircox's archiver deletes rows that are older than sixty days."""
    refresh(studio, EIGHT, EIGHT + HOUR)
    before = airings(studio)
    waiting()
    Log.objects.all().delete()
    refresh(studio, EIGHT, EIGHT + HOUR, now=EIGHT + 61 * DAY)
    bounds = [row[:5] for row in before]
    assert [row[:5] for row in airings(studio)] == bounds
    kept = {row[1]: row[5] for row in airings(studio)}
    live = f"diffusion:{evening['talk'].pk}"
    assert kept.pop(live) is False, "a live diffusion stands on its plan, which is still there"
    assert set(kept.values()) == {True}
    assert waiting() == []
    assert not refresh(studio, EIGHT, EIGHT + HOUR, now=EIGHT + 61 * DAY)


def test_a_deleted_diffusion_that_was_on_air_stays_and_one_to_come_goes(
    studio: Studio, evening: dict[str, Any]
) -> None:
    """Deleting a schedule deletes its past diffusions with it."""
    refresh(studio, EIGHT, EIGHT + HOUR, now=EIGHT + 25 * MINUTE)
    before = [row for row in airings(studio) if row[4] != "Live"]
    Diffusion.objects.all().delete()
    refresh(studio, EIGHT, EIGHT + HOUR, now=EIGHT + 25 * MINUTE)
    assert [row[:5] for row in airings(studio)] == [row[:5] for row in before]
    assert [row[5] for row in airings(studio, "diffusion")] == [True]


def test_a_deleted_station_file_leaves_its_title(studio: Studio, evening: dict[str, Any]) -> None:
    refresh(studio, EIGHT, EIGHT + HOUR)
    before = airings(studio)
    evening["song"].delete()
    refresh(studio, EIGHT, EIGHT + HOUR)
    assert [row[:5] for row in airings(studio)] == [row[:5] for row in before]


def test_a_diffusion_that_is_moved_takes_its_airing_along(studio: Studio, evening: dict[str, Any]) -> None:
    refresh(studio, EIGHT, EIGHT + HOUR)
    row = Airing.objects.get(key=f"diffusion:{evening['talk'].pk}")
    Diffusion.objects.filter(pk=evening["talk"].pk).update(start=EIGHT - 2 * DAY, end=EIGHT - 2 * DAY + HOUR)
    refresh(studio, EIGHT, EIGHT + HOUR)
    moved = Airing.objects.get(pk=row.pk)
    assert (moved.started, moved.ended, moved.evidence_gone) == (EIGHT - 2 * DAY, EIGHT - 2 * DAY + HOUR, False)
    assert not refresh(studio, EIGHT, EIGHT + HOUR)
    assert "song.mp3" in [one[4] for one in airings(studio, "sound") if one[2] == EIGHT + 33 * MINUTE]


def test_a_diffusion_that_is_moved_and_called_off_goes(studio: Studio, evening: dict[str, Any]) -> None:
    refresh(studio, EIGHT, EIGHT + HOUR)
    Diffusion.objects.filter(pk=evening["talk"].pk).update(
        start=EIGHT - 2 * DAY, end=EIGHT - 2 * DAY + HOUR, type=Diffusion.TYPE_CANCEL
    )
    refresh(studio, EIGHT, EIGHT + HOUR)
    assert not Airing.objects.filter(diffusion_id=evening["talk"].pk).exists()


def test_a_live_show_that_is_called_off_goes(studio: Studio, evening: dict[str, Any]) -> None:
    refresh(studio, EIGHT, EIGHT + HOUR)
    waiting()
    Diffusion.objects.filter(pk=evening["talk"].pk).update(type=Diffusion.TYPE_CANCEL)
    refresh(studio, EIGHT, EIGHT + HOUR)
    assert not Airing.objects.filter(diffusion_id=evening["talk"].pk).exists()
    assert waiting() == [(EIGHT + 30 * MINUTE, EIGHT + 40 * MINUTE)]


def test_another_station_is_left_alone(studio: Studio, evening: dict[str, Any]) -> None:
    other = Studio("Other Radio")
    on_air(other, EIGHT + 5 * MINUTE, lasting(other.sound("other.mp3"), 60), "dealer")
    refresh(studio, EIGHT, EIGHT + HOUR)
    refresh(other, EIGHT, EIGHT + HOUR)
    assert [row[4] for row in airings(other)] == ["other.mp3"]
    assert "other.mp3" not in [row[4] for row in airings(studio)]


def seen(studio: Studio, start: datetime, end: datetime, sound: Sound, air: datetime | None = None) -> None:
    OnAirChange.objects.create(
        station_id=studio.station.pk,
        source="night_tones",
        item=item_of(studio.path(sound.name)),
        air_time=air or start,
        started=start + timedelta(milliseconds=300),
        seen=end + timedelta(milliseconds=300),
        ended=True,
        sound_id=sound.pk,
    )


def test_sightings_find_the_play_that_the_monitor_did_not_log(studio: Studio, evening: dict[str, Any]) -> None:
    """The same file twice in a row, between two rows of the evening."""
    song = evening["song"]
    MonitorWatch.objects.create(station_id=studio.station.pk, started=EIGHT - MINUTE, seen=EIGHT + HOUR)
    seen(studio, EIGHT, EIGHT + 3 * MINUTE, song)
    seen(studio, EIGHT + 3 * MINUTE, EIGHT + 6 * MINUTE, song)
    refresh(studio, EIGHT, EIGHT + 7 * MINUTE)
    found = [row for row in airings(studio, "sound") if row[2] < EIGHT + 7 * MINUTE]
    assert [(row[2] - EIGHT) / MINUTE for row in found] == [0, 3]
    tracks = [row for row in airings(studio, "track") if row[2] < EIGHT + 7 * MINUTE]
    assert [row[4] for row in tracks] == ["First", "Second", "First", "Second"]


@pytest.mark.parametrize(
    ("first", "hours"),
    [
        pytest.param(datetime(2026, 3, 29, 0, 0, tzinfo=BRUSSELS), 23, id="the day of 23 hours"),
        pytest.param(datetime(2026, 10, 25, 0, 0, tzinfo=BRUSSELS), 25, id="the day of 25 hours"),
        pytest.param(datetime(2026, 3, 2, 0, 0, tzinfo=BRUSSELS), 24, id="a day like any other"),
    ],
)
def test_a_day_of_any_length_is_full_from_midnight_to_midnight(studio: Studio, first: datetime, hours: int) -> None:
    """A song each ten minutes, one across each midnight, and a live show at three by the wall clock."""
    song = lasting(studio.sound("song.mp3"), 600)
    begin = first.astimezone(UTC)
    end = (first + DAY).astimezone(UTC)
    assert end - begin == hours * HOUR
    for number in range(-1, hours * 6 + 1):
        on_air(studio, begin + (number * 10 - 5) * MINUTE, song)
    three = first.replace(hour=3).astimezone(UTC)
    talk = studio.diffusion(studio.episode("Live"), three)
    refresh(studio, begin, end, now=end + DAY)
    told = [(row[2], row[3]) for row in airings(studio) if row[0] != "track"]
    told.sort()
    assert told[0][0] < begin < told[0][1]
    assert told[-1][0] < end < told[-1][1]
    assert all(before[1] == after[0] for before, after in itertools.pairwise(told))
    assert (talk.start, talk.end) in told


@pytest.fixture
def busy_day(studio: Studio) -> Studio:
    """Twenty songs an hour with four tracks each, for a day."""
    songs = [lasting(studio.sound(f"{number}.mp3"), 180) for number in range(40)]
    for song in songs:
        for place in range(4):
            studio.track(song, f"{song.name} {place}", place * 40, position=place)
    dates = [EIGHT - DAY + number * 3 * MINUTE for number in range(480)]
    Log.objects.bulk_create(
        Log(
            station=studio.station,
            type=Log.TYPE_ON_AIR,
            date=date,
            source="night_tones",
            sound=songs[number % 40],
            comment=studio.path(songs[number % 40].name),
        )
        for number, date in enumerate(dates)
    )
    return studio


def test_a_refresh_asks_the_database_a_bounded_number_of_times(busy_day: Studio) -> None:
    change = refresh(busy_day, EIGHT - DAY, EIGHT)
    assert change.created == 480 + 4 * 480
    with CaptureQueriesContext(connection) as asked:
        assert not refresh(busy_day, EIGHT - DAY, EIGHT)
    assert len(asked) <= QUERIES_AT_MOST
    assert not any("INSERT" in one["sql"] or "UPDATE" in one["sql"] for one in asked)
