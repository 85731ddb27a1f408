"""Who the listeners of an import are: keys that nobody can turn back, and what they are labelled with.

A log names the same addresses and agents again and again. What each tells is
found once; a line is then no more than two numbers.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import numpy as np

from .. import conf
from ..kernel import calendar
from ..kernel.addresses import Addresses, parsed
from ..kernel.arrays import Ints, Words
from ..kernel.identity import normalise_agent, normalise_ip
from ..kernel.siphash import KEY_BYTES, siphash
from . import recognise
from .bulk import Label
from .countries import Countries

__all__ = ["Listeners"]

INTO_THE_NEXT_MS = {"day": 36 * 3_600_000, "week": 10 * 86_400_000, "month": 45 * 86_400_000}
"""So long after a period's start the next one is on: a day has 23 to 25 hours, a month 28 to 31 days."""

FIRST_ROOM = 4096
"""Addresses for which there is room at first."""


_AGENT_BITS = 20
"""Of a mark: it holds the number of what the agent tells, and before it that of what the address tells."""


class Listeners:
    """The addresses and agents of one reading, under the run's secret. They end here."""

    def __init__(self, secret: bytes, slugs: Sequence[str]) -> None:
        self._secret = secret
        streams = conf.get().streams
        # Only where a stream has relays of its own does an address tell something else of it than of the others.
        self._alike = {slug: slug if slug in streams and streams[slug].relays else "" for slug in slugs}
        self._ips = {alike: _Told() for alike in self._alike.values()}
        self._homes = _Column(np.uint64)
        self._agents = _Told()
        self._countries = Countries()
        self._ip_secret = hmac.digest(secret, b"ip", "sha256")[:KEY_BYTES]
        self._home_secret = hmac.digest(secret, b"home", "sha256")[:KEY_BYTES]
        self._periods = _Periods()

    def meet(self, ips: Sequence[str], agents: Sequence[str], *, is_afresh: bool) -> None:
        """Takes those that a block met first; with ``is_afresh`` their numbers begin again."""
        if is_afresh:
            for told in (*self._ips.values(), self._agents):
                told.forget()
            self._homes.forget()
        found = parsed(ips)
        keys = self._ip_keys(found, ips)
        self._homes.add(self._home_keys(found, keys))
        for alike, told in self._ips.items():
            told.take(keys, *recognise.of_addresses(found, ips, self._countries, alike))
        self._agents.take(
            np.array([self._key(b"agent", normalise_agent(one)) for one in agents], dtype=np.uint64),
            np.arange(len(agents)),
            [recognise.of_agent(one) for one in agents],
        )

    def of(self, slug: str, ip: Ints, agent: Ints) -> tuple[Ints, Ints]:
        """For each line the listener, known by this number in this run alone, and the mark (see :meth:`labels`)."""
        ips, agents = self._ips[self._alike[slug]], self._agents
        # Both are 64 bits of a keyed hash: that two pairs have one sum is as unlikely as that two have one hash.
        listener = (ips.key.values[ip] + agents.key.values[agent]) >> np.uint64(1)
        return listener.astype(np.int64), ips.told.values[ip] << _AGENT_BITS | agents.told.values[agent]

    def homes(self, ip: Ints) -> Words:
        """For each line what counts as one address (of IPv6 the /64), known by this number in this run alone."""
        return self._homes.values[ip]

    def labels(self, slug: str, marks: Ints) -> tuple[Ints, list[Label]]:
        """Which of the different labels each of a stream's marks stands for, and those."""
        ips = self._ips[self._alike[slug]]
        different, label = np.unique(marks, return_inverse=True)
        labels = []
        for mark in different.tolist():
            country, *by_ip = ips.kinds[mark >> _AGENT_BITS]
            app, *by_agent = self._agents.kinds[mark & ((1 << _AGENT_BITS) - 1)]
            exclusion, rule = recognise.excluded(tuple(by_ip), tuple(by_agent))
            labels.append((country, app, exclusion, rule))
        return label, labels

    def period_keys(self, listener: Ints, started_ms: Ints) -> Ints:
        """Each listener's key in the period in which the session starts: what is stored."""
        periods = self._periods.of(started_ms)
        keys = np.empty(len(listener), dtype=np.int64)
        for period_ms in np.unique(periods).tolist():
            some = np.flatnonzero(periods == period_ms)
            secret = hmac.digest(self._secret, b"period %d" % period_ms, "sha256")[:KEY_BYTES]
            keys[some] = (siphash(listener[some], secret) >> np.uint64(1)).astype(np.int64)  # 63 bits
        return keys

    def _ip_keys(self, addresses: Addresses, ips: Sequence[str]) -> Words:
        """The key of each address; of what is none, that of its text."""
        keys = siphash(siphash(addresses.high, self._ip_secret) ^ addresses.low, self._ip_secret)
        for row in np.flatnonzero(~addresses.is_address).tolist():
            keys[row] = self._key(b"ip", normalise_ip(ips[row]))
        return keys

    def _home_keys(self, addresses: Addresses, keys: Words) -> Words:
        """What :func:`identity.home_of` is of each address, hashed; of what is none, its key."""
        homes = siphash(np.where(addresses.is_ipv4, addresses.low, addresses.high), self._home_secret)
        return np.where(addresses.is_address, homes, keys)

    def _key(self, kind: bytes, text: str) -> int:
        told = text.encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.blake2b(told, key=self._secret, person=kind, digest_size=8).digest(), "big")


class _Column:
    """Numbers that become more; ``values`` has room for some that are not there yet."""

    def __init__(self, kind: type[np.generic]) -> None:
        self.values = np.empty(FIRST_ROOM, dtype=kind)
        self._size = 0

    def forget(self) -> None:
        self._size = 0
        self.values = np.empty(FIRST_ROOM, dtype=self.values.dtype)

    def add(self, values: np.ndarray) -> None:
        first, self._size = self._size, self._size + len(values)
        if self._size > len(self.values):
            self.values = np.resize(self.values, 2 * self._size)
        self.values[first : self._size] = values


class _Told:
    """What is known of numbered addresses, or agents: the key of each, and what it tells as an index into ``kinds``."""

    def __init__(self) -> None:
        self.kinds: list[tuple[str, str, str]] = []
        self._numbers: dict[tuple[str, str, str], int] = {}
        self.key = _Column(np.uint64)
        self.told = _Column(np.int64)

    def forget(self) -> None:
        """Drops all numbers; ``kinds`` stay."""
        self.key.forget()
        self.told.forget()

    def take(self, keys: Words, which: Ints, kinds: Sequence[tuple[str, str, str]]) -> None:
        """Adds some, under the next numbers: the key of each, and which of ``kinds`` it tells."""
        if len(keys):
            numbers = np.array([self._number(kind) for kind in kinds], dtype=np.int64)
            self.key.add(keys)
            self.told.add(numbers[which])

    def _number(self, kind: tuple[str, str, str]) -> int:
        number = self._numbers.setdefault(kind, len(self.kinds))
        if number == len(self.kinds):
            self.kinds.append(kind)
        return number


class _Periods:
    """The periods of the keys, one after the other; the calendar is asked a few times for each."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._end = 0  # of the last one

    def of(self, instants_ms: Ints) -> Ints:
        """The start of the period of each instant."""
        if not len(instants_ms):
            return instants_ms
        first, last = int(instants_ms.min()), int(instants_ms.max())
        if not self._starts:
            self._starts = [_period_start(first)]
            self._end = _period_end(self._starts[0])
        while first < self._starts[0]:
            self._starts.insert(0, _period_start(self._starts[0] - 1))
        while last >= self._end:
            self._starts.append(self._end)
            self._end = _period_end(self._end)
        starts = np.array(self._starts, dtype=np.int64)
        return starts[np.searchsorted(starts, instants_ms, side="right") - 1]


def _period_start(instant_ms: int) -> int:
    settings = conf.get()
    return calendar.period_start(instant_ms, settings.key_rotation, settings.zone, settings.broadcast_day_start)


def _period_end(start_ms: int) -> int:
    """The start of the next period: half a period behind its start it is surely on, whatever the clocks do."""
    return _period_start(start_ms + INTO_THE_NEXT_MS[conf.get().key_rotation])
