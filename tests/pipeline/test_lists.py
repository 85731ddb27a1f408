"""Lists come into files only when somebody asks, and only good ones."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command

from aircox_listen_stats import checks
from aircox_listen_stats.pipeline import lists

from .conftest import SETTINGS

BOTS, AMAZON = lists.PUBLISHED[0], lists.PUBLISHED[2]
GOOD = {
    BOTS.url: json.dumps({"entries": [{"name": "x", "pattern": "xbot"}]}),
    AMAZON.url: json.dumps({"prefixes": [{"ip_prefix": "198.51.100.0/24"}]}),
}


def answering(pages: dict[str, str]) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        page = pages.get(str(request.url))
        return httpx.Response(404) if page is None else httpx.Response(200, text=page)

    return httpx.MockTransport(answer)


def test_a_list_is_fetched_into_its_file(tmp_path: Path) -> None:
    for one in (BOTS, AMAZON):
        path = lists.fetch(one, tmp_path / "lists", transport=answering(GOOD))
        assert path.read_text() == GOOD[one.url]
    assert sorted(one.name for one in (tmp_path / "lists").iterdir()) == ["amazon.json", "bots.runtime.json"]


@pytest.mark.parametrize("page", [None, "<html>Not now</html>", '{"prefixes": [{"ip_prefix": "0.0.0.0/0"}]}'])
def test_what_is_no_list_leaves_the_one_that_is_there(tmp_path: Path, page: str | None) -> None:
    (tmp_path / AMAZON.name).write_text("before")
    with pytest.raises(lists.ListRefused, match=r"amazon\.json"):
        lists.fetch(AMAZON, tmp_path, transport=answering({AMAZON.url: page} if page else {}))
    assert [one.read_text() for one in tmp_path.iterdir()] == ["before"]


def test_the_command_asks_no_network_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def fetched(one: lists.Published, folder: Path) -> Path:
        asked.append(one.name)
        if one is AMAZON:
            raise lists.ListRefused("amazon.json: no.")
        return folder / one.name

    monkeypatch.setattr(lists, "fetch", fetched)
    out = io.StringIO()
    call_command("listen_stats_lists", stdout=out)
    assert asked == []
    assert all(one.url in out.getvalue() for one in lists.PUBLISHED)
    call_command("listen_stats_lists", "--fetch", str(tmp_path), "--only", BOTS.name, stdout=out)
    assert asked == [BOTS.name]
    with pytest.raises(CommandError, match="1 of 7 lists"):
        call_command("listen_stats_lists", "--fetch", str(tmp_path), stdout=out, stderr=io.StringIO())


def test_the_check_tells_of_lists_that_cannot_be_used(settings: Any, tmp_path: Path) -> None:
    good, bad = tmp_path / "bots.json", tmp_path / "cloud.txt"
    good.write_text(GOOD[BOTS.url])
    bad.write_text("0.0.0.0/0")
    settings.AIRCOX_LISTEN_STATS = {
        **SETTINGS,
        "EXCLUDE": {"agent_lists": [str(good), str(tmp_path / "gone.json")], "cloud_lists": [str(bad)]},
    }
    told = [one.msg for one in checks.check_settings() if one.id == "listen_stats.W012"]
    assert len(told) == 2
    assert "file 2 cannot be read (FileNotFoundError)" in told[0]
    assert "wider than any cloud" in told[1]
    assert str(tmp_path) not in "".join(told)
