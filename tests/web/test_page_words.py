"""What the pages say to somebody who reads such figures for the first time.

What is unknown is no zero, what is a lower bound is marked, every mark is
explained beside it in words that need no mouse, and nothing says "ended" of
what is still on air.
"""

from __future__ import annotations

import datetime as dt
import re
from html.parser import HTMLParser

import pytest
from django.test import override_settings
from django.urls import reverse

from aircox_listen_stats import conf
from aircox_listen_stats.models import Airing
from aircox_listen_stats.reports import diffusion as diffusions
from aircox_listen_stats.reports import query
from aircox_listen_stats.reports.program import program_audience
from aircox_listen_stats.reports.programs import program_list
from aircox_listen_stats.reports.query import ReportQuery
from aircox_listen_stats.web import drawing
from tests.web import stations
from tests.web.stations import HOUR, MINUTE, NOW, WEEK, local

pytestmark = pytest.mark.django_db

COUNTED = ("peak", "listeners", "sessions", "at_start", "at_end", "inherited", "joined", "left", "kept", "stayed")


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


class Words(HTMLParser):
    """The text of a page as a reader meets it: no markup, no titles that only a mouse finds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    def __str__(self) -> str:
        return re.sub(r"[ \n]+", " ", " ".join(self.pieces))


def page_of(client, name: str, *args: object, language: str = "en", **asked: str) -> str:
    response = client.get(reverse(f"listen_stats:{name}", args=args), asked, headers={"accept-language": language})
    assert response.status_code == 200
    return response.content.decode()


def words_of(client, name: str, *args: object, language: str = "en", **asked: str) -> str:
    return str(Words(page_of(client, name, *args, language=language, **asked)))


def weeks(number: int) -> ReportQuery:
    settings = conf.get()
    return ReportQuery(period=query.last_weeks(number, settings, now=NOW), rules=settings.rules())


@pytest.fixture
def unheard(station) -> Airing:
    """A diffusion of which nothing was observed."""
    airing = station.diffusion(5, NOW - WEEK, 60)
    station.compute(airing.started, airing.ended)
    return airing


@pytest.fixture
def partly(station) -> Airing:
    """A diffusion of which a quarter was not observed; it began as planned, and one listened throughout."""
    airing = station.diffusion(6, NOW - WEEK, 60, start_basis="scheduled")
    station.session(airing.started, airing.ended)
    station.observed(airing.started - HOUR, airing.started + 30 * MINUTE)
    station.observed(airing.started + 45 * MINUTE, NOW)
    station.compute(airing.started, airing.ended)
    return airing


@pytest.fixture
def running(station) -> Airing:
    """On air since 20 minutes: one came and stayed, one came and left."""
    airing = station.diffusion(7, NOW - 20 * MINUTE, 60, is_running=True, end_basis="scheduled")
    station.session(airing.started + MINUTE, NOW, is_open=True)
    station.session(airing.started + MINUTE, airing.started + 5 * MINUTE)
    station.observed(airing.started, NOW)
    station.compute(airing.started, NOW)
    return airing


class TestUnknown:
    def test_nothing_observed_gives_no_count_at_all(self, unheard):
        settings = conf.get()
        figures = diffusions.diffusion_audience(unheard, settings.rules(), settings, now=NOW).figures
        assert [getattr(figures, name) for name in COUNTED] == [None] * len(COUNTED)
        assert (figures.average, figures.listening_hours, figures.coverage) == (None, None, 0)

    def test_nor_do_the_totals_of_nothing_observed(self, unheard):
        totals = program_audience(5, weeks(4), now=NOW).totals
        assert (totals.diffusions, totals.average, totals.peak, totals.listening_hours) == (1, None, None, None)
        (line,) = program_list(weeks(4), now=NOW).lines
        assert (line.average, line.peak, line.listening_hours) == (None, None, None)

    def test_its_pages_show_no_zero(self, staff, unheard):
        page = words_of(staff, "diffusion", unheard.pk)
        assert "Nobody knows how many listened" in page
        assert "Where the audience came from" not in page
        row = re.search(r'<tr id="d.*?</tr>', page_of(staff, "program", 5), re.S)
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row[0], re.S)
        assert [str(Words(cell)).strip() for cell in cells[:6]] == ["–"] * 6
        assert "– unknown" in words_of(staff, "program", 5)

    def test_counting_with_nobody_there_is_a_zero(self, staff, station):
        airing = station.diffusion(5, NOW - WEEK, 60)
        station.observed(airing.started - HOUR, NOW)
        station.compute(airing.started, airing.ended)
        assert "Nobody listened while the streams were observed." in words_of(staff, "diffusion", airing.pk)
        assert program_audience(5, weeks(4), now=NOW).totals.peak == 0


class TestMinutes:
    def test_nobody_is_known_to_have_come_or_gone_in_a_minute_that_was_not_observed(self, staff, partly):
        settings = conf.get()
        report = diffusions.diffusion_audience(partly, settings.rules(), settings, now=NOW)
        assert (report.flow.joined[29], report.flow.joined[30:45], report.flow.joined[45]) == (0, (None,) * 15, 0)
        assert (report.flow.left[29], report.flow.left[30:45], report.flow.left[45]) == (0, (None,) * 15, 0)
        page = page_of(staff, "diffusion", partly.pk)
        minutes = re.findall(r'<th scope="row">\d\d:\d\d</th>.*?</tr>', page, re.S)
        assert [str(Words(one)).split() for one in minutes][30][1:5] == ["not", "observed", "–", "–"]
        lines = staff.get(reverse("listen_stats:diffusion", args=[partly.pk]), {"format": "csv", "table": "minutes"})
        cells = [line.split(",") for line in lines.getvalue().decode().splitlines()]
        joined, left = cells[0].index("tuned_in"), cells[0].index("tuned_out")
        assert (cells[31][joined], cells[31][left]) == ("", "")
        assert (cells[1][joined], cells[1][left]) == ("1", "0")


class TestOnAir:
    def test_who_is_there_is_still_listening_and_did_not_listen_on(self, staff, running):
        page = words_of(staff, "diffusion", running.pk)
        flow = page[page.index("Sessions met") : page.index("What these numbers mean")]
        assert "Still listening 1" in flow
        assert "Listened on" not in flow
        assert "at the last look 1; 0 have been there all along" in flow
        assert "So far" in page
        assert "stayed throughout" not in flow

    def test_afterwards_they_listened_on(self, staff, station):
        airing = station.diffusion(5, NOW - WEEK, 60)
        station.session(airing.started + MINUTE, airing.ended + HOUR)
        station.observed(airing.started, NOW)
        station.compute(airing.started, airing.ended)
        page = words_of(staff, "diffusion", airing.pk)
        assert "Listened on 1" in page
        assert "Still listening" not in page

    def test_the_first_thing_said_is_who_listened_and_one_note_says_how_sure_that_is(self, staff, station):
        airing = station.diffusion(7, NOW - 20 * MINUTE, 60, is_running=True)
        station.session(airing.started + MINUTE, NOW, is_open=True)
        station.observed(airing.started + 5 * MINUTE, NOW)
        station.compute(airing.started, NOW)
        page = page_of(staff, "diffusion", airing.pk)
        (note,) = re.findall(r'<p class="ls-note.*?</p>', page, re.S)
        assert page.index("ls-summary") < page.index(note)
        assert "on air now" in note
        assert "of its time was observed" in note

    def test_what_is_still_to_come_is_marked_and_is_no_empty_audience(self, staff, running):
        assert "still to come" in words_of(staff, "diffusion", running.pk)
        settings = conf.get()
        report = diffusions.diffusion_audience(running, settings.rules(), settings, now=NOW)
        assert report.to_come_from == NOW
        assert drawing.curve(report).to_come == drawing.Stretch(left="33.333%", width="66.667%")

    def test_nothing_of_what_has_been_is_to_come(self, partly):
        settings = conf.get()
        report = diffusions.diffusion_audience(partly, settings.rules(), settings, now=NOW)
        assert report.to_come_from is None
        assert drawing.curve(report).to_come is None


class TestMarks:
    def test_every_mark_in_a_table_is_explained_under_it(self, staff, partly, unheard, running):
        table, legend = {}, {}
        for name, args in (("programs", ()), ("program", (5,)), ("program", (6,)), ("program", (7,))):
            page = page_of(staff, name, *args)
            start, end = page.index("<tbody>"), page.index("</tbody>")
            table = str(Words(page[start:end]))
            legend = str(Words(page[end : page.index("Take along")]))
            for mark in ("≥", "~", "–"):
                assert (mark in table) == (f"{mark} " in legend), (name, args, mark)
            assert ("provisional" in table) == ("may still change" in legend), (name, args)

    def test_no_mark_is_explained_by_hovering_alone(self, staff, partly, running):
        for name, args in (("programs", ()), ("program", (6,)), ("diffusion", (partly.pk,))):
            page = page_of(staff, name, *args)
            assert "<abbr" not in page
            # A dash says "unknown" to a mouse, and so does the line under the table to everybody.
            assert set(re.findall(r' title="([^"]*)"', page)) <= {"unknown"}

    def test_every_figure_of_what_was_partly_observed_is_a_lower_bound(self, staff, partly):
        row = re.search(r'<tr id="d.*?</tr>', page_of(staff, "program", 6), re.S)
        cells = [str(Words(cell)).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row[0], re.S)]
        assert all(cell.startswith("≥") for cell in cells[:6]), cells
        assert "at least 1 at once" in words_of(staff, "diffusion", partly.pk)

    def test_the_names_of_figures_lead_to_their_definitions(self, staff, partly):
        for name, args in (("programs", ()), ("program", (6,)), ("diffusion", (partly.pk,))):
            page = page_of(staff, name, *args)
            links = set(re.findall(r'href="#([^"]+)"', page))
            assert links
            assert links <= set(re.findall(r'id="([^"]+)"', page))


class TestFirstSteps:
    def test_on_its_first_day_a_station_is_told_when_figures_appear(self, staff, station):
        page = words_of(staff, "programs")
        assert "No figures yet" in page
        assert "a minute after the first diffusion has begun" in page
        assert "No program was on air" not in page

    def test_later_an_empty_period_is_no_first_day(self, staff, unheard):
        page = words_of(staff, "programs", **{"from": "2025-01-01", "to": "2025-01-31"})
        assert "No figures yet" not in page
        assert "No program was on air in this period" in page

    def test_a_program_without_any_diffusion_is_told_apart_from_an_empty_period(self, staff, partly):
        from aircox.models import Program, Station

        station, _ = Station.objects.get_or_create(slug="first", defaults={"name": "First"})
        new = Program.objects.create(title="Brand new", slug="new", station=station, status=Program.STATUS_PUBLISHED)
        assert "Not on air yet" in words_of(staff, "program", new.pk)
        asked = {"from": "2025-01-01", "to": "2025-01-31"}
        assert "No diffusion in this period" in words_of(staff, "program", 6, **asked)

    def test_what_is_not_there_is_said_in_the_station_s_own_page(self, staff, station):
        for name, number in (("program", 404), ("program", 10**17), ("diffusion", 404), ("diffusion_of", 404)):
            response = staff.get(reverse(f"listen_stats:{name}", args=[number]))
            assert response.status_code == 404
            assert "All programs" in response.content.decode()
            assert str(number) in response.content.decode()

    def test_the_status_page_does_not_send_anybody_to_ask_for_a_program(self, client, django_user_model):
        client.force_login(django_user_model.objects.create_user("ada"))
        status = client.get(reverse("listen_stats:status"))
        assert status.status_code == 403
        assert "technicians" in status.content.decode()
        assert "Program accesses" not in status.content.decode()
        assert "Program accesses" in client.get(reverse("listen_stats:programs")).content.decode()


class TestLanguages:
    def test_french_numbers_have_narrow_spaces_and_french_months_no_capitals(self, staff, station):
        airing = station.diffusion(5, local(2026, 8, 30, 20), 60)
        station.observed(airing.started - HOUR, NOW)
        station.compute(airing.started, airing.ended)
        airing.audiences.update(peak=12_345, sessions=12_345, listening_ms=12_345 * 3_600_000)
        page = words_of(staff, "program", 5, language="fr")
        assert "12\N{NARROW NO-BREAK SPACE}345" in page
        assert "30 août 2026" in page
        assert "12,345" in words_of(staff, "program", 5)
        assert "30 Aug 2026" in words_of(staff, "program", 5)

    def test_counts_in_sentences_have_them_too(self, staff, station):
        airing = station.diffusion(5, NOW - WEEK, 60)
        station.session(airing.started, airing.ended)
        station.observed(airing.started - HOUR, NOW)
        station.compute(airing.started, airing.ended)
        airing.audiences.update(joined=12_345, left=12_345)
        assert "12,345 tuned in" in words_of(staff, "diffusion", airing.pk)
        assert "12,345 tuned out" in words_of(staff, "diffusion", airing.pk)

    @pytest.mark.parametrize(("asked", "given"), [("en", "en"), ("fr", "fr"), ("de", "en")])
    def test_the_page_names_the_language_that_its_texts_are_in(self, staff, partly, asked, given):
        page = page_of(staff, "program", 6, language=asked)
        assert f'<html lang="{given}"' in page
        with override_settings(AIRCOX_LISTEN_STATS={"BASE_TEMPLATE": "aircox/base.html"}):
            assert f'<div class="ls" v-pre lang="{given}">' in page_of(staff, "program", 6, language=asked)

    def test_a_title_from_right_to_left_turns_nothing_around_it(self, staff, station):
        title = "برنامج (حيّ!)"
        airing = station.diffusion(5, NOW - WEEK, 60, program=title)
        station.observed(airing.started, NOW)
        station.compute(airing.started, airing.ended)
        for name, args in (("programs", ()), ("program", (5,)), ("diffusion", (airing.pk,))):
            assert f"<bdi>{title}</bdi>" in page_of(staff, name, *args)


class TestBars:
    def at(self, *days: tuple[int, int, int], **values: object) -> drawing.BarChart:
        lines = []
        for day in days:
            airing = self.station.diffusion(5, local(*day, 0, 30), 60, **values)
            lines.append(airing)
        found = program_audience(
            5,
            ReportQuery(
                period=query.days(dt.date(2024, 1, 1), dt.date(2026, 12, 31), conf.get()), rules=conf.get().rules()
            ),
            now=NOW,
        )
        return drawing.bars(found.lines, stations.ZONE)

    @pytest.fixture(autouse=True)
    def _station(self, station):
        self.station = station

    def test_a_month_stands_at_its_first_diffusion_by_the_clock_of_the_station(self):
        # 00:30 in Brussels on the first of a month is still the month before in UTC.
        chart = self.at((2026, 8, 20), (2026, 9, 1), (2026, 9, 8), (2026, 10, 1))
        assert [(f"{one.at:%m}", one.left) for one in chart.months] == [("09", "25%"), ("10", "75%")]

    def test_a_year_has_every_month_named_and_a_phone_every_second(self):
        chart = self.at(*((2026, month, 5) for month in range(1, 12)))
        assert len(chart.months) == 10
        assert [one.is_second for one in chart.months] == [True, False] * 5

    def test_many_months_are_named_in_steps_and_january_by_its_year(self):
        chart = self.at(*((year, month, 5) for year in (2024, 2025) for month in range(1, 13)))
        named = [one for one in chart.months if one.is_named]
        assert [one.at.month for one in named] == [3, 5, 7, 9, 11, 1, 3, 5, 7, 9, 11]
        assert [one.is_january for one in named] == [False] * 5 + [True] + [False] * 5

    def test_a_diffusion_alone_needs_no_month(self):
        assert self.at((2026, 8, 20)).months == ()

    def test_reruns_are_told_from_first_runs_in_bars_legend_and_words(self, staff):
        first = self.station.diffusion(5, NOW - 2 * WEEK, 60)
        rerun = self.station.diffusion(5, NOW - WEEK, 60, initial_id=first.diffusion_id)
        for airing in (first, rerun):
            self.station.session(airing.started, airing.ended)
        self.station.observed(first.started - HOUR, NOW)
        self.station.compute(first.started, NOW)
        page = page_of(staff, "program", 5)
        bars = re.findall(r'class="(ls-bar(?: [^"]+)?)"', page)
        assert bars == ["ls-bar", "ls-bar ls-rerun"]
        assert 'class="ls-key-rerun"' in page
        titles = re.findall(r"<title>([^<]*average[^<]*)</title>", page)
        assert ["rerun" in one for one in titles] == [False, True]

    def test_without_a_rerun_there_is_no_legend_of_them(self, staff):
        stations.weekly(self.station, 5, 3)
        assert "ls-key-rerun" not in page_of(staff, "program", 5)
