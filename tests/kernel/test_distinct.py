"""Distinct listeners of several parts: the true number is always inside the range, and often is the range."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel.distinct import Part, Range, distinct

MONDAY, TUESDAY, WEDNESDAY = 100, 200, 300
PERIODS = (MONDAY, TUESDAY, WEDNESDAY)


def heard_by(period: int, *keys: int) -> Part:
    return Part(keys={period: frozenset(keys)}, at_least=len(keys))


def test_of_nothing_there_is_nobody():
    assert distinct([]) == Range(0, 0)
    assert distinct([Part()]) == Range(0, 0)


def test_within_one_period_each_counts_once():
    assert distinct([heard_by(MONDAY, 1, 2, 3), heard_by(MONDAY, 3, 4)]) == Range(4, 4)


def test_between_periods_from_the_fullest_to_all_together():
    assert distinct([heard_by(MONDAY, 1, 2, 3), heard_by(TUESDAY, 11, 12)]) == Range(3, 5)


def test_a_period_that_is_fuller_than_any_part_is_the_lower_bound():
    parts = [heard_by(MONDAY, 1, 2, 3), heard_by(TUESDAY, 11, 12), heard_by(TUESDAY, 12, 13, 14)]
    assert distinct(parts) == Range(4, 7)


def test_of_a_part_the_number_alone_may_be_left():
    assert distinct([Part.counted(7), heard_by(MONDAY, 1, 2)]) == Range(7, 9)
    assert distinct([Part.counted(7)]) == Range(7, 7)


def test_a_key_that_goes_on_into_the_next_period_is_of_the_first():
    # 1 went on after the change of secrets; the same listener came back later as 11.
    parts = [heard_by(MONDAY, 1), heard_by(TUESDAY, 1), heard_by(TUESDAY, 11)]
    assert distinct(parts) == Range(1, 2)


def test_keys_of_an_unknown_period_and_plays_whose_key_is_gone_only_raise_the_upper_bound():
    assert distinct([Part(unplaced=frozenset({1, 2, 3}))]) == Range(1, 3)
    assert distinct([Part(strangers=4)]) == Range(1, 4)
    assert distinct([heard_by(MONDAY, 1, 2), Part(unplaced=frozenset({2, 9}), strangers=4)]) == Range(2, 7)


def key(person: int, period: int) -> int:
    """Two secrets make two keys of one person, and no two people one."""
    return person * 1000 + period


@st.composite
def parts_and_truth(draw: st.DrawFn) -> tuple[list[Part], int]:
    """Parts as they are told of, and how many people really listened: counted by name."""
    parts, everybody = [], set()
    for _ in range(draw(st.integers(0, 5))):
        there = draw(st.dictionaries(st.integers(1, 8), st.sampled_from(PERIODS), max_size=8))
        everybody |= there.keys()
        match draw(st.sampled_from(("keys", "number", "unplaced", "plays"))):
            case "keys":
                unsure = draw(st.sets(st.sampled_from(sorted(there)))) if there else set()
                keys = {
                    period: frozenset(key(who, of) for who, of in there.items() if of == period and who not in unsure)
                    for period in PERIODS
                }
                unplaced = frozenset(key(who, there[who]) for who in unsure)
                parts.append(Part(keys=keys, unplaced=unplaced, at_least=len(there)))
            case "number":
                parts.append(Part.counted(len(there)))
            case "unplaced":
                parts.append(Part(unplaced=frozenset(key(who, of) for who, of in there.items())))
            case "plays":  # each person once or twice, and nothing is known of who
                parts.append(Part(strangers=sum(draw(st.integers(1, 2)) for _ in there)))
    return parts, len(everybody)


@given(parts_and_truth())
def test_the_true_number_is_always_inside_the_range(case):
    parts, truth = case
    found = distinct(parts)
    assert found.lower <= truth <= found.upper


@given(parts_and_truth())
def test_one_more_part_never_lowers_either_bound(case):
    parts, _ = case
    for number in range(len(parts)):
        before, after = distinct(parts[:number]), distinct(parts[: number + 1])
        assert before.upper <= after.upper
        assert before.lower <= after.lower


@given(st.lists(st.sets(st.integers(1, 8)), max_size=5))
def test_where_all_keys_are_of_one_period_the_range_is_the_number(several):
    found = distinct([heard_by(MONDAY, *(key(who, MONDAY) for who in some)) for some in several])
    assert found == Range(len(set().union(*several)), len(set().union(*several)))
