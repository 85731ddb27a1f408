"""Maintained lists as a station keeps them in files: agents of apps and bots, networks of the clouds.

Agents: the open lists of the Open Podcast Analytics Working Group
(github.com/opawg/user-agents-v2, MIT): ``{"entries": [{"name", "pattern"}]}``,
the first entry whose pattern is found in an agent names it.

Clouds: what the providers publish. Amazon, Google and Oracle as JSON, Azure's
service tags, and RFC 8805 geofeeds or plain lists, a network at the beginning
of each line.
"""

from __future__ import annotations

import ipaddress
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .identity import normalise_ip, packed_ip

__all__ = ["AgentList", "CloudNetworks", "networks_of", "parse_agents"]

FEWEST_PREFIX_4 = 8
FEWEST_PREFIX_6 = 16
"""No provider owns more in one piece: a shorter prefix is a mistake that would exclude the world."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class AgentList:
    """Names of agents by pattern, in the list's order."""

    entries: tuple[tuple[str, re.Pattern[str]], ...] = ()

    def name(self, agent: str) -> str:
        """The first entry that fits; '' where none does."""
        return next((name for name, pattern in self.entries if pattern.search(agent)), "")


def parse_agents(text: str | bytes) -> AgentList:
    """The list in an OPAWG file. Raises ValueError with what is wrong with it."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({error})") from None
    entries = told.get("entries") if isinstance(told, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError("no list of 'entries'; expected bots.runtime.json or apps.runtime.json of user-agents-v2")
    return AgentList(tuple(_entry(one) for one in entries))


def _entry(told: Any) -> tuple[str, re.Pattern[str]]:
    name, pattern = (told.get("name"), told.get("pattern")) if isinstance(told, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(pattern, str) or not name or not pattern:
        raise ValueError("an entry without a name or a pattern")
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"the pattern of {name!r} is none: {error}") from None
    if compiled.search(""):
        raise ValueError(f"the pattern of {name!r} fits every agent")
    return name, compiled


class CloudNetworks:
    """Networks by provider, as sorted ranges: a list has ten thousand of them."""

    def __init__(self, networks: Iterable[tuple[str, Network]] = ()) -> None:
        ranges: dict[int, list[tuple[int, int, str]]] = {4: [], 6: []}
        for provider, network in networks:
            ranges[network.version].append((int(network[0]), int(network[-1]), provider))
        self._ranges = {version: _disjoint(some) for version, some in ranges.items()}
        self._starts = {version: [start for start, _, _ in some] for version, some in self._ranges.items()}

    def __len__(self) -> int:
        return sum(map(len, self._ranges.values()))

    def provider(self, ip: str) -> str:
        """Whose cloud the address is in; '' where it is in none, or is no address."""
        packed = packed_ip(normalise_ip(ip))
        if packed is None:
            return ""
        version, number = 4 if len(packed) == 4 else 6, int.from_bytes(packed, "big")
        at = bisect_right(self._starts[version], number) - 1
        if at < 0:
            return ""
        _, end, provider = self._ranges[version][at]
        return provider if number <= end else ""


def _disjoint(ranges: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """The ranges by start, none within another: the wider of two goes on."""
    found: list[tuple[int, int, str]] = []
    for start, end, provider in sorted(ranges, key=lambda one: (one[0], -one[1])):
        if found and end <= found[-1][1]:
            continue
        found.append((start, end, provider))
    return found


def networks_of(text: str, provider: str) -> list[tuple[str, Network]]:
    """The networks of a provider's file. Raises ValueError where there are none, or one is as wide as the world."""
    found = [(provider, _network(one)) for one in _texts(text)]
    if not found:
        raise ValueError("no network in it")
    return found


def _texts(text: str) -> Iterator[str]:
    if text.lstrip()[:1] in ("{", "["):
        try:
            yield from _in_json(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"no JSON ({error})") from None
        return
    for line in text.splitlines():
        first = line.partition("#")[0].partition(",")[0].strip()
        if first:
            yield first


_KEYS = frozenset({"ip_prefix", "ipv6_prefix", "ipv4Prefix", "ipv6Prefix", "cidr", "addressPrefixes"})
"""How Amazon, Google, Oracle and Azure call a network, or a list of them."""


def _in_json(told: Any) -> Iterator[str]:
    if isinstance(told, dict):
        for key, value in told.items():
            if key in _KEYS:
                yield from [value] if isinstance(value, str) else [one for one in value if isinstance(one, str)]
            else:
                yield from _in_json(value)
    elif isinstance(told, list):
        for one in told:
            yield from _in_json(one)


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is no network") from None
    fewest = FEWEST_PREFIX_4 if network.version == 4 else FEWEST_PREFIX_6
    if network.prefixlen < fewest:
        raise ValueError(f"{text!r} is wider than any cloud (a prefix of {fewest} or more is taken)")
    return network
