"""Sessions as lines of a log, masked: in Icecast's form, or in the W3C's extended one.

The address is of documentation's network 2001:db8::/32: a keyed hash of the
listener under a key that lives as long as the writing. Lines of one listener
have the same one, and no two files can be laid beside each other by it. A
session of several parts is a line for each, as its sockets were.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping

from ..fields import from_ms
from .sessions import HeardSession

MS = 1000

MASK_NETWORK = int(ipaddress.IPv6Address("2001:db8::"))
"""For documents alone (RFC 3849): it is nobody's address."""

MASK_BYTES = 8
"""64 bits of the hash: of ten million listeners any two share them with a chance of three in a million."""

KEY_BYTES = 32

W3C_FIELDS = "c-ip date time cs-method cs-uri-stem sc-status sc-bytes time-taken cs(User-Agent)"
"""W3C, Extended Log File Format: date and time are those of the end, in UTC; time-taken is in seconds."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""English, whatever the locale."""


class Mask:
    """Gives listeners their address for one file."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(KEY_BYTES)

    def address(self, listener: int) -> str:
        told = listener.to_bytes(MASK_BYTES, "big", signed=True)
        hashed = hashlib.blake2b(told, key=self._key, digest_size=MASK_BYTES).digest()
        return str(ipaddress.IPv6Address(MASK_NETWORK + int.from_bytes(hashed, "big")))


def icecast_lines(sessions: Iterable[HeardSession], mounts: Mapping[int, str], mask: Mask) -> Iterator[bytes]:
    """Lines as Icecast writes them when a socket ends, with its seconds last; stamps in UTC."""
    for one in sessions:
        address, agent = mask.address(one.listener), _agent(one.app)
        for ended, seconds, sent in _sockets(one):
            stamp = f"{ended.day:02d}/{_MONTHS[ended.month - 1]}/{ended:%Y:%H:%M:%S} +0000"
            request = f'"GET {mounts[one.stream_id]} HTTP/1.1" 200 {sent}'
            yield f'{address} - - [{stamp}] {request} "-" "{agent}" {seconds}\n'.encode()


def w3c_lines(sessions: Iterable[HeardSession], mounts: Mapping[int, str], mask: Mask) -> Iterator[bytes]:
    """The W3C's extended form with its directives."""
    yield f"#Version: 1.0\n#Software: aircox-listen-stats\n#Fields: {W3C_FIELDS}\n".encode()
    for one in sessions:
        address, agent = mask.address(one.listener), _agent(one.app).replace(" ", "+")
        for ended, seconds, sent in _sockets(one):
            begin = f"{address} {ended:%Y-%m-%d %H:%M:%S} GET {mounts[one.stream_id]} 200"
            yield f"{begin} {sent} {seconds} {agent}\n".encode()


FORMS: Mapping[str, Callable[[Iterable[HeardSession], Mapping[int, str], Mask], Iterator[bytes]]] = {
    "icecast": icecast_lines,
    "w3c": w3c_lines,
}


def _sockets(one: HeardSession) -> Iterator[tuple[dt.datetime, int, int | str]]:
    """End, seconds and bytes of each part; what was sent in all stands with the last."""
    for begin_ms, end_ms in one.parts:
        is_last = end_ms == one.parts[-1][1]
        yield from_ms(end_ms), end_ms // MS - begin_ms // MS, (is_last and one.bytes_sent) or "-"


def _agent(app: str) -> str:
    return "".join(letter for letter in app if letter.isprintable() and letter not in '"\\') or "-"
