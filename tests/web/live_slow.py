"""Our ASGI entry with less patience, so that a test need not wait for ten seconds."""

from __future__ import annotations

from aircox_listen_stats.asgi import application
from aircox_listen_stats.web import fanout

fanout.DROP_SECONDS = 3.0

__all__ = ["application"]
