"""Our ASGI entry whose end waits as long as a busy machine needs to write what it has answered."""

from __future__ import annotations

from aircox_listen_stats.asgi import application
from aircox_listen_stats.web import buffer

buffer.LAST_FLUSH_SECONDS = 25.0

__all__ = ["application"]
