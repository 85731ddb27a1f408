"""Orders of several keys, held against numpy's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel.arrays import order_by

values = st.one_of(st.integers(0, 3), st.integers(-(2**63), 2**63 - 1))


@given(rows=st.lists(st.tuples(values, values, values), max_size=60))
def test_the_order_is_that_of_lexsort(rows: list[tuple[int, int, int]]) -> None:
    keys = tuple(np.array(rows, dtype=np.int64).reshape(-1, 3).T.copy())
    assert order_by(*keys).tolist() == np.lexsort(keys).tolist()


@pytest.mark.parametrize("different", [1, 50, 20_000, 10**9])
def test_rows_that_are_alike_keep_their_order(different: int) -> None:
    dice = np.random.default_rng(5)
    keys = (dice.integers(0, 2, 20_000), dice.integers(0, different, 20_000))
    assert np.array_equal(order_by(*keys), np.lexsort(keys))
