"""Numbers for byte strings, given to whole columns of them at once.

A column is told by where in a buffer its strings begin and how long they are.
Strings are compared byte by byte; the hash only says where to look.
"""

from __future__ import annotations

import secrets as entropy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..kernel.arrays import Bools, Ints, Words

__all__ = ["MARGIN", "Tokens"]

WIDTHS = (16, 64, 128, 192)
"""Bytes: strings up to each of these are kept side by side. An IPv4 address, an IPv6 one or a request, agents."""

MARGIN = WIDTHS[-1]
"""Bytes that a buffer must have behind its last string, whatever they hold."""

FIRST_SLOTS = 1 << 12
_WORD = 8


class Tokens:
    """The numbers of all strings met so far, from 0 on in the order of their first meeting.

    No string may hold a NUL byte.
    """

    def __init__(self) -> None:
        self._tables = [_Table(width) for width in WIDTHS]
        self._long: dict[bytes, int] = {}  # the few that are longer than any width
        self._fresh: list[bytes] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def fresh(self) -> list[bytes]:
        """The strings that were met for the first time since this was last asked, in the order of their numbers."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def numbers(self, buffer: bytes, starts: Ints, lengths: Ints) -> Ints:
        """The number of each string of the column."""
        found = np.empty(len(starts), dtype=np.int64)
        shorter = np.full(len(starts), -1)
        for table in self._tables:
            rows = np.flatnonzero((lengths <= table.width) & (lengths > shorter))
            shorter = table.width
            if len(rows):
                found[rows], new = table.numbers(buffer, starts[rows], lengths[rows], self._size)
                self._fresh += new
                self._size += len(new)
        for row in np.flatnonzero(lengths > shorter).tolist():
            start = int(starts[row])
            found[row] = self._long_number(buffer[start : start + int(lengths[row])])
        return found

    def numbers_of(self, strings: Sequence[bytes]) -> Ints:
        """The number of each of some strings."""
        lengths = np.array([len(one) for one in strings], dtype=np.int64)
        return self.numbers(b"".join(strings) + bytes(MARGIN), np.cumsum(lengths) - lengths, lengths)

    def _long_number(self, string: bytes) -> int:
        number = self._long.get(string)
        if number is None:
            number = self._long[string] = self._size
            self._fresh.append(string)
            self._size += 1
        return number


class _Table:
    """The strings up to one width: an open-addressed hash table over rows of zero-padded words."""

    def __init__(self, width: int) -> None:
        self.width = width
        words = width // _WORD
        # Odd and secret, so that nobody can choose strings that all fall into one place.
        self._factors = np.frombuffer(entropy.token_bytes(width), dtype=np.uint64) | np.uint64(1)
        self._masks = np.tri(width + 1, width, -1, dtype=np.uint8) * np.uint8(255)
        self._slots = np.full(FIRST_SLOTS, -1, dtype=np.int32)
        self._rows = np.zeros((FIRST_SLOTS // 2, words), dtype=np.uint64)
        self._numbers = np.zeros(FIRST_SLOTS // 2, dtype=np.int64)
        self._size = 0

    def numbers(self, buffer: bytes, starts: Ints, lengths: Ints, next_number: int) -> tuple[Ints, list[bytes]]:
        """The numbers, and the strings that are new: those got the numbers from ``next_number`` on."""
        words = self._padded(buffer, starts, lengths)
        place = self._places(words)
        known = self._slots[place]
        found = self._numbers[known]
        waiting = np.flatnonzero(~_are_same(self._rows[known], words) | (known < 0))
        new: list[bytes] = []
        if len(waiting):
            words, place = words[waiting], place[waiting]
        while len(waiting):
            free = np.flatnonzero(self._slots[place] < 0)
            if len(free):
                if self._size + len(free) > len(self._numbers):
                    self._grow(self._size + len(free))
                    place = self._places(words)
                    continue
                # Of those that fall into one free place, one takes it; the others compare with it.
                taking = free[np.sort(np.unique(place[free], return_index=True)[1])]
                self._take(place[taking], words[taking], next_number + len(new))
                where = waiting[taking]
                new += [
                    buffer[start : start + length]
                    for start, length in zip(starts[where].tolist(), lengths[where].tolist(), strict=True)
                ]
            known = self._slots[place]
            is_same = _are_same(self._rows[known], words)
            found[waiting[is_same]] = self._numbers[known[is_same]]
            waiting, words = waiting[~is_same], words[~is_same]
            place = (place[~is_same] + 1) & (len(self._slots) - 1)
        return found, new

    def _take(self, place: Ints, words: Words, next_number: int) -> None:
        fresh = np.arange(self._size, self._size + len(place))
        self._slots[place] = fresh
        self._rows[fresh] = words
        self._numbers[fresh] = next_number + np.arange(len(place))
        self._size += len(place)

    def _padded(self, buffer: bytes, starts: Ints, lengths: Ints) -> Words:
        """Each string as words, zeros behind its end."""
        windows: npt.NDArray[np.void] = np.ndarray(
            (len(buffer) - self.width + 1,), dtype=f"V{self.width}", buffer=buffer, strides=(1,)
        )
        words = windows[starts].view(np.uint64).reshape(-1, self.width // _WORD)
        masks = self._masks.view(f"V{self.width}").reshape(-1)
        words &= masks[lengths].view(np.uint64).reshape(words.shape)
        return words

    def _places(self, words: Words) -> Ints:
        mixed = words @ self._factors
        mixed ^= mixed >> np.uint64(32)
        mixed *= self._factors[0]
        return (mixed >> np.uint64(64 - (len(self._slots) - 1).bit_length())).astype(np.int64)

    def _grow(self, size: int) -> None:
        """Makes room for ``size`` strings at least, and lets every known one find its place again."""
        slots = 1 << (2 * size).bit_length()
        rows, numbers = self._rows, self._numbers
        self._slots = np.full(slots, -1, dtype=np.int32)
        self._rows = np.zeros((slots // 2, rows.shape[1]), dtype=np.uint64)
        self._numbers = np.zeros(slots // 2, dtype=np.int64)
        self._rows[: self._size], self._numbers[: self._size] = rows[: self._size], numbers[: self._size]
        place, waiting = self._places(self._rows[: self._size]), np.arange(self._size)
        while len(waiting):
            free = self._slots[place] < 0
            self._slots[place[free]] = waiting[free]
            seated = self._slots[place] == waiting
            place, waiting = (place[~seated] + 1) & (slots - 1), waiting[~seated]


def _are_same(some: Words, others: Words) -> Bools:
    """Of which rows all words are the same."""
    words = some == others
    at_once = min(_WORD, words.shape[1])  # truths are bytes: so many are compared as one number
    truths = words.view(f"u{at_once}")
    ones = truths.dtype.type(int.from_bytes(b"\1" * at_once, "little"))
    is_same = truths[:, 0] == ones
    for column in range(1, truths.shape[1]):
        is_same &= truths[:, column] == ones
    return is_same
