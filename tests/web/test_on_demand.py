"""How an episode's recordings were played on demand, on the page of its diffusion and in its exports."""

from __future__ import annotations

import csv
import datetime as dt
import io

import pytest
from django.urls import reverse
from django.utils import timezone

from aircox_listen_stats.models import PlayerSession, Recording, RecordingPlay
from aircox_listen_stats.reports import on_demand
from tests.web.stations import HOUR, MINUTE, NOW, PastStation

pytestmark = pytest.mark.django_db

EPISODE = 40
S = 1000


@pytest.fixture
def airing(db):
    station = PastStation()
    started = NOW - 3 * HOUR
    airing = station.diffusion(12, started, program="Campus Jazz", episode_id=EPISODE)
    station.session(started - MINUTE, started + HOUR)
    station.observed(started - HOUR, NOW)
    station.compute(started, NOW)
    return airing


@pytest.fixture
def recording(db):
    return Recording.objects.create(
        sound_id=7, title="Jazz of yesterday", episode_id=EPISODE, program_id=12, duration_ms=600 * S
    )


def play(recording: Recording, *sections: tuple[float, float], days_ago: int = 1, **values: object) -> RecordingPlay:
    at = NOW - dt.timedelta(days=days_ago)
    given = {
        "visit": RecordingPlay.objects.count() + 1,
        "listener": 5,
        "started": at,
        "seen": at + MINUTE,
        "sections": [[round(start * S), round(end * S)] for start, end in sections],
        "played_ms": round(sum(end - start for start, end in sections) * S),
    }
    return RecordingPlay.objects.create(recording=recording, **(given | values))


def page(client, airing, **query):
    return client.get(reverse("listen_stats:diffusion", args=[airing.pk]), query)


def test_plays_hours_and_how_many_heard_which_place(recording):
    play(recording, (0, 600))
    play(recording, (0, 200), (0, 200), days_ago=9)
    play(recording, (440, 580))
    play(recording, (0, 20))
    (line,) = on_demand.of_episode(EPISODE)
    assert (line.sound_id, line.title, line.length_minutes, line.plays) == (7, "Jazz of yesterday", 10, 4)
    assert line.listening_hours == pytest.approx((600 + 400 + 140 + 20) / 3600)
    assert line.heard == ((0.25, 0.5), (0.5, 0.25), (0.75, 0.5), (0.95, 0.5))
    assert line.retention == (0.75, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.5, 0.5, 0.25)
    assert line.first_play == NOW - dt.timedelta(days=9)
    assert line.last_play == NOW - dt.timedelta(days=1) + MINUTE


def test_bots_do_not_play(recording):
    play(recording, (0, 600), exclusion="bot")
    assert on_demand.of_episode(EPISODE) == ()


def test_a_recording_of_unknown_length_is_as_long_as_it_was_heard(recording):
    recording.duration_ms = None
    recording.save()
    play(recording, (0, 100))
    play(recording, (0, 50))
    (line,) = on_demand.of_episode(EPISODE)
    assert line.length_minutes == pytest.approx(100 / 60)
    assert line.heard == ((0.25, 1.0), (0.5, 1.0), (0.75, 0.5), (0.95, 0.5))


def test_without_an_episode_nothing_is_asked(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert on_demand.of_episode(None) == ()


def test_the_page_shows_it_where_there_is_any(admin_client, airing, recording):
    assert "on-demand" not in page(admin_client, airing).content.decode()
    play(recording, (0, 600))
    shown = page(admin_client, airing).content.decode()
    assert "Jazz of yesterday" in shown
    assert "Heard at 95" in shown
    assert "table=on-demand" in shown


def test_the_page_of_a_diffusion_without_episode_shows_none(admin_client, airing, recording):
    airing.episode_id = None
    airing.save()
    play(recording, (0, 600))
    assert "Jazz of yesterday" not in page(admin_client, airing).content.decode()


def test_csv_and_json_tell_the_same(admin_client, airing, recording):
    play(recording, (0, 600))
    play(recording, (0, 200))
    answer = page(admin_client, airing, format="csv", table="on-demand")
    (row,) = csv.DictReader(io.StringIO(answer.getvalue().decode("utf-8-sig")))
    assert (row["sound_id"], row["plays"], row["heard_at_25_share"], row["heard_at_50_share"]) == (
        "7",
        "2",
        "1",
        "0.5",
    )
    (line,) = page(admin_client, airing, format="json").json()["on_demand"]
    assert (line["plays"], line["heard"][1]) == (2, [0.5, 0.5])
    assert float(row["listening_hours"]) == pytest.approx(line["listening_hours"], abs=1e-3)


def test_few_plays_are_hidden_in_exports(admin_client, airing, recording, settings):
    settings.AIRCOX_LISTEN_STATS = {"MINIMUM_CELL": 3}
    play(recording, (0, 600))
    play(recording, (0, 200))
    answer = page(admin_client, airing, format="csv", table="on-demand")
    (row,) = csv.DictReader(io.StringIO(answer.getvalue().decode("utf-8-sig")))
    assert (row["plays"], row["listening_hours"], row["heard_at_25_share"], row["hidden_below"]) == ("", "", "", "3")
    (line,) = page(admin_client, airing, format="json").json()["on_demand"]
    assert (line["plays"], line["heard"], line["retention"]) == (None, [], [])


def test_the_page_of_the_state_tells_of_the_player_live_and_on_demand_apart(admin_client, settings):
    for exclusion in ("", "bot"):
        PlayerSession.objects.create(
            listener=5,
            started=timezone.now() - 2 * HOUR,
            ended=timezone.now() - MINUTE,
            live_ms=1_800_000,
            on_demand_ms=5_400_000,
            played_ms=7_200_000,
            is_open=True,
            exclusion=exclusion,
        )
    asked = reverse("listen_stats:status")
    assert admin_client.get(asked, {"format": "json"}).json()["players"] is None
    settings.AIRCOX_LISTEN_STATS = {"PLAYER": {"enabled": True}}
    assert admin_client.get(asked, {"format": "json"}).json()["players"] == {
        "sessions": 1,
        "live_hours": 0.5,
        "on_demand_hours": 1.5,
        "playing": 1,
    }
    shown = admin_client.get(asked).content.decode().replace("\N{NO-BREAK SPACE}", " ")
    assert "sessions 1, live 0.5 h, on demand 1.5 h; playing now 1" in shown
