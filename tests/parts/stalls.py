"""How long a busy machine let a process wait that wanted to go on: by so much may others be late too."""

from __future__ import annotations

import threading
import time

LOOK_SECONDS = 0.05
LONG_SECONDS = 1.0
"""Whoever plays or asks is gone for so long that others may notice."""


class Stalls:
    """Looks at the clock again and again, from ``start()`` to ``stop()``."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0
        self.long_ended: list[float] = []
        """When stalls of LONG_SECONDS were over, seconds since 1970."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends looking."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._stop.wait(LOOK_SECONDS):
            now = time.monotonic()
            stalled = now - looked - LOOK_SECONDS
            self.longest_seconds = max(self.longest_seconds, stalled)
            if stalled >= LONG_SECONDS:
                self.long_ended.append(time.time())
            looked = now
