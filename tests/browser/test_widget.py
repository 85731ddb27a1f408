"""<aircox-listeners> in Chromium, on the example station's own page."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SOON_MS
from tests.browser.widget_site import SOCKETS_VARIABLE
from tests.web import live_station

pytestmark = [
    pytest.mark.real,
    pytest.mark.browser_only,
    pytest.mark.django_db(transaction=True),
]

WIDGET = "header aircox-listeners, nav aircox-listeners"
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def station(transactional_db):
    station = live_station.create()
    station.store(42)
    return station


@pytest.fixture
def sockets_on(tmp_path):
    """A file that stands for a server that speaks websockets."""
    file = tmp_path / "sockets"
    file.touch()
    return file


@pytest.fixture
def site(station, asgi_server, child_environment, sockets_on):
    environment = {**child_environment, SOCKETS_VARIABLE: str(sockets_on)}
    return asgi_server("tests.browser.widget_site:application", environment=environment)


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport=DESKTOP, locale="en-GB", reduced_motion="reduce")
    # Chromium asks for it by itself, and the example station has none.
    context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    page = context.new_page()
    page.noise = []
    page.on("console", lambda message: page.noise.append(message.text))
    page.on("pageerror", lambda error: page.noise.append(str(error)))
    page.opened_sockets = []
    page.on("websocket", lambda socket: page.opened_sockets.append(socket.url))
    page.fetched = []
    page.on("request", lambda request: page.fetched.append(request.url))
    yield page
    context.close()


def polls(page: Page) -> int:
    return sum(url.endswith("/live/campus.json") for url in page.fetched)


def shown(page: Page):
    return page.locator(WIDGET).first


def test_the_page_shows_the_count_and_follows_it_without_any_noise(site, station, page, shots_folder):
    page.goto(site.url)
    expect(shown(page)).to_contain_text("42")
    expect(shown(page).locator("[part=label]")).to_have_text("listeners")
    page.screenshot(path=shots_folder / "widget-desktop.png")
    station.store(1)
    expect(shown(page).locator("[part=count]")).to_have_text("1")
    expect(shown(page).locator("[part=label]")).to_have_text("listener")
    page.set_viewport_size(PHONE)
    page.screenshot(path=shots_folder / "widget-phone.png")
    assert page.noise == []
    assert polls(page) == 0
    assert len(page.opened_sockets) == 1


def test_nobody_listening_is_zero_and_a_stale_source_is_unknown(site, station, page, shots_folder):
    station.store(0)
    page.goto(site.url)
    expect(shown(page).locator("[part=count]")).to_have_text("0")
    expect(shown(page)).to_have_attribute("data-state", "live")
    station.store(7, stale_after_ms=1)
    expect(shown(page)).to_have_attribute("data-state", "unknown")
    expect(shown(page).locator("[part=unknown]")).to_have_text("number of listeners unknown")
    expect(shown(page).locator("[part=count]")).to_be_hidden()
    page.screenshot(path=shots_folder / "widget-unknown.png")


def test_a_page_swap_keeps_the_one_socket(site, station, page):
    page.goto(site.url)
    expect(shown(page)).to_contain_text("42")
    for link in ("Schedule", "Programs", "What was that?"):
        page.get_by_role("navigation").get_by_role("link", name=link).click()
        expect(page).not_to_have_url(site.url + "/")
        expect(shown(page)).to_contain_text("42")
    station.store(43)
    expect(shown(page)).to_contain_text("43")
    assert len(page.opened_sockets) == 1
    assert page.noise == []


def test_several_elements_share_one_socket_and_the_last_one_ends_it(site, station, page):
    page.goto(site.url)
    expect(shown(page)).to_contain_text("42")
    with page.expect_event("websocket", predicate=lambda socket: "second" in socket.url) as opened:
        page.evaluate(
            """() => {
              const twin = document.querySelector("aircox-listeners").cloneNode();
              document.body.append(twin, twin.cloneNode());
              const other = twin.cloneNode();
              other.setAttribute("socket", "/ws/listen-stats/second/");
              document.body.append(other);
            }"""
        )
    expect(page.locator("body > aircox-listeners").first).to_contain_text("42")
    assert len(page.opened_sockets) == 2
    assert "second" in opened.value.url


HUNG_UP = """
const close = WebSocket.prototype.close;
WebSocket.prototype.close = function (...given) {
  window.hungUpAt = performance.now();
  return close.apply(this, given);
};
"""


def test_a_socket_ends_a_few_seconds_after_its_last_element(site, station, page):
    page.add_init_script(HUNG_UP)
    with page.expect_event("websocket") as opened:
        page.goto(site.url)
    expect(shown(page)).to_contain_text("42")
    socket = opened.value
    remove = "document.querySelectorAll('aircox-listeners').forEach((one) => one.remove())"
    with socket.expect_event("close", timeout=SOON_MS):
        removed_at = page.evaluate(f"() => {{ {remove}; return performance.now(); }}")
    # By the page's own clock: a busy machine may tell us late.
    assert page.evaluate("hungUpAt") - removed_at > 1000


def test_without_websockets_it_polls_and_comes_back_when_there_are_some(site, station, page, sockets_on):
    sockets_on.unlink()
    page.goto(site.url)
    expect(shown(page)).to_contain_text("42")
    assert polls(page) == 1
    station.store(44)
    page.evaluate("document.querySelectorAll('aircox-listeners').forEach((one) => one.remove())")
    page.wait_for_timeout(3500)
    page.evaluate(
        """() => document.body.insertAdjacentHTML("beforeend",
          '<aircox-listeners station="campus" src="/audience/live/campus.json" poll-seconds="2"></aircox-listeners>')"""
    )
    polled = page.locator("body > aircox-listeners")
    expect(polled).to_contain_text("44")
    station.store(45)
    expect(polled).to_contain_text("45")
    sockets_on.touch()
    deadline = time.monotonic() + 120  # the longer there was none, the later it asks again
    station.store(46)
    while True:
        before = polls(page)
        page.wait_for_timeout(5000)
        if polls(page) == before:
            break
        assert time.monotonic() < deadline, "it goes on polling although there are websockets"
    station.store(47)
    expect(polled).to_contain_text("47")


def test_where_there_is_no_asgi_it_can_be_told_to_poll_only(site, station, page):
    page.goto(site.url)
    page.evaluate(
        """() => document.body.insertAdjacentHTML("beforeend", '<aircox-listeners id="polled" station="campus"'
          + ' socket="none" src="/audience/live/campus.json"></aircox-listeners>')"""
    )
    expect(page.locator("#polled")).to_contain_text("42")
    assert len(page.opened_sockets) == 1


def test_it_says_unknown_by_its_own_clock_when_the_line_is_cut(site, station, page):
    page.goto(site.url)
    expect(shown(page)).to_contain_text("42")
    page.evaluate("document.querySelector('aircox-listeners').setAttribute('stale-seconds', '3')")
    site.stop()
    expect(shown(page)).to_have_attribute("data-state", "unknown")
    expect(shown(page)).not_to_contain_text("42")


def test_it_comes_back_after_the_server_restarts(station, asgi_server, child_environment, sockets_on, page):
    from tests.parts import asgi

    environment = {**child_environment, SOCKETS_VARIABLE: str(sockets_on)}
    first = asgi_server("tests.browser.widget_site:application", environment=environment)
    page.goto(first.url)
    expect(shown(page)).to_contain_text("42")
    first.stop()
    station.store(50)
    real_free_port, asgi.free_port = asgi.free_port, lambda: first.port
    try:
        asgi_server("tests.browser.widget_site:application", environment=environment)
    finally:
        asgi.free_port = real_free_port
    expect(shown(page)).to_contain_text("50")


def test_its_parts_and_properties_can_be_styled(site, station, page):
    page.goto(site.url)
    page.add_style_tag(
        content="aircox-listeners { --aircox-listeners-count-weight: 800; }"
        "aircox-listeners::part(count) { color: rgb(1, 2, 3); }"
    )
    style = (
        shown(page)
        .locator("[part=count]")
        .evaluate("(element) => [getComputedStyle(element).color, getComputedStyle(element).fontWeight]")
    )
    assert style == ["rgb(1, 2, 3)", "800"]


def test_it_works_under_a_strict_content_security_policy(site, station, page):
    answer = page.goto(f"{site.url}/?strict")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    expect(shown(page)).to_contain_text("42")
    assert shown(page).evaluate("(element) => getComputedStyle(element).whiteSpace") == "nowrap"
    assert len(page.opened_sockets) == 1
    assert page.noise == []


def test_plural_and_number_follow_the_language_of_the_page(site, station, page):
    station.store(12_345)
    page.goto(site.url)
    page.evaluate(
        """() => document.body.insertAdjacentHTML("beforeend", '<p lang="pl"><aircox-listeners station="campus"'
          + ' label-one="słuchacz" label-few="słuchacze" label-many="słuchaczy" label-other="słuchacza">'
          + '</aircox-listeners></p><p lang="de"><aircox-listeners station="campus">'
          + '<b slot="label">Ohren</b></aircox-listeners></p>')"""
    )
    polish = page.locator("p[lang=pl] aircox-listeners")
    expect(polish.locator("[part=label]")).to_have_text("słuchaczy")
    expect(page.locator("p[lang=de] aircox-listeners [part=count]")).to_have_text("12.345")
    expect(page.locator("p[lang=de] aircox-listeners")).to_contain_text("Ohren")
    station.store(3)
    expect(polish.locator("[part=label]")).to_have_text("słuchacze")


def test_a_change_is_an_event_with_the_figures(site, station, page):
    page.add_init_script(
        "window.changes = []; addEventListener('listeners-change', (event) => changes.push(event.detail));"
    )
    page.goto(site.url)
    expect(shown(page)).to_contain_text("42")
    station.store(43)
    expect(shown(page)).to_contain_text("43")
    changes = page.evaluate("changes")
    assert [change["listeners"] for change in changes] == [42, 43]
    assert changes[0]["station"] == "campus"
    assert changes[0]["onAir"]["title"] == "Morgenröte"


def test_it_says_when_a_servers_total_is_in_the_number(site, station, page):
    page.goto(site.url)
    expect(shown(page)).to_contain_text("42")
    assert shown(page).get_attribute("data-includes-totals") is None
    station.store(43, includes_totals=True)
    expect(shown(page)).to_have_attribute("data-includes-totals", "")
    assert page.evaluate("document.querySelector('aircox-listeners').includesTotals") is True


def test_it_is_read_aloud_seldom(site, station, page):
    page.goto(site.url)
    expect(shown(page)).to_contain_text("42")
    live = shown(page).locator(".announcement")
    assert live.get_attribute("aria-live") == "polite"
    station.store(43)
    expect(shown(page).locator("[part=count]")).to_have_text("43")
    expect(live).to_have_text("")
    # It is taken away again: before a busy machine has looked, perhaps.
    live.evaluate(
        """(live) => {
          window.announced = [];
          new MutationObserver(() => announced.push(live.textContent))
            .observe(live, { childList: true, characterData: true, subtree: true });
        }"""
    )
    shown(page).evaluate("(element) => element.setAttribute('announce-seconds', '1')")
    station.store(44)
    page.wait_for_function("announced.includes('44 listeners')", timeout=SOON_MS)


def test_a_hidden_tab_hangs_up_and_a_shown_one_comes_back(site, station, page):
    page.clock.install()
    with page.expect_event("websocket") as opened:
        page.goto(site.url)
    expect(shown(page)).to_contain_text("42")
    hide = "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    with opened.value.expect_event("close"):
        page.evaluate(hide, True)
        page.clock.fast_forward(31_000)
    station.store(60)
    with page.expect_event("websocket"):
        page.evaluate(hide, False)
    expect(shown(page)).to_contain_text("60")


def test_a_browser_without_javascript_shows_the_page_all_the_same(site, station, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.url)
    expect(page.locator("nav")).to_be_visible()
    expect(shown(page)).to_have_text("")
    context.close()
