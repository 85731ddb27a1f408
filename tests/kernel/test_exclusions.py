"""Who does not count by network or agent, and that the reason tells no address."""

from __future__ import annotations

import pytest

from aircox_listen_stats.kernel.exclusions import ExclusionRules
from aircox_listen_stats.kernel.types import Address, Exclusion

RULES = ExclusionRules.compiled(
    staff_networks=["198.51.100.0/28", "2001:db8:5::/48"],
    relay_networks=["203.0.113.9"],
    monitor_agents=["Uptime-Kuma", "check_icecast"],
)


@pytest.mark.parametrize(
    ("ip", "agent", "expected"),
    [
        ("198.51.100.3", "VLC", (Exclusion.STAFF, "staff network 1")),
        ("::ffff:198.51.100.3", "VLC", (Exclusion.STAFF, "staff network 1")),
        ("2001:db8:5:1::9", "", (Exclusion.STAFF, "staff network 2")),
        ("198.51.100.16", "VLC", (Exclusion.NONE, "")),
        ("203.0.113.9", "Icecast 2.4.4", (Exclusion.RELAY, "relay network 1")),
        ("203.0.113.10", "Icecast 2.4.4", (Exclusion.NONE, "")),
        ("192.0.2.1", "Mozilla/5.0 (uptime.kuma/1.23)", (Exclusion.MONITOR, "agent Uptime-Kuma")),
        ("192.0.2.1", "check_icecast v2", (Exclusion.MONITOR, "agent check_icecast")),
        ("192.0.2.1", "-", (Exclusion.NONE, "")),
        ("nonsense", "check_icecast", (Exclusion.MONITOR, "agent check_icecast")),
        ("nonsense", "VLC", (Exclusion.NONE, "")),
    ],
)
def test_label_and_rule(ip, agent, expected):
    assert RULES.label(Address(ip=ip, agent=agent)) == expected


def test_staff_goes_before_a_monitor_s_agent():
    assert RULES.label(Address(ip="198.51.100.3", agent="check_icecast"))[0] is Exclusion.STAFF


def test_a_mapped_network_is_taken_as_ipv4():
    rules = ExclusionRules.compiled(staff_networks=["::ffff:198.51.100.0/124"])
    assert rules.label(Address(ip="198.51.100.15"))[0] is Exclusion.STAFF
    assert rules.label(Address(ip="198.51.100.16"))[0] is Exclusion.NONE


def test_no_rules_exclude_nobody():
    assert ExclusionRules.compiled().label(Address(ip="192.0.2.1", agent="x")) == (Exclusion.NONE, "")


@pytest.mark.parametrize("network", ["198.51.100.0/33", "studio", ""])
def test_what_is_no_network_is_refused_with_an_example(network):
    with pytest.raises(ValueError, match=r"is no network\. Write .*192\.0\.2\.0/24"):
        ExclusionRules.compiled(staff_networks=[network])


@pytest.mark.parametrize("word", ["", "-", " / "])
def test_a_word_without_letters_would_exclude_everybody_and_is_refused(word):
    with pytest.raises(ValueError, match="would exclude everybody"):
        ExclusionRules.compiled(monitor_agents=[word])
