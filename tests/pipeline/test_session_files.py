"""Sessions leave as Lahmacun's daily file and as logs: they come back as they were, and tell of no address."""

from __future__ import annotations

import csv
import datetime as dt
import io
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import Session, Stream
from aircox_listen_stats.reports import session_log, sessions
from aircox_listen_stats.reports.session_log import Mask
from aircox_listen_stats.sources import accesslog
from tests.web import stations
from tests.web.stations import HOUR, MINUTE

from .conftest import SETTINGS

pytestmark = pytest.mark.django_db

NOW = dt.datetime(2026, 10, 27, 12, 0, tzinfo=dt.UTC)
DAY = "2026-10-24"
"""Broadcast day of 25 hours: the clock goes back at 03:00 on the 25th in Brussels."""
SECOND = dt.timedelta(seconds=1)
TWICE = stations.local(2026, 10, 25, 2, 30)
"""02:30, the first one: summer time."""


@pytest.fixture(autouse=True)
def station(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> stations.PastStation:
    streams = {slug: {"source": "ice", "station": 1, "mount": f"/{slug}.mp3"} for slug in ("live", "copy")}
    settings.AIRCOX_LISTEN_STATS = SETTINGS | {"STREAMS": streams, "TIME_ZONE": "Europe/Brussels"}
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    monkeypatch.setattr("aircox_listen_stats.management.commands._words.now_ms", lambda: to_ms(NOW))
    monkeypatch.chdir(tmp_path)
    made = stations.PastStation(stream_slugs=("live", "copy"))
    noon = stations.local(2026, 10, 24, 12)
    made.session(noon, noon + 301 * SECOND, listener=-(2**62))
    made.session(noon + HOUR, noon + HOUR + 20 * SECOND, listener=-(2**62))
    made.session(noon + MINUTE, noon + MINUTE + 59 * SECOND, listener=7)
    made.session(noon + 2 * MINUTE, noon + 2 * MINUTE + 300 * SECOND, listener=8)
    made.session(TWICE, TWICE + 10 * MINUTE + dt.timedelta(milliseconds=250), listener=9)
    made.session(TWICE + HOUR, TWICE + 6 * HOUR, listener=10)
    made.session(noon, noon + HOUR, listener=11, exclusion="bot")
    made.session(stations.local(2026, 10, 25, 4), stations.local(2026, 10, 25, 5), listener=12)
    split = made.session(noon + 3 * HOUR, noon + 3 * HOUR + 20 * MINUTE, listener=13)
    Session.objects.filter(pk=split.pk).update(
        parts=[[0, 600_000], [720_000, 1_200_000]], played_ms=1_080_000, bytes_sent=99_000, app="VLC"
    )
    Session.objects.filter(listener=7).update(country="")
    return made


def written(command: str, *arguments: str) -> Path:
    path = Path("out")
    call_command(command, *arguments, "--output", str(path))
    return path


def spans(slug: str, **only: Any) -> list[tuple[int, int, int]]:
    """Start, end and played time of the sessions that count, in seconds, in order."""
    found = Session.objects.counted().filter(stream__slug=slug, **only)
    return sorted((to_ms(one.started) // 1000, to_ms(one.ended) // 1000, one.played_ms // 1000) for one in found)


# The daily file ------------------------------------------------------------------------------------------------------


def test_the_daily_file_tells_dates_zone_and_right_totals() -> None:
    lines = written("listen_stats_dailyfile", "live", DAY).read_text().splitlines()
    assert lines[0] == "ip;location;connected_time;valid"
    assert lines[1] == (
        "1;BE;[['2026-10-24T12:00:00.000+02:00', datetime.timedelta(seconds=301, microseconds=0)], "
        "['2026-10-24T13:00:00.000+02:00', datetime.timedelta(seconds=20, microseconds=0)]];1"
    )
    assert lines[2].startswith("2;N/A;")
    # 300 seconds are not longer than five minutes.
    assert [line[-2:] for line in lines[1:7]] == [";1", ";0", ";0", ";1", ";1", ";1"]
    assert "['2026-10-25T02:30:00.000+02:00'" in lines[5]
    assert "['2026-10-25T02:30:00.000+01:00'" in lines[6]
    assert lines[7:] == [
        "Total Listeners;;;6",
        "Total Long Listeners;;;4",
        "Total Short Listeners;;;1",
        "Total N/A entries;;;1",
        "Total Sessions;;;7",
    ]


def test_the_daily_file_comes_back_as_it_was() -> None:
    path = written("listen_stats_dailyfile", "live", DAY)
    said = io.StringIO()
    call_command("listen_stats_lahmacun", "copy", str(path), "--date", DAY, stdout=said)
    assert "6 addresses with 7 sessions: 4 longer than 5 minutes, 1 of one session under a minute." in said.getvalue()
    assert "contradict" not in said.getvalue()
    day = {"started__gte": stations.local(2026, 10, 24, 4), "started__lt": stations.local(2026, 10, 25, 4)}
    # The file tells how long somebody was connected, silences of a session included.
    assert [one[:2] for one in spans("copy")] == [one[:2] for one in spans("live", **day)]
    listeners = Session.objects.filter(stream__slug="copy").values("listener").distinct().count()
    assert listeners == 6


def test_the_daily_file_holds_no_key() -> None:
    text = written("listen_stats_dailyfile", "live", DAY).read_text()
    assert str(2**62) not in text
    rows = list(csv.reader(text.splitlines(), delimiter=";"))
    assert [row[0] for row in rows[1:7]] == ["1", "2", "3", "4", "5", "6"]


def test_a_day_without_listeners_is_its_totals() -> None:
    lines = written("listen_stats_dailyfile", "live", "2026-01-01").read_text().splitlines()
    assert lines[1:] == [f"Total {name};;;0" for name in (
        "Listeners", "Long Listeners", "Short Listeners", "N/A entries", "Sessions"
    )]  # fmt: skip


# The logs ------------------------------------------------------------------------------------------------------------


def test_every_line_is_one_that_icecast_could_have_written() -> None:
    lines = written("listen_stats_sessionlog", DAY, "2026-10-25").read_bytes().splitlines()
    read = [accesslog.parse_line(line) for line in lines]
    assert len(read) == 9, "a line for each part, none for the excluded one"
    assert {accesslog.stream_of(one, {"/live.mp3": "live"}) for one in read} == {("live", "")}
    assert [one.bytes_sent for one in read if one.address.agent == "VLC"] == [None, 99_000]
    ends = [one.ended_s for one in read if one.address.agent != "VLC"]
    assert all(before <= after for before, after in pairwise(ends))


def test_the_log_comes_back_as_it_was() -> None:
    path = written("listen_stats_sessionlog", DAY, "2026-10-25")
    call_command("listen_stats_import", str(path), "--stream", "copy=/live.mp3", verbosity=0)
    assert spans("copy") == spans("live")
    both = [
        sorted(Session.objects.counted().filter(stream__slug=slug, listener=one).count() for one in listeners)
        for slug in ("live", "copy")
        for listeners in [set(Session.objects.counted().filter(stream__slug=slug).values_list("listener", flat=True))]
    ]
    assert both[0] == both[1] == [1] * 6 + [2]


def test_a_mask_is_an_address_of_documents_that_no_other_file_has() -> None:
    first, second = (written("listen_stats_sessionlog", DAY, DAY).read_bytes() for _ in range(2))
    masks = [{line.split()[0] for line in text.splitlines()} for text in (first, second)]
    assert all(one.startswith(b"2001:db8::") for one in masks[0])
    assert len(masks[0]) == len(masks[1]) == 5
    assert not masks[0] & masks[1]
    assert Mask(b"k").address(7) == Mask(b"k").address(7) != Mask(b"k").address(8)


def test_the_extended_form_has_its_fields_in_every_line() -> None:
    lines = written("listen_stats_sessionlog", DAY, DAY, "--form", "w3c").read_text().splitlines()
    assert lines[0] == "#Version: 1.0"
    fields = lines[2].removeprefix("#Fields: ").split(" ")
    found = [dict(zip(fields, line.split(" "), strict=True)) for line in lines[3:]]
    assert {(one["date"], one["time"], one["time-taken"]) for one in found} >= {
        ("2026-10-24", "10:05:01", "301"),
        ("2026-10-25", "00:40:00", "600"),
    }
    assert {one["cs-uri-stem"] for one in found} == {"/live.mp3"}


def test_an_app_s_name_ends_no_field() -> None:
    Session.objects.filter(listener=7).update(app='A "b\\\n c')
    lines = written("listen_stats_sessionlog", DAY, DAY).read_bytes().splitlines()
    assert {accesslog.parse_line(line).address.agent for line in lines} == {"-", "VLC", "A b c"}


def test_ten_times_as_many_sessions_take_no_more_memory(station: stations.PastStation) -> None:
    def peak(count: int) -> int:
        Session.objects.all().delete()
        begin = stations.local(2026, 9, 1)
        values = (station.session_values(begin + n * MINUTE, begin + (n + 9) * MINUTE) for n in range(count))
        Session.objects.bulk_create([Session(**one) for one in values], batch_size=60)
        live = Stream.objects.get(slug="live").pk
        found = sessions.each_ended([live], to_ms(begin), to_ms(NOW))
        tracemalloc.start()
        lines = sum(1 for _ in session_log.icecast_lines(found, {live: "/live.mp3"}, Mask()))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert lines == count
        return most

    peak(60)
    assert peak(5_000) < peak(500) + 150_000
