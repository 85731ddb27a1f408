"""The pages in Chromium, on a desktop and on a phone, with and without scripts, and their screenshots."""

from __future__ import annotations

import csv
import io
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from aircox_listen_stats.models import Airing, Lease, MonitorWatch, SourceState
from tests.web import stations

pytestmark = [
    pytest.mark.real,
    pytest.mark.browser_only,
    pytest.mark.django_db(transaction=True),
]

SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
WEEKS = 14
HIGHEST_TRACK = 90  # px: three lines and their air


@pytest.fixture
def addresses(transactional_db) -> dict[str, str]:
    """The pages of a lively station, by name."""
    return in_thread(_fill)


@pytest.fixture
def site(addresses, asgi_server, child_environment):
    return asgi_server("tests.browser.pages_site:application", environment=child_environment)


@pytest.fixture
def opened(browser, site):
    """``opened("desktop", colour="dark")``: a page of a technician's browser; every complaint of it is kept."""
    contexts = []

    def open_page(size: str = "desktop", *, colour: str = "light", scripts: bool = True) -> Page:
        context = browser.new_context(
            viewport=SIZES[size],
            color_scheme=colour,
            java_script_enabled=scripts,
            has_touch=size == "phone",
            locale="en-GB",
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


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("colour", ["light", "dark"])
def test_every_page_fits_its_screen_without_a_complaint(opened, addresses, shots_folder, size, colour):
    page = opened(size, colour=colour)
    for name, address in addresses.items():
        assert page.goto(address).status == 200
        if name.startswith("diffusion"):
            expect(page.locator(".ls-drawn canvas")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"], name
        page.screenshot(path=shots_folder / f"pages-{name}-{size}-{colour}.png", full_page=True)
    assert page.noise == []


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
    page.get_by_text("Minute by minute", exact=True).click()
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
    expect(page.get_by_text("of its time was observed.")).to_be_visible()
    page.get_by_role("link", name="Campus Jazz").click()
    expect(page.get_by_role("table")).to_be_visible()


def test_the_table_comes_down_as_a_file(opened, addresses):
    page = opened()
    page.goto(addresses["program"])
    with page.expect_download() as coming:
        page.get_by_role("link", name="CSV", exact=True).click()
    text = coming.value.path().read_bytes().decode()
    assert coming.value.suggested_filename.startswith("program_12_")
    assert len(list(csv.DictReader(io.StringIO(text)))) == page.locator("tbody tr").count()


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
    SourceState.objects.create(source="icecast", heard=now, succeeded=now)
    Lease.objects.create(name="collector", holder="studio", heartbeat=now, expires=now + stations.HOUR)
    MonitorWatch.objects.create(station_id=1, started=now - stations.DAY, seen=now)
    nights = stations.jazz_nights().order_by("-started")
    on_air = Airing.objects.get(is_running=True)
    return {
        "programs": reverse("listen_stats:programs"),
        "program": reverse("listen_stats:program", args=[12]),
        "diffusion": reverse("listen_stats:diffusion", args=[nights[1].pk]),
        "diffusion-on-air": reverse("listen_stats:diffusion", args=[on_air.pk]),
        "status": reverse("listen_stats:status"),
        "empty": reverse("listen_stats:program", args=[12]) + "?from=2020-01-01&to=2020-01-31",
    }


def _session() -> str:
    user, _ = User.objects.get_or_create(username="tess", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(user)
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
