"""The reports and the pages that show them."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re

import pytest
from django.db.models import F
from django.test import override_settings
from django.urls import reverse
from django.utils import translation

from aircox_listen_stats import conf
from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import Airing, Audience, Lease, MonitorWatch, Session, SourceState
from aircox_listen_stats.reports import diffusion as diffusions
from aircox_listen_stats.reports import query
from aircox_listen_stats.reports.program import PAGE_DIFFUSIONS, program_audience
from aircox_listen_stats.reports.programs import program_list
from aircox_listen_stats.reports.query import ReportQuery
from aircox_listen_stats.reports.status import Health, status
from aircox_listen_stats.templatetags import listen_stats_pages
from aircox_listen_stats.web import asking, drawing
from tests.web import stations
from tests.web.stations import HOUR, MINUTE, NOW, WEEK, local

pytestmark = pytest.mark.django_db

MOST_QUERIES = 12
"""The goal of the program page, with 52 diffusions."""


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)


@pytest.fixture
def station():
    return stations.PastStation()


@pytest.fixture
def staff(client, admin_user):
    client.force_login(admin_user)
    return client


def weeks(number: int) -> ReportQuery:
    settings = conf.get()
    return ReportQuery(period=query.last_weeks(number, settings, now=NOW), rules=settings.rules())


def report_of(airing: Airing, rule_set: str = "triton") -> diffusions.DiffusionAudience:
    settings = conf.get()
    return diffusions.diffusion_audience(airing, settings.rules(rule_set), settings, now=NOW)


class TestPeriod:
    def test_a_period_of_days_has_the_hours_that_the_clocks_gave_it(self):
        settings = conf.get()
        spring = query.days(dt.date(2026, 3, 28), dt.date(2026, 3, 28), settings)
        autumn = query.days(dt.date(2026, 10, 24), dt.date(2026, 10, 24), settings)
        assert spring.ended_ms - spring.started_ms == 23 * 3_600_000
        assert autumn.ended_ms - autumn.started_ms == 25 * 3_600_000

    def test_at_two_in_the_morning_the_broadcast_day_is_still_that_of_the_day_before(self):
        settings = conf.get()
        assert query.broadcast_day(local(2026, 11, 22, 3, 59), settings) == dt.date(2026, 11, 21)
        assert query.broadcast_day(local(2026, 11, 22, 4, 0), settings) == dt.date(2026, 11, 22)

    def test_weeks_end_with_the_day_that_runs_now_and_the_period_before_is_as_long(self):
        period = weeks(4).period
        assert (period.first, period.last, period.days) == (dt.date(2026, 10, 26), dt.date(2026, 11, 22), 28)
        assert (period.before().first, period.before().last) == (dt.date(2026, 9, 28), dt.date(2026, 10, 25))

    @pytest.mark.parametrize(
        ("given", "first", "problem"),
        [
            ({}, dt.date(2026, 8, 24), ""),
            ({"weeks": "4"}, dt.date(2026, 10, 26), ""),
            ({"weeks": "0"}, dt.date(2026, 8, 24), "no number of weeks"),
            ({"weeks": "²"}, dt.date(2026, 8, 24), "no number of weeks"),
            ({"from": "2026-01-01", "to": "2026-01-31"}, dt.date(2026, 1, 1), ""),
            ({"from": "31/01/2026"}, dt.date(2026, 8, 24), "could not be read"),
            ({"from": "2026-02-01", "to": "2026-01-01"}, dt.date(2026, 8, 24), "ends before it begins"),
            ({"from": "0001-01-01", "to": "2026-01-01"}, dt.date(2026, 8, 24), "up to five years"),
            ({"rules": "triton5"}, dt.date(2026, 8, 24), "no rule-set"),
        ],
    )
    def test_what_cannot_be_understood_becomes_the_default_and_a_sentence(self, given, first, problem):
        asked = asking.read(given, conf.get(), now=NOW)
        assert asked.period.first == first
        assert problem in asked.problem
        assert bool(problem) == bool(asked.problem)

    def test_an_address_asks_the_same_again(self):
        for given in ({"weeks": "4"}, {"from": "2026-01-01", "to": "2026-01-31", "rules": "all"}, {}):
            asked = asking.read(given, conf.get(), now=NOW)
            assert asked.address() == (
                "?" + "&".join(f"{key}={value}" for key, value in given.items()) if given else ""
            )


class TestPrograms:
    def test_averages_are_weighted_by_time(self, station):
        started = NOW - WEEK
        for minutes, heads in ((50, 100), (5, 10), (5, 10)):
            station.diffusion(5, started, minutes)
            for _ in range(heads):
                station.session(started, started + minutes * MINUTE)
            started += minutes * MINUTE
        station.observed(NOW - 2 * WEEK, NOW)
        station.compute(NOW - 2 * WEEK, NOW)
        (line,) = program_list(weeks(4), now=NOW).lines
        assert line.average == pytest.approx(85.0)
        assert line.peak == 100
        assert [spark.average for spark in line.latest] == [100, 10, 10]

    def test_change_compares_with_the_period_before(self, station):
        stations.weekly(station, 5, 8)  # 2 to 4 listeners in the last 28 days, 5 to 8 in those before
        (line,) = program_list(weeks(4), now=NOW).lines
        assert (line.diffusions, line.average, line.average_before) == (3, 3.0, 6.5)
        assert line.change == pytest.approx(3.0 / 6.5 - 1)

    def test_a_diffusion_that_nobody_observed_is_unknown_and_not_an_empty_one(self, station):
        stations.weekly(station, 5, 1)
        lost = station.diffusion(5, NOW - 3 * WEEK)
        station.compute(lost.started, lost.ended)
        (line,) = program_list(weeks(4), now=NOW).lines
        assert (line.diffusions, line.average, line.coverage) == (2, 2.0, 0.5)
        assert [spark.average for spark in line.latest] == [None, 2.0]

    def test_a_diffusion_belongs_to_the_period_in_which_it_started(self, station):
        edge = weeks(4).period.started
        station.diffusion(5, edge - 30 * MINUTE, 60)
        station.diffusion(6, edge, 60)
        station.diffusion(7, NOW + HOUR, 60)  # planned
        assert [line.program_id for line in program_list(weeks(4), now=NOW).lines] == [6]

    def test_titles_are_those_of_the_time_and_programs_without_a_diffusion_come_last(self, station):
        stations.weekly(station, 5, 1, program="Once named so")
        found = program_list(weeks(4), now=NOW, titles={5: "Named so now", 9: "B", 8: "A"})
        assert [line.title for line in found.lines] == ["Once named so", "A", "B"]
        assert [line.title for line in program_list(weeks(4), now=NOW, titles={9: "B"}, only={9}).lines] == ["B"]

    def test_one_station_s_programs_are_not_the_other_s(self, station):
        other = stations.PastStation(id=2, stream_slugs=("two",))
        stations.weekly(station, 5, 1)
        stations.weekly(other, 6, 1)
        settings = conf.get()
        asked = ReportQuery(period=weeks(4).period, rules=settings.rules(), station_id=2)
        assert [line.program_id for line in program_list(asked, now=NOW).lines] == [6]

    def test_of_a_diffusion_on_air_only_what_has_been_counts(self, station):
        started = NOW - 20 * MINUTE
        station.diffusion(5, started, 60, is_running=True, end_basis="scheduled")
        station.session(started, NOW, is_open=True)
        station.observed(started, NOW)
        station.compute(started, NOW)
        (line,) = program_list(weeks(4), now=NOW).lines
        assert (line.average, line.coverage, line.provisional) == (1.0, 1.0, 1)


class TestProgram:
    def test_pages_are_stable_and_hold_everything_once(self, station):
        same = NOW - WEEK
        for _ in range(PAGE_DIFFUSIONS + 5):
            station.diffusion(5, same)
        first = program_audience(5, weeks(52), now=NOW)
        second = program_audience(5, weeks(52), now=NOW, page=2)
        seen = [line.airing_id for line in (*first.lines, *second.lines)]
        assert (first.pages, len(first.lines), len(second.lines)) == (2, PAGE_DIFFUSIONS, 5)
        assert len(set(seen)) == PAGE_DIFFUSIONS + 5
        assert program_audience(5, weeks(52), now=NOW, page=99) == second

    def test_totals_are_of_the_whole_period_and_know_no_sum_of_listeners(self, station):
        stations.weekly(station, 5, 56)
        report = program_audience(5, weeks(104), now=NOW)
        assert (report.totals.diffusions, report.totals.computed, len(report.lines)) == (56, 56, 52)
        assert report.totals.average == pytest.approx(sum(range(2, 58)) / 56)
        assert not hasattr(report.totals, "listeners")

    def test_what_is_not_computed_yet_is_listed_without_figures(self, station):
        station.diffusion(5, NOW - HOUR)
        (line,) = program_audience(5, weeks(4), now=NOW).lines
        assert line.figures is None

    def test_another_rule_set_has_figures_of_its_own(self, station):
        started = NOW - WEEK
        station.diffusion(5, started, 60)
        station.session(started, started + 45 * dt.timedelta(seconds=1))
        station.observed(started, NOW)
        station.compute(started, NOW, rule_sets=["triton", "all"])
        settings = conf.get()
        found = {
            name: program_audience(5, ReportQuery(period=weeks(4).period, rules=settings.rules(name)), now=NOW)
            for name in ("triton", "all")
        }
        assert [found[name].lines[0].figures.sessions for name in ("triton", "all")] == [0, 1]

    @pytest.mark.parametrize("kind", ["staff", "producer"])
    def test_52_diffusions_take_at_most_12_queries(
        self, client, station, admin_user, django_user_model, django_assert_max_num_queries, kind
    ):
        from django.contrib.auth.models import Group

        from aircox_listen_stats.models import ProgramAccess

        stations.weekly(station, 5, 52)
        Airing.objects.update(episode_id=F("id"))  # each its own, as aircox has it
        user = admin_user
        if kind == "producer":
            user = django_user_model.objects.create_user("ada")
            user.groups.add(Group.objects.create(name="g"))
            ProgramAccess.objects.create(user=user, program_id=5)
        client.force_login(user)
        with django_assert_max_num_queries(MOST_QUERIES):
            page = client.get(reverse("listen_stats:program", args=[5]), {"weeks": "53"}).content.decode()
        assert page.count('<tr id="d') == 52


class TestDiffusion:
    @pytest.fixture
    def evening(self, station):
        """An hour: 2 there before, 3 come, one of the 2 and one of the 3 leave."""
        started = local(2026, 11, 12, 20)
        airing = station.diffusion(5, started, 60, program="Jazz")
        station.session(started - 10 * MINUTE, started + 70 * MINUTE)
        station.session(started - 10 * MINUTE, started + 30 * MINUTE)
        station.session(started + 10 * MINUTE, started + 70 * MINUTE)
        station.session(started + 20 * MINUTE, started + 60 * MINUTE)
        station.session(started + 20 * MINUTE, started + 61 * MINUTE)
        station.session(started + 20 * MINUTE, started + 59 * MINUTE, exclusion="bot")
        station.session(started + 20 * MINUTE, started + 20.5 * MINUTE)  # too short to count
        station.observed(started - HOUR, NOW)
        station.compute(started - HOUR, NOW)
        return airing

    def test_the_flow_adds_up_and_so_do_its_minutes(self, evening):
        report = report_of(evening)
        figures = report.figures
        assert (figures.inherited, figures.joined, figures.left, figures.kept) == (2, 3, 2, 3)
        assert figures.met == 5
        assert sum(report.flow.joined) == 3
        assert sum(report.flow.left) == 2
        assert [minute for minute, count in enumerate(report.flow.joined) if count] == [10, 20]
        assert [minute for minute, count in enumerate(report.flow.left) if count] == [30, 59]

    def test_the_curve_is_the_average_and_retention_starts_with_all(self, evening):
        report = report_of(evening)
        assert len(report.curve) == 60
        assert sum(report.curve) / 60 == pytest.approx(report.figures.average)
        assert (report.curve[0], report.curve[15], report.curve[45]) == (2, 3, 4)
        assert (report.retention[0], report.retention[29], report.retention[30]) == (1.0, 1.0, 0.5)

    def test_once_the_sessions_are_gone_the_figures_stand_without_minutes_of_flow(self, evening):
        before = report_of(evening)
        Session.objects.filter(exclusion="").first().delete()
        after = report_of(evening)
        assert after.flow is None
        assert after.figures == before.figures

    def test_minutes_of_flow_follow_the_delay_of_the_stream(self, station):
        stream = station.streams[0]
        stream.delay_ms = 120_000
        stream.save()
        started = NOW - WEEK
        airing = station.diffusion(5, started, 30)
        station.session(started + 7 * MINUTE, started + 20 * MINUTE)
        station.observed(started - HOUR, NOW)
        station.compute(started, NOW)
        flow = report_of(airing).flow
        assert (flow.joined.index(1), flow.left.index(1)) == (5, 18)

    def test_a_silent_part_in_a_session_is_no_listening(self, station):
        started = NOW - WEEK
        airing = station.diffusion(5, started, 2)
        session = station.session(started - 10 * MINUTE, started + 10 * MINUTE)
        session.parts = [[0, 600_000], [720_000, 1_200_000]]
        session.played_ms = 1_080_000
        session.save()
        station.observed(started - HOUR, NOW)
        station.compute(started, NOW)
        report = report_of(airing)
        assert (report.figures.met, sum(report.flow.joined), sum(report.flow.left)) == (0, 0, 0)

    def test_a_gap_is_unknown_and_never_zero(self, station):
        started = NOW - WEEK
        airing = station.diffusion(5, started, 60)
        station.session(started, started + 60 * MINUTE)
        station.observed(started - HOUR, started + 20 * MINUTE)
        station.observed(started + 40 * MINUTE, NOW)
        station.compute(started, NOW)
        report = report_of(airing)
        assert report.curve[19:21] == (1.0, None)
        assert report.curve[39:41] == (None, 1.0)
        assert [(gap.started, gap.ended, gap.is_total) for gap in report.gaps] == [
            (started + 20 * MINUTE, started + 40 * MINUTE, True)
        ]
        assert report.figures.coverage == pytest.approx(2 / 3, abs=1e-3)
        assert report.figures.is_lower_bound

    def test_a_stream_that_failed_among_others_makes_a_gap_that_is_not_total(self, station):
        two = stations.PastStation(id=3, stream_slugs=("high", "low"))
        started = NOW - WEEK
        airing = two.diffusion(5, started, 60)
        two.observed(started, NOW)
        two.observed(started, started + 30 * MINUTE, stream=1)
        two.session(started, started + 60 * MINUTE)
        two.compute(started, NOW)
        report = report_of(airing)
        assert [(gap.started, gap.is_total) for gap in report.gaps] == [(started + 30 * MINUTE, False)]
        assert None not in report.curve

    def test_a_stream_that_was_switched_off_long_ago_is_not_missed(self, station):
        stream = station.streams[0]
        airing = station.diffusion(5, NOW - WEEK, 60)
        stream.active = False
        stream.save()
        other = stations.PastStation(stream_slugs=("new",))
        other.observed(NOW - 2 * WEEK, NOW)
        station.compute(airing.started, NOW)
        assert report_of(airing).gaps == ()

    def test_a_new_version_says_what_it_replaced(self, station, staff):
        (airing,) = stations.weekly(station, 5, 1)
        assert report_of(airing).revisions == ()
        station.session(airing.started, airing.ended)
        station.compute(airing.started, airing.ended)
        report = report_of(airing)
        assert (report.figures.version, report.figures.sessions) == (2, 3)
        (revision,) = report.revisions
        sessions = next(one for one in revision.figures if one.name == "sessions")
        assert (revision.version, sessions.before, sessions.after, revision.minutes) == (2, 2, 3, len(report.curve))
        page = staff.get(address(airing)).content.decode()
        assert "What changed after it was settled" in page
        assert "Because the settings or the way of counting changed; by the collector." in page
        table = staff.get(address(airing), {"format": "csv", "table": "revisions"}).getvalue().decode()
        row = next(row for row in csv.DictReader(io.StringIO(table)) if row["figure"] == "sessions")
        assert (row["version"], row["why"], row["who"]) == ("2", "anew", "collector")
        assert (row["before"], row["after"]) == ("2", "3")
        told = staff.get(address(airing), {"format": "json"}).json()["revisions"][0]
        assert told["causes"] == [{"why": "anew", "who": "collector"}]
        assert {"name": "sessions", "before": 2, "after": 3} in told["figures"]
        french = staff.get(address(airing), headers={"accept-language": "fr"}).content.decode()
        assert "les réglages ou la manière de compter ont changé" in french

    def test_what_is_too_few_to_show_is_hidden_in_what_a_version_replaced_too(self, station, staff, settings):
        settings.AIRCOX_LISTEN_STATS = {**settings.AIRCOX_LISTEN_STATS, "MINIMUM_CELL": 3}
        (airing,) = stations.weekly(station, 5, 1)
        station.session(airing.started, airing.ended)
        station.compute(airing.started, airing.ended)
        told = staff.get(address(airing), {"format": "json"}).json()["revisions"][0]
        assert {"name": "sessions", "before": None, "after": 3} in told["figures"]
        assert "peak_at" not in {one["name"] for one in told["figures"]}

    def test_the_page_names_the_times_of_the_station_and_their_basis(self, station, staff):
        airing = station.diffusion(5, local(2026, 10, 25, 2, 30), 60, start_basis="scheduled", end_basis="inferred")
        station.compute(airing.started, airing.ended)
        page = staff.get(address(airing)).content.decode()
        assert "Sunday 25 October 2026, 02:30" in page
        assert "Start as planned, end worked out; times in Europe/Brussels." in page

    def test_a_diffusion_of_aircox_leads_to_its_newest_airing(self, station, staff):
        old = station.diffusion(5, NOW - 2 * WEEK)
        new = station.diffusion(5, NOW - WEEK)
        Airing.objects.filter(pk__in=[old.pk, new.pk]).update(diffusion_id=77)
        response = staff.get(reverse("listen_stats:diffusion_of", args=[77]))
        assert response.url == address(new)
        assert staff.get(reverse("listen_stats:diffusion_of", args=[78])).status_code == 404


class TestStatus:
    def test_before_anything_ran_every_part_says_what_to_do(self, staff):
        page = staff.get(reverse("listen_stats:status")).content.decode()
        assert "No collector has run yet" in page
        assert "No source is configured" in page
        assert "No stream is known yet" in page
        assert status(conf.get(), now=NOW).health == Health.OFF

    @override_settings(
        AIRCOX_LISTEN_STATS={"SOURCES": {"ice": {"backend": "icecast"}, "log": {"backend": "accesslog"}}}
    )
    def test_sources_that_fail_are_late_or_were_never_heard_are_told_apart(self):
        SourceState.objects.create(source="ice", succeeded=NOW - 10 * MINUTE, failed=NOW, failures=3, error="refused")
        SourceState.objects.create(source="gone", succeeded=NOW)
        found = {line.name: line.health for line in status(conf.get(), now=NOW).sources}
        assert found == {"ice": Health.FAILING, "log": Health.OFF, "gone": Health.OFF}
        SourceState.objects.filter(source="ice").update(failures=0)
        assert status(conf.get(), now=NOW).sources[1].health == Health.WARNING
        SourceState.objects.filter(source="ice").update(succeeded=NOW)
        assert status(conf.get(), now=NOW).sources[1].health == Health.WELL

    def test_coverage_is_that_of_the_last_24_hours(self, station):
        station.observed(NOW - 48 * HOUR, NOW - 12 * HOUR)
        station.observed(NOW - 6 * HOUR, NOW)
        (line,) = status(conf.get(), now=NOW).streams
        assert (line.coverage, line.health) == (0.75, Health.WARNING)
        marks = drawing.strip(line.spans, NOW - 24 * HOUR, NOW)
        assert [(mark.left, mark.width) for mark in marks] == [("0%", "50%"), ("75%", "25%")]

    def test_an_expired_lease_and_a_silent_monitor_are_failures(self, staff):
        Lease.objects.create(name="collector", holder="studio", heartbeat=NOW - HOUR, expires=NOW - HOUR)
        MonitorWatch.objects.create(station_id=1, started=NOW - 3 * HOUR, seen=NOW - HOUR)
        report = status(conf.get(), now=NOW)
        assert (report.collectors[0].health, report.monitors[0].health) == (Health.FAILING, Health.FAILING)
        page = staff.get(reverse("listen_stats:status")).content.decode()
        assert "has been silent" in page


class TestPages:
    @pytest.fixture
    def pages(self, station, staff) -> dict[str, str]:
        airing = stations.weekly(station, 5, 5, program="<b>Jazz</b> [[ x ]]")[0]
        station.track("<script>alert(1)</script>", airing.started, 30)
        station.compute(airing.started, airing.ended)
        SourceState.objects.create(source="ice", error="<i>refused</i>", failures=1)
        addresses = [reverse("listen_stats:programs"), reverse("listen_stats:program", args=[5]), address(airing)]
        return {one: staff.get(one).content.decode() for one in [*addresses, reverse("listen_stats:status")]}

    def test_a_strict_content_security_policy_would_let_everything_pass(self, pages):
        for page in pages.values():
            assert not re.search(r"\son[a-z]+\s*=", page)
            assert not re.search(r"<[^>]*\sstyle\s*=", page)
            assert "javascript:" not in page
            assert all(re.search(r"\ssrc=", tag) for tag in re.findall(r"<script[^>]*>", page))
            assert "<style" not in page

    def test_titles_are_text_wherever_they_come_from(self, pages):
        for page in pages.values():
            assert "<b>Jazz" not in page
            assert "<script>alert" not in page
            assert "<i>refused" not in page

    def test_every_chart_has_its_table(self, pages):
        for page in pages.values():
            assert page.count('class="ls-chart') <= page.count("<table")

    def test_every_page_with_figures_states_its_terms(self, pages):
        for path, page in pages.items():
            if path == reverse("listen_stats:status"):
                continue
            assert "<b>triton</b>" in page
            assert "Europe/Brussels" in page
            assert "What these numbers mean" in page

    def test_a_period_without_a_diffusion_says_what_to_do(self, staff, station):
        stations.weekly(station, 5, 1)
        asked = {"from": "2025-01-01", "to": "2025-01-31"}
        assert "Choose more weeks above" in staff.get(reverse("listen_stats:programs"), asked).content.decode()
        program = reverse("listen_stats:program", args=[5])
        assert "Choose more weeks above" in staff.get(program, asked).content.decode()

    def test_a_program_that_nobody_knows_is_not_found(self, staff):
        assert staff.get(reverse("listen_stats:program", args=[404])).status_code == 404

    def test_it_is_shown_in_the_station_s_own_page_when_asked(self, staff, station):
        stations.weekly(station, 5, 1, program="Jazz")
        with override_settings(AIRCOX_LISTEN_STATS={"BASE_TEMPLATE": "aircox/base.html"}):
            page = staff.get(reverse("listen_stats:program", args=[5])).content.decode()
        assert 'id="player"' in page
        assert "pages.css" in page
        assert 'class="ls" v-pre' in page

    def test_numbers_and_dates_follow_the_language_and_drawings_do_not(self, staff, station):
        stations.weekly(station, 5, 4)
        page = staff.get(reverse("listen_stats:program", args=[5]), headers={"accept-language": "fr"}).content.decode()
        assert "3,5" in page  # (2 + 3 + 4 + 5) / 4
        assert "novembre" in page
        assert not re.search(r'(?:x|y|width|height|x1|y1)="\d+,\d', page)


class TestDrawing:
    @pytest.mark.parametrize(
        ("highest", "values"),
        [
            (0, [0, 1]),
            (1, [0, 1]),
            (3, [0, 1, 2, 3]),
            (4.2, [0, 2, 4, 6]),
            (62, [0, 20, 40, 60, 80]),
            (100, [0, 50, 100]),
        ],
    )
    def test_scales_are_whole_and_round_and_hold_the_highest(self, highest, values):
        top, ticks = drawing.scale(highest)
        assert [tick.value for tick in ticks] == values
        assert top >= highest

    def test_the_curve_is_broken_where_nothing_is_known(self, station):
        started = NOW - WEEK
        airing = station.diffusion(5, started, 60)
        station.session(started, started + 60 * MINUTE)
        station.observed(started, started + 20 * MINUTE)
        station.observed(started + 40 * MINUTE, NOW)
        station.compute(started, NOW)
        chart = drawing.curve(report_of(airing))
        assert chart.line.count("M") == 2
        assert [(one.left, one.width) for one in chart.gaps] == [("33.333%", "33.333%")]

    def test_a_single_diffusion_is_a_bar_in_the_middle_and_no_wall(self, station):
        started = NOW - WEEK
        station.diffusion(5, started, 60)
        station.session(started, started + 60 * MINUTE)
        station.observed(started, NOW)
        station.compute(started, NOW)
        (bar,) = drawing.bars(program_audience(5, weeks(4), now=NOW).lines, stations.ZONE).bars
        assert (bar.left, bar.width, bar.place_width) == ("46%", "8%", "100%")


@pytest.mark.parametrize(
    ("passed", "said"),
    [
        (dt.timedelta(seconds=12.9), "12 s"),
        (dt.timedelta(seconds=-1), "0 s"),
        (dt.timedelta(seconds=59), "59 s"),
        (dt.timedelta(seconds=60), "1\xa0minute"),
        (dt.timedelta(hours=2), "2\xa0hours"),
    ],
)
def test_what_is_not_a_minute_ago_is_said_in_seconds(passed, said):
    with translation.override("en"):
        assert listen_stats_pages.ago(NOW - passed, NOW) == said


def address(airing: Airing) -> str:
    return reverse("listen_stats:diffusion", args=[airing.pk])


def test_the_station_of_the_tests_is_computed_by_the_pipeline_itself(station):
    airing = stations.weekly(station, 5, 1)[0]
    row = Audience.objects.get(airing=airing)
    assert (row.listening_ms, row.sessions, row.settled) == (2 * 3_600_000, 2, True)
    assert to_ms(airing.ended) - to_ms(airing.started) == 3_600_000
