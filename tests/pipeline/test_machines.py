"""Monitors and stream servers are no listeners, whichever way they are heard; players are."""

from __future__ import annotations

from typing import Any

import pytest

from aircox_listen_stats.models import Ruling, Session, Stream
from aircox_listen_stats.pipeline import labels, machines, recognise
from aircox_listen_stats.pipeline.ingest import store

from .conftest import SETTINGS, at, heard, poll

MONITORS = {
    "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)": "UptimeRobot",
    "Uptime-Kuma/1.23.16": "Uptime Kuma",
    "HetrixTools": "HetrixTools",
    "HetrixTools Uptime Monitoring Bot. https://hetrix.tools/uptime-monitoring-bot.html": "HetrixTools",
    "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)": "Pingdom",
    "Mozilla/5.0 (Windows NT 6.1) AppleWebKit/537.36 Chrome/98.0 Safari/537.36 (StatusCake)": "StatusCake",
    "Mozilla/5.0 (compatible; Site24x7)": "Site24x7",
    "Blackbox Exporter/0.24.0": "Blackbox Exporter",
    "Zabbix": "Zabbix",
    "check_http/v2.3.5 (monitoring-plugins 2.3.5)": "Nagios",
    "Better Uptime Bot Mozilla/5.0 (Windows NT 10.0; Win64; x64)": "Better Stack",
    "Mozilla/5.0 (compatible; updown.io daemon 2.11)": "updown.io",
    "GoogleStackdriverMonitoring-UptimeChecks(https://cloud.google.com/monitoring)": "Google Cloud Monitoring",
    "kube-probe/1.29": "Kubernetes",
    "aircox-listen-stats": "aircox-listen-stats",
}
SERVERS = {
    "Icecast 2.4.4": "Icecast",
    "Icecast 2.4.0-kh22": "Icecast",
    "Liquidsoap/2.1.3 (Unix; OCaml 4.13.1)": "Liquidsoap",
}
LISTENERS = [
    "VLC/3.0.20 LibVLC/3.0.20",
    "Lavf/59.27.100",
    "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
    "Winamp/5.66 (Linux; Sonos)",
    "curl/7.88.1",
    "My Icecast Player/3",
    "Icecast Radio",
    "-",
    "",
]


@pytest.mark.parametrize(("agent", "name"), MONITORS.items())
def test_a_monitor_is_a_monitor(agent: str, name: str) -> None:
    assert recognise.of_agent(agent)[1:] == ("monitor", f"monitor {name}")


@pytest.mark.parametrize(("agent", "name"), SERVERS.items())
def test_a_stream_server_is_a_relay(agent: str, name: str) -> None:
    assert recognise.of_agent(agent)[1:] == ("relay", f"server {name}")


@pytest.mark.parametrize("agent", LISTENERS)
def test_a_player_is_none_of_them(agent: str) -> None:
    assert machines.machine(agent) == ("", "")
    assert recognise.of_agent(agent)[1:] == ("", "")


def test_a_monitor_is_a_word_and_a_server_stands_first() -> None:
    for agent in ("Harmunin/5", "Supernagios/1.0", "Radio/1.0 Icecast 2.4.4", "Player (Liquidsoap/2.1.3)"):
        assert machines.machine(agent) == ("", ""), agent
    assert machines.machine("munin/5")[1] == "monitor Munin"


def test_no_player_of_the_table_is_a_machine_but_for_liquidsoap() -> None:
    found = {word for word, _ in recognise.PLAYERS if machines.machine(f"{word.removesuffix('/')}/1.0")[0]}
    assert found == {"liquidsoap"}


def test_a_crawler_stays_a_bot(settings: Any) -> None:
    assert recognise.of_agent("Googlebot/2.1")[1:] == ("bot", "crawlerdetect")


def test_the_stations_own_words_and_networks_go_first(settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "EXCLUDE": {"monitor_agents": ["Icecast 2.4.4"]}}
    assert recognise.of_agent("Icecast 2.4.4")[1:] == ("monitor", "agent Icecast 2.4.4")


def test_who_wants_none_recognised_has_none(settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "EXCLUDE": {"bots": False}}
    assert recognise.of_agent("Icecast 2.4.4")[1:] == recognise.of_agent("Zabbix")[1:] == ("", "")


@pytest.mark.django_db
def test_they_count_nowhere_and_can_be_counted_again(stream: Stream) -> None:
    agents = ["Icecast 2.4.4", "Blackbox Exporter/0.24.0", "Liquidsoap/2.1.3", "VLC/3.0.20"]
    store(poll(600, *(heard(number, 0, 600, agent=agent) for number, agent in enumerate(agents, 1))), now_ms=at(600))
    assert sorted(Session.objects.values_list("exclusion", "rule")) == [
        ("", ""),
        ("monitor", "monitor Blackbox Exporter"),
        ("relay", "server Icecast"),
        ("relay", "server Liquidsoap"),
    ]
    assert Session.objects.counted().count() == 1
    labels.make(Ruling(told_rule="server Liquidsoap", reason="The radio in the kitchen."), now_ms=at(700))
    assert sorted(Session.objects.counted().values_list("app", flat=True)) == ["Liquidsoap", "VLC"]
