"""Icecast's admin pages, polled: who is connected now, and since which second.

``/admin/stats`` names the server's run, ``/admin/listclients?mount=`` lists
the sockets of one mount. ``floor(poll instant) - Connected`` is the second in
which a socket connected, the same in every poll, in the access log and in the
callbacks of URL authentication, whose client number is the poll's ``ID``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import httpx

from ..errors import ConfigurationError, MalformedRecord, SourceUnavailable
from ..kernel.types import MS, Address, Observation
from . import urlauth
from .base import Census, Heard, PullSource, Report

__all__ = ["IcecastSource", "ListedClient", "ServerStats", "parse_listclients", "parse_stats"]

MAX_PAGE_BYTES = 64 * 1024 * 1024
"""Room for a quarter of a million listeners at 256 bytes each."""

ATTEMPTS = 3
"""Icecast counts and lists under two locks: a page caught between them is asked for again."""

MAX_OTHER_MOUNTS = 16
"""So many mounts that are nobody's stream are searched for a listener that an admin moved."""

MISSED_POLLS = 2
"""After so many intervals without a poll, listeners may have come and gone unseen."""

MAX_CONNECTED_SECONDS = 10 * 366 * 24 * 3600
"""Ten years: more is a broken counter."""

_NO_SOURCE = b"Source does not exist"
"""What the 400 page of ``listclients`` says of a mount without a source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedClient:
    """One ``<listener>``: its number in the server's run, and for how many seconds it has been there."""

    client: str
    connected_s: int
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
        mounts[mount] = _count(source.findtext("listeners"), "listeners")
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
    counted = _count(sources[0].findtext("Listeners"), "Listeners")
    listed = tuple(_listed(listener) for listener in sources[0].findall("listener"))
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


def _listed(listener: ElementTree.Element) -> ListedClient:
    client = (listener.findtext("ID") or "").strip()
    if not (client.isascii() and client.isdigit() and len(client) <= 20):
        raise MalformedRecord("client", "A listener without its number.")
    ip = (listener.findtext("IP") or "").strip()
    if not ip:
        raise MalformedRecord("ip", "A listener without an address.")
    connected_s = _count(listener.findtext("Connected"), "Connected")
    if connected_s > MAX_CONNECTED_SECONDS:
        raise MalformedRecord("connected", "A listener of more than ten years.")
    return ListedClient(
        client=client,
        connected_s=connected_s,
        address=Address(ip=ip, agent=listener.findtext("UserAgent") or ""),
    )


def _count(text: str | None, name: str) -> int:
    text = (text or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise MalformedRecord(name.lower(), f"<{name}> is missing or no number.")
    return int(text)


@dataclass(slots=True)
class _Census:
    """What one round over the mounts has shown so far. A socket stays on its first stream."""

    known: Mapping[str, tuple[str, int]]  # client -> (stream, started_s), from the poll before
    found: dict[str, tuple[str, int, int, Address]] = field(default_factory=dict)
    guessed: int = 0
    elsewhere: int = 0

    def add(self, stream: str | None, at_ms: int, clients: Iterable[ListedClient]) -> None:
        """Takes the sockets of a mount; with ``stream`` None those alone that are known."""
        for one in clients:
            if one.client in self.known:
                slug, started_s = self.known[one.client]
            elif stream is None:
                self.elsewhere += 1
                continue
            else:
                slug, started_s = stream, at_ms // MS - one.connected_s
            if one.client in self.found:
                slug, started_s = self.found[one.client][:2]
            self.found[one.client] = (slug, started_s, at_ms, one.address)

    def missing(self) -> bool:
        return any(client not in self.found for client in self.known)


class IcecastSource(PullSource):
    """The admin pages of one Icecast, and the URL-authentication callbacks of the same server.

    The poll is a census: whoever it does not show has gone. A poll that fails
    in any way raises, and ends nobody.
    """

    options = {
        "url": str,
        "user": str,
        "password": str,
        "poll_seconds": (int, float),
        "timeout_seconds": (int, float),
    }
    late_seconds = 3600

    def configure(
        self,
        *,
        url: str = "",
        user: str = "admin",
        password: str = "",
        poll_seconds: float = 15.0,
        timeout_seconds: float = 5.0,
    ) -> None:
        """Takes the options; raises ConfigurationError. No connection is made yet."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"Option 'url' of source {self.name!r} is no web address. Example: 'http://127.0.0.1:8000'."
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ConfigurationError(
                f"Option 'url' of source {self.name!r} holds more than an address. "
                "Put the account into 'user' and 'password'."
            )
        if not password:
            raise ConfigurationError(f"Source {self.name!r} lacks 'password': <admin-password> of icecast.xml.")
        for name, value in (("poll_seconds", poll_seconds), ("timeout_seconds", timeout_seconds)):
            if not 0 < value <= 3600:
                raise ConfigurationError(
                    f"Option {name!r} of source {self.name!r} is {value!r}; expected 0 to 3600 seconds, 0 excluded."
                )
        self.interval_seconds = float(poll_seconds)
        self.timeout_seconds = float(timeout_seconds)
        self._url = url.rstrip("/")
        self._auth = httpx.BasicAuth(user, password)
        self._client: httpx.Client | None = None
        self.transport: httpx.BaseTransport | None = None  # another way to Icecast than its socket
        self._elapsed_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def receive(self, payload: Mapping[str, Any], *, received_ms: int) -> Sequence[Observation]:
        """The observations of one callback of this server, with the poll's client numbers."""
        return urlauth.observations(payload, received_ms=received_ms)

    def pull(self, cursor: Mapping[str, Any], *, now_ms: int) -> Report:
        """A census of every stream of this server. Raises SourceUnavailable.

        The server's run is read after the lists: if it is not the run of the
        poll before, the lists may be of either, and are read once more.
        """
        clock = _Clock(now_ms, self._elapsed_ms)
        server = str(cursor.get("server", ""))
        known = _remembered(cursor, frozenset(self.streams.values()))
        for _ in range(ATTEMPTS):
            if not server:
                server, known = self._stats().server, {}
            # Before the first list: whoever is on any of them was seen after the census.
            begun_ms = clock.now()
            census, stats = self._census(known, clock)
            if stats.server == server:
                return self._report(cursor, server, census, now_ms=now_ms, at_ms=begun_ms)
            server = ""
        raise SourceUnavailable(f"Source {self.name!r}: Icecast restarted again and again during one poll.")

    def _census(self, known: Mapping[str, tuple[str, int]], clock: _Clock) -> tuple[_Census, ServerStats]:
        census = _Census(known)
        sourceless: set[str] = set()
        polled = dict(self.streams)
        for mount, slug in self.streams.items():
            if not self._listen(census, mount, slug, clock):
                sourceless.add(slug)
        for mount, slugs in self._fallback_mounts().items():
            slug, is_guess = _placed(slugs, sourceless)
            before = len(census.found)
            self._listen(census, mount, slug, clock)
            census.guessed += (len(census.found) - before) if is_guess else 0
            polled[mount] = slug
        if census.missing() and self.fallbacks:
            # Moved back from a fallback after its own mount was read, before the fallback was.
            for mount, slug in self.streams.items():
                self._listen(census, mount, slug, clock)
        stats = self._stats()
        if census.missing():
            others = [mount for mount, n in stats.listeners.items() if n and mount not in polled]
            for mount in others[:MAX_OTHER_MOUNTS]:
                self._listen(census, mount, None, clock)
            if others:
                stats = self._stats()
        return census, stats

    def _fallback_mounts(self) -> Mapping[str, Sequence[str]]:
        """The fallback mounts that are no stream themselves, with the streams that use them."""
        mounts: dict[str, list[str]] = {}
        for slug, fallbacks in self.fallbacks.items():
            for mount in fallbacks:
                if mount not in self.streams:
                    mounts.setdefault(mount, []).append(slug)
        return mounts

    def _listen(self, census: _Census, mount: str, stream: str | None, clock: _Clock) -> bool:
        """Adds a mount's sockets to the census; False where it has no source, hence nobody."""
        for attempt in range(1, ATTEMPTS + 1):
            at_ms = clock.now()
            page = self._page(f"/admin/listclients?mount={quote(mount, safe='/')}")
            if page is None:
                return False
            try:
                census.add(stream, at_ms, parse_listclients(page, mount))
            except MalformedRecord as error:
                if attempt == ATTEMPTS or error.reason != "count":
                    raise self._unusable("the list of listeners", error) from error
            else:
                return True
        raise AssertionError("the last attempt returns or raises")

    def _stats(self) -> ServerStats:
        page = self._page("/admin/stats")
        try:
            return parse_stats(page or b"")
        except MalformedRecord as error:
            raise self._unusable("the statistics page", error) from error

    def _unusable(self, what: str, error: MalformedRecord) -> SourceUnavailable:
        return SourceUnavailable(
            f"Source {self.name!r}: {what} cannot be used ({error}). Is 'url' the address of an Icecast 2.4?"
        )

    def _page(self, target: str) -> bytes | None:
        """The body of an admin page; None where the mount has no source. Raises SourceUnavailable."""
        try:
            status, body = self._get(target)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceUnavailable(
                f"Source {self.name!r}: Icecast does not answer ({type(error).__name__}). "
                "Is it running, and is 'url' its address?"
            ) from error
        if status == httpx.codes.OK:
            return body
        if status == httpx.codes.BAD_REQUEST and _NO_SOURCE in body:
            return None
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise SourceUnavailable(
                f"Source {self.name!r}: Icecast refuses the account (HTTP {status}). "
                "'user' and 'password' must be <admin-user> and <admin-password> of icecast.xml."
            )
        raise SourceUnavailable(
            f"Source {self.name!r}: Icecast answers HTTP {status} where 200 was expected. See its error.log."
        )

    def _get(self, target: str) -> tuple[int, bytes]:
        """Status and body of one request, within the time limit and the size limit."""
        if self._client is None:
            self._client = httpx.Client(
                auth=self._auth,
                timeout=self.timeout_seconds,
                trust_env=False,
                transport=self.transport,
                headers={"User-Agent": "aircox-listen-stats"},
            )
        stop_at = time.monotonic() + self.timeout_seconds
        body = bytearray()
        with self._client.stream("GET", self._url + target) as answer:
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > MAX_PAGE_BYTES:
                    raise httpx.DecodingError("larger than any list of listeners")
                if time.monotonic() > stop_at:
                    raise httpx.ReadTimeout("slower than the time limit")
            return answer.status_code, bytes(body)

    def _report(self, cursor: Mapping[str, Any], server: str, census: _Census, *, now_ms: int, at_ms: int) -> Report:
        observations = [
            Observation(
                stream=slug,
                started_ms=started_s * MS,
                seen_ms=max(seen_ms, started_s * MS),
                client=client,
                address=address,
                identity_known=not urlauth.is_within(address.ip, self.trusted_proxies),
            )
            for client, (slug, started_s, seen_ms, address) in census.found.items()
        ]
        slugs = sorted(set(self.streams.values()))
        since_ms = self._heard_since(cursor, now_ms)
        counts = {"read": len(observations) + census.elsewhere, "kept": len(observations)}
        if census.guessed:
            counts["fallback_of_several_streams"] = census.guessed
        return Report(
            source=self.name,
            observations=observations,
            census=Census(streams=frozenset(slugs), at_ms=at_ms, server=server),
            heard=[Heard(stream=slug, started_ms=since_ms, ended_ms=at_ms) for slug in slugs],
            cursor={"server": server, "at_ms": at_ms, "clients": _memory(census)},
            counts=counts,
        )

    def _heard_since(self, cursor: Mapping[str, Any], now_ms: int) -> int:
        """The poll before, if nobody can have come and gone between unseen for long; else now."""
        before_ms = int(cursor.get("at_ms", 0))
        limit_ms = int((MISSED_POLLS * self.interval_seconds + self.timeout_seconds) * MS)
        return before_ms if 0 <= now_ms - before_ms <= limit_ms else now_ms


class _Clock:
    """The collector's clock, moved on by the time that a pull takes."""

    def __init__(self, now_ms: int, elapsed_ms: Callable[[], int]) -> None:
        self._elapsed_ms = elapsed_ms
        self._origin_ms = now_ms - elapsed_ms()

    def now(self) -> int:
        return self._origin_ms + self._elapsed_ms()


def _placed(slugs: Sequence[str], sourceless: set[str]) -> tuple[str, bool]:
    """The stream whose listeners a shared fallback holds, and whether that is a guess."""
    down = [slug for slug in slugs if slug in sourceless]
    candidates = down or list(slugs)
    return candidates[0], len(candidates) > 1


def _remembered(cursor: Mapping[str, Any], streams: frozenset[str]) -> dict[str, tuple[str, int]]:
    """client -> (stream, started_s) of the poll before, for the streams that are still configured."""
    return {
        client: (slug, int(started_s))
        for slug, clients in cursor.get("clients", {}).items()
        if slug in streams
        for client, started_s in clients.items()
    }


def _memory(census: _Census) -> dict[str, dict[str, int]]:
    memory: dict[str, dict[str, int]] = {}
    for client, (slug, started_s, _, _) in census.found.items():
        memory.setdefault(slug, {})[client] = started_s
    return memory
