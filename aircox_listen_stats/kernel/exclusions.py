"""Why a listener does not count, as far as networks and agent words tell it.

A label is put on a session with its reason; nothing is deleted. The names of
rules hold no address: a staff network may well be one person's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from .identity import normalise_agent, normalise_ip, packed_ip
from .types import Address, Exclusion

__all__ = ["RULE_LENGTH", "ExclusionRules"]

RULE_LENGTH = 64
"""Characters of a rule's name that are stored (``Session.rule``)."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class ExclusionRules:
    """Networks and agent words, compiled."""

    networks: tuple[tuple[Exclusion, str, bytes, bytes], ...] = ()  # reason, rule, first and last address, packed
    words: tuple[tuple[Exclusion, str, str], ...] = ()  # reason, rule, the word as it is compared

    @classmethod
    def compiled(
        cls,
        *,
        staff_networks: Sequence[str] = (),
        relay_networks: Sequence[str] = (),
        monitor_agents: Sequence[str] = (),
        stream_relays: Sequence[str] = (),
    ) -> ExclusionRules:
        """The rules of these settings, with a stream's own relays.

        Raises ValueError for what is no network, or a word without letters.
        """
        networks = [
            (reason, f"{name} network {number}", network[0].packed, network[-1].packed)
            for reason, name, texts in (
                (Exclusion.STAFF, "staff", staff_networks),
                (Exclusion.RELAY, "relay", relay_networks),
                (Exclusion.RELAY, "stream's relay", stream_relays),
            )
            for number, network in enumerate(map(_network, texts), start=1)
        ]
        words = [(Exclusion.MONITOR, f"agent {word.strip()}"[:RULE_LENGTH], _word(word)) for word in monitor_agents]
        return cls(networks=tuple(networks), words=tuple(words))

    def label(self, address: Address) -> tuple[Exclusion, str]:
        """Why ``address`` does not count and by which rule; ``(Exclusion.NONE, "")`` where it counts.

        Staff goes before relays, networks go before words. Words are compared
        by letters and digits and without case, since the ears of one server
        spell the rest differently.
        """
        if self.networks:
            reason, rule = self.label_ip(normalise_ip(address.ip))
            if reason:
                return reason, rule
        if self.words:
            agent = normalise_agent(address.agent).lower()
            for reason, rule, word in self.words:
                if word in agent:
                    return reason, rule
        return Exclusion.NONE, ""

    def label_ip(self, ip: str) -> tuple[Exclusion, str]:
        """What :meth:`label` says of a normalised address by the networks alone."""
        packed = packed_ip(ip)
        if packed is not None:  # else no address, so in no network
            for reason, rule, first, last in self.networks:
                if first <= packed <= last and len(packed) == len(first):
                    return reason, rule
        return Exclusion.NONE, ""


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is no network. Write an address or a network such as '192.0.2.0/24' or '2001:db8::/32'."
        ) from None
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped and network.prefixlen >= 96:
        # Listeners are compared in IPv4 where they can be.
        return ipaddress.ip_network(f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}")
    return network


def _word(text: str) -> str:
    word = normalise_agent(text).lower()
    if not word:
        raise ValueError(
            f"{text!r} holds no letter or digit and would exclude everybody. "
            "Write a word of the agent, such as 'UptimeKuma'."
        )
    return word
