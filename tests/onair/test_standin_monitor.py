"""The stand-in's Monitor makes the mistakes of 1.0's, and its scripted Liquidsoap speaks like a real one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from aircox.models import Diffusion, Log, Sound

from example_project.standin.playout.connector import pairs
from example_project.standin.playout.scripted import Cut, ScriptedLiquidsoap, ScriptedStreamer
from tests.onair.studio import Mixer, Studio, make_monitor, ticks

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class Wristwatch:
    """A clock that the test sets."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **units: float) -> None:
        self.now += timedelta(**units)


@pytest.fixture
def studio(db: None) -> Studio:
    return Studio()


@pytest.fixture
def mixer(studio: Studio) -> Mixer:
    return Mixer(studio.station)


@pytest.fixture
def clock() -> Wristwatch:
    return Wristwatch(NOON)


class TestMemo:
    """1.0 remembers the last sound of each source in memory, and nothing else."""

    def test_an_unknown_file_is_written_at_every_tick(self, studio: Studio, mixer: Mixer) -> None:
        mixer.air(mixer.playlist, studio.path("unknown.mp3"), NOON)
        ticks(make_monitor(mixer), 5)
        rows = studio.rows()
        assert len(rows) == 5
        assert {(row.date, row.comment, row.sound) for row in rows} == {(NOON, studio.path("unknown.mp3"), None)}

    def test_the_same_file_twice_in_a_row_on_a_source_is_written_once(self, studio: Studio, mixer: Mixer) -> None:
        studio.sound("one.mp3")
        monitor = make_monitor(mixer)
        for minutes in (0, 3):
            mixer.air(mixer.playlist, studio.path("one.mp3"), NOON + timedelta(minutes=minutes))
            monitor.monitor()
        assert [row.date for row in studio.rows()] == [NOON]

    def test_a_file_that_comes_back_after_an_unknown_one_is_not_written(self, studio: Studio, mixer: Mixer) -> None:
        studio.sound("one.mp3")
        monitor = make_monitor(mixer)
        for minutes, name in enumerate(("one.mp3", "unknown.mp3", "one.mp3")):
            mixer.air(mixer.playlist, studio.path(name), NOON + timedelta(minutes=minutes))
            monitor.monitor()
        assert [row.sound and row.sound.name for row in studio.rows()] == ["one.mp3", None]

    def test_the_same_file_on_another_source_is_written(self, studio: Studio, mixer: Mixer) -> None:
        studio.sound("one.mp3")
        monitor = make_monitor(mixer)
        for deck in (mixer.playlist, mixer.dealer):
            mixer.air(deck, studio.path("one.mp3"), NOON)
            monitor.monitor()
        assert [row.source for row in studio.rows()] == [mixer.playlist.id, "dealer"]

    def test_after_a_restart_an_old_row_stands_for_the_file_that_plays_now(self, studio: Studio, mixer: Mixer) -> None:
        studio.sound("one.mp3")
        mixer.air(mixer.playlist, studio.path("one.mp3"), NOON)
        make_monitor(mixer).monitor()
        mixer.air(mixer.playlist, studio.path("one.mp3"), NOON + timedelta(days=3))
        make_monitor(mixer).monitor()
        assert [row.date for row in studio.rows()] == [NOON]

    def test_after_a_restart_new_tracks_are_dated_from_the_old_row(
        self, studio: Studio, mixer: Mixer, clock: Wristwatch
    ) -> None:
        sound = studio.sound("mix.mp3")
        mixer.air(mixer.playlist, studio.path("mix.mp3"), NOON)
        make_monitor(mixer, clock=clock).monitor()
        studio.track(sound, "Late", 60)
        clock.forward(days=3)
        mixer.air(mixer.playlist, studio.path("mix.mp3"), clock())
        make_monitor(mixer, clock=clock).monitor()
        assert [row.date for row in studio.rows()] == [NOON, NOON + timedelta(seconds=60)]

    def test_a_track_written_for_another_station_is_hidden_from_this_one(
        self, studio: Studio, mixer: Mixer, clock: Wristwatch
    ) -> None:
        """Two conditions on one reverse relation: a row of ours and a later row of theirs hide it together."""
        track = studio.track(studio.sound("mix.mp3"), "One", 0)
        earlier = Log.objects.create(station=studio.station, type=Log.TYPE_ON_AIR, track=track, date=NOON)
        mixer.air(mixer.playlist, studio.path("mix.mp3"), NOON)
        monitor = make_monitor(mixer, clock=clock)
        monitor.trace_sound(mixer.playlist)
        Log.objects.create(station=Studio("Other").station, type=Log.TYPE_ON_AIR, track=track, date=NOON)
        monitor.monitor()
        assert [row.pk for row in studio.rows() if row.track_id] == [earlier.pk]


class TestDiffusions:
    """Starts and cancellations, by the clock."""

    @pytest.mark.parametrize(("minutes", "types"), [(20, ["start"]), (21, ["start", "cancelled"])])
    def test_a_start_later_than_the_timeout_is_cancelled_in_the_same_tick(
        self, studio: Studio, mixer: Mixer, clock: Wristwatch, minutes: int, types: list[str]
    ) -> None:
        episode = studio.episode("One")
        studio.sound("a.mp3", episode)
        studio.diffusion(episode, NOON)
        clock.forward(minutes=minutes)
        make_monitor(mixer, clock=clock).monitor()
        assert [row.get_type_display() for row in studio.rows()] == types
        assert {row.date for row in studio.rows()} == {clock()}

    def test_the_sounds_of_a_cancelled_start_carry_no_diffusion(
        self, studio: Studio, mixer: Mixer, clock: Wristwatch
    ) -> None:
        episode = studio.episode("One")
        sound = studio.sound("a.mp3", episode)
        studio.track(sound, "As if streamed", 0)
        studio.diffusion(episode, NOON)
        clock.forward(minutes=21)
        monitor = make_monitor(mixer, clock=clock)
        monitor.monitor()
        mixer.air(mixer.dealer, studio.path("a.mp3"), clock())
        monitor.monitor()
        heard = studio.rows(Log.TYPE_ON_AIR)
        assert [(row.diffusion, bool(row.track_id)) for row in heard] == [(None, False), (None, True)]

    def test_a_dealer_whose_remaining_time_is_short_starts_the_next_though_its_queue_is_full(
        self, studio: Studio, mixer: Mixer, clock: Wristwatch
    ) -> None:
        """The operators bind so: (queue empty and nothing requested) or little left."""
        episode = studio.episode("One")
        studio.sound("a.mp3", episode)
        studio.diffusion(episode, NOON)
        mixer.dealer.play("/music/before.mp3", NOON, remaining=5.9)
        mixer.dealer.queue = ["7", "8"]
        make_monitor(mixer, clock=clock).monitor()
        assert [row.type for row in studio.rows()] == [Log.TYPE_START]

    def test_of_two_at_once_the_earlier_goes_first(self, studio: Studio, mixer: Mixer, clock: Wristwatch) -> None:
        first, second = studio.episode("One"), studio.episode("Two")
        for name, episode in (("a.mp3", first), ("b.mp3", second)):
            studio.sound(name, episode)
        studio.diffusion(second, NOON - timedelta(minutes=1))
        studio.diffusion(first, NOON - timedelta(minutes=2))
        make_monitor(mixer, clock=clock).monitor()
        assert [row.diffusion.episode for row in studio.rows()] == [first]

    def test_playlists_are_written_every_five_minutes(self, mixer: Mixer, clock: Wristwatch) -> None:
        monitor = make_monitor(mixer, clock=clock)
        ticks(monitor, 601, lambda: clock.forward(seconds=1))
        assert mixer.playlist.synced == 3


class TestScript:
    """The scripted Liquidsoap, asked by the same Streamer that asks a real one."""

    @pytest.fixture
    def night(self, studio: Studio) -> str:
        return studio.night.slug.replace("-", "_")

    def cut(self, studio: Studio, source: str, name: str, after_seconds: float, seconds: float = 60) -> Cut:
        air_at = NOON + timedelta(seconds=after_seconds)
        return Cut(source=source, uri=studio.path(name), air_at=air_at, seconds=seconds, title=name)

    def test_a_source_tells_uri_air_time_and_what_is_left(self, studio: Studio, night: str, clock: Wristwatch) -> None:
        streamer = ScriptedStreamer(studio.station, [self.cut(studio, night, "one.mp3", 0.7)], clock)
        clock.forward(seconds=10)
        streamer.fetch()
        assert streamer.source is streamer.sources[1]
        # Liquidsoap cuts the fraction of the air time off.
        assert (streamer.source.uri, streamer.source.air_time) == (studio.path("one.mp3"), NOON)
        assert streamer.source.remaining == pytest.approx(50.7)

    def test_a_source_that_ended_still_says_playing(self, studio: Studio, night: str, clock: Wristwatch) -> None:
        streamer = ScriptedStreamer(studio.station, [self.cut(studio, night, "one.mp3", 0)], clock)
        clock.forward(minutes=5)
        streamer.fetch()
        assert (streamer.source.request_status, streamer.source.remaining) == ("playing", 0.0)

    def test_the_first_look_after_a_change_says_paused(self, studio: Studio, night: str, clock: Wristwatch) -> None:
        streamer = ScriptedStreamer(studio.station, [self.cut(studio, night, "one.mp3", 0)], clock)
        streamer.fetch()
        first = streamer.source.status
        streamer.fetch()
        assert (first, streamer.source.status) == ("paused", "playing")

    def test_silence_keeps_the_old_values(self, studio: Studio, night: str, clock: Wristwatch) -> None:
        streamer = ScriptedStreamer(studio.station, [self.cut(studio, night, "one.mp3", 0)], clock)
        streamer.fetch()
        streamer.script.answers = False
        clock.forward(minutes=5)
        streamer.fetch()
        assert (streamer.is_ready, streamer.source.uri) == (False, studio.path("one.mp3"))
        assert streamer.source.remaining == 60.0

    def test_pushed_files_play_one_after_the_other(self, studio: Studio, clock: Wristwatch) -> None:
        streamer = ScriptedStreamer(studio.station, [], clock, seconds_of={"/a.mp3": 10, "/b.mp3": 20})
        streamer.dealer.push("/a.mp3", "/b.mp3")
        heard = []
        for _ in range(5):
            streamer.fetch()
            heard.append((streamer.dealer.uri, streamer.dealer.remaining, len(streamer.dealer.queue)))
            clock.forward(seconds=8)
        assert heard == [
            ("/a.mp3", 10.0, 1),
            ("/a.mp3", 2.0, 1),
            ("/b.mp3", 14.0, 0),
            ("/b.mp3", 6.0, 0),
            ("/b.mp3", 0.0, 0),
        ]

    def test_a_stream_that_the_dealer_covers_does_not_air(self, studio: Studio, night: str, clock: Wristwatch) -> None:
        rundown = [self.cut(studio, "dealer", "show.mp3", 0, 600), self.cut(studio, night, "under.mp3", 30)]
        streamer = ScriptedStreamer(studio.station, rundown, clock)
        clock.forward(minutes=1)
        streamer.fetch()
        assert (streamer.source.id, streamer.sources[1].uri) == ("dealer", None)

    def test_a_live_input_has_a_title_and_no_file(self, studio: Studio, clock: Wristwatch) -> None:
        studio.station.port_set.create(direction=0, type=4, settings='"live"')
        talk = Cut(source="live", air_at=NOON, seconds=300, title='The "Studio"')
        streamer = ScriptedStreamer(studio.station, [talk], clock)
        clock.forward(minutes=1)
        streamer.fetch()
        assert (streamer.source.id, streamer.source.uri, streamer.source.title) == ("live", None, 'The "Studio"')
        assert (streamer.source.air_time, streamer.source.request_status) == (NOON, "playing")
        clock.forward(minutes=5)
        streamer.fetch()
        assert (streamer.source, streamer.sources[-1].request_status) == (None, "stopped")

    def test_a_live_input_writes_no_row(self, studio: Studio, clock: Wristwatch) -> None:
        studio.station.port_set.create(direction=0, type=4, settings='"live"')
        talk = Cut(source="live", air_at=NOON, seconds=300, title="Talk")
        streamer = ScriptedStreamer(studio.station, [talk], clock)
        ticks(make_monitor(streamer, clock=clock), 5, lambda: clock.forward(seconds=1))
        assert studio.rows() == []

    def test_an_unknown_command_is_answered_and_so_the_streamer_is_ready(self, clock: Wristwatch) -> None:
        answer = ScriptedLiquidsoap([], clock).ask("list")
        assert answer is not None
        assert answer.startswith("ERROR: unknown command")

    def test_a_naive_air_time_is_refused(self) -> None:
        with pytest.raises(ValueError, match="naive"):
            Cut(source="night", air_at=datetime(2026, 3, 2, 12), seconds=60)  # noqa: DTZ001

    def test_quotes_in_a_title_survive_the_socket(self) -> None:
        assert pairs('title="Tone C \\"quoted\\""\r\nrid="4"\r\nno pair') == {"title": 'Tone C "quoted"', "rid": "4"}

    def test_a_day_is_played_in_a_moment(self, studio: Studio, night: str, clock: Wristwatch) -> None:
        """Sixteen hours of one look a minute: a diffusion on its time, the streams around it."""
        for hour in range(16):
            studio.sound(f"hour-{hour:02}.mp3")
        episode = studio.episode("One")
        show = studio.sound("show.mp3", episode)
        diffusion = studio.diffusion(episode, NOON + timedelta(hours=4))
        rundown = [self.cut(studio, night, f"hour-{hour:02}.mp3", hour * 3600, 3600) for hour in range(16)]
        streamer = ScriptedStreamer(studio.station, rundown, clock, seconds_of={studio.path("show.mp3"): 3500})
        ticks(make_monitor(streamer, clock=clock), 16 * 60, lambda: clock.forward(minutes=1))
        heard = [row.sound for row in studio.rows(Log.TYPE_ON_AIR)]
        # The fourth hour begins in the same tick as the diffusion is started, and is heard first.
        assert [sound.name for sound in heard if sound != show] == [f"hour-{hour:02}.mp3" for hour in range(16)]
        (started,) = studio.rows(Log.TYPE_START)
        assert (started.date, started.diffusion) == (diffusion.start, diffusion)
        (aired,) = Log.objects.filter(sound=show)
        assert (aired.date, aired.diffusion, aired.source) == (diffusion.start, diffusion, "dealer")


class TestWallTime:
    """Liquidsoap tells the host's wall time, and in autumn one hour of it comes twice."""

    @pytest.fixture
    def brussels(self) -> Iterator[None]:
        before = os.environ.get("TZ")
        os.environ["TZ"] = "Europe/Brussels"
        time.tzset()
        yield
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()

    @pytest.mark.usefixtures("brussels")
    def test_what_airs_in_the_first_of_the_two_hours_is_dated_an_hour_late(self, studio: Studio) -> None:
        first_pass = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
        clock = Wristwatch(first_pass + timedelta(seconds=5))
        night = studio.night.slug.replace("-", "_")
        cut = Cut(source=night, uri="/one.mp3", air_at=first_pass, seconds=60)
        streamer = ScriptedStreamer(studio.station, [cut], clock)
        streamer.fetch()
        assert streamer.sources[1].air_time == first_pass + timedelta(hours=1)


class TestRowsThatGo:
    """What aircox does when rows are saved and deleted."""

    def test_an_episode_without_diffusion_sound_and_text_goes_with_its_diffusion(
        self, studio: Studio, clock: Wristwatch
    ) -> None:
        bare, kept = studio.episode("Bare"), studio.episode("Kept")
        type(bare).objects.filter(pk=bare.pk).update(content=None)
        for episode in (bare, kept):
            studio.diffusion(episode, NOON)
        Diffusion.objects.all().delete()
        assert list(type(bare).objects.all()) == [kept]

    def test_a_sound_whose_file_vanished_is_marked_removed(self, studio: Studio) -> None:
        sound = studio.sound("gone.mp3")
        sound.save()
        assert sound.type == Sound.TYPE_REMOVED
