"""A diffusion beside what its slot usually has: which are comparable, what is said, and how sure."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from html import unescape

import pytest
from django.urls import reverse

from aircox_listen_stats import conf
from aircox_listen_stats.models import Airing, Audience, Blur, Coverage
from aircox_listen_stats.reports import diffusion as diffusions
from aircox_listen_stats.reports.baseline import Baseline, Verdict
from tests.web import stations
from tests.web.stations import DAY, HOUR, MINUTE, NOW, ZONE, PastStation

pytestmark = pytest.mark.django_db

PROGRAM = 5
NEWEST = dt.datetime(2026, 11, 19, 20, 0, tzinfo=ZONE)
"""A Thursday; the clocks were changed on 25 October."""


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)


@pytest.fixture
def staff(client, admin_user):
    client.force_login(admin_user)
    return client


@pytest.fixture
def station(db):
    return stations.PastStation()


def slot(station: PastStation, *audiences: int, **values: object) -> list[Airing]:
    """An hour at 20:00 on the wall clock in each of the last weeks, newest first, heard throughout by so many."""
    found = [evening(station, week, listeners, **values) for week, listeners in enumerate(audiences)]
    compute(station, len(audiences))
    return found


def evening(
    station: PastStation, week: int, listeners: int, *, shift: dt.timedelta = dt.timedelta(0), **values: object
) -> Airing:
    # On the clock of the wall: what lies between is told by the calendar.
    started = (NEWEST - week * 7 * DAY + shift).astimezone(dt.UTC)
    airing = station.diffusion(PROGRAM, started, 60, program="Jazz", **values)
    for _ in range(listeners):
        station.session(started, started + HOUR)
    station.observed(started - HOUR, started + 2 * HOUR)
    return airing


def compute(station: PastStation, weeks: int, *, now: dt.datetime = NOW) -> None:
    for week in range(weeks):
        started = (NEWEST - week * 7 * DAY).astimezone(dt.UTC)
        station.compute(started - 3 * HOUR, started + 4 * HOUR, now=now)


def baseline_of(airing: Airing) -> Baseline:
    settings = conf.get()
    found = diffusions.diffusion_audience(airing, settings.rules(), settings, now=NOW).baseline
    assert found is not None
    return found


def words_of(client, airing: Airing, language: str = "en") -> str:
    page = client.get(reverse("listen_stats:diffusion", args=[airing.pk]), headers={"accept-language": language})
    return " ".join(unescape(re.sub(r"<[^>]+>", "", page.content.decode())).split())


def test_it_is_compared_with_the_median_of_the_last_eight(station):
    airings = slot(station, 2, 3, 4, 5, 6, 7, 8, 9, 10, 99)
    found = baseline_of(airings[0])
    assert (found.verdict, found.comparable, found.median, found.least, found.most) == (Verdict.LESS, 8, 6.5, 3, 10)
    assert found.change == pytest.approx(2 / 6.5 - 1)
    assert found.spread == 2.0
    assert (found.as_far, found.chance, found.one_in) == (0, pytest.approx(1 / 9), 9)


def test_the_slot_is_one_on_the_clock_of_the_wall_across_the_change_of_the_clocks(station):
    """25 October lies between the fourth and the fifth week: 20:00 is 19:00 UTC after it and 18:00 before."""
    airings = slot(station, 5, 5, 5, 5, 5, 5, 5, 5, 5)
    assert len({airing.started.hour for airing in airings}) == 2
    assert baseline_of(airings[0]).comparable == 8


def test_what_stays_at_one_hour_of_utc_moves_to_another_slot(station):
    airings = slot(station, 5, 5, 5, 5, 5)
    moved = [evening(station, week, 5, shift=HOUR) for week in range(1, 5)]
    compute(station, 5)
    assert moved
    assert baseline_of(airings[0]).comparable == 4


@pytest.mark.parametrize(("minutes", "comparable"), [(30, 5), (-30, 5), (31, 4), (-31, 4)])
def test_half_an_hour_earlier_or_later_is_the_same_slot(station, minutes, comparable):
    airings = slot(station, 5, 5, 5, 5, 5)
    evening(station, 6, 5, shift=minutes * MINUTE)
    compute(station, 7)
    assert baseline_of(airings[0]).comparable == comparable


def test_the_slot_is_the_planned_one_where_a_diffusion_began_late(station):
    airings = slot(station, 5, 5, 5, 5, 5)
    planned = (NEWEST - 6 * 7 * DAY).astimezone(dt.UTC)
    evening(station, 6, 5, shift=50 * MINUTE, scheduled_start=planned, scheduled_end=planned + HOUR)
    compute(station, 7)
    assert baseline_of(airings[0]).comparable == 5


def test_around_midnight_half_an_hour_is_not_a_week(station):
    airings = [evening(station, week, 5, shift=3 * HOUR + 45 * MINUTE) for week in range(5)]
    airings.append(evening(station, 5, 5, shift=4 * HOUR + 5 * MINUTE))  # Friday, 00:05
    for airing in airings:
        station.compute(airing.started, airing.ended)
    assert baseline_of(airings[0]).comparable == 5


def test_another_day_another_program_and_another_station_are_no_comparison(station):
    airings = slot(station, 5, 5, 5, 5, 5)
    evening(station, 5, 5, shift=DAY)
    other = PastStation(id=2, stream_slugs=("elsewhere",))
    evening(other, 6, 5)
    station.diffusion(6, (NEWEST - 7 * 7 * DAY).astimezone(dt.UTC), 60)
    compute(station, 8)
    compute(other, 8)
    station.compute((NEWEST - 34 * DAY - HOUR).astimezone(dt.UTC), (NEWEST - 34 * DAY + HOUR).astimezone(dt.UTC))
    assert baseline_of(airings[0]).comparable == 4


def test_what_was_mostly_not_observed_is_no_comparison(station):
    airings = slot(station, 5, 5, 5, 5, 5, 5)
    Coverage.objects.filter(started__lt=airings[2].started, ended__gt=airings[2].started).update(
        started=airings[2].started, ended=airings[2].started + 29 * MINUTE
    )
    compute(station, 6)
    assert baseline_of(airings[0]).comparable == 4
    assert baseline_of(airings[0]).partly_observed == 0


def test_what_was_observed_in_part_is_compared_with_and_told(station, staff):
    airings = slot(station, 5, 5, 5, 5, 5, 5)
    Coverage.objects.filter(started__lt=airings[2].started, ended__gt=airings[2].started).update(
        ended=airings[2].started + 40 * MINUTE
    )
    compute(station, 6)
    assert (baseline_of(airings[0]).comparable, baseline_of(airings[0]).partly_observed) == (5, 1)
    assert "One of those it is compared with was observed only in part." in words_of(staff, airings[0])


def test_what_is_provisional_is_no_comparison(station):
    airings = slot(station, 5, 5, 5, 5, 5, 5)
    Audience.objects.filter(airing=airings[3]).update(settled=False)
    assert baseline_of(airings[0]).comparable == 4


@pytest.mark.parametrize("note", ["cancelled while on air", "cancelled by the monitor while on air"])
def test_what_was_cancelled_on_air_is_no_comparison(station, note):
    airings = slot(station, 5, 5, 5, 5, 5, 5)
    Airing.objects.filter(pk=airings[3].pk).update(notes=[note])
    assert baseline_of(airings[0]).comparable == 4


def test_first_runs_are_compared_with_first_runs_and_repeats_with_repeats(station):
    airings = slot(station, *[5] * 10)
    Airing.objects.filter(pk__in=[one.pk for one in airings[1::2]]).update(initial_id=1)
    assert baseline_of(airings[0]).comparable == 4
    assert baseline_of(Airing.objects.get(pk=airings[1].pk)).comparable == 4


def test_with_fewer_than_four_nothing_is_said(station, staff):
    airings = slot(station, 9, 5, 5, 5)
    found = baseline_of(airings[0])
    assert (found.verdict, found.comparable, found.median, found.change, found.chance) == ("few", 3, None, None, None)
    said = "Too few comparable diffusions in this slot to say what is usual (3 of 8)."
    assert said in words_of(staff, airings[0])


def test_one_above_all_says_how_often_chance_would_do_that(station, staff):
    airings = slot(station, 12, 10, 11, 10, 9, 10)
    assert (
        "About a fifth more than this slot usually has (median of 5: 10.0, range 9.0–11.0);"
        " none of those had so many, which chance alone brings about one time in 6." in words_of(staff, airings[0])
    )
    assert "Environ un cinquième de plus" in words_of(staff, airings[0], "fr")


def test_one_among_others_may_be_chance(station, staff):
    airings = slot(station, 12, 10, 14, 8, 13, 8)
    found = baseline_of(airings[0])
    assert (found.verdict, found.as_far, found.one_in) == (Verdict.MORE, 2, None)
    assert (
        "About a fifth more than this slot usually has (median of 5: 10.0, range 8.0–14.0);"
        " 2 of those had as many or more, so that it may be chance." in words_of(staff, airings[0])
    )


@pytest.mark.parametrize(
    ("blurred", "why", "change_is", "words"),
    [
        ([], "source", "", ""),
        ([0], "address", "", ""),  # the average is a matter of time, which is right
        ([0], "source", "at_least", "Several of its listeners may have been counted as one: it may have been more."),
        ([2], "source", "at_most", "these may have had more."),
        ([0, 2], "source", "counted", "the comparison is of what was counted."),
        ([6], "source", "", ""),  # none of those it is compared with
    ],
)
def test_it_says_where_listeners_could_not_be_told_apart(station, staff, blurred, why, change_is, words):
    airings = slot(station, 12, 10, 14, 8, 13)
    for week in blurred:
        started = (NEWEST - week * 7 * DAY).astimezone(dt.UTC)
        Blur.objects.create(stream=station.streams[0], why=why, started=started, ended=started + MINUTE)
    assert baseline_of(airings[0]).change_is == change_is
    told = [
        "Several of its listeners may have been counted as one: it may have been more.",
        "these may have had more.",
        "the comparison is of what was counted.",
    ]
    page = words_of(staff, airings[0])
    assert [one for one in told if one in page] == [one for one in [words] if one]
    shown = {"at_least": "≥ +4 %", "at_most": "≤ +4 %", "counted": "(+4 %)"}.get(change_is, " +4 %")
    assert f"{shown} on the usual" in page


def test_a_small_difference_is_as_usual(station, staff):
    airings = slot(station, 10, 10, 11, 8, 12, 10)
    assert baseline_of(airings[0]).verdict is Verdict.USUAL
    assert (
        "About as many as this slot usually has (median of 5: 10.0, range 8.0–12.0);"
        " half of those lie within 1.0 of the median." in words_of(staff, airings[0])
    )


@pytest.mark.parametrize(
    ("listeners", "said"),
    [
        (3, "About two thirds less than this slot usually has"),
        (1, "Less than a fifth of what this slot usually has"),
        (15, "About half more than this slot usually has"),
        (19, "About twice what this slot usually has"),
        (41, "About 4 times what this slot usually has"),
    ],
)
def test_it_is_said_in_words_as_rough_as_what_is_known(station, staff, listeners, said):
    airings = slot(station, listeners, 10, 10, 10, 10)
    assert said in words_of(staff, airings[0])


def test_more_than_nobody(station, staff):
    airings = slot(station, 3, 0, 0, 0, 0)
    assert "More than this slot usually has (median of 4: 0.0, range 0.0–0.0)" in words_of(staff, airings[0])


def test_a_provisional_figure_is_compared_and_says_so(station, staff):
    airings = slot(station, 12, 10, 10, 10, 10)
    Audience.objects.filter(airing=airings[0]).update(settled=False)
    assert baseline_of(airings[0]).is_provisional
    assert "Provisional: it may still change." in words_of(staff, airings[0])


def test_what_is_on_air_is_not_compared_yet(station, staff):
    airings = slot(station, 12, 10, 10, 10, 10)
    Airing.objects.filter(pk=airings[0].pk).update(is_running=True)
    found = baseline_of(Airing.objects.get(pk=airings[0].pk))
    assert (found.verdict, found.change, found.chance) == (Verdict.RUNNING, None, None)
    assert "once it is over" in words_of(staff, airings[0])


def test_an_own_outage_makes_less_no_claim(station, staff):
    """The half that was not observed may have been as full: 8 of what may be 16 is neither more nor less."""
    airings = slot(station, 8, 10, 10, 10, 10)
    Audience.objects.filter(airing=airings[0]).update(coverage=0.5)
    found = baseline_of(airings[0])
    assert (found.verdict, found.change) == (Verdict.UNOBSERVED, None)
    assert "Too much of it was not observed" in words_of(staff, airings[0])
    Audience.objects.filter(airing=airings[0]).update(coverage=0.95)
    assert baseline_of(airings[0]).verdict is Verdict.LESS
    assert "Part of it was not observed: it may have been more." in words_of(staff, airings[0])


def test_more_is_more_in_spite_of_an_outage(station):
    airings = slot(station, 14, 10, 10, 10, 10)
    Audience.objects.filter(airing=airings[0]).update(coverage=0.6)
    assert baseline_of(airings[0]).verdict is Verdict.MORE


def test_a_diffusion_of_no_program_has_no_slot(station):
    airing = station.diffusion(None, NEWEST.astimezone(dt.UTC), 60)
    compute(station, 1)
    settings = conf.get()
    assert diffusions.diffusion_audience(airing, settings.rules(), settings, now=NOW).baseline is None


def test_it_stands_in_the_table_and_in_json(station, staff):
    airings = slot(station, 12, 10, 11, 10, 9, 10)
    address = reverse("listen_stats:diffusion", args=[airings[0].pk])
    table = staff.get(address, {"format": "csv", "table": "baseline"}).getvalue().decode()
    (row,) = csv.DictReader(io.StringIO(table))
    assert (row["verdict"], row["comparable_diffusions"], row["usual_average_audience"]) == ("more", "5", "10")
    assert (row["change_share"], row["as_far_diffusions"], row["chance_share"]) == ("0.2", "0", "0.1667")
    told = staff.get(address, {"format": "json"}).json()["baseline"]
    assert (told["verdict"], told["median"], told["chance"]) == ("more", 10, pytest.approx(1 / 6))
