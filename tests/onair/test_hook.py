"""What the Monitor hook sees of the ticks, and what its thread writes down."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aircox.models import Diffusion, Log
from django.db import transaction
from django.test import override_settings

from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import Airing, MonitorWatch, OnAirChange, StaleWindow
from aircox_listen_stats.onair import monitor as hook
from aircox_listen_stats.onair import recorder as recorder_module
from aircox_listen_stats.onair.recorder import QUEUE_LENGTH, LogNote, Recorder, Tick
from tests.onair.shapes import run_in_python
from tests.onair.studio import Mixer, Studio, is_shape_0_9, make_monitor, monitor_home, ticks

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
DRAINED_SECONDS = 60
SECOND = 1000


@pytest.fixture
def recorder(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """A recorder of this test alone, in the hook's place."""
    fresh = Recorder()
    monkeypatch.setattr(hook, "recorder", fresh)
    yield fresh
    fresh.stop(DRAINED_SECONDS)


@pytest.fixture
def studio(recorder: Recorder) -> Studio:
    return Studio()


@pytest.fixture
def mixer(studio: Studio) -> Mixer:
    return Mixer(studio.station)


@pytest.fixture
def hooked() -> Iterator[type]:
    """The Monitor with the hook installed."""
    # 0.9's Monitor lives in the command's module, which counts as this process's once it is imported.
    home = monitor_home()
    assert hook.install()
    yield home.Monitor
    hook.uninstall()


class Clock:
    """The hook's clock, set by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at_ms = to_ms(NOON)
        monkeypatch.setattr(hook.time, "time_ns", lambda: self.at_ms * 1_000_000)

    @property
    def now(self) -> datetime:
        return from_ms(self.at_ms)

    def forward(self, seconds: float) -> None:
        self.at_ms += round(seconds * SECOND)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def drained(recorder: Recorder) -> None:
    assert recorder.drain(DRAINED_SECONDS), f"not written in {DRAINED_SECONDS} s: {recorder.counts}"


def changes(studio: Studio) -> list[tuple]:
    rows = OnAirChange.objects.filter(station_id=studio.station.pk).order_by("started", "pk")
    return [(row.source, row.started, row.seen, row.ended) for row in rows]


def test_every_change_and_every_end_is_written(
    studio: Studio, mixer: Mixer, hooked: type, recorder: Recorder, clock: Clock
) -> None:
    one, two = studio.sound("one.mp3"), studio.sound("two.mp3")
    monitor = make_monitor(mixer)
    mixer.air(mixer.playlist, studio.path("one.mp3"), NOON, remaining=20)
    ticks(monitor, 10, lambda: clock.forward(1))
    mixer.air(mixer.playlist, studio.path("two.mp3"), NOON + timedelta(seconds=10), remaining=30)
    ticks(monitor, 3, lambda: clock.forward(1))
    drained(recorder)
    at = [NOON + timedelta(seconds=seconds) for seconds in range(14)]
    first, second = changes(studio)
    assert first == ("night_tones", at[0], at[10], True)
    # A row that only grows is written every 5 s, or with the next write.
    assert (second[1], second[2] in at[10:13], second[3]) == (at[10], True, False)
    row = OnAirChange.objects.get(ended=True)
    assert (row.air_time, row.sound_id, row.status, row.is_live) == (NOON, one.pk, "playing", False)
    assert OnAirChange.objects.get(ended=False).sound_id == two.pk
    watch = MonitorWatch.objects.get()
    assert (watch.started, watch.seen in at[10:13]) == (at[0], True)


@pytest.mark.usefixtures("hooked")
class TestEnds:
    @pytest.fixture
    def playing(self, studio: Studio, mixer: Mixer, clock: Clock, hooked: type) -> Any:
        studio.sound("one.mp3")
        mixer.air(mixer.playlist, studio.path("one.mp3"), NOON)
        monitor = make_monitor(mixer)
        ticks(monitor, 3, lambda: clock.forward(1))
        return monitor

    def end(self, playing: Any, studio: Studio, recorder: Recorder) -> tuple[datetime, bool]:
        playing.monitor()
        drained(recorder)
        return changes(studio)[0][2:]

    def test_nothing_is_on_air(self, playing: Any, studio: Studio, mixer: Mixer, recorder: Recorder) -> None:
        mixer.source = None
        assert self.end(playing, studio, recorder) == (NOON + timedelta(seconds=3), True)

    def test_the_source_no_longer_plays(self, playing: Any, studio: Studio, mixer: Mixer, recorder: Recorder) -> None:
        mixer.playlist.request_status = "idle"
        assert self.end(playing, studio, recorder) == (NOON + timedelta(seconds=3), True)

    def test_the_streamer_is_not_ready(self, playing: Any, studio: Studio, mixer: Mixer, recorder: Recorder) -> None:
        """The tick then leaves the source of the tick before in its place."""
        mixer.is_ready = False
        assert self.end(playing, studio, recorder) == (NOON + timedelta(seconds=3), True)
        assert mixer.source is mixer.playlist

    def test_nothing_is_left_of_it(self, playing: Any, studio: Studio, mixer: Mixer, recorder: Recorder) -> None:
        """Liquidsoap goes on saying `playing` of a queue that has run out."""
        mixer.playlist.remaining = 0.0
        assert self.end(playing, studio, recorder) == (NOON + timedelta(seconds=3), True)
        ticks(playing, 3)
        drained(recorder)
        assert len(changes(studio)) == 1

    def test_after_a_silence_nobody_knows_the_end(
        self, playing: Any, studio: Studio, mixer: Mixer, recorder: Recorder, clock: Clock
    ) -> None:
        clock.forward(60)
        mixer.air(mixer.playlist, studio.path("two.mp3"), clock.now)
        playing.monitor()
        drained(recorder)
        first, second = changes(studio)
        assert first[2:] == (NOON + timedelta(seconds=2), False)
        assert second[1] == clock.now
        assert [watch.started for watch in MonitorWatch.objects.order_by("started")] == [NOON, clock.now]


def test_a_file_that_was_over_before_it_was_seen_is_not_on_air(
    studio: Studio, mixer: Mixer, hooked: type, recorder: Recorder, clock: Clock
) -> None:
    """A source that stops uncovers one that ended long ago, and still says `playing`."""
    mixer.air(mixer.playlist, studio.path("one.mp3"), NOON - timedelta(minutes=5), remaining=0.0)
    monitor = make_monitor(mixer)
    ticks(monitor, 3, lambda: clock.forward(1))
    drained(recorder)
    assert changes(studio) == []
    mixer.playlist.remaining = 30.0
    monitor.monitor()
    drained(recorder)
    assert [row[1] for row in changes(studio)] == [clock.now]


def test_a_live_input_tells_its_title(
    studio: Studio, mixer: Mixer, hooked: type, recorder: Recorder, clock: Clock
) -> None:
    mixer.air(mixer.playlist, "", NOON, remaining=-1.0)
    mixer.playlist.uri, mixer.playlist.title = None, "Morning talk"
    monitor = make_monitor(mixer)
    monitor.monitor()
    mixer.playlist.title = "Morning talk, second half\0"
    clock.forward(1)
    monitor.monitor()
    drained(recorder)
    row = OnAirChange.objects.get()
    assert (row.is_live, row.title, row.remaining_ms) == (True, "Morning talk, second half", None)


def test_a_new_process_goes_on_where_the_old_one_was(
    studio: Studio, mixer: Mixer, hooked: type, recorder: Recorder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixer.air(mixer.playlist, studio.path("one.mp3"), NOON)
    ticks(make_monitor(mixer), 6, lambda: clock.forward(1))
    drained(recorder)
    recorder.stop(DRAINED_SECONDS)
    restarted = Recorder()
    monkeypatch.setattr(hook, "recorder", restarted)
    clock.forward(5)
    ticks(make_monitor(mixer), 6, lambda: clock.forward(1))
    drained(restarted)
    restarted.stop(DRAINED_SECONDS)
    assert len(changes(studio)) == 1
    watch = MonitorWatch.objects.get()
    assert watch.started == NOON
    assert watch.seen >= NOON + timedelta(seconds=11)


def test_a_clock_that_was_set_back_begins_a_new_stretch(
    studio: Studio, mixer: Mixer, hooked: type, recorder: Recorder, clock: Clock
) -> None:
    mixer.air(mixer.playlist, studio.path("one.mp3"), NOON)
    monitor = make_monitor(mixer)
    monitor.monitor()
    clock.forward(-3600)
    ticks(monitor, 2, lambda: clock.forward(1))
    drained(recorder)
    assert [row[1] for row in changes(studio)] == [NOON - timedelta(hours=1), NOON]
    assert MonitorWatch.objects.count() == 2


def test_no_path_reaches_the_database_or_the_log(
    studio: Studio, mixer: Mixer, hooked: type, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="aircox_listen_stats")
    path = studio.path("secret-place.mp3")
    mixer.air(mixer.playlist, path, NOON)
    make_monitor(mixer).monitor()
    drained(recorder)
    row = OnAirChange.objects.values().get()
    assert "secret" not in str(row)
    assert len(row["item"]) == 32
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("aircox_listen_stats")]
    assert not any("secret" in message for message in ours)


@pytest.mark.parametrize("uri", ["/srv/secret-place/one.mp3", None])
@pytest.mark.parametrize("title", ["/srv/secret-place/one.mp3", "file:///srv/secret-place/one.mp3"])
def test_a_file_whose_title_is_its_path_has_no_title(
    studio: Studio, mixer: Mixer, hooked: type, recorder: Recorder, clock: Clock, uri: str | None, title: str
) -> None:
    """Encoders write the file's name into its title; on a page of the station it would tell a server path."""
    mixer.air(mixer.playlist, uri or "", NOON, remaining=100.0)
    mixer.playlist.uri, mixer.playlist.title, mixer.playlist.artist = uri, title, title
    monitor = make_monitor(mixer)
    ticks(monitor, 8, lambda: clock.forward(1))
    drained(recorder)
    assert "secret" not in str(OnAirChange.objects.values().get())


def test_the_queue_is_bounded_and_loses_its_oldest(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(recorder, "_start", lambda: None)
    for number in range(QUEUE_LENGTH + 10):
        recorder.take(Tick(number, 1))
    assert (len(recorder.queue), recorder.counts.dropped) == (QUEUE_LENGTH, 10)
    assert recorder.queue[0].at_ms == 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forking is how POSIX starts a child")
def test_a_forked_child_begins_with_an_empty_queue_and_no_thread(db: None) -> None:
    recorder = Recorder()
    recorder.queue.append(LogNote(1, NOON))
    recorder.thread = threading.current_thread()
    child = os.fork()
    if child == 0:
        clean = not recorder.queue and recorder.thread is None and not recorder.wake.is_set()
        os._exit(0 if clean else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


# -- the receivers


def stale() -> list[tuple[int, datetime, datetime]]:
    rows = StaleWindow.objects.filter(kind=StaleWindow.TIMELINE).order_by("started")
    return [(row.station_id, row.started, row.ended) for row in rows]


def test_a_new_log_row_marks_its_own_time_however_old(studio: Studio, recorder: Recorder) -> None:
    """The comment may be a Track object: so aircox passes it."""
    sound = studio.sound("one.mp3")
    piece = studio.track(sound, "Piece", 0)
    old = NOON - timedelta(days=3)
    row = Log(station=studio.station, type=Log.TYPE_ON_AIR, date=old, source="night", track=piece, comment=piece)
    row.save()
    drained(recorder)
    second = timedelta(seconds=1)
    assert stale() == [(studio.station.pk, old - second, old + second)]


def test_a_moved_diffusion_marks_where_it_was_and_where_it_is(studio: Studio, recorder: Recorder) -> None:
    diffusion = studio.diffusion(studio.episode("Talk"), NOON)
    hour, day = timedelta(hours=1), timedelta(days=1)
    drained(recorder)
    assert stale() == [(studio.station.pk, NOON, NOON + hour)]
    StaleWindow.objects.all().delete()
    Airing.objects.create(
        station_id=studio.station.pk,
        layer="diffusion",
        key=f"diffusion:{diffusion.pk}",
        diffusion_id=diffusion.pk,
        started=NOON,
        ended=NOON + hour,
        start_basis="scheduled",
        end_basis="scheduled",
    )
    diffusion.start, diffusion.end = NOON + day, NOON + day + hour
    diffusion.save()
    drained(recorder)
    expected = [(studio.station.pk, NOON, NOON + hour), (studio.station.pk, NOON + day, NOON + day + hour)]
    assert stale() == expected
    StaleWindow.objects.all().delete()
    Diffusion.objects.all().delete()
    drained(recorder)
    assert stale() == expected


def test_a_row_is_noted_when_others_can_see_it(studio: Studio, recorder: Recorder) -> None:
    with transaction.atomic():
        studio.diffusion(studio.episode("Talk"), NOON)
        assert recorder.counts.taken == 0
    drained(recorder)
    assert len(stale()) == 1


def test_a_process_without_a_monitor_keeps_no_connection(
    studio: Studio, mixer: Mixer, hooked: type, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    make = recorder_module._own_connection
    monkeypatch.setattr(recorder_module, "_own_connection", lambda: opened.append(make()) or opened[0])
    studio.diffusion(studio.episode("Talk"), NOON)
    drained(recorder)
    assert len(stale()) == 1
    assert [one.connection for one in opened] == [None]
    make_monitor(mixer).monitor()
    drained(recorder)
    assert opened[0].connection is not None, "a Monitor's process writes every few seconds"


# -- installing


def test_the_hook_is_off_unless_the_setting_says_so() -> None:
    before = monitor_home().Monitor.monitor
    assert not hook.install_if_configured()
    assert monitor_home().Monitor.monitor is before


def test_the_setting_installs_it_once_and_for_subclasses_too() -> None:
    home = monitor_home()
    before = home.Monitor.monitor
    with override_settings(AIRCOX_LISTEN_STATS={"MONITOR_HOOK": True}):
        assert hook.install_if_configured()
        assert hook.install_if_configured()
    assert home.Monitor.monitor.__wrapped__ is before
    hook.uninstall()
    assert home.Monitor.monitor is before


def test_wrong_settings_install_nothing_and_raise_nothing() -> None:
    with override_settings(AIRCOX_LISTEN_STATS={"MONITER_HOOK": True}):
        assert not hook.install_if_configured()


@pytest.mark.parametrize("shape", ["1.0", "0.9"])
def test_importing_the_app_imports_no_aircox(shape: str) -> None:
    code = (
        "import sys, django; from django.conf import settings;"
        "apps = ['django.contrib.contenttypes', 'django.contrib.auth', 'aircox_listen_stats'];"
        "settings.configure(INSTALLED_APPS=apps,"
        "DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}); django.setup();"
        "from aircox_listen_stats.onair import aircox, base, monitor;"
        "print([name for name in sys.modules if name.split('.')[0] in ('aircox', 'aircox_streamer')])"
    )
    assert run_in_python(shape, code).strip() == "[]"


@pytest.mark.parametrize(
    ("shape", "argument", "outcome"),
    [
        ("1.0", "runserver", "True Europe/Brussels"),  # its Monitor has a module of its own
        ("1.0", "streamer", "True Europe/Brussels"),
        ("0.9", "runserver", "False Europe/Brussels"),  # importing the command would put the site into UTC
        ("0.9", "streamer", "True UTC"),
    ],
)
def test_the_monitor_of_0_9_is_imported_by_the_streamer_alone(shape: str, argument: str, outcome: str) -> None:
    code = (
        f"import sys; sys.argv = ['manage.py', {argument!r}];"
        "import django; django.setup();"
        "from django.utils import timezone; from aircox_listen_stats.onair import monitor;"
        "print(monitor.install(), timezone.get_current_timezone_name())"
    )
    assert run_in_python(shape, code).strip() == outcome


def test_the_shape_of_this_run_has_its_monitor_where_we_look(hooked: type) -> None:
    assert hooked.__module__.endswith("commands.streamer" if is_shape_0_9() else "controllers.monitor")
