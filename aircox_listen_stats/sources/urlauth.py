"""Icecast's URL authentication: what its callbacks say, as observations.

Wire format (Icecast 2.4.4): POST, ``application/x-www-form-urlencoded``, every
non-alphanumeric byte as ``%xx`` in lower-case hex, agents as raw bytes. ``pass``
and ``user`` arrive in clear and are dropped before anything else is looked at.
"""

from __future__ import annotations

import ipaddress
from binascii import a2b_qp
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from ..errors import MalformedRecord
from ..kernel.identity import is_canonical_ip
from ..kernel.referrers import host_of
from ..kernel.types import MS, Address, ListenerMark, Observation
from .base import PushSource

__all__ = [
    "LISTENER_ACTIONS",
    "MAX_BODY_BYTES",
    "AuthEvent",
    "UrlAuthSource",
    "beyond_proxies",
    "is_within",
    "observations",
    "parse_body",
    "payload_of",
]

LISTENER_ACTIONS = frozenset({"listener_add", "listener_remove"})
OTHER_ACTIONS = frozenset({"mount_add", "mount_remove", "stream_auth"})
"""What Icecast also sends. No listener is in them."""

MAX_BODY_BYTES = 64 * 1024
"""Icecast resets requests with 6 kB of agent; three bytes each here, and room for headers."""

MAX_FIELDS = 64
"""Icecast sends nine, and one for each header that it is told to pass on."""

MAX_DURATION_SECONDS = 366 * 24 * 3600
"""A socket older than a year is a broken counter."""

_FORWARDED = "ClientHeader.x-forwarded-for"
_REFERRER = "ClientHeader.referer"
_READ = {
    name.encode(): name for name in ("action", "mount", "client", "duration", "ip", "agent", _FORWARDED, _REFERRER)
}
"""The fields that are looked at. All others are dropped unread, a listener's name and password among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthEvent:
    """One callback. ``address`` is there for the two listener actions alone."""

    action: str
    mount: str = ""
    client: str | None = None
    duration_s: int | None = None
    address: Address | None = None
    identity_known: bool = True
    referrer: str | None = None

    @property
    def is_listener(self) -> bool:
        return self.action in LISTENER_ACTIONS


def parse_body(body: bytes, *, trusted_proxies: Sequence[str] = ()) -> AuthEvent:
    """What a callback says. Raises MalformedRecord.

    The mount comes without its query, which may carry a listener's token. A
    forwarded address is believed from ``trusted_proxies`` alone, and then the
    right-most one that is no trusted proxy itself.
    """
    form = _fields(body)
    action = form.get("action", "")
    if action in OTHER_ACTIONS:
        return AuthEvent(action=action, mount=_mount(form))
    if action not in LISTENER_ACTIONS:
        raise MalformedRecord("action", "A callback without an action that Icecast knows.")
    ip, identity_known = _ip(form, trusted_proxies)
    return AuthEvent(
        action=action,
        mount=_mount(form),
        client=_client(form),
        duration_s=_duration(form) if action == "listener_remove" else None,
        address=Address(ip=ip, agent=form.get("agent", "")),
        identity_known=identity_known,
        referrer=host_of(form[_REFERRER]) if _REFERRER in form else None,
    )


def payload_of(event: AuthEvent, *, stream: str, mark: ListenerMark) -> dict[str, Any]:
    """What the Inbox keeps of a listener's callback: no address, no agent, of a referrer the host."""
    return {
        "action": event.action,
        "client": event.client,
        "stream": stream,
        "duration_s": event.duration_s,
        "identity_known": event.identity_known,
        **({} if event.referrer is None else {"referrer": event.referrer}),
        "mark": {
            "listener": mark.listener,
            "previous": mark.previous,
            "country": mark.country,
            "app": mark.app,
            "exclusion": str(mark.exclusion),
            "rule": mark.rule,
            "periods": mark.periods,
        },
    }


def observations(payload: Mapping[str, Any], *, received_ms: int) -> tuple[Observation, ...]:
    """The observation of one Inbox payload; () where no listener is in it. Raises MalformedRecord.

    An added listener starts when the callback came. A removed one ended when
    it came, and began ``duration_s`` whole seconds before that second: what
    the access log and the poll say too. A duration of 0 is no listening (also
    what Icecast sends for a mount without a source): the span is empty.
    """
    try:
        action = payload["action"]
        if action not in LISTENER_ACTIONS:
            return ()
        common: dict[str, Any] = {
            "stream": _text(payload["stream"]),
            "client": _text(payload["client"]),
            "mark": _mark(payload["mark"]),
            "identity_known": bool(payload.get("identity_known", True)),
            "referrer": payload.get("referrer"),
        }
        if action == "listener_add":
            return (Observation(started_ms=received_ms, seen_ms=received_ms, **common),)
        duration_s = int(payload["duration_s"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise MalformedRecord("payload", "An Inbox row that does not follow its format.") from error
    if not 0 <= duration_s <= MAX_DURATION_SECONDS:
        raise MalformedRecord("duration", "A duration outside 0 seconds to one year.")
    started_ms = (received_ms // MS - duration_s) * MS if duration_s else received_ms
    return (Observation(started_ms=started_ms, seen_ms=received_ms, ended=True, **common),)


class UrlAuthSource(PushSource):
    """Callbacks alone, for a station that has no access to Icecast's admin pages.

    With ``listener_remove`` alone a listener is known once it has gone. The
    first of the two ears of one server, the poll, is better still: backend
    ``icecast`` takes the same callbacks.
    """

    follows_open_sessions = True
    late_seconds = 24 * 3600
    """A radio set left on for a day is told of when it is switched off."""

    def receive(self, payload: Mapping[str, Any], *, received_ms: int) -> Sequence[Observation]:
        return observations(payload, received_ms=received_ms)


def _mark(kept: Mapping[str, Any]) -> ListenerMark:
    periods = tuple((str(kind), int(started_ms), int(key)) for kind, started_ms, key in kept.get("periods", ()))
    return ListenerMark(**{**kept, "periods": periods})


def is_within(ip: str, networks: Sequence[str]) -> bool:
    """Is the address in one of the networks? False for what is no address."""
    address = _address(ip)
    return address is not None and _within(
        address, [ipaddress.ip_network(network, strict=False) for network in networks]
    )


def beyond_proxies(ip: str, forwarded: str, trusted_proxies: Sequence[str]) -> tuple[str, bool]:
    """Who stands before the station's own proxies, and whether that is the listener and not a proxy.

    ``forwarded`` (an ``X-Forwarded-For``) is believed from a trusted proxy
    alone, from right to left, up to the first address that is none. What is
    no address comes back as it is: some servers tell a name.
    """
    peer = _address(ip)
    if peer is None:
        return ip, True
    networks = [ipaddress.ip_network(network, strict=False) for network in trusted_proxies]
    if not _within(peer, networks):
        return str(peer), True
    nearest = peer
    for hop in reversed(forwarded.split(",")):
        address = _address(hop)
        if address is None:
            break
        nearest = address
        if not _within(address, networks):
            return str(address), True
    return str(nearest), False


def _fields(body: bytes) -> dict[str, str]:
    if len(body) > MAX_BODY_BYTES:
        raise MalformedRecord("too_long", f"A callback of more than {MAX_BODY_BYTES} bytes.")
    pairs = body.split(b"&")
    if len(pairs) > MAX_FIELDS:
        raise MalformedRecord("too_many_fields", f"A callback of more than {MAX_FIELDS} fields.")
    form: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition(b"=")
        known = _READ.get(name)
        if known is None and b"%" in name:
            known = _READ.get(unquote_to_bytes(name))
        if known is None or known in form:
            continue
        if b"+" in value:
            value = value.replace(b"+", b" ")
        form[known] = _decoded(_unquoted(value) if b"%" in value else value)
    return form


def _unquoted(value: bytes) -> bytes:
    """The bytes behind the escapes. Icecast escapes every dot, and urllib takes its time with them.

    Quoted-printable is the same with another sign, in C; where it differs (a
    sign that is no escape, the other sign, ends of lines) they take it.
    """
    if b"=" not in value and b"\n" not in value and b"\r" not in value:
        raw = a2b_qp(value.replace(b"%", b"="))
        if len(value) - len(raw) == 2 * value.count(b"%"):  # each of them was an escape
            return raw
    return unquote_to_bytes(value)


def _decoded(raw: bytes) -> str:
    """UTF-8 where it is UTF-8, else each byte as the character of its number."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _mount(form: Mapping[str, str]) -> str:
    mount = form.get("mount", "").partition("?")[0]
    if not mount.startswith("/"):
        raise MalformedRecord("mount", "A callback without a mount.")
    return mount


def _client(form: Mapping[str, str]) -> str:
    client = form.get("client", "")
    if not (client.isascii() and client.isdigit() and len(client) <= 20):
        raise MalformedRecord("client", "A callback without the number of its client.")
    return client


def _duration(form: Mapping[str, str]) -> int:
    duration = form.get("duration", "")
    if not (duration.isascii() and duration.isdigit() and len(duration) <= 10):
        raise MalformedRecord("duration", "A listener_remove without its duration.")
    if int(duration) > MAX_DURATION_SECONDS:
        raise MalformedRecord("duration", "A duration of more than one year.")
    return int(duration)


def _ip(form: Mapping[str, str], trusted_proxies: Sequence[str]) -> tuple[str, bool]:
    """The listener's address, and whether it is the listener's and not our own proxy's."""
    told = form.get("ip", "")
    if not trusted_proxies and is_canonical_ip(told):
        return told, True
    peer = _address(told)
    if peer is None:
        raise MalformedRecord("ip", "A callback without an address.")
    return beyond_proxies(str(peer), form.get(_FORWARDED, ""), trusted_proxies)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    text = text.strip().strip("[]")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _within(address: Any, networks: Sequence[Any]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("expected a text")
    return value
