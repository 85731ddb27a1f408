"""AzuraCast's listeners API, polled: who is connected now, as AzuraCast's own poll saw it.

``GET /api/station/{id}/listeners`` with ``X-API-Key`` is a JSON list of ip,
user_agent, hash, mount_is_local, mount_name, connected_on, connected_until
(epoch seconds; of a live list the instant of the answer), connected_time
(seconds), device, location.

What AzuraCast's source (ListenersAction, ListenerRepository, NowPlayingTask)
says of these figures, and what follows:

- The list is AzuraCast's table, written at each of its own polls: starts and
  ends are those of its polls, and a list may be as old as its last one.
- By default an entry is one ``hash`` (MD5 of address, agent and mount), its
  ``connected_on`` the earliest of its rows. Two sockets of the same three are
  one; ``unique=false`` would tell rows apart, but AzuraCast opens a new row
  for the second of them at every poll. So the default is asked for.
- An error of its poll leaves the table as it is or empties it, and both come
  with status 200. An empty list is believed only where ``/api/nowplaying``
  says that the station is online and that nobody listens.

The ``hash`` can be turned back into the address by trying all of them. It is
not kept: a socket is named by an HMAC under the API key, another one each day.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from ..errors import ConfigurationError, MalformedRecord, SourceUnavailable
from ..kernel.types import MS, Address, Observation
from . import urlauth
from .base import Census, Heard, Report
from .polling import MAX_CONNECTED_SECONDS, Clock, PolledSource, Sighted, steady_start

__all__ = ["AzuraCastSource", "Listed", "parse_listeners", "parse_now_playing"]

DAY_SECONDS = 24 * 3600

NAME_DIGITS = 12
"""48 bits: two of a million listeners of one day share a name with a chance of 1 in 500."""

_SOME_INSTANT = 10**9
"""September 2001: an instant before it is a counter, not an instant."""

_LAST_INSTANT = 10**11


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One entry of the list: ``connected_s`` seconds at the server's ``until_s``."""

    mount: str
    is_local: bool
    on_s: int
    until_s: int
    address: Address

    @property
    def connected_s(self) -> int:
        return self.until_s - self.on_s


def parse_listeners(body: bytes) -> tuple[Listed, ...]:
    """The entries of a list; () where it is empty. Raises MalformedRecord."""
    told = _json(body)
    if not isinstance(told, list):
        raise MalformedRecord("not_a_list", "The answer is no list of listeners.")
    return tuple(_listed(one) for one in told)


def parse_now_playing(body: bytes) -> tuple[bool, int]:
    """Whether the station is online, and how many listen to it. Raises MalformedRecord."""
    told = _json(body)
    listeners = told.get("listeners") if isinstance(told, dict) else None
    if not isinstance(listeners, dict):
        raise MalformedRecord("now_playing", "The answer does not tell how many listen.")
    counts = [listeners[key] for key in ("total", "current") if listeners.get(key) is not None]
    if not counts or not all(_is_count(one) for one in counts):
        raise MalformedRecord("now_playing", "The answer does not tell how many listen.")
    return told.get("is_online", True) is True, max(counts)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedRecord("not_json", "The answer is not JSON.") from error


def _listed(entry: Any) -> Listed:
    if not isinstance(entry, dict):
        raise MalformedRecord("entry", "An entry that is no object.")
    ip, agent, mount = (entry.get(key) for key in ("ip", "user_agent", "mount_name"))
    if not isinstance(ip, str) or not ip.strip():
        raise MalformedRecord("ip", "A listener without an address.")
    if not isinstance(agent, str | None) or not isinstance(mount, str | None):
        raise MalformedRecord("entry", "A listener whose agent or mount is no text.")
    on_s, until_s = _times(entry)
    return Listed(
        mount=mount or "",
        is_local=entry.get("mount_is_local") is not False,
        on_s=on_s,
        until_s=until_s,
        address=Address(ip=ip.strip(), agent=agent or ""),
    )


def _times(entry: Mapping[str, Any]) -> tuple[int, int]:
    """When the listener came, and the instant of the answer, both on the server's clock.

    ``connected_time`` is not the difference of both where AzuraCast has joined
    several rows: it then leaves the gaps out.
    """
    on_s, until_s, seconds = (entry.get(key) for key in ("connected_on", "connected_until", "connected_time"))
    if not _is_count(on_s) or not _SOME_INSTANT <= on_s <= _LAST_INSTANT:
        raise MalformedRecord("connected_on", "A listener whose 'connected_on' is no epoch second.")
    if not until_s and _is_count(seconds):
        until_s = on_s + seconds
    if not _is_count(until_s) or not 0 <= until_s - on_s <= MAX_CONNECTED_SECONDS:
        raise MalformedRecord("connected_until", "A listener whose 'connected_until' is before 'connected_on'.")
    return on_s, until_s


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


class AzuraCastSource(PolledSource):
    """The current listeners of one station of an AzuraCast.

    The ``mount`` of a stream is AzuraCast's display name of the mount, HLS
    stream or remote relay. Listeners of other mounts are counted as read, and
    belong to nobody here.
    """

    options = {
        "url": str,
        "station": (int, str),
        "api_key": str,
        "poll_seconds": (int, float),
        "timeout_seconds": (int, float),
    }
    late_seconds = 3600
    joins_listeners = True  # of one address, agent and mount
    software = "AzuraCast"

    def configure(
        self,
        *,
        url: str = "",
        station: int | str = "",
        api_key: str = "",
        poll_seconds: float = 30.0,
        timeout_seconds: float = 10.0,
    ) -> None:
        """Takes the options; raises ConfigurationError. No connection is made yet."""
        self.set_pace(poll_seconds, timeout_seconds)
        if isinstance(station, bool) or not str(station).strip():
            raise ConfigurationError(f"Source {self.name!r} lacks 'station': its number or short name in AzuraCast.")
        if not api_key or not api_key.isascii() or not api_key.isprintable():
            raise ConfigurationError(
                f"Source {self.name!r} lacks a usable 'api_key': make one under “My API Keys” for an account "
                "that may see the station's reports."
            )
        self._server = self.server(url, headers={"X-API-Key": api_key, "Accept": "application/json"})
        self._station = quote(str(station).strip(), safe="")
        self._secret = api_key.encode()

    def pull(self, cursor: Mapping[str, Any], *, now_ms: int) -> Report:
        """A census of every stream of the station. Raises SourceUnavailable."""
        clock = Clock(now_ms, self._elapsed_ms)
        at_ms = clock.now()
        listed = self._parsed(parse_listeners, self._page(f"/api/station/{self._station}/listeners"))
        if not listed:
            self._check_empty()
        observations, unmatched = self._observations(listed, Sighted.of(cursor), at_ms)
        slugs = sorted(set(self.streams.values()))
        clients: dict[str, dict[str, int]] = {}
        for one in observations:
            clients.setdefault(one.stream, {})[one.client or ""] = one.started_ms // MS
        counts = {"read": len(listed), "kept": len(observations)}
        if unmatched:
            counts["other_mounts"] = unmatched
        return Report(
            source=self.name,
            observations=observations,
            census=Census(streams=frozenset(slugs), at_ms=at_ms),
            heard=[Heard(stream=slug, started_ms=self.heard_since(cursor, now_ms), ended_ms=at_ms) for slug in slugs],
            cursor={"at_ms": at_ms, "clients": clients},
            counts=counts,
        )

    def _observations(self, listed: Sequence[Listed], before: Sighted, at_ms: int) -> tuple[list[Observation], int]:
        """One observation for each address, agent and mount, and how many entries are of other mounts."""
        found: dict[tuple[str, str], Observation] = {}
        unmatched = 0
        for one in listed:
            stream = self.streams.get(one.mount) or self.streams.get("/" + one.mount)
            if stream is None:
                unmatched += 1
                continue
            client = self._name(one)
            # The server's own clock tells how long; ours tells when that was.
            started_s = steady_start(before, stream, client, at_ms // MS - one.connected_s)
            earlier = found.get((stream, client))
            if earlier is not None:
                started_s = min(started_s, earlier.started_ms // MS)
            found[stream, client] = Observation(
                stream=stream,
                started_ms=started_s * MS,
                seen_ms=max(at_ms, started_s * MS),
                client=client,
                address=one.address,
                identity_known=not urlauth.is_within(one.address.ip, self.trusted_proxies),
            )
        return list(found.values()), unmatched

    def _name(self, one: Listed) -> str:
        """What the socket is called: no address can be tried against it without the API key."""
        day = str(one.on_s // DAY_SECONDS)
        told = "\0".join((day, one.mount, one.address.ip, one.address.agent))
        return hmac.new(self._secret, told.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:NAME_DIGITS]

    def _check_empty(self) -> None:
        """Raises SourceUnavailable unless the station says itself that nobody listens."""
        is_online, count = self._parsed(parse_now_playing, self._page(f"/api/nowplaying/{self._station}"))
        if count:
            raise SourceUnavailable(
                f"Source {self.name!r}: AzuraCast lists nobody and counts {count} listeners. "
                "Are its analytics switched on (Administration, System Settings)?"
            )
        if not is_online:
            raise SourceUnavailable(
                f"Source {self.name!r}: AzuraCast lists nobody, and says that the station is offline: "
                "nobody knows whether anybody listens. Is its broadcast running?"
            )

    def _parsed(self, parse: Any, body: bytes) -> Any:
        try:
            return parse(body)
        except MalformedRecord as error:
            raise SourceUnavailable(
                f"Source {self.name!r}: AzuraCast's answer cannot be used ({error}). "
                "Is 'url' its address, without /api?"
            ) from error

    def _page(self, target: str) -> bytes:
        status, body = self.ask(self._server, target)
        if status == httpx.codes.OK:
            return body
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise SourceUnavailable(
                f"Source {self.name!r}: AzuraCast refuses the API key (HTTP {status}). "
                "Its account needs the permission “View Station Reports”."
            )
        if status == httpx.codes.NOT_FOUND:
            raise SourceUnavailable(f"Source {self.name!r}: AzuraCast knows no such 'station' (HTTP 404).")
        raise SourceUnavailable(f"Source {self.name!r}: AzuraCast answers HTTP {status} where 200 was expected.")
