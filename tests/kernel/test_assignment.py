"""As many pairs as can be, and of those the cheapest: against trying everything."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel.assignment import assign

EDGES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 20)), max_size=9, unique_by=lambda e: e[:2]
)


def best(edges: list[tuple[int, int, int]]) -> tuple[int, int]:
    """The most pairs, and the least that so many cost."""
    for size in range(len(edges), 0, -1):
        costs = [
            sum(cost for _, _, cost in some)
            for some in combinations(edges, size)
            if len({one for one, _, _ in some}) == size == len({other for _, other, _ in some})
        ]
        if costs:
            return size, min(costs)
    return 0, 0


def worth(edges: list[tuple[int, int, int]], pairs: list[tuple[int, int]]) -> tuple[int, int]:
    cost_of = {(one, other): cost for one, other, cost in edges}
    assert len({one for one, _ in pairs}) == len(pairs) == len({other for _, other in pairs})
    return len(pairs), sum(cost_of[pair] for pair in pairs)


@given(EDGES)
def test_as_many_and_as_cheap_as_trying_everything_finds(edges: list[tuple[int, int, int]]) -> None:
    assert worth(edges, assign(edges)) == best(edges)


@given(EDGES)
def test_where_too_much_hangs_together_each_is_still_paired_once(edges: list[tuple[int, int, int]]) -> None:
    pairs = assign(edges, largest=1)
    taken_ones, taken_others = {one for one, _ in pairs}, {other for _, other in pairs}
    worth(edges, pairs)
    assert all(one in taken_ones or other in taken_others for one, other, _ in edges)


def test_more_pairs_go_before_cheaper_ones() -> None:
    """Greedy would take (0, 0) and leave 1 alone."""
    assert assign([(0, 0, 1), (0, 1, 5), (1, 0, 9)]) == [(0, 1), (1, 0)]


def test_a_crowd_that_starts_at_once_is_paired_in_order() -> None:
    edges = [(one, other, abs(one - other)) for one in range(60) for other in range(60)]
    assert assign(edges) == [(number, number) for number in range(60)]
