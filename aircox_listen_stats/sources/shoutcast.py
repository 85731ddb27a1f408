"""Shoutcast 2's administration, polled: who is connected now to each stream (``sid``).

``/admin.cgi?mode=viewjson&page=3&sid=1`` lists the listeners, ``page=1`` of
the same counts them. JSON has lower-case names (``hostname``, ``useragent``,
``connecttime``, ``uid``, ``xff``) and is ``[]`` where nobody listens; XML
(``mode=viewxml``) has the same in upper case under
``SHOUTCASTSERVER/LISTENERS/LISTENER``. Numbers come as text or as numbers, by
version. An agent of ``EMPTY`` is none. A ``uid`` is of one socket while it is
connected and may be used again afterwards (“Shoutcast DNAS Server JSON/XML
Responses”, 2013 to 2018).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import httpx

from ..errors import ConfigurationError, MalformedRecord, SourceUnavailable
from ..kernel.types import MS, Address, Observation
from . import urlauth
from .base import Census, Heard, Report
from .polling import MAX_CONNECTED_SECONDS, Clock, PolledSource, Server, Sighted, steady_start

__all__ = ["ListedSocket", "ShoutcastSource", "parse_count", "parse_listeners"]

FORMATS = ("json", "xml")

ATTEMPTS = 3
"""Listeners come and go between the list and the count: an empty list beside a count is asked for again."""

_UID = re.compile(r"[0-9A-Fa-f]{1,20}")
_SID = re.compile(r"/?(?:sid=|stream/)?([1-9][0-9]{0,9})/?")
_NO_AGENT = "EMPTY"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSocket:
    """One listener: its number while it is connected, and for how many seconds it has been."""

    uid: str
    connected_s: int
    address: Address
    forwarded: str = ""  # its X-Forwarded-For


def parse_listeners(page: bytes) -> tuple[ListedSocket, ...]:
    """The sockets of one stream, from JSON or XML; () where the list is empty. Raises MalformedRecord."""
    told = _told(page)
    if isinstance(told, dict):
        told = told.get("listeners")
    if not isinstance(told, list):
        raise MalformedRecord("not_a_list", "The answer is no list of listeners.")
    listed = tuple(_listed(one) for one in told)
    if len({one.uid for one in listed}) != len(listed):
        raise MalformedRecord("uid_twice", "Two listeners with one uid: they cannot be told apart.")
    return listed


def parse_count(page: bytes) -> int:
    """How many listen to the stream, from JSON or XML of page 1. Raises MalformedRecord."""
    told = _told(page)
    if not isinstance(told, dict):
        raise MalformedRecord("not_a_summary", "The answer is no summary of a stream.")
    return _number(told.get("currentlisteners"), "currentlisteners")


def _told(page: bytes) -> Any:
    """The answer with its names in lower case: a list of listeners, or a summary."""
    page = page.strip().removeprefix(b"\xef\xbb\xbf")
    if page.startswith(b"<"):
        return _told_by_xml(page)
    try:
        told = json.loads(page)
    except (ValueError, RecursionError) as error:
        raise MalformedRecord("not_json", "The answer is neither JSON nor Shoutcast's XML.") from error
    return _lower(told)


def _told_by_xml(page: bytes) -> Any:
    if b"<!DOCTYPE" in page or b"<!ENTITY" in page:
        raise MalformedRecord("doctype", "The answer has a document type; Shoutcast's XML has none.")
    try:
        root = ElementTree.fromstring(page)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise MalformedRecord("not_xml", "The answer is not XML.") from error
    if root.tag.upper() != "SHOUTCASTSERVER":
        raise MalformedRecord("not_shoutcast", "The answer is not one of Shoutcast's.")
    told: dict[str, Any] = {}
    for child in root:
        name = child.tag.lower()
        told[name] = [_texts(one) for one in child] if name == "listeners" else (child.text or "")
    return told


def _texts(element: ElementTree.Element) -> dict[str, str]:
    if element.tag.lower() != "listener":
        raise MalformedRecord("listener", "A list of listeners with something else in it.")
    return {child.tag.lower(): child.text or "" for child in element}


def _lower(told: Any) -> Any:
    if isinstance(told, dict):
        return {str(key).lower(): value for key, value in told.items()}
    if isinstance(told, list):
        return [{str(k).lower(): v for k, v in one.items()} if isinstance(one, dict) else one for one in told]
    return told


def _listed(entry: Any) -> ListedSocket:
    if not isinstance(entry, dict):
        raise MalformedRecord("listener", "A listener that is no object.")
    uid = entry.get("uid")
    uid = str(uid).strip() if isinstance(uid, int | str) and not isinstance(uid, bool) else ""
    if not _UID.fullmatch(uid):
        raise MalformedRecord("uid", "A listener without its uid: sockets cannot be told apart.")
    host = entry.get("hostname")
    if not isinstance(host, str) or not host.strip():
        raise MalformedRecord("hostname", "A listener without an address.")
    connected_s = _number(entry.get("connecttime"), "connecttime")
    if connected_s > MAX_CONNECTED_SECONDS:
        raise MalformedRecord("connecttime", "A listener of more than ten years.")
    agent, forwarded = entry.get("useragent"), entry.get("xff")
    agent = agent.strip() if isinstance(agent, str) else ""
    return ListedSocket(
        uid=uid,
        connected_s=connected_s,
        address=Address(ip=host.strip(), agent="" if agent == _NO_AGENT else agent),
        forwarded=forwarded if isinstance(forwarded, str) else "",
    )


def _number(value: Any, name: str) -> int:
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise MalformedRecord(name, f"'{name}' is missing or no number.")
    return int(text)


class ShoutcastSource(PolledSource):
    """The administration of one Shoutcast 2 server. The ``mount`` of a stream is its ``sid``.

    The poll is a census: whoever it does not show has gone. An empty list
    beside a count of listeners is an error, and ends nobody.
    """

    options = {
        "url": str,
        "user": str,
        "password": str,
        "format": str,
        "poll_seconds": (int, float),
        "timeout_seconds": (int, float),
    }
    late_seconds = 3600
    software = "Shoutcast"

    def configure(
        self,
        *,
        url: str = "",
        user: str = "admin",
        password: str = "",
        format: str = "json",
        poll_seconds: float = 15.0,
        timeout_seconds: float = 5.0,
    ) -> None:
        """Takes the options; raises ConfigurationError. No connection is made yet."""
        self.set_pace(poll_seconds, timeout_seconds)
        self._server: Server = self.server(url, auth=httpx.BasicAuth(user, password))
        if not password:
            raise ConfigurationError(f"Source {self.name!r} lacks 'password': 'adminpassword' of sc_serv.conf.")
        if format not in FORMATS:
            raise ConfigurationError(
                f"Option 'format' of source {self.name!r} is {format!r}. Allowed: {', '.join(FORMATS)}."
            )
        self._format = format
        self._sids: dict[str, str] = {}
        for mount, slug in self.streams.items():
            sid = _SID.fullmatch(mount)
            if sid is None:
                raise ConfigurationError(
                    f"Stream {slug!r} of source {self.name!r} names the mount {mount!r}; "
                    "Shoutcast numbers its streams: write 'mount': '1' for sid 1."
                )
            if sid[1] in self._sids:
                raise ConfigurationError(f"Source {self.name!r}: two streams name sid {sid[1]}. One is counted once.")
            self._sids[sid[1]] = slug

    def pull(self, cursor: Mapping[str, Any], *, now_ms: int) -> Report:
        """A census of every stream of this server. Raises SourceUnavailable."""
        clock = Clock(now_ms, self._elapsed_ms)
        begun_ms = clock.now()
        before = Sighted.of(cursor)
        observations: list[Observation] = []
        clients: dict[str, dict[str, int]] = {}
        for sid, slug in self._sids.items():
            at_ms, listed = self._listeners(sid, clock)
            for one in listed:
                seen = self._observation(one, sid, slug, before, at_ms)
                observations.append(seen)
                clients.setdefault(slug, {})[seen.client or ""] = seen.started_ms // MS
        slugs = sorted(set(self.streams.values()))
        since_ms = self.heard_since(cursor, now_ms)
        return Report(
            source=self.name,
            observations=observations,
            census=Census(streams=frozenset(slugs), at_ms=begun_ms),
            heard=[Heard(stream=slug, started_ms=since_ms, ended_ms=begun_ms) for slug in slugs],
            cursor={"at_ms": begun_ms, "clients": clients},
            counts={"read": len(observations), "kept": len(observations)},
        )

    def _observation(self, one: ListedSocket, sid: str, slug: str, before: Sighted, at_ms: int) -> Observation:
        client = f"{sid}.{one.uid}"
        started_s = steady_start(before, slug, client, at_ms // MS - one.connected_s)
        ip, identity_known = urlauth.beyond_proxies(one.address.ip, one.forwarded, self.trusted_proxies)
        return Observation(
            stream=slug,
            started_ms=started_s * MS,
            seen_ms=max(at_ms, started_s * MS),
            client=client,
            address=Address(ip=ip, agent=one.address.agent),
            identity_known=identity_known,
        )

    def _listeners(self, sid: str, clock: Clock) -> tuple[int, tuple[ListedSocket, ...]]:
        """The instant and the sockets of one stream; an empty list only where the count is 0 too."""
        for _ in range(ATTEMPTS):
            at_ms = clock.now()
            listed = self._parsed(parse_listeners, self._page(sid, 3))
            if listed or self._parsed(parse_count, self._page(sid, 1)) == 0:
                return at_ms, listed
        raise SourceUnavailable(
            f"Source {self.name!r}: Shoutcast lists nobody on sid {sid} and counts listeners. "
            "Try 'format': 'xml', or look at its log."
        )

    def _parsed(self, parse: Any, body: bytes) -> Any:
        try:
            return parse(body)
        except MalformedRecord as error:
            raise SourceUnavailable(
                f"Source {self.name!r}: Shoutcast's answer cannot be used ({error}). "
                "Is 'url' the address of a Shoutcast 2, and 'password' its 'adminpassword'?"
            ) from error

    def _page(self, sid: str, page: int) -> bytes:
        status, body = self.ask(self._server, f"/admin.cgi?sid={sid}&mode=view{self._format}&page={page}")
        if status == httpx.codes.OK:
            return body
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise SourceUnavailable(
                f"Source {self.name!r}: Shoutcast refuses the account (HTTP {status}). "
                "'password' must be 'adminpassword' of sc_serv.conf."
            )
        raise SourceUnavailable(f"Source {self.name!r}: Shoutcast answers HTTP {status} where 200 was expected.")
