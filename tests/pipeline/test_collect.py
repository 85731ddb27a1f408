"""The collector: what is due is done, trouble stays where it is, one of many is active."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from aircox_listen_stats.errors import SourceUnavailable
from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import (
    Audience,
    Coverage,
    Inbox,
    Lease,
    LiveState,
    Session,
    SourceState,
    StaleWindow,
    Stream,
)
from aircox_listen_stats.pipeline import collect, lease, live, rollup, timeline, windows
from aircox_listen_stats.pipeline.collect import Collector
from aircox_listen_stats.sources.urlauth import UrlAuthSource

from .conftest import SETTINGS, T0, at, heard, poll
from .scripted import OneStation, ScriptedSource
from .test_rollup import airing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_playout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airings are put there by the tests; aircox's books are the timeline's own tests."""
    monkeypatch.setattr(timeline, "refresh", lambda *args, **kwargs: timeline.TimelineChange())
    monkeypatch.setattr(live.aircox, "log", OneStation)


def collector(*script: Any, **more: Any) -> Collector:
    source = ScriptedSource("ice", list(script))
    return Collector(sources={"ice": source, **more.pop("sources", {})}, onair=OneStation(), **more)  # type: ignore[arg-type]


def step_until(one: Collector, done: Callable[[], bool], *, since: float = 100) -> float:
    """Steps a second at a time until ``done()``; the second at which it was."""
    for second in range(200):
        one.step(now_ms=at(since + second))
        if done():
            return since + second
        time.sleep(0.01)
    raise AssertionError("It was not done within 200 steps.")


def told(one: Collector) -> int:
    state = SourceState.objects.filter(pk="ice").first()
    return int(state.cursor.get("told", 0)) if state else 0


def test_it_hears_stitches_rolls_up_and_tells(db: None) -> None:
    airing(0, 60)
    one = collector(poll(15, heard(1, 3, 15)), poll(90, heard(1, 3, 90)), poll(105))
    step_until(one, lambda: told(one) == 3 and Audience.objects.filter(sessions=1).exists())
    assert Session.objects.get().is_open is False
    found = dict(Audience.objects.values_list("rule_set", "listening_ms"))
    assert found == {**dict.fromkeys(rollup.every_rule_set(), 57_000), "nielsen5": 0}
    assert LiveState.objects.get(pk=1).payload["public"]["station"] == "campus"
    assert Stream.objects.get().station_id == 1
    one.close()


def test_a_source_that_cannot_be_heard_ends_nobody_and_is_asked_again(
    db: None, caplog: pytest.LogCaptureFixture
) -> None:
    one = collector(
        poll(15, heard(1, 3, 15)),
        SourceUnavailable("Source 'ice': Icecast does not answer."),
        poll(200, heard(1, 3, 200)),
    )
    step_until(one, lambda: SourceState.objects.filter(failures=1).exists())
    assert Session.objects.get().is_open
    step_until(one, lambda: told(one) == 2, since=300)
    state = SourceState.objects.get(pk="ice")
    assert (state.failures, state.error) == (0, "")
    assert "Nobody is taken to have left" in caplog.text
    one.close()


def test_an_error_of_one_source_stops_no_other_and_its_text_is_not_logged(
    db: None, caplog: pytest.LogCaptureFixture
) -> None:
    broken = ScriptedSource("broken", [RuntimeError("203.0.113.9 did something")])
    one = collector(poll(15, heard(1, 3, 15)), sources={"broken": broken})
    step_until(one, lambda: told(one) == 1 and SourceState.objects.filter(pk="broken", failures__gt=0).exists())
    assert SourceState.objects.get(pk="broken").error.startswith("RuntimeError in pull")
    assert "RuntimeError" in caplog.text
    assert "203.0.113.9" not in caplog.text
    one.close()


def test_an_error_of_one_station_stops_no_other(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refresh(station_id: int, *args: Any, **kwargs: Any) -> timeline.TimelineChange:
        raise ZeroDivisionError

    monkeypatch.setattr(timeline, "refresh", refresh)
    one = collector(poll(15, heard(1, 3, 15)))
    step_until(one, lambda: told(one) == 1 and LiveState.objects.exists())
    assert "timeline of station 1" in one.progress()["trouble"]
    one.close()


def test_one_of_two_collectors_is_active_and_the_other_takes_over_after_a_kill(db: None) -> None:
    first, second = collector(), collector()
    first.step(now_ms=at(0))
    second.step(now_ms=at(0))
    assert (first.is_active, second.is_active) == (True, False)
    # The first is killed: it renews no more.
    for seconds in range(1, 29):
        second.step(now_ms=at(seconds))
    assert second.is_active is False
    step_until(second, lambda: second.is_active, since=29)
    first.step(now_ms=at(40))
    assert first.is_active is False
    first.close()
    second.close()


def test_a_clean_stop_lets_a_standby_take_over_at_once(db: None) -> None:
    first, second = collector(clock=lambda: at(5)), collector()
    first.step(now_ms=at(0))
    first.close()
    second.step(now_ms=at(6))
    assert second.is_active
    second.close()


def test_a_lease_of_a_clock_that_was_wrong_is_free(db: None) -> None:
    assert lease.acquire("x", "a", now_ms=at(100_000))
    assert lease.acquire("x", "b", now_ms=at(0))
    assert not lease.acquire("x", "c", now_ms=at(29))


def test_a_late_renewal_is_no_loss_unless_somebody_else_took_over(db: None) -> None:
    lease.acquire("x", "a", now_ms=at(0))
    assert lease.renew("x", "a", now_ms=at(100), progress={})
    lease.acquire("x", "b", now_ms=at(200))
    assert not lease.renew("x", "a", now_ms=at(201), progress={})


def test_who_lost_the_lease_while_computing_writes_no_figures(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slept wakes up with figures of before; another one has gone on."""
    airing(0, 60)
    one = collector(poll(15, heard(1, 3, 15)), poll(90, heard(1, 3, 90)))
    plain = rollup._compute

    def slept(*args: Any) -> Any:
        computed = plain(*args)
        assert lease.acquire(lease.COLLECTOR, "another", now_ms=at(9000))
        return computed

    monkeypatch.setattr(rollup, "_compute", slept)
    step_until(one, lambda: not one.is_active)
    assert Audience.objects.count() == 0
    assert StaleWindow.objects.exists()
    assert Lease.objects.get(pk=lease.COLLECTOR).holder == "another"
    one.close()
    assert Lease.objects.get(pk=lease.COLLECTOR).expires == from_ms(at(9030))


def test_who_lost_the_lease_while_hearing_stores_nothing(db: None) -> None:
    one = collector(poll(15, heard(1, 3, 15)))
    one.step(now_ms=at(0))
    assert lease.acquire(lease.COLLECTOR, "another", now_ms=at(31))
    # The renewal is not due yet: it is lost when what was asked for is there.
    for _ in range(2000):
        one.step(now_ms=at(1))
        if not one.is_active:
            break
        time.sleep(0.01)
    assert (one.is_active, Session.objects.count(), told(one)) == (False, 0, 0)
    one.close()


def test_a_step_of_long_computing_keeps_the_lease(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    passed_ms = [0]

    def slow(*args: Any, **kwargs: Any) -> int:
        passed_ms[0] += 20_000
        return 0

    monkeypatch.setattr(collect, "_monotonic_ms", lambda: passed_ms[0])
    monkeypatch.setattr(timeline, "refresh", slow)
    monkeypatch.setattr(rollup, "refresh", slow)
    one = collector()
    one.step(now_ms=at(0))
    assert passed_ms[0] >= 40_000
    assert not lease.acquire(lease.COLLECTOR, "another", now_ms=at(passed_ms[0] / 1000 + 5))
    one.close()


def test_a_pull_counts_back_from_its_own_instant_in_a_step_of_long_work(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_ms = [0]

    def slow(self: Collector, *args: Any) -> None:
        passed_ms[0] += 1_400

    asked_ms: list[int] = []

    def pull(self: ScriptedSource, cursor: Any, *, now_ms: int) -> Any:
        asked_ms.append(now_ms)
        raise SourceUnavailable("Source 'ice': nothing more is asked.")

    monkeypatch.setattr(collect, "_monotonic_ms", lambda: passed_ms[0])
    monkeypatch.setattr(Collector, "_keep_streams", slow)
    monkeypatch.setattr(ScriptedSource, "pull", pull)
    one = collector()
    step_until(one, lambda: bool(asked_ms))
    assert asked_ms[0] == at(100) + 1_400
    one.close()


def test_callbacks_become_sessions_and_leave_the_inbox(db: None, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {
        **SETTINGS,
        "SOURCES": {"cb": {"backend": "urlauth"}},
        "STREAMS": {"live": {"source": "cb", "station": 1}},
    }
    one = Collector(sources={"cb": UrlAuthSource("cb", {"/live": "live"}, {})}, onair=OneStation())  # type: ignore[arg-type]
    mark = {"listener": 5, "previous": None, "country": "BE", "app": "VLC", "exclusion": "", "rule": ""}
    for seconds, action, duration in ((10, "listener_add", None), (95.5, "listener_remove", 85)):
        payload = {"action": action, "client": "3", "stream": "live", "duration_s": duration, "mark": mark}
        Inbox.objects.create(source="cb", received=from_ms(at(seconds)), payload=payload)
    Inbox.objects.create(source="cb", received=from_ms(at(96)), payload={"action": "listener_remove"})
    step_until(one, lambda: not Inbox.objects.exists())
    session = Session.objects.get()
    assert (to_ms(session.started), to_ms(session.ended), session.country) == (at(10), at(95.5), "BE")
    assert SourceState.objects.get(pk="cb").counts == {"read": 3, "kept": 2, "refused_payload": 1}
    one.close()


@pytest.mark.slow
def test_a_source_that_is_only_told_is_heard_while_it_is_told_something(db: None, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {
        **SETTINGS,
        "SOURCES": {"cb": {"backend": "urlauth"}},
        "STREAMS": {"live": {"source": "cb", "station": 1}},
    }
    one = Collector(sources={"cb": UrlAuthSource("cb", {"/live": "live"}, {})}, onair=OneStation())  # type: ignore[arg-type]
    one.step(now_ms=at(0))
    assert not Coverage.objects.exists()
    mark = {"listener": 5, "previous": None, "country": "", "app": "", "exclusion": "", "rule": ""}
    payload = {"action": "listener_remove", "client": "3", "stream": "live", "duration_s": 5, "mark": mark}
    Inbox.objects.create(source="cb", received=from_ms(at(10)), payload=payload)
    for seconds in range(10, 24 * 3600, 600):
        one.step(now_ms=at(seconds))
    row = Coverage.objects.get()
    assert 5.8 * 3600 < (to_ms(row.ended) - T0) / 1000 <= 6 * 3600 + 10
    one.close()


def test_a_long_stale_window_is_worked_off_a_day_at_a_time_newest_first(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = 86_400
    StaleWindow.objects.create(station_id=1, kind="audience", started=from_ms(at(-3 * day)), ended=from_ms(at(0)))
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(
        rollup,
        "refresh",
        lambda station, start, end, **kwargs: asked.append(((start - T0) / 1000 / day, (end - T0) / 1000 / day)),
    )
    one = collector()
    step_until(one, lambda: not StaleWindow.objects.exists())
    pieces = [pair for pair in asked if pair[1] - pair[0] > 0.5]
    assert pieces == [(-1, 0), (-2, -1), (-3, -2)]
    one.close()


def test_no_write_lock_is_held_while_stale_windows_are_computed(stream: Stream) -> None:
    """On SQLite aircox's Monitor would wait for it; and what becomes stale meanwhile is not forgotten."""
    row = {"station_id": 1, "kind": StaleWindow.AUDIENCE}
    StaleWindow.objects.create(**row, started=from_ms(T0), ended=from_ms(at(60)))

    def compute(started_ms: int, ended_ms: int) -> None:
        assert not connection.in_atomic_block
        assert StaleWindow.objects.count() == 1, "killed here, the next run must find it"
        StaleWindow.objects.create(**row, started=from_ms(T0), ended=from_ms(at(60)))

    assert windows.work_off(StaleWindow.AUDIENCE, 1, compute, put_off=windows.PutOff(), now_ms=T0) == 1
    assert StaleWindow.objects.count() == 1


def test_a_window_that_cannot_be_computed_holds_up_no_older_one_and_is_tried_again(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = 86_400
    for days in (0, 3):
        bounds = {"started": from_ms(at(-days * day - 60)), "ended": from_ms(at(-days * day))}
        StaleWindow.objects.create(station_id=1, kind=StaleWindow.AUDIENCE, **bounds)
    computed: list[int] = []
    is_mended = [False]

    def refresh(station_id: int, started_ms: int, ended_ms: int, **kwargs: Any) -> int:
        if ended_ms == T0 and not is_mended[0]:
            raise ZeroDivisionError
        computed.append(ended_ms)
        return 0

    monkeypatch.setattr(rollup, "refresh", refresh)
    one = collector()
    step_until(one, lambda: at(-3 * day) in computed)
    assert StaleWindow.objects.get().ended == from_ms(T0)
    is_mended[0] = True
    step_until(one, lambda: not StaleWindow.objects.exists(), since=100 + 400)
    assert T0 in computed
    one.close()


def test_provisional_figures_settle_by_themselves_when_their_time_has_come(stream: Stream) -> None:
    airing(0, 60)
    rollup.refresh(1, at(0), at(60), now_ms=at(100))
    one = collector()
    step_until(one, lambda: not Audience.objects.filter(settled=False).exists(), since=60 + 3600)
    assert dict(Audience.objects.values_list("rule_set", "version")) == dict.fromkeys(rollup.every_rule_set(), 1)
    one.close()


def test_run_ends_soon_after_it_is_told_to_and_lets_the_lease_go(db: None) -> None:
    from django.db import connections

    one = collector()
    stop = threading.Event()

    def run() -> None:
        one.run(stop)
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 60
    while not one.is_active and time.monotonic() < deadline:
        time.sleep(0.05)
    assert one.is_active
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert to_ms(Lease.objects.get(pk="collector").expires) <= time.time() * 1000


def test_back_off_doubles_up_to_a_minute_with_jitter() -> None:
    waits = [collect._back_off_seconds(15, failures) for failures in (1, 2, 3, 50)]
    for wait, middle in zip(waits, (15, 30, 60, 60), strict=True):
        assert 0.8 * middle <= wait <= 1.2 * middle


def test_its_log_holds_no_address(db: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aircox_listen_stats")
    one = collector(poll(15, heard(1, 3, 15)), poll(30))
    step_until(one, lambda: told(one) == 2)
    one.close()
    assert "198.51" not in caplog.text
    assert "VLC" not in caplog.text
