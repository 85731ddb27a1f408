"""Lists that others maintain: agents by pattern, networks of the clouds."""

from __future__ import annotations

import ipaddress
import json
import random

import pytest

from aircox_listen_stats.kernel.lists import CloudNetworks, networks_of, parse_agents

AGENTS = {
    "entries": [
        {"name": "Radio Prober", "pattern": "^RadioProber/\\d"},
        {"name": "Any prober", "pattern": "Prober", "category": "x"},
    ]
}

CLOUDS = {
    "amazon": {
        "prefixes": [{"ip_prefix": "198.51.100.0/25", "region": "x", "service": "EC2"}],
        "ipv6_prefixes": [{"ipv6_prefix": "2001:db8:1::/48", "region": "x"}],
    },
    "google": {"prefixes": [{"ipv4Prefix": "198.51.100.0/25"}, {"ipv6Prefix": "2001:db8:1::/48"}]},
    "azure": {"values": [{"properties": {"addressPrefixes": ["198.51.100.0/25", "2001:db8:1::/48"]}}]},
    "oracle": {"regions": [{"cidrs": [{"cidr": "198.51.100.0/25"}, {"cidr": "2001:db8:1::/48"}]}]},
}
"""The shapes in which the providers publish, with networks of documents."""

GEOFEED = "# geofeed\n198.51.100.0/25,NL,NL-NH,Amsterdam,1105\n\n2001:db8:1::/48,NL\n"


def test_the_first_pattern_that_fits_names_an_agent() -> None:
    agents = parse_agents(json.dumps(AGENTS))
    assert agents.name("RadioProber/2") == "Radio Prober"
    assert agents.name("My Prober") == "Any prober"
    assert agents.name("VLC/3") == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<html>", "no JSON"),
        ("[]", "no list of 'entries'"),
        ('{"entries": []}', "no list of 'entries'"),
        ('{"entries": [{"name": "x"}]}', "without a name or a pattern"),
        ('{"entries": [{"name": "x", "pattern": "("}]}', "pattern of 'x' is none"),
        ('{"entries": [{"name": "x", "pattern": "y*"}]}', "fits every agent"),
    ],
)
def test_what_is_no_list_of_agents_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_agents(text)


@pytest.mark.parametrize("text", [*map(json.dumps, CLOUDS.values()), GEOFEED, "198.51.100.0/25\n2001:db8:1::/48"])
def test_every_provider_s_form_is_read(text: str) -> None:
    clouds = CloudNetworks(networks_of(text, "some"))
    assert [clouds.provider(ip) for ip in ("198.51.100.0", "198.51.100.127", "::ffff:198.51.100.9")] == ["some"] * 3
    assert clouds.provider("2001:db8:1:2::3") == "some"
    assert [clouds.provider(ip) for ip in ("198.51.100.128", "2001:db8:2::1", "nonsense", "0.0.0.1")] == [""] * 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no network in it"),
        ("{}", "no network in it"),
        ("{", "no JSON"),
        ("<html>", "is no network"),
        ("0.0.0.0/0", "wider than any cloud"),
        ("::/0", "wider than any cloud"),
    ],
)
def test_what_would_exclude_the_world_or_nobody_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        networks_of(text, "some")


def test_nested_networks_answer_as_asking_each_does() -> None:
    chance = random.Random(3)
    networks = []
    for _ in range(60):
        base, length = chance.randrange(1 << 16), chance.randrange(20, 33)
        networks.append(ipaddress.ip_network((0xC6120000 + base, length), strict=False))
    clouds = CloudNetworks(("some", network) for network in networks)
    for _ in range(2000):
        ip = ipaddress.ip_address(0xC6120000 + chance.randrange(1 << 16))
        assert bool(clouds.provider(str(ip))) == any(ip in network for network in networks)
