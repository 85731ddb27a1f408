"""Secrets, marks and retention: what stays of an address, and for how long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from crawlerdetect import CrawlerDetect
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.kernel.types import Address
from aircox_listen_stats.models import Connection, Coverage, Lease, Secret, Session, Stream
from aircox_listen_stats.pipeline import countries, recognise, retention, secrets
from aircox_listen_stats.pipeline.ingest import store

from .conftest import HOUR, SETTINGS, T0, at, heard, poll, told

pytestmark = pytest.mark.django_db

DAY = 24 * HOUR
ROTATION = T0 + 17 * HOUR
"""04:00 in Brussels on the next day."""


def marked(agent: str = "", ip: str = "198.51.100.7", now_ms: int = T0) -> Any:
    return recognise.mark(Address(ip=ip, agent=agent), secrets.current(now_ms))


def test_a_secret_lasts_one_broadcast_day_and_the_one_before_is_still_tried(db: None) -> None:
    first = secrets.current(T0)
    assert first.previous is None
    assert secrets.current(ROTATION - 1).current == first.current
    second = secrets.current(ROTATION)
    assert second.current != first.current
    assert second.previous == first.current


def test_a_secret_older_than_the_period_before_is_destroyed(db: None) -> None:
    first = secrets.current(T0).current
    for days in (1, 2):
        secrets.current(T0 + days * DAY)
    assert first not in [bytes(row.value) for row in Secret.objects.all()]
    assert Secret.objects.count() == 2


def test_two_processes_agree_on_the_secret(db: None) -> None:
    one = secrets.current(T0)
    secrets.forget()
    assert secrets.current(T0).current == one.current


def test_another_secret_makes_another_key(db: None) -> None:
    assert marked().listener != marked(now_ms=ROTATION).listener
    assert marked(now_ms=ROTATION).previous == marked().listener


def test_neither_secret_nor_address_shows_in_a_repr(db: None) -> None:
    assert "hidden" in repr(secrets.current(T0))
    assert "198.51" not in repr(Address(ip="198.51.100.7", agent="x"))


@pytest.mark.parametrize(
    ("agent", "app", "exclusion"),
    [
        ("VLC/3.0.20 LibVLC/3.0.20", "VLC", ""),
        ("WinampMPEG/5.0", "Winamp", ""),
        ("Winamp/5.6 (Sonos)", "Sonos", ""),
        ("Lavf/59.27.100", "FFmpeg", ""),
        ("curl/8.1.2", "curl", ""),
        ("iTunes/12.9 (Macintosh)", "iTunes", ""),
        ("AppleCoreMedia/1.0.0.19H12 (iPhone; U; CPU OS 15_7 like Mac OS X; fr_be)", "AppleCoreMedia", ""),
        ("TuneIn Radio/27.4; iPhone14,2; iOS/17", "TuneIn", ""),
        ("RadioDroid2/0.86", "RadioDroid", ""),
        ("foobar2000/1.6.16", "foobar2000", ""),
        ("mpv 0.40.0", "mpv", ""),
        ("Music Player Daemon 0.23.12", "MPD", ""),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", "Firefox", ""),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
            "Chrome",
            "",
        ),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot", "bot"),
        ("python-requests/2.32", "", "bot"),
        ("SemrushBot/7", "", "bot"),
        ("My Own Radio/1.0", "", ""),
        ("", "", ""),
    ],
)  # fmt: skip
def test_apps_and_crawlers_by_their_agent(db: None, agent: str, app: str, exclusion: str) -> None:
    found = marked(agent)
    assert (found.app, found.exclusion) == (app, exclusion)
    assert found.rule == ("crawlerdetect" if exclusion else "")


def test_a_player_is_a_listener_though_a_web_site_would_call_it_a_crawler() -> None:
    for agent in ("VLC/3.0.20 LibVLC/3.0.20", "Lavf/59.27.100", "okhttp/4.9", "Wget/1.21"):
        assert CrawlerDetect().isCrawler(agent), f"{agent} proves nothing any more"
        assert not recognise.is_crawler(agent)


def test_bots_may_be_counted(db: None, settings: Any) -> None:
    assert marked("python-requests/2.32").exclusion == "bot"
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "EXCLUDE": {"bots": False}}
    assert marked("python-requests/2.32").exclusion == ""


def test_staff_relays_and_monitors_are_labelled_with_their_rule(db: None, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {
        **SETTINGS,
        "EXCLUDE": {
            "staff_networks": ["192.0.2.0/25"],
            "relay_networks": ["203.0.113.5"],
            "monitor_agents": ["OurProbe"],
        },
    }
    assert (marked("VLC", "192.0.2.9").exclusion, marked("VLC", "192.0.2.200").exclusion) == ("staff", "")
    assert marked("VLC", "203.0.113.5").exclusion == "relay"
    probe = marked("OurProbe/1")
    assert (probe.exclusion, probe.rule) == ("monitor", "agent OurProbe")
    assert "192.0.2" not in marked("VLC", "192.0.2.9").rule


def country_file(path: Path, record: dict[str, Any]) -> str:
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="Test-Country")
    writer.insert_network(IPSet(["198.51.100.0/24"]), record)
    writer.to_db_file(str(path))
    return str(path)


@pytest.mark.parametrize("record", [{"country": {"iso_code": "BE"}}, {"country_code": "BE"}])
def test_the_country_comes_from_any_mmdb_file(db: None, settings: Any, tmp_path: Path, record: dict[str, Any]) -> None:
    path = country_file(tmp_path / "country.mmdb", record)
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "COUNTRY_DATABASE": path}
    assert marked("VLC").country == "BE"
    assert marked("VLC", "::ffff:198.51.100.7").country == "BE"
    assert marked("VLC", "203.0.113.1").country == ""
    assert marked("VLC", "not an address").country == ""
    reader = countries.reader(path)
    assert reader is not None
    reader.close()


def test_without_a_country_file_or_with_a_broken_one_countries_are_empty(
    db: None, settings: Any, tmp_path: Path
) -> None:
    assert marked("VLC").country == ""
    broken = tmp_path / "broken.mmdb"
    broken.write_bytes(b"no database")
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "COUNTRY_DATABASE": str(broken)}
    assert marked("VLC").country == ""


def test_what_is_remembered_of_a_listener_holds_no_address(db: None) -> None:
    marked("A very special agent 77", "198.51.100.7")
    remembered = repr(recognise._marks._kept)
    assert "198.51" not in remembered
    assert "special" not in remembered


# Retention ----------------------------------------------------------------------------


def test_sockets_go_after_two_days_and_their_sessions_stay(stream: Stream) -> None:
    store(told(heard(1, 0, 100, ended=True)), now_ms=at(100))
    done = retention.prune(now_ms=T0 + 3 * DAY)
    assert (done.connections, done.sessions) == (1, 0)
    assert Session.objects.count() == 1
    # What comes later from the same listener does not touch the session that is settled.
    store(told(heard(2, 3 * 86400, 3 * 86400 + 50, ended=True, who=1)), now_ms=T0 + 3 * DAY + HOUR)
    assert Session.objects.count() == 2


def test_an_old_socket_stays_while_its_session_goes_on(stream: Stream, fixed_secrets: None) -> None:
    store(told(heard(1, 0, 100, ended=True, who=1), heard(2, 200, 200, who=1)), now_ms=at(200))
    store(told(heard(2, 200, 2.5 * 86400, who=1)), now_ms=T0 + round(2.5 * DAY))
    assert retention.prune(now_ms=T0 + round(2.5 * DAY)).connections == 0
    assert Connection.objects.count() == 2


def test_sockets_of_a_source_that_fell_silent_end_at_their_last_sighting(stream: Stream) -> None:
    store(poll(60, heard(1, 0, 60)), now_ms=at(60))
    assert retention.prune(now_ms=T0 + 3 * DAY).lapsed == 1
    session = Session.objects.get()
    assert (session.is_open, to_ms(session.ended)) == (False, at(60))


def test_sessions_go_after_their_time_and_coverage_stays(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "KEEP_SESSIONS_DAYS": 10}
    store(poll(15, heard(1, 0, 15)), now_ms=at(15))
    store(told(heard(1, 0, 20, ended=True)), now_ms=at(20))
    assert retention.prune(now_ms=T0 + 9 * DAY).sessions == 0
    assert retention.prune(now_ms=T0 + 11 * DAY, dry_run=True).sessions == 1
    assert Session.objects.count() == 1
    assert retention.prune(now_ms=T0 + 11 * DAY).sessions == 1
    assert Coverage.objects.count() == 1
    assert to_ms(Lease.objects.get(pk=retention.HORIZON).expires) == T0 + 1 * DAY


def test_secrets_of_past_periods_go_though_nothing_is_heard(db: None) -> None:
    secrets.current(T0)
    assert retention.prune(now_ms=T0 + 5 * DAY).secrets == 1
    assert not Secret.objects.exists()


# Maintained lists ----------------------------------------------------------------------------------------


def lists(folder: Path, settings: Any) -> None:
    """A station with its own copies of the lists."""
    bots = {"entries": [{"name": "Radio Prober", "pattern": "^RadioProber/"}, {"name": "VLC", "pattern": "VLC"}]}
    apps = {"entries": [{"name": "Village Radio", "pattern": "^VillageRadio/"}]}
    (folder / "bots.runtime.json").write_text(json.dumps(bots))
    (folder / "apps.runtime.json").write_text(json.dumps(apps))
    (folder / "bigcloud.txt").write_text("192.0.2.0/24\n")
    settings.AIRCOX_LISTEN_STATS = {
        **SETTINGS,
        "EXCLUDE": {
            "agent_lists": [str(folder / "bots.runtime.json"), str(folder / "apps.runtime.json")],
            "cloud_lists": [str(folder / "bigcloud.txt")],
        },
    }
    recognise.forget()


def test_lists_name_apps_bots_and_clouds_with_the_rule_that_matched(db: None, settings: Any, tmp_path: Path) -> None:
    lists(tmp_path, settings)
    assert [(one.app, one.exclusion, one.rule) for one in map(marked, ("VillageRadio/2", "RadioProber/1"))] == [
        ("Village Radio", "", ""),
        ("", "bot", "list Radio Prober"),
    ]
    assert marked("VLC/3").exclusion == "", "our own table of players goes first"
    cloud = marked("VillageRadio/2", "192.0.2.7")
    assert (cloud.exclusion, cloud.rule) == ("cloud", "cloud bigcloud")
    assert marked("RadioProber/1", "192.0.2.7").rule == "list Radio Prober", "what it is says more than where"


def test_lists_that_cannot_be_read_leave_the_others(
    db: None, settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lists(tmp_path, settings)
    (tmp_path / "bots.runtime.json").write_text("<html>")
    (tmp_path / "bigcloud.txt").unlink()
    recognise.forget()
    assert marked("VillageRadio/2", "192.0.2.7").app == "Village Radio"
    assert marked("RadioProber/1", "192.0.2.7").exclusion == ""
    assert "agent_lists" in caplog.text
    assert "cloud_lists" in caplog.text
    assert str(tmp_path) not in caplog.text


@pytest.mark.parametrize(
    ("agent", "app"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox"),
        ("Mozilla/5.0 (Someone's-Secret-iPhone/1.0 CFNetwork", "Apple app"),
        ("Mozilla/5.0 (compatible; MrsMillersBot/2.1)", ""),
        ("Mozilla/5.0 my-private-crawler-of-john 1.0", ""),
    ],
)
def test_an_app_is_a_name_that_a_list_spells_out_and_no_piece_of_an_agent(db: None, agent: str, app: str) -> None:
    assert marked(agent).app == app


def test_a_relay_of_one_stream_may_listen_to_another(db: None, settings: Any) -> None:
    both = {slug: {"source": "ice", "station": 1} for slug in ("live", "low")}
    both["live"]["relays"] = ["203.0.113.8"]
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "STREAMS": both, "EXCLUDE": {"relay_networks": ["203.0.113.9"]}}
    recognise.forget()
    known = secrets.Secrets(current=b"s" * 32)

    def label(ip: str, stream: str) -> tuple[str, str]:
        mark = recognise.mark(Address(ip=ip, agent="Lavf/59.27.100"), known, stream)
        return mark.exclusion, mark.rule

    for _ in range(2):  # remembered, too
        assert label("203.0.113.8", "live") == ("relay", "stream's relay network 1")
        assert label("203.0.113.8", "low") == ("", "")
        assert label("203.0.113.9", "live") == label("203.0.113.9", "low") == ("relay", "relay network 1")
