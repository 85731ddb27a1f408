"""The listener key: where an address ends.

An address and an agent go in, a number comes out that names the listener for
as long as the secret lives and cannot be turned back without it.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket

import numpy as np

from .arrays import Ints
from .types import Address

__all__ = [
    "home_of",
    "household_key",
    "household_keys",
    "is_canonical_ip",
    "key_under",
    "listener_key",
    "name_of",
    "normalise_agent",
    "normalise_ip",
    "packed_ip",
]

HOME_BYTES = 8
"""Of an address: all of IPv4, and of IPv6 a /64, whose devices change the rest at will."""

KEY_BITS = 63
"""Width of a key: what a signed BIGINT holds without going negative."""

_MASK_63 = (1 << KEY_BITS) - 1
_MASK_64 = (1 << 64) - 1

# Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: SplitMix64.
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB

_NO_AGENT = frozenset({"", "-", "Unknown"})
"""How Icecast 2.4.4 spells a missing agent: access log and callbacks ``-``, listclients ``Unknown``."""

_NOT_KEPT = re.compile(r"[^A-Za-z0-9]+")


def normalise_agent(agent: str) -> str:
    """The agent's ASCII letters and digits, '' where there is none.

    Access log, listclients and callbacks of one server spell the rest of the
    same agent differently (dots, entities, raw bytes); this much they share.
    """
    agent = agent.strip()
    return "" if agent in _NO_AGENT else _NOT_KEPT.sub("", agent)


def normalise_ip(ip: str) -> str:
    """The address in its one canonical spelling, IPv4-mapped IPv6 as IPv4.

    What is no address comes back trimmed and in lower case: a strange source
    must not lose a listener.
    """
    if is_canonical_ip(ip):
        return ip
    text = ip.strip().lower().removeprefix("[").removesuffix("]").partition("%")[0]
    if is_canonical_ip(text):
        return text
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def is_canonical_ip(text: str) -> bool:
    """Is this surely an address in its one spelling? What the system's library says at once; it may say no to one."""
    try:
        if ":" not in text:
            return socket.inet_ntoa(socket.inet_pton(socket.AF_INET, text)) == text
        # An IPv4 address within IPv6 is spelled in its own ways: those with a dot are left to ipaddress.
        return "." not in text and socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, text)) == text
    except (OSError, ValueError):
        return False


def packed_ip(ip: str) -> bytes | None:
    """The four or sixteen bytes of a normalised address, in network order; None of what is no address."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
    except (OSError, ValueError):
        return None


def home_of(packed: bytes) -> bytes:
    """What counts as one address: an IPv4 address, of IPv6 the /64, which is one home (RFC 6177)."""
    return packed[:HOME_BYTES]


def listener_key(address: Address, secret: bytes) -> int:
    """A number of 63 bits for the listener at ``address`` under ``secret``.

    HMAC-SHA256 over the normalised address, a NUL and the normalised agent.
    Raises ValueError for an empty secret, under which a key could be turned
    back by trying all addresses.
    """
    return key_under(secret, name_of(address))


def name_of(address: Address) -> bytes:
    """What the keys of ``address`` are made from: it is as secret as the address."""
    return f"{normalise_ip(address.ip)}\0{normalise_agent(address.agent)}".encode("utf-8", "surrogatepass")


def key_under(secret: bytes, told: bytes) -> int:
    """:func:`listener_key` of what :func:`name_of` gave, for whoever needs several keys of one address."""
    if not secret:
        raise ValueError("The secret is empty; expected random bytes, 32 of them or more.")
    digest = hmac.digest(secret, told, "sha256")
    return int.from_bytes(digest[:8], "big") & _MASK_63


def household_key(listener: int, lane: int) -> int:
    """The key of the household's member in ``lane``; lane 0 keeps ``listener``."""
    if lane == 0:
        return listener
    mixed = (listener + lane * _GOLDEN_GAMMA) & _MASK_64
    mixed = ((mixed ^ (mixed >> 30)) * _MIX_1) & _MASK_64
    mixed = ((mixed ^ (mixed >> 27)) * _MIX_2) & _MASK_64
    return (mixed ^ (mixed >> 31)) & _MASK_63


def household_keys(listener: Ints, lane: Ints) -> Ints:
    """:func:`household_key` of whole columns."""
    keys = np.array(listener, dtype=np.int64)
    members = np.flatnonzero(lane)
    mixed = keys[members].astype(np.uint64) + np.asarray(lane)[members].astype(np.uint64) * np.uint64(_GOLDEN_GAMMA)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_MIX_1)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_MIX_2)
    keys[members] = ((mixed ^ (mixed >> np.uint64(31))) & np.uint64(_MASK_63)).astype(np.int64)
    return keys
