"""Icecast's public status page, polled: how many listen to each mount, and nobody apart.

``/status-json.xsl`` needs no account. It feeds the live count, never a session:
who listens, since when and how long is not in it.

Wire format (Icecast 2.4.4, recorded): ``icestats.source`` is a list, a dict
where one mount is listed, absent where none is; every source ends with
``"dummy":null``; hidden mounts and mounts without a source are left out. Two
faults of its template make the page no JSON: a title of a lone dash comes
without quotes (github.com/xiph/Icecast-Server issues 34, 43, 74), and without
any source the brace after ``"icestats":`` is missing (issue 38). The count
must not hang on a title, so both are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from ..errors import MalformedRecord, SourceUnavailable
from .base import Heard, Report
from .polling import Clock, PolledSource

__all__ = ["IcecastTotalsSource", "parse_status"]

TARGET = "/status-json.xsl"

MAX_LISTENERS = 10**9
"""More is a broken counter."""

_START = re.compile(rb'\{\s*"icestats"\s*:\s*\{')
_NO_SOURCE = re.compile(rb'\{\s*"icestats"\s*:\s*"server_start"\s*:[^{}\[\]]*\}\s*\}')
_MOUNT = re.compile(rb'(?<!\\)"listeners"\s*:\s*(\d+)\s*,\s*"listenurl"\s*:\s*"((?:[^"\\]|\\.)*)"')
_END = re.compile(rb'"dummy"\s*:\s*null\s*\}\s*(?:\]\s*)?\}\s*\}')
_ONE_SOURCE = re.compile(rb'(?<!\\)"listenurl"\s*:')


def parse_status(page: bytes) -> Mapping[str, int]:
    """Listeners by mount; {} where no mount is listed. Raises MalformedRecord."""
    found: dict[str, int] = {}
    for url, count in _sources(page):
        mount = _mount(url)
        if mount in found:
            raise MalformedRecord("mount_twice", "The page lists a mount twice.")
        found[mount] = count
    return found


def _sources(page: bytes) -> Iterable[tuple[str, int]]:
    try:
        told = json.loads(page)
    except (ValueError, RecursionError):
        return _sources_of_broken(page)
    stats = told.get("icestats") if isinstance(told, dict) else None
    if not isinstance(stats, dict) or not ({"server_start", "server_id"} & stats.keys()):
        raise MalformedRecord("not_icestats", "The page is not Icecast's status.")
    sources = stats.get("source", [])
    sources = [sources] if isinstance(sources, dict) else sources
    if not isinstance(sources, list) or not all(isinstance(one, dict) for one in sources):
        raise MalformedRecord("source", "The page's sources are neither a list nor one source.")
    return [(_text(one.get("listenurl")), _count(one.get("listeners"))) for one in sources]


def _sources_of_broken(page: bytes) -> Iterable[tuple[str, int]]:
    """The same from a page that one of the template's two faults made no JSON."""
    page = page.strip()
    if _NO_SOURCE.fullmatch(page):
        return []
    is_whole = any(end.end() == len(page) for end in _END.finditer(page))
    if _START.match(page) is None or not is_whole:
        raise MalformedRecord("not_json", "The page is not JSON, and not Icecast's status either.")
    found = _MOUNT.findall(page)
    if not found or len(found) != len(_ONE_SOURCE.findall(page)):
        raise MalformedRecord("not_json", "The page is not JSON, and its mounts cannot be told.")
    return [(_text(_unquoted(url)), _count(int(count[:12]))) for count, url in found]


def _unquoted(raw: bytes) -> Any:
    try:
        return json.loads(b'"' + raw + b'"')
    except ValueError as error:
        raise MalformedRecord("listenurl", "A mount whose address cannot be read.") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise MalformedRecord("listenurl", "A mount without its address.")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_LISTENERS:
        raise MalformedRecord("listeners", "A mount whose number of listeners is missing or no number.")
    return value


def _mount(url: str) -> str:
    try:
        mount = unquote(urlsplit(url).path)
    except ValueError as error:
        raise MalformedRecord("listenurl", "A mount whose address cannot be read.") from error
    if not mount.startswith("/"):
        raise MalformedRecord("listenurl", "A mount whose address cannot be read.")
    return mount


class IcecastTotalsSource(PolledSource):
    """The number of listeners of each mount, where nothing better can be had.

    A mount that the page does not list (hidden, or without a source) is
    unknown: it is left out of the totals.
    """

    options = {"url": str, "poll_seconds": (int, float), "timeout_seconds": (int, float)}
    tells_only_totals = True
    late_seconds = 0
    software = "Icecast"

    def configure(self, *, url: str = "", poll_seconds: float = 15.0, timeout_seconds: float = 5.0) -> None:
        """Takes the options; raises ConfigurationError. No connection is made yet."""
        self.set_pace(poll_seconds, timeout_seconds)
        self._server = self.server(url)

    def pull(self, cursor: Mapping[str, Any], *, now_ms: int) -> Report:
        """The totals at this instant. Raises SourceUnavailable."""
        at_ms = Clock(now_ms, self._elapsed_ms).now()
        status, body = self.ask(self._server, TARGET)
        if status != httpx.codes.OK:
            raise SourceUnavailable(
                f"Source {self.name!r}: Icecast answers HTTP {status} where 200 was expected. "
                "Is status-json.xsl in its webroot?"
            )
        try:
            listed = parse_status(body)
        except MalformedRecord as error:
            raise SourceUnavailable(
                f"Source {self.name!r}: the status page cannot be used ({error}). "
                "Is 'url' the address of an Icecast 2.4?"
            ) from error
        totals = {slug: listed[mount] for mount, slug in self.streams.items() if mount in listed}
        since_ms = self.heard_since(cursor, now_ms)
        return Report(
            source=self.name,
            totals=totals,
            heard=[Heard(stream=slug, started_ms=since_ms, ended_ms=at_ms) for slug in sorted(totals)],
            cursor={"at_ms": at_ms},
            counts={"read": len(listed), "kept": len(totals)},
        )
