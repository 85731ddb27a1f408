"""What was on air before and after a diffusion, on its page, beside the flow that adds up with theirs."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from aircox_listen_stats import conf
from aircox_listen_stats.models import Airing, ProgramAccess
from aircox_listen_stats.reports import diffusion as diffusions
from tests.web import stations
from tests.web.stations import HOUR, MINUTE, NOW, WEEK

pytestmark = pytest.mark.django_db

STARTED = NOW - WEEK


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)


@pytest.fixture
def evening(db) -> list[Airing]:
    """Two that touch, and a third one ten minutes later."""
    station = stations.PastStation()
    found = [
        station.diffusion(1, STARTED, 60, program="News"),
        station.diffusion(2, STARTED + HOUR, 60, program="Jazz"),
        station.diffusion(3, STARTED + 130 * MINUTE, 60, program="Noise"),
    ]
    for minutes in (30, 90, 100, 200):
        station.session(STARTED - MINUTE, STARTED + minutes * MINUTE)
    stations.PastStation(id=2, stream_slugs=("other",)).diffusion(9, STARTED, 60, program="Elsewhere")
    station.observed(STARTED - HOUR, NOW)
    station.compute(STARTED - HOUR, STARTED + 4 * HOUR)
    return found


def report_of(airing: Airing) -> diffusions.DiffusionAudience:
    settings = conf.get()
    return diffusions.diffusion_audience(airing, settings.rules(), settings, now=NOW)


def words_of(client, airing: Airing) -> str:
    page = client.get(reverse("listen_stats:diffusion", args=[airing.pk])).content.decode()
    return " ".join(re.sub(r"<[^>]+>", "", page).split())


def test_the_neighbours_are_those_of_the_station(evening):
    news, jazz, noise = (report_of(one) for one in evening)
    assert (news.before, news.after.title, news.after.touches) == (None, "Jazz", True)
    assert (jazz.before.title, jazz.before.touches) == ("News", True)
    assert (jazz.after.title, jazz.after.touches) == ("Noise", False)
    assert (noise.before.title, noise.after) == ("Jazz", None)
    assert news.figures.kept == jazz.figures.inherited == 3


def test_the_page_says_who_went_along_where_they_touch(evening, client, admin_user):
    client.force_login(admin_user)
    assert "After it, 3 listened on to: Jazz" in words_of(client, evening[0])
    jazz = words_of(client, evening[1])
    assert "Before it, with 3 who went on to this one: News" in jazz
    assert "After it, from 15:10: Noise" in jazz


def test_an_hour_later_is_no_neighbour(evening):
    Airing.objects.filter(pk=evening[2].pk).update(started=STARTED + 3 * HOUR + MINUTE)
    assert report_of(evening[1]).after is None


def test_a_neighbour_that_may_not_be_seen_is_named_and_not_linked(evening, client, django_user_model):
    producer = django_user_model.objects.create_user("ada")
    ProgramAccess.objects.create(user=producer, program_id=2)
    client.force_login(producer)
    page = client.get(reverse("listen_stats:diffusion", args=[evening[1].pk])).content.decode()
    assert "<bdi>News</bdi>" in page
    assert reverse("listen_stats:diffusion", args=[evening[0].pk]) not in page
    told = client.get(reverse("listen_stats:diffusion", args=[evening[1].pk]), {"format": "json"}).json()
    assert (told["before"]["title"], told["before"]["airing_id"]) == ("News", None)
