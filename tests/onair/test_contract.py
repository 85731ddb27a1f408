"""Every name and behaviour of aircox that this app relies on.

It runs against whichever aircox is importable: a real one (docs/example-project.md says how), or the
stand-in in the shape that AIRCOX_STANDIN_SHAPE names.
"""

from __future__ import annotations

import importlib
import inspect
from datetime import datetime, timedelta
from typing import Any

import aircox.models
import pytest
from aircox.models import Diffusion, Episode, Log, Page, Program, Schedule, Sound, Station, Track
from django.core.management import load_command_class
from django.db import models
from django.db.models.signals import post_delete, post_save
from django.utils import timezone

from tests.onair.studio import Mixer, Studio, is_shape_0_9, make_monitor, monitor_home, ticks

CASCADE, SET_NULL = models.CASCADE, models.SET_NULL

PLAIN_FIELDS = (
    (Station, "name", models.CharField, False),
    (Station, "slug", models.SlugField, False),
    (Station, "default", models.BooleanField, False),
    (Station, "active", models.BooleanField, False),
    (Station, "hosts", models.TextField, True),
    (Station, "audio_streams", models.TextField, True),
    (Station, "path", models.CharField, False),
    (Page, "title", models.CharField, False),
    (Page, "slug", models.SlugField, False),
    (Page, "status", models.PositiveSmallIntegerField, False),
    (Program, "active", models.BooleanField, False),
    (Diffusion, "type", models.SmallIntegerField, False),
    (Diffusion, "start", models.DateTimeField, False),
    (Diffusion, "end", models.DateTimeField, False),
    (Sound, "name", models.CharField, False),
    (Sound, "type", models.SmallIntegerField, False),
    (Sound, "duration", models.TimeField, True),
    (Track, "title", models.CharField, False),
    (Track, "artist", models.CharField, False),
    (Track, "info", models.CharField, True),
    (Track, "position", models.PositiveSmallIntegerField, False),
    (Track, "timestamp", models.PositiveSmallIntegerField, True),
    (Log, "type", models.SmallIntegerField, False),
    (Log, "date", models.DateTimeField, False),
    (Log, "source", models.CharField, True),
    (Log, "comment", models.CharField, True),
)
RELATIONS = (
    (Program, "station", Station, False, CASCADE),
    (Episode, "parent", Page, True, CASCADE),
    (Diffusion, "program", Program, False, CASCADE),
    (Diffusion, "episode", Episode, False, CASCADE),
    (Diffusion, "initial", Diffusion, True, SET_NULL),
    (Diffusion, "schedule", Schedule, True, CASCADE),
    (Sound, "program", Program, False, CASCADE),
    (Sound, "episode", Episode, True, SET_NULL),
    (Track, "sound", Sound, True, CASCADE),
    (Track, "episode", Episode, True, CASCADE),
    (Log, "station", Station, False, CASCADE),
    (Log, "sound", Sound, True, SET_NULL),
    (Log, "track", Track, True, SET_NULL),
    (Log, "diffusion", Diffusion, True, SET_NULL),
)
CONSTANTS = (
    (Log, {"TYPE_STOP": 0, "TYPE_START": 1, "TYPE_CANCEL": 2, "TYPE_ON_AIR": 3, "TYPE_OTHER": 4}),
    (Diffusion, {"TYPE_ON_AIR": 0, "TYPE_UNCONFIRMED": 1, "TYPE_CANCEL": 2}),
    (Sound, {"TYPE_OTHER": 0, "TYPE_ARCHIVE": 1, "TYPE_EXCERPT": 2, "TYPE_REMOVED": 3}),
    (Page, {"STATUS_DRAFT": 0, "STATUS_PUBLISHED": 16, "STATUS_TRASH": 32}),
)
SOURCE_ATTRIBUTES = ("id", "uri", "air_time", "rid", "remaining", "status", "request_status", "station", "controller")
STREAMER_ATTRIBUTES = ("station", "source", "sources", "dealer", "playlists", "is_ready", "fetch")


@pytest.fixture
def studio(db: None) -> Studio:
    return Studio()


@pytest.fixture
def now() -> datetime:
    """The present on a whole second, since Liquidsoap tells no fraction."""
    return timezone.now().replace(microsecond=0)


class TestNames:
    """Models, fields, constants."""

    @pytest.mark.parametrize(("model", "name", "kind", "null"), PLAIN_FIELDS)
    def test_field(self, model: Any, name: str, kind: type, null: bool) -> None:
        field = model._meta.get_field(name)
        assert isinstance(field, kind)
        assert field.null is null

    @pytest.mark.parametrize(("model", "name", "to", "null", "on_delete"), RELATIONS)
    def test_relation(self, model: Any, name: str, to: Any, null: bool, on_delete: Any) -> None:
        field = model._meta.get_field(name)
        assert (field.related_model, field.null, field.remote_field.on_delete) == (to, null, on_delete)

    @pytest.mark.parametrize(("model", "expected"), CONSTANTS)
    def test_constants(self, model: Any, expected: dict[str, int]) -> None:
        assert {name: getattr(model, name) for name in expected} == expected

    @pytest.mark.parametrize("model", [Program, Episode])
    def test_a_program_and_an_episode_have_the_key_of_their_page(self, model: Any) -> None:
        assert model._meta.pk.attname == "page_ptr_id"

    @pytest.mark.parametrize("name", ["Station", "Port", "Stream", "Schedule", "Page", "Program", "Episode"])
    def test_models_come_from_one_place_under_the_label_aircox(self, name: str) -> None:
        assert getattr(aircox.models, name)._meta.app_label == "aircox"

    def test_the_sounds_file_is_text_in_0_9_and_a_file_in_1_0(self, studio: Studio) -> None:
        sound = studio.sound("one.mp3")
        path = sound.path if is_shape_0_9() else sound.file.path
        assert path == studio.path("one.mp3")

    def test_nothing_refers_to_log_visibly(self) -> None:
        """aircox archives a row by the attname of each of its fields: a reverse relation has none."""
        assert [field for field in Log._meta.get_fields() if not hasattr(field, "attname")] == []

    def test_log_has_no_order_of_its_own(self) -> None:
        assert list(Log._meta.ordering) == []


class TestRows:
    """What plain queries give, and what deletions leave."""

    def test_instants_are_aware(self, studio: Studio, now: datetime) -> None:
        diffusion = studio.diffusion(studio.episode("One"), now)
        diffusion.refresh_from_db()
        log = Log.objects.create(station=studio.station, type=Log.TYPE_OTHER)
        log.refresh_from_db()
        assert all(instant.tzinfo is not None for instant in (diffusion.start, diffusion.end, log.date))

    def test_diffusions_are_found_by_the_station_of_their_program(self, studio: Studio, now: datetime) -> None:
        other = Studio("Radio Other")
        other.diffusion(other.episode("Theirs"), now)
        ours = studio.diffusion(studio.episode("Ours"), now)
        found = Diffusion.objects.filter(program__station_id=studio.station.pk, start__lt=now + timedelta(hours=1))
        assert list(found) == [ours]

    def test_an_episodes_program_is_its_parent(self, studio: Studio) -> None:
        assert studio.episode("One").program == studio.show

    def test_the_new_default_station_is_the_only_one(self, studio: Studio) -> None:
        newer = Station.objects.create(name="Newer", slug="newer", default=True)
        assert list(Station.objects.filter(default=True)) == [newer]
        assert Station.objects.default() == newer

    def test_a_rerun_has_its_own_key_and_the_episode_of_its_initial(self, studio: Studio, now: datetime) -> None:
        first = studio.diffusion(studio.episode("One"), now)
        rerun = studio.diffusion(studio.episode("Two"), now + timedelta(days=1), initial=first)
        assert (rerun.pk != first.pk, rerun.episode) == (True, first.episode)

    def test_a_rerun_outlives_its_initial(self, studio: Studio, now: datetime) -> None:
        first = studio.diffusion(studio.episode("One"), now)
        rerun = studio.diffusion(first.episode, now + timedelta(days=1), initial=first)
        Diffusion.objects.filter(pk=first.pk).delete()
        rerun.refresh_from_db()
        assert rerun.initial is None

    def test_deleting_a_schedule_deletes_its_past_diffusions(self, studio: Studio, now: datetime) -> None:
        schedule = Schedule.objects.create(
            program=studio.show, date=now.date(), time=now.time(), duration=datetime.min.time(), frequency=31
        )
        studio.diffusion(studio.episode("One"), now - timedelta(days=30), schedule=schedule)
        heard = []

        def hear(instance: Diffusion, **_: Any) -> None:
            heard.append(instance.pk)

        post_delete.connect(hear, sender=Diffusion)
        try:
            schedule.delete()
        finally:
            post_delete.disconnect(hear, sender=Diffusion)
        assert (Diffusion.objects.count(), len(heard)) == (0, 1)

    def test_deleting_a_sound_leaves_its_row_without_it(self, studio: Studio) -> None:
        sound = studio.sound("one.mp3")
        log = Log.objects.create(station=studio.station, type=Log.TYPE_ON_AIR, sound=sound, comment="kept")
        Sound.objects.filter(pk=sound.pk).delete()
        log.refresh_from_db()
        assert (log.sound, log.comment) == (None, "kept")

    def test_a_track_belongs_to_a_sound_or_to_an_episode(self, studio: Studio) -> None:
        with pytest.raises(ValueError, match=r"sound|episode"):
            Track.objects.create(title="Nobody's", artist="The Band")

    @pytest.mark.parametrize(("archives", "live"), [(0, True), (1, False)])
    def test_a_diffusion_without_archive_is_live(
        self, studio: Studio, now: datetime, archives: int, live: bool
    ) -> None:
        episode = studio.episode("One")
        for number in range(archives):
            studio.sound(f"archive-{number}.mp3", episode)
        diffusion = studio.diffusion(episode, now)
        # A method in 0.9, a property later.
        answer = diffusion.is_live() if callable(diffusion.is_live) else diffusion.is_live
        assert answer is live

    def test_the_schedule_beats_the_rows_inside_it(self, studio: Studio, now: datetime) -> None:
        start = now - timedelta(hours=1)
        diffusion = studio.diffusion(studio.episode("One"), start, minutes=30)
        before, inside, after = (
            Log.objects.create(
                station=studio.station, type=Log.TYPE_ON_AIR, source="night", date=start + timedelta(minutes=minutes)
            )
            for minutes in (-5, 10, 40)
        )
        merged = Log.merge_diffusions(Log.objects.filter(station=studio.station), Diffusion.objects.all())
        assert merged == [after, diffusion, before]
        assert inside not in merged


class TestStreamer:
    """What the hook reads, here where no Liquidsoap answers."""

    @pytest.fixture
    def streamer(self, studio: Studio) -> Any:
        return importlib.import_module("aircox_streamer.controllers").Streamer(studio.station)

    def test_attributes(self, streamer: Any) -> None:
        assert [name for name in STREAMER_ATTRIBUTES if not hasattr(streamer, name)] == []

    def test_sources_are_the_dealer_and_one_per_streamed_program(self, studio: Studio, streamer: Any) -> None:
        assert [source.id for source in streamer.sources] == ["dealer", studio.night.slug.replace("-", "_")]
        assert streamer.dealer is streamer.sources[0]

    def test_a_source_has_its_attributes_before_anything_was_heard(self, streamer: Any) -> None:
        for source in streamer.sources:
            assert [name for name in SOURCE_ATTRIBUTES if not hasattr(source, name)] == []
            assert (source.uri, source.air_time, source.request_status) == (None, None, None)

    def test_silence_is_not_ready_and_puts_nothing_on_air(self, streamer: Any) -> None:
        assert streamer.is_ready is False
        streamer.fetch()
        assert streamer.source is None

    def test_what_liquidsoap_says_becomes_attributes(self, streamer: Any) -> None:
        source = streamer.sources[1]
        source.validate({"initial_uri": "/music/one.mp3", "status": "playing", "on_air": "2026/01/31 10:00:00"})
        assert (source.uri, source.request_status) == ("/music/one.mp3", "playing")
        assert source.air_time.tzinfo is not None
        assert (source.air_time.minute, source.air_time.second, source.air_time.microsecond) == (0, 0, 0)

    def test_a_tag_of_the_file_overwrites_an_attribute_of_its_name(self, streamer: Any) -> None:
        source = streamer.sources[1]
        source.validate({"status": "playing", "program": "a tag"})
        assert source.program == "a tag"


class TestMonitor:
    """What the Monitor writes for what is on air."""

    def test_a_tick_takes_no_argument(self) -> None:
        assert list(inspect.signature(monitor_home().Monitor.monitor).parameters) == ["self"]

    def test_further_arguments_become_attributes(self, studio: Studio) -> None:
        monitor = make_monitor(Mixer(studio.station), ear="open")
        assert (monitor.ear, monitor.station) == ("open", studio.station)

    def test_a_tick_put_on_the_class_is_the_tick_of_every_monitor(
        self, studio: Studio, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []
        original = monitor_home().Monitor.monitor

        def wrapped(self: Any) -> None:
            original(self)
            seen.append(self.streamer)

        mixer = Mixer(studio.station)
        monitor = make_monitor(mixer)
        monkeypatch.setattr(monitor_home().Monitor, "monitor", wrapped)
        monitor.monitor()
        assert seen == [mixer]

    def test_nothing_happens_while_the_streamer_is_not_ready(self, studio: Studio, now: datetime) -> None:
        mixer = Mixer(studio.station)
        mixer.air(mixer.playlist, studio.path("one.mp3"), now)
        mixer.is_ready = False
        make_monitor(mixer).monitor()
        assert (mixer.fetched, studio.rows()) == (0, [])

    def test_a_streamed_sound_is_one_row_dated_with_its_air_time(self, studio: Studio, now: datetime) -> None:
        sound, mixer = studio.sound("one.mp3"), Mixer(studio.station)
        mixer.air(mixer.playlist, studio.path("one.mp3"), now - timedelta(seconds=3))
        ticks(make_monitor(mixer), 3)
        (row,) = studio.rows()
        assert (row.type, row.date, row.source) == (Log.TYPE_ON_AIR, now - timedelta(seconds=3), mixer.playlist.id)
        assert (row.sound, row.track, row.diffusion) == (sound, None, None)
        assert row.comment == studio.path("one.mp3")

    def test_each_row_is_announced_once_as_created(self, studio: Studio, now: datetime) -> None:
        heard = []

        def hear(instance: Log, created: bool, **_: Any) -> None:
            heard.append((instance.pk, created))

        studio.sound("one.mp3")
        mixer = Mixer(studio.station)
        mixer.air(mixer.playlist, studio.path("one.mp3"), now)
        post_save.connect(hear, sender=Log)
        try:
            ticks(make_monitor(mixer), 2)
        finally:
            post_save.disconnect(hear, sender=Log)
        assert heard == [(row.pk, True) for row in studio.rows()]
        assert len(heard) == 1

    def test_what_a_receiver_raises_ends_the_tick(self, studio: Studio, now: datetime) -> None:
        """Why nothing of ours may raise there: nobody catches it, and Liquidsoap goes with the Monitor."""

        def fail(**_: Any) -> None:
            raise RuntimeError("a plug-in's mistake")

        studio.sound("one.mp3")
        mixer = Mixer(studio.station)
        mixer.air(mixer.playlist, studio.path("one.mp3"), now)
        monitor = make_monitor(mixer)
        post_save.connect(fail, sender=Log)
        try:
            with pytest.raises(RuntimeError, match="a plug-in's mistake"):
                monitor.monitor()
        finally:
            post_save.disconnect(fail, sender=Log)

    def test_due_tracks_of_a_streamed_sound_are_dated_back(self, studio: Studio, now: datetime) -> None:
        sound, mixer = studio.sound("mix.mp3"), Mixer(studio.station)
        first, second, _late = (studio.track(sound, f"Track {at}", at) for at in (0, 60, 3600))
        studio.track(sound, "Without a time", None)
        air_time = now - timedelta(minutes=2)
        mixer.air(mixer.playlist, studio.path("mix.mp3"), air_time)
        ticks(make_monitor(mixer), 2)
        rows = [row for row in studio.rows() if row.track_id]
        assert [(row.track, row.date) for row in rows] == [
            (first, air_time),
            (second, air_time + timedelta(seconds=60)),
        ]
        assert {row.sound for row in rows} == {None}

    def test_the_comment_of_a_track_row_is_the_track_itself_until_it_is_read_back(
        self, studio: Studio, now: datetime
    ) -> None:
        comments = []

        def hear(instance: Log, **_: Any) -> None:
            comments.append(instance.comment)

        track = studio.track(studio.sound("mix.mp3"), "One", 0)
        mixer = Mixer(studio.station)
        mixer.air(mixer.playlist, studio.path("mix.mp3"), now)
        post_save.connect(hear, sender=Log)
        try:
            make_monitor(mixer).monitor()
        finally:
            post_save.disconnect(hear, sender=Log)
        assert comments == [studio.path("mix.mp3"), track]
        assert studio.rows()[-1].comment == str(track)

    def test_a_diffusion_with_archives_is_pushed_and_started_now(self, studio: Studio, now: datetime) -> None:
        episode, mixer = studio.episode("One"), Mixer(studio.station)
        for name in ("b.mp3", "a.mp3"):
            studio.sound(name, episode)
        studio.sound("excerpt.mp3", episode, kind=Sound.TYPE_EXCERPT)
        diffusion = studio.diffusion(episode, now - timedelta(minutes=2))
        before = timezone.now()
        ticks(make_monitor(mixer), 2)
        (row,) = studio.rows()
        assert mixer.dealer.pushed == [studio.path("a.mp3"), studio.path("b.mp3")]
        assert (row.type, row.source, row.diffusion, row.sound) == (Log.TYPE_START, "dealer", diffusion, None)
        assert before <= row.date <= timezone.now()

    def test_a_sound_carries_its_diffusion_inside_its_bounds_only(self, studio: Studio, now: datetime) -> None:
        episode, mixer = studio.episode("One"), Mixer(studio.station)
        for name in ("a.mp3", "b.mp3"):
            studio.sound(name, episode)
        diffusion = studio.diffusion(episode, now - timedelta(minutes=10), minutes=9)
        monitor = make_monitor(mixer)
        mixer.air(mixer.dealer, studio.path("a.mp3"), now - timedelta(minutes=1))
        monitor.monitor()
        mixer.air(mixer.dealer, studio.path("b.mp3"), now - timedelta(seconds=59))
        monitor.monitor()
        assert [row.diffusion for row in studio.rows()] == [diffusion, None]

    def test_tracks_of_a_sound_inside_a_diffusion_get_no_row(self, studio: Studio, now: datetime) -> None:
        episode, mixer = studio.episode("One"), Mixer(studio.station)
        studio.track(studio.sound("a.mp3", episode), "One", 0)
        studio.diffusion(episode, now - timedelta(minutes=1))
        mixer.air(mixer.dealer, studio.path("a.mp3"), now)
        ticks(make_monitor(mixer), 2)
        assert [row for row in studio.rows() if row.track_id] == []

    def test_a_live_diffusion_writes_nothing(self, studio: Studio, now: datetime) -> None:
        studio.diffusion(studio.episode("Live"), now - timedelta(minutes=30))
        ticks(make_monitor(Mixer(studio.station)), 3)
        assert studio.rows() == []

    def test_a_dealer_that_is_busy_starts_nothing(self, studio: Studio, now: datetime) -> None:
        episode, mixer = studio.episode("One"), Mixer(studio.station)
        studio.sound("a.mp3", episode)
        studio.diffusion(episode, now - timedelta(minutes=1))
        mixer.dealer.play("/music/before.mp3", now - timedelta(hours=1), remaining=600.0)
        ticks(make_monitor(mixer), 2)
        assert (studio.rows(), mixer.dealer.pushed) == ([], [])

    def test_a_diffusion_that_waited_too_long_is_cancelled(self, studio: Studio, now: datetime) -> None:
        episode, mixer = studio.episode("One"), Mixer(studio.station)
        studio.sound("a.mp3", episode)
        diffusion = studio.diffusion(episode, now - timedelta(minutes=21))
        mixer.dealer.play("/music/before.mp3", now - timedelta(hours=1), remaining=600.0)
        ticks(make_monitor(mixer), 2)
        (row,) = studio.rows()
        diffusion.refresh_from_db()
        assert (row.type, row.source, row.diffusion) == (Log.TYPE_CANCEL, "dealer", diffusion)
        assert diffusion.type == Diffusion.TYPE_CANCEL

    def test_one_tick_both_starts_and_cancels_late_in_a_slot(self, studio: Studio, now: datetime) -> None:
        episode, mixer = studio.episode("One"), Mixer(studio.station)
        studio.sound("a.mp3", episode)
        diffusion = studio.diffusion(episode, now - timedelta(minutes=21))
        ticks(make_monitor(mixer), 2)
        assert [row.type for row in studio.rows()] == [Log.TYPE_START, Log.TYPE_CANCEL]
        assert {row.diffusion_id for row in studio.rows()} == {diffusion.pk}
        assert mixer.dealer.pushed == [studio.path("a.mp3")]

    def test_a_human_who_cancels_leaves_no_row(self, studio: Studio, now: datetime) -> None:
        episode, mixer = studio.episode("One"), Mixer(studio.station)
        studio.sound("a.mp3", episode)
        studio.diffusion(episode, now - timedelta(minutes=1), type=Diffusion.TYPE_CANCEL)
        ticks(make_monitor(mixer), 2)
        assert studio.rows() == []

    def test_playlists_are_written_on_the_first_tick_and_then_left_alone(self, studio: Studio) -> None:
        mixer = Mixer(studio.station)
        ticks(make_monitor(mixer), 3)
        assert mixer.playlist.synced == 1


class TestCommand:
    """The command `streamer`, and the names by which another Monitor is put into it."""

    def test_options(self) -> None:
        command = load_command_class("aircox_streamer", "streamer")
        options = vars(command.create_parser("manage.py", "streamer").parse_args(["-m", "-d", "500", "-s", "One"]))
        assert options.items() >= {"config": False, "run": False, "monitor": True}.items()
        assert options.items() >= {"delay": 500, "station": ["One"], "timeout": 20.0}.items()

    def test_it_takes_monitor_and_streamer_from_its_own_names(
        self, studio: Studio, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = importlib.import_module("aircox_streamer.management.commands.streamer")
        mixer = Mixer(studio.station)
        mixer.outputs = ["somewhere"]  # type: ignore[attr-defined]

        class Enough(Exception):
            pass

        class Stranger(module.Monitor):  # type: ignore[misc, name-defined]
            def monitor(self) -> None:
                assert self.streamer is mixer
                raise Enough

        monkeypatch.setattr(module, "Monitor", Stranger)
        monkeypatch.setattr(module, "Streamer", lambda station: mixer)
        command = load_command_class("aircox_streamer", "streamer")
        options = command.create_parser("manage.py", "streamer").parse_args(["-m"])
        with pytest.raises(Enough):
            command.handle(**vars(options))

    def test_a_station_without_an_output_is_refused(self, studio: Studio) -> None:
        command = load_command_class("aircox_streamer", "streamer")
        options = command.create_parser("manage.py", "streamer").parse_args(["-m"])
        with pytest.raises(RuntimeError, match="output"):
            command.handle(**vars(options))
