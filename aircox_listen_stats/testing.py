"""What every source must keep, as tests to inherit. Needs pytest.

A third party's source is tested like ours::

    from aircox_listen_stats.testing import PolledContract

    class TestOurSource(PolledContract):
        source_class = OurSource
        streams = {"/live": "live"}
        options = {"url": "http://127.0.0.1:9", "password": "tr0ub4dor"}
        hidden = ("192.0.2.7", "VLC/3.0.20", "tr0ub4dor")

        def answer(self, request):
            return httpx.Response(200, content=RECORDED)

``PolledContract`` is for sources that ask over HTTP by httpx, ``PullContract``
for other ones that are asked, ``PushContract`` for those that are told.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx
import pytest

from .errors import ConfigurationError, MalformedRecord, SourceUnavailable
from .kernel.types import Address, ListenerMark, Observation
from .sources.base import PullSource, PushSource, Report, Source

__all__ = ["PolledContract", "PullContract", "PushContract", "SourceContract"]

NOW_MS = 1_795_312_400_250
"""2026-11-22 01:53 UTC: when the tests pull, unless a class says otherwise."""

EARLIEST_MS = 946_684_800_000
"""2000-01-01: an instant before it is in seconds, or was none."""

CLIENT_LENGTH = 64
"""Characters of a client's number that are stored (``Connection.client``)."""

SLACK_MS = 60_000
"""What a test machine may take between two pulls."""

MOST_PULLS = 1000
"""A source that is pulled as often has told all that there was."""

LIMIT_SECONDS = 0.5
LATEST_SECONDS = 10.0
"""A pull with a limit of half a second is over by then, also on a busy machine."""

ODD_OPTION = "optoin_of_nobody"


class SourceContract:
    """What holds for each source: its options, its silence about people, its end."""

    source_class: ClassVar[type[Source]]
    streams: ClassVar[Mapping[str, str]] = {"/live": "live"}
    options: ClassVar[Mapping[str, Any]] = {}
    hidden: ClassVar[Sequence[str]] = ()
    """Addresses, agents, passwords and keys that the answers and options hold."""

    def source(self, **options: Any) -> Any:
        """A source of these options that hears what it should hear. Closed by nobody: it opens nothing yet."""
        return self.source_class("heard", dict(self.streams), {**self.options, **options})

    def assert_hidden(self, text: str, where: str) -> None:
        for word in self.hidden:
            assert word not in text, f"{where} shows {word!r}"

    def assert_observation(self, one: Observation, source: Source) -> None:
        """``one`` is well-formed, and of a stream that ``source`` counts."""
        assert one.stream in source.streams.values(), f"{one.stream!r} is no stream of this source"
        for name, instant in (("started_ms", one.started_ms), ("seen_ms", one.seen_ms)):
            assert type(instant) is int, f"{name} must be whole milliseconds"
            assert instant >= EARLIEST_MS, f"{name} is {instant}: seconds instead of milliseconds?"
        assert one.started_ms <= one.seen_ms
        assert (one.address is None) != (one.mark is None), "exactly one of address and mark"
        assert one.address is None or isinstance(one.address, Address)
        assert one.mark is None or isinstance(one.mark, ListenerMark)
        assert one.client is None or (isinstance(one.client, str) and 0 < len(one.client) <= CLIENT_LENGTH)
        self.assert_hidden(repr(one), "the repr of an observation")

    def test_an_unknown_option_is_refused_by_its_name(self) -> None:
        with pytest.raises(ConfigurationError, match=ODD_OPTION) as caught:
            self.source(**{ODD_OPTION: 1})
        self.assert_hidden(str(caught.value), "the error")

    def test_an_option_of_the_wrong_type_is_refused_without_its_value(self) -> None:
        for name in self.source_class.options:
            with pytest.raises(ConfigurationError, match=name) as caught:
                self.source(**{name: {"tr0ub4dor & 3": 1}})
            assert "tr0ub4dor & 3" not in str(caught.value)

    def test_a_source_shows_nobody(self) -> None:
        source = self.source()
        self.assert_hidden(repr(source) + str(source), "the source")

    def test_close_can_be_called_twice(self) -> None:
        source = self.source()
        source.close()
        source.close()


class PullContract(SourceContract):
    """What holds for each source that is asked."""

    now_ms: ClassVar[int] = NOW_MS
    hears_somebody: ClassVar[bool] = True
    """Its answers show at least one listener; False for a source of totals alone."""

    def failing(self) -> Iterable[tuple[str, Any]]:
        """Sources that cannot hear, and why: nothing answers, the answer is blank, cut, not theirs."""
        raise NotImplementedError(f"{type(self).__name__} lacks failing(): give the sources that cannot hear.")

    def pull(self, source: Any, cursor: Mapping[str, Any] | None = None, later_ms: int = 0) -> Report:
        return source.pull(dict(cursor or {}), now_ms=self.now_ms + later_ms)

    def test_it_is_asked(self) -> None:
        source = self.source()
        assert isinstance(source, PullSource)
        assert source.interval_seconds > 0

    def test_what_it_reports_is_well_formed(self) -> None:
        source = self.source()
        report = self.pull(source)
        assert report.source == source.name
        assert bool(report.observations) == self.hears_somebody
        for one in report.observations:
            self.assert_observation(one, source)
        for heard in report.heard:
            assert heard.stream in source.streams.values()
            assert heard.started_ms <= heard.ended_ms <= self.now_ms + SLACK_MS
        for reason, count in report.counts.items():
            assert isinstance(reason, str)
            assert isinstance(count, int)
            assert count >= 0
        self.assert_hidden(repr(report), "the repr of a report")
        source.close()

    def test_totals_are_told_by_a_source_of_totals_alone(self) -> None:
        source = self.source()
        report = self.pull(source)
        if not source.tells_only_totals:
            assert report.totals is None
            return
        assert report.totals is not None
        assert not report.observations, "a source of totals knows nobody apart"
        assert report.census is None
        for stream, count in report.totals.items():
            assert stream in source.streams.values()
            assert type(count) is int
            assert count >= 0

    def test_the_same_cursor_twice_gives_the_same_observations(self) -> None:
        source = self.source()
        cursor = self.pull(source).cursor or {}
        for given in ({}, cursor):
            first, second = self.pull(source, given), self.pull(source, given)
            assert _told(first) == _told(second)
            pairs = zip(_sorted(first), _sorted(second), strict=True)
            assert all(abs(one.seen_ms - other.seen_ms) < SLACK_MS for one, other in pairs)
            assert first.totals == second.totals

    def test_another_source_of_the_same_options_takes_the_cursor_over(self) -> None:
        """A restarted collector knows no more than the cursor, which went through JSON."""
        report = self.pull(self.source())
        cursor = json.loads(json.dumps(report.cursor or {}))
        assert cursor == (report.cursor or {})
        self.assert_hidden(json.dumps(cursor), "the cursor")
        again = self.pull(self.source(), cursor, later_ms=1000)
        assert again.source == report.source

    def test_a_socket_keeps_its_number_and_start_from_pull_to_pull(self) -> None:
        """Whom a list shows, it shows again; what a log has told, it does not tell again."""
        report = self.pull(self.source())
        starts = {(one.stream, one.client): one.started_ms for one in report.observations if one.client is not None}
        last = report
        for _ in range(MOST_PULLS):
            again = self.pull(self.source(), last.cursor, later_ms=400)
            for one in again.observations:
                if one.client is not None:
                    assert one.started_ms == starts.setdefault((one.stream, one.client), one.started_ms)
            if not last.more:
                break
            last = again
        assert not last.more, "it never comes to the end of what it hears"
        if report.census is not None and not report.census.by_silence:
            assert _told(again) == _told(report)
        else:
            assert not again.observations, "what was told is told again"

    def test_whoever_a_census_shows_was_seen_at_its_instant_or_later(self) -> None:
        """Else the census would end the very sockets that it shows. One by silence ends nobody for good."""
        source = self.source()
        report = self.pull(source)
        if report.census is None:
            return
        assert report.census.streams <= set(source.streams.values())
        assert len(report.census.server) <= CLIENT_LENGTH
        shown = [one for one in report.observations if one.stream in report.census.streams]
        for one in shown:
            assert one.client is not None, "a census needs the numbers of its sockets"
        if not report.census.by_silence:
            assert all(one.seen_ms >= report.census.at_ms for one in shown if not one.ended)
            return
        assert not any(one.ended for one in shown), "silence is no end: there may be more of them"
        # Nobody has been silent for longer than has been heard.
        heard_ms = min((one.ended_ms for one in report.heard), default=self.now_ms)
        assert report.census.at_ms <= heard_ms <= self.now_ms + SLACK_MS

    def test_what_cannot_be_heard_raises_and_is_no_empty_report(self, caplog: pytest.LogCaptureFixture) -> None:
        """A failed, blank, foreign or cut answer ends nobody, and tells nobody's address."""
        caplog.set_level(logging.DEBUG)
        failing = list(self.failing())
        assert failing, "no failure was given"
        for why, source in failing:
            with pytest.raises(SourceUnavailable) as caught:
                pytest.fail(f"{why}: {len(self.pull(source).observations)} observations instead of an error")
            self.assert_hidden(str(caught.value), f"the error of {why!r}")
            assert str(caught.value), why
            source.close()
        self.assert_hidden(caplog.text, "the log")

    def test_nothing_is_logged_of_anybody(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        self.pull(self.source())
        self.assert_hidden(caplog.text, "the log")

    def test_it_can_be_asked_again_after_close(self) -> None:
        """The collector closes and goes on where it lost its lease."""
        source = self.source()
        first = self.pull(source)
        source.close()
        assert _told(self.pull(source)) == _told(first)
        source.close()


class PolledContract(PullContract):
    """What holds for each source that asks over HTTP; its requests go through ``source.transport``."""

    address_option: ClassVar[str] = "url"
    address_is_list: ClassVar[bool] = False
    cuts: ClassVar[int] = 200
    """An answer is cut at so many places, evenly spread, or at each of its bytes."""

    def answer(self, request: httpx.Request) -> httpx.Response:
        """What the server says when it is well, to each request that the source makes."""
        raise NotImplementedError(f"{type(self).__name__} lacks answer(): give what the server says.")

    def source(self, **options: Any) -> Any:
        made = super().source(**options)
        made.transport = httpx.MockTransport(self.answer)
        return made

    def targets(self) -> list[str]:
        """The pages that one pull asks for."""
        asked: list[str] = []

        def note(request: httpx.Request) -> httpx.Response:
            asked.append(_target(request))
            return self.answer(request)

        source = super().source()
        source.transport = httpx.MockTransport(note)
        self.pull(source)
        source.close()
        return list(dict.fromkeys(asked))

    def failing(self) -> Iterable[tuple[str, Any]]:
        for target in self.targets():
            for why, damaged in _DAMAGES.items():
                source = super().source()
                source.transport = httpx.MockTransport(self._damaging(target, damaged))
                yield f"{target} {why}", source

    def _damaging(self, target: str, damaged: Any) -> Any:
        def handle(request: httpx.Request) -> httpx.Response:
            return damaged(request, self.answer(request)) if _target(request) == target else self.answer(request)

        return handle

    def test_a_cut_answer_is_never_fewer_listeners(self) -> None:
        """Wherever an answer is cut, the pull raises; what follows the last sign may be missing."""
        whole = _told(self.pull(self.source()))
        for target in self.targets():
            length = self._length(target)
            step = max(1, length // self.cuts)
            for cut in range(0, length, step):
                source = super().source()
                source.transport = httpx.MockTransport(self._damaging(target, _cut_at(cut)))
                try:
                    report = self.pull(source)
                except SourceUnavailable:
                    continue
                assert _told(report) == whole, f"{target} cut at {cut} of {length} bytes tells another audience"

    def _length(self, target: str) -> int:
        lengths: list[int] = []

        def note(request: httpx.Request) -> httpx.Response:
            answer = self.answer(request)
            if _target(request) == target:
                lengths.append(len(answer.content))
            return answer

        source = super().source()
        source.transport = httpx.MockTransport(note)
        self.pull(source)
        return lengths[0]

    def test_an_answer_that_never_ends_is_given_up_at_the_time_limit(self) -> None:
        with _dripping() as address:
            given: Any = [address] if self.address_is_list else address
            source = super().source(**{self.address_option: given, "timeout_seconds": LIMIT_SECONDS})
            begun = time.monotonic()
            with pytest.raises(SourceUnavailable):
                self.pull(source)
            assert time.monotonic() - begun < LATEST_SECONDS
            source.close()

    def test_an_address_with_an_account_is_refused_without_showing_it(self) -> None:
        address = "http://admin:tr0ub4dor@127.0.0.1:9"
        given: Any = [address] if self.address_is_list else address
        with pytest.raises(ConfigurationError) as caught:
            self.source(**{self.address_option: given})
        assert "tr0ub4dor" not in str(caught.value)


class PushContract(SourceContract):
    """What holds for each source that is told."""

    received_ms: ClassVar[int] = NOW_MS

    def payloads(self) -> Sequence[Mapping[str, Any]]:
        """Well-formed payloads, at least one of them with a listener."""
        raise NotImplementedError(f"{type(self).__name__} lacks payloads().")

    def malformed(self) -> Sequence[Any]:
        """Payloads that break the format."""
        raise NotImplementedError(f"{type(self).__name__} lacks malformed().")

    def test_it_is_told(self) -> None:
        assert isinstance(self.source(), PushSource)

    def test_what_it_makes_of_a_call_is_well_formed_and_the_same_twice(self) -> None:
        source = self.source()
        told = []
        for payload in self.payloads():
            observations = source.receive(payload, received_ms=self.received_ms)
            assert list(observations) == list(source.receive(payload, received_ms=self.received_ms))
            for one in observations:
                self.assert_observation(one, source)
            told += observations
        assert told, "no payload has a listener in it"

    def test_what_breaks_the_format_is_refused_by_a_reason(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        source = self.source()
        for payload in self.malformed():
            with pytest.raises(MalformedRecord) as caught:
                pytest.fail(f"taken: {len(source.receive(payload, received_ms=self.received_ms))} observations")
            assert caught.value.reason
            self.assert_hidden(str(caught.value) + caught.value.reason, "the error")
        self.assert_hidden(caplog.text, "the log")


def _sorted(report: Report) -> list[Observation]:
    return sorted(report.observations, key=lambda one: (one.stream, one.client or "", one.started_ms, one.seen_ms))


def _told(report: Report) -> list[tuple[Any, ...]]:
    """What a report says, the instants of sightings left out: the clock goes on."""
    return [(one.stream, one.client, one.started_ms, one.ended, one.address, one.mark) for one in _sorted(report)]


def _target(request: httpx.Request) -> str:
    return f"{request.url.netloc.decode()}{request.url.raw_path.decode()}"


def _raise(error: httpx.HTTPError) -> httpx.Response:
    raise error


def _cut_at(cut: int) -> Any:
    return lambda request, answer: httpx.Response(answer.status_code, content=answer.content[:cut])


_PAGE = "<!DOCTYPE html><html><head><title>Log in</title></head><body><p>Please wait.</p></body></html>"

_DAMAGES: Mapping[str, Any] = {
    "is blank": lambda request, answer: httpx.Response(200, content=b""),
    "is white space": lambda request, answer: httpx.Response(200, content=b" \n"),
    "is a page": lambda request, answer: httpx.Response(200, text=_PAGE),
    "is another JSON": lambda request, answer: httpx.Response(200, json={"error": "none of yours"}),
    "is null": lambda request, answer: httpx.Response(200, json=None),
    "is cut": lambda request, answer: httpx.Response(200, content=answer.content[: len(answer.content) // 2]),
    "is moved": lambda request, answer: httpx.Response(302, headers={"Location": "/"}),
    "is refused": lambda request, answer: httpx.Response(401, text=_PAGE),
    "is forbidden": lambda request, answer: httpx.Response(403, text=_PAGE),
    "is missing": lambda request, answer: httpx.Response(404, text=_PAGE),
    "is broken": lambda request, answer: httpx.Response(500, text=_PAGE),
    "is broken though it looks well": lambda request, answer: httpx.Response(503, content=answer.content),
    "does not connect": lambda request, answer: _raise(httpx.ConnectError("no")),
    "is slow": lambda request, answer: _raise(httpx.ReadTimeout("slow")),
    "is no HTTP": lambda request, answer: _raise(httpx.RemoteProtocolError("odd")),
}
"""What can become of one page of a pull. None of it is an empty stream."""


@contextmanager
def _dripping() -> Any:
    """The address of a server that answers a blank at a time, for ever."""
    stop = threading.Event()

    class Dripping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            while not stop.wait(0.05):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return

        def log_message(self, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join(LATEST_SECONDS)
