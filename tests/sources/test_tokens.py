"""Numbers of strings: the same for the same bytes, whatever their length, and never for others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.sources import tokens
from aircox_listen_stats.sources.tokens import MARGIN, Tokens

STRINGS = st.one_of(
    st.binary(max_size=4), st.sampled_from([15, 16, 17, 63, 64, 65, 127, 128, 129, 191, 192, 193, 900]).map(bytes)
).map(lambda one: one.replace(b"\0", b"a"))


@given(st.lists(st.lists(STRINGS, max_size=30), max_size=5))
def test_each_string_keeps_the_number_of_its_first_meeting(columns: list[list[bytes]]) -> None:
    numbered, known = Tokens(), {}
    for column in columns:
        numbers = numbered.numbers_of(column)
        for one in numbered.fresh():
            assert known.setdefault(one, len(known)) == len(known) - 1
        assert numbers.tolist() == [known[one] for one in column]
    assert len(numbered) == len(known)


def test_what_stands_around_a_string_does_not_matter() -> None:
    numbered = Tokens()
    (number,) = numbered.numbers_of([b"VLC/3.0"])
    buffer = b"xxVLC/3.0yyVLC/3.1" + bytes(MARGIN)
    assert numbered.numbers(buffer, np.array([2, 11]), np.array([7, 7])).tolist() == [number, number + 1]


@pytest.mark.parametrize("length", [8, 40, 100, 150, 300])
def test_thousands_of_strings_of_one_length_are_told_apart(length: int) -> None:
    """The table grows several times."""
    strings = [b"%08d" % number * (length // 8) for number in range(20_000)]
    numbered = Tokens()
    first = numbered.numbers_of(strings)
    assert len(np.unique(first)) == 20_000
    assert numbered.numbers_of(strings[::-1]).tolist() == first[::-1].tolist()
    assert sorted(numbered.fresh()) == sorted(strings)


def test_strings_that_all_hash_alike_are_still_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens._Table, "_places", lambda self, words: np.zeros(len(words), dtype=np.int64))
    strings = [b"%d" % number for number in range(300)]
    numbered = Tokens()
    assert numbered.numbers_of(strings).tolist() == numbered.numbers_of(strings).tolist()
    assert len(numbered) == 300
