"""What is usual, and how often chance brings about what was seen."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel.baseline import chance_of_count, usual

FIGURES = st.lists(st.integers(0, 1000).map(lambda tenths: tenths / 10), min_size=1, max_size=12)


def test_the_median_and_half_within_the_spread_of_it() -> None:
    found = usual([12, 31, 14, 15, 13, 16, 18, 17])
    assert (found.median, found.spread, found.least, found.most) == (15.5, 2.0, 12, 31)


def test_an_odd_one_does_not_move_what_is_usual() -> None:
    assert usual([10, 11, 12, 13, 900]).spread == usual([10, 11, 12, 13, 14]).spread == 1


def test_nothing_is_usual_of_nothing() -> None:
    with pytest.raises(ValueError, match="No values"):
        usual([])


@pytest.mark.parametrize(
    ("value", "as_far", "chance"),
    [
        (9, 0, 1 / 9),  # above all eight: one in nine is
        (8, 1, 2 / 9),
        (5, 4, 5 / 9),
        (4, 4, 5 / 9),
        (1, 1, 2 / 9),
        (0.5, 0, 1 / 9),
    ],
)
def test_the_chance_is_the_rank_on_its_own_side(value: float, as_far: int, chance: float) -> None:
    found = usual([1, 2, 3, 4, 5, 6, 7, 8])
    assert found.as_far(value) == as_far
    assert found.chance(value) == pytest.approx(chance)


@given(FIGURES)
def test_one_of_many_alike_is_said_to_lie_above_all_no_oftener_than_it_does(values: list[float]) -> None:
    """Each in turn is the new one: of n + 1, no more than one lies above all others, as the chance says."""
    values = [*values, *values[:1]]
    beyond = sum(
        usual(values[:turn] + values[turn + 1 :]).as_far(one) == 0
        and one >= usual(values[:turn] + values[turn + 1 :]).median
        for turn, one in enumerate(values)
    )
    assert beyond <= 1


@given(count=st.integers(0, 30), other=st.integers(0, 30), share=st.floats(0.02, 0.98))
def test_the_chance_of_a_count_is_the_tail_of_the_binomial(count: int, other: int, share: float) -> None:
    total = count + other
    plain = sum(comb(total, hits) * share**hits * (1 - share) ** (total - hits) for hits in range(count, total + 1))
    assert chance_of_count(count, other, share) == pytest.approx(plain, abs=1e-12)


def test_more_leave_by_chance_the_longer_one_looks() -> None:
    assert chance_of_count(8, 20, 0.05) < chance_of_count(8, 20, 0.2) < chance_of_count(8, 20, 0.5)
    assert chance_of_count(0, 20, 0.1) == 1


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_all_or_nothing_of_the_time_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        chance_of_count(1, 1, share)
