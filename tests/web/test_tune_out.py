"""Tracks during which more tuned out than in the rest of the diffusion: said where it is sure, silent elsewhere."""

from __future__ import annotations

import csv
import io

import pytest
from django.test import override_settings
from django.urls import reverse

from aircox_listen_stats import conf
from aircox_listen_stats.models import Airing, Audience
from aircox_listen_stats.reports import diffusion as diffusions
from tests.web import stations
from tests.web.stations import HOUR, MINUTE, NOW, WEEK, PastStation

pytestmark = pytest.mark.django_db

STARTED = NOW - WEEK
TRACKS = 12
DISLIKED = 5
"""The number of the track, from 0, during which they leave."""


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)


@pytest.fixture
def staff(client, admin_user):
    client.force_login(admin_user)
    return client


def hour(station: PastStation, listeners: int, leavers: int, *, each: int = 1) -> Airing:
    """Twelve tracks of five minutes: ``each`` leave during every one, ``leavers`` more during the disliked one."""
    airing = station.diffusion(5, STARTED, 60, program="Jazz")
    for number in range(TRACKS):
        station.track(f"Track {number}", STARTED + 5 * number * MINUTE, 5)
        for _ in range(each):
            station.session(STARTED - 5 * MINUTE, STARTED + (5 * number + 2) * MINUTE)
    for place in range(leavers):
        station.session(STARTED - 5 * MINUTE, STARTED + (5 * DISLIKED + 1 + place % 3) * MINUTE)
    for _ in range(listeners - leavers - each * TRACKS):
        station.session(STARTED - 5 * MINUTE, STARTED + 2 * HOUR)
    station.observed(STARTED - HOUR, NOW)
    station.compute(STARTED - HOUR, STARTED + 2 * HOUR)
    return airing


def report_of(airing: Airing) -> diffusions.DiffusionAudience:
    settings = conf.get()
    return diffusions.diffusion_audience(Airing.objects.get(pk=airing.pk), settings.rules(), settings, now=NOW)


def page_of(client, airing: Airing) -> str:
    return client.get(reverse("listen_stats:diffusion", args=[airing.pk])).content.decode()


def test_a_track_that_drives_them_out_stands_out_and_no_other(db, staff):
    airing = hour(stations.PastStation(), 80, 14)
    report = report_of(airing)
    (found,) = report.standing_out
    assert (found.title, found.left, found.judged) == ("Track 5", 15, 11)
    # The other eleven leave during what was listened to beside this track.
    own, whole = report.tracks[DISLIKED].figures.listening_hours, report.figures.listening_hours
    assert found.expected == pytest.approx(11 * own / (whole - own))
    assert found.chance < 0.001
    assert "During “Track 5” 15 tuned out; at the rate of the rest of the diffusion it would be 1.0." in page_of(
        staff, airing
    )
    assert "less than one time in 1,000" in page_of(staff, airing)


def test_where_they_leave_evenly_none_stands_out(db, staff):
    airing = hour(stations.PastStation(), 80, 0, each=3)
    report = report_of(airing)
    assert len(report.tune_outs) == 11
    assert report.standing_out == ()
    assert "Of none of the 11 tracks that enough listened to is it sure" in page_of(staff, airing)


def test_three_of_them_may_be_chance(db):
    airing = hour(stations.PastStation(), 80, 2)
    (found,) = (one for one in report_of(airing).tune_outs if one.title == "Track 5")
    assert found.left == 3
    assert found.left > 2 * found.expected
    assert not found.stands_out


def test_below_twenty_listeners_nothing_is_said(db, staff):
    airing = hour(stations.PastStation(), 19, 6, each=0)
    assert report_of(airing).tune_outs == ()
    assert "tuned out than in the rest" not in page_of(staff, airing)


def test_a_track_at_the_end_or_across_the_bounds_is_not_judged(db):
    station = stations.PastStation()
    airing = hour(station, 80, 14)
    station.track("Across", STARTED - MINUTE, 4)
    station.compute(STARTED - HOUR, STARTED + 2 * HOUR)
    assert {one.title for one in report_of(airing).tune_outs} == {f"Track {number}" for number in range(TRACKS - 1)}


def test_provisional_figures_and_gaps_make_it_silent(db):
    airing = hour(stations.PastStation(), 80, 14)
    Audience.objects.filter(airing=airing).update(settled=False)
    assert report_of(airing).tune_outs == ()
    Audience.objects.filter(airing=airing).update(settled=True, coverage=0.9)
    assert report_of(airing).tune_outs == ()
    Audience.objects.filter(airing=airing).update(coverage=1)
    Audience.objects.filter(airing__title="Track 3").update(coverage=0.9)
    assert "Track 3" not in {one.title for one in report_of(airing).tune_outs}
    Airing.objects.filter(pk=airing.pk).update(is_running=True)
    assert report_of(airing).tune_outs == ()


def test_it_stands_in_the_table_and_in_json(db, staff):
    airing = hour(stations.PastStation(), 80, 14)
    address = reverse("listen_stats:diffusion", args=[airing.pk])
    table = list(
        csv.DictReader(io.StringIO(staff.get(address, {"format": "csv", "table": "on-air"}).getvalue().decode()))
    )
    row = next(row for row in table if row["title"] == "Track 5")
    assert (row["tuned_out"], row["tuned_out_chance_share"]) == ("15", "0")
    assert float(row["tuned_out_expected"]) == pytest.approx(1.0, abs=0.05)
    last = next(row for row in table if row["title"] == "Track 11")
    assert (last["tuned_out_expected"], last["tuned_out_chance_share"]) == ("", "")
    assert len(staff.get(address, {"format": "json"}).json()["tune_outs"]) == 11


@override_settings(AIRCOX_LISTEN_STATS={"MINIMUM_CELL": 5})
def test_who_is_too_few_to_show_is_not_shown_here_either(db, staff):
    airing = hour(stations.PastStation(), 80, 14)
    told = staff.get(reverse("listen_stats:diffusion", args=[airing.pk]), {"format": "json"}).json()
    assert [one["title"] for one in told["tune_outs"]] == ["Track 5"]
