"""The audience of airings: what is written, when it settles, what later knowledge does to it."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import Airing, Audience, Coverage, Session, SourceState, StaleWindow, Stream
from aircox_listen_stats.pipeline import retention, rollup
from aircox_listen_stats.pipeline.ingest import store
from aircox_listen_stats.sources.base import Report

from .conftest import HOUR, MINUTE, SETTINGS, T0, at, heard

pytestmark = pytest.mark.django_db

LATER = at(10 * 3600)


def airing(start: float, end: float, *, layer: str = "diffusion", key: str = "", **more: Any) -> Airing:
    return Airing.objects.create(
        station_id=1,
        layer=layer,
        key=key or f"{layer}{start}",
        started=from_ms(at(start)),
        ended=from_ms(at(end)),
        start_basis="observed",
        end_basis="observed",
        **more,
    )


def session(stream: Stream, start: float, end: float, **more: Any) -> Session:
    parts = more.get("parts")
    played = sum(b - a for a, b in parts) if parts else round((end - start) * 1000)
    return Session.objects.create(
        stream=stream,
        started=from_ms(at(start)),
        ended=from_ms(at(end)),
        played_ms=more.pop("played_ms", played),
        is_long=end - start > 4 * 3600,
        source="ice",
        **{"listener": Session.objects.count() + 1, **more},
    )


def cover(stream: Stream, start: float, end: float) -> None:
    Coverage.objects.create(stream=stream, started=from_ms(at(start)), ended=from_ms(at(end)))


def refresh(now: int = LATER, **more: Any) -> int:
    return rollup.refresh(1, T0 - HOUR, T0 + 5 * HOUR, now_ms=now, **more)


def oracle(stream: Stream) -> None:
    """FIGURES: sessions A to F of one hour, each line its own session."""
    clock = [(-10, 20), (0, 4 + 59 / 60), (10, 16), (40, 40.75), (30, 90), (14, 19), (25, 30), (45, 48), (50, 53)]
    who = [1, 2, 3, 3, 4, 5, 5, 6, 6]
    for (start, end), listener in zip(clock, who, strict=True):
        session(stream, start * 60, end * 60, listener=listener)


def test_the_oracle_hour(stream: Stream) -> None:
    oracle(stream)
    p, q = airing(0, 1800), airing(1800, 3600)
    refresh()
    first, second = Audience.objects.get(airing=p), Audience.objects.get(airing=q)
    assert (first.listening_ms, first.listeners) == (2_459_000, 4)
    assert (second.listening_ms, second.listeners) == (2_160_000, 2)
    assert (first.peak, to_ms(first.peak_at)) == (3, at(14 * 60))
    assert first.inherited + first.joined == first.sessions == first.left + first.kept
    assert sum(first.curve) * MINUTE == pytest.approx(2_459_000, abs=30)
    assert len(first.curve) == len(first.retained) == 30
    assert first.retained[0] == first.at_start == 2


def test_twice_is_once(stream: Stream) -> None:
    oracle(stream)
    airing(0, 1800)
    assert refresh() == 1
    assert refresh() == 0
    assert Audience.objects.get().version == 1


def test_an_open_session_counts_until_it_ends_too_short(stream: Stream) -> None:
    """Nobody knows yet how long it will be; without it the curve of what is on air would fall at its end."""
    running = airing(0, 3600, is_running=True)
    there = session(stream, -600, 300, is_open=True)
    new = session(stream, 270, 300, is_open=True)
    refresh(now=at(300))
    row = Audience.objects.get(airing=running)
    assert (row.sessions, row.at_end, row.curve[-1]) == (2, 2, 1.5)
    for one in (there, new):
        Session.objects.filter(pk=one.pk).update(is_open=False)
    refresh(now=at(310))
    row.refresh_from_db()
    assert (row.sessions, row.peak) == (1, 1)


def test_a_session_below_the_minimum_counts_only_where_all_count(stream: Stream) -> None:
    session(stream, 10, 60)
    one = airing(0, 600)
    refresh(rule_sets=["triton", "all", "nielsen5"])
    assert {row.rule_set: row.sessions for row in one.audiences.all()} == {"triton": 0, "all": 1, "nielsen5": 0}


def test_an_excluded_session_is_kept_and_not_counted(stream: Stream) -> None:
    session(stream, 0, 600, exclusion="bot", rule="crawlerdetect")
    session(stream, 0, 600)
    airing(0, 600)
    refresh()
    assert Audience.objects.get().sessions == 1
    assert Session.objects.count() == 2


def test_what_was_heard_counts_by_parts_and_who_stayed_by_the_hull(stream: Stream) -> None:
    session(stream, -60, 660, parts=[[0, 160_000], [400_000, 720_000]])
    airing(0, 600)
    refresh()
    row = Audience.objects.get()
    assert (row.listening_ms, row.stayed, row.at_start, row.at_end) == (360_000, 1, 1, 1)


def test_the_delay_of_a_stream_lays_listening_over_what_was_heard(stream: Stream) -> None:
    Stream.objects.update(delay_ms=30_000)
    session(stream, 30, 630)
    cover(stream, 30, 630)
    airing(0, 600)
    refresh()
    row = Audience.objects.get()
    assert (row.listening_ms, row.stayed, row.coverage) == (600_000, 1, 1.0)


def test_two_streams_of_a_station_are_one_audience(stream: Stream) -> None:
    other = Stream.objects.create(slug="low", station_id=1, source="ice")
    Stream.objects.create(slug="elsewhere", station_id=2, source="ice")
    session(stream, 0, 600, listener=1)
    session(other, 0, 600, listener=1)
    session(other, 0, 300, listener=2)
    airing(0, 600)
    refresh()
    row = Audience.objects.get()
    assert (row.sessions, row.listeners, row.peak) == (3, 2, 3)


def test_coverage_is_the_share_that_was_observed_not_zero_listening(stream: Stream) -> None:
    cover(stream, -100, 150)
    cover(stream, 450, 900)
    airing(0, 600)
    refresh()
    assert Audience.objects.get().coverage == 0.5


def test_nobody_listening_is_a_row_of_zeros(stream: Stream) -> None:
    airing(0, 600)
    refresh()
    row = Audience.objects.get()
    assert (row.sessions, row.peak, row.peak_at, row.listening_ms) == (0, 0, None, 0)


def test_a_running_airing_is_computed_up_to_what_was_heard(stream: Stream) -> None:
    """Those who are there were last seen by the last census; the seconds since are nobody's leaving."""
    running = airing(0, 3600, is_running=True)
    session(stream, -60, 595, is_open=True)
    SourceState.objects.create(source=stream.source, heard=from_ms(at(595)))
    refresh(now=at(600))
    row = Audience.objects.get(airing=running)
    assert (row.at_end, row.kept, row.left) == (1, 1, 0)
    assert row.curve == [1.0] * 10
    assert (row.listening_ms, to_ms(row.computed)) == (595_000, at(595))


def test_where_nothing_was_heard_for_long_a_running_airing_goes_on_to_now(stream: Stream) -> None:
    running = airing(0, 3600, is_running=True)
    session(stream, -60, 100, is_open=True)
    SourceState.objects.create(source=stream.source, heard=from_ms(at(100)))
    cover(stream, -60, 100)
    refresh(now=at(600))
    row = Audience.objects.get(airing=running)
    assert to_ms(row.computed) == at(600)
    assert row.coverage == pytest.approx(1 / 6, abs=1e-4)


def test_an_airing_that_began_after_the_last_census_waits_for_the_next(stream: Stream) -> None:
    running = airing(598, 3600, is_running=True)
    SourceState.objects.create(source=stream.source, heard=from_ms(at(595)))
    refresh(now=at(600))
    assert not Audience.objects.filter(airing=running).exists()


def test_a_running_airing_is_computed_up_to_now(stream: Stream) -> None:
    session(stream, 0, 300, is_open=True)
    airing(0, 3600, is_running=True)
    refresh(now=at(300))
    row = Audience.objects.get()
    assert (row.listening_ms, row.settled, row.version, row.kept) == (300_000, False, 0, 1)


def test_an_airing_in_the_future_has_no_audience_yet(stream: Stream) -> None:
    airing(3600, 7200)
    assert refresh(now=at(600)) == 0


@pytest.mark.parametrize(
    ("now", "is_open", "settled"),
    [(600 + 3600, False, True), (600 + 3599, False, False), (600 + 3600, True, False)],
)
def test_an_airing_settles_when_nothing_late_can_come_and_everybody_has_left(
    stream: Stream, now: float, is_open: bool, settled: bool
) -> None:
    session(stream, 0, 500, is_open=is_open)
    airing(0, 600)
    refresh(now=at(now))
    row = Audience.objects.get()
    assert (row.settled, row.version) == (settled, int(settled))


def test_a_listener_who_tuned_in_later_and_is_still_there_keeps_nothing_provisional(stream: Stream) -> None:
    session(stream, 601, 5000, is_open=True)
    airing(0, 600)
    refresh(now=at(6000))
    assert Audience.objects.get().settled


def test_settled_figures_that_change_become_a_new_version_with_a_note(stream: Stream) -> None:
    session(stream, 0, 600)
    airing(0, 600)
    refresh()
    session(stream, 0, 300)
    assert refresh() == 1
    row = Audience.objects.get()
    assert (row.version, row.settled, row.sessions) == (2, True, 2)
    note = row.changes[0]
    assert note["version"] == 2
    assert note["before"]["sessions"] == 1
    assert note["before"]["listening_ms"] == 600_000
    assert refresh() == 0


def test_figures_outlive_the_sessions_that_they_were_made_of(stream: Stream, settings: Any) -> None:
    session(stream, 0, 600)
    airing(0, 600)
    refresh()
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "KEEP_SESSIONS_DAYS": 1}
    much_later = at(2 * 86400)
    assert retention.prune(now_ms=much_later).sessions == 1
    assert refresh(now=much_later) == 0
    assert Audience.objects.get().sessions == 1
    # Keeping them longer from now on does not bring the deleted ones back.
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "KEEP_SESSIONS_DAYS": 100}
    assert refresh(now=much_later) == 0
    assert Audience.objects.get().sessions == 1


def test_a_session_of_many_hours_is_found_from_any_window_inside_it(stream: Stream) -> None:
    session(stream, -20 * 3600, 20 * 3600)
    session(stream, -20 * 3600, 20 * 3600, is_open=True)
    session(stream, -3.5 * 3600, 300)
    airing(0, 600)
    refresh(now=at(21 * 3600))
    assert Audience.objects.get().sessions == 3


def test_a_sound_has_a_curve_and_a_track_has_none(stream: Stream) -> None:
    session(stream, 0, 600)
    airing(0, 300, layer="sound")
    airing(0, 200, layer="track")
    refresh()
    assert {row.airing.layer: len(row.curve) for row in Audience.objects.all()} == {"sound": 5, "track": 0}


def test_a_window_of_many_airings_costs_a_handful_of_queries(stream: Stream) -> None:
    oracle(stream)
    for number in range(60):
        airing(number * 60, number * 60 + 60, layer="track")
    refresh()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        refresh()
    assert len(queries) <= 8, [query["sql"][:90] for query in queries]


def test_airings_that_are_over_lose_an_open_session_that_ended_with_too_little_in_each_quarter_hour(
    stream: Stream, settings: Any
) -> None:
    """Four minutes on either side of a quarter-hour's border: eight played, and no quarter-hour with five."""
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "RULE_SET": "nielsen5"}
    assert T0 % 900_000 == 0
    start, end = 900 - 240, 900 + 240
    over = airing(0, 720)

    def hear(until: float, *, ended: bool) -> None:
        store(Report(source="ice", observations=[heard(1, start, until, ended=ended)]), now_ms=at(until))
        for row in StaleWindow.objects.all():
            rollup.refresh(1, to_ms(row.started), to_ms(row.ended), now_ms=at(until))
        StaleWindow.objects.all().delete()

    for until in (start + 60, start + 310, end - 15):
        hear(until, ended=False)
    assert Audience.objects.get(airing=over).sessions == 1
    hear(end, ended=True)
    assert Audience.objects.get(airing=over).sessions == 0


@pytest.mark.parametrize("swept_at_once", [1, 20, rollup.SWEPT_AT_ONCE])
def test_all_rule_sets_at_once_are_what_each_is_alone(
    stream: Stream, settings: Any, monkeypatch: pytest.MonkeyPatch, swept_at_once: int
) -> None:
    """However many of them are laid one after the other and swept together: one, two, all."""
    monkeypatch.setattr(rollup, "SWEPT_AT_ONCE", swept_at_once)
    settings.AIRCOX_LISTEN_STATS = {
        **SETTINGS,
        "RULE_SETS": {"ours": {"minimum_seconds": 400}, "other_gap": {"gap_seconds": 60}},
    }
    oracle(stream)
    airing(0, 3600)
    airing(900, 1800, layer="track")
    names = rollup.every_rule_set()
    assert names == ("triton", "nielsen5", "acpm30", "openbroadcast", "all", "ours")

    def figures() -> dict[tuple[int, str], tuple[Any, ...]]:
        rows = Audience.objects.values_list("airing", "rule_set", *rollup.FIGURES, "settled", "version")
        return {row[:2]: row[2:] for row in rows}

    assert refresh(rule_sets=names) == 2 * len(names)
    at_once = figures()
    assert refresh(rule_sets=names) == 0, "twice is once"
    Audience.objects.all().delete()
    for name in names:
        assert refresh(rule_sets=[name]) == 2
    assert figures() == at_once
    assert len({row[1] for row in at_once.values()}) > 3, "the rule-sets count differently"
