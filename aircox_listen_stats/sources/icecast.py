"""Icecast's admin pages, polled: who is connected now, and since which second.

``/admin/stats`` names the server's run, ``/admin/listclients?mount=`` lists
the sockets of one mount. ``floor(poll instant) - Connected`` is the second in
which a socket connected, the same in every poll, in the access log and in the
callbacks of URL authentication, whose client number is the poll's ``ID``.

icecast-kh (read in its source, 2.4.0-kh22) has the same pages with other
spellings: the count is ``<listeners>``, a listener has its number as attribute
``id`` too, a ``<lag>``, no ``<UserAgent>`` where none or none in UTF-8 came,
and no ``<Connected>`` while it moves between threads; the server's start is
told without ISO 8601; a mount without a source is ``mount does not exist``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import httpx

from ..errors import ConfigurationError, MalformedRecord, SourceUnavailable
from ..kernel.types import MS, Address, Observation
from . import urlauth
from .base import Census, Heard, Report
from .polling import MAX_CONNECTED_SECONDS, Clock, PolledSource, Server

__all__ = ["IcecastSource", "ListedClient", "ServerStats", "parse_listclients", "parse_stats"]

ATTEMPTS = 3
"""Icecast counts and lists under two locks: a page caught between them is asked for again."""

MAX_OTHER_MOUNTS = 16
"""So many mounts that are nobody's stream are searched for a listener that an admin moved."""

_NO_SOURCE = (b"Source does not exist", b"mount does not exist")
"""What the 400 page of ``listclients`` says of a mount without a source: Icecast's words, icecast-kh's."""

EDGE_DIGITS = 8
"""Of the digests that name an edge and its run in front of its client numbers; they tell no address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedClient:
    """One ``<listener>``: its number in the server's run, and for how many seconds it has been there."""

    client: str
    connected_s: int | None  # None: icecast-kh was just moving it
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStats:
    """The run of the server, and how many listeners each mount with a source has."""

    server: str
    listeners: Mapping[str, int]


def parse_stats(page: bytes) -> ServerStats:
    """What ``/admin/stats`` says. Raises MalformedRecord."""
    root = _root(page)
    server = (root.findtext("server_start_iso8601") or root.findtext("server_start") or "").strip()
    if not server:
        raise MalformedRecord("no_server_start", "The page does not tell when the server started.")
    mounts: dict[str, int] = {}
    for source in root.iter("source"):
        mount = source.get("mount", "")
        if not mount:
            raise MalformedRecord("no_mount", "A source without a mount.")
        mounts[mount] = _count(_texts(source).get("listeners"), "listeners")
    return ServerStats(server=server, listeners=mounts)


def parse_listclients(page: bytes, mount: str) -> tuple[ListedClient, ...]:
    """The sockets on ``mount``; () where nobody listens. Raises MalformedRecord.

    A page that lists another number of sockets than it counts is refused
    (reason ``count``): a blank page must not end everybody.
    """
    root = _root(page)
    sources = [source for source in root.iter("source") if source.get("mount") == mount]
    if len(sources) != 1:
        raise MalformedRecord("no_mount", "The page does not show the mount that was asked for.")
    counted = _count(_texts(sources[0]).get("listeners"), "Listeners")
    listed = tuple(_listed(one) for one in sources[0] if one.tag.lower() == "listener")
    if len(listed) != counted:
        raise MalformedRecord("count", f"The page counts {counted} listeners and lists {len(listed)}.")
    return listed


def _root(page: bytes) -> ElementTree.Element:
    """The ``<icestats>`` element. Document types are refused, so that no entity can grow."""
    if b"<!DOCTYPE" in page or b"<!ENTITY" in page:
        raise MalformedRecord("doctype", "The page has a document type; Icecast's pages have none.")
    try:
        root = ElementTree.fromstring(page)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise MalformedRecord("not_xml", "The page is not XML.") from error
    if root.tag != "icestats":
        raise MalformedRecord("not_icestats", "The page is not one of Icecast's.")
    return root


def _texts(element: ElementTree.Element) -> dict[str, str]:
    """What the children of an element say, by their names in lower case: servers differ in the spelling."""
    return {child.tag.lower(): child.text or "" for child in element}


def _listed(listener: ElementTree.Element) -> ListedClient:
    told = _texts(listener)
    client = (told.get("id") or listener.get("id") or "").strip()
    if not (client.isascii() and client.isdigit() and len(client) <= 20):
        raise MalformedRecord("client", "A listener without its number.")
    ip = told.get("ip", "").strip()
    if not ip:
        raise MalformedRecord("ip", "A listener without an address.")
    connected_s = None
    if "connected" in told or "lag" not in told:
        connected_s = _count(told.get("connected"), "Connected")
        if connected_s > MAX_CONNECTED_SECONDS:
            raise MalformedRecord("connected", "A listener of more than ten years.")
    return ListedClient(
        client=client,
        connected_s=connected_s,
        address=Address(ip=ip, agent=told.get("useragent", "")),
    )


def _count(text: str | None, name: str) -> int:
    text = (text or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise MalformedRecord(name.lower(), f"<{name}> is missing or no number.")
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sighting:
    """A socket as one round found it."""

    stream: str
    started_s: int
    seen_ms: int
    address: Address
    start_known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edge:
    """One Icecast of the streams. ``prefix`` keeps its client numbers apart from those of other edges."""

    server: Server
    prefix: str = ""


@dataclass(slots=True)
class _Census:
    """What one round over the mounts of an edge has shown so far. A socket stays on its first stream."""

    known: Mapping[str, tuple[str, int]]  # client -> (stream, started_s), from the poll before
    found: dict[str, _Sighting] = field(default_factory=dict)
    guessed: int = 0
    elsewhere: int = 0

    def add(self, stream: str | None, at_ms: int, clients: Iterable[ListedClient]) -> None:
        """Takes the sockets of a mount; with ``stream`` None those alone that are known."""
        for one in clients:
            start_known = one.connected_s is not None or one.client in self.known
            if one.client in self.known:
                slug, started_s = self.known[one.client]
            elif stream is None:
                self.elsewhere += 1
                continue
            else:
                slug, started_s = stream, at_ms // MS - (one.connected_s or 0)
            if one.client in self.found:
                slug, started_s = self.found[one.client].stream, self.found[one.client].started_s
            self.found[one.client] = _Sighting(
                stream=slug, started_s=started_s, seen_ms=at_ms, address=one.address, start_known=start_known
            )

    def missing(self) -> bool:
        return any(client not in self.found for client in self.known)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """The census of one edge, of one run of its server."""

    edge: _Edge
    server: str
    begun_ms: int
    census: _Census


class IcecastSource(PolledSource):
    """The admin pages of one Icecast, and the URL-authentication callbacks of the same server.

    The poll is a census: whoever it does not show has gone. A poll that fails
    in any way raises, and ends nobody. With ``urls`` several edges carry the
    same streams and add up; all of them must answer.
    """

    options = {
        "url": str,
        "urls": (list, tuple),
        "user": str,
        "password": str,
        "poll_seconds": (int, float),
        "timeout_seconds": (int, float),
    }
    late_seconds = 3600
    software = "Icecast"

    def configure(
        self,
        *,
        url: str = "",
        urls: Sequence[str] = (),
        user: str = "admin",
        password: str = "",
        poll_seconds: float = 15.0,
        timeout_seconds: float = 5.0,
    ) -> None:
        """Takes the options; raises ConfigurationError. No connection is made yet."""
        self.set_pace(poll_seconds, timeout_seconds)
        if url and urls:
            raise ConfigurationError(f"Source {self.name!r} has both 'url' and 'urls'. Several edges: 'urls' alone.")
        auth = httpx.BasicAuth(user, password)
        if urls:
            if not all(isinstance(one, str) for one in urls):
                raise ConfigurationError(f"Option 'urls' of source {self.name!r} must be a list of web addresses.")
            servers = [self.server(one, auth=auth, option="urls") for one in urls]
            if len({server.url for server in servers}) != len(servers):
                raise ConfigurationError(
                    f"Option 'urls' of source {self.name!r} names an edge twice. A listener is counted once."
                )
            self._edges = [_Edge(server=server, prefix=_edge_name(server.url)) for server in servers]
        else:
            self._edges = [_Edge(server=self.server(url, auth=auth))]
        if not password:
            raise ConfigurationError(f"Source {self.name!r} lacks 'password': <admin-password> of icecast.xml.")

    def receive(self, payload: Mapping[str, Any], *, received_ms: int) -> Sequence[Observation]:
        """The observations of one callback of this server, with the poll's client numbers.

        Raises MalformedRecord (reason ``edge``) with ``urls``: a callback does not tell from which edge it is.
        """
        if self._edges[0].prefix:
            raise MalformedRecord("edge", "With 'urls' a callback's client number may be of any edge.")
        return urlauth.observations(payload, received_ms=received_ms)

    def pull(self, cursor: Mapping[str, Any], *, now_ms: int) -> Report:
        """A census of every stream of this server, or of all its edges. Raises SourceUnavailable."""
        clock = Clock(now_ms, self._elapsed_ms)
        rounds = [self._round(edge, cursor, clock) for edge in self._edges]
        return self._report(cursor, rounds, now_ms=now_ms)

    def _round(self, edge: _Edge, cursor: Mapping[str, Any], clock: Clock) -> _Round:
        """The census of one edge.

        The server's run is read after the lists: if it is not the run of the
        poll before, the lists may be of either, and are read once more.
        """
        before = cursor.get("edges", {}).get(edge.prefix, {}) if edge.prefix else cursor
        server = str(before.get("server", ""))
        known = _remembered(before, frozenset(self.streams.values()))
        for _ in range(ATTEMPTS):
            if not server:
                server, known = self._stats(edge).server, {}
            # Before the first list: whoever is on any of them was seen after the census.
            begun_ms = clock.now()
            census, stats = self._census(edge, known, clock)
            if stats.server == server:
                return _Round(edge=edge, server=server, begun_ms=begun_ms, census=census)
            server = ""
        raise SourceUnavailable(f"Source {self.name!r}: Icecast restarted again and again during one poll.")

    def _census(self, edge: _Edge, known: Mapping[str, tuple[str, int]], clock: Clock) -> tuple[_Census, ServerStats]:
        census = _Census(known)
        sourceless: set[str] = set()
        polled = dict(self.streams)
        for mount, slug in self.streams.items():
            if not self._listen(edge, census, mount, slug, clock):
                sourceless.add(slug)
        for mount, slugs in self._fallback_mounts().items():
            slug, is_guess = _placed(slugs, sourceless)
            before = len(census.found)
            self._listen(edge, census, mount, slug, clock)
            census.guessed += (len(census.found) - before) if is_guess else 0
            polled[mount] = slug
        if census.missing() and self.fallbacks:
            # Moved back from a fallback after its own mount was read, before the fallback was.
            for mount, slug in self.streams.items():
                self._listen(edge, census, mount, slug, clock)
        stats = self._stats(edge)
        if census.missing():
            others = [mount for mount, n in stats.listeners.items() if n and mount not in polled]
            for mount in others[:MAX_OTHER_MOUNTS]:
                self._listen(edge, census, mount, None, clock)
            if others:
                stats = self._stats(edge)
        return census, stats

    def _fallback_mounts(self) -> Mapping[str, Sequence[str]]:
        """The fallback mounts that are no stream themselves, with the streams that use them."""
        mounts: dict[str, list[str]] = {}
        for slug, fallbacks in self.fallbacks.items():
            for mount in fallbacks:
                if mount not in self.streams:
                    mounts.setdefault(mount, []).append(slug)
        return mounts

    def _listen(self, edge: _Edge, census: _Census, mount: str, stream: str | None, clock: Clock) -> bool:
        """Adds a mount's sockets to the census; False where it has no source, hence nobody."""
        for attempt in range(1, ATTEMPTS + 1):
            at_ms = clock.now()
            page = self._page(edge, f"/admin/listclients?mount={quote(mount, safe='/')}")
            if page is None:
                return False
            try:
                listed = parse_listclients(page, mount)
            except MalformedRecord as error:
                if attempt == ATTEMPTS or error.reason != "count":
                    raise self._unusable("the list of listeners", error) from error
                continue
            if attempt < ATTEMPTS and clock.now() // MS != at_ms // MS:
                continue  # a second ended meanwhile: up to which one Icecast counted is not known
            census.add(stream, at_ms, listed)
            return True
        raise AssertionError("the last attempt returns or raises")

    def _stats(self, edge: _Edge) -> ServerStats:
        page = self._page(edge, "/admin/stats")
        try:
            return parse_stats(page or b"")
        except MalformedRecord as error:
            raise self._unusable("the statistics page", error) from error

    def _unusable(self, what: str, error: MalformedRecord) -> SourceUnavailable:
        return SourceUnavailable(
            f"Source {self.name!r}: {what} cannot be used ({error}). Is 'url' the address of an Icecast 2.4?"
        )

    def _page(self, edge: _Edge, target: str) -> bytes | None:
        """The body of an admin page; None where the mount has no source. Raises SourceUnavailable."""
        status, body = self.ask(edge.server, target)
        if status == httpx.codes.OK:
            return body
        if status == httpx.codes.BAD_REQUEST and any(words in body for words in _NO_SOURCE):
            return None
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise SourceUnavailable(
                f"Source {self.name!r}: Icecast refuses the account (HTTP {status}). "
                "'user' and 'password' must be <admin-user> and <admin-password> of icecast.xml."
            )
        raise SourceUnavailable(
            f"Source {self.name!r}: Icecast answers HTTP {status} where 200 was expected. See its error.log."
        )

    def _report(self, cursor: Mapping[str, Any], rounds: Sequence[_Round], *, now_ms: int) -> Report:
        observations = [
            Observation(
                stream=one.stream,
                started_ms=one.started_s * MS,
                seen_ms=max(one.seen_ms, one.started_s * MS),
                client=_numbered(around, client),
                address=one.address,
                start_known=one.start_known,
                identity_known=not urlauth.is_within(one.address.ip, self.trusted_proxies),
            )
            for around in rounds
            for client, one in around.census.found.items()
        ]
        at_ms = min(around.begun_ms for around in rounds)
        slugs = sorted(set(self.streams.values()))
        since_ms = self.heard_since(cursor, now_ms)
        elsewhere = sum(around.census.elsewhere for around in rounds)
        counts = {"read": len(observations) + elsewhere, "kept": len(observations)}
        guessed = sum(around.census.guessed for around in rounds)
        if guessed:
            counts["fallback_of_several_streams"] = guessed
        return Report(
            source=self.name,
            observations=observations,
            census=Census(
                streams=frozenset(slugs), at_ms=at_ms, server="" if rounds[0].edge.prefix else rounds[0].server
            ),
            heard=[Heard(stream=slug, started_ms=since_ms, ended_ms=at_ms) for slug in slugs],
            cursor={"at_ms": at_ms, **_memory(rounds)},
            counts=counts,
        )


def _edge_name(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:EDGE_DIGITS]


def _numbered(around: _Round, client: str) -> str:
    """The client's number; of several edges, apart from every other edge's and from other runs of its own.

    A census has but one run of its server, and the restart of one edge must not end the listeners of the others.
    """
    if not around.edge.prefix:
        return client
    run = hashlib.sha256(around.server.encode()).hexdigest()[:EDGE_DIGITS]
    return f"{around.edge.prefix}.{run}:{client}"


def _placed(slugs: Sequence[str], sourceless: set[str]) -> tuple[str, bool]:
    """The stream whose listeners a shared fallback holds, and whether that is a guess."""
    down = [slug for slug in slugs if slug in sourceless]
    candidates = down or list(slugs)
    return candidates[0], len(candidates) > 1


def _remembered(before: Mapping[str, Any], streams: frozenset[str]) -> dict[str, tuple[str, int]]:
    """client -> (stream, started_s) of the poll before, for the streams that are still configured."""
    return {
        client: (slug, int(started_s))
        for slug, clients in before.get("clients", {}).items()
        if slug in streams
        for client, started_s in clients.items()
    }


def _memory(rounds: Sequence[_Round]) -> dict[str, Any]:
    """What the next poll must know: each edge's run and clients."""
    memories = {}
    for around in rounds:
        clients: dict[str, dict[str, int]] = {}
        for client, one in around.census.found.items():
            clients.setdefault(one.stream, {})[client] = one.started_s
        memories[around.edge.prefix] = {"server": around.server, "clients": clients}
    return memories.get("", {"edges": memories})
