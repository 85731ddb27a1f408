"""From which site a stream was played: the name of the host alone, never a path, a query, a user or an address."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["LONGEST_HOST", "NONE", "better", "host_of"]

NONE = "-"
"""A server that tells referrers told none. That is not the same as not knowing."""

LONGEST_HOST = 64
"""Characters that are kept (``Session.referrer``); of a longer name the last labels are."""

REMEMBERED = 4096
"""Different referrers of which the host is known: a station is embedded in some dozen pages."""

LONGEST_READ = 2048
"""Characters that are looked at: the host is at the beginning."""

_ADDRESS = re.compile(
    r"(?:https?|android-app|ios-app)://(?:[^/?#@\\]*@)?(?P<host>[^/?#:@\\]+)(?::\d{0,5})?(?:[/?#].*)?", re.S | re.I
)
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+(?:xn--[a-z0-9-]{1,59}|[a-z]{2,63})")
_PRIVATE = re.compile(r"(?:^|\.)(?:local|lan|home|internal|intranet|localdomain|home\.arpa|localhost)$")
"""Names of somebody's own machine or network: they may be a person's."""


@lru_cache(maxsize=REMEMBERED)
def host_of(told: str) -> str | None:
    """The host of a ``Referer``, without ``www.``; NONE where there is none, None where it cannot be kept.

    Not kept are addresses, names of a single word and of private networks, and what is no URL.
    """
    told = told[:LONGEST_READ].strip()
    if told in ("", NONE):
        return NONE
    match = _ADDRESS.fullmatch(told)
    if match is None:
        return None
    host = match["host"].lower().rstrip(".").removeprefix("www.")
    if not _HOST.fullmatch(host) or _PRIVATE.search(host):
        return None
    while len(host) > LONGEST_HOST:
        host = host.partition(".")[2]
    return host if "." in host else None


def better(one: str | None, other: str | None) -> str | None:
    """What is kept of two tellings of one socket, whichever came first: a host before NONE before nothing.

    Of two hosts, the last in the order of the alphabet.
    """
    return max(one or "", other or "") or None  # a dash sorts before every letter and figure
