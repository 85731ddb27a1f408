"""What sources that are polled over HTTP share: one bounded request, a clock, starts that stay."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx

from ..errors import ConfigurationError, SourceUnavailable
from ..kernel.types import MS
from .base import PullSource

__all__ = ["MAX_CONNECTED_SECONDS", "Clock", "PolledSource", "Server", "Sighted", "steady_start"]

MAX_PAGE_BYTES = 64 * 1024 * 1024
"""Room for a quarter of a million listeners at 256 bytes each."""

MAX_CONNECTED_SECONDS = 10 * 366 * 24 * 3600
"""Ten years: more is a broken counter."""

MISSED_POLLS = 2
"""After so many intervals without a poll, listeners may have come and gone unseen."""

SAME_START_SECONDS = 3
"""A start that is counted back from a poll is off by a second each way, and so was the one before."""

LONGEST_SECONDS = 3600


class Clock:
    """The collector's clock, moved on by the time that a pull takes."""

    def __init__(self, now_ms: int, elapsed_ms: Callable[[], int]) -> None:
        self._elapsed_ms = elapsed_ms
        self._origin_ms = now_ms - elapsed_ms()

    def now(self) -> int:
        return self._origin_ms + self._elapsed_ms()


class Server:
    """One HTTP server that is asked. Its connection is opened at the first request and kept."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        auth: httpx.Auth | None = None,
        headers: Mapping[str, str] | None = None,
        transport: Callable[[], httpx.BaseTransport | None] = lambda: None,
    ) -> None:
        self.url = url
        self._timeout_seconds = timeout_seconds
        self._auth = auth
        self._headers = {"User-Agent": "aircox-listen-stats", **(headers or {})}
        self._transport = transport
        self._client: httpx.Client | None = None

    def get(self, target: str) -> tuple[int, bytes]:
        """Status and body of one request, within the time limit and the size limit. Raises httpx.HTTPError."""
        if self._client is None:
            self._client = httpx.Client(
                auth=self._auth,
                timeout=self._timeout_seconds,
                trust_env=False,
                transport=self._transport(),
                headers=self._headers,
            )
        stop_at = time.monotonic() + self._timeout_seconds
        body = bytearray()
        with self._client.stream("GET", self.url + target) as answer:
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > MAX_PAGE_BYTES:
                    raise httpx.DecodingError("larger than any list of listeners")
                if time.monotonic() > stop_at:
                    raise httpx.ReadTimeout("slower than the time limit")
            return answer.status_code, bytes(body)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class PolledSource(PullSource):
    """A source whose server is asked over HTTP every ``poll_seconds``."""

    software: ClassVar[str] = "the server"
    """What answers, as an error names it."""

    def set_pace(self, poll_seconds: float, timeout_seconds: float) -> None:
        """Takes the two options that every polled source has. Raises ConfigurationError."""
        for name, value in (("poll_seconds", poll_seconds), ("timeout_seconds", timeout_seconds)):
            if not 0 < value <= LONGEST_SECONDS:
                raise ConfigurationError(
                    f"Option {name!r} of source {self.name!r} is {value!r}; "
                    f"expected 0 to {LONGEST_SECONDS} seconds, 0 excluded."
                )
        self.interval_seconds = float(poll_seconds)
        self.timeout_seconds = float(timeout_seconds)
        self.transport: httpx.BaseTransport | None = None  # another way to the server than its socket
        self._servers: list[Server] = []
        self._elapsed_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000

    def server(
        self, url: str, *, auth: httpx.Auth | None = None, headers: Mapping[str, str] | None = None, option: str = "url"
    ) -> Server:
        """The server at ``url``; closed with the source. Raises ConfigurationError; connects to nothing yet."""
        made = Server(
            self._web_address(url, option),
            timeout_seconds=self.timeout_seconds,
            auth=auth,
            headers=headers,
            transport=lambda: self.transport,
        )
        self._servers.append(made)
        return made

    def close(self) -> None:
        for server in self._servers:
            server.close()

    def ask(self, server: Server, target: str) -> tuple[int, bytes]:
        """Status and body of one page. Raises SourceUnavailable where nothing came in time."""
        try:
            return server.get(target)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceUnavailable(
                f"Source {self.name!r}: {self.software} does not answer ({type(error).__name__}). "
                "Is it running, and is 'url' its address?"
            ) from error

    def heard_since(self, cursor: Mapping[str, Any], now_ms: int) -> int:
        """The poll before, if nobody can have come and gone between unseen for long; else now."""
        before_ms = int(cursor.get("at_ms", 0))
        limit_ms = int((MISSED_POLLS * self.interval_seconds + self.timeout_seconds) * MS)
        return before_ms if 0 <= now_ms - before_ms <= limit_ms else now_ms

    def _web_address(self, url: str, option: str) -> str:
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            is_address = False
        if not is_address:
            raise ConfigurationError(
                f"Option {option!r} of source {self.name!r} is no web address. Example: 'http://127.0.0.1:8000'."
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ConfigurationError(
                f"Option {option!r} of source {self.name!r} holds more than an address. "
                "Put accounts and keys into the options that are meant for them."
            )
        return url.rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighted:
    """The sockets of the poll before: ``starts_s`` of (stream, number), and when it was."""

    at_ms: int = 0
    starts_s: Mapping[tuple[str, str], int]

    @classmethod
    def of(cls, cursor: Mapping[str, Any]) -> Sighted:
        return cls(
            at_ms=int(cursor.get("at_ms", 0)),
            starts_s={
                (stream, client): int(started_s)
                for stream, clients in cursor.get("clients", {}).items()
                for client, started_s in clients.items()
            },
        )


def steady_start(before: Sighted, stream: str, client: str, started_s: int) -> int:
    """The second in which a socket began, the same in every poll.

    Whoever was listed at the poll before and claims to have been there then is
    the same socket, and keeps the start that was told of it. One that began
    after that poll (its connected time went down) is another.
    """
    known_s = before.starts_s.get((stream, client))
    if known_s is None:
        return started_s
    is_same = started_s * MS <= before.at_ms or abs(started_s - known_s) <= SAME_START_SECONDS
    return known_s if is_same else started_s
