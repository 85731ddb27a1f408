"""Work ahead of its use: in order, bounded, and over when nobody wants it any more."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from aircox_listen_stats.sources.ahead import ahead


class Counting:
    """A generator that tells how far it came, and in which thread."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.made = 0
        self.threads: set[str] = set()
        self.is_closed = False
        self._count = count
        self._error = error

    def items(self) -> Generator[int, None, None]:
        try:
            for number in range(self._count):
                self.made += 1
                self.threads.add(threading.current_thread().name)
                yield number
            if self._error:
                raise self._error
        finally:
            self.is_closed = True


def test_everything_comes_in_order_from_a_thread_of_its_own() -> None:
    counting = Counting(50)
    with ahead(counting.items(), 3) as items:
        assert list(items) == list(range(50))
    assert len(counting.threads) == 1
    assert threading.current_thread().name not in counting.threads


def test_no_more_is_made_than_the_limit_allows() -> None:
    counting = Counting(50)
    with ahead(counting.items(), 3) as items:
        for taken, _ in enumerate(items, start=1):
            assert counting.made <= taken + 3
    assert counting.made == 50


def taken(counting: Counting, into: list[int], *, interrupted_at: int | None = None) -> None:
    with ahead(counting.items(), 3) as items:
        for item in items:
            into.append(item)
            if item == interrupted_at:
                raise KeyboardInterrupt


def test_an_error_comes_after_what_was_made_before_it() -> None:
    got: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        taken(Counting(5, ValueError("broken")), got)
    assert got == list(range(5))


def test_leaving_early_closes_the_generator_and_ends_the_thread() -> None:
    counting, got = Counting(10**9), []
    with pytest.raises(KeyboardInterrupt):
        taken(counting, got, interrupted_at=7)
    assert got == list(range(8))
    assert counting.is_closed
    assert counting.made <= 12
    assert not [one for one in threading.enumerate() if one.name.startswith("listen-stats-ahead")]


def test_a_generator_that_gives_nothing_gives_nothing() -> None:
    with ahead(Counting(0).items(), 4) as items:
        assert list(items) == []
