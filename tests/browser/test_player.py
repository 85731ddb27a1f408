"""The player of the example station's own page in Chromium, and what was stored of what it did.

As aircox's it is an Audio object that is in no page: what it does reaches no listener of the window.
Nothing here depends on how fast the machine is. Positions agree to POSITION_MS
with those that the page itself saw with the same events (WATCH). Times are of
our clock when an event came: they lie between what this process did before and
after. Whether a player stalled is the machine's matter: ``told`` leaves it out.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.db import connection
from playwright.sync_api import Page, expect

from aircox_listen_stats.kernel.player import LATENESS_MS, SILENCE_MS
from aircox_listen_stats.models import PlayerEvent, PlayerSession, PlayerVisit, RecordingPlay, Stream
from aircox_listen_stats.onair import aircox
from aircox_listen_stats.pipeline import players
from aircox_listen_stats.templatetags.listen_stats_live import PLAYER_MODULE
from tests.browser.player_settings import ALLOWED_ORIGIN_VARIABLE, MOUNT
from tests.browser.player_site import ENDPOINT, HEARD_FILE_VARIABLE, SECONDS, STREAM_FILE_VARIABLE
from tests.onair.studio import Studio
from tests.parts import asgi
from tests.parts.child import LOOPBACK
from tests.sources import player_recording
from tools import parts

pytestmark = [
    pytest.mark.real,
    pytest.mark.browser_only,
    pytest.mark.django_db(transaction=True),
]

POSITION_MS = 100
ROUNDED_MS = 10
"""Ages and clocks are rounded to milliseconds on their way."""
SOON_SECONDS = 60
"""Nobody waits so long where all is well."""
RECORDING = "/media/programs/nightfall.wav"
AUDIO = "aircox.player.audio"
"""As a page of aircox names it."""
ADDRESS = "/audience/api/v1/stats" + ENDPOINT

WATCH = """
window.seen = [];
window.Audio = class extends Audio {
  constructor(...given) {
    super(...given);
    for (const type of ["playing", "timeupdate", "seeked"]) {
      this.addEventListener(type, () => {
        if (!this.seeking && this.readyState) seen.push([type, this.currentTime * 1000]);
      });
    }
  }
};
"""
"""What the player was seen to do, kept by the page beside the module under test."""


HIDE = f"""() => {{
  Object.defineProperty(document, "hidden", {{ value: true, configurable: true }});
  document.dispatchEvent(new Event("visibilitychange", {{ bubbles: true }}));
  return {AUDIO}.currentTime * 1000;
}}"""

QUIETEN = """async () => {
  for (const audio of [window.aircox?.player?.audio, ...document.querySelectorAll("audio")]) {
    if (audio?.paused !== false) continue;
    const heard = new Promise((resolve) => audio.addEventListener("pause", resolve, { once: true }));
    audio.pause();
    await heard;
  }
  await new Promise((resolve) => setTimeout(resolve));
}"""

ANSWERED = """
const read = Response.prototype.json;
Response.prototype.json = function () {
  const reading = read.call(this);
  const done = () => setTimeout(() => { window.answered = true; });
  reading.then(done, done);
  return reading;
};
"""
"""Says when the page has read an answer, and all that hung on it has run."""


@pytest.fixture(scope="module")
def stream_file(tmp_path_factory):
    """A minute of an MP3 stream, which tells no length, as none does."""
    file = tmp_path_factory.mktemp("stream") / "stream.mp3"
    tone = ["-f", "lavfi", "-i", "sine=frequency=220", "-t", "60"]
    command = [str(parts.find("ffmpeg")), "-v", "error", *tone, "-b:a", "32k", "-write_xing", "0", str(file)]
    subprocess.run(command, check=True, timeout=SOON_SECONDS)
    return file


@pytest.fixture
def station(transactional_db):
    studio = Studio("Campus")
    studio.station.audio_streams = MOUNT
    studio.station.save()
    episode = studio.episode("Nightfall")
    episode.status = episode.STATUS_PUBLISHED
    episode.save()
    sound = studio.sound("nightfall.wav", episode)
    sound.is_public = True
    sound.save(check=False)
    Stream.objects.create(slug="radio", station_id=studio.station.pk, source="web")
    return episode


@pytest.fixture(scope="module")
def heard_file(tmp_path_factory):
    """What the server heard of players, as it came."""
    return tmp_path_factory.mktemp("heard") / "heard.jsonl"


@pytest.fixture(scope="module")
def friend():
    """Another site, whose pages may tell."""
    with elsewhere() as origin:
        yield origin


@pytest.fixture(scope="module")
def stranger():
    """Another site, of which the station never heard."""
    with elsewhere() as origin:
        yield origin


@contextmanager
def elsewhere() -> Iterator[str]:
    """The origin of a server that has a copy of the module, and the page that was asked for: ``/?PAGE``."""
    module = Path(finders.find(PLAYER_MODULE)).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, asked = self.path.partition("?")
            of_type = "text/html" if path == "/" else "text/javascript"
            self.send_response(200)
            self.send_header("Content-Type", f"{of_type}; charset=utf-8")
            self.end_headers()
            self.wfile.write(unquote(asked).encode() if path == "/" else module)

        def log_message(self, *given: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{LOOPBACK}:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def site(django_db_setup, stream_file, heard_file, friend):
    """One server for all tests of this file, on the database whose rows each test makes anew."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.browser.player_settings",
        "LISTEN_STATS_TEST_DATABASE": str(connection.settings_dict["NAME"]),
        "LISTEN_STATS_TEST_DB": settings.TEST_DB,
        STREAM_FILE_VARIABLE: str(stream_file),
        HEARD_FILE_VARIABLE: str(heard_file),
        ALLOWED_ORIGIN_VARIABLE: friend,
    }
    server = asgi.serve("tests.browser.player_site:application", environment=environment)
    yield server
    server.stop()


@pytest.fixture
def heard(heard_file):
    """What the server hears of players from now on."""
    before = len(heard_file.read_text().splitlines()) if heard_file.exists() else 0

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in heard_file.read_text().splitlines()[before:]]

    return lines


@pytest.fixture
def context(browser):
    context = browser.new_context(locale="en-GB")
    context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
    yield context
    context.close()


@pytest.fixture
def page(context):
    page = context.new_page()
    page.add_init_script(WATCH)
    page.noise = []
    page.on("console", lambda message: page.noise.append(message.text))
    page.on("pageerror", lambda error: page.noise.append(str(error)))
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.method) if ENDPOINT in request.url else None)
    yield page
    quieten(page)


def quieten(page: Page) -> None:
    """Lets the players fall silent and all that they told arrive: a page that goes tells the next test's server."""
    page.evaluate(QUIETEN)
    deadline = time.monotonic() + SOON_SECONDS
    while PlayerEvent.objects.count() < page.asked.count("POST"):
        assert time.monotonic() < deadline, f"{PlayerEvent.objects.count()} events of {page.asked}"
        page.wait_for_timeout(50)


def open_episode(page: Page, site: Any, station: Any) -> None:
    page.goto(site.url + station.get_absolute_url())


def listen_again(page: Page) -> None:
    """Presses the recording's button and waits until it plays."""
    page.get_by_role("button", name="nightfall").click()
    until(page, f"{AUDIO}.currentSrc.includes('nightfall')")
    playing(page)


def listen_live(page: Page) -> None:
    """Presses the player's button, until the server was told that the stream plays."""
    page.get_by_role("button", name="Listen").click()
    playing(page)
    told(page, "playing")


def playing(page: Page, beyond: float = 0.0) -> None:
    until(page, f"{AUDIO}.currentTime > {beyond} && !{AUDIO}.paused && !{AUDIO}.seeking")


def play_for(page: Page, seconds: float) -> None:
    """Lets the player itself play for so long."""
    at = page.evaluate(f"{AUDIO}.currentTime")
    until(page, f"{AUDIO}.currentTime > {at + seconds}")


def until(page: Page, expression: str) -> None:
    """Waits; by asking, since the page's policy lets nothing be evaluated inside."""
    deadline = time.monotonic() + SOON_SECONDS
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"not in {SOON_SECONDS} s: {expression}"
        page.wait_for_timeout(50)


def pause(page: Page) -> float:
    """Where the player was when it was paused, milliseconds. One that stalls is let go on first."""
    until(page, f"{AUDIO}.readyState > 2 && ({AUDIO}.pause(), true)")
    return page.evaluate(f"{AUDIO}.currentTime * 1000")


def seek(page: Page, seconds: float) -> float:
    """Where the player was last seen before it was sent elsewhere, milliseconds."""
    go = f"(() => {{ const at = seen.at(-1)[1]; {AUDIO}.currentTime = {seconds}; return at; }})()"
    before_ms = page.evaluate(go)
    playing(page, seconds)
    return before_ms


def seen(page: Page, kind: str) -> list[float]:
    """Where the page's player was with each event of this kind, milliseconds."""
    return [at_ms for one, at_ms in page.evaluate("seen") if one == kind]


def clock_ms() -> int:
    """The clock that this process and the server share."""
    return time.time_ns() // 1_000_000


def told(page: Page, *last: str) -> list[str]:
    """The states told so far but for stalls, once all have come and ``last`` are the last ones."""
    deadline = time.monotonic() + SOON_SECONDS
    while True:
        events = list(PlayerEvent.objects.all())
        # Beacons overtake each other: the page's own count tells their order.
        began = {event.visit: min(one.at for one in events if one.visit == event.visit) for event in events}
        events.sort(key=lambda event: (began[event.visit], event.sequence))
        states = without_stalls(events)
        are_all = sum(max(e.sequence for e in events if e.visit == visit) + 1 for visit in began) == len(events)
        if are_all and tuple(states[-len(last) :]) == last:
            return states
        assert time.monotonic() < deadline, f"{states} instead of … {last}"
        page.wait_for_timeout(50)


def without_stalls(events: Iterable[PlayerEvent]) -> list[str]:
    """The states but for what says that playing stalled and went on."""
    kept: list[PlayerEvent] = []
    for event in events:
        if event.state == "playing" and kept and kept[-1].state == "buffering" and kept[-1].sound_id == event.sound_id:
            kept.pop()
        else:
            kept.append(event)
    return [event.state for event in kept]


def look(*, later_ms: int = 0) -> None:
    players.refresh(aircox.log(), now_ms=clock_ms() + later_ms)


def sections() -> list[list[int]]:
    return RecordingPlay.objects.get().sections


def shapes(requests: Sequence[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """What does not change from one run, or one version of Chromium, to the next."""
    found = set()
    for one in requests:
        headers = one["headers"]
        told = json.loads(one["body"] or "{}")
        kinds = sorted((name, "number" if value is None else type(value).__name__) for name, value in told.items())
        named = [headers.get(name) for name in ("content-type", "sec-fetch-mode", "sec-fetch-site")]
        found.add(
            (one["method"], *named, "origin" in headers, "cookie" in headers, str(kinds).replace("int", "number"))
        )
    return found


def assert_as_recorded(heard: Sequence[dict[str, Any]], name: str, folder: Path) -> None:
    """What the suite replays elsewhere is what Chromium sends today."""
    new = folder / name
    new.write_text("".join(json.dumps(one) + "\n" for one in heard))
    recorded = player_recording.FOLDER / name
    assert recorded.exists(), f"There is no {recorded}. What Chromium sent just now is in {new}: look at it, copy it."
    assert shapes(heard) == shapes(player_recording.requests(name)), f"{recorded} is outdated. As it is now: {new}"


def assert_near(found: Any, expected: Any) -> None:
    assert [round(value) for one in found for value in one] == pytest.approx(
        [value for one in expected for value in one], abs=POSITION_MS
    )


def test_playing_and_pausing_a_recording_is_one_section(site, station, page):
    open_episode(page, site, station)
    assert page.asked == []
    before_ms = clock_ms()
    listen_again(page)
    told(page, "playing")
    began_ms = clock_ms()
    play_for(page, 1.5)
    ended_ms = clock_ms()
    paused_ms = pause(page)
    assert told(page, "paused") == ["playing", "paused"]
    after_ms = clock_ms()
    look()
    assert_near(sections(), [[seen(page, "playing")[0], paused_ms]])
    play = RecordingPlay.objects.get()
    assert (play.recording.title, play.recording.episode_id) == ("nightfall.wav", station.pk)
    session = PlayerSession.objects.get()
    assert ended_ms - began_ms - ROUNDED_MS <= session.on_demand_ms <= after_ms - before_ms + ROUNDED_MS
    assert (session.live_ms, session.is_open) == (0, False)
    assert PlayerEvent.objects.first().duration_ms == SECONDS * 1000
    assert page.asked == ["GET", *["POST"] * PlayerEvent.objects.count()]
    assert page.noise == []


def test_what_lies_between_two_ends_of_a_seek_was_not_heard(site, station, page):
    open_episode(page, site, station)
    listen_again(page)
    play_for(page, 1)
    left_ms = seek(page, 60)
    play_for(page, 1)
    back_ms = seek(page, 30)
    play_for(page, 0.5)
    paused_ms = pause(page)
    states = told(page, "paused")
    assert (states[0], states.count("seek")) == ("playing", 2)
    look()
    sent, back = seen(page, "seeked")
    assert_near(sections(), [[seen(page, "playing")[0], left_ms], [sent, back_ms], [back, paused_ms]])
    assert 30_000 <= back < 60_000 <= sent


def test_a_reload_ends_what_played_and_the_next_page_goes_on_with_the_session(site, station, page):
    open_episode(page, site, station)
    heard_ms = 0
    listen_again(page)
    told(page, "playing")
    heard_ms -= clock_ms()
    play_for(page, 1)
    began_ms, left_ms = seen(page, "playing")[0], seen(page, "timeupdate")[-1]
    heard_ms += clock_ms()
    page.reload()
    assert told(page, "stopped") == ["playing", "stopped"]
    listen_again(page)
    told(page, "playing")
    heard_ms -= clock_ms()
    play_for(page, 0.5)
    heard_ms += clock_ms()
    pause(page)
    assert told(page, "paused")[2:] == ["playing", "paused"]
    look()
    first, second = RecordingPlay.objects.order_by("started")
    assert first.played_ms >= left_ms - began_ms - POSITION_MS
    assert first.visit != second.visit
    assert PlayerVisit.objects.count() == 2
    assert PlayerSession.objects.get().on_demand_ms >= heard_ms - 2 * ROUNDED_MS


def test_a_page_that_is_swapped_lets_the_player_play_on(site, station, page):
    open_episode(page, site, station)
    listen_again(page)
    for link in ("Schedule", "Programs"):
        page.get_by_role("navigation").get_by_role("link", name=link).click()
        expect(page.get_by_role("heading", name=link)).to_be_visible()
        play_for(page, 0.5)
    paused_ms = pause(page)
    assert told(page, "paused") == ["playing", "paused"]
    look()
    assert_near(sections(), [[seen(page, "playing")[0], paused_ms]])
    assert page.asked == ["GET", *["POST"] * PlayerEvent.objects.count()]


def test_a_tab_that_is_hidden_tells_at_once_how_far_it_is_and_plays_on(site, station, page):
    open_episode(page, site, station)
    listen_again(page)
    play_for(page, 0.5)
    hidden_ms = page.evaluate(HIDE)
    assert told(page, "heartbeat") == ["playing", "heartbeat"]
    look()
    heard = [[seen(page, "playing")[0], hidden_ms]]
    assert_near(sections(), heard)
    assert PlayerSession.objects.get().is_open
    # The tab is killed: nothing more is heard of it.
    look(later_ms=SILENCE_MS + LATENESS_MS + 60_000)
    assert not PlayerSession.objects.get().is_open
    assert_near(sections(), heard)


def test_while_it_plays_it_tells_so_every_half_minute(site, station, page):
    page.clock.install()
    open_episode(page, site, station)
    listen_again(page)
    told(page, "playing")
    page.clock.run_for(30_000)
    told(page, "playing", "heartbeat")
    page.clock.run_for(30_000)
    told(page, "heartbeat", "heartbeat")
    pause(page)
    told(page, "heartbeat", "paused")
    page.clock.run_for(90_000)
    page.evaluate(f"{AUDIO}.play()")
    assert told(page, "playing") == ["playing", "heartbeat", "heartbeat", "paused", "playing"]


def test_a_live_stream_is_heard_and_the_same_player_then_plays_a_recording(site, station, page):
    open_episode(page, site, station)
    listen_live(page)
    began_ms = clock_ms()
    play_for(page, 1.5)
    ended_ms = clock_ms()
    listen_again(page)
    play_for(page, 0.5)
    pause(page)
    told(page, "playing", "paused")
    live = PlayerEvent.objects.filter(stream__slug="radio").order_by("sequence")
    first, *between, last = [event.state for event in live]
    assert (first, last) in {("playing", "stopped"), ("playing", "buffering")}
    assert {(event.position_ms, event.duration_ms) for event in live} == {(None, None)}
    look()
    session = PlayerSession.objects.get()
    if not between and last == "stopped":  # the stream did not stall
        assert session.live_ms >= ended_ms - began_ms - ROUNDED_MS
    assert session.live_ms > 0
    assert session.on_demand_ms > 0
    assert len(sections()) == 1


def test_what_a_browser_says_late_of_a_medium_that_it_left_moves_nothing(site, station, page):
    """It may say that the time changed after it was given something else to play: it is at 0 of nothing by then."""
    open_episode(page, site, station)
    listen_again(page)
    play_for(page, 1)
    seen_ms = seen(page, "timeupdate")[-1]
    late = f"() => queueMicrotask(() => {AUDIO}.dispatchEvent(new Event('timeupdate')))"
    page.evaluate(f"addEventListener('click', {late})")
    page.get_by_role("button", name="nightfall").click()
    assert told(page, "stopped", "playing") == ["playing", "stopped", "playing"]
    stopped = PlayerEvent.objects.get(state="stopped")
    assert stopped.position_ms >= seen_ms - ROUNDED_MS > 0
    assert stopped.duration_ms == SECONDS * 1000


def test_a_stream_that_stalls_is_not_heard_until_it_goes_on(site, station, page):
    """Buffering ends what was heard; whoever then leaves has nothing more to tell."""
    open_episode(page, site, station)
    listen_live(page)
    page.evaluate(f"{AUDIO}.dispatchEvent(new Event('waiting'))")
    told(page, "buffering")
    listen_again(page)
    pause(page)
    assert told(page, "paused") == ["playing", "buffering", "playing", "paused"]


def test_live_listening_goes_on_after_a_pause_and_of_several_sources_the_one_that_plays_is_told(site, station, page):
    radio = station.program.station
    radio.audio_streams = f"/gone.mp3\n{MOUNT}"
    radio.save()
    open_episode(page, site, station)
    assert page.evaluate(f"[{AUDIO}.isConnected, {AUDIO}.childElementCount]") == [False, 2]
    until(page, f"{AUDIO}.readyState > 0")  # aircox's asks for the stream before anybody listens
    assert page.asked == []
    listen_live(page)
    page.get_by_role("button", name="Listen").click()
    told(page, "paused")
    page.get_by_role("button", name="Listen").click()
    assert told(page, "paused", "playing") == ["playing", "paused", "playing"]
    assert set(PlayerEvent.objects.values_list("stream__slug", "sound_id")) == {("radio", None)}


def test_a_recording_that_is_over_was_heard_to_its_end_and_the_stream_goes_on(site, station, page):
    open_episode(page, site, station)
    listen_again(page)
    play_for(page, 0.5)
    page.evaluate(f"{AUDIO}.currentTime = {SECONDS - 1}")
    until(page, f"{AUDIO}.currentSrc.endsWith('{MOUNT}') && {AUDIO}.currentTime > 0.2")
    told(page, "paused", "playing")
    look()
    assert round(sections()[-1][1]) == SECONDS * 1000
    last = max(PlayerEvent.objects.all(), key=lambda event: event.sequence)
    assert (last.stream.slug, last.state) == ("radio", "playing")


def test_the_page_is_left_while_it_plays(site, station, page):
    open_episode(page, site, station)
    listen_live(page)
    page.goto("about:blank")
    assert told(page, "stopped") == ["playing", "stopped"]


def test_a_player_in_the_page_is_heard_too_when_nothing_but_the_browser_starts_it(site, station, page):
    open_episode(page, site, station)
    page.mouse.click(5, 5)
    page.evaluate(
        f"""() => {{
          window.another = Object.assign(document.createElement("audio"), {{ autoplay: true, src: "{RECORDING}" }});
          document.body.append(another);
        }}"""
    )
    until(page, "another.currentTime > 0.2")
    told(page, "playing")
    page.evaluate("another.pause()")
    assert told(page, "paused") == ["playing", "paused"]


def test_a_player_that_breaks_is_silent(site, station, page):
    open_episode(page, site, station)
    listen_live(page)
    page.evaluate(f"{AUDIO}.dispatchEvent(new Event('error'))")
    assert told(page, "stopped") == ["playing", "stopped"]


PROMISED = """
const play = HTMLMediaElement.prototype.play;
HTMLMediaElement.prototype.play = function () { return window.promise = play.call(this); };
"""
"""Keeps what the browser itself answers."""


def test_playing_is_what_it_is_without_the_module(site, station, page):
    """The page has the browser's own promise, also where the module fails; and an error is the browser's own."""
    page.add_init_script(PROMISED)
    open_episode(page, site, station)
    page.mouse.click(5, 5)
    page.evaluate(
        f"""() => {{
          window.deaf = new Audio("{RECORDING}");
          deaf.addEventListener = () => {{ throw new Error("not for you"); }};
          window.isOwn = deaf.play() === promise;
        }}"""
    )
    until(page, "isOwn && deaf.currentTime > 0.2")
    failed = "(call) => Promise.resolve().then(call).then(() => 'none', (error) => error.name)"
    assert page.evaluate(f"({failed})(() => HTMLMediaElement.prototype.play.call({{}}))") == "TypeError"
    assert page.evaluate(f"({failed})(() => new Audio('/none.mp3').play())") == "NotSupportedError"
    page.evaluate("deaf.pause()")
    assert page.asked == []
    assert [line for line in page.noise if "404" not in line] == []


def test_a_player_that_is_silent_and_that_the_page_has_dropped_is_not_held(site, station, page):
    """A browser gives a page only so many."""
    open_episode(page, site, station)
    page.mouse.click(5, 5)
    page.evaluate(
        f"""async () => {{
          const short = new Audio("{RECORDING}");
          await short.play();
          const silent = new Promise((resolve) => short.addEventListener("pause", resolve));
          short.pause();
          await silent;
          short.src = "";
          window.dropped = new WeakRef(short);
        }}"""
    )
    told(page, "playing", "paused")
    collector = page.context.new_cdp_session(page)
    deadline = time.monotonic() + SOON_SECONDS
    while page.evaluate("dropped.deref() !== undefined"):
        assert time.monotonic() < deadline, "it is held"
        collector.send("HeapProfiler.collectGarbage")


# What is sent, and from where -----------------------------------------------------------------------------


def test_what_chromium_sends_is_what_other_tests_replay(site, station, page, heard, tmp_path):
    open_episode(page, site, station)
    listen_live(page)
    play_for(page, 1)
    page.get_by_role("button", name="Listen").click()
    told(page, "paused")
    page.get_by_role("button", name="Listen").click()
    told(page, "paused", "playing")
    listen_again(page)
    play_for(page, 1)
    seek(page, 60)
    play_for(page, 0.5)
    page.evaluate(HIDE)
    told(page, "heartbeat")
    page.reload()
    told(page, "stopped")
    assert_as_recorded(heard(), player_recording.STATION, tmp_path)


@pytest.mark.parametrize("module", ["{site}/static/" + PLAYER_MODULE, "/player-events.min.js"], ids=["ours", "a copy"])
def test_a_page_of_an_origin_that_is_allowed_tells(site, station, friend, page, heard, module, tmp_path):
    page.goto(f"{friend}/?{quote(another_page(site, module))}")
    page.get_by_role("button").click()
    told(page, "playing")
    page.evaluate("document.querySelector('audio').pause()")
    assert told(page, "paused") == ["playing", "paused"]
    assert {event.stream.slug for event in PlayerEvent.objects.all()} == {"radio"}
    assert {one["headers"]["origin"] for one in heard()} == {friend}
    assert page.noise == []
    assert_as_recorded(heard(), player_recording.ELSEWHERE, tmp_path)


def test_a_page_of_another_origin_is_refused_though_it_has_a_valid_visit(site, station, stranger, page, heard):
    page.goto(f"{stranger}/?{quote(another_page(site, '/player-events.min.js'))}")
    page.get_by_role("button").click()
    until(page, "document.querySelector('audio').currentTime > 0.2")
    refused = wait_for(page, heard, "GET")
    visit = httpx.get(site.url + ADDRESS, timeout=SOON_SECONDS).json()["visit"]
    event = {"visit": visit, "sequence": 0, "state": "playing", "src": site.url + MOUNT}
    assert page.evaluate(f"navigator.sendBeacon('{site.url}{ADDRESS}', {json.dumps(json.dumps(event))})")
    refused += wait_for(page, heard, "POST")
    assert [(one["headers"]["origin"], one["status"]) for one in refused] == [(stranger, 403)] * 2
    assert not PlayerEvent.objects.exists()
    assert httpx.post(site.url + ADDRESS, json=event, timeout=SOON_SECONDS).status_code == 204


def wait_for(page: Page, heard: Callable[[], list[dict[str, Any]]], method: str) -> list[dict[str, Any]]:
    """What pages asked by this method, once there is something."""
    deadline = time.monotonic() + SOON_SECONDS
    while True:
        found = [one for one in heard() if one["method"] == method and "origin" in one["headers"]]
        if found:
            return found
        assert time.monotonic() < deadline, f"no {method}"
        page.wait_for_timeout(50)


def another_page(site: Any, module: str) -> str:
    """As docs/sources/player_events.md tells other sites to write it, with a button."""
    return f"""<!doctype html><title>Elsewhere</title>
      <script type="module" src="{module.format(site=site.url)}" data-player-events="{site.url}{ADDRESS}"></script>
      <audio src="{site.url}{MOUNT}"></audio><button onclick="document.querySelector('audio').play()">Play</button>"""


@pytest.mark.parametrize(("name", "value"), [("doNotTrack", "'1'"), ("globalPrivacyControl", "true")])
def test_nothing_is_told_of_whoever_does_not_want_it(site, station, context, page, name, value):
    context.add_init_script(f"Object.defineProperty(Navigator.prototype, '{name}', {{ get: () => {value} }})")
    open_episode(page, site, station)
    assert str(page.evaluate(f"navigator.{name}")).lower() == value.strip("'")
    listen_again(page)
    play_for(page, 0.5)
    seek(page, 20)
    pause(page)
    page.reload()
    assert page.asked == []
    assert not PlayerEvent.objects.exists()


def test_a_browser_without_beacons_tells_all_the_same(site, station, context, page, heard, tmp_path):
    context.add_init_script("Navigator.prototype.sendBeacon = undefined")
    open_episode(page, site, station)
    listen_again(page)
    play_for(page, 0.5)
    paused_ms = pause(page)
    assert told(page, "paused") == ["playing", "paused"]
    look()
    assert_near(sections(), [[seen(page, "playing")[0], paused_ms]])
    assert_as_recorded(heard(), player_recording.WITHOUT_BEACONS, tmp_path)


def test_a_server_that_fails_once_is_asked_again_and_the_page_hears_nothing_of_it(site, station, page):
    broken = {"left": 1}

    def fail(route: Any) -> None:
        if broken["left"] and route.request.method == "GET":
            broken["left"] -= 1
            route.fulfill(status=503, json={"error": "later"})
        else:
            route.continue_()

    page.route(f"**{ENDPOINT}", fail)
    page.add_init_script(ANSWERED)
    open_episode(page, site, station)
    listen_again(page)
    play_for(page, 0.5)
    until(page, "window.answered")
    pause(page)
    assert told(page, "paused") == ["paused"]
    page.evaluate(f"{AUDIO}.play()")
    assert told(page, "playing") == ["paused", "playing"]
    assert not [line for line in page.noise if "503" not in line]
