"""Which listeners share an address: numbers under a key that dies with the process, in memory alone."""

from __future__ import annotations

import hashlib
import secrets as entropy
from typing import NamedTuple

from ..kernel.identity import home_of, name_of, normalise_ip, packed_ip
from ..kernel.types import Address, ListenerMark
from . import recognise
from .secrets import Secrets

__all__ = ["Place", "forget", "mark", "of", "remember"]

REMEMBERED = 50_000
"""Listeners of one of two generations, of which the older goes: 20 MB for both."""


class Place(NamedTuple):
    """``home`` stands for the address (of IPv6 the /64), ``player`` for address and agent, whatever day it is."""

    home: int
    player: int


_key = entropy.token_bytes(32)
_young: dict[int, Place] = {}
_old: dict[int, Place] = {}


def mark(address: Address, known: Secrets, stream: str = "") -> ListenerMark:
    """:func:`.recognise.mark` of somebody who listens now, remembered."""
    made = recognise.mark(address, known, stream)
    remember(address, made.listener, made.previous)
    return made


def remember(address: Address, *listeners: int | None) -> None:
    """Notes that these keys are of ``address``, which is not kept itself. None is passed over."""
    for listener in listeners:
        if listener is not None and listener not in _young:
            _remember(address, listener)


def _remember(address: Address, listener: int) -> None:
    global _young, _old
    if len(_young) >= REMEMBERED:
        _young, _old = {}, _young
    _young[listener] = _old.get(listener) or Place(_hashed(_home(address.ip)), _hashed(name_of(address)))


def of(listener: int) -> Place | None:
    """Where the listener is; None of one whose address this process has not met."""
    return _young.get(listener) or _old.get(listener)


def forget() -> None:
    """Drops everything."""
    _young.clear()
    _old.clear()


def _home(ip: str) -> bytes:
    normal = normalise_ip(ip)
    packed = packed_ip(normal)
    if packed is None:
        return normal.encode("utf-8", "surrogatepass")
    return home_of(packed)


def _hashed(told: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(told, digest_size=8, key=_key).digest(), "big")
