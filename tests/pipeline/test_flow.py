"""The flow of neighbouring diffusions adds up: what one kept is what the next one inherited where they touch."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from aircox_listen_stats.models import Airing, Audience, Stream
from aircox_listen_stats.pipeline import rollup

from .conftest import at
from .test_rollup import airing, cover, session

pytestmark = pytest.mark.django_db

GAP = 300
"""Seconds of silence within a session at most."""

SHORTEST = GAP + 60
"""Seconds: a longer diffusion cannot lie in the silence of a session whole."""

FOUR_HOURS = 4 * 3600


def listen(stream: Stream, chance: random.Random) -> None:
    """Somebody, in one to four parts with silences of at most the gap; often on a bound to the second."""
    edge = chance.choice([0, 60, 300])
    start = float(chance.randrange(-3600, FOUR_HOURS)) // (edge or 1) * (edge or 1)
    parts, offset = [], 0
    for _ in range(chance.randint(1, 4)):
        length = chance.choice([60, 300, chance.randint(20, 5000)])
        parts.append([offset * 1000, (offset + length) * 1000])
        offset += length + chance.choice([1, GAP, chance.randint(1, GAP)])
    session(stream, start, start + parts[-1][1] / 1000, parts=parts if len(parts) > 1 else None)


def day(chance: random.Random) -> list[Airing]:
    """Diffusions one after the other that touch."""
    found, start = [], 0
    while start < FOUR_HOURS:
        end = start + chance.choice([SHORTEST, 1800, 3600, chance.randint(SHORTEST, 5400)])
        found.append(airing(start, end))
        start = end
    return found


@pytest.mark.parametrize("rule_set", ["triton", "acpm30", "all"])
@pytest.mark.parametrize("seed", range(8))
def test_what_one_kept_the_next_inherited(stream: Stream, seed: int, rule_set: str) -> None:
    chance = random.Random(seed)
    for _ in range(120):
        listen(stream, chance)
    airings = day(chance)
    cover(stream, -7200, 3 * FOUR_HOURS)
    rollup.refresh(1, at(-7200), at(2 * FOUR_HOURS), now_ms=at(10 * FOUR_HOURS), rule_sets=[rule_set])
    rows = [Audience.objects.get(airing=one) for one in airings]
    assert sum(row.kept for row in rows) > 0
    for row in rows:
        assert row.inherited + row.joined == row.sessions == row.left + row.kept
    for before, after in pairwise(rows):
        assert before.kept == after.inherited


def test_over_touching_diffusions_whoever_comes_goes_or_stays(stream: Stream) -> None:
    """First inherited, and all who joined, are all who left and whom the last one kept."""
    chance = random.Random(99)
    for _ in range(120):
        listen(stream, chance)
    airings = day(chance)
    rollup.refresh(1, at(-7200), at(2 * FOUR_HOURS), now_ms=at(10 * FOUR_HOURS))
    rows = [Audience.objects.get(airing=one) for one in airings]
    came = rows[0].inherited + sum(row.joined for row in rows)
    assert came == sum(row.left for row in rows) + rows[-1].kept > 0


def test_who_is_silent_through_a_whole_short_one_was_kept_and_not_inherited(stream: Stream) -> None:
    """Why the sum is promised of diffusions longer than the gap: this one was not heard at all."""
    session(stream, 0, 900, parts=[[0, 300_000], [500_000, 900_000]])
    before, short, after = airing(0, 350), airing(350, 450), airing(450, 900)
    rollup.refresh(1, at(0), at(1000), now_ms=at(10 * FOUR_HOURS))
    kept, none, inherited = (Audience.objects.get(airing=one) for one in (before, short, after))
    assert (kept.kept, none.inherited, none.kept, inherited.inherited) == (1, 0, 0, 1)
