"""SipHash of whole columns: a keyed hash that nobody can turn back, or foretell, without the key.

Aumasson and Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012;
SipHash-2-4 over messages of eight bytes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .arrays import Ints

__all__ = ["KEY_BYTES", "siphash"]

KEY_BYTES = 16

_INITIAL = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
_LENGTH_BLOCK = np.uint64(8 << 56)
"""The last block: no bytes are left, and in the highest one the length of the message."""
_LAST_MARK = np.uint64(0xFF)
_ROUNDS, _LAST_ROUNDS = 2, 4
_AT_ONCE = 4096
"""Numbers whose state stays in the processor's cache."""

Words = npt.NDArray[np.uint64]


def siphash(numbers: Ints, key: bytes) -> Words:
    """SipHash-2-4 of each number as eight little-endian bytes. Raises ValueError for a key of another length."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"The key has {len(key)} bytes; expected {KEY_BYTES}.")
    words = np.asarray(numbers).astype(np.uint64)
    found = np.empty_like(words)
    for first in range(0, len(words), _AT_ONCE):
        found[first : first + _AT_ONCE] = _hashed(words[first : first + _AT_ONCE], key)
    return found


def _hashed(words: Words, key: bytes) -> Words:
    halves = (int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little"))
    state = [np.full(len(words), initial ^ halves[number % 2], np.uint64) for number, initial in enumerate(_INITIAL)]
    for block in (words, _LENGTH_BLOCK):
        state[3] ^= block
        for _ in range(_ROUNDS):
            _round(state)
        state[0] ^= block
    state[2] ^= _LAST_MARK
    for _ in range(_LAST_ROUNDS):
        _round(state)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _round(state: list[Words]) -> None:
    _mix(state, 0, 1, 13)
    state[0] = _turned(state[0], 32)
    _mix(state, 2, 3, 16)
    _mix(state, 0, 3, 21)
    _mix(state, 2, 1, 17)
    state[2] = _turned(state[2], 32)


def _mix(state: list[Words], one: int, other: int, bits: int) -> None:
    state[one] += state[other]
    state[other] = _turned(state[other], bits) ^ state[one]


def _turned(words: Words, bits: int) -> Words:
    return words << np.uint64(bits) | words >> np.uint64(64 - bits)
