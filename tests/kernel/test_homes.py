"""How many listeners an address has: against counting second by second."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel.homes import FEW, carries_some, listeners_of

SOCKETS = st.lists(
    st.tuples(
        st.integers(0, 3),  # home
        st.integers(0, 4),  # player
        st.integers(0, 20),  # start
        st.integers(-2, 12),  # length; a server's clock may go back
    ),
    max_size=30,
)


def counted(sockets: list[tuple[int, int, int, int]]) -> dict[int, int]:
    """By home: its different players, or its sockets in the fullest second, whichever are more."""
    found = {}
    for home in {one[0] for one in sockets}:
        here = [one for one in sockets if one[0] == home]
        at_once = max(sum(start <= second < start + length for _, _, start, length in here) for second in range(40))
        found[home] = max(at_once, len({player for _, player, _, _ in here}))
    return found


@given(SOCKETS)
def test_a_home_has_its_sockets_at_once_or_its_different_players(sockets: list[tuple[int, int, int, int]]) -> None:
    columns = np.array(sockets, dtype=np.int64).reshape(-1, 4)
    home, player, started, length = columns.T
    # Homes are hashes of 64 bits: the highest bit is one of them.
    home = home.astype(np.uint64) + np.uint64((1 << 63) - 2)
    homes, listeners = listeners_of(home, player, started, started + length)
    names = (homes - np.uint64((1 << 63) - 2)).astype(np.int64).tolist()
    assert dict(zip(names, listeners.tolist(), strict=True)) == counted(sockets)
    assert names == sorted(names)


@given(st.lists(st.integers(0, 12), max_size=80))
def test_a_home_with_more_than_one_in_some_sockets_is_never_overlooked(homes: list[int]) -> None:
    most = max(Counter(homes).values(), default=0)
    assert carries_some(np.array(homes, dtype=np.uint64)) == (most * FEW > len(homes))
