"""SipHash of whole columns: a keyed hash that nobody can turn back, or foretell, without the key.

Aumasson and Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012;
SipHash-2-4 over messages of eight bytes.
"""

from __future__ import annotations

import numpy as np

from .arrays import Ints, Words

__all__ = ["KEY_BYTES", "siphash"]

KEY_BYTES = 16

_INITIAL = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
_LENGTH_BLOCK = np.uint64(8 << 56)
"""The last block: no bytes are left, and in the highest one the length of the message."""
_LAST_MARK = np.uint64(0xFF)
_ROUNDS, _LAST_ROUNDS = 2, 4
_STATE = len(_INITIAL)
_AT_ONCE = 8192
"""Numbers whose state stays in the processor's cache."""


def siphash(numbers: Ints | Words, key: bytes) -> Words:
    """SipHash-2-4 of each number as eight little-endian bytes. Raises ValueError for a key of another length."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"The key has {len(key)} bytes; expected {KEY_BYTES}.")
    words = np.asarray(numbers).astype(np.uint64)
    found = np.empty_like(words)
    room = np.empty((_STATE + 1, min(_AT_ONCE, len(words))), dtype=np.uint64)
    for first in range(0, len(words), _AT_ONCE):
        some = slice(first, min(first + _AT_ONCE, len(words)))
        _hash(words[some], key, [row[: some.stop - first] for row in room], found[some])
    return found


def _hash(words: Words, key: bytes, room: list[Words], found: Words) -> None:
    """Into ``found``. ``room`` holds the state and one row more, so that no step takes memory anew."""
    *state, spare = room
    halves = (int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little"))
    for number, initial in enumerate(_INITIAL):
        state[number][:] = initial ^ halves[number % 2]
    for block in (words, _LENGTH_BLOCK):
        state[3] ^= block
        for _ in range(_ROUNDS):
            _round(state, spare)
        state[0] ^= block
    state[2] ^= _LAST_MARK
    for _ in range(_LAST_ROUNDS):
        _round(state, spare)
    np.bitwise_xor(state[0], state[1], out=found)
    found ^= state[2]
    found ^= state[3]


def _round(state: list[Words], spare: Words) -> None:
    _mix(state[0], state[1], 13, spare)
    _turn(state[0], 32, spare)
    _mix(state[2], state[3], 16, spare)
    _mix(state[0], state[3], 21, spare)
    _mix(state[2], state[1], 17, spare)
    _turn(state[2], 32, spare)


def _mix(one: Words, other: Words, bits: int, spare: Words) -> None:
    one += other
    _turn(other, bits, spare)
    other ^= one


def _turn(words: Words, bits: int, spare: Words) -> None:
    """Rotates each to the left."""
    np.left_shift(words, np.uint64(bits), out=spare)
    words >>= np.uint64(64 - bits)
    words |= spare
