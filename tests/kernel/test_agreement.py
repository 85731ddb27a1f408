"""Who is whom in two tellings of the same hours, and why somebody is missing."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel.agreement import How, Pair, Telling, Why, agree

MINUTE = 60_000
HOUR = 60 * MINUTE
ALL_DAY = [(0, 24 * HOUR)]

Session = tuple[int, int, int]
"""Listener, start and end in seconds."""


def telling(*sessions: Session, is_open: tuple[int, ...] = (), **given: Any) -> Telling:
    columns = np.array(sessions, dtype=np.int64).reshape(-1, 3)
    return Telling(
        name="one",
        listener=columns[:, 0],
        started_ms=columns[:, 1] * 1000,
        ended_ms=columns[:, 2] * 1000,
        heard_ms=(columns[:, 2] - columns[:, 1]) * 1000,
        is_open=np.array([number in is_open for number in range(len(columns))], dtype=np.bool_),
        **{"covered": ALL_DAY, **given},
    )


def why(one: Telling, other: Telling, *, same_keys: bool = True) -> list[Why]:
    """Why the other side lacks what it lacks."""
    return [lone.why for lone in agree(one, other, same_keys=same_keys).only_one]


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ((1, 0, 600), (1, 0, 600), How.WHOLE),
        ((1, 0, 600), (1, 2, 603), How.WHOLE),
        ((1, 0, 600), (9, 0, 600), How.TIME),
        ((1, 0, 600), (1, 30, 300), How.LISTENER),
        ((1, 0, 600), (9, 0, 550), How.START),
        ((1, 0, 600), (9, 50, 600), How.END),
    ],
)
def test_pairs_say_what_they_agree_on(one: Session, other: Session, how: How) -> None:
    found = agree(telling(one), telling(other), same_keys=True)
    assert found.pairs == [Pair(one=0, other=0, how=how)]


@pytest.mark.parametrize(
    "other",
    [
        (9, 4, 604),  # begins too late
        (9, 0, 300),  # ends much earlier, and nothing explains it
        (1, 601, 900),  # the same listener, later
    ],
)
def test_what_only_resembles_is_no_pair(other: Session) -> None:
    assert not agree(telling((1, 0, 600)), telling(other), same_keys=True).pairs


def test_a_polled_end_is_early_by_up_to_the_interval() -> None:
    polled = telling((1, 0, 586), interval_ms=15_000)
    assert agree(polled, telling((1, 0, 600)), same_keys=False).pairs[0].how is How.WHOLE


def test_who_was_cut_off_by_an_outage_is_paired_by_the_start() -> None:
    """The poll failed from 300 s on: what it heard ends there."""
    polled = telling((1, 0, 298), covered=[(0, 300_000), (900_000, HOUR)])
    found = agree(polled, telling((7, 0, 700)), same_keys=False)
    assert found.pairs == [Pair(one=0, other=0, how=How.START)]


def test_keys_tell_people_apart_who_came_and_went_together() -> None:
    one = telling((1, 0, 600), (2, 0, 600))
    other = telling((2, 0, 600), (1, 0, 600))
    assert [(pair.one, pair.other) for pair in agree(one, other, same_keys=True).pairs] == [(0, 1), (1, 0)]
    assert len(agree(one, other, same_keys=False).pairs) == 2


@pytest.mark.parametrize(
    ("session", "other", "reason"),
    [
        ((1, 1000, 1600), telling(covered=[(0, 900_000)]), Why.UNOBSERVED),
        ((1, 1000, 1600), telling(tells_at_end=True, covered=[(0, 1_500_000)]), Why.NOT_ENDED),
        ((1, 1000, 1600), telling(refused_ms=[1_601_000]), Why.REFUSED_LINE),
        ((1, 1000, 1600), telling(refused_ms=[1_610_000]), Why.UNKNOWN),
        ((1, 1000, 1012), telling(interval_ms=15_000), Why.BETWEEN_POLLS),
        ((1, 1000, 1020), telling(interval_ms=15_000), Why.UNKNOWN),
        ((1, 1000, 1600), telling((1, 1605, 1700)), Why.STITCHED),
        ((1, 1000, 1600), telling((1, 1700, 1800)), Why.UNKNOWN),
        ((1, 1000, 1600), telling((5, 0, 1601), (6, 3, 1601), (7, 9, 1602)), Why.RESTART),
    ],
)
def test_each_missing_one_has_its_likely_reason(session: Session, other: Telling, reason: Why) -> None:
    assert why(telling(session), other) == [reason]


def test_an_open_session_has_no_line_yet() -> None:
    assert why(telling((1, 1000, 1600), is_open=(0,)), telling(tells_at_end=True)) == [Why.NOT_ENDED]


def test_a_second_socket_of_somebody_who_is_there_is_a_twin() -> None:
    one = telling((1, 0, 600), (1, 300, 330))
    assert why(one, telling((1, 0, 600))) == [Why.TWIN]


def test_a_wrong_clock_is_found_and_put_right() -> None:
    chance = random.Random(7)
    sessions = []
    for listener in range(50):
        start = chance.randrange(0, 3600)
        sessions.append((listener, start, start + chance.randrange(60, 1800)))
    ahead = [(listener + 100, start + 137, end + 137) for listener, start, end in sessions]
    found = agree(telling(*sessions), telling(*ahead), same_keys=False)
    assert found.offset_ms == 137_000
    assert len(found.pairs) == 50
    assert agree(telling(*sessions), telling(*sessions), same_keys=False).offset_ms == 0


SESSIONS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 60), st.integers(0, 60)).map(
        lambda one: (one[0], one[1], one[1] + one[2])
    ),
    max_size=8,
)


@given(SESSIONS, SESSIONS, st.booleans())
def test_every_session_is_in_one_pair_or_missing(one: list[Session], other: list[Session], same_keys: bool) -> None:
    found = agree(telling(*one), telling(*other), same_keys=same_keys)
    assert sorted([*(pair.one for pair in found.pairs), *(lone.number for lone in found.only_one)]) == list(
        range(len(one))
    )
    assert sorted([*(pair.other for pair in found.pairs), *(lone.number for lone in found.only_other)]) == list(
        range(len(other))
    )


@given(SESSIONS, st.booleans(), st.randoms())
def test_a_telling_agrees_with_itself_in_any_order(one: list[Session], same_keys: bool, chance: random.Random) -> None:
    other = [*one]
    chance.shuffle(other)
    found = agree(telling(*one), telling(*other), same_keys=same_keys)
    assert len(found.pairs) == len(one)
    assert {pair.how for pair in found.pairs} <= {How.WHOLE}


@given(SESSIONS, SESSIONS)
def test_who_is_asked_first_makes_no_difference(one: list[Session], other: list[Session]) -> None:
    there = agree(telling(*one), telling(*other), same_keys=False)
    back = agree(telling(*other), telling(*one), same_keys=False)
    assert len(there.pairs) == len(back.pairs)
