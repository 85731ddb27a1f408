"""Sections of a recording (oracle 4), and a brute force written apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.kernel.sections import MAX_SECTIONS, retention, sections_of
from tests.kernel.oracles import S, random_cases

SEEK, GO = True, False


def heard(*told: tuple[bool, float]) -> list[tuple[float, float]]:
    found = sections_of((is_seek, round(position * S)) for is_seek, position in told)
    return [(start / S, end / S) for start, end in found.sections]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param([(GO, 0), (GO, 10), (GO, 20)], [(0, 20)], id="on and on"),
        pytest.param([(GO, 0), (GO, 10), (SEEK, 60), (GO, 70)], [(0, 10), (60, 70)], id="a seek is a section"),
        pytest.param([(GO, 0), (GO, 30), (GO, 10)], [(0, 10)], id="back within the section shrinks it"),
        pytest.param([(GO, 20), (GO, 30), (GO, 20)], [], id="back to its start empties it"),
        pytest.param([(GO, 20), (GO, 30), (GO, 10), (GO, 15)], [(20, 30), (10, 15)], id="before its start is another"),
        pytest.param([(GO, 20), (GO, 20), (GO, 30)], [(20, 30)], id="equal is allowed"),
        pytest.param([(SEEK, 50), (SEEK, 40)], [], id="empty sections are none"),
        pytest.param([(GO, 0), (GO, 20), (SEEK, 0), (GO, 20)], [(0, 20), (0, 20)], id="heard again"),
        pytest.param([], [], id="nothing"),
    ],
)
def test_sections_are_as_the_table_says(told, expected):
    assert heard(*told) == expected


def test_what_is_heard_twice_is_listening_twice_and_presence_once():
    found = sections_of([(GO, 0), (GO, 20 * S), (SEEK, 0), (GO, 20 * S)])
    assert found.played_ms == 40 * S
    assert retention([found.sections], duration_ms=30 * S).max() == 1.0


def test_the_last_section_allowed_is_the_last_and_what_follows_is_counted():
    told = [(SEEK, 10 * S * number + step * S) for number in range(MAX_SECTIONS) for step in (0,)]
    told = [event for position in told for event in (position, (GO, position[1] + 5 * S))]
    full = sections_of(told)
    assert (len(full.sections), full.dropped) == (MAX_SECTIONS, 0)
    grown = sections_of([*told, (GO, 10 * S * (MAX_SECTIONS - 1) + 8 * S)])
    assert (grown.sections[-1][1] - grown.sections[-1][0], grown.dropped) == (8 * S, 0)
    over = sections_of([*told, (SEEK, 0), (GO, 20_000 * S), (SEEK, 1)])
    assert (over.sections, over.dropped) == (full.sections, 3)


def test_empty_sections_count_among_those_allowed():
    told = [(SEEK, number) for number in range(MAX_SECTIONS)]
    assert sections_of([*told, (SEEK, 500), (GO, 900)]).dropped == 2


def test_retention_counts_the_second_of_each_end():
    plays = [[(0, 1 * S)], [(1 * S, 3 * S)]]
    assert [round(100 * share) for share in retention(plays, duration_ms=5 * S)] == [50, 100, 50, 50, 0, 0]


def test_retention_without_plays_is_unknown():
    assert retention([], duration_ms=5 * S).tolist() == []


def test_sections_beyond_the_recordings_end_do_no_harm():
    assert retention([[(2 * S, 900 * S), (700 * S, 800 * S)]], duration_ms=3 * S).tolist() == [0, 0, 1, 1]


events = st.lists(st.tuples(st.booleans(), st.integers(0, 30 * S)), max_size=60)


@random_cases()
@given(events)
def test_sections_are_what_peertubes_rules_say_step_by_step(told):
    """The rules written out anew, over an empty list of dicts."""
    kept: list[dict] = []
    for is_seek, position in told:
        last = kept[-1] if kept else None
        if last is None or is_seek or last["start"] > position:
            kept.append({"start": position, "end": position})
        else:
            last["end"] = position
    found = sections_of(told)
    assert list(found.sections) == [(one["start"], one["end"]) for one in kept if one["end"] != one["start"]]
    assert found.played_ms == sum(one["end"] - one["start"] for one in kept)


sections = st.lists(st.tuples(st.integers(0, 20 * S), st.integers(1, 9 * S)).map(lambda s: (s[0], s[0] + s[1])))


@random_cases()
@given(st.lists(sections, min_size=1, max_size=6), st.integers(0, 30 * S))
def test_retention_is_what_counting_each_second_says(plays, duration_ms):
    counted = [
        sum(any(start // S <= second <= end // S for start, end in one) for one in plays) / len(plays)
        for second in range(duration_ms // S + 1)
    ]
    assert retention(plays, duration_ms=duration_ms).tolist() == pytest.approx(counted)
