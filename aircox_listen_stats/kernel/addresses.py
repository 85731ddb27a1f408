"""Columns of addresses: texts become numbers, nearly all of them by sweeps over the digits of all at once."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arrays import Bools, Ints, Words
from .identity import normalise_ip, packed_ip

__all__ = ["Addresses", "parsed"]


_DOT, _NEWLINE, _ZERO = b".\n0"
_OCTETS = 4
_LONGEST_OCTET = 3
_MAPPED = 0xFFFF
"""Of an IPv4 address within IPv6, what stands before it: ::ffff:0:0/96, RFC 4291 section 2.5.5.2."""
_IPV4_BITS = np.uint64(32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Addresses:
    """The halves of each address as an IPv6 one, IPv4 as ``::ffff:a.b.c.d``; both 0 of what is no address."""

    high: Words
    low: Words
    is_address: Bools

    def __len__(self) -> int:
        return len(self.high)

    @property
    def is_ipv4(self) -> Bools:
        return (self.high == 0) & (self.low >> _IPV4_BITS == _MAPPED)

    def text(self, row: int) -> str:
        """The one spelling of the address in ``row``."""
        packed = self.high[row : row + 1].astype(">u8").tobytes() + self.low[row : row + 1].astype(">u8").tobytes()
        if self.is_ipv4[row]:
            return socket.inet_ntop(socket.AF_INET, packed[-_OCTETS:])
        return socket.inet_ntop(socket.AF_INET6, packed)


def parsed(texts: Sequence[str]) -> Addresses:
    """What the texts are, each as :func:`identity.normalise_ip` reads it."""
    size = len(texts)
    high, low = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.uint64)
    is_address = np.zeros(size, dtype=np.bool_)
    value, is_plain = _plain(texts)
    low[is_plain] = value[is_plain] | np.uint64(_MAPPED << 32)
    is_address |= is_plain
    rows, packed = [], []
    for row in np.flatnonzero(~is_plain).tolist():
        one = packed_ip(texts[row]) or packed_ip(normalise_ip(texts[row]))
        if one is not None:
            rows.append(row)
            packed.append(one if len(one) > _OCTETS else bytes(10) + b"\xff\xff" + one)
    if rows:
        halves = np.frombuffer(b"".join(packed), dtype=">u8").reshape(-1, 2)
        high[rows], low[rows], is_address[rows] = halves[:, 0], halves[:, 1], True
    return Addresses(high=high, low=low, is_address=is_address)


def _plain(texts: Sequence[str]) -> tuple[Words, Bools]:
    """The numbers of those that are four plain decimal numbers with dots between them, and which these are."""
    value, is_plain = np.zeros(len(texts), dtype=np.uint64), np.zeros(len(texts), dtype=np.bool_)
    joined = "\n".join(["", *texts, ""])
    if not joined.isascii() or joined.count("\n") != len(texts) + 1:
        return value, is_plain
    view = np.frombuffer(b"\0" * _LONGEST_OCTET + joined.encode("ascii"), dtype=np.uint8)
    marks = np.flatnonzero((view == _DOT) | (view == _NEWLINE))
    ends = np.flatnonzero(view[marks] == _NEWLINE)
    rows = np.flatnonzero(np.diff(ends) == _OCTETS)
    behind = ends[rows + 1]  # the mark behind the address
    good = np.ones(len(rows), dtype=np.bool_)
    found = np.zeros(len(rows), dtype=np.uint64)
    for octet in range(_OCTETS, 0, -1):
        before, end = marks[behind - octet], marks[behind - octet + 1]
        number, is_number = _numbers(view, end, end - before - 1)
        found = found << np.uint64(8) | number.astype(np.uint64)
        good &= is_number
    value[rows] = found
    is_plain[rows] = good
    return value, is_plain


def _numbers(view: npt.NDArray[np.uint8], end: Ints, size: Ints) -> tuple[Ints, Bools]:
    """The decimal numbers of ``size`` digits before ``end``, and where there is one of 0 to 255 so spelled."""
    number = np.zeros(len(end), dtype=np.int64)
    good = (size >= 1) & (size <= _LONGEST_OCTET)
    for place in range(_LONGEST_OCTET):
        is_there = size > place
        digit = view[end - 1 - place].astype(np.int64) - _ZERO
        number += np.where(is_there, digit * 10**place, 0)
        good &= ~is_there | ((digit >= 0) & (digit <= 9))
        good &= (size != place + 1) | (digit != 0) | (place == 0)  # no zero before other digits
    return number, good & (number <= 255)
