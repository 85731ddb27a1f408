"""The door of what is public: from where, from which page, and as whom somebody comes.

Addresses live in memory only, under a key that dies with the process.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings

from ..kernel.identity import home_of

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

PERMISSION = "aircox_listen_stats.view_all_audiences"

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
LOOPBACK = "127.0.0.1"

_address_key = secrets.token_bytes(32)


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """Every value of the ASGI header ``name``, joined by commas; '' where it is missing."""
    return ",".join(value.decode("latin-1") for key, value in headers if key.lower() == name)


def is_allowed(origin: str, *, host: str, allowed: Sequence[str]) -> bool:
    """Whether a page of ``origin`` may read the live figures of the site ``host``.

    A request without an Origin comes from no web page and is let in: the
    check keeps other sites' scripts from using a visitor's cookies, and a
    program can write any header anyway. ``allowed`` holds origins
    (``https://player.example``), bare hosts, or ``*``.
    """
    if not origin or "*" in allowed:
        return True
    asked = _host_and_port(origin)
    if asked is None:
        return False
    # By the page's scheme, not ours: a proxy in front may have ended TLS.
    if asked == _host_and_port(f"{origin.partition(':')[0]}://{host}"):
        return True
    return any(_matches(origin, asked, one) for one in allowed)


def asked_host(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The host that the client asked for, by Django's own rule on forwarded hosts."""
    if django_settings.USE_X_FORWARDED_HOST:
        forwarded = header(headers, b"x-forwarded-host")
        if forwarded:
            return forwarded
    return header(headers, b"host")


def is_house(user: Any) -> bool:
    """Whether ``user`` may see the staff's view: staff, or whoever may see every audience."""
    return bool(user is not None and user.is_active and (user.is_staff or user.has_perm(PERMISSION)))


def client_key(scope: Mapping[str, Any], *, trusted_proxies: Sequence[str]) -> bytes | None:
    """:func:`address_key` of an ASGI connection."""
    peer = (scope.get("client") or ("",))[0]
    forwarded = header(scope.get("headers", ()), b"x-forwarded-for")
    return address_key(peer, forwarded, trusted_proxies=trusted_proxies)


def address_key(peer: str, forwarded: str, *, trusted_proxies: Sequence[str]) -> bytes | None:
    """A keyed hash of the client's address, for counting what comes from there; None where it is not known.

    Behind trusted proxies it is the right-most address of ``forwarded`` (an
    X-Forwarded-For) that is no proxy's: those left of it are the client's own
    invention. This machine itself, and a Unix socket, are always proxies:
    whoever comes from there without a forwarded address is not known.
    """
    hops = [hop.strip() for hop in [*forwarded.split(","), peer or LOOPBACK]]
    networks = _networks(tuple(trusted_proxies))
    for hop in reversed(hops):
        address = _address(hop)
        if address is None:
            return None  # no address where one should stand: what is left of it says nothing
        if not (address.is_loopback or any(address in network for network in networks)):
            return hashlib.blake2b(home_of(address.packed), key=_address_key, digest_size=16).digest()
    return None


def _address(text: str) -> IPAddress | None:
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=8)
def _networks(texts: tuple[str, ...]) -> tuple[IPNetwork, ...]:
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def _matches(origin: str, asked: tuple[str, int | None], allowed: str) -> bool:
    if "://" in allowed:
        return origin.partition(":")[0] == allowed.partition(":")[0] and asked == _host_and_port(allowed)
    return asked[0] == allowed.lower()


def _host_and_port(origin: str) -> tuple[str, int | None] | None:
    parts = urlsplit(origin)
    try:
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname:
        return None
    return parts.hostname, port or DEFAULT_PORTS.get(parts.scheme)
