"""The live count as JSON, and the element that a template writes."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.db import DatabaseError
from django.template import Context, Template

from aircox_listen_stats.web import frames, live_api
from tests.web import live_station

pytestmark = pytest.mark.django_db

PUBLIC = "/audience/live/campus.json"
STAFF = "/audience/live/campus/staff.json"


@pytest.fixture
def station(db):
    station = live_station.create()
    station.store(42)
    return station


def test_it_is_what_the_websocket_tells(client, station):
    answer = client.get(PUBLIC)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert answer.json()["listeners"] == 42
    assert set(answer.json()) == {"v", "station", "at", "listeners", "includes_totals", "on_air"}


def test_it_costs_two_queries(rf, station, django_assert_num_queries):
    with django_assert_num_queries(2):
        live_api.live(rf.get(PUBLIC), station="campus")


@pytest.mark.parametrize("age_ms", [61_000, 86_400_000])
def test_it_is_unknown_when_it_is_read_too_late(client, station, age_ms):
    station.store(42, at_ms=live_station.now_ms() - age_ms)
    assert client.get(PUBLIC).json()["listeners"] is None


def test_a_station_that_was_never_counted_is_unknown(client, db):
    live_station.create()
    assert client.get(PUBLIC).json()["listeners"] is None


def test_nobody_is_zero(client, station):
    station.store(0)
    assert client.get(PUBLIC).json()["listeners"] == 0


def test_an_unknown_station_is_not_found_and_says_where_to_look(client, station):
    answer = client.get("/audience/live/nowhere.json")
    assert answer.status_code == 404
    assert "slug" in answer.json()["error"]


def test_an_unchanged_answer_is_not_sent_again(client, station):
    first = client.get(PUBLIC)
    again = client.get(PUBLIC, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    station.store(43)
    changed = client.get(PUBLIC, headers={"If-None-Match": first["ETag"]})
    assert changed.json()["listeners"] == 43


def test_a_cache_may_keep_it_for_a_second(client, station):
    assert client.get(PUBLIC)["Cache-Control"] == "public, max-age=1"


def test_nothing_can_be_written(client, station):
    assert client.post(PUBLIC).status_code == 405


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [([], None), (["https://player.example"], "https://player.example"), (["*"], "*"), (["https://a.example"], None)],
)
def test_only_allowed_origins_may_read_it_from_their_pages(client, station, settings, allowed, expected):
    settings.AIRCOX_LISTEN_STATS = {"LIVE": {"allowed_origins": allowed}}
    answer = client.get(PUBLIC, headers={"Origin": "https://player.example"})
    assert answer.get("Access-Control-Allow-Origin") == expected
    assert "Origin" in answer["Vary"]


def test_the_staff_view_is_for_the_staff_and_no_cache(client, station):
    assert client.get(STAFF).status_code == 403
    client.force_login(get_user_model().objects.create_user("dj", is_staff=True))
    answer = client.get(STAFF)
    assert answer.json()["countries"] == [["BE", 42]]
    assert answer["Cache-Control"] == "private, no-store"


def test_a_count_that_is_not_public_is_for_the_staff(client, station, settings):
    settings.AIRCOX_LISTEN_STATS = {"LIVE": {"public": False}}
    assert client.get(PUBLIC).status_code == 403
    client.force_login(get_user_model().objects.create_user("dj", is_staff=True))
    answer = client.get(PUBLIC)
    assert answer.json()["listeners"] == 42
    assert answer["Cache-Control"].startswith("private")


def test_a_database_that_does_not_answer_is_said_plainly(client, station, monkeypatch):
    def fail(station_id: int) -> None:
        raise DatabaseError("secret words of the server")

    monkeypatch.setattr(frames, "read", fail)
    answer = client.get(PUBLIC)
    assert (answer.status_code, answer["Retry-After"]) == (503, "10")
    assert b"secret" not in answer.content


def render(text: str, **context) -> str:
    return Template("{% load listen_stats_live %}" + text).render(Context(context))


def test_a_template_writes_the_element_for_a_station_or_a_slug():
    by_slug = render('{% listeners_widget "campus" %}')
    assert by_slug.startswith('<aircox-listeners station="campus" src="/audience/live/campus.json"')
    assert 'label-unknown="number of listeners unknown"' in by_slug


def test_a_template_can_give_every_attribute():
    html = render('{% listeners_widget "campus" socket="none" poll_seconds=30 class_="badge" %}')
    assert all(part in html for part in ['socket="none"', 'poll-seconds="30"', 'class="badge"'])


def test_what_a_template_gives_is_escaped():
    assert "<script" not in render('{% listeners_widget "campus" title=title %}', title='"><script>')


def test_the_script_is_one_module():
    html = render("{% listeners_script %}")
    assert html == '<script type="module" src="/static/aircox_listen_stats/js/aircox-listeners.js"></script>'
