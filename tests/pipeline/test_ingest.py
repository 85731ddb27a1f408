"""What a report becomes: sockets, sessions, coverage; the same in whatever order it is told."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.kernel.types import Address, ListenerMark, Observation
from aircox_listen_stats.models import Connection, Coverage, Inbox, Session, SourceState, StaleWindow, Stream
from aircox_listen_stats.pipeline import ingest, rebuild, recognise, secrets, stitching
from aircox_listen_stats.pipeline.ingest import store
from aircox_listen_stats.sources.base import Heard, Report

from .conftest import HOUR, T0, S, at, heard, poll, sessions, told

pytestmark = pytest.mark.django_db

POLL_STATEMENTS = 30
"""Of one poll that only sees again who was there; they come in pieces of a few hundred values."""


def take(*reports: Report, now: float = 600) -> None:
    for report in reports:
        store(report, now_ms=at(now))


def tables() -> dict[str, list[tuple]]:
    """What must not depend on the order of arrival."""
    return {
        "connections": sorted(
            Connection.objects.values_list(
                "source", "key", "stream__slug", "listener", "started", "seen", "ended", "told", "session__started"
            )
        ),
        "sessions": sorted(
            str(row) for row in Session.objects.values_list(
                "stream__slug", "listener", "started", "ended", "played_ms", "parts", "is_open", "is_long", "app"
            )
        ),
        "coverage": sorted(Coverage.objects.values_list("stream__slug", "started", "ended")),
    }  # fmt: skip


def test_a_listener_between_polls_is_open_until_a_poll_no_longer_shows_it(stream: Stream) -> None:
    take(poll(15, heard(1, 3, 15)), now=15)
    assert sessions() == [(3, 15, 12, "open")]
    take(poll(30, heard(1, 3, 30)), now=30)
    assert sessions() == [(3, 30, 27, "open")]
    take(poll(45), now=45)
    assert sessions() == [(3, 30, 27, "closed")]


def test_a_poll_sees_the_same_socket_by_number_not_by_exact_start(stream: Stream) -> None:
    take(told(heard(7, 10.4, 10.4)), poll(15, heard(7, 10, 15)))
    assert sessions() == [(10, 15, 5, "open")]


def test_a_failed_poll_ends_nobody_since_it_is_no_report(stream: Stream) -> None:
    take(poll(15, heard(1, 3, 15)))
    # the poll at 30 failed: nothing is stored; the next one shows the listener still there
    take(poll(60, heard(1, 3, 60)))
    assert sessions() == [(3, 60, 57, "open")]


def test_a_report_without_census_ends_nobody(stream: Stream) -> None:
    take(poll(15, heard(1, 3, 15)), told(heard(2, 20, 20)))
    assert [row[3] for row in sessions()] == ["open", "open"]


def test_an_end_that_was_told_beats_sightings_and_census_in_every_order(stream: Stream, fixed_secrets: None) -> None:
    reports = [
        told(heard(5, 2.3, 2.3)),
        poll(15, heard(5, 2, 15)),
        told(heard(5, 2, 21.5, ended=True)),
        poll(30),
    ]
    seen = set()
    for order in itertools.permutations(reports):
        Connection.objects.all().delete()
        Session.objects.all().delete()
        SourceState.objects.all().delete()
        Coverage.objects.all().delete()
        take(*order)
        assert sessions() == [(2, 21.5, 19.5, "closed")]
        seen.add(str(tables()))
    assert len(seen) == 1


def test_a_remove_for_a_socket_never_seen_open_creates_it_closed(stream: Stream) -> None:
    take(told(heard(9, 100, 160, ended=True)))
    assert sessions() == [(100, 160, 60, "closed")]


def test_a_late_sighting_after_a_told_end_is_ignored(stream: Stream) -> None:
    take(told(heard(9, 100, 160, ended=True)), poll(165, heard(9, 100, 165)))
    assert sessions() == [(100, 160, 60, "closed")]


def test_a_listener_that_a_census_missed_opens_again_when_seen_again(stream: Stream) -> None:
    take(poll(15, heard(1, 3, 15)), poll(30), poll(45, heard(1, 3, 45)))
    assert sessions() == [(3, 45, 42, "open")]


def test_a_census_taken_while_a_listener_comes_in_does_not_end_it(stream: Stream) -> None:
    take(told(heard(4, 14.6, 14.6)), poll(15))
    assert Connection.objects.get().ended is False
    take(poll(30, heard(4, 14, 30)))
    assert sessions() == [(14, 30, 16, "open")]


def test_a_restarted_server_gives_numbers_anew_and_all_older_sockets_have_ended(stream: Stream) -> None:
    take(
        poll(15, heard(1, 3, 15), heard(2, 4, 15)),
        poll(60, heard(1, 50, 60, who=77), server="run2"),
    )
    assert sessions() == [(3, 15, 12, "closed"), (4, 15, 11, "closed"), (50, 60, 10, "open")]


def test_sigkill_of_icecast_leaves_sockets_that_the_next_poll_ends_at_their_last_sighting(stream: Stream) -> None:
    other = Stream.objects.create(slug="low", station_id=1, source="ice")
    take(poll(15, heard(1, 3, 15), heard(2, 5, 15, stream="low"), streams=("live", "low")))
    # /low.mp3 is not up again yet, so that the new run's census does not cover it
    take(poll(90, server="run2"))
    assert sessions() == [(3, 15, 12, "closed"), (5, 15, 10, "closed")]
    assert Session.objects.filter(stream=other).count() == 1


def test_a_blank_station_is_a_census_and_everybody_has_left(stream: Stream) -> None:
    take(poll(15, heard(1, 3, 15)), poll(30))
    assert Connection.objects.open().count() == 0


def test_a_reconnect_within_the_gap_goes_on_and_one_after_it_does_not(stream: Stream) -> None:
    take(told(heard(1, 0, 100, ended=True, who=1), heard(2, 400, 460, ended=True, who=1)))
    assert sessions("parts") == [(0, 460, 160, "closed", [[0, 100_000], [400_000, 460_000]])]
    take(told(heard(3, 760.001, 800, ended=True, who=1)), now=900)
    assert [row[:3] for row in sessions()] == [(0, 460, 160), (760.001, 800, pytest.approx(39.999))]


def test_the_gap_is_the_one_of_the_station_s_rule_set(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {
        **settings.AIRCOX_LISTEN_STATS,
        "RULE_SET": "ours",
        "RULE_SETS": {"ours": {"gap_seconds": 30}},
    }
    take(told(heard(1, 0, 100, ended=True, who=1), heard(2, 130, 160, ended=True, who=1)))
    take(told(heard(3, 190.001, 300, ended=True, who=1)))
    assert [row[:3] for row in sessions()] == [(0, 160, 130), (190.001, 300, pytest.approx(109.999))]


def test_a_late_line_that_bridges_two_sessions_makes_them_one(stream: Stream) -> None:
    take(told(heard(1, 0, 100, ended=True, who=1), heard(2, 700, 800, ended=True, who=1)))
    assert len(sessions()) == 2
    take(told(heard(3, 350, 450, ended=True, who=1)))
    assert [row[:3] for row in sessions()] == [(0, 800, 300)]
    assert Connection.objects.filter(session=None).count() == 0


def test_two_sockets_at_once_from_one_address_are_two_listeners_of_a_household(stream: Stream) -> None:
    take(told(heard(1, 0, 600, ended=True, who=1), heard(2, 60, 660, ended=True, who=1)))
    assert [row[:3] for row in sessions()] == [(0, 600, 600), (60, 660, 600)]
    assert Session.objects.values("listener").distinct().count() == 2
    assert Connection.objects.values("listener").distinct().count() == 1


def test_a_line_without_a_number_is_stored_once_however_often_it_is_sent(stream: Stream) -> None:
    lines = [
        heard(None, 0, 60, ended=True, who=1),
        heard(None, 0, 60, ended=True, who=1),
        heard(None, 30, 90, ended=True, who=2),
    ]
    take(told(*lines))
    before = tables()
    assert Connection.objects.count() == 3
    take(told(*lines), told(lines[2]))
    assert tables() == before


def test_a_socket_keeps_the_mount_where_it_came_in(stream: Stream) -> None:
    Stream.objects.create(slug="low", station_id=1, source="ice")
    moved = poll(30, heard(1, 3, 30, stream="low"), streams=("live", "low"))
    left = told(heard(1, 3, 40, ended=True, stream="live"))
    for order in ((moved, left), (left, moved)):
        Connection.objects.all().delete()
        Session.objects.all().delete()
        take(*order)
        assert sessions("stream_id") == [(3, 40, 37, "closed", stream.pk)]


def test_a_clock_that_goes_back_makes_no_negative_session_and_the_count_goes_on(stream: Stream) -> None:
    take(poll(600, heard(1, 590, 600)), now=600)
    # Set back by an hour: Icecast counts the seconds since, so that the socket seems to have begun earlier.
    take(poll(-2985, heard(1, -3010, -2985)), now=-2985)
    assert sessions() == [(-3010, -2985, 25, "open"), (590, 600, 10, "closed")]
    take(poll(-2970, heard(1, -3010, -2970), heard(2, -2980, -2970)), now=-2970)
    take(poll(-2955, heard(2, -2980, -2955)), now=-2955)
    assert [row for row in sessions() if row[3] == "open"] == [(-2980, -2955, 25, "open")]
    assert all(row[1] >= row[0] and row[2] >= 0 for row in sessions())


def test_a_small_step_back_of_the_clock_ends_nobody(stream: Stream) -> None:
    take(poll(60, heard(1, 3, 60)), now=60)
    take(poll(58, heard(1, 3, 58)), now=58)
    assert sessions() == [(3, 60, 57, "open")]


def test_stored_rows_hold_no_address_and_no_agent(stream: Stream) -> None:
    take(poll(15, heard(1, 3, 15, agent="Secret Radio Thing/7 (kitchen)")))
    with connection.cursor() as cursor:
        for model in (Connection, Session, SourceState, StaleWindow):
            cursor.execute(f"SELECT * FROM {model._meta.db_table}")
            text = str(cursor.fetchall())
            assert "198.51" not in text
            assert "kitchen" not in text


def test_the_cursor_and_what_it_stands_for_are_stored_together_or_not_at_all(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aircox_listen_stats.pipeline import stitching

    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError("killed in the middle")

    with monkeypatch.context() as patched:
        patched.setattr(stitching, "restitch", fails)
        with pytest.raises(RuntimeError):
            take(poll(15, heard(1, 3, 15)))
    assert not SourceState.objects.exists()
    assert not Connection.objects.exists()
    take(poll(15, heard(1, 3, 15)))
    assert SourceState.objects.get().cursor == {"at_ms": at(15)}


@pytest.mark.django_db(transaction=True)
def test_nobody_is_recognised_while_the_write_lock_is_held(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand new agents take a second, and on SQLite aircox's Monitor would wait for all of it."""
    recognised = []
    plain = recognise._mark

    def noted(*args: Any) -> ListenerMark:
        recognised.append(connection.in_atomic_block)
        return plain(*args)

    monkeypatch.setattr(recognise, "_mark", noted)
    store(poll(15, heard(1, 0, 15)), now_ms=at(15))
    store(poll(30, heard(1, 0, 30), heard(2, 20, 30)), now_ms=at(30))
    store(told(heard(None, 0, 20, ended=True, who=3)), now_ms=at(31))
    assert recognised == [False, False, False]


@pytest.mark.django_db(transaction=True)
def test_a_report_that_failed_leaves_no_secret_that_nobody_else_knows(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("aircox_listen_stats.pipeline.stitching.restitch", fail)
        with pytest.raises(RuntimeError):
            store(poll(15, heard(1, 0, 15)), now_ms=at(15))
    ours = secrets.current(at(15))
    secrets.forget()
    assert secrets.current(at(15)).current == ours.current


@pytest.mark.django_db(transaction=True)
def test_a_report_that_comes_while_sessions_are_rebuilt_is_not_undone(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(poll(30, heard(1, 0, 30)), now_ms=at(30))
    # Something for the rebuild to write.
    Session.objects.update(country="XX")
    plain = stitching._known
    others: list[threading.Thread] = []

    def meanwhile(*args: Any) -> Any:
        if not others:
            others.append(threading.Thread(target=told_of_the_end))
            others[0].start()
            others[0].join(1.5)  # it waits for us, or is done by then
        return plain(*args)

    def told_of_the_end() -> None:
        try:
            store(told(heard(1, 0, 60, ended=True)), now_ms=at(61))
        finally:
            connection.close()

    monkeypatch.setattr(stitching, "_known", meanwhile)
    rebuild._restitch(1, T0, at(100))
    others[0].join(30)
    assert sessions("country") == [(0, 60, 60, "closed", "")]


def test_callbacks_are_deleted_with_what_they_told(stream: Stream) -> None:
    row = Inbox.objects.create(source="ice", received=at(1), payload={})
    store(Report(source="ice", observations=[heard(1, 1, 1)], inbox_ids=[row.pk]), now_ms=at(2))
    assert not Inbox.objects.exists()
    assert len(sessions()) == 1


def test_observations_of_an_unknown_stream_are_counted_and_left_out(stream: Stream) -> None:
    done = store(told(heard(1, 0, 5, stream="nobody")), now_ms=at(9))
    assert done.unknown_streams == 1
    assert sessions() == []


def test_sockets_behind_our_own_proxy_are_counted_once_each(stream: Stream) -> None:
    for second in (15, 30):
        take(poll(second, heard(1, 3, second, identity_known=False), heard(2, 3, second)))
    assert SourceState.objects.get(pk="ice").counts["identity_unknown"] == 1


PROXY = 200


def behind_proxy(*clients: int) -> list[Report]:
    """What is told of sockets behind our own proxy: only the callback of their coming knows who they are."""
    shown = [heard(one, 0, 15, who=PROXY, identity_known=False) for one in clients]
    came = [heard(one, 0.2, 0.2, who=one) for one in clients]
    left = [heard(one, 0, 20, who=PROXY, ended=True, identity_known=False) for one in clients]
    return [poll(15, *shown), told(*came), told(*left)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_an_ear_that_knows_who_it_is_wins_over_one_that_sees_our_proxy_in_every_order(
    stream: Stream, fixed_secrets: None, order: tuple[int, ...]
) -> None:
    reports = behind_proxy(1, 2)
    for number in order:
        store(reports[number], now_ms=at(30))
    expected = {identity(1), identity(2)}
    assert set(Connection.objects.values_list("listener", flat=True)) == expected
    assert set(Session.objects.values_list("listener", flat=True)) == expected
    assert [one[:4] for one in sessions()] == [(0, 20, 20, "closed")] * 2
    assert SourceState.objects.get(pk="ice").counts.get("identity_unknown", 0) == 0


def test_both_words_on_one_socket_in_one_report_are_the_same(stream: Stream, fixed_secrets: None) -> None:
    [_, came, left] = behind_proxy(1)
    store(told(*left.observations, *came.observations), now_ms=at(30))
    assert Session.objects.get().listener == identity(1)


def identity(number: int) -> int:
    """The key of the listener at that address."""
    address = heard(number, 0, 0).address
    assert address is not None
    return recognise.mark(address, secrets.current(at(30))).listener


def test_coverage_runs_together_over_one_missed_poll_and_not_over_more(stream: Stream) -> None:
    def cover(start: float, end: float) -> None:
        store(
            Report(source="ice", heard=[Heard(stream="live", started_ms=at(start), ended_ms=at(end))]),
            now_ms=at(end),
            join_ms=30 * S,
        )

    for start, end in ((0, 15), (15, 30), (60, 75), (200, 215), (106, 120)):
        cover(start, end)
    spans = [
        ((to_ms(a) - T0) / S, (to_ms(b) - T0) / S)
        for a, b in Coverage.objects.order_by("started").values_list("started", "ended")
    ]
    assert spans == [(0, 75), (106, 120), (200, 215)]
    cover(75, 200)
    assert Coverage.objects.count() == 1


def test_figures_become_stale_where_a_session_changed_in_the_studios_time(stream: Stream) -> None:
    Stream.objects.update(delay_ms=20 * S)
    take(told(heard(1, 100, 700, ended=True)))
    row = StaleWindow.objects.get()
    assert (row.station_id, row.kind) == (1, "audience")
    assert (to_ms(row.started) - T0, to_ms(row.ended) - T0) == (80 * S - 1, 680 * S + 1)


def test_a_session_that_only_goes_on_makes_only_its_end_stale(stream: Stream) -> None:
    take(poll(1000, heard(1, 0, 1000)), now=1000)
    StaleWindow.objects.all().delete()
    Coverage.objects.all().delete()
    store(Report(source="ice", observations=[heard(1, 0, 1015)]), now_ms=at(1015))
    row = StaleWindow.objects.get()
    assert (to_ms(row.started) - T0, to_ms(row.ended) - T0) == (1000 * S - 1, 1015 * S + 1)


def test_a_session_across_the_rotation_of_the_secret_stays_one(stream: Stream, fixed_secrets: None) -> None:
    # 04:00 in Brussels is 03:00 UTC: 17 hours after ten o'clock.
    rotation = 17 * HOUR // S

    def near(client: int, started: float, seen: float, **more: object) -> Report:
        return told(heard(client, rotation + started, rotation + seen, who=1, **more))  # type: ignore[arg-type]

    def take_at(report: Report, seconds: float) -> None:
        store(report, now_ms=at(rotation + seconds))

    take_at(near(1, -3600, -1), -1)
    take_at(near(1, -3600, 60), 60)  # still the same socket
    take_at(near(1, -3600, 120, ended=True), 120)
    take_at(near(2, 300, 300), 300)  # reconnects after the rotation
    take_at(near(2, 300, 400, ended=True), 400)
    take_at(near(3, 650, 700, ended=True), 700)  # and once more
    assert [(row[0] - rotation, row[1] - rotation) for row in sessions()] == [(-3600, 700)]
    take_at(near(4, 1001, 1100, ended=True), 1100)  # after the gap: somebody new
    assert Session.objects.values("listener").distinct().count() == 2


def test_an_observation_without_address_and_mark_is_refused_with_a_sentence(stream: Stream) -> None:
    with pytest.raises(ValueError, match="neither address nor mark"):
        take(told(Observation(stream="live", started_ms=at(0), seen_ms=at(1), client="1")))


def scripted(seed: int) -> list[Report]:
    """Polls and callbacks of random listeners, as two ears of one server tell them."""
    dice = random.Random(seed)
    reports: list[Report] = []
    lives = []
    for client in range(1, 25):
        start = dice.uniform(0, 900)
        lives.append((client, dice.randrange(1, 8), start, start + dice.choice([4, 40, 200, 600])))
    for second in range(15, 1700, 15):
        there = [one for one in lives if one[2] < second - 1 < one[3] - 1]
        reports.append(poll(second, *(heard(client, int(start), second, who=who) for client, who, start, _ in there)))
    for client, who, start, end in lives:
        if client % 3:
            reports.append(told(heard(client, round(start, 3), round(start, 3), who=who)))
        if client % 4:
            reports.append(told(heard(client, int(start), round(end, 3), who=who, ended=True)))
    return reports


@pytest.mark.parametrize(("seed", "at_once"), [*((seed, 500) for seed in range(6)), (0, 2), (1, 2)])
def test_order_of_arrival_and_resent_reports_change_nothing(
    stream: Stream, fixed_secrets: None, monkeypatch: pytest.MonkeyPatch, seed: int, at_once: int
) -> None:
    monkeypatch.setattr(ingest, "LISTED_AT_ONCE", at_once)
    reports = scripted(seed)
    take(*reports, now=2000)
    expected = tables()
    assert len(expected["sessions"]) > 5
    dice = random.Random(seed + 1000)
    for _ in range(2):
        for model in (Connection, Session, SourceState, Coverage):
            model.objects.all().delete()
        shuffled = reports + dice.sample(reports, 20)
        dice.shuffle(shuffled)
        take(*shuffled, now=2000)
        assert tables() == expected


def test_replaying_everything_changes_nothing(stream: Stream, fixed_secrets: None) -> None:
    reports = scripted(42)
    take(*reports, now=2000)
    expected = tables()
    take(*reports, now=2000)
    assert tables() == expected


@pytest.mark.parametrize("number", [50, 500])
def test_a_poll_asks_as_often_for_500_listeners_as_for_50(stream: Stream, number: int) -> None:
    """Sightings only extend what is there: a few statements for all of them together."""

    def crowd(second: float) -> Report:
        shown = [
            Observation(
                stream="live",
                started_ms=at(one % 60),
                seen_ms=at(second),
                client=str(one),
                address=Address(ip=f"198.18.{one // 200}.{one % 200}", agent="VLC/3"),
            )
            for one in range(number)
        ]
        return poll(second, *shown)

    store(crowd(75), now_ms=at(75))
    with CaptureQueriesContext(connection) as asked:
        done = store(crowd(90), now_ms=at(90))
    assert done.sessions.changed == number
    assert len(asked) <= POLL_STATEMENTS, [query["sql"][:80] for query in asked]
    assert {row[1] for row in sessions()} == {90}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_referrer_is_the_same_in_whatever_order_it_is_told(stream: Stream, order: tuple[int, ...]) -> None:
    reports = [
        told(heard(1, 3, 3, referrer="-")),
        told(heard(1, 3, 9, referrer="radio.example")),
        told(heard(1, 3, 20, ended=True)),
    ]
    take(*(reports[place] for place in order))
    assert [one.referrer for one in Connection.objects.all()] == ["radio.example"]
    assert [one.referrer for one in Session.objects.all()] == ["radio.example"]


def test_a_session_has_the_referrer_of_its_first_socket_that_tells_one(stream: Stream) -> None:
    take(
        told(
            heard(1, 0, 60, ended=True, who=7),
            heard(2, 90, 120, ended=True, who=7, referrer="radio.example"),
            heard(3, 150, 200, ended=True, who=7, referrer="other.example"),
            heard(4, 0, 60, ended=True, who=8),
        )
    )
    assert sorted(str(one.referrer) for one in Session.objects.all()) == ["None", "radio.example"]


# Long lists ------------------------------------------------------------------------------------------


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(ingest, "LISTED_AT_ONCE", 3)
    return 3


def evening() -> list[Report]:
    """Many come, stay, come from another mount's list twice, are restarted with the server, and leave."""
    return [
        poll(15, *(heard(n, n % 9, 15) for n in range(20))),
        poll(30, *(heard(n, n % 9, 30) for n in range(5, 30)), heard(7, 7, 30)),
        told(heard(6, 6, 33, ended=True), heard(31, 32, 33)),
        poll(45, *(heard(n, n % 9, 45) for n in range(8, 12))),
        poll(60, *(heard(n, 50 + n % 7, 60, who=n + 3) for n in range(1, 15)), server="run2"),
        poll(400),
    ]


def test_a_long_list_is_stored_piece_by_piece_and_the_rows_are_those_of_one(
    stream: Stream, fixed_secrets: None, short_pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_of_one: list[dict[str, list[tuple]]] = []
    for at_once in (10_000, short_pieces):
        monkeypatch.setattr(ingest, "LISTED_AT_ONCE", at_once)
        for report in evening():
            done = store(report, now_ms=at(400))
        assert not done.more
        rows_of_one.append(tables())
        Connection.objects.all().delete()
        Session.objects.all().delete()
        Coverage.objects.all().delete()
        SourceState.objects.all().delete()
    assert rows_of_one[0] == rows_of_one[1]
    assert len(rows_of_one[0]["sessions"]) > 30


def test_no_transaction_of_a_list_writes_more_than_a_piece(
    stream: Stream, short_pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one aircox's Monitor waits on SQLite."""
    touched: list[int] = []
    restitch = ingest.stitching.restitch
    monkeypatch.setattr(
        ingest.stitching, "restitch", lambda who, **more: (touched.append(len(who)), restitch(who, **more))[1]
    )
    store(poll(15, *(heard(n, 1, 15) for n in range(20))), now_ms=at(15))
    come, touched[:] = list(touched), []
    done = store(poll(30), now_ms=at(30))
    assert come == [3, 3, 3, 3, 3, 3, 2]
    assert touched == [3, 3, 3, 3, 3, 3, 2]
    assert done.connections_ended == 20
    assert not Session.objects.filter(is_open=True).exists()


@pytest.mark.parametrize("crash", range(1, 8))
def test_after_a_crash_between_two_pieces_the_next_list_makes_it_good(
    stream: Stream, fixed_secrets: None, short_pieces: int, monkeypatch: pytest.MonkeyPatch, crash: int
) -> None:
    """Nobody has left by it, the cursor waits, and the next list names who is there again."""
    first = poll(15, *(heard(n, 1, 15) for n in range(12)))
    second = poll(30, *(heard(n, 1, 30) for n in range(6, 18)))
    one_by_one = ingest._store
    calls = iter(range(crash))

    def failing(*args: Any, **more: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return one_by_one(*args, **more)

    monkeypatch.setattr(ingest, "_store", failing)
    with contextlib.suppress(KeyboardInterrupt):
        store(first, now_ms=at(15))
        assert SourceState.objects.get().cursor == first.cursor
        store(second, now_ms=at(30))
    assert not Connection.objects.filter(ended=True).exists() or SourceState.objects.get().cursor == second.cursor
    monkeypatch.setattr(ingest, "_store", one_by_one)
    store(second, now_ms=at(30))
    closed = [one for one in sessions() if one != (1, 30, 29, "open")]
    assert len(sessions()) - len(closed) == 12
    assert set(closed) <= {(1, 15, 14, "closed")}
    assert len(closed) == min(6, 3 * crash)  # whom the list that was cut never named was never heard
