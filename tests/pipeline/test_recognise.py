"""What an agent is taken for, held against the library's own word."""

from __future__ import annotations

import re

from crawlerdetect import CrawlerDetect
from crawlerdetect.providers import crawlers, exclusions
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.pipeline import recognise


def spelled(pattern: str) -> str:
    """The pattern's own words as an agent: what it describes is mostly itself."""
    return re.sub(r"\\(.)", r"\1", re.sub(r"\[[^]]*\][*+?]?|\([^()]*\)\??|[\^$*+?]", "", pattern))


AGENTS = sorted(
    {
        *(form.format(spelled(one)) for one in crawlers.data for form in ("{}", "Mozilla/5.0 (compatible; {}/1.0)")),
        *(spelled(one) for one in exclusions.data),
        *(
            "YandexSearch/8.0",
            "Yandex/1.0",
            "YANDEXBOT",
            "Récepteur «3»/4.5\x01ÿ",
            "Radio Station 3 App/93.1",
            "a" * 500,
        ),
    }
)


def test_every_agent_is_the_crawler_that_the_library_takes_it_for() -> None:
    library = CrawlerDetect()
    players = [one for one in AGENTS if recognise.app_name(one) in {name for _, name in recognise.PLAYERS}]
    others = [one for one in AGENTS if one not in set(players)]
    said = {one: recognise.is_crawler(one) for one in others}
    assert said == {one: bool(library.isCrawler(one[: recognise.LONGEST_AGENT])) for one in others}
    assert sum(said.values()) > 2000
    assert not any(map(recognise.is_crawler, players))


WORDS = [word for word, _ in recognise.PLAYERS]


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.sampled_from(" /;-a.1")), max_size=8).map("".join))
def test_the_player_is_the_first_of_the_table_that_a_word_of_the_agent_begins_with(agent: str) -> None:
    found = [name for word, name in recognise.PLAYERS if re.search(f"(?<![a-z]){re.escape(word)}", agent)]
    assert recognise.app_name(agent.upper())[:48] == (found[0] if found else "")
