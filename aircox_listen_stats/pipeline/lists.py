"""Where the maintained lists are published, and how they come into files. Only when somebody asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from .. import conf
from ..errors import ListenStatsError
from ..kernel.lists import networks_of, parse_agents

__all__ = ["PUBLISHED", "ListRefused", "Published", "fetch", "troubles"]

TIMEOUT_SECONDS = 30.0
LARGEST_BYTES = 32 * 1024 * 1024
"""Amazon's list has 2 MB, Azure's 4."""

OPAWG = "https://raw.githubusercontent.com/opawg/user-agents-v2/master/build"


class ListRefused(ListenStatsError):
    """A list could not be fetched, or is not what it should be. What was there before stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A list: the file's name, where it is, whose terms hold, and for which key of EXCLUDE it is."""

    name: str
    url: str
    terms: str
    key: str


PUBLISHED = (
    Published(name="bots.runtime.json", url=f"{OPAWG}/bots.runtime.json", terms="MIT licence", key="agent_lists"),
    Published(name="apps.runtime.json", url=f"{OPAWG}/apps.runtime.json", terms="MIT licence", key="agent_lists"),
    Published(
        name="amazon.json",
        url="https://ip-ranges.amazonaws.com/ip-ranges.json",
        terms="published by Amazon for this use",
        key="cloud_lists",
    ),
    Published(
        name="google.json",
        url="https://www.gstatic.com/ipranges/cloud.json",
        terms="published by Google for this use",
        key="cloud_lists",
    ),
    Published(
        name="oracle.json",
        url="https://docs.oracle.com/en-us/iaas/tools/public_ip_ranges.json",
        terms="published by Oracle for this use",
        key="cloud_lists",
    ),
    Published(
        name="digitalocean.csv",
        url="https://digitalocean.com/geo/google.csv",
        terms="a geofeed (RFC 8805)",
        key="cloud_lists",
    ),
    Published(
        name="linode.csv", url="https://geoip.linode.com/", terms="a geofeed (RFC 8805)", key="cloud_lists"
    ),
)  # fmt: skip
"""What can be fetched as it is. Azure's list has another address each week: docs/lists.md."""


def fetch(one: Published, folder: Path, *, transport: httpx.BaseTransport | None = None) -> Path:
    """The file into which the list was put. Raises ListRefused; a list that is there is only replaced by a good one."""
    try:
        with (
            httpx.Client(transport=transport, timeout=TIMEOUT_SECONDS, follow_redirects=True) as client,
            client.stream("GET", one.url) as answer,
        ):
            answer.raise_for_status()
            text = _limited(answer).decode("utf-8-sig")
    except (httpx.HTTPError, UnicodeDecodeError) as error:
        raise ListRefused(f"{one.name}: {one.url} could not be fetched ({type(error).__name__}).") from error
    _check(one.key, text, one.name)
    path = folder / one.name
    new = path.with_name(f".{path.name}.new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
    except OSError as error:
        raise ListRefused(f"{one.name} could not be written into the folder ({type(error).__name__}).") from error
    return path


def _limited(answer: httpx.Response) -> bytes:
    found = bytearray()
    for block in answer.iter_bytes():
        found += block
        if len(found) > LARGEST_BYTES:
            raise ListRefused(f"{answer.url.host} sent more than {LARGEST_BYTES} bytes, which is no list.")
    return bytes(found)


def _check(key: str, text: str, name: str) -> None:
    read: Callable[[str], object] = parse_agents if key == "agent_lists" else (lambda one: networks_of(one, "x"))
    try:
        read(text)
    except ValueError as error:
        raise ListRefused(f"{name} is no list that can be used: {error}.") from error


def troubles(settings: conf.Settings) -> Iterator[str]:
    """What is wrong with the lists that the settings name."""
    for key in ("agent_lists", "cloud_lists"):
        for number, path in enumerate(getattr(settings.exclude, key), start=1):
            name = f"EXCLUDE[{key!r}], file {number}"
            try:
                _check(key, Path(path).read_text(encoding="utf-8-sig"), name)
            except (OSError, UnicodeDecodeError) as error:
                yield f"{name} cannot be read ({type(error).__name__})."
            except ListRefused as error:
                yield str(error)
