"""The pages in Chromium, on a desktop and on a phone, with and without scripts, and their screenshots."""

from __future__ import annotations

import csv
import io
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from aircox_listen_stats.models import Airing, Blur, Lease, MonitorWatch, Recording, RecordingPlay, SourceState
from aircox_listen_stats.pipeline import letters
from aircox_listen_stats.pipeline.letter_mail import stop_token
from tests.conftest import environment_of_children
from tests.parts import asgi, axe
from tests.web import stations

pytestmark = [pytest.mark.real, pytest.mark.browser_only]

SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
PAPER = {"width": 718, "height": 1047}
"""A4 at 96 dots an inch between Chromium's own margins."""

INK = "rgb(34, 38, 46)"
"""The text's colour on a light ground: paper is white on a dark desktop too."""

WEEKS = 14
HIGHEST_TRACK = 90  # px: three lines and their air


@pytest.fixture(scope="module")
def db(django_db_setup, django_db_blocker) -> Iterator[None]:
    """The test database for all of this file: its tests only read, and filling it takes seconds.

    It bears the name of pytest-django's own fixture, by which that knows that a database is wanted.
    """
    with django_db_blocker.unblock():
        yield
        in_thread(lambda: call_command("flush", interactive=False, verbosity=0) or "empty")


@pytest.fixture(scope="module")
def addresses(db) -> dict[str, str]:
    """The pages of a lively station, by name."""
    return in_thread(_fill)


@pytest.fixture(scope="module")
def site(addresses) -> Iterator[asgi.AsgiServer]:
    server = asgi.serve("tests.browser.pages_site:application", environment=environment_of_children())
    yield server
    server.stop()


@pytest.fixture
def opened(browser, site):
    """``opened("desktop", colour="dark")``: a page of a technician's browser; every complaint of it is kept."""
    contexts = []

    def open_page(
        size: str = "desktop", *, colour: str = "light", scripts: bool = True, language: str = "en-GB"
    ) -> Page:
        context = browser.new_context(
            viewport=SIZES[size],
            color_scheme=colour,
            java_script_enabled=scripts,
            has_touch=size == "phone",
            locale=language,
            base_url=site.url,
        )
        context.add_cookies([{"name": "sessionid", "value": in_thread(_session), "url": site.url}])
        contexts.append(context)
        page = context.new_page()
        page.noise = []
        page.on("console", lambda message: page.noise.append(message.text))
        page.on("pageerror", lambda error: page.noise.append(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("size", "colour", "language"),
    [
        ("desktop", "light", "en-GB"),
        ("phone", "dark", "en-GB"),
        ("desktop", "dark", "fr-FR"),
        ("phone", "light", "fr-FR"),
    ],
)
def test_every_page_fits_its_screen_and_keeps_nobody_out(opened, addresses, shots_folder, size, colour, language):
    """No complaint of the browser's, nothing beyond the edge, and every rule of axe-core kept."""
    page = opened(size, colour=colour, language=language)
    faults = {}
    for name, address in addresses.items():
        assert page.goto(address).status == (404 if name == "missing" else 200)
        if name.startswith("diffusion"):
            expect(page.locator(".ls-drawn canvas")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"], name
        page.screenshot(path=shots_folder / f"pages-{name}-{size}-{colour}-{language[:2]}.png", full_page=True)
        # What is folded away is read by somebody too.
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        faults[name] = axe.faults(page)
    assert {name: found for name, found in faults.items() if found} == {}
    # Chromium itself tells that an address was not found.
    assert [line for line in page.noise if "404" not in line] == []


def test_on_paper_tables_stay_tables_and_the_curve_is_drawn_anew(opened, addresses, shots_folder):
    """As wide as a sheet is between its margins, where a screen would have the layout of a phone."""
    page = opened(colour="dark")
    page.set_viewport_size(PAPER)
    page.emulate_media(media="print")
    page.goto(addresses["diffusion"])
    expect(page.locator(".ls-drawn")).to_be_hidden()
    expect(page.locator(".ls-plot-curve .ls-line")).to_be_visible()
    expect(page.get_by_role("navigation")).to_have_count(0)
    expect(page.get_by_text("divided by the time on air").last).to_be_visible()
    assert page.locator("body").evaluate("body => getComputedStyle(body).color") == INK
    page.screenshot(path=shots_folder / "pages-diffusion-print.png", full_page=True)
    page.goto(addresses["program"])
    rows = page.locator(".ls-diffusions tbody tr").evaluate_all(
        "rows => rows.map((row) => getComputedStyle(row).display)"
    )
    assert set(rows) == {"table-row"}
    assert page.locator(".ls-scroll").first.evaluate("box => box.scrollWidth - box.clientWidth") == 0
    page.screenshot(path=shots_folder / "pages-program-print.png", full_page=True)
    page.goto(addresses["report"])
    expect(page.locator(".ls-period thead")).to_be_visible()
    expect(page.locator(".ls-asking")).to_be_hidden()
    page.screenshot(path=shots_folder / "pages-report-print.png", full_page=True)


def test_the_keyboard_reaches_a_definition_from_the_name_of_a_figure(opened, addresses):
    page = opened()
    page.goto(addresses["program"])
    table = page.get_by_role("table", name="The diffusions, newest first")
    name = table.get_by_role("columnheader", name="Distinct listeners").get_by_role("link")
    sentence = page.get_by_text("Listeners of two diffusions cannot be added up")
    expect(sentence).to_be_hidden()
    name.focus()
    assert name.evaluate("link => getComputedStyle(link).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(sentence).to_be_visible()
    expect(sentence).to_be_in_viewport()


def test_a_browser_that_keeps_what_is_folded_shut_is_helped(opened, addresses):
    page = opened()
    page.goto(addresses["program"])
    fold = page.locator("listen-stats-definitions details")
    # Chromium opens it by itself where it goes to an address; not where it is only told of one.
    told = "history.replaceState(null, '', '#' + term.id); dispatchEvent(new HashChangeEvent('hashchange'))"
    fold.locator("dt").last.evaluate(f"term => {{ {told} }}")
    expect(fold).to_have_attribute("open", "")


def test_on_a_phone_the_names_of_columns_appear_when_the_keyboard_reaches_them(opened, addresses):
    page = opened("phone")
    page.goto(addresses["program"])
    head = page.locator(".ls-diffusions thead")
    assert head.evaluate("head => head.offsetHeight") == 1
    head.get_by_role("link").first.focus()
    assert head.evaluate("head => head.offsetHeight") > 1


def test_on_a_phone_both_sums_of_the_flow_stand_in_lines_of_their_own(opened, addresses):
    page = opened("phone")
    page.goto(addresses["diffusion"])
    tops = page.locator(".ls-flow dl > div").evaluate_all("boxes => boxes.map((box) => box.offsetTop)")
    inherited, joined, met, left, kept = tops
    assert inherited == joined < met < left == kept


def test_a_title_that_does_not_fit_under_the_curve_is_left_out_and_not_cut(opened, addresses):
    page = opened("phone")
    page.goto(addresses["diffusion"])
    cut = """bands => bands.filter((band) => {
        const text = band.querySelector("span");
        return getComputedStyle(text).visibility === "visible" && band.getBoundingClientRect().width < 44;
    }).length"""
    bands = page.locator(".ls-lane-tracks .ls-band")
    assert bands.evaluate_all(cut) == 0
    assert bands.count() > 5
    # The readout names what has no room.
    page.locator(".ls-drawn .u-over").tap(position={"x": 40, "y": 60})
    expect(page.locator(".ls-curve .ls-readout")).to_contain_text("—")


def test_reruns_have_another_colour_than_first_runs(opened, addresses):
    page = opened()
    page.goto(addresses["program"])
    colours = {
        kind: page.locator(f"rect.ls-bar{kind}").first.evaluate("bar => getComputedStyle(bar).fill")
        for kind in (".ls-rerun", ":not(.ls-rerun)")
    }
    assert len(set(colours.values())) == 2
    bar = page.locator("listen-stats-bars a:has(.ls-rerun)").last
    bar.focus()
    expect(page.locator(".ls-bars .ls-readout")).to_contain_text("rerun")


def test_pointing_at_the_curve_tells_the_minute_and_what_was_on_air(opened, addresses):
    page = opened()
    page.goto(addresses["diffusion"])
    over = page.locator(".ls-drawn .u-over")
    over.hover(position={"x": 5, "y": 40})
    readout = page.locator(".ls-curve .ls-readout")
    expect(readout).to_contain_text(re.compile(r"^20:00 · [\d.]+ listening · \+\d+ tuned in, −\d+ tuned out"))
    first = page.locator("tr.ls-track").first
    expect(first).to_have_class(re.compile("ls-pointed"))
    expect(readout).to_contain_text(first.locator("th").inner_text().split("\n")[0])
    page.mouse.move(5, 5)
    expect(readout).to_contain_text("Audience minute by minute.")


def test_a_minute_that_was_not_observed_says_so(opened, addresses):
    page = opened()
    page.goto(addresses["diffusion"])
    over = page.locator(".ls-drawn .u-over")
    over.hover(position={"x": over.bounding_box()["width"] * 0.45, "y": 40})
    expect(page.locator(".ls-curve .ls-readout")).to_contain_text(re.compile(r"^20:2\d · not observed"))


def test_the_curve_can_be_walked_by_keys_and_by_touch(opened, addresses):
    page = opened("phone")
    page.goto(addresses["diffusion"])
    readout = page.locator(".ls-curve .ls-readout")
    page.locator(".ls-drawn").focus()
    page.keyboard.press("ArrowRight")
    expect(readout).to_contain_text("20:00 ·")
    page.keyboard.press("ArrowRight")
    expect(readout).to_contain_text("20:01 ·")
    page.locator(".ls-drawn .u-over").tap(position={"x": 40, "y": 60})
    expect(readout).to_contain_text(re.compile(r"^20:0[5-9] · [\d.]+ listening"))


def test_on_a_phone_a_track_takes_few_lines(opened, addresses):
    page = opened("phone")
    page.goto(addresses["diffusion"])
    heights = page.locator("tr.ls-track").evaluate_all("rows => rows.map((row) => row.offsetHeight)")
    assert heights
    assert max(heights) <= HIGHEST_TRACK


def test_without_a_script_the_curve_is_a_drawing_and_a_table(opened, addresses, shots_folder):
    page = opened(scripts=False)
    page.goto(addresses["diffusion"])
    expect(page.locator(".ls-plot-curve .ls-line")).to_be_visible()
    page.get_by_text("Minute by minute", exact=True).first.click()
    expect(page.get_by_role("table", name="Audience of each minute").locator("tbody tr")).to_have_count(60)
    page.screenshot(path=shots_folder / "pages-diffusion-without-script.png", full_page=True)


def test_a_definition_opens_at_a_touch(opened, addresses):
    page = opened("phone")
    page.goto(addresses["diffusion"])
    sentence = page.locator(".ls-figures").get_by_text("the listening time divided by the time on air")
    expect(sentence).to_be_hidden()
    page.locator(".ls-figures").get_by_text("Average audience").tap()
    expect(sentence).to_be_visible()


def test_a_producer_walks_from_the_list_to_a_diffusion_and_back(opened, addresses):
    page = opened()
    page.goto(addresses["programs"])
    page.get_by_role("link", name="Campus Jazz").click()
    expect(page.get_by_role("heading", name="Campus Jazz")).to_be_visible()
    page.get_by_role("link", name="Last 4 weeks").click()
    bar = page.locator("listen-stats-bars a").last
    bar.hover()
    expect(page.locator(".ls-bars .ls-readout")).to_contain_text("average")
    bar.click()
    expect(page).to_have_url(re.compile(r"/diffusions/\d+/$"))
    page.get_by_role("link", name="←").click()
    expect(page.get_by_text("of its time was observed:")).to_be_visible()
    page.get_by_role("link", name="Campus Jazz").click()
    expect(page.get_by_role("table", name="The diffusions, newest first")).to_be_visible()


def test_the_table_comes_down_as_a_file(opened, addresses):
    page = opened()
    page.goto(addresses["program"])
    with page.expect_download() as coming:
        page.get_by_role("link", name="CSV", exact=True).click()
    text = coming.value.path().read_bytes().decode()
    assert coming.value.suggested_filename.startswith("program_12_")
    assert len(list(csv.DictReader(io.StringIO(text)))) == page.locator(".ls-diffusions tbody tr").count()


def test_a_chosen_period_is_in_the_address(opened, addresses):
    page = opened()
    page.goto(addresses["program"])
    page.get_by_text("Other days and rules").click()
    page.get_by_label("From").fill("2020-01-01")
    page.get_by_label("To").fill("2020-01-31")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile(r"from=2020-01-01&to=2020-01-31"))
    expect(page.get_by_role("heading", name="No diffusion in this period")).to_be_visible()


def _fill() -> dict[str, str]:
    now = timezone.now()
    station = stations.PastStation()
    stations.lively(station, WEEKS, now=now)
    station.roll_up(now - 3 * stations.WEEK, now, now=now)
    SourceState.objects.create(source="icecast", heard=now, succeeded=now)
    Lease.objects.create(name="collector", holder="studio", heartbeat=now, expires=now + stations.HOUR)
    MonitorWatch.objects.create(station_id=1, started=now - stations.DAY, seen=now)
    nights = stations.jazz_nights().order_by("-started")
    Airing.objects.filter(pk__in=[night.pk for night in nights[2::3]]).update(initial_id=nights[3].diffusion_id)
    Airing.objects.filter(pk__in=[night.pk for night in nights[1:3]]).update(episode_id=900)
    recording = Recording.objects.create(sound_id=7, title="Jazz on demand", episode_id=900, duration_ms=3_600_000)
    for visit in range(30):
        begun = nights[1].started + visit * stations.HOUR
        RecordingPlay.objects.create(
            recording=recording, visit=visit, listener=visit, visit_started=begun, started=begun, seen=begun,
            sections=[[0, 120_000 * (visit + 1)]], played_ms=120_000 * (visit + 1),
        )  # fmt: skip
    for why, started in ((Blur.Why.ADDRESS, nights[1].started), (Blur.Why.SOURCE, now - 9 * stations.DAY)):
        ended = started + stations.HOUR
        Blur.objects.create(stream=station.streams[0], why=why, started=started, ended=ended)
    on_air = Airing.objects.filter(is_running=True).latest("pk")  # a program of the week may run beside it
    return {
        "programs": reverse("listen_stats:programs"),
        "program": reverse("listen_stats:program", args=[12]),
        "diffusion": reverse("listen_stats:diffusion", args=[nights[1].pk]),
        "diffusion-on-air": reverse("listen_stats:diffusion", args=[on_air.pk]),
        "report": reverse("listen_stats:report"),
        "report-running": reverse("listen_stats:report") + "?period=this-month&daypart=19-24",
        "report-program": reverse("listen_stats:program_report", args=[12]) + "?period=last-week",
        "letters-stop": reverse("listen_stats:letters_stop", args=[stop_token(_user().pk, 12)]),
        "performances": reverse("listen_stats:performances"),
        "status": reverse("listen_stats:status"),
        "empty": reverse("listen_stats:program", args=[12]) + "?from=2020-01-01&to=2020-01-31",
        "missing": reverse("listen_stats:program", args=[404]),
    }


def _user() -> User:
    named = {"username": "tess", "email": "tess@radio.example", "is_staff": True, "is_superuser": True}
    user, _ = User.objects.get_or_create(**named)
    letters.subscribe(user.pk, 12, now_ms=0)
    return user


def _session() -> str:
    client = Client()
    client.force_login(_user())
    return client.cookies["sessionid"].value


def in_thread(work: Callable[[], Any]) -> Any:
    """What ``work`` gives back, outside the event loop that Playwright runs in this thread."""
    found: list[Any] = []

    def run() -> None:
        from django.db import connection

        try:
            found.append(work())
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found, "the work in the thread raised; its traceback stands above"
    return found[0]
