"""The commands and the checks: what they say, what they change, and what they keep to themselves."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from typing import Any

import pytest
from aircox.models import Station
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connection

from aircox_listen_stats import checks, doctor
from aircox_listen_stats.doctor import Grade
from aircox_listen_stats.fields import from_ms
from aircox_listen_stats.models import (
    Audience,
    Connection,
    Coverage,
    Lease,
    MonitorWatch,
    Session,
    SourceState,
    StaleWindow,
    Stream,
)
from aircox_listen_stats.pipeline.ingest import store

from .conftest import SETTINGS, T0, at, heard, told
from .test_rollup import airing, session

pytestmark = pytest.mark.django_db

STATS = b"""<icestats><server_start_iso8601>2026-11-22T09:00:00+0000</server_start_iso8601>
<source mount="/live.mp3"><listeners>6</listeners></source></icestats>"""
CLIENTS = (
    b'<icestats><source mount="/live.mp3"><Listeners>6</Listeners>'
    + b"".join(
        b"<listener><IP>198.51.100.7</IP><UserAgent>VLC/3</UserAgent><Connected>%d</Connected><ID>%d</ID></listener>"
        % (number, number)
        for number in range(1, 7)
    )
    + b"</source></icestats>"
)


class Admin(BaseHTTPRequestHandler):
    """Icecast's two admin pages; everybody sits behind one address."""

    clock_ahead_seconds = 0

    def do_GET(self) -> None:
        body = CLIENTS if self.path.startswith("/admin/listclients") else STATS
        self.send_response_only(200)
        self.send_header("Date", self.date_time_string(time.time() + self.clock_ahead_seconds))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def admin(settings: Any) -> Iterator[type[Admin]]:
    """The settings' Icecast answers."""
    handler = type("OneAdmin", (Admin,), {})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    settings.AIRCOX_LISTEN_STATS = {
        **SETTINGS,
        "SOURCES": {"ice": {"backend": "icecast", "url": url, "user": "admin", "password": "hush"}},
        "STREAMS": {"live": {"source": "ice", "mount": "/live.mp3"}},
    }
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def campus(db: None) -> Station:
    return Station.objects.create(name="Campus", slug="campus", default=True, active=True)


def ids() -> set[str]:
    return {str(one.id) for one in run_checks(tags=[checks.TAG])}


def examined(now_ms: int) -> dict[str, list[doctor.Finding]]:
    found: dict[str, list[doctor.Finding]] = {}
    for one in doctor.examine(now_ms=now_ms):
        found.setdefault(one.subject, []).append(one)
    return found


# Checks ---------------------------------------------------------------------------------


def test_valid_settings_pass(settings: Any) -> None:
    assert ids() & {"listen_stats.E001", "listen_stats.E002", "listen_stats.E005"} == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"STREEMS": {}}, "E001"),
        ({"SOURCES": {"ice": {"backend": "icecast", "speed": 3}}}, "E001"),
        ({"SOURCES": {"ice": {"backend": "icecasst"}}}, "E001"),
        ({"STREAMS": {"a": {"source": "ice", "mount": "/m"}, "b": {"source": "ice", "mount": "/m"}}}, "E005"),
        ({"TIME_ZONE": "UTC"}, "W007"),
        ({"SOURCES": {"ice": {**SETTINGS["SOURCES"]["ice"], "poll_seconds": 45}}}, "W008"),
        ({"COUNTRY_DATABASE": "/nowhere/country.mmdb"}, "W009"),
    ],
)
def test_each_mistake_in_our_settings_has_its_id(settings: Any, change: dict[str, Any], expected: str) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, **change}
    assert f"listen_stats.{expected}" in ids()


def pubsub(host: Any) -> dict[str, Any]:
    layer = {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [host]}}
    return {"CHANNEL_LAYERS": {"default": layer}}


@pytest.mark.parametrize(
    ("change", "expected", "is_expected"),
    [
        ({"USE_TZ": False}, "E002", True),
        ({"ASGI_APPLICATION": None}, "W001", True),
        ({"DEBUG": False, "CHANNEL_LAYERS": {"default": {"BACKEND": checks.IN_PROCESS_LAYER}}}, "W002", True),
        ({"DEBUG": True, "CHANNEL_LAYERS": {"default": {"BACKEND": checks.IN_PROCESS_LAYER}}}, "W002", False),
        (pubsub("redis://localhost"), "W005", True),
        (pubsub({"address": "redis://localhost", "socket_timeout": None}), "W005", False),
        ({"DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": None}}}, "W004", True),
        ({"DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": 60}}}, "W004", False),
    ],
)  # fmt: skip
def test_each_mistake_in_the_projects_settings_has_its_id(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], expected: str, is_expected: bool
) -> None:
    from django.conf import settings as real

    for name, value in change.items():
        monkeypatch.setattr(real, name, value)  # no signal: the connections stay as they are
    assert (f"listen_stats.{expected}" in ids()) is is_expected


FIRST = checks.CALLBACKS_FIRST
OTHER = "django.middleware.security.SecurityMiddleware"


@pytest.mark.parametrize(
    ("middleware", "tokens", "is_expected"),
    [
        ([OTHER], {"ice": "a-long-word"}, True),
        ([OTHER, FIRST], {"ice": "a-long-word"}, True),
        ([], {"ice": "a-long-word"}, True),
        ([FIRST, OTHER], {"ice": "a-long-word"}, False),
        ([OTHER], {}, False),
    ],
)
def test_callbacks_behind_another_middleware_are_warned_of(
    settings: Any, middleware: list[str], tokens: dict[str, str], is_expected: bool
) -> None:
    settings.MIDDLEWARE = middleware
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "CALLBACK_TOKENS": tokens}
    found = [one for one in run_checks(tags=[checks.TAG]) if one.id == "listen_stats.W010"]
    assert bool(found) is is_expected
    assert all(FIRST in str(one.hint) and "a-long-word" not in str(one) for one in found)


def test_a_check_asks_no_network_unless_it_is_told_to_deploy(settings: Any) -> None:
    assert "listen_stats.W006" not in ids()
    found = run_checks(tags=[checks.TAG], include_deployment_checks=True)
    [unreachable] = [one for one in found if one.id == "listen_stats.W006"]
    assert "nothing is known of live" in unreachable.msg


def test_a_stream_of_an_unknown_station_and_one_that_nobody_owns(settings: Any, campus: Station) -> None:
    def database_ids() -> set[str]:
        return {str(one.id) for one in checks.check_stations(databases=["default"])}

    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "STREAMS": {"live": {"source": "ice", "station": "campuss"}}}
    assert database_ids() == {"listen_stats.E006"}
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "STREAMS": {"live": {"source": "ice"}}}
    assert database_ids() == set()


# Doctor -----------------------------------------------------------------------------------


def test_the_doctor_finds_nothing_broken_in_a_station_that_is_well(
    admin: type[Admin], campus: Station, settings: Any
) -> None:
    settings.AIRCOX_LISTEN_STATS = {**settings.AIRCOX_LISTEN_STATS, "MONITOR_HOOK": True}
    now_ms = round(time.time() * 1000)
    stream = Stream.objects.create(slug="live", station_id=campus.pk, source="ice")
    Coverage.objects.create(stream=stream, started=from_ms(now_ms - 90_000_000), ended=from_ms(now_ms))
    Lease.objects.create(name="collector", holder="x", expires=from_ms(now_ms + 9000), heartbeat=from_ms(now_ms))
    MonitorWatch.objects.create(station_id=campus.pk, started=from_ms(now_ms - 5000), seen=from_ms(now_ms))
    found = [one for some in examined(now_ms).values() for one in some]
    assert [one for one in found if one.grade is Grade.ERROR] == []
    text = "\n".join(f"{one.subject}: {one.text}" for one in found)
    assert "answers; 6 sockets" in text
    assert "one address" not in text  # six are too few
    assert "its clock agrees" in text
    assert "observed for 100.0%" in text


def test_the_doctor_says_what_is_broken_and_shows_no_secret(campus: Station, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {
        **SETTINGS,
        "CALLBACK_TOKENS": {"ice": "a-token-of-the-callback"},
        "STREAMS": {"live": {"source": "ice"}},
    }
    SourceState.objects.create(source="ice", failures=3, error="Source 'ice': Icecast does not answer (ConnectError).")
    out = StringIO()
    with pytest.raises(CommandError, match="broken"):
        call_command("listen_stats_doctor", stdout=out)
    told_all = out.getvalue()
    assert "collector: is not running (has never run): nobody is counted." in told_all
    assert "Icecast does not answer" in told_all
    assert "failed 3 times in a row" in told_all
    for secret in ("127.0.0.1", "a-token", "hush", str(connection.settings_dict["NAME"])):
        assert secret not in told_all


@pytest.mark.parametrize(("seconds", "told"), [(30, "ahead of ours"), (-30, "behind ours")])
def test_the_doctor_measures_icecasts_clock(admin: type[Admin], campus: Station, seconds: int, told: str) -> None:
    admin.clock_ahead_seconds = seconds
    [finding] = [one for one in examined(round(time.time() * 1000))["source ice"] if "clock" in one.text]
    assert finding.grade is Grade.ERROR
    assert told in finding.text


@pytest.mark.parametrize(("ours_ms", "told"), [(-30_000, "ahead of ours"), (30_000, "behind ours"), (0, "")])
def test_the_doctor_measures_the_databases_clock(monkeypatch: pytest.MonkeyPatch, ours_ms: int, told: str) -> None:
    """SQLite has none."""
    monkeypatch.setattr(doctor, "_now_ms", lambda: time.time_ns() // 1_000_000 + ours_ms)
    found = [one.text for one in doctor._database() if "clock" in one.text]
    if connection.vendor == "postgresql" and told:
        assert [told in one for one in found] == [True]
    else:
        assert found == []


@pytest.mark.parametrize(
    ("first_ms", "last_ms", "apart_ms"),
    [
        (10_000, 10_000, 0),
        (15_000, 15_000, 0),
        (20_000, 20_000, 0),
        (23_000, 23_000, 3_000),
        (6_000, 6_000, -4_000),
        (20_500, 21_500, 500),
        (8_000, 9_000, -1_000),
        (9_500, 10_500, 0),
    ],
)
def test_an_answer_that_takes_ten_seconds_is_no_clocks_fault(
    monkeypatch: pytest.MonkeyPatch, first_ms: int, last_ms: int, apart_ms: int
) -> None:
    """Asked at 10 s, answered at 20 s: the clock was read at any moment between."""
    monkeypatch.setattr(doctor, "_now_ms", lambda: 20_000)
    assert doctor._apart(first_ms, last_ms, 10_000) == apart_ms


def test_the_doctor_tells_holes_in_what_was_observed(campus: Station) -> None:
    stream = Stream.objects.create(slug="live", station_id=campus.pk, source="ice")
    for start, end in ((0, 3600), (7200, 10_800)):
        Coverage.objects.create(stream=stream, started=from_ms(at(start)), ended=from_ms(at(end)))
    [finding] = [one for one in examined(at(10_800))["stream live"] if "observed" in one.text]
    assert (finding.grade, "66.7%" in finding.text, "1 hole." in finding.text) == (Grade.WARNING, True, True)


def test_the_doctor_stops_at_invalid_settings(settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {"NONSENSE": 1}
    [(subject, [finding])] = [(key, some) for key, some in examined(T0).items() if some[0].grade is Grade.ERROR]
    assert subject == "check listen_stats.E001"
    assert "NONSENSE" in finding.text


# Rebuild, prune, collect --------------------------------------------------------------------


def test_rebuild_derives_everything_again_and_twice_is_once(stream: Stream, campus: Station) -> None:
    Stream.objects.update(station_id=campus.pk)
    store(told(heard(1, 0, 600, ended=True), heard(2, 60, 600, ended=True)), now_ms=at(700))
    Session.objects.filter(started=from_ms(at(0))).update(ended=from_ms(at(5)), played_ms=5000)
    out = StringIO()
    call_command("listen_stats_rebuild", "--from", "2026-11-22", "--to", "2026-11-23", stdout=out, stderr=StringIO())
    assert "1 sessions" in out.getvalue()
    assert Session.objects.get(started=from_ms(at(0))).played_ms == 600_000
    call_command("listen_stats_rebuild", "--from", "2026-11-22", "--to", "2026-11-23", stdout=out, stderr=StringIO())
    assert "0 sessions and 0 audiences" in out.getvalue()


def test_what_waited_in_a_rebuilt_window_waits_no_longer(stream: Stream, campus: Station) -> None:
    Stream.objects.update(station_id=campus.pk)
    day = 86_400
    store(told(heard(1, -day, 600 - day, ended=True)), now_ms=at(700 - day))
    other = StaleWindow.objects.create(
        station_id=campus.pk, kind=StaleWindow.AUDIENCE, started=from_ms(at(-3 * day)), ended=from_ms(at(-2 * day))
    )
    assert StaleWindow.objects.exclude(pk=other.pk).exists()
    call_command("listen_stats_rebuild", "--from", "2026-11-21", "--to", "2026-11-22", verbosity=0)
    assert list(StaleWindow.objects.all()) == [other]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--from", "yesterday"], "expected a day"),
        (["--from", "2026-11-22", "--to", "2026-11-21"], "not later"),
        (["--from", "2026-11-22", "--station", "campuss"], "Unknown station 'campuss'. Known: campus"),
    ],
)
def test_rebuild_refuses_what_makes_no_sense(campus: Station, words: list[str], sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("listen_stats_rebuild", *words, verbosity=0)


def test_prune_counts_first_and_deletes_then(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "KEEP_SESSIONS_DAYS": 1}
    session(stream, -40 * 86_400 * 365, -40 * 86_400 * 365 + 60)
    airing(0, 60)
    out = StringIO()
    call_command("listen_stats_prune", "--dry-run", stdout=out)
    assert "1  would go: sessions" in out.getvalue()
    assert Session.objects.count() == 1
    call_command("listen_stats_prune", stdout=out)
    assert Session.objects.count() == 0
    assert not Audience.objects.exists()


def test_collect_without_sources_says_what_to_do(settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {}
    with pytest.raises(CommandError, match="nothing to hear"):
        call_command("listen_stats_collect")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("word", [signal.SIGTERM, signal.SIGINT])
def test_collect_ends_cleanly_when_it_is_told_to(child_environment: dict[str, str], word: signal.Signals) -> None:
    connection.close()
    script = (
        "import sys, django; django.setup()\n"
        "from django.conf import settings\n"
        "from django.core.management import call_command\n"
        "from aircox_listen_stats import conf\n"
        "from tests.pipeline.conftest import SETTINGS\n"
        "settings.AIRCOX_LISTEN_STATS = SETTINGS; conf.forget(setting=conf.NAME)\n"
        "call_command('listen_stats_collect')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env=child_environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not Lease.objects.filter(pk="collector").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.1)
    process.send_signal(word)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    assert "is active" in log
    assert "has stopped" in log
    lease = Lease.objects.get(pk="collector")
    assert lease.expires <= from_ms(round(time.time() * 1000))
    assert not Connection.objects.exists()
