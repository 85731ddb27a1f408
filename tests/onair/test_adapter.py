"""aircox's books as our records: the same facts in both of its versions."""

from __future__ import annotations

import datetime as dt
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aircox.models import Diffusion, Log, Program, Sound, Station
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aircox_listen_stats.errors import AircoxMissing
from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.kernel.airlog import DiffusionKind, LogKind
from aircox_listen_stats.onair import aircox
from aircox_listen_stats.onair.base import OnAirLog, item_of
from tests.onair.shapes import run_in_shape
from tests.onair.studio import Mixer, Studio, is_shape_0_9, make_monitor

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
QUERIES_AT_MOST = 5

pytestmark = pytest.mark.django_db


@pytest.fixture
def studio() -> Studio:
    return Studio()


@pytest.fixture
def books() -> OnAirLog:
    return aircox.log()


def read(books: OnAirLog, studio: Studio, **more: Any) -> Any:
    return books.records(studio.station.pk, to_ms(NOON - HOUR), to_ms(NOON + HOUR), **more)


def test_the_rows_of_a_monitor_come_out_as_they_went_in(studio: Studio, books: OnAirLog) -> None:
    sound = studio.sound("one.mp3")
    sound.duration = dt.time(1, 2, 3)
    sound.save(check=False)
    piece = studio.track(sound, "Piece", 0)
    mixer = Mixer(studio.station)
    mixer.air(mixer.playlist, studio.path("one.mp3"), NOON)
    make_monitor(mixer).monitor()
    records = read(books, studio)
    song, track = sorted(records.logs, key=lambda row: row.id)
    assert (song.kind, song.at_ms, song.source, song.sound_id) == (LogKind.ON_AIR, to_ms(NOON), "night_tones", sound.pk)
    assert song.item == item_of(studio.path("one.mp3"))
    assert (track.track_id, track.item) == (piece.pk, "")
    assert records.sounds[sound.pk].duration_ms == 3_723_000
    assert records.sounds[sound.pk].program_title == "Night Tones"
    assert [(row.id, row.offset_ms, row.artist) for row in records.tracks] == [(piece.pk, 0, "The Band")]
    assert studio.path("") not in repr(records)


def test_a_file_is_found_by_its_path(studio: Studio, books: OnAirLog) -> None:
    sound = studio.sound("one.mp3")
    assert books.sound_id_of(studio.path("one.mp3")) == sound.pk
    assert books.sound_id_of(studio.path("other.mp3")) is None


@pytest.mark.parametrize(
    ("comment", "names_a_file"),
    [
        ("/srv/lab/one -- two -- 3.mp3", True),
        ("https://radio.example/live.mp3", True),
        ('annotate:title="x":/srv/lab/one.mp3', True),
        ("AC/DC -- Thunderstruck -- 0", False),  # what a deleted track leaves
        ("prodigy: live -- Track -- 1", False),
        ("", False),
        (None, False),
    ],
)
def test_what_a_deleted_track_leaves_is_no_file(
    studio: Studio, books: OnAirLog, comment: str | None, names_a_file: bool
) -> None:
    Log.objects.create(station=studio.station, type=Log.TYPE_ON_AIR, date=NOON, source="night", comment=comment)
    assert bool(read(books, studio).logs[0].item) is names_a_file


@pytest.mark.parametrize("kind", ["ON_AIR", "UNCONFIRMED", "CANCEL"])
@pytest.mark.parametrize("archives", [0, 2])
def test_a_diffusion_comes_with_what_the_monitor_would_push(
    studio: Studio, books: OnAirLog, kind: str, archives: int
) -> None:
    episode = studio.episode("Talk")
    sounds = [studio.sound(f"{number}.mp3", episode) for number in range(archives)]
    studio.sound("excerpt.mp3", episode, kind=Sound.TYPE_EXCERPT)
    first = studio.diffusion(episode, NOON - timedelta(days=7))
    diffusion = studio.diffusion(episode, NOON, type=getattr(Diffusion, f"TYPE_{kind}"), initial=first)
    (row,) = read(books, studio).diffusions
    kinds = {"ON_AIR": DiffusionKind.ON_AIR, "UNCONFIRMED": DiffusionKind.UNCONFIRMED}
    assert row.kind is kinds.get(kind, DiffusionKind.CANCELLED)
    assert row.archive_ids == tuple(sound.pk for sound in sounds)
    assert (row.title, row.program_title, row.initial_id) == ("Talk", "The Show", first.pk)
    assert aircox.is_live(diffusion) is (kind == "ON_AIR" and not archives)
    (alone,) = books.diffusions([diffusion.pk])
    assert alone == row


def test_diffusions_that_touch_the_window_are_read_and_rows_by_their_date(studio: Studio, books: OnAirLog) -> None:
    episode = studio.episode("Talk")
    long = studio.diffusion(episode, NOON - 3 * HOUR, minutes=300)
    studio.diffusion(episode, NOON - 3 * HOUR, minutes=120)  # ends where the window begins
    studio.diffusion(episode, NOON + HOUR)  # begins where it ends
    for date in (NOON - HOUR, NOON + HOUR):
        Log.objects.create(station=studio.station, type=Log.TYPE_ON_AIR, date=date, comment="/srv/lab/one.mp3")
    records = read(books, studio)
    assert [row.id for row in records.diffusions] == [long.pk]
    assert [row.at_ms for row in records.logs] == [to_ms(NOON - HOUR)]


def test_another_stations_rows_are_not_read(studio: Studio, books: OnAirLog) -> None:
    other = Studio("Other Radio")
    other.diffusion(other.episode("Theirs"), NOON)
    Log.objects.create(
        station=other.station, type=Log.TYPE_ON_AIR, date=NOON, source="dealer", comment="/srv/lab/a.mp3"
    )
    records = read(books, studio)
    assert (list(records.logs), list(records.diffusions)) == ([], [])


def test_sounds_that_were_only_seen_are_told_when_asked_for(studio: Studio, books: OnAirLog) -> None:
    sound = studio.sound("one.mp3")
    assert read(books, studio, sound_ids=[sound.pk]).sounds[sound.pk].title == "one.mp3"
    assert read(books, studio).sounds == {}


def test_a_station_is_found_by_slug_id_and_host(books: OnAirLog) -> None:
    Station.objects.all().delete()
    assert books.default_station() is None
    one = Station.objects.create(name="One", slug="one", default=False, hosts="one.example\nwww.one.example")
    two = Station.objects.create(name="Two", slug="two", default=True)
    assert [station.slug for station in books.stations()] == ["one", "two"]
    assert books.station("one") == books.station(one.pk) == books.station(str(one.pk))
    assert books.station("three") is None
    assert books.default_station().id == two.pk
    assert books.default_station("www.one.example").id == one.pk
    assert books.default_station("elsewhere.example").id == two.pk


def test_programs_come_by_title_with_their_page(studio: Studio, books: OnAirLog) -> None:
    assert [program.title for program in books.programs(studio.station.pk)] == ["Night Tones", "The Show"]
    show = books.program(studio.show.pk)
    assert (show.station_id, show.slug, show.active) == (studio.station.pk, "radio-test-show", True)
    assert show.editors_group_id is None
    assert books.station_id_of(studio.show.pk) == studio.station.pk
    Program.objects.all().delete()
    assert books.program(show.id) is None
    assert books.station_id_of(show.id) is None


def test_editors_are_known_where_aircox_knows_them(
    studio: Studio, books: OnAirLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Program, "editors_group_id", 5, raising=False)
    assert books.program(studio.show.pk).editors_group_id == 5


def test_a_page_that_breaks_costs_its_link_alone(
    studio: Studio, books: OnAirLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any) -> str:
        raise TypeError("'str' object is not callable")

    monkeypatch.setattr(Program, "get_absolute_url", broken)
    assert books.program(studio.show.pk).url == ""


def test_a_day_is_read_with_few_queries(studio: Studio, books: OnAirLog) -> None:
    for number in range(30):
        sound = studio.sound(f"{number}.mp3")
        studio.track(sound, "Piece", 0)
        Log.objects.create(
            station=studio.station, type=Log.TYPE_ON_AIR, date=NOON, sound=sound, comment=f"/srv/lab/{number}.mp3"
        )
        studio.diffusion(studio.episode(f"Talk {number}"), NOON)
    with CaptureQueriesContext(connection) as asked:
        records = read(books, studio)
    assert (len(records.logs), len(records.diffusions), len(records.sounds)) == (30, 30, 30)
    assert len(asked) <= QUERIES_AT_MOST


def test_without_aircox_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, books: OnAirLog) -> None:
    monkeypatch.setattr(aircox, "APP", "no_aircox")
    with pytest.raises(AircoxMissing, match="INSTALLED_APPS"):
        books.stations()


@pytest.mark.slow
def test_all_of_this_holds_in_the_other_shape() -> None:
    """The stand-in's shape is chosen once per interpreter."""
    other = "1.0" if is_shape_0_9() else "0.9"
    here = Path(__file__).parent
    done = run_in_shape(
        other,
        *(
            str(here / name)
            for name in ("test_adapter.py", "test_timeline_rows.py", "test_hook.py", "test_hook_faults.py")
        ),
        "-k",
        "not other_shape",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
