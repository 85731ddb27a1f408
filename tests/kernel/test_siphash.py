"""SipHash-2-4 as its authors publish it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel.siphash import siphash

MASK = (1 << 64) - 1


def plain(number: int, key: bytes) -> int:
    """SipHash-2-4 of eight bytes, in Python's own integers, after the paper's section 2."""
    k0, k1 = (int.from_bytes(key[at : at + 8], "little") for at in (0, 8))
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def turn(word: int, bits: int) -> int:
        return (word << bits | word >> (64 - bits)) & MASK

    def sip_round() -> None:
        v[0] = (v[0] + v[1]) & MASK
        v[2] = (v[2] + v[3]) & MASK
        v[1], v[3] = turn(v[1], 13) ^ v[0], turn(v[3], 16) ^ v[2]
        v[0] = turn(v[0], 32)
        v[2] = (v[2] + v[1]) & MASK
        v[0] = (v[0] + v[3]) & MASK
        v[1], v[3] = turn(v[1], 17) ^ v[2], turn(v[3], 21) ^ v[0]
        v[2] = turn(v[2], 32)

    for block in (number, 8 << 56):
        v[3] ^= block
        sip_round()
        sip_round()
        v[0] ^= block
    v[2] ^= 0xFF
    for _ in range(4):
        sip_round()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_the_published_vector_of_eight_bytes_comes_out() -> None:
    """vectors.h of the reference code: the message 00 01 … 07 under the key 00 01 … 0f."""
    message = int.from_bytes(bytes(range(8)), "little")
    expected = int.from_bytes(bytes.fromhex("62 24 93 9a 79 f5 f5 93"), "little")
    assert plain(message, bytes(range(16))) == expected
    assert siphash(np.array([message]), bytes(range(16))).tolist() == [expected]


@given(st.lists(st.integers(0, (1 << 63) - 1), max_size=20), st.binary(min_size=16, max_size=16))
def test_a_column_gives_what_each_number_gives(numbers: list[int], key: bytes) -> None:
    column = np.array(numbers, dtype=np.int64)
    assert siphash(column, key).tolist() == [plain(number, key) for number in numbers]


def test_a_long_column_is_hashed_whole() -> None:
    hashed = siphash(np.arange(10_000), b"k" * 16)
    assert len(np.unique(hashed)) == 10_000
    assert int(hashed[9_999]) == plain(9_999, b"k" * 16)


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="15 bytes; expected 16"):
        siphash(np.arange(3), b"k" * 15)
