"""How long a busy machine let a process wait that wanted to go on: by so much may others be late too."""

from __future__ import annotations

import threading
import time

LOOK_SECONDS = 0.05


class Stalls:
    """Looks at the clock again and again, from ``start()`` to ``stop()``."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0
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
            self.longest_seconds = max(self.longest_seconds, now - looked - LOOK_SECONDS)
            looked = now
