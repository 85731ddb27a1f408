"""The stand-in's public pages carry aircox's blocks and the part that is swapped."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.template.loader import get_template
from django.test import Client
from django.utils import timezone

from tests.onair.studio import Studio

# AIRCOX's base.html has these: a page that extends it may fill any.
BLOCKS = (
    *("assets", "head_title", "head_extra", "top-nav", "header", "title", "subtitle", "header_nav"),
    *("header_crumbs", "main", "content", "cover", "sidebar", "sidebar_title"),
)


@pytest.fixture
def studio(db: None) -> Studio:
    studio = Studio("Radio Brume")
    episode = studio.episode("Fog")
    type(episode).objects.filter(pk=episode.pk).update(status=type(episode).STATUS_PUBLISHED)
    studio.diffusion(episode, timezone.now() - timedelta(minutes=5))
    return studio


def test_base_has_the_blocks_of_aircox() -> None:
    source = get_template("aircox/base.html").template.source
    assert set(re.findall(r"{% block ([\w-]+) %}", source)) == set(BLOCKS)


@pytest.mark.parametrize("shown", ["Radio Brume", "Fog", "The Show", 'id="app"', "aircox/main.js"])
def test_home_shows_the_station_what_is_on_air_and_the_programs(client: Client, studio: Studio, shown: str) -> None:
    assert shown in client.get("/").content.decode()


@pytest.mark.parametrize(
    "address", ["/week/", "/programs/", "/programs/radio-brume-show/", "/episodes/radio-brume-fog/"]
)
def test_every_public_page_shows_the_station(client: Client, studio: Studio, address: str) -> None:
    response = client.get(address)
    assert response.status_code == 200
    assert "Radio Brume" in response.content.decode()


def test_the_page_of_logs_puts_the_diffusion_in_place_of_the_tracks(client: Client, studio: Studio) -> None:
    track = studio.track(studio.sound("mix.mp3"), "Under the show", 0)
    station = studio.station
    station.log_set.create(type=3, track=track, date=timezone.now())
    page = client.get("/logs/").content.decode()
    assert ("Fog" in page, "Under the show" in page) == (True, False)


def test_a_date_that_is_none_is_not_found(client: Client, studio: Studio) -> None:
    assert client.get("/week/?date=yesterday").status_code == 404


def test_without_a_station_there_is_no_page(client: Client, db: None) -> None:
    assert client.get("/").status_code == 404
