"""What an agent is taken for, held against the library's own word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import maxminddb
import pytest
from crawlerdetect import CrawlerDetect
from crawlerdetect.providers import crawlers, exclusions
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from aircox_listen_stats.pipeline import recognise


def spelled(pattern: str) -> str:
    """The pattern's own words as an agent: what it describes is mostly itself."""
    return re.sub(r"\\(.)", r"\1", re.sub(r"\[[^]]*\][*+?]?|\([^()]*\)\??|[\^$*+?]", "", pattern))


AGENTS = sorted(
    {
        *(form.format(spelled(one)) for one in crawlers.data for form in ("{}", "Mozilla/5.0 (compatible; {}/1.0)")),
        *(spelled(one) for one in exclusions.data),
        *(
            "YandexSearch/8.0",
            "Yandex/1.0",
            "YANDEXBOT",
            "Récepteur «3»/4.5\x01ÿ",
            "Radio Station 3 App/93.1",
            "a" * 500,
        ),
    }
)


def test_every_agent_is_the_crawler_that_the_library_takes_it_for() -> None:
    library = CrawlerDetect()
    players = [one for one in AGENTS if recognise.app_name(one) in {name for _, name in recognise.PLAYERS}]
    others = [one for one in AGENTS if one not in set(players)]
    said = {one: recognise.is_crawler(one) for one in others}
    assert said == {one: bool(library.isCrawler(one[: recognise.LONGEST_AGENT])) for one in others}
    assert sum(said.values()) > 2000
    assert not any(map(recognise.is_crawler, players))


@pytest.mark.parametrize(
    ("ip", "country"), [("192.0.2.1", ""), ("12345", ""), ("1.2", ""), ("192.0.2.999", ""), ("", ""), ("a\0b", "")]
)
def test_what_is_no_address_has_no_country(ip: str, country: str, settings) -> None:
    class AnyNumber:
        def get_with_prefix_len(self, ip: str) -> tuple[dict[str, str], int]:
            return {"country_code": "BE"}, 32

    found = recognise._Nearby(AnyNumber()).of([ip])  # type: ignore[arg-type]
    assert found == ["BE" if ip == "192.0.2.1" else country]


def test_the_countries_of_many_are_those_of_each(tmp_path: Path, settings: Any) -> None:
    """Whatever stands next to each other: networks smaller than what is remembered at once are looked up one by one."""
    file = tmp_path / "countries.mmdb"
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="Test-Country")
    networks = {
        "198.18.0.0/24": "BE",
        "198.18.1.0/25": "FR",
        "198.18.1.128/25": "NL",
        "198.19.0.0/16": "LU",
        "2001:db8::/48": "BE",
        "2001:db8:1::/64": "DE",
        "2001:db8:1:1::/64": "AT",
    }
    for network, code in networks.items():
        writer.insert_network(IPSet([network]), {"country": {"iso_code": code}})
    writer.to_db_file(str(file))
    settings.AIRCOX_LISTEN_STATS = {"COUNTRY_DATABASE": str(file)}
    recognise.forget()
    ips = [f"198.{a}.{b}.{c}" for a in (18, 19) for b in (0, 1, 2) for c in (1, 127, 128, 255)]
    ips += [f"2001:db8:{a:x}:{b:x}::1" for a in (0, 1, 2) for b in (0, 1, 2)] + ["12345", "", "a b", "::1"]
    with maxminddb.open_database(file) as reader:
        alone = {
            ip: (reader.get(ip) or {}).get("country", {}).get("iso_code", "") for ip in ips if "." in ip or ":" in ip
        }
    for order in (ips, ips[::-1], ips * 2):
        told = [country for country, *_ in recognise.of_ips(order)]
        assert told == [alone.get(ip, "") for ip in order]
        assert told == [recognise.country_of(ip) for ip in order]
    assert set(told) == {"", *networks.values()}
    recognise.forget()
