"""Lahmacun Radio's daily CSV: placed in time, counted anew, and never believed."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from aircox_listen_stats.errors import MalformedRecord
from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import Coverage, Ruling, Session, Stream
from aircox_listen_stats.pipeline import recognise, secrets
from aircox_listen_stats.sources.lahmacun import Flags, PolledDay, read_day

FOLDER = Path(__file__).resolve().parent.parent / "data" / "lahmacun"
BUDAPEST = ZoneInfo("Europe/Budapest")
DAY = dt.date(2021, 11, 19)
HEAD = "ip;location;connected_time;valid\n"


def day(name: str, date: dt.date = DAY, zone: ZoneInfo = BUDAPEST) -> PolledDay:
    return read_day((FOLDER / name).read_text(), date=date, zone=zone)


def local(ms: int, zone: ZoneInfo = BUDAPEST) -> str:
    return f"{dt.datetime.fromtimestamp(ms / 1000, zone):%d %H:%M:%S.%f}"[:-3]


def test_a_time_of_day_that_goes_back_is_the_next_day() -> None:
    """S5.5: no date and no zone in the file. Rows and sessions come in the order in which they were first seen."""
    found = day("daily.csv")
    assert [[(local(start), local(end)) for start, end in one.sessions] for one in found.listeners[:5]] == [
        [("19 22:00:33.033", "20 00:40:31.062"), ("20 00:40:37.004", "20 05:32:07.004")],
        [("19 22:58:34.712", "19 23:08:36.712"), ("20 03:47:13.927", "20 03:56:55.927")],
        [("19 23:50:00.000", "20 00:20:00.000")],
        [
            ("20 00:05:00.500", "20 00:11:40.500"),
            ("20 00:06:00.500", "20 00:06:20.500"),
            ("20 00:07:30.500", "20 00:19:10.500"),
        ],
        [("20 00:26:36.780", "20 00:26:40.780")],
    ]
    assert local(found.listeners[-1].sessions[0][0]) == "20 21:30:42.251"


def test_flags_and_totals_are_computed_and_the_file_s_own_never_used() -> None:
    """S5.4, S5.7, S5.10: two rows contradict their flags; 300 seconds are not more than 5 minutes."""
    found = day("daily.csv")
    assert found.flags == Flags(rows=9, long_rows=6, short_rows=2, shared_rows=1, sessions=14)
    assert found.wrong_flags == 2
    assert found.counts == {"read": 9, "kept": 9}


def test_files_that_tell_the_date_are_read_by_it() -> None:
    found = day("with_dates.csv", dt.date(1999, 1, 1))
    starts = [dt.datetime.fromtimestamp(start / 1000, BUDAPEST) for one in found.listeners for start, _ in one.sessions]
    assert [f"{one:%Y-%m-%d %H:%M:%S}" for one in starts] == [
        "2021-11-19 16:58:47",
        "2021-11-19 17:06:17",
        "2021-11-19 17:18:48",
        "2021-11-19 17:30:22",
    ]
    assert found.listeners[2].sessions[0][1] - found.listeners[2].sessions[0][0] == (86400 + 4685) * 1000
    assert found.wrong_flags == 1


@pytest.mark.parametrize(
    ("date", "expected"),
    [(dt.date(2021, 10, 30), "31 01:30:00 +0000"), (dt.date(2021, 3, 27), "28 01:30:00 +0000")],
)
def test_the_night_in_which_the_clock_changes(date: dt.date, expected: str) -> None:
    """03:30 by the clock in autumn is after the repeated hour; 02:30 UTC. In spring it is 01:30 UTC."""
    text = HEAD + "192.0.2.1;X;[['23:30:00.0', 60]];0\n192.0.2.2;X;[['03:30:00.0', 60]];0\n"
    last = read_day(text, date=date, zone=BUDAPEST).listeners[1].sessions[0][0]
    autumn = "31 02:30:00 +0000"
    assert f"{dt.datetime.fromtimestamp(last / 1000, dt.UTC):%d %H:%M:%S %z}" == (
        autumn if date.month == 10 else expected
    )


def test_rows_that_do_not_follow_the_format_are_counted_and_nothing_is_run() -> None:
    found = day("malformed.csv")
    assert found.counts == {
        "read": 11,
        "kept": 2,
        "refused_start": 2,
        "refused_duration": 2,
        "refused_connected_time": 3,
        "refused_columns": 1,
        "refused_ip": 1,
    }
    assert [one.sessions[0][1] - one.sessions[0][0] for one in found.listeners] == [600_000, 610_500]
    assert found.wrong_flags == 1


@pytest.mark.parametrize("text", ["", "\n", "a;b\n", "<html>", '"' * 7, "ip;location;connected_time\n"])
def test_another_file_is_refused(text: str) -> None:
    with pytest.raises(MalformedRecord):
        read_day(text, date=DAY, zone=BUDAPEST)


@given(st.text(), st.booleans())
def test_whatever_is_in_a_file_nothing_but_its_refusal_is_raised(text: str, with_head: bool) -> None:
    try:
        found = read_day((HEAD if with_head else "") + text, date=DAY, zone=BUDAPEST)
    except MalformedRecord:
        return
    assert sum(found.counts.get(name, 0) for name in found.counts if name != "read") == found.counts.get("read", 0)


@given(st.lists(st.text("[]()',:. 0123456789datetime.timedelta(seconds=)", max_size=80), max_size=5))
def test_no_list_of_sessions_breaks_the_reader(cells: list[str]) -> None:
    text = HEAD + "".join(f"192.0.2.1;X;{cell.replace(';', '')};0\n" for cell in cells)
    found = read_day(text, date=DAY, zone=BUDAPEST)
    assert all(0 <= start <= end for one in found.listeners for start, end in one.sessions)


# The command -----------------------------------------------------------------------------------------------


@pytest.fixture
def stream(db: None, settings: Any) -> Stream:
    settings.AIRCOX_LISTEN_STATS = {
        "SOURCES": {"azura": {"backend": "icecast", "url": "http://127.0.0.1:9", "user": "a", "password": "x"}},
        "STREAMS": {"live": {"source": "azura", "station": 1}},
        "TIME_ZONE": "Europe/Budapest",
    }
    secrets.forget()
    recognise.forget()
    return Stream.objects.create(slug="live", station_id=1, source="azura")


def imported(*options: str, name: str = "daily.csv") -> str:
    out = io.StringIO()
    call_command("listen_stats_lahmacun", "live", str(FOLDER / name), "--date", "2021-11-19", *options, stdout=out)
    return out.getvalue()


def test_a_file_becomes_sessions_and_its_addresses_are_forgotten(stream: Stream) -> None:
    said = imported()
    assert "9 addresses with 14 sessions: 6 longer than 5 minutes, 2 of one session under a minute." in said
    assert "1 addresses without a location are most likely shared" in said
    assert "2 flags of the file contradict" in said
    found = [(one.started, one.ended) for one in Session.objects.counted().order_by("started")]
    assert [f"{start:%d %H:%M:%S}" for start, _ in found[:3]] == ["19 21:00:33", "19 21:58:34", "19 22:50:00"]
    assert sum(one.played_ms for one in Session.objects.all()) >= 9598_000 + 17490_000
    assert Coverage.objects.get(totals_only=False).started == found[0][0]
    told = str(list(Session.objects.values())) + str(list(Ruling.objects.values())) + said
    assert not any(address in told for address in ("192.0.2.", "198.51.100.", "2001:db8"))


def test_sessions_of_a_shared_address_are_marked_and_count(stream: Stream) -> None:
    imported()
    """Two listen at once behind it: the last two connections follow each other within the gap."""
    shared = Session.objects.filter(rule="shared address")
    assert sorted((to_ms(one.ended) - to_ms(one.started)) // 1000 for one in shared) == [400, 790]
    assert {one.exclusion for one in shared} == {""}


def test_the_same_file_again_changes_no_figure_and_can_be_taken_back(stream: Stream) -> None:
    imported()
    once = sorted(Session.objects.counted().values_list("started", "ended"))
    imported()
    assert sorted(Session.objects.counted().values_list("started", "ended")) == once
    call_command("listen_stats_backfill", "--undo", "back-fill 2", "--why", "Twice.", stdout=io.StringIO())
    call_command("listen_stats_backfill", "--undo", "back-fill 1", "--why", "Wrong day.", stdout=io.StringIO())
    assert not Session.objects.counted().exists()
    assert not Coverage.objects.exists()


def test_a_dry_run_stores_nothing(stream: Stream) -> None:
    assert "would be stored" in imported("--dry-run")
    assert not Session.objects.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["live", "nowhere.csv", "--date", "2021-11-19"], "nowhere.csv cannot be read"),
        (["live", str(FOLDER / "daily.csv"), "--date", "19.11."], "expected a day such as"),
        (["live", str(FOLDER / "daily.csv"), "--date", "2021-11-19", "--zone", "Mars/X"], "no zone"),
        (["nope", str(FOLDER / "daily.csv"), "--date", "2021-11-19"], "Unknown stream 'nope'"),
    ],
)
def test_what_cannot_be_imported_is_said(stream: Stream, options: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        call_command("listen_stats_lahmacun", *options)
