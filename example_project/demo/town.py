"""Listeners who come and go while the demo runs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from .listeners import Audience, Listener

TICK_SECONDS = 0.5
HOUR = 3600.0


class Town:
    """Keeps about ``size`` listeners connected: some leave, others come, more or fewer by the minute.

    ``join(mount, listener, at)`` connects one and gives a handle, ``leave(handle)`` ends it.
    """

    def __init__(
        self,
        audience: Audience,
        mounts: list[tuple[str, float]],
        join: Callable[[str, Listener, float | None], object],
        leave: Callable[[object], None],
        size: int = 60,
    ) -> None:
        self.audience = audience
        self.random = random.Random()
        self.mounts = mounts
        self.join = join
        self.leave = leave
        self.size = size
        self.leaving: list[tuple[float, object]] = []

    def settle_in(self, now: float, since: float) -> None:
        """Those who are there already: most came around ``since``."""
        for _ in range(self.size):
            around_the_start = self.random.random() < 0.7
            came = since + abs(self.random.gauss(60, 300)) if around_the_start else now - self.random.uniform(0, HOUR)
            self._arrive(now, at=min(came, now - 1))

    def run(self, stop: threading.Event) -> None:
        """Lets listeners come and go until ``stop`` is set."""
        while not stop.wait(TICK_SECONDS):
            now = time.time()
            gone = [handle for at, handle in self.leaving if at <= now]
            self.leaving = [(at, handle) for at, handle in self.leaving if at > now]
            for handle in gone:
                self.leave(handle)
            # Arrivals pull towards the size, so that the count swings and does not run away.
            rate = 0.45 * max(0.2, 1 + (self.size - len(self.leaving)) / self.size * 4)
            if self.random.random() < rate * TICK_SECONDS:
                self._arrive(now)

    def _arrive(self, now: float, at: float | None = None) -> None:
        listener = self.audience.at_random()
        mount = self.random.choices([m for m, _ in self.mounts], [share for _, share in self.mounts])[0]
        stays = self.random.uniform(3, 50) if self.random.random() < 0.25 else self.random.expovariate(1 / 240) + 30
        self.leaving.append((now + stays, self.join(mount, listener, at)))
