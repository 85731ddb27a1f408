"""What a web player plays, by the address that it plays: a stream, or one of aircox's sounds."""

from __future__ import annotations

import os
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from django.conf import settings as django_settings

from .. import conf
from ..models import Stream
from ..onair.base import OnAirLog

__all__ = ["forget", "medium_of"]

REMEMBERED = 1024
"""Addresses that are known in each process: players ask for the same ones again and again."""

REMEMBERED_MS = 60_000
"""How long a sound that was uploaded since, or a stream that was added, may stay unknown."""


def medium_of(address: str, onair: OnAirLog, *, now_ms: int) -> tuple[int | None, int | None]:
    """The stream's id and the sound's id behind ``address``: one of them, or none of both.

    A stream is known by PLAYER's ``streams`` or by its mount, whatever host
    serves it; a sound by its file below MEDIA_URL. Queries count for nothing:
    they may carry a token.
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        return None, None
    path = unquote(parts.path)
    slug = _stream_at(f"{parts.scheme}://{parts.netloc}{path}", path)
    if slug is not None:
        return _stream_id(slug, now_ms // REMEMBERED_MS), None
    file = _file_at(path)
    return None, None if file is None else _sound_id(file, onair, now_ms // REMEMBERED_MS)


def forget() -> None:
    """Drops what is remembered (tests)."""
    _stream_id.cache_clear()
    _sound_id.cache_clear()


def _stream_at(address: str, path: str) -> str | None:
    settings = conf.get()
    named = settings.player.streams
    if address in named or path in named:
        return named.get(address, named.get(path))
    counting = {slug: stream for slug, stream in settings.streams.items() if not stream.beside}
    return next((slug for slug, stream in counting.items() if path == (stream.mount or f"/{slug}")), None)


def _file_at(path: str) -> str | None:
    """The file that MEDIA_URL serves at ``path``; None for whatever else, and outside of MEDIA_ROOT."""
    below = urlsplit(django_settings.MEDIA_URL).path
    root = os.path.abspath(django_settings.MEDIA_ROOT)
    if not below.strip("/") or not path.startswith(below) or "\0" in path:
        return None
    file = os.path.normpath(os.path.join(root, path[len(below) :].lstrip("/")))
    return file if file.startswith(root + os.sep) else None


@lru_cache(maxsize=REMEMBERED)
def _stream_id(slug: str, period: int) -> int | None:
    return Stream.objects.active().filter(slug=slug).values_list("pk", flat=True).first()


@lru_cache(maxsize=REMEMBERED)
def _sound_id(file: str, onair: OnAirLog, period: int) -> int | None:
    return onair.sound_id_of(file)
