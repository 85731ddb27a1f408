"""Which label a session has once rulings have spoken."""

from __future__ import annotations

from typing import Any

import pytest

from aircox_listen_stats.kernel.rulings import Facts, Ruling, Rulings

MINUTE = 60_000


def facts(**given: Any) -> Facts:
    told: dict[str, Any] = {
        "stream_id": 1,
        "source": "ice",
        "exclusion": "bot",
        "rule": "crawlerdetect",
        "app": "VLC",
        "listener": 7,
        "started_ms": 10 * MINUTE,
        "ended_ms": 20 * MINUTE,
        "is_open": False,
    }
    return Facts(**{**told, **given})


def label(*rulings: Ruling, **given: Any) -> tuple[str, str] | None:
    return Rulings(rulings).label(facts(**given))


@pytest.mark.parametrize(
    ("asked", "meets"),
    [
        ({"told_rule": "crawlerdetect"}, True),
        ({"told_rule": "staff network 1"}, False),
        ({"told_exclusion": "bot", "app": "VLC"}, True),
        ({"told_exclusion": "bot", "app": "Sonos"}, False),
        ({"listener": 7, "stream_id": 1}, True),
        ({"listener": 7, "stream_id": 2}, False),
        ({"listener": 8}, False),
        ({"source": "log"}, False),
        ({"app": "VLC", "from_ms": 20 * MINUTE}, False),
        ({"app": "VLC", "from_ms": 20 * MINUTE - 1}, True),
        ({"app": "VLC", "to_ms": 10 * MINUTE}, False),
        ({"app": "VLC", "to_ms": 10 * MINUTE + 1}, True),
    ],
)
def test_a_ruling_is_about_what_meets_everything_that_it_names(asked: dict[str, Any], meets: bool) -> None:
    assert label(Ruling(number=3, **asked)) == (("", "ruling 3") if meets else None)


def test_of_several_rulings_the_newest_speaks_and_a_revoked_one_is_silent() -> None:
    old, new = Ruling(number=1, app="VLC"), Ruling(number=2, app="VLC", exclusion="staff")
    assert label(new, old) == label(old, new) == ("staff", "ruling 2")
    assert label(old, Ruling(number=2, app="VLC", exclusion="staff", is_revoked=True)) == ("", "ruling 1")
    assert label(Ruling(number=1, app="VLC", is_revoked=True)) is None


def test_an_empty_session_is_at_its_instant() -> None:
    empty = {"started_ms": 10 * MINUTE, "ended_ms": 10 * MINUTE}
    assert label(Ruling(number=1, app="VLC", from_ms=10 * MINUTE, to_ms=11 * MINUTE), **empty) is not None
    assert label(Ruling(number=1, app="VLC", from_ms=9 * MINUTE, to_ms=10 * MINUTE), **empty) is None


BACKFILL = Ruling(
    number=5,
    stream_id=1,
    from_ms=15 * MINUTE,
    to_ms=30 * MINUTE,
    only_source="back-fill 1",
    heard_until_ms=40 * MINUTE,
    also=((9, 2 * MINUTE),),
)
REPLACED = ("replaced", "back-fill 1")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, REPLACED),
        ({"stream_id": 2}, None),
        ({"ended_ms": 15 * MINUTE}, None),  # over before the window
        ({"started_ms": 30 * MINUTE, "ended_ms": 35 * MINUTE}, None),
        ({"ended_ms": 40 * MINUTE}, REPLACED),
        ({"ended_ms": 40 * MINUTE + 1}, None),  # the log ends before
        ({"is_open": True}, None),
        ({"source": "back-fill 1"}, None),
        ({"source": "back-fill 1", "started_ms": 0, "ended_ms": 1}, None),
        ({"listener": 9, "started_ms": 2 * MINUTE + 900, "ended_ms": 14 * MINUTE}, REPLACED),
        ({"listener": 9, "started_ms": 3 * MINUTE, "ended_ms": 14 * MINUTE}, None),
        ({"listener": 8, "started_ms": 2 * MINUTE, "ended_ms": 14 * MINUTE}, None),
    ],
)
def test_a_back_fill_lets_one_source_alone_count_in_its_window(given: dict[str, Any], expected: Any) -> None:
    assert label(BACKFILL, **given) == expected


def test_a_technicians_word_brings_nothing_back_that_was_replaced() -> None:
    """Else the same listening would count twice."""
    assert label(BACKFILL, Ruling(number=6, app="VLC")) == REPLACED
    assert label(BACKFILL, Ruling(number=6, app="VLC"), source="back-fill 1") == ("", "ruling 6")


def test_a_back_fill_that_was_undone_counts_no_more_and_what_it_replaced_counts_again() -> None:
    undone = Ruling(
        number=5, stream_id=1, from_ms=15 * MINUTE, to_ms=30 * MINUTE, only_source="back-fill 1", is_revoked=True
    )
    assert label(undone) is None
    assert label(undone, source="back-fill 1") == ("replaced", "back-fill 1 undone")


def test_of_two_back_fills_of_one_hour_the_newer_counts() -> None:
    newer = Ruling(number=8, stream_id=1, from_ms=0, to_ms=60 * MINUTE, only_source="back-fill 2")
    assert label(BACKFILL, newer) == ("replaced", "back-fill 2")
    assert label(BACKFILL, newer, source="back-fill 1") == ("replaced", "back-fill 2")
    assert label(BACKFILL, newer, source="back-fill 2") is None
