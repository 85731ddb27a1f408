"""How often somebody may ask: a bucket for each key, in this process's memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["Pace"]

MOST_KEYS = 20_000
"""Keys that are remembered; the one that asked longest ago is forgotten first (about 4 MB)."""

MINUTE_MS = 60_000


class Pace:
    """At most ``per_minute`` turns a minute for each key; a key that was quiet may take them all at once."""

    def __init__(self, *, most_keys: int = MOST_KEYS) -> None:
        self.most_keys = most_keys
        self._full_ms: OrderedDict[Hashable, float] = OrderedDict()  # when each key's bucket is full again
        self._lock = threading.Lock()

    def take(self, key: Hashable, *, per_minute: int, now_ms: int) -> float:
        """Seconds to wait before the next turn; 0 where this one was given."""
        turn_ms = MINUTE_MS / per_minute
        with self._lock:
            full_ms = max(self._full_ms.get(key, 0.0), float(now_ms))
            full_ms = min(full_ms, now_ms + MINUTE_MS)  # the clock went back
            wait_ms = max(0.0, full_ms + turn_ms - now_ms - MINUTE_MS)
            self._full_ms[key] = full_ms if wait_ms else full_ms + turn_ms
            self._full_ms.move_to_end(key)
            if len(self._full_ms) > self.most_keys:
                self._full_ms.popitem(last=False)
            return wait_ms / 1000

    def forget(self) -> None:
        """Gives everybody a full bucket (tests)."""
        with self._lock:
            self._full_ms.clear()
