"""Where the Monitor of 0.9 differs: run by test_standin_shapes.py with the stand-in in that shape."""

from __future__ import annotations

from datetime import timedelta

import pytest
from aircox.models import Log, Sound
from django.utils import timezone

from tests.onair.studio import Mixer, Studio, is_shape_0_9, make_monitor, monitor_home, ticks


@pytest.fixture
def studio(db: None) -> Studio:
    assert is_shape_0_9(), "Run with AIRCOX_STANDIN_SHAPE=0.9; test_standin_shapes.py does."
    return Studio()


@pytest.fixture
def mixer(studio: Studio) -> Mixer:
    return Mixer(studio.station)


NOW = timezone.now().replace(microsecond=0)


def test_an_unknown_file_is_written_once(studio: Studio, mixer: Mixer) -> None:
    mixer.air(mixer.playlist, studio.path("unknown.mp3"), NOW)
    ticks(make_monitor(mixer), 5)
    assert [(row.sound, row.comment) for row in studio.rows()] == [(None, studio.path("unknown.mp3"))]


def test_the_same_file_twice_in_a_row_is_written_twice(studio: Studio, mixer: Mixer) -> None:
    studio.sound("one.mp3")
    monitor = make_monitor(mixer)
    for minutes in (0, 3):
        mixer.air(mixer.playlist, studio.path("one.mp3"), NOW + timedelta(minutes=minutes))
        monitor.monitor()
    assert [row.date for row in studio.rows()] == [NOW, NOW + timedelta(minutes=3)]


@pytest.mark.parametrize(("seconds", "rows"), [(0, 1), (6, 1), (7, 2)])
def test_a_restart_repeats_a_row_only_outside_the_delay_and_its_margin(
    studio: Studio, mixer: Mixer, seconds: int, rows: int
) -> None:
    studio.sound("one.mp3")
    mixer.air(mixer.playlist, studio.path("one.mp3"), NOW)
    make_monitor(mixer).monitor()
    mixer.air(mixer.playlist, studio.path("one.mp3"), NOW + timedelta(seconds=seconds))
    make_monitor(mixer).monitor()
    assert len(studio.rows()) == rows


def test_timeouts_are_minutes_on_the_class() -> None:
    assert (monitor_home().Monitor.cancel_timeout, monitor_home().Monitor.sync_timeout) == (20, 5)


def test_log_takes_the_source_among_its_keywords(studio: Studio, mixer: Mixer) -> None:
    row = make_monitor(mixer).log(date=NOW, source="dealer", type=Log.TYPE_OTHER)
    assert (row.date, row.source, row.station) == (NOW, "dealer", studio.station)


def test_sounds_are_paths(studio: Studio) -> None:
    studio.sound("one.mp3")
    assert list(Sound.objects.paths()) == [studio.path("one.mp3")]
    assert not hasattr(Sound.objects.all(), "playlist")
