"""Which country an address is in, by the station's own file: one by one, or a column of them."""

from __future__ import annotations

import functools
import logging
import socket
from pathlib import Path
from typing import Any

import maxminddb
import numpy as np

from .. import conf
from ..kernel import identity
from ..kernel.addresses import Addresses
from ..kernel.arrays import Ints, Words

__all__ = ["Countries", "country_of", "forget", "reader"]

log = logging.getLogger(__name__)

MOST_NETWORKS = 100_000
"""Networks of either kind whose country is remembered: some 3 MB."""

_WIDTHS = {4: 32, 6: 64}
"""Bits by which addresses are told apart here: all of IPv4, and of IPv6 those that are routed."""


def country_of(ip: str) -> str:
    """ISO 3166 two-letter code, '' where unknown or where no country file is configured."""
    file = _configured()
    text = identity.normalise_ip(ip)
    if file is None or identity.packed_ip(text) is None:
        return ""  # the file itself takes any number for an address, a hash of digits too
    return _asked(file, text)[0]


@functools.lru_cache(maxsize=1)
def reader(path: str) -> maxminddb.Reader | None:
    """The country file, opened once; None (and a line in the log) where it cannot be read."""
    try:
        return maxminddb.open_database(Path(path), maxminddb.MODE_AUTO)
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        log.warning(
            "COUNTRY_DATABASE cannot be read (%s); countries stay empty. listen_stats_doctor says how to mend it.",
            type(error).__name__,
        )
        return None


def forget() -> None:
    """Closes the file, for instance because it was replaced."""
    reader.cache_clear()


class Countries:
    """The countries of columns of addresses: what the file says of a network is not asked again."""

    def __init__(self, file: maxminddb.Reader | None = None) -> None:
        self._file = _configured() if file is None else file
        self.names = [""]
        self._numbers = {"": 0}
        self._known = {family: _Known() for family in _WIDTHS}

    def of(self, addresses: Addresses) -> Ints:
        """Of each address an index into ``names``; 0 where nothing is known."""
        found = np.zeros(len(addresses), dtype=np.int64)
        if self._file is None:
            return found
        is_ipv4 = addresses.is_ipv4
        for family, is_of in ((4, is_ipv4), (6, addresses.is_address & ~is_ipv4)):
            rows = np.flatnonzero(is_of)
            numbers = addresses.low[rows] & np.uint64(0xFFFF_FFFF) if family == 4 else addresses.high[rows]
            known = self._known[family]
            told = known.of(numbers)
            unknown = np.flatnonzero(told < 0)
            if len(unknown):
                self._ask(family, np.unique(numbers[unknown]))
                told[unknown] = known.of(numbers[unknown])
                for row in np.flatnonzero(told < 0).tolist():  # of networks that are smaller than a /64
                    told[row] = self._number(_asked(self._file, addresses.text(int(rows[row])))[0])
            found[rows] = told
        return found

    def _ask(self, family: int, numbers: Words) -> None:
        """Has the file tell of the networks of ``numbers``, which ascend."""
        width = _WIDTHS[family]
        told: list[tuple[int, int, int]] = []
        end = -1
        for number in numbers.tolist():
            if number <= end:
                continue
            country, bits = _asked(self._file, _spelled(number, family))
            if bits <= width:
                rest = (1 << (width - bits)) - 1
                end = number | rest
                told.append((number & ~rest, end, self._number(country)))
        self._known[family].add(told)

    def _number(self, country: str) -> int:
        number = self._numbers.setdefault(country, len(self.names))
        if number == len(self.names):
            self.names.append(country)
        return number


class _Known:
    """Networks with the number of their country, by where they begin; none lies in another."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._starts = np.empty(0, dtype=np.uint64)
        self._ends = np.empty(0, dtype=np.uint64)
        self._country = np.empty(0, dtype=np.int64)

    def of(self, numbers: Words) -> Ints:
        """The number of each one's country, -1 where its network is not known."""
        if not len(self._starts):
            return np.full(len(numbers), -1)
        at = np.searchsorted(self._starts, numbers, side="right") - 1
        return np.where((at >= 0) & (numbers <= self._ends[at]), self._country[at], -1)

    def add(self, told: list[tuple[int, int, int]]) -> None:
        if len(self._starts) + len(told) > MOST_NETWORKS:
            self._forget()
        starts, ends, country = zip(*told, strict=True) if told else ((), (), ())
        self._starts = np.concatenate((self._starts, np.array(starts, dtype=np.uint64)))
        order = np.argsort(self._starts)
        self._starts = self._starts[order]
        self._ends = np.concatenate((self._ends, np.array(ends, dtype=np.uint64)))[order]
        self._country = np.concatenate((self._country, np.array(country, dtype=np.int64)))[order]


def _configured() -> maxminddb.Reader | None:
    path = conf.get().country_database
    return None if path is None else reader(str(path))


def _spelled(number: int, family: int) -> str:
    if family == 4:
        return socket.inet_ntop(socket.AF_INET, number.to_bytes(4, "big"))
    return socket.inet_ntop(socket.AF_INET6, number.to_bytes(8, "big") + bytes(8))


def _asked(file: Any, text: str) -> tuple[str, int]:
    """The country of an address, and the bits of the network of which the file says so."""
    try:
        record, bits = file.get_with_prefix_len(text)
    except ValueError:
        return "", 0  # an IPv6 address, and a file of IPv4 alone
    return _code(record), bits


def _code(found: Any) -> str:
    """Of a record as MaxMind, DB-IP ({'country': {'iso_code'}}) or ip-location-db
    ({'country_code'}) write it."""
    try:
        code = found["country"]["iso_code"]
    except (KeyError, TypeError):
        code = _other_code(found)
    return code.upper() if isinstance(code, str) and len(code) == 2 else ""


def _other_code(found: Any) -> Any:
    if not isinstance(found, dict):
        return ""
    country = found.get("country") or found.get("registered_country")
    code = country.get("iso_code") if isinstance(country, dict) else country
    return code or found.get("country_code")
