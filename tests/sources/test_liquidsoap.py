"""Liquidsoap that serves listeners itself: a log whose first field is a hash, and one that the script writes."""

from __future__ import annotations

import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from aircox_listen_stats.models import Connection, Session, SourceState, Stream
from aircox_listen_stats.pipeline import ingest, recognise, secrets
from aircox_listen_stats.sources.accesslog import AccessLogSource, parse_line
from tests.parts.child import ROOT, free_port
from tests.parts.liquidsoap import Liquidsoap
from tests.sources.test_hls import record

NOW_MS = 1_795_313_500_000
HASH = "8c2f0e7a1d4b9f36"
DIGITS = "3221225985"
"""A hash of digits alone. As a number it is 192.0.2.1."""

JOIN_SECONDS = 60.0


def line(who: str, *, seconds: int = 115, stamp: str = "22/Nov/2026:02:07:31 +0000", agent: str = "VLC/3.0.20") -> str:
    return f'{who} - - [{stamp}] "GET /live HTTP/1.1" 200 1843200 "-" "{agent}" {seconds}\n'


@pytest.fixture
def station(db: None, settings: Any, tmp_path: Path) -> Path:
    """A station with a country for every address, whose networks are all staff; where its log is."""
    countries = MMDBWriter(ip_version=6, ipv4_compatible=True)
    countries.insert_network(IPSet(["0.0.0.0/0"]), {"country": {"iso_code": "BE"}})
    countries.to_db_file(str(tmp_path / "countries.mmdb"))
    log = tmp_path / "access.log"
    settings.AIRCOX_LISTEN_STATS = {
        "SOURCES": {"log": {"backend": "accesslog", "path": str(log)}},
        "STREAMS": {"live": {"source": "log", "station": 1, "mount": "/live"}},
        "EXCLUDE": {"staff_networks": ["0.0.0.0/0", "::/0"]},
        "COUNTRY_DATABASE": str(tmp_path / "countries.mmdb"),
        "TRUSTED_PROXIES": ["0.0.0.0/0", "::/0"],
        "RULE_SET": "all",
    }
    secrets.forget()
    recognise.forget()
    Stream.objects.create(slug="live", station_id=1, source="log")
    return log


def hear(log: Path) -> None:
    """Follows the log once and stores what it tells, as the collector does."""
    source = AccessLogSource(
        "log", {"/live": "live"}, {"path": str(log), "start_at": "beginning"}, trusted_proxies=["0.0.0.0/0", "::/0"]
    )
    ingest.store(source.pull({}, now_ms=NOW_MS), now_ms=NOW_MS)


@pytest.mark.parametrize("who", [HASH, DIGITS, "0xc0000201", "030000001001", "AbCd+/0123456789=="])
def test_a_hash_is_somebody_without_country_network_or_proxy(station: Path, who: str) -> None:
    station.write_text(line(who) + line("198.51.100.7", stamp="22/Nov/2026:02:07:32 +0000"))
    hear(station)
    hashed, plain = Connection.objects.order_by("seen")
    assert (plain.country, plain.exclusion, plain.identity_known) == ("BE", "staff", False)
    assert (hashed.country, hashed.exclusion, hashed.identity_known, hashed.app) == ("", "", True, "VLC")
    assert hashed.listener != plain.listener
    kept = repr([list(model.objects.values()) for model in (Session, Connection, SourceState)])
    assert who not in kept


def test_one_hash_is_one_listener_and_with_another_player_another(station: Path) -> None:
    station.write_text(
        line(HASH, stamp="22/Nov/2026:02:00:00 +0000")
        + line(HASH, stamp="22/Nov/2026:02:03:00 +0000")
        + line(HASH, agent="Sonos/1", stamp="22/Nov/2026:02:04:00 +0000")
        + line(HASH.replace("8", "9"), stamp="22/Nov/2026:02:05:00 +0000")
    )
    hear(station)
    assert Session.objects.count() == len(set(Session.objects.values_list("listener", flat=True))) == 3


def test_a_line_with_a_hash_is_read_like_any_other() -> None:
    said = parse_line(line(HASH).encode())
    assert (said.address.ip, said.path, said.bytes_sent, said.duration_s) == (HASH, "/live", 1843200, 115)
    assert HASH not in repr(said)


def test_a_hash_in_nginx_s_log_is_never_looked_for_behind_a_proxy(tmp_path: Path) -> None:
    """nginx can write one too, for instance by a ``map`` or the ipscrub module."""
    from aircox_listen_stats.sources.hls import HlsSource

    path = tmp_path / "hls.log"
    path.write_bytes(record(remote_addr=DIGITS, xff="198.51.100.9") + b"\n")
    source = HlsSource(
        "hls",
        {"/hls/live.m3u8": "live"},
        {"path": str(path), "start_at": "beginning", "target_seconds": 3},
        trusted_proxies=["0.0.0.0/0"],
    )
    (one,) = source.pull({}, now_ms=NOW_MS).observations
    assert one.address is not None
    assert (one.address.ip, one.identity_known) == (DIGITS, True)


# The log that a script writes -----------------------------------------------------------------------


def documented(holds: str) -> str:
    """The snippet of docs/sources/liquidsoap.md that holds a word."""
    found = re.findall(r"^```liquidsoap\n(.*?)^```$", (ROOT / "docs/sources/liquidsoap.md").read_text(), re.M | re.S)
    (snippet,) = (one for one in found if holds in one)
    return snippet


def listen(port: int, seconds: float, agent: str) -> tuple[float, float]:
    """Joins as a player does, reads, leaves; when it joined and when it left."""
    deadline = time.monotonic() + JOIN_SECONDS
    while True:
        try:
            player = socket.create_connection(("127.0.0.1", port), timeout=JOIN_SECONDS)
            break
        except OSError:
            assert time.monotonic() < deadline, "Liquidsoap's harbor does not answer"
            time.sleep(0.1)
    with player:
        began = time.time()
        request = f"GET /live.mp3?token=tr0ub4dor HTTP/1.1\r\nHost: localhost\r\nUSER-agent: {agent}\r\n\r\n"
        player.sendall(request.encode("latin-1"))
        while time.time() < began + seconds:
            assert player.recv(65536), "Liquidsoap hung up"
        return began, time.time()


@pytest.mark.real
def test_the_documented_script_writes_a_log_of_who_listened(liquidsoap_playout: Liquidsoap) -> None:
    port = free_port()
    log = liquidsoap_playout.folder / "access.log"
    script = documented("output.harbor(")
    for told, ours in (("/var/log/liquidsoap/access.log", str(log)), ("port=8000", f"port={port}")):
        assert told in script
        script = script.replace(told, ours)
    liquidsoap_playout.start("radio = sine(440.)\n" + script)
    agents = {"VLC/3.0.20 LibVLC/3.0.20": 4.2, 'odd "player" \\ 1': 2.3, "Sonos/85.0": 3.1}
    truth: dict[str, tuple[float, float]] = {}

    def play(agent: str, seconds: float) -> None:
        truth[agent] = listen(port, seconds, agent)

    players = [threading.Thread(target=play, args=one) for one in agents.items()]
    for one in players:
        one.start()
    for one in players:
        one.join(60)
    deadline = time.monotonic() + JOIN_SECONDS
    while not log.exists() or log.read_bytes().count(b"\n") < len(agents):
        assert liquidsoap_playout.is_running, liquidsoap_playout.output()
        assert time.monotonic() < deadline, liquidsoap_playout.output()
        time.sleep(0.1)
    text = log.read_text()
    assert "tr0ub4dor" not in text
    source = AccessLogSource("log", {"/live.mp3": "live"}, {"path": str(log), "start_at": "beginning"})
    report = source.pull({}, now_ms=time.time_ns() // 1_000_000)
    assert report.counts == {"read": len(agents), "kept": len(agents)}
    told = {re.sub(r"[^A-Za-z]", "", one.address.agent): one for one in report.observations if one.address}
    for agent, (began, left) in truth.items():
        one = told[re.sub(r"[^A-Za-z]", "", agent)]
        assert one.address is not None
        assert one.address.ip == "127.0.0.1"
        # Whole seconds; the end is noticed at the next write.
        assert -1.5 <= one.started_ms / 1000 - began <= 1.0, agent
        assert -1.0 <= one.seen_ms / 1000 - left <= 3.0, agent
