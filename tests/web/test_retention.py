"""Who is still there, of those at the start and of all: on the page, in its table, and as the kernel defines it."""

from __future__ import annotations

import csv
import io
import random

import numpy as np
import pytest
from django.test import override_settings
from django.urls import reverse

from aircox_listen_stats import conf
from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.kernel import metrics
from aircox_listen_stats.kernel.correlate import Listening
from aircox_listen_stats.models import Airing, Session
from aircox_listen_stats.reports import diffusion as diffusions
from tests.web import stations
from tests.web.stations import HOUR, MINUTE, NOW, WEEK, PastStation

pytestmark = pytest.mark.django_db

STARTED = NOW - WEEK


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)


@pytest.fixture
def staff(client, admin_user):
    client.force_login(admin_user)
    return client


def report_of(airing: Airing) -> diffusions.DiffusionAudience:
    settings = conf.get()
    return diffusions.diffusion_audience(airing, settings.rules(), settings, now=NOW)


@pytest.fixture
def quarter(db) -> Airing:
    """A quarter-hour: two there at the start, one of whom leaves after five minutes; two come after ten."""
    station = PastStation()
    airing = station.diffusion(5, STARTED, 15)
    station.session(STARTED - MINUTE, STARTED + HOUR)
    station.session(STARTED - MINUTE, STARTED + 5 * MINUTE)
    station.session(STARTED + 10 * MINUTE, STARTED + HOUR)
    station.session(STARTED + 10 * MINUTE, STARTED + HOUR)
    station.observed(STARTED - HOUR, NOW)
    station.compute(STARTED - HOUR, STARTED + HOUR)
    return airing


def test_of_those_at_the_start_and_of_all(quarter):
    report = report_of(quarter)
    assert report.retention == (1.0,) * 5 + (0.5,) * 10
    assert report.retention_of_all == (0.5,) * 5 + (0.25,) * 5 + (0.75,) * 5


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_kernels_over_random_sessions(db, seed):
    chance = random.Random(seed)
    station = stations.PastStation()
    airing = station.diffusion(5, STARTED, 20.5)
    for _ in range(40):
        begun = STARTED + chance.choice([chance.uniform(-10, 25), chance.randint(-10, 25)]) * MINUTE
        station.session(begun, begun + chance.choice([chance.uniform(1, 30), chance.randint(1, 30)]) * MINUTE)
    station.observed(STARTED - HOUR, NOW)
    station.compute(STARTED - HOUR, STARTED + HOUR)
    found = list(Session.objects.order_by("id"))
    listening = Listening.whole(
        started_ms=np.array([to_ms(one.started) for one in found]),
        ended_ms=np.array([to_ms(one.ended) for one in found]),
        listener=np.array([one.listener for one in found]),
    )
    report = report_of(airing)
    bounds = to_ms(airing.started), to_ms(airing.ended)
    assert report.retention == pytest.approx(metrics.retention(listening, *bounds).tolist())
    assert report.retention_of_all == pytest.approx(metrics.retention(listening, *bounds, of_all=True).tolist())


def test_both_curves_have_their_names_and_their_table(quarter, staff):
    page = staff.get(reverse("listen_stats:diffusion", args=[quarter.pk])).content.decode()
    assert "of the 2 at the start" in page
    assert "of all 4 who heard some of it" in page
    assert "Of all there" in page
    assert page.count("ls-line-of-all") == 1
    table = staff.get(reverse("listen_stats:diffusion", args=[quarter.pk]), {"format": "csv", "table": "minutes"})
    rows = list(csv.DictReader(io.StringIO(table.getvalue().decode())))
    assert [row["retention_of_all_share"] for row in rows] == ["0.5"] * 5 + ["0.25"] * 5 + ["0.75"] * 5


def test_once_the_sessions_are_gone_only_the_stored_curve_stays(quarter, staff):
    Session.objects.first().delete()
    report = report_of(quarter)
    assert (len(report.retention), report.retention_of_all) == (15, ())
    page = staff.get(reverse("listen_stats:diffusion", args=[quarter.pk])).content.decode()
    assert "of the 2 at the start" in page
    assert "who heard some of it</li>" not in page


@override_settings(AIRCOX_LISTEN_STATS={"MINIMUM_CELL": 3})
def test_no_share_tells_a_hidden_number(quarter, staff):
    told = staff.get(reverse("listen_stats:diffusion", args=[quarter.pk]), {"format": "json"}).json()
    assert told["retention"] == []
    assert told["retention_of_all"] == [None] * 10 + [0.75] * 5
    assert told["flow"]["there"] == [None] * 10 + [3] * 5
