"""Tables by country, app and referrer: what plain sums say, and unknown where neither days nor sessions are kept."""

from __future__ import annotations

import csv
import datetime as dt
import io
import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from aircox_listen_stats import conf
from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import Airing, DayShare, Session
from aircox_listen_stats.pipeline import shares as days
from aircox_listen_stats.reports import shares, spans
from aircox_listen_stats.reports.amounts import StandsOn
from aircox_listen_stats.reports.periods import Scope, ScopeKind
from aircox_listen_stats.reports.shares import ShareKind, ShareTable
from aircox_listen_stats.reports.spans import Span

from .conftest import LENGTH, NOW, Crowd, at, prune, second

pytestmark = pytest.mark.django_db

STATION = Scope.station(1)
DAY = dt.date(2026, 10, 24)
"""25 hours, from 04:00: seconds 14,400 to 104,400."""
COUNTRIES = ("BE", "FR", "NL", "")


def come(crowd: Crowd, seed: int, number: int = 80) -> None:
    crowd.come(seed, number)
    chance = random.Random(seed)
    made = list(Session.objects.all())
    for one in made:
        one.country, one.app = chance.choice(COUNTRIES), chance.choice(("VLC", "Sonos"))
        one.referrer = chance.choice((None, "-", "radio.example"))
    Session.objects.bulk_update(made, ["country", "app", "referrer"])
    crowd.observe()


def compute(crowd: Crowd, *, now: dt.datetime = NOW) -> None:
    crowd.compute(now=now)
    days.refresh(1, to_ms(at(-7200)), to_ms(at(LENGTH)), now_ms=to_ms(now), rule_sets=("triton", "all"))


def table(span: Span, kind: ShareKind = ShareKind.COUNTRY, *, scope: Scope = STATION, **more: Any) -> ShareTable:
    return shares.shares(scope, span, conf.get().rules("triton"), kind, now=more.get("now", NOW))


def told(found: ShareTable) -> dict[str, tuple[float, int | None]]:
    assert found.lines is not None
    return {one.value: (one.listening_hours, one.sessions) for one in found.lines}


def truth(windows: Sequence[tuple[int, int]], column: str = "country", **only: Any) -> dict[str, tuple[float, int]]:
    """Sums over the sessions of at least a minute, one part after the other."""
    heard: dict[str, float] = defaultdict(float)
    met: dict[str, int] = defaultdict(int)
    for one in Session.objects.filter(played_ms__gte=60_000, **only):
        begin = to_ms(one.started)
        parts = one.parts or [[0, to_ms(one.ended) - begin]]
        inside = 0
        for a, b in parts:
            for start, end in windows:
                inside += max(0, min(begin + b, to_ms(at(end))) - max(begin + a, to_ms(at(start))))
        value = getattr(one, column) or ""
        heard[value] += inside / 3_600_000
        met[value] += inside > 0
    return {value: (pytest.approx(heard[value]), met[value]) for value in heard if heard[value]}


def seconds(span: Span) -> list[tuple[int, int]]:
    starts, ends = span.slots(span.ended_ms)
    return [(second(from_ms(a)), second(from_ms(b))) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


@pytest.mark.parametrize("kind", list(ShareKind))
@pytest.mark.parametrize("length", [1, 2])
def test_days_of_a_station_and_of_a_stream(crowd: Crowd, kind: ShareKind, length: int) -> None:
    come(crowd, 1)
    compute(crowd)
    span = spans.of_days(DAY, DAY + dt.timedelta(days=length - 1), conf.get())
    found = table(span, kind)
    assert told(found) == truth(seconds(span), str(kind))
    assert found.listening_hours == pytest.approx(sum(one.listening_hours for one in found.lines or ()))
    assert found.sessions == sum(one.sessions or 0 for one in found.lines or ())
    assert sum(one.share or 0 for one in found.lines or ()) == pytest.approx(1)
    assert (found.stands_on, found.settled, found.coverage) == (StandsOn.ROLL_UP, True, 1.0)
    stream = Scope(kind=ScopeKind.STREAM, id=crowd.streams[1].pk, station_id=1)
    assert told(table(span, kind, scope=stream)) == truth(seconds(span), str(kind), stream=crowd.streams[1])


def test_they_stay_when_the_sessions_have_gone(crowd: Crowd, settings: Any) -> None:
    come(crowd, 2)
    compute(crowd)
    span = spans.of_days(DAY, DAY, conf.get())
    before = told(table(span))
    later = prune(settings)
    assert told(table(span, now=later)) == before


@pytest.mark.parametrize("seed", [3, 4])
def test_what_no_whole_days_are_is_read_from_the_sessions_while_they_are_kept(
    crowd: Crowd, settings: Any, seed: int
) -> None:
    come(crowd, seed)
    compute(crowd)
    start = random.Random(seed).randrange(0, 100_000)
    for span in (
        spans.between(at(start), at(start + 40_000), conf.get()),
        spans.of_days(DAY, DAY, conf.get(), day_starts=dt.time(0)),
        spans.of_days(DAY, DAY, conf.get()).within(2),
    ):
        found = table(span)
        assert told(found) == truth(seconds(span))
        assert (found.stands_on, found.settled) == (StandsOn.SESSIONS, True)
        assert table(span, now=NOW).is_partial is False
    later = prune(settings)
    assert table(span, now=later).lines is None


def on_air(crowd: Crowd) -> list[tuple[int, int]]:
    bounds = [(20_000, 24_000), (23_000, 27_000), (60_000, 67_200)]
    for start, end in bounds:
        crowd.on_air(start, end, program_id=7, diffusion_id=start)
    crowd.on_air(30_000, 33_000, program_id=8)
    return [(20_000, 27_000), (60_000, 67_200)]


def test_a_program_has_its_sessions_shares_and_says_so_when_they_have_gone(crowd: Crowd, settings: Any) -> None:
    come(crowd, 5)
    windows = on_air(crowd)
    compute(crowd)
    program = Scope(kind=ScopeKind.PROGRAM, id=7, station_id=1)
    span = spans.of_days(DAY, DAY, conf.get())
    found = table(span, scope=program)
    assert told(found) == truth(windows)
    assert (found.stands_on, found.settled, found.coverage) == (StandsOn.SESSIONS, True, 1.0)
    one = table(span, scope=Scope(kind=ScopeKind.DIFFUSION, id=60_000, station_id=1))
    assert told(one) == truth(windows[1:])
    assert table(span, scope=Scope(kind=ScopeKind.PROGRAM, id=9, station_id=1)).lines is None
    later = prune(settings)
    gone = table(span, scope=program, now=later)
    assert (gone.lines, gone.listening_hours, gone.coverage) == (None, None, 1.0)


def test_it_is_held_against_the_period_before_and_the_same_one_last_year(crowd: Crowd) -> None:
    for weeks, minutes in ((0, 60), (1, 40), (52, 30)):
        start = 20_000 - weeks * 7 * 86_400
        crowd.hear(0, 1, (start, start + minutes * 60), country="BE")
        crowd.hear(0, 2, (start, start + 1200), country="FR" if weeks == 0 else "NL")
        crowd.observe(start - 86_400, start + 86_400)
    for start_ms in (to_ms(at(-366 * 86_400)), to_ms(at(-8 * 86_400)), to_ms(at(0))):
        end_ms = start_ms + 3 * 86_400_000
        days.refresh(1, start_ms, end_ms, now_ms=to_ms(NOW), rule_sets=("triton",))
    week = spans.read(["2026-W43"], conf.get(), now=NOW)
    found = table(week)
    assert found.lines is not None
    assert (found.before.name, found.year_before and found.year_before.name) == ("2026-W42", "2025-W43")
    first, second_ = found.lines
    assert first.value == "BE"
    assert (first.share, first.share_before, first.share_year_before) == (0.75, pytest.approx(2 / 3), 0.6)
    assert first.change is None, "of those weeks less than half was observed"
    Session.objects.all().delete()
    crowd.observe(-60 * 7 * 86_400, LENGTH)
    [first, second_] = table(week).lines or ()
    assert (first.change, first.change_on_year) == (pytest.approx(0.5), pytest.approx(1.0))
    assert (second_.value, second_.share_before, second_.change) == ("FR", 0.0, None)


def test_a_running_week_is_held_against_as_many_days_that_are_over(crowd: Crowd) -> None:
    now = at(3 * 86_400 + 50_000)  # Tuesday, in its afternoon
    monday = 2 * 86_400
    for week in (0, -7 * 86_400):
        for day in range(3):
            start = monday + week + day * 86_400 + 18_000 + 3600
            if at(start) < now:
                crowd.hear(0, 1, (start, start + (7200 if week == 0 else 3600)), country="BE")
    crowd.observe(-20 * 86_400, 10 * 86_400)
    days.refresh(1, to_ms(at(-20 * 86_400)), to_ms(now), now_ms=to_ms(now), rule_sets=("triton",))
    [line] = table(spans.read(["this-week"], conf.get(), now=now), now=now).lines or ()
    assert line.listening_hours == 4, "today's are in it"
    assert line.change == pytest.approx(1.0), "and not in what is compared: one day of each"


def test_nobody_is_not_unknown_and_days_from_before_the_table_are(crowd: Crowd) -> None:
    span = spans.of_days(DAY, DAY, conf.get())
    assert table(span).lines is None, "nothing was observed"
    crowd.observe()
    assert (table(span).lines, table(span).listening_hours) == ((), 0)
    crowd.hear(0, 1, (20_000, 25_000), country="BE")
    crowd.hear(0, 1, (110_000, 115_000), country="BE")
    crowd.compute()
    assert table(span).lines is None, "somebody was heard, and it was not kept who"
    day_ms = to_ms(at(110_000))
    days.refresh(1, day_ms, day_ms + 1, now_ms=to_ms(NOW), rule_sets=("triton",))
    assert table(span).lines is None
    both = table(spans.of_days(DAY, DAY + dt.timedelta(days=1), conf.get()))
    assert (both.is_partial, both.listening_hours) == (True, pytest.approx(5000 / 3600))


def test_a_table_is_short_and_the_rest_is_its_last_line(crowd: Crowd) -> None:
    crowd.observe()
    for number in range(shares.MOST_LINES + 5):
        crowd.hear(0, number, (20_000, 20_100 + number), app=f"Player {number:02d}")
    crowd.hear(0, 99, (20_000, 20_060))
    days.refresh(1, to_ms(at(20_000)), to_ms(at(20_001)), now_ms=to_ms(NOW), rule_sets=("triton",))
    found = table(spans.of_days(DAY, DAY, conf.get()), ShareKind.APP)
    assert found.lines is not None
    assert [one.value for one in found.lines[:2]] == ["Player 24", "Player 23"]
    assert [(one.value, one.sessions) for one in found.lines[-2:]] == [("", 1), (DayShare.OTHER, 5)]
    assert found.sessions == shares.MOST_LINES + 6
    assert found.lines[-1].change is None
    hidden = found.hiding_below(2)
    assert {one.sessions for one in hidden.lines or ()} == {None, 5}
    assert hidden.sessions == found.sessions


def test_a_value_that_may_be_in_the_rest_of_before_is_not_said_to_be_new(crowd: Crowd) -> None:
    crowd.observe(-86_400 * 3, LENGTH)
    for number in range(days.MOST_VALUES + 1):
        crowd.hear(0, number, (20_000 - 86_400, 20_100 + number - 86_400), app=f"Player {number:02d}")
    crowd.hear(0, 1, (20_000, 20_100), app="Player 00")
    crowd.hear(0, 1, (20_000, 20_100), app="Player 01")
    days.refresh(1, to_ms(at(-86_400)), to_ms(at(20_001)), now_ms=to_ms(NOW), rule_sets=("triton",))
    lines = {one.value: one for one in table(spans.of_days(DAY, DAY, conf.get()), ShareKind.APP).lines or ()}
    assert lines["Player 00"].share_before is None
    assert lines["Player 01"].share_before is not None


def test_all_kinds_at_once_are_what_each_is_alone(crowd: Crowd, django_assert_max_num_queries: Any) -> None:
    come(crowd, 6)
    compute(crowd)
    span = spans.of_days(DAY, DAY, conf.get())
    with django_assert_max_num_queries(20):
        found = shares.share_tables(STATION, span, conf.get().rules("triton"), now=NOW)
    assert found == tuple(table(span, kind) for kind in ShareKind)
    assert Airing.objects.count() == 0


def test_the_page_of_a_report_shows_them_and_its_table_says_the_same(
    crowd: Crowd, client: Client, admin_user: Any
) -> None:
    crowd.observe()
    crowd.hear(0, 1, (20_000, 27_200), country="BE", app="<VLC>", referrer="radio.example")
    crowd.hear(1, 2, (20_000, 23_600), country="", app="<VLC>")
    compute(crowd)
    client.force_login(admin_user)
    address, asked = reverse("listen_stats:report"), {"period": "2026-10-24"}
    page = client.get(address, asked).content.decode()
    for word in ("Countries", ">BE</listen-stats-country>", "&lt;VLC&gt;", "radio.example", "66.7", 'width="66.6'):
        assert word in page, word
    assert "<VLC>" not in page
    text = b"".join(client.get(address, {**asked, "format": "csv", "table": "shares"}).streaming_content).decode()
    told = [(row["kind"], row["kind_value"], row["listening_hours"]) for row in csv.DictReader(io.StringIO(text))]
    assert told == [
        ("country", "BE", "2"),
        ("country", "", "1"),
        ("app", "<VLC>", "3"),
        ("referrer", "radio.example", "2"),
        ("referrer", "", "1"),
    ]
    known = client.get(address, {**asked, "format": "json"}).json()
    assert [one["kind"] for one in known["shares"]] == ["country", "app", "referrer"]
    gone = client.get(reverse("listen_stats:program_report", args=[7]), asked)
    assert gone.status_code == 404


def test_the_page_says_why_there_is_no_table(crowd: Crowd, client: Client, admin_user: Any) -> None:
    crowd.observe()
    crowd.hear(0, 1, (20_000, 27_200))
    crowd.compute()
    client.force_login(admin_user)
    address, asked = reverse("listen_stats:report"), {"period": "2026-10-24"}
    assert client.get(address, asked).content.decode().count("Not known: neither these days") == 3
    compute(crowd)
    page = client.get(address, asked).content.decode()
    for sentence in ("Of nobody the country is known.", "Of nobody the app is known.", "No source told which page"):
        assert sentence in page
