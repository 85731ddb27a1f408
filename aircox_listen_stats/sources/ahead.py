"""Work that goes on in a thread of its own while what it gave before is being used."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["ahead"]

Item = TypeVar("Item")


@contextmanager
def ahead(given: Generator[Item, None, None], limit: int) -> Iterator[Iterator[Item]]:
    """What ``given`` gives, made by a thread that is at most ``limit`` items ahead; its errors are raised here.

    Leaving the block waits for the item that is being made, and closes ``given``.
    """
    over = object()
    maker = ThreadPoolExecutor(1, thread_name_prefix="listen-stats-ahead")
    made: deque[Future[Item | object]] = deque(maker.submit(next, given, over) for _ in range(limit))

    def take() -> Iterator[Item]:
        while (item := made.popleft().result()) is not over:
            made.append(maker.submit(next, given, over))
            yield item  # type: ignore[misc]

    try:
        yield take()
    finally:
        maker.shutdown(cancel_futures=True)
        given.close()
