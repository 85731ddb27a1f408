"""An episode as a whole: first run, repeats and plays on demand, with distinct listeners as a number or a range."""

from __future__ import annotations

import csv
import datetime as dt
import io
import random

import pytest
from django.test import override_settings
from django.urls import reverse

from aircox_listen_stats import conf
from aircox_listen_stats.models import Blur, Recording, RecordingPlay, Session
from aircox_listen_stats.reports import episode
from aircox_listen_stats.reports.diffusion import diffusion_audience, find
from tests.web.stations import DAY, HOUR, MINUTE, NOW, PastStation, local

pytestmark = pytest.mark.django_db

EPISODE = 40
PROGRAM = 12
FIRST = local(2026, 11, 19, 20)  # a Thursday
SAME_DAY, NEXT_DAY = FIRST + 2 * HOUR, FIRST + 14 * HOUR


@pytest.fixture
def station(db):
    station = PastStation()
    station.observed(FIRST - 2 * DAY, NOW)
    return station


@pytest.fixture
def recording(db):
    return Recording.objects.create(
        sound_id=7, title="Jazz", episode_id=EPISODE, program_id=PROGRAM, duration_ms=600_000
    )


def run(station: PastStation, started: dt.datetime, *listeners: int, first=None, **values: object):
    """The episode on air for an hour, heard by these listeners for half of it."""
    given = {"episode_id": EPISODE, "initial_id": first and first.diffusion_id, "title": "Jazz of the year", **values}
    airing = station.diffusion(PROGRAM, started, program="Campus Jazz", **given)
    for number, listener in enumerate(listeners):
        begun = started + (5 + number) * MINUTE
        station.session(begun, begun + HOUR / 2, listener=listener)
    return airing


def play(recording: Recording, listener: int | None, started: dt.datetime, **values: object) -> RecordingPlay:
    given = {"visit": RecordingPlay.objects.count() + 1, "visit_started": started, "started": started} | values
    return RecordingPlay.objects.create(
        recording=recording, listener=listener, seen=started + MINUTE, sections=[[0, 61_500]], played_ms=61_500, **given
    )


def whole(airing, rules: str = "triton") -> episode.EpisodeTotals | None:
    return episode.of_airing(airing, conf.get().rules(rules), conf.get(), now=NOW)


def bounds(found: episode.EpisodeTotals | None) -> tuple[int | None, int | None]:
    assert found is not None
    return found.listeners_at_least, found.listeners_at_most


def test_what_was_heard_once_is_no_whole(station):
    once = run(station, FIRST, 1, 2)
    without = station.diffusion(PROGRAM, FIRST + 4 * HOUR)
    station.compute(FIRST - DAY, NOW)
    assert whole(once) is None
    assert whole(without) is None


def test_a_repeat_on_the_same_day_counts_each_listener_once(station):
    first = run(station, FIRST, 1, 2, 3)
    run(station, SAME_DAY, 3, 4, first=first)
    station.compute(FIRST - DAY, NOW)
    found = whole(first)
    assert bounds(found) == (4, 4)
    assert found.is_exact
    assert [line.is_rerun for line in found.lines] == [False, True]
    assert found.listening_hours == 5 * 0.5
    assert found.settled
    assert found.coverage == 1.0


def test_a_repeat_on_another_day_gives_a_range(station):
    first = run(station, FIRST, 1, 2, 3)
    run(station, NEXT_DAY, 11, 12, first=first)
    station.compute(FIRST - DAY, NOW)
    assert bounds(whole(first)) == (3, 5)


def test_with_a_weekly_secret_the_next_day_is_the_same_period(station):
    first = run(station, FIRST, 1, 2, 3)
    run(station, NEXT_DAY, 3, 4, first=first)
    station.compute(FIRST - DAY, NOW)
    with override_settings(AIRCOX_LISTEN_STATS={"KEY_ROTATION": "week"}):
        assert bounds(whole(first)) == (4, 4)


def test_who_listens_on_through_the_change_of_secrets_counts_once(station):
    first = run(station, local(2026, 11, 20, 3, 30), 1)  # until half past four
    run(station, local(2026, 11, 20, 5), 12, first=first)
    # 5 has listened since the evening under that day's key, and heard both.
    station.session(local(2026, 11, 19, 22), local(2026, 11, 20, 6), listener=5)
    station.session(local(2026, 11, 20, 5), local(2026, 11, 20, 6), listener=13)
    station.compute(FIRST - DAY, NOW)
    # Of Thursday's keys 1 and 5, of Friday's 12 and 13: 1 may be one of these, 5 may not.
    assert bounds(whole(first)) == (3, 4)


def test_plays_on_demand_are_added_and_known_on_their_day(station, recording):
    first = run(station, FIRST, 1, 2)
    play(recording, 2, FIRST + 3 * HOUR)
    play(recording, 7, FIRST + 3 * HOUR)
    play(recording, 99, NOW - HOUR, exclusion="bot")
    station.compute(FIRST - DAY, NOW)
    found = whole(first)
    assert bounds(found) == (3, 3)
    assert found.plays == 2
    assert found.on_demand_hours == 123_000 / 3_600_000
    assert found.listening_hours == (3_600_000 + 123_000) / 3_600_000
    play(recording, 21, FIRST + 5 * DAY)
    assert bounds(whole(first)) == (3, 4)


def test_a_play_in_a_visit_of_the_day_before_is_under_that_days_key(station, recording):
    first = run(station, FIRST, 1)
    night, morning = local(2026, 11, 20, 3), local(2026, 11, 20, 9)
    play(recording, 1, morning, visit_started=night)  # the page stayed open
    play(recording, 31, morning)  # the same listener, on another page
    station.compute(FIRST - DAY, NOW)
    assert bounds(whole(first)) == (1, 2)


def test_plays_of_an_unknown_day_or_listener_raise_the_upper_bound_alone(station, recording):
    first = run(station, FIRST, 1, 2)
    play(recording, 8, FIRST + HOUR, visit_started=None)
    play(recording, None, FIRST + HOUR)
    play(recording, None, FIRST + HOUR)
    station.compute(FIRST - DAY, NOW)
    assert bounds(whole(first)) == (2, 5)


def test_once_the_sessions_have_expired_the_same_day_is_a_range_too(station):
    first = run(station, FIRST, 1, 2, 3)
    run(station, SAME_DAY, 3, 4, first=first)
    station.compute(FIRST - DAY, NOW)
    Session.objects.all().delete()
    assert bounds(whole(first)) == (3, 5)
    assert whole(first).listening_hours == 2.5


def test_other_episodes_and_what_is_planned_are_not_in_it(station):
    first = run(station, FIRST, 1, 2)
    run(station, SAME_DAY, 3, first=first)
    run(station, NEXT_DAY, 4, 5, 6, episode_id=EPISODE + 1)
    run(station, NOW + HOUR, first=first)
    station.compute(FIRST - DAY, NOW)
    assert len(whole(first).lines) == 2
    assert bounds(whole(first)) == (3, 3)


def test_listeners_who_could_not_be_told_apart_make_them_at_least_so_many(admin_client, station):
    first = run(station, FIRST, 1, 2)
    run(station, NEXT_DAY, 1, 3, first=first)
    station.compute(FIRST, NOW)
    page = page_of(admin_client, first)
    assert "2–4" in page
    assert "counted as one" not in page
    Blur.objects.create(stream=station.streams[0], why="address", started=NEXT_DAY - DAY, ended=FIRST)
    assert whole(first).at_least_because == ()
    Blur.objects.create(stream=station.streams[0], why="address", started=NEXT_DAY, ended=NEXT_DAY + MINUTE)
    found = whole(first)
    assert (found.at_least_because, bounds(found)) == (("address",), (2, None))
    assert [line.at_least_because for line in found.lines] == [(), ("address",)]
    page = page_of(admin_client, first)
    assert "At least 2 different listeners: several may have been counted as one." in page
    assert "2–4" not in page
    assert "of listening in all" in page
    table = reverse("listen_stats:diffusion", args=[first.pk])
    told = admin_client.get(table, {"format": "csv", "table": "episode"})
    found = list(csv.DictReader(io.StringIO(b"".join(told.streaming_content).decode(), newline="")))
    assert [row["at_least_because"] for row in found] == ["", "address", "address"]
    assert [row["distinct_listeners_at_most"] for row in found] == ["2", "", ""]


def page_of(client, airing) -> str:
    return " ".join(client.get(reverse("listen_stats:diffusion", args=[airing.pk])).content.decode().split())


def test_what_was_not_observed_makes_all_of_it_a_lower_bound(admin_client, db):
    station = PastStation()
    station.observed(FIRST - HOUR, FIRST + HOUR)
    first = run(station, FIRST, 1, 2)
    unseen = run(station, SAME_DAY, first=first)
    station.compute(FIRST - DAY, NOW)
    found = whole(first)
    assert found.is_lower_bound
    assert found.coverage == 0.5
    assert bounds(found) == (2, 2)
    assert bounds(whole(unseen)) == (2, 2)
    shown = admin_client.get(reverse("listen_stats:diffusion", args=[first.pk])).content.decode()
    assert "At least 2 different listeners" in shown


@pytest.mark.parametrize("rules", ["triton", "nielsen5", "acpm30", "all"])
def test_every_rule_set_recognises_who_came_back(station, rules):
    first = run(station, FIRST, 1, 2, 3)
    run(station, SAME_DAY, 3, 4, first=first)
    station.session(SAME_DAY + MINUTE, SAME_DAY + 3 * MINUTE, listener=9)  # counts under all but one
    station.compute(FIRST - DAY, NOW, rule_sets=[rules])
    expected = 4 if rules == "nielsen5" else 5
    assert bounds(whole(first, rules)) == (expected, expected)


@pytest.mark.parametrize("seed", range(6))
def test_the_true_number_is_inside_the_range_whatever_was_heard(station, recording, seed):
    """People by name, whose key is another one under each day's secret; the range is made from the keys alone."""
    dice = random.Random(seed)
    runs = sorted(dice.sample([FIRST - DAY, FIRST - DAY + 3 * HOUR, FIRST, SAME_DAY, NEXT_DAY], dice.randint(1, 4)))
    everybody, first, days = set(), None, {}
    for started in runs:
        airing = run(station, started, first=first)
        first = first or airing
        for person in dice.sample(range(12), dice.randint(0, 8)):
            begun = started - dice.choice((-5, 5, 20)) * MINUTE
            key = 1000 * person + (begun - 4 * HOUR).astimezone(conf.get().zone).toordinal()
            station.session(begun, begun + HOUR / 2, listener=key)
            everybody.add(person)
            days.setdefault(key % 1000, set()).add(person)
    for person in dice.sample(range(12), dice.randint(0, 6)):
        begun = dice.choice(runs) + dice.randint(1, 40) * HOUR
        play(recording, 1000 * person + (begun - 4 * HOUR).astimezone(conf.get().zone).toordinal(), begun)
        everybody.add(person)
        days.setdefault((begun - 4 * HOUR).astimezone(conf.get().zone).toordinal() % 1000, set()).add(person)
    station.compute(FIRST - 3 * DAY, NOW)
    found = whole(first)
    if found is None:
        assert len(runs) == 1
        return
    least, most = bounds(found)
    assert least <= len(everybody) <= most
    # No more than what one day alone shows is ever left out of the lower bound.
    assert least >= max(map(len, days.values()), default=0)


# On the pages and out of the door ----------------------------------------------------


@pytest.fixture
def heard_thrice(station, recording):
    first = run(station, FIRST, 1, 2, 3)
    run(station, NEXT_DAY, 11, 12, first=first)
    for number in range(4):
        play(recording, 3 if number else 5, FIRST + 3 * HOUR)
    station.compute(FIRST - DAY, NOW)
    return first


@pytest.fixture(autouse=True)
def _at_now(monkeypatch):
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)


def text_of(client, name: str, number: int, **query: str) -> str:
    answer = client.get(reverse(f"listen_stats:{name}", args=[number]), query)
    assert answer.status_code == 200
    return b"".join(answer).decode("utf-8-sig")


def test_the_page_of_a_diffusion_adds_it_up(admin_client, heard_thrice):
    shown = text_of(admin_client, "diffusion", heard_thrice.pk)
    assert "Heard 2 times on air and 4 times on demand" in shown
    assert "Between 4 and 6 different listeners" in shown
    assert "4–6" in shown


def test_the_page_of_the_program_has_the_same_numbers(admin_client, heard_thrice):
    shown = text_of(admin_client, "program", PROGRAM)
    assert "Episodes heard more than once" in shown
    assert "4–6" in shown
    told = admin_client.get(reverse("listen_stats:program", args=[PROGRAM]), {"format": "json"}).json()
    alone = admin_client.get(reverse("listen_stats:diffusion", args=[heard_thrice.pk]), {"format": "json"}).json()
    assert told["episodes"] == [alone["episode"]]


def test_the_tables_tell_the_same(admin_client, heard_thrice):
    rows = list(
        csv.DictReader(io.StringIO(text_of(admin_client, "diffusion", heard_thrice.pk, format="csv", table="episode")))
    )
    assert [row["part"] for row in rows] == ["diffusion", "diffusion", "on-demand", "episode"]
    assert [row["distinct_listeners_at_most"] for row in rows] == ["3", "2", "", "6"]
    assert sum(float(row["listening_hours"]) for row in rows[:-1]) == pytest.approx(float(rows[-1]["listening_hours"]))
    (row,) = csv.DictReader(io.StringIO(text_of(admin_client, "program", PROGRAM, format="csv", table="episodes")))
    assert (row["episode_id"], row["diffusions"], row["plays"]) == ("40", "2", "4")
    assert (row["distinct_listeners_at_least"], row["distinct_listeners_at_most"]) == ("4", "6")


def test_there_is_no_table_of_another_name(admin_client, heard_thrice):
    address = reverse("listen_stats:program", args=[PROGRAM])
    assert admin_client.get(address, {"format": "csv", "table": "people"}).status_code == 404


def test_small_cells_are_hidden_and_not_told_by_the_sums(admin_client, heard_thrice):
    with override_settings(AIRCOX_LISTEN_STATS={"MINIMUM_CELL": 5}):
        address = reverse("listen_stats:diffusion", args=[heard_thrice.pk])
        told = admin_client.get(address, {"format": "json"}).json()["episode"]
    assert (told["plays"], told["on_demand_hours"], told["listening_hours"]) == (None, None, None)
    assert (told["listeners_at_least"], told["listeners_at_most"]) == (None, None)
    assert told["broadcast_hours"] == 2.5


def test_an_export_of_many_episodes_has_each_once(admin_client, station):
    for number in range(episode.AT_ONCE + 3):
        started = NOW - (number + 1) * 3 * HOUR
        first = run(station, started, number, episode_id=100 + number)
        run(station, started + HOUR, number, first=first, episode_id=100 + number)
    station.compute(NOW - 200 * HOUR, NOW)
    rows = list(csv.DictReader(io.StringIO(text_of(admin_client, "program", PROGRAM, format="csv", table="episodes"))))
    assert [int(row["episode_id"]) for row in rows] == list(range(100, 100 + episode.AT_ONCE + 3))
    told = admin_client.get(reverse("listen_stats:program", args=[PROGRAM]), {"format": "json"}).json()
    assert [one["episode_id"] for one in told["episodes"]] == list(range(100, 100 + episode.SHOWN))


def test_the_minutes_of_a_recording_are_shown_and_exported(admin_client, heard_thrice):
    shown = text_of(admin_client, "diffusion", heard_thrice.pk)
    assert "Plays that heard each minute of “Jazz”" in shown
    csv_text = text_of(admin_client, "diffusion", heard_thrice.pk, format="csv", table="on-demand-minutes")
    rows = list(csv.DictReader(io.StringIO(csv_text)))
    assert [row["retention_share"] for row in rows][:3] == ["1", "1", "0"]
    assert len(rows) == 11


def test_a_diffusion_takes_few_queries(django_assert_max_num_queries, heard_thrice):
    with django_assert_max_num_queries(20):
        assert diffusion_audience(find(heard_thrice.pk), conf.get().rules(), conf.get(), now=NOW).episode
