"""Cumes of days, weeks and months: counted while keys can be compared, settled, and then forgotten for ever."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import pytest

from aircox_listen_stats import conf
from aircox_listen_stats.fields import from_ms
from aircox_listen_stats.kernel import calendar
from aircox_listen_stats.kernel.types import Address, Observation
from aircox_listen_stats.models import Airing, Cume, Inbox, PeriodKey, PeriodSecret, Session, Sketch, Stream
from aircox_listen_stats.pipeline import cumes, rebuild, recognise, secrets
from aircox_listen_stats.pipeline.ingest import store
from aircox_listen_stats.reports.cumes import CumeFigure, cume
from aircox_listen_stats.sources import urlauth

from .conftest import HOUR, SETTINGS, told

pytestmark = pytest.mark.django_db

DAY = 24 * HOUR
RULES = ("triton", "all")


def ms(day: int, hour: int = 12) -> int:
    """An instant of June 2026, whose first is a Monday."""
    return round((dt.datetime(2026, 6, 1, hour, tzinfo=dt.UTC) + dt.timedelta(days=day - 1)).timestamp() * 1000)


def started(kind: str, day: int) -> int:
    settings = conf.get()
    return calendar.period_start(ms(day), kind, settings.zone, settings.broadcast_day_start)


def listen(who: int, day: int, *, hour: int = 12, minutes: float = 10, stream: str = "live") -> None:
    """Somebody's socket of that day, as the server's word on its end tells it."""
    end_ms = ms(day, hour) + round(minutes * 60_000)
    one = Observation(
        stream=stream,
        started_ms=ms(day, hour),
        seen_ms=end_ms,
        ended=True,
        client=f"{who}-{day}-{hour}",
        address=Address(ip=f"198.18.{who // 256}.{who % 256}", agent="VLC"),
    )
    store(told(one), now_ms=end_ms)


def refresh(first: int, last: int) -> None:
    cumes.refresh(1, ms(first), ms(last) + 1, now_ms=ms(last, 23), rule_sets=RULES)


def close(day: int) -> int:
    return cumes.close_periods(now_ms=ms(day), rule_sets=RULES)


def of(kind: str, day: int, scope: str = "station", scope_id: int = 1, rules: str = "triton") -> CumeFigure | None:
    return cume(1, scope, scope_id, kind=kind, started_ms=started(kind, day), rule_set=rules)


def count(*args: Any, **more: Any) -> int:
    found = of(*args, **more)
    assert found is not None
    assert found.estimate.is_exact
    assert found.confidence is None
    return found.estimate.count


def test_a_listener_of_three_days_is_one_of_the_week_and_of_the_month(stream: Stream) -> None:
    for day in (2, 3, 5, 9):
        listen(7, day)
    listen(8, 3)
    refresh(1, 9)
    assert [count("day", day) for day in (2, 3, 5, 9)] == [1, 2, 1, 1]
    assert count("week", 3) == 2
    assert count("week", 9) == 1
    assert count("month", 9) == 2
    assert len({one.listener for one in Session.objects.all()}) == 5, "the sessions' own keys tell nothing of it"


def test_what_was_not_counted_is_unknown_and_not_zero(stream: Stream) -> None:
    assert of("week", 3) is None
    listen(1, 3)
    refresh(3, 3)
    assert count("week", 3) == 1
    assert of("week", 10) is None


def test_once_settled_the_count_stays_and_nothing_is_left_to_compare_by(stream: Stream) -> None:
    for day in (2, 3, 4):
        for who in range(day):
            listen(who, day)
    refresh(1, 4)
    before = of("week", 3)
    assert before is not None
    assert not before.settled
    value = bytes(PeriodSecret.objects.get(kind="week").value)
    assert close(7) == 0, "the week is not over"
    assert close(9) == 1
    after = of("week", 3)
    assert after is not None
    assert after.settled
    assert after.estimate == before.estimate
    assert not PeriodKey.objects.filter(kind="week").exists()
    assert not Sketch.objects.filter(kind="week").exists()
    assert value not in [bytes(one.value) for one in PeriodSecret.objects.all()]
    assert PeriodKey.objects.filter(kind="month").exists(), "the month goes on"
    rebuild.rebuild(1, ms(1), ms(5), now_ms=ms(9))
    assert of("week", 3) == after
    assert not Sketch.objects.filter(kind="week").exists()


def test_a_secret_made_again_by_a_late_writer_changes_no_settled_count(stream: Stream) -> None:
    listen(1, 2)
    listen(2, 3)
    refresh(1, 3)
    close(9)
    settled = of("week", 3)
    secrets.forget()
    listen(3, 4)
    refresh(4, 4)
    assert close(9) == 1
    assert of("week", 3) == settled
    assert not PeriodKey.objects.filter(kind="week").exists()


def test_a_closing_that_is_killed_leaves_everything_to_the_next(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen(1, 2)
    listen(1, 3)
    refresh(1, 3)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(secrets, "destroy_of_period", killed)
        with pytest.raises(KeyboardInterrupt):
            close(9)
    assert not Cume.objects.filter(kind="week").exists()
    assert count("week", 3) == 1
    assert close(9) == 1
    assert count("week", 3) == 1


def test_listeners_without_a_key_of_the_week_widen_its_bounds(stream: Stream) -> None:
    listen(1, 2)
    listen(1, 3)
    for day in (2, 3):  # from an import: keys of that day alone
        Session.objects.create(
            stream=stream,
            listener=day,
            started=from_ms(ms(day)),
            ended=from_ms(ms(day) + HOUR),
            played_ms=HOUR,
            source="log",
        )
    refresh(1, 3)
    found = of("week", 3)
    assert found is not None
    assert (found.estimate.lower, found.estimate.count, found.estimate.upper) == (1, 3, 3)
    assert found.confidence == 0.95


def test_a_program_counts_who_met_one_of_its_airings(stream: Stream) -> None:
    for day in (2, 3):
        Airing.objects.create(
            station_id=1,
            layer="diffusion",
            key=f"d{day}",
            started=from_ms(ms(day, 12)),
            ended=from_ms(ms(day, 13)),
            start_basis="observed",
            end_basis="observed",
            program_id=5,
        )
        listen(1, day)
        listen(2, day, hour=14)
    listen(3, 3, minutes=0.5)
    refresh(1, 3)
    assert count("week", 3, "program", 5) == 1
    assert count("week", 3, "program", 5, rules="all") == 2
    assert count("week", 3, "stream", stream.pk) == 2
    assert of("week", 3, "program", 6) is None


def test_any_days_any_order_one_cume(stream: Stream) -> None:
    rng = random.Random(11)
    told_of = [(rng.randrange(30), rng.randrange(1, 8)) for _ in range(60)]
    hours = {one: 5 + number % 15 for number, one in enumerate(dict.fromkeys(told_of))}
    for (who, day), hour in sorted(hours.items(), key=lambda one: (one[0][1], one[1])):
        listen(who, day, hour=hour)
    refresh(1, 7)
    by_day = [count("day", day) for day in range(1, 8)]
    week = count("week", 3)
    assert week == len({who for who, _ in told_of})
    assert max(by_day) <= week <= sum(by_day)
    before = sorted(Sketch.objects.values_list("kind", "day", "scope", "rule_set", "known"))
    for day in (5, 2, 7, 1, 3, 6, 4):
        cumes.refresh(1, ms(day), ms(day) + 1, now_ms=ms(7, 23), rule_sets=RULES)
    again = sorted(Sketch.objects.values_list("kind", "day", "scope", "rule_set", "known"))
    assert [tuple(map(bytes_of, one)) for one in again] == [tuple(map(bytes_of, one)) for one in before]


def bytes_of(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def test_a_callback_carries_the_keys_of_its_week_and_month(stream: Stream) -> None:
    mark = recognise.mark(Address(ip="192.0.2.1", agent="VLC"), secrets.current(ms(2)))
    assert [kind for kind, _, _ in mark.periods] == ["week", "month"]
    assert len({mark.listener, *(key for _, _, key in mark.periods)}) == 3
    event = urlauth.AuthEvent(
        action="listener_add",
        mount="/live",
        client="1",
        duration_s=None,
        address=Address(ip="192.0.2.1", agent="VLC"),
        identity_known=True,
    )
    row = Inbox.objects.create(
        source="ice", received=from_ms(ms(2)), payload=urlauth.payload_of(event, stream="live", mark=mark)
    )
    row.refresh_from_db()
    [one] = urlauth.observations(row.payload, received_ms=ms(2))
    assert one.mark == mark


def test_where_keys_live_for_a_month_a_week_still_has_its_own(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "KEY_ROTATION": "month"}
    for day in (3, 9):
        listen(1, day)
    refresh(1, 9)
    assert len({one.listener for one in Session.objects.all()}) == 1
    assert count("week", 3) == count("week", 9) == count("month", 9) == 1
