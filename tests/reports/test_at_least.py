"""Figures of listeners who could not be told apart are lower bounds, and say why, in every form."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from aircox_listen_stats import conf
from aircox_listen_stats.models import Airing, Blur
from aircox_listen_stats.reports import spans
from aircox_listen_stats.reports.blurs import JOINED, TOLD_APART, Reason
from aircox_listen_stats.reports.periods import UNITS, PeriodReport, Scope, ScopeKind, period_figures
from aircox_listen_stats.templatetags.listen_stats_pages import period_value

from .conftest import NOW, Crowd, at, prune
from .test_report_page import body

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

PROGRAM = 7
DAY = {"period": "2026-10-24"}


@pytest.fixture
def filled(crowd: Crowd) -> Crowd:
    crowd.come(1, 80)
    crowd.observe()
    crowd.on_air(20_000, 25_400, program_id=PROGRAM, program_title="Canal", diffusion_id=1)
    crowd.on_air(150_000, 154_000, program_id=PROGRAM, program_title="Canal", diffusion_id=2)
    crowd.compute()
    return crowd


def blur(crowd: Crowd, start: float, end: float, *, why: Reason = Reason.ADDRESS, stream: int = 0) -> None:
    told = {"most": 30, "compared": 33} if why == Reason.ADDRESS else {}
    Blur.objects.create(stream=crowd.streams[stream], why=why, started=at(start), ended=at(end), **told)


def report(scope: Scope, name: str = "2026-10-24", daypart: str = "", *, now: Any = NOW) -> PeriodReport:
    settings = conf.get()
    span = spans.read([name], settings, now=now).within(spans.daypart(daypart) if daypart else None)
    return period_figures(scope, span, settings.rules(), now=now)


def at_least(made: PeriodReport) -> set[str]:
    return {one.name for one in made.figures if one.at_least_because}


STATION = Scope.station(1)


def test_nothing_is_marked_where_listeners_could_be_told_apart(filled: Crowd) -> None:
    made = report(STATION)
    assert (made.at_least_because, at_least(made)) == ((), set())
    assert not made["cume"].is_lower_bound


def test_a_shared_address_marks_what_counts_listeners_and_leaves_time_as_it_is(filled: Crowd) -> None:
    blur(filled, 40_000, 50_000)
    made = report(STATION)
    assert made.at_least_because == made["cume"].at_least_because == (Reason.ADDRESS,)
    assert at_least(made) == TOLD_APART & UNITS.keys()
    assert made["cume"].is_lower_bound
    assert not made["tlh"].is_lower_bound


@pytest.mark.parametrize("why", [Reason.SOURCE, Reason.SHARED])
def test_what_a_source_joins_is_missing_in_the_time_too(filled: Crowd, why: Reason) -> None:
    blur(filled, 40_000, 50_000, why=why)
    assert at_least(report(STATION)) == JOINED & UNITS.keys()


def test_it_is_of_the_stream_and_the_time_in_which_it_was(filled: Crowd) -> None:
    blur(filled, 40_000, 50_000, stream=1)
    live, low = (Scope(kind=ScopeKind.STREAM, id=one.pk, station_id=1) for one in filled.streams)
    assert at_least(report(low))
    assert not at_least(report(live))
    assert not at_least(report(STATION, "2026-10-25"))
    assert at_least(report(STATION, daypart="10-13"))  # 11:06 to 13:53 by the clock of the studio
    assert not at_least(report(STATION, daypart="06-10"))


@pytest.mark.parametrize(("start", "is_marked"), [(24_000, True), (26_000, False)])
def test_a_program_is_marked_where_it_was_while_it_was_on_air(filled: Crowd, start: float, is_marked: bool) -> None:
    blur(filled, start, start + 600)
    program = Scope(kind=ScopeKind.PROGRAM, id=PROGRAM, station_id=1)
    assert bool(report(program).at_least_because) is is_marked
    assert bool(report(Scope(kind=ScopeKind.DIFFUSION, id=1, station_id=1)).at_least_because) is is_marked


def test_it_outlives_the_sessions(filled: Crowd, settings: Any) -> None:
    blur(filled, 40_000, 50_000)
    later = prune(settings)
    made = report(STATION, now=later)
    assert made["started_sessions"].value
    assert at_least(made) == TOLD_APART & UNITS.keys()


def test_page_table_and_json_say_it_with_its_reason(filled: Crowd, client: Client, admin_user: Any) -> None:
    client.force_login(admin_user)
    address = reverse("listen_stats:report")
    blur(filled, 40_000, 50_000)
    cume = report(STATION)["cume"].value
    page = " ".join(body(client.get(address, DAY)).decode().split())
    assert f"≥ {cume}" in page
    assert "most listened through one internet address" in page
    table = body(client.get(address, {**DAY, "format": "csv"})).decode()
    told = {row["figure"]: row for row in csv.DictReader(io.StringIO(table, newline=""))}
    assert (told["cume"]["at_least_because"], told["tlh"]["at_least_because"]) == ("address", "")
    assert (told["cume"]["value"], told["cume"]["before_at_least_because"]) == (str(cume), "")
    whole = client.get(address, {**DAY, "format": "json"}).json()["comparison"]["report"]
    assert whole["at_least_because"] == ["address"]
    assert {one["name"]: one["at_least_because"] for one in whole["figures"]}["peak"] == ["address"]


def test_the_page_of_a_diffusion_says_it_too(filled: Crowd, client: Client, admin_user: Any) -> None:
    client.force_login(admin_user)
    airing = Airing.objects.get(diffusion_id=1)
    address = reverse("listen_stats:diffusion", args=[airing.pk])
    assert "may have been counted as one" not in body(client.get(address)).decode()
    blur(filled, 24_000, 25_000, why=Reason.PROXY)
    page = " ".join(body(client.get(address)).decode().split())
    assert "only the internet address of the station’s own proxy server is known" in page
    assert "may have been counted as one" in page
    assert client.get(address, {"format": "json"}).json()["at_least_because"] == ["proxy"]


def test_what_is_a_lower_bound_has_no_upper_one(filled: Crowd, settings: Any) -> None:
    """Of averages by listener it is the other way round; where time is missing too, there is none either way."""
    later = prune(settings)
    free = report(STATION, "2026-W43", now=later)
    assert (free["cume"].value, free["tsl_seconds"].value) == (None, None)
    exact = free["atsl_seconds"].value
    blur(filled, 40_000, 50_000)
    made = report(STATION, "2026-W43", now=later)
    assert made["cume"].lower == free["cume"].lower
    assert [made[name].upper for name in ("cume", "active_sessions", "peak")] == [None, None, None]
    assert (made["tsl_seconds"].lower, made["tsl_seconds"].upper) == (None, free["tsl_seconds"].upper)
    assert (made["atsl_seconds"].lower, made["atsl_seconds"].upper) == (None, exact)
    assert period_value(made["atsl_seconds"]).startswith("≤")
    blur(filled, 40_000, 50_000, why=Reason.SOURCE)
    made = report(STATION, "2026-W43", now=later)
    assert [made[name].upper for name in ("tsl_seconds", "atsl_seconds")] == [None, None]
    assert "≤" not in period_value(made["atsl_seconds"])
