"""The stand-in's Monitor drives a real Liquidsoap over its socket, and writes what aircox would."""

from __future__ import annotations

import importlib
import math
import socket
import struct
import sys
import time
import urllib.request
import wave
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aircox.models import Diffusion, Log, Port
from django.utils import timezone

from tests.onair.studio import Studio, make_monitor
from tests.parts.child import Child, free_port
from tests.parts.liquidsoap import Liquidsoap
from tools import parts

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.django_db]

RATE_HERTZ = 22_050
LOUDNESS = 3_000
TICK_SECONDS = 0.5
STREAM_SECONDS = 9
SHOW_SECONDS = (6, 7)
# Between air time and the row: one tick, Liquidsoap's buffer, and the whole second that it tells.
LATE_SECONDS = 3.0
WAIT_SECONDS = 60


def tone(path: Path, seconds: float, pitch: float) -> None:
    """Nothing; a sine as WAV, which Liquidsoap reads without a codec."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = int(RATE_HERTZ * seconds)
    wave_form = (int(LOUDNESS * math.sin(2 * math.pi * pitch * n / RATE_HERTZ)) for n in range(count))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HERTZ)
        file.writeframes(b"".join(struct.pack("<h", value) for value in wave_form))


class OnAir:
    """A station whose script runs, and the Monitor that looks at it."""

    def __init__(self, playout: Liquidsoap, settings: Any) -> None:
        settings.MEDIA_ROOT = str(playout.folder / "media")
        self.playout = playout
        self.streamer: Any = None
        self.longest_gap = 0.0
        self.studio = Studio()
        self.studio.station.path = str(playout.folder)
        self.studio.station.save()
        # The sound goes nowhere; a station must have an output.
        self.port(Port.DIRECTION_OUTPUT, Port.TYPE_FILE, '%wav, "/dev/null"')

    def port(self, direction: int, type: int, words: str) -> None:
        Port.objects.create(station=self.studio.station, direction=direction, type=type, settings=words)

    def sound(self, name: str, seconds: float, episode: Any = None) -> Any:
        tone(Path(self.studio.path(name)), seconds, 300 + 17 * len(name))
        return self.studio.sound(name, episode)

    def start(self) -> None:
        controllers = importlib.import_module("aircox_streamer.controllers")
        self.streamer = controllers.Streamer(self.studio.station)
        self.streamer.playlist_mode = "normal"
        self.streamer.make_config()
        self.playout.start_file(Path(self.streamer.path), socket_path=Path(self.streamer.socket_path))
        self.monitor = make_monitor(self.streamer)

    def listen(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """True when it happened in time; the Monitor looks twice a second meanwhile."""
        looked = time.monotonic()
        deadline = looked + seconds
        while time.monotonic() < deadline:
            self.monitor.monitor()
            if until():
                return True
            time.sleep(TICK_SECONDS)
            self.longest_gap, looked = max(self.longest_gap, time.monotonic() - looked), time.monotonic()
        return False

    @property
    def late_seconds(self) -> float:
        """How late a row may tell what was on air: more where a busy machine let the Monitor wait."""
        return LATE_SECONDS + self.longest_gap


@pytest.fixture
def on_air(liquidsoap_playout: Liquidsoap, settings: Any) -> Iterator[OnAir]:
    station = OnAir(liquidsoap_playout, settings)
    yield station
    if station.streamer is not None:
        station.streamer.connector.close()


def test_rows_of_a_streamed_program_and_of_a_diffusion_with_two_sounds(on_air: OnAir) -> None:
    studio = on_air.studio
    night = [on_air.sound(f"night-{number}.wav", STREAM_SECONDS) for number in (1, 2)]
    tracks = [studio.track(night[0], f"Track {at}", at) for at in (0, 3)]
    episode = studio.episode("Two Sounds")
    show = [on_air.sound(f"show-{n}.wav", seconds, episode) for n, seconds in enumerate(SHOW_SECONDS)]
    on_air.start()
    assert on_air.listen(WAIT_SECONDS, lambda: bool([row for row in studio.rows() if row.track == tracks[1]]))
    # Where the machine was slow, the second sound was on air at the first look.
    streamed, *track_rows = studio.rows()[-3:]
    assert (streamed.sound, streamed.source, streamed.diffusion) == (night[0], "radio_test_night", None)
    assert streamed.comment == studio.path("night-1.wav")
    assert [(row.track, row.date - streamed.date) for row in track_rows] == [
        (tracks[0], timedelta()),
        (tracks[1], timedelta(seconds=3)),
    ]

    diffusion = studio.diffusion(episode, timezone.now() + timedelta(seconds=1), minutes=1)
    assert on_air.listen(WAIT_SECONDS, lambda: bool(Log.objects.filter(sound=show[1])))
    (started,) = studio.rows(Log.TYPE_START)
    first, second = Log.objects.get(sound=show[0]), Log.objects.get(sound=show[1])
    assert (started.source, started.diffusion, started.sound) == ("dealer", diffusion, None)
    assert 0 <= (started.date - diffusion.start).total_seconds() < on_air.late_seconds
    assert {first.source, second.source} == {"dealer"}
    assert {first.diffusion, second.diffusion} <= {diffusion, None}
    assert second.diffusion == diffusion
    # The air time has lost its fraction, and may so lie before the push.
    assert -1 <= (first.date - started.date).total_seconds() < on_air.late_seconds
    assert abs((second.date - first.date).total_seconds() - SHOW_SECONDS[0]) <= 1
    assert not Log.objects.filter(track__sound__in=show).exists()

    ends_at = second.date + timedelta(seconds=SHOW_SECONDS[1])
    stream = on_air.streamer.sources[1]
    assert on_air.listen(WAIT_SECONDS, lambda: on_air.streamer.source is stream)
    assert abs((stream.air_time - ends_at).total_seconds()) <= 1
    # Its row may wait for the next piece: the same file as before the show is not written again.
    assert on_air.listen(WAIT_SECONDS, lambda: studio.rows()[-1].source == "radio_test_night")
    resumed = studio.rows()[-1]
    assert resumed.type == Log.TYPE_ON_AIR
    assert resumed.date >= ends_at - timedelta(seconds=1)
    assert studio.rows(Log.TYPE_STOP) == studio.rows(Log.TYPE_OTHER) == []


def test_a_file_that_the_database_does_not_know_floods_the_log(on_air: OnAir) -> None:
    on_air.sound("night.wav", STREAM_SECONDS)
    on_air.start()
    assert on_air.listen(WAIT_SECONDS, lambda: bool(on_air.studio.rows()))
    unknown = on_air.studio.path("unknown.wav")
    tone(Path(unknown), 6, 440)
    on_air.streamer.dealer.push(unknown)
    assert on_air.listen(WAIT_SECONDS, lambda: Log.objects.filter(comment=unknown).count() >= 4)
    rows = Log.objects.filter(comment=unknown)
    assert {(row.sound, row.source) for row in rows} == {(None, "dealer")}
    assert len({row.date for row in rows}) == 1


def test_a_live_guest_is_a_source_with_a_title_and_leaves_no_row(on_air: OnAir, tmp_path: Path) -> None:
    """A diffusion without a sound, spoken live into the harbor."""
    port = free_port()
    on_air.sound("night.wav", STREAM_SECONDS)
    on_air.port(Port.DIRECTION_INPUT, Port.TYPE_HTTP, f'"studio", port={port}, password="hackme"')
    on_air.studio.diffusion(on_air.studio.episode("Live"), timezone.now(), minutes=5)
    on_air.start()
    assert on_air.listen(WAIT_SECONDS, lambda: bool(on_air.studio.rows()))
    written = len(on_air.studio.rows())

    address = f"icecast://source:hackme@127.0.0.1:{port}/studio"
    words = ["-v", "error", "-re", "-f", "lavfi", "-i", "sine=300", "-ice_name", "The Studio", "-f", "mp3", address]
    guest = Child([parts.find("ffmpeg"), *words], folder=tmp_path, name="guest")
    try:
        source = on_air.streamer.sources[-1]
        assert on_air.listen(WAIT_SECONDS, lambda: on_air.streamer.source is source), guest.tail()
        assert (source.id, source.uri, source.request_status, source.title) == ("live", None, "playing", "The Studio")
        assert abs((timezone.now() - source.air_time).total_seconds()) < on_air.late_seconds + 1
        retitle(port, "On the phone")
        assert on_air.listen(WAIT_SECONDS, lambda: source.title == "On the phone")
    finally:
        guest.stop()
    assert on_air.listen(WAIT_SECONDS, lambda: source.request_status == "stopped")
    assert on_air.streamer.source is not source
    assert [row for row in on_air.studio.rows()[written:] if row.source == "live" or row.diffusion_id] == []
    assert Diffusion.objects.get().type == Diffusion.TYPE_ON_AIR


def retitle(port: int, title: str) -> None:
    """Nothing; the guest's encoder sends a new title, as Icecast's clients do."""
    query = f"mode=updinfo&mount=/studio&song={urllib.request.quote(title)}"  # type: ignore[attr-defined]
    request = (
        f"GET /admin/metadata?{query} HTTP/1.0\r\nAuthorization: Basic c291cmNlOmhhY2ttZQ==\r\n"
        "User-Agent: encoder\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS) as line:
        line.sendall(request.encode())
        assert b" 200 " in line.recv(1024)


def test_the_command_runs_liquidsoap_and_the_monitor(on_air: OnAir, child_environment: dict[str, str]) -> None:
    """`streamer -c -r -m` alone puts the station on air; its end takes Liquidsoap along."""
    sound = on_air.sound("night.wav", STREAM_SECONDS)
    on_air.studio.station.path = str(on_air.playout.folder / "station")
    on_air.studio.station.save()
    words = ("-m", "example_project", "streamer", "-c", "-r", "-m", "-d", "500", "-s", on_air.studio.station.name)
    environment = child_environment | {"EXAMPLE_STATION_DIR": str(on_air.playout.folder)}
    streamer = Child([sys.executable, *words], folder=on_air.playout.folder, name="streamer", environment=environment)
    socket_path = Path(on_air.studio.station.path) / "station.sock"
    try:
        streamer.wait_until(lambda: Log.objects.filter(station=on_air.studio.station).exists())
    finally:
        streamer.stop()
    (row,) = Log.objects.filter(station=on_air.studio.station)
    assert row.source == "radio_test_night"
    assert row.comment == on_air.studio.path("night.wav"), sound
    assert not answers(socket_path), streamer.tail()


def answers(path: Path) -> bool:
    """True when somebody listens on the socket."""
    with socket.socket(socket.AF_UNIX) as line:
        return line.connect_ex(str(path)) == 0
