"""Pretend listeners: where they are, what they listen with, and when they come.

Addresses are of 198.18.0.0/15, which is set aside for benchmarks: nobody
lives there. A small country database is written for exactly these ranges, so
that countries come through the ordinary look-up.
"""

from __future__ import annotations

import bisect
import ipaddress
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["AGENTS", "COUNTRIES", "Audience", "Listener", "Listening", "Show", "write_country_database"]

COUNTRIES: Sequence[tuple[str, str, float]] = (
    ("198.18.0.0/17", "BE", 0.70),
    ("198.18.128.0/18", "FR", 0.14),
    ("198.18.192.0/19", "NL", 0.05),
    ("198.18.224.0/20", "DE", 0.04),
    ("198.18.240.0/21", "CH", 0.025),
    ("198.18.248.0/22", "CA", 0.02),
    ("198.18.252.0/22", "CD", 0.025),
)
"""Network, country code, share of the listeners."""

AGENTS: Sequence[tuple[str, float]] = (
    ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", 0.20),
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0", 0.17),
    ("AppleCoreMedia/1.0.0.22F76 (iPhone; U; CPU OS 18_5 like Mac OS X; fr_be)", 0.14),
    (
        "Mozilla/5.0 (Linux; Android 15; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/141.0.0.0 Mobile Safari/537.36",
        0.13,
    ),
    ("VLC/3.0.21 LibVLC/3.0.21", 0.10),
    ("RadioDroid2 0.86", 0.06),
    ("Winamp/5.6 (Sonos)", 0.06),
    ("TuneIn Radio/35.2.1; iPhone16,1; iOS/18.5", 0.05),
    ("foobar2000/2.24", 0.03),
    ("mpv 0.40.0", 0.03),
    ("Lavf/61.7.100", 0.02),
    ("Googlebot/2.1 (+http://www.google.com/bot.html)", 0.01),
)
"""Agent and share of the listeners. The crawler is there to be recognised."""


def write_country_database(path: Path) -> None:
    """Writes an MMDB of COUNTRIES to ``path``, laid out as the free country databases are."""
    from mmdb_writer import MMDBWriter
    from netaddr import IPSet

    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="DBIP-Country-Lite", languages=["en"])
    for network, code, _share in COUNTRIES:
        writer.insert_network(IPSet([network]), {"country": {"iso_code": code, "names": {"en": code}}})
    writer.insert_network(IPSet(["127.0.0.0/8"]), {"country": {"iso_code": "BE", "names": {"en": "BE"}}})
    writer.to_db_file(str(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One pretend listener: an address, a player, and a patience."""

    ip: str
    agent: str
    patience: float  # 0 leaves at once, 1 stays to the end
    unsteady: bool  # a hardware player on a bad line: reconnects every 35 s or so


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """What draws listeners: a span of seconds since 1970, and how many it draws on average."""

    start: float
    end: float
    draw: float
    tune_outs: Sequence[float] = ()  # instants at which more leave than usual (a track they dislike)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """One socket: from ``start`` to ``end``, seconds since 1970."""

    listener: Listener
    start: float
    end: float


class Audience:
    """The people of the town. The same seed gives the same town, its habits and its year."""

    def __init__(self, seed: int = 1, size: int = 3000) -> None:
        self.random = random.Random(seed)
        weights = list(itertools.accumulate(share for _agent, share in AGENTS))
        self.listeners = [self._person(number, weights) for number in range(size)]

    def _person(self, number: int, weights: Sequence[float]) -> Listener:
        rng = self.random
        network = rng.choices([n for n, _c, _s in COUNTRIES], [s for _n, _c, s in COUNTRIES])[0]
        net = ipaddress.ip_network(network)
        agent = AGENTS[min(bisect.bisect(weights, rng.random() * weights[-1]), len(AGENTS) - 1)][0]
        return Listener(
            ip=str(net[rng.randrange(1, net.num_addresses - 1)]),
            agent=agent,
            patience=rng.betavariate(1.3, 1.6),
            unsteady="Sonos" in agent and rng.random() < 0.06,
        )

    def at_random(self) -> Listener:
        """A listener; the first ones of the list come more often: the faithful."""
        return self.listeners[int(len(self.listeners) * self.random.random() ** 1.7)]

    def of(self, show: Show) -> Iterator[Listening]:
        """The sockets that ``show`` brings, in no order."""
        rng = self.random
        length = show.end - show.start
        number = _poisson(rng, show.draw)
        for _ in range(number):
            listener = self.at_random()
            # Half come around the start (some early), the others when they happen to.
            start = show.start + (rng.gauss(60, 240) if rng.random() < 0.55 else rng.uniform(0, length * 0.95))
            if rng.random() < 0.14:
                end = start + rng.uniform(1, 55)  # looked in, and left
            elif rng.random() < listener.patience * 0.75:
                end = show.end + rng.expovariate(1 / 260)
            else:
                end = start + rng.expovariate(1 / (0.4 * length))
            for instant in show.tune_outs:
                if start < instant < end and rng.random() < 0.18:
                    end = instant + rng.uniform(5, 70)
            yield from self._sockets(listener, start, max(end, start + 1))

    def _sockets(self, listener: Listener, start: float, end: float) -> Iterator[Listening]:
        if not listener.unsteady:
            yield Listening(listener=listener, start=start, end=end)
            return
        at = start
        while at < end:
            until = min(end, at + self.random.uniform(30, 40))
            yield Listening(listener=listener, start=at, end=until)
            at = until + self.random.uniform(0.5, 4)


def _poisson(rng: random.Random, mean: float) -> int:
    """A Poisson number; the normal approximation above 50."""
    if mean > 50:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    limit, product, number = math.exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        number += 1
    return number
