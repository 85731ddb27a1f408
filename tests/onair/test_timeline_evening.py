"""A whole evening: the stand-in's Monitor with the hook, its rows and sightings, and the timeline made of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from aircox.models import Log

from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import Airing
from aircox_listen_stats.onair import monitor as hook
from aircox_listen_stats.onair.recorder import Recorder
from aircox_listen_stats.pipeline import timeline
from example_project.standin.playout.scripted import Cut, ScriptedStreamer
from tests.onair.studio import Studio, make_monitor, monitor_home, ticks

EIGHT = datetime(2026, 3, 2, 20, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DRAINED_SECONDS = 60
AGREES = timedelta(seconds=2)
SONG_SECONDS = 180
PART_SECONDS = 280
EVENING_MINUTES = 45


@pytest.fixture
def recorder(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    fresh = Recorder()
    monkeypatch.setattr(hook, "recorder", fresh)
    monitor_home()
    assert hook.install()
    yield fresh
    hook.uninstall()
    fresh.stop(DRAINED_SECONDS)


class Wristwatch:
    """The clock of Liquidsoap, the Monitor and the hook."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = EIGHT
        monkeypatch.setattr(hook.time, "time_ns", lambda: to_ms(self.now) * 1_000_000)

    def __call__(self) -> datetime:
        return self.now

    def forward(self) -> None:
        self.now += timedelta(seconds=1)


@pytest.mark.slow
def test_an_evening_with_the_hook(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Songs, one of them twice in a row, a show of two sounds with a track, and a live show that comes late."""
    studio = Studio()
    studio.station.port_set.create(direction=0, type=4, settings='"live"')
    night = studio.night.slug.replace("-", "_")
    song = studio.sound("song.mp3")
    song.duration = dt.time(0, 3)
    song.save(check=False)
    studio.track(song, "Piece", 60)
    archive, live = studio.episode("Archive"), studio.episode("Talk")
    parts = [studio.sound(f"part{number}.mp3", archive) for number in (1, 2)]  # their length is not known yet
    studio.track(parts[1], "In the show", 60)
    show = studio.diffusion(archive, EIGHT + 10 * MINUTE, minutes=15)
    talk = studio.diffusion(live, EIGHT + 30 * MINUTE, minutes=10)
    songs = [
        Cut(source=night, air_at=EIGHT + at * MINUTE, seconds=SONG_SECONDS, uri=studio.path("song.mp3"))
        for at in (0, 3, 20, 23)
    ]
    speech = Cut(source="live", air_at=EIGHT + 31 * MINUTE, seconds=420, title="Talk of the day")
    last = Cut(source=night, air_at=EIGHT + 40 * MINUTE, seconds=SONG_SECONDS, uri=studio.path("song.mp3"))
    clock = Wristwatch(monkeypatch)
    lengths = {studio.path(f"part{number}.mp3"): PART_SECONDS for number in (1, 2)}
    streamer = ScriptedStreamer(studio.station, [*songs, speech, last], clock, seconds_of=lengths)
    ticks(make_monitor(streamer, clock=clock), EVENING_MINUTES * 60, clock.forward)
    assert recorder.drain(DRAINED_SECONDS)
    assert (recorder.counts.failed, recorder.counts.dropped, recorder.counts.lost) == (0, 0, 0)
    now_ms = to_ms(clock.now)
    timeline.refresh(studio.station.pk, to_ms(EIGHT), now_ms, now_ms=now_ms)
    part = timedelta(seconds=PART_SECONDS)
    begin, ten, three = EIGHT, EIGHT + 10 * MINUTE, 3 * MINUTE
    expect(
        "sound",
        [
            ("song.mp3", begin, begin + three),
            ("song.mp3", begin + three, begin + 2 * three),
            ("part1.mp3", ten, ten + part),
            ("part2.mp3", ten + part, ten + 2 * part),
            ("song.mp3", begin + 20 * MINUTE, begin + 23 * MINUTE),
            ("song.mp3", begin + 23 * MINUTE, begin + 26 * MINUTE),
            ("Talk of the day", begin + 31 * MINUTE, begin + 38 * MINUTE),
            ("song.mp3", begin + 40 * MINUTE, begin + 43 * MINUTE),
        ],
    )
    expect("diffusion", [("Archive", ten, ten + 2 * part), ("Talk", begin + 31 * MINUTE, begin + 38 * MINUTE)])
    expect(
        "track",
        [
            ("Piece", begin + 1 * MINUTE, begin + three),
            ("Piece", begin + 4 * MINUTE, begin + 2 * three),
            ("In the show", ten + part + MINUTE, ten + 2 * part),
            ("Piece", begin + 21 * MINUTE, begin + 23 * MINUTE),
            ("Piece", begin + 24 * MINUTE, begin + 26 * MINUTE),
            ("Piece", begin + 41 * MINUTE, begin + 43 * MINUTE),
        ],
    )
    assert set(Airing.objects.filter(layer="sound").values_list("end_basis", flat=True)) == {"observed"}
    assert not Log.objects.filter(diffusion=talk, type=Log.TYPE_ON_AIR).exists()
    assert Airing.objects.filter(diffusion_id=show.pk, layer="sound").count() == 2
    assert not timeline.refresh(studio.station.pk, to_ms(EIGHT), now_ms, now_ms=now_ms)


def expect(layer: str, truth: list[tuple[str, datetime, datetime]]) -> None:
    """Every item, in order, its bounds within a tick and the second that Liquidsoap cuts off."""
    told = list(Airing.objects.filter(layer=layer).order_by("started").values_list("title", "started", "ended"))
    assert [one[0] for one in told] == [one[0] for one in truth], told
    for one, item in zip(told, truth, strict=True):
        assert abs(one[1] - item[1]) <= AGREES, (one, item)
        assert abs(one[2] - item[2]) <= AGREES, (one, item)
