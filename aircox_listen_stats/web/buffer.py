"""Callbacks between Icecast and the Inbox: two threads and, between them, the journal.

One thread forgets the address of what has arrived and hands the rest to the
journal, all that waits in one write; then it lets the answers go. It never
asks the database. The other thread does nothing else: it fetches the period's
secret, takes the journal into the Inbox, and what dead processes left.

An answer waits for the journal, PATIENCE_SECONDS at most. When one had to wait
so long (a disk that hangs, a database that is away while the period's secret
is not known yet), the next ones do not wait at all until the journal is heard
of again. Nobody is rejected, but a kill would lose what waits in memory.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from django.db import connection

from .. import conf
from ..errors import place_of
from ..pipeline import blurs, households, journal, secrets
from ..sources import urlauth

__all__ = ["Arrived", "Buffer", "buffer"]

log = logging.getLogger(__name__)

MS = 1000

MAX_WAITING = 20_000
"""Callbacks kept in memory while neither journal nor database takes them: 10 MB, minutes of a large station."""

BATCH = 500
"""Callbacks out of memory in one transaction."""

PATIENCE_SECONDS = 1.0
"""How long an answer waits for the journal. Icecast asks one listener after the other, and gives up after 15 s."""

QUICK_SECONDS = 0.1
"""A journal that takes longer is not waited for again."""

FLUSH_SECONDS = 0.2
"""How long a callback waits for others to share its transaction."""

RETRY_SECONDS = 2.0
"""How long the Inbox's thread leaves a database alone that refused it."""

QUIET_SECONDS = 1.0
"""After so long without a callback the Inbox's thread gives its connection back."""

LOOK_SECONDS = 60.0
"""How often a web process looks for what dead ones left. The collector looks sooner."""

LAST_FLUSH_SECONDS = 2.0
"""How long the end of the process waits for its callbacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A listener's callback as it came in. Holds an address: memory only."""

    source: str
    stream: str
    received_ms: int
    event: urlauth.AuthEvent


Waiter = tuple[asyncio.AbstractEventLoop, asyncio.Future[bool]] | threading.Event | None
"""Whoever waits to give the answer: an event loop, a thread, or nobody."""


class Buffer:
    """Callbacks on their way to the Inbox: bounded, in order, and on disk before they are answered."""

    def __init__(self, *, limit: int = MAX_WAITING, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.limit = limit
        self.patience_seconds = patience_seconds
        self.journal = journal.Journal()
        self.dropped = 0
        self._arrived: deque[tuple[Arrived, Waiter]] = deque()
        self._nameless: deque[tuple[Arrived, Waiter]] = deque()  # no secret is known to make a key with
        self._memory: deque[tuple[int, bytes]] = deque()  # what the journal did not take, by its number
        self._memory_name = f"memory-{os.urandom(16).hex()}"
        self._memory_last = self._memory_taken = 0
        self._is_late = False  # an answer waited in vain: the next ones do not wait
        self._lock = threading.Lock()  # of the queues; held for moments
        self._journalling = threading.Lock()
        self._flushing = threading.Lock()
        self._has_arrived = threading.Event()
        self._has_more = threading.Event()
        self._wants_secret = threading.Event()
        self._looked = 0.0
        self._trouble = ""  # why the Inbox could not be written
        self._threads: dict[str, threading.Thread] = {}

    def __len__(self) -> int:
        """Callbacks in memory."""
        return len(self._arrived) + len(self._nameless) + len(self._memory)

    def keep(self, one: Arrived) -> bool:
        """Did the journal have its turn before this returned? For a thread that answers.

        Then the callback is on disk, or the log tells why it is not.
        """
        if self._is_late:
            self._put(one, None)
            return False
        done = threading.Event()
        self._put(one, done)
        if done.wait(self.patience_seconds):
            return True
        self._is_late = True
        return False

    async def keep_waiting(self, one: Arrived) -> bool:
        """The same, for an event loop that answers."""
        if self._is_late:
            self._put(one, None)
            return False
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        patience = loop.call_later(self.patience_seconds, _resolve, (done,), False)
        self._put(one, (loop, done))
        try:
            settled = await done
        finally:
            patience.cancel()
        self._is_late = self._is_late or not settled
        return settled

    def prepare(self) -> None:
        """Fetches the period's secret, and takes what dead processes left, before the first callback comes."""
        try:
            if not conf.get().callback_tokens:
                return
            secrets.current(time.time_ns() // 1_000_000)
            self.flush()
        except Exception as error:  # noqa: BLE001 - a server starts without its database too
            log.warning("The database is not there yet (%s); callbacks are taken all the same.", place_of(error))
        finally:
            connection.close()

    def flush(self) -> int:
        """How many callbacks went into the Inbox: all that waits, in order.

        Raises what the database raises; what it did not take goes on waiting.
        """
        with self._flushing:
            self._journal_arrived()
            self._learn_secrets()
            written = self.journal.take() + self._take_memory()
            if time.monotonic() >= self._looked + LOOK_SECONDS:
                written += journal.adopt()
                self._looked = time.monotonic()
            return written

    def finish(self) -> None:
        """Writes what still waits when the process ends in an orderly way, within a time limit."""
        if not len(self) and not len(self.journal):
            return
        last = threading.Thread(target=self._flush_quietly, daemon=True)
        last.start()
        last.join(LAST_FLUSH_SECONDS)

    def _flush_quietly(self) -> None:
        try:
            self.flush()
        except Exception as error:  # noqa: BLE001 - the process is ending, and its journal stays
            log.warning("%d callbacks were lost at the end (%s).", len(self), place_of(error))
        finally:
            connection.close()

    def begin_anew(self) -> None:
        """In the child of a fork: the parent keeps what waits, and its locks are nobody's here."""
        self.journal.let_go()
        self.__init__(limit=self.limit, patience_seconds=self.patience_seconds)  # type: ignore[misc]

    # Arriving -----------------------------------------------------------------

    def _put(self, one: Arrived, waiter: Waiter) -> None:
        with self._lock:
            self._arrived.append((one, waiter))
            is_first = len(self._arrived) == 1
            self._drop_oldest()
        if is_first:  # the others go with it
            self._see_to_threads()
            self._has_arrived.set()

    def _drop_oldest(self) -> None:
        while len(self) > self.limit:
            (self._memory or self._nameless or self._arrived).popleft()
            self.dropped += 1
            if self.dropped in (1, 10, 100) or self.dropped % MS == 0:
                log.error("%d callbacks were dropped: neither journal nor database takes any.", self.dropped)

    def _journal_arrived(self) -> None:
        """Journals what has arrived, and lets the answers go. What has no key yet goes on waiting for it."""
        with self._journalling:
            begun = time.monotonic()
            with self._lock:
                batch, self._arrived = self._arrived, deque()
            texts, settled, nameless = [], [], []
            for one, waiter in batch:
                known = _known(one.received_ms)
                if known is None:
                    nameless.append((one, waiter))
                    continue
                if text := _text(one, known):
                    texts.append(text)
                settled.append(waiter)
            written = self._journalled(texts)
            with self._lock:
                for text in texts[written:]:
                    self._memory_last += 1
                    self._memory.append((self._memory_last, text))
                self._nameless.extend(nameless)
                self._drop_oldest()
            if nameless:
                self._wants_secret.set()
            elif batch and time.monotonic() < begun + QUICK_SECONDS:
                self._is_late = False
            _settle(settled)
        if batch:
            self._has_more.set()

    def _journalled(self, texts: Sequence[bytes]) -> int:
        try:
            return self.journal.write(texts)
        except Exception as error:  # noqa: BLE001 - then they wait in memory
            log.error("Callbacks could not be journalled (%s); they wait in memory.", place_of(error))
            return 0

    # Into the Inbox -----------------------------------------------------------

    def _learn_secrets(self) -> None:
        """Fetches the secrets that callbacks wait for, and journals these. Raises what the database raises."""
        self._wants_secret.clear()
        while self._nameless:
            secrets.current(self._nameless[0][0].received_ms)
            with self._lock:
                self._arrived.extendleft(reversed(self._nameless))
                self._nameless.clear()
            self._journal_arrived()

    def _take_memory(self) -> int:
        written = 0
        while self._memory:
            with self._lock:
                batch = list(islice(self._memory, BATCH))
            last = batch[-1][0]
            if journal.store(self._memory_name, self._memory_taken, last, [text for _, text in batch]):
                self._memory_taken = last
                written += len(batch)
            else:
                self._memory_taken = journal.position(self._memory_name)
            with self._lock:
                while self._memory and self._memory[0][0] <= self._memory_taken:
                    self._memory.popleft()
        return written

    # The threads --------------------------------------------------------------

    def _see_to_threads(self) -> None:
        """Starts both: once in each process, anew after a fork or a death."""
        if len(self._threads) == 2 and all(one.is_alive() for one in self._threads.values()):
            return
        with self._lock:
            for name, work in (("listen-stats-journal", self._journal_on), ("listen-stats-callbacks", self._write_on)):
                if name not in self._threads or not self._threads[name].is_alive():
                    self._threads[name] = threading.Thread(target=work, name=name, daemon=True)
                    self._threads[name].start()

    def _journal_on(self) -> None:
        while True:
            self._has_arrived.wait()
            self._has_arrived.clear()
            try:
                self._journal_arrived()
            except Exception as error:  # noqa: BLE001 - the answers' patience ends, and the thread goes on
                log.error("Callbacks were lost on their way to the journal (%s).", place_of(error))

    def _write_on(self) -> None:
        while True:
            if not self._has_more.wait(QUIET_SECONDS):
                connection.close()
                self._has_more.wait(LOOK_SECONDS)
            self._has_more.clear()
            self._wants_secret.wait(FLUSH_SECONDS)
            try:
                self.flush()
                self._tell("")
                blurs.look_in_time(now_ms=time.time_ns() // 1_000_000)
            except Exception as error:  # noqa: BLE001 - the thread goes on when the database is back
                self._tell(place_of(error))
                connection.close()
                time.sleep(RETRY_SECONDS)
                self._has_more.set()

    def _tell(self, trouble: str) -> None:
        """Says once that the Inbox cannot be written, and once that it can again."""
        if trouble and trouble != self._trouble:
            log.warning("Callbacks wait: the Inbox cannot be written (%s).", trouble)
        elif self._trouble and not trouble:
            log.info("The Inbox can be written again.")
        self._trouble = trouble


def _known(received_ms: int) -> secrets.Secrets | None:
    try:
        return secrets.known(received_ms)
    except Exception as error:  # noqa: BLE001 - the other thread asks again, and tells what is wrong
        log.debug("No secret is known (%s).", place_of(error))
        return None


def _text(one: Arrived, known: secrets.Secrets) -> bytes:
    """The record of a callback. This is where its address ends. Empty where none can be made."""
    try:
        assert one.event.address is not None
        mark = households.mark(one.event.address, known, one.stream)
        return journal.record(one.source, one.received_ms, urlauth.payload_of(one.event, stream=one.stream, mark=mark))
    except Exception as error:  # noqa: BLE001 - one callback that cannot be recognised must not hold up the others
        log.error("A callback could not be recognised (%s); it is left out.", place_of(error))
        return b""


def _settle(waiters: Iterable[Waiter]) -> None:
    """Lets the answers go; each event loop is woken once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[bool]]] = {}
    for waiter in waiters:
        if isinstance(waiter, tuple):
            by_loop.setdefault(waiter[0], []).append(waiter[1])
        elif waiter is not None:
            waiter.set()
    for loop, done in by_loop.items():
        # A loop that has ended: so has whoever waited.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, done, True)


def _resolve(done: Iterable[asyncio.Future[bool]], settled: bool) -> None:
    for one in done:
        if not one.done():
            one.set_result(settled)


buffer = Buffer()
os.register_at_fork(after_in_child=lambda: buffer.begin_anew())


@atexit.register
def _flush_at_the_end() -> None:
    buffer.finish()
