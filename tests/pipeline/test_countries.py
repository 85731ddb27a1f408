"""Countries of columns of addresses, held against the file asked for each."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import maxminddb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from aircox_listen_stats.kernel.addresses import parsed
from aircox_listen_stats.pipeline import countries, recognise

NETWORKS = {
    "198.18.0.0/24": "BE",
    "198.18.1.0/25": "FR",
    "198.18.1.128/25": "NL",
    "198.18.2.7/32": "DE",
    "198.19.0.0/16": "LU",
    "2001:db8::/48": "BE",
    "2001:db8:1::/64": "DE",
    "2001:db8:1:1::/64": "AT",
    "2001:db8:2:1::/65": "CH",
    "2001:db8:2:1:8000::/96": "IT",
}
"""Some are smaller than what is remembered at once."""

HOSTS = ["0.0", "0.1", "0.255", "1.1", "1.127", "1.128", "1.255", "2.6", "2.7", "2.8", "9.9"]
ADDRESSES = [
    *(f"198.{net}.{host}" for net in (17, 18, 19) for host in HOSTS),
    *(f"2001:db8:{a:x}:{b:x}:{c:x}::1" for a in (0, 1, 2, 3) for b in (0, 1, 2) for c in (0, 0x8000, 0xFFFF)),
    *("::ffff:198.18.0.1", "::1", "::", "12345", "", "a b", "198.18.0.256", "198.18.0"),
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("countries") / "countries.mmdb"
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="Test-Country")
    for network, code in NETWORKS.items():
        writer.insert_network(IPSet([network]), {"country": {"iso_code": code}})
    writer.to_db_file(str(path))
    return path


@pytest.fixture
def configured(file: Path, settings: Any) -> Iterator[None]:
    settings.AIRCOX_LISTEN_STATS = {"COUNTRY_DATABASE": str(file)}
    recognise.forget()
    yield
    recognise.forget()


def alone(reader: maxminddb.Reader, ip: str) -> str:
    """What the file says of the address; '' of what is none."""
    ip = ip.removeprefix("::ffff:")
    try:
        ipaddress.ip_address(ip)
    except ValueError:
        return ""
    return (reader.get(ip) or {}).get("country", {}).get("iso_code", "")


def test_one_by_one(file: Path, configured: None) -> None:
    with maxminddb.open_database(file) as reader:
        said = {ip: alone(reader, ip) for ip in ADDRESSES}
    assert {ip: countries.country_of(ip) for ip in ADDRESSES} == said
    assert set(said.values()) == {"", *NETWORKS.values()}


@given(st.lists(st.lists(st.sampled_from(ADDRESSES), max_size=40), max_size=4))
def test_columns_equal_one_by_one_whatever_was_met_before(file: Path, columns: list[list[str]]) -> None:
    with maxminddb.open_database(file) as reader:
        known = countries.Countries(reader)
        for ips in columns:
            which = known.of(parsed(ips)).tolist()
            assert [known.names[number] for number in which] == [alone(reader, ip) for ip in ips]


def test_without_a_file_nothing_is_known(settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {}
    assert countries.Countries().of(parsed(ADDRESSES)).tolist() == [0] * len(ADDRESSES)


@pytest.mark.parametrize("most", [0, 1, 5, 100_000])
def test_columns_of_every_address_in_any_order(configured: None, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(countries, "MOST_NETWORKS", most)
    known = countries.Countries()
    for ips in (ADDRESSES, ADDRESSES[::-1], ADDRESSES[::3] * 2, []):
        which = known.of(parsed(ips)).tolist()
        assert [known.names[number] for number in which] == [countries.country_of(ip) for ip in ips]


def test_a_file_of_ipv4_alone(tmp_path: Path) -> None:
    path = tmp_path / "four.mmdb"
    writer = MMDBWriter(ip_version=4, database_type="Test-Country")
    writer.insert_network(IPSet(["198.18.0.0/15"]), {"country_code": "be"})
    writer.to_db_file(str(path))
    with maxminddb.open_database(path) as reader:
        known = countries.Countries(reader)
        ips = ["2001:db8::1", "198.18.3.4", "198.20.0.1", "2001:db8::1"]
        assert [known.names[number] for number in known.of(parsed(ips)).tolist()] == ["", "BE", "", ""]


@pytest.mark.parametrize("ip", ["12345", "1.2", "192.0.2.999", "", "a\0b"])
def test_the_file_is_not_asked_for_what_is_no_address(ip: str) -> None:
    """It would take any number for one: a hash of digits too."""

    class AnyNumber:
        def get_with_prefix_len(self, ip: str) -> tuple[dict[str, str], int]:
            return {"country_code": "BE"}, 32

    known = countries.Countries(AnyNumber())  # type: ignore[arg-type]
    assert [known.names[number] for number in known.of(parsed([ip, "192.0.2.1"])).tolist()] == ["", "BE"]


def test_networks_are_asked_for_once(file: Path) -> None:
    with maxminddb.open_database(file) as reader:
        asked: list[str] = []

        class Counting:
            def get_with_prefix_len(self, ip: str) -> tuple[Any, int]:
                asked.append(ip)
                return reader.get_with_prefix_len(ip)

        known = countries.Countries(Counting())  # type: ignore[arg-type]
        for last in range(4):
            known.of(parsed([f"198.19.{a}.{last}" for a in range(200)] + [f"2001:db8::{a:x}:{last}" for a in range(9)]))
    assert len(asked) == 2
