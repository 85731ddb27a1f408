"""The demo, as a newcomer sees it: it opens by itself, its count moves, its producer finds her programs."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from example_project.demo.icecast import SILENT_FRAME, PretendIcecast
from example_project.demo.listeners import Audience, Show
from tests.parts.child import ROOT, Child, answers, free_port, private_folder, python_path

READY_SECONDS = 240.0
"""A year is imported and rebuilt before it opens; on a busy machine of two cores that takes a while."""
MOVES_SECONDS = 180.0
ANSWER_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The running demo."""

    child: Child
    address: str
    folder: Path  # where its database is


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    port = free_port()
    folder = private_folder("demo-station")
    child = Child(
        [sys.executable, "-m", "example_project", "demo"],
        folder=private_folder("demo"),
        name="demo",
        environment={
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "EXAMPLE_STATION_DIR": str(folder),
            "EXAMPLE_STATION_PORT": str(port),
            "EXAMPLE_STATION_ICECAST_PORT": str(free_port()),
            "PYTHONPATH": python_path(),
            "PYTHONUNBUFFERED": "1",
        },
        stop_signal=signal.SIGINT,
    )
    child.wait_until(lambda: "Ctrl-C closes" in child.log.read_text() and answers(port), seconds=READY_SECONDS)
    yield Demo(child=child, address=f"http://127.0.0.1:{port}", folder=folder)
    child.stop()


@pytest.mark.slow
def test_the_live_count_is_known_and_moves(demo: Demo) -> None:
    counts: set[int | None] = set()
    on_air: set[str] = set()
    deadline = time.monotonic() + MOVES_SECONDS
    while time.monotonic() < deadline:
        frame = httpx.get(f"{demo.address}/audience/live/radio-rivage.json", timeout=ANSWER_SECONDS).json()
        counts.add(frame["listeners"])
        if frame["on_air"] and frame["on_air"]["track"]:
            on_air.add(frame["on_air"]["program"])
        if len(counts - {None}) >= 3 and max(counts - {None}) > 20 and on_air:
            break
        time.sleep(0.5)
    assert len(counts - {None}) >= 3, counts
    assert max(counts - {None}) > 20
    assert on_air == {"Studio ouvert"}, "with a track"


@pytest.mark.slow
def test_the_producer_logs_in_and_sees_her_two_programs(demo: Demo) -> None:
    with httpx.Client(base_url=demo.address, follow_redirects=True, timeout=ANSWER_SECONDS) as visitor:
        page = visitor.get("/audience/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token
        page = visitor.post(
            str(page.url),
            data={
                "username": "producer",
                "password": "radio",
                "csrfmiddlewaretoken": token[1],
                "next": "/audience/",
            },
        )
        assert "La boîte à jazz" in page.text
        assert "Ondes courtes" in page.text
        assert "Petit matin" not in page.text
        program = re.search(r'href="(/audience/programs/\d+/)[^"]*"', page.text)
        assert program
        diffusions = re.findall(r'href="(/audience/diffusions/\d+/)', visitor.get(program[1]).text)
        assert len(diffusions) > 10
        assert "listened" in visitor.get(diffusions[0]).text


@pytest.mark.slow
def test_a_year_has_figures_with_countries_and_without_crawlers(demo: Demo) -> None:
    told = re.search(r"(\d+) lines read, (\d+) kept", demo.child.log.read_text())
    assert told
    assert int(told[2]) > 50_000
    assert int(told[1]) - int(told[2]) < 100
    with contextlib.closing(sqlite3.connect(demo.folder / "station.sqlite3")) as station:
        ask = "SELECT country, exclusion, COUNT(*) FROM aircox_listen_stats_session GROUP BY country, exclusion"
        counts = {(country, exclusion): count for country, exclusion, count in station.execute(ask)}
    assert counts["BE", ""] > counts["FR", ""] > counts["NL", ""] > 0
    assert ("", "") not in counts
    assert counts["BE", "bot"] > 0


@pytest.mark.slow
def test_ctrl_c_ends_everything_without_a_trace(demo: Demo) -> None:
    child = demo.child
    child.popen.send_signal(signal.SIGINT)
    assert child.popen.wait(ANSWER_SECONDS) == 0
    assert "Traceback" not in child.log.read_text()
    assert child.log.read_text().rstrip().endswith("Closed.")


def test_the_pretend_icecast_speaks_as_a_real_one() -> None:
    from aircox_listen_stats.sources.icecast import IcecastSource

    icecast = PretendIcecast(mounts=("/a.mp3", "/b.mp3"))
    icecast.start()
    try:
        source = IcecastSource(
            "pretend",
            {"/a.mp3": "a", "/b.mp3": "b"},
            {"url": f"http://127.0.0.1:{icecast.port}", "user": "admin", "password": icecast.password},
        )
        began = time.time()
        number = icecast.join("/a.mp3", "198.18.0.7", 'Ra"dio & <b>', at=began - 90)
        report = source.pull({}, now_ms=time.time_ns() // 1_000_000)
        [heard] = report.observations
        assert (heard.stream, heard.client) == ("a", str(number))
        # Whole seconds, counted when it answers: no later than it was asked by a busy machine.
        assert -2 - (time.time() - began) < heard.started_ms / 1000 - (began - 90) < 2
        icecast.leave(number)
        assert not source.pull(report.cursor or {}, now_ms=time.time_ns() // 1_000_000).observations
        source.close()
    finally:
        icecast.stop()


def test_whoever_opens_a_mount_is_a_listener_and_hears_silence() -> None:
    icecast = PretendIcecast(mounts=("/a.mp3",))
    icecast.start()
    try:
        with httpx.stream("GET", f"http://127.0.0.1:{icecast.port}/a.mp3", timeout=ANSWER_SECONDS) as answer:
            assert answer.headers["content-type"] == "audio/mpeg"
            first = next(answer.iter_raw())
            assert first.startswith(SILENT_FRAME[:4])
            assert [client.mount for client in icecast.on("/a.mp3")] == ["/a.mp3"]
        status = json.loads(httpx.get(f"http://127.0.0.1:{icecast.port}/status-json.xsl", timeout=ANSWER_SECONDS).text)
        assert status["icestats"]["source"]["dummy"] is None
    finally:
        icecast.stop()


@pytest.mark.real
def test_the_silence_is_sound(tmp_path: Path) -> None:
    from tools import parts

    sound = tmp_path / "silence.mp3"
    sound.write_bytes(SILENT_FRAME * 200)
    command = [parts.find("ffmpeg"), "-v", "error", "-i", str(sound), "-f", "s16le", "-"]
    played = subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
    assert len(played.stdout) > 44_100 * 2  # more than half a second, two bytes a sample
    assert not any(played.stdout)


def test_the_same_seed_is_the_same_town() -> None:
    show = Show(start=1_795_000_000.0, end=1_795_003_600.0, draw=40)
    once, again = (list(Audience(3, 200).of(show)) for _ in range(2))
    assert once == again
    assert len({heard.listener.ip for heard in once}) > 20
