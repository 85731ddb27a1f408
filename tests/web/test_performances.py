"""Performances: one track, one listener, any portion; and the columns that collecting societies ask."""

from __future__ import annotations

import csv
import datetime as dt
import io

import openpyxl
import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from aircox_listen_stats import conf
from aircox_listen_stats.fields import to_ms
from aircox_listen_stats.models import Airing, Session
from aircox_listen_stats.pipeline import quarters
from aircox_listen_stats.reports import performances, query
from aircox_listen_stats.reports.performances import READ_AT_ONCE
from aircox_listen_stats.reports.societies import SOCIETIES
from tests.web import stations
from tests.web.stations import DAY, HOUR, MINUTE, NOW

pytestmark = pytest.mark.django_db

START = NOW - DAY
SECOND = dt.timedelta(seconds=1)
PERIOD = ("2026-11-21", "2026-11-21")


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    monkeypatch.setattr("aircox_listen_stats.management.commands._words.now_ms", lambda: to_ms(NOW))


@pytest.fixture
def station():
    """Three plays on two streams, the last one observed by nobody.

    Listener 1 hears all on both streams, 2 one second of the first play, 3 comes twice within the second.
    """
    made = stations.PastStation(stream_slugs=("live", "low"))
    made.track("=Blue", START, 4, artist="Ann")
    made.track("=blue", START + 4 * MINUTE, 6, artist="ANN ")
    made.track("Red", START + HOUR, 3, artist="Bea")
    made.session(START - MINUTE, START + 10 * MINUTE, listener=1)
    made.session(START, START + 10 * MINUTE, listener=1, stream=1)
    made.session(START + 3 * MINUTE, START + 3 * MINUTE + SECOND, listener=2)
    made.session(START + 5 * MINUTE, START + 6 * MINUTE, listener=3)
    made.session(START + 8 * MINUTE, START + 9 * MINUTE, listener=3)
    made.session(START, START + 10 * MINUTE, listener=4, exclusion="bot")
    for stream in (0, 1):
        made.observed(START - HOUR, START + 10 * MINUTE, stream=stream)
    made.compute(START - HOUR, START + 2 * HOUR, rule_sets=["triton", "all"])
    return made


def report(*arguments: str) -> tuple[list[dict[str, str]], str]:
    """The rows that the command writes, and what it says beside them."""
    said = io.StringIO()
    path = "performances.csv"
    call_command("listen_stats_performances", *PERIOD, "--output", path, *arguments, stderr=said)
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)), said.getvalue()


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_listener_of_any_portion_is_one_performance_of_each_play(station):
    found, said = report()
    assert [(one["title"], one["performances"]) for one in found] == [("'=Blue", "2"), ("'=blue", "2"), ("Red", "")]
    # 4 min twice and a second; 6 min twice and twice a minute.
    assert [one["tuning_hours"] for one in found] == ["0.1336", "0.2333", ""]
    assert found[0]["start"] == "2026-11-21T13:00:00+01:00"
    assert found[0]["start_utc"] == "2026-11-21T12:00:00Z"
    assert {one["rule_set"] for one in found} == {"all"}
    assert "3 plays, 4 performances, 0.37 listener-hours" in said
    assert "1 plays have no figures" in said


def test_a_stream_alone_is_counted_from_its_sessions(station):
    low, _ = report("--stream", "low")
    assert [one["performances"] for one in low] == ["1", "1", ""]
    both, _ = report("--stream", "low", "--stream", "live")
    whole, _ = report()
    numbers = ("performances", "tuning_hours", "coverage_share")
    assert [[one[name] for name in numbers] for one in both[:2]] == [
        [one[name] for name in numbers] for one in whole[:2]
    ]


def test_streams_of_two_stations_are_not_mixed(station):
    stations.PastStation(id=2, stream_slugs=("other",))
    with pytest.raises(CommandError, match="another station"):
        report("--stream", "low", "--stream", "other")


def test_expired_sessions_leave_a_stream_unknown_and_the_station_as_it_was(station, monkeypatch):
    Session.objects.all().delete()
    later = NOW + 500 * DAY
    monkeypatch.setattr("aircox_listen_stats.management.commands._words.now_ms", lambda: to_ms(later))
    assert [one["performances"] for one in report("--stream", "low")[0]] == [""] * 3
    assert [one["performances"] for one in report()[0]] == ["2", "2", ""]


def test_sound_exchange_gets_one_row_for_each_recording(station):
    found, _ = report("--society", "soundexchange", "--service", "Radio X", "--category", "H")
    assert list(found[0].items()) == [
        ("NAME_OF_SERVICE", "Radio X"),
        ("TRANSMISSION_CATEGORY", "H"),
        ("FEATURED_ARTIST", "Ann"),
        ("SOUND_RECORDING_TITLE", "'=Blue"),
        ("ISRC", ""),
        ("ALBUM_TITLE", ""),
        ("MARKETING_LABEL", ""),
        ("ACTUAL_TOTAL_PERFORMANCES", "4"),
    ]
    assert [one["ACTUAL_TOTAL_PERFORMANCES"] for one in found] == ["4", ""]


def test_tuning_hours_are_of_all_programming_and_plays_are_counted(station):
    first, last = to_ms(START - HOUR), to_ms(START + 2 * HOUR)
    quarters.refresh(1, first, last, now_ms=to_ms(NOW), rule_sets=["all"])
    found, _ = report("--society", "soundexchange-ath")
    # 11 + 10 minutes of listener 1, a second of 2, two minutes of 3.
    assert [one["AGGREGATE_TUNING_HOURS"] for one in found] == ["0.3836", "0.3836"]
    assert {one["SOUND_RECORDING_TITLE"]: one["PLAY_FREQUENCY"] for one in found} == {"'=Blue": "2", "Red": "1"}
    (ppl,), _ = report("--society", "ppl")
    assert (ppl["from"], ppl["average_tracks_per_hour"], ppl["total_listener_hours"]) == (PERIOD[0], "0.125", "0.3836")
    assert float(ppl["performances"]) == pytest.approx(0.125 * 0.383611, abs=1e-4)
    (low,), _ = report("--society", "ppl", "--stream", "low")
    assert low["total_listener_hours"] == "0.1667"


def test_nothing_is_known_of_hours_without_quarter_hours(station):
    (ppl,), _ = report("--society", "ppl")
    assert ppl["total_listener_hours"] == ppl["performances"] == ""


def test_suisa_gets_every_play_on_the_wall_clock(station):
    found, _ = report("--society", "suisa", "--service", "Radio X")
    assert [found[0][name] for name in ("Titel", "Interpret", "Sender")] == ["'=Blue", "Ann", "Radio X"]
    assert [found[0][name] for name in ("Sendedatum", "Sendedauer", "Sendezeit")] == [
        "20261121",
        "00:04:00",
        "13:00:00",
    ]


def test_every_template_fills_its_columns(station):
    for name, society in SOCIETIES.items():
        for one in report("--society", name)[0]:
            assert tuple(one) == society.header
            assert None not in one.values()


def test_more_plays_than_are_held_at_once_are_all_there(station):
    rows = [
        Airing(
            station_id=1, layer="track", key=f"many-{number}", title=f"T{number}", start_basis="logged",
            started=START + 2 * HOUR + (number // 2) * SECOND, ended=START + 3 * HOUR, end_basis="logged",
        )
        for number in range(2 * READ_AT_ONCE)
    ]  # fmt: skip
    Airing.objects.bulk_create(rows, batch_size=50)
    found, _ = report()
    assert len({one["airing_id"] for one in found}) == len(found) == 2 * READ_AT_ONCE + 3


def test_the_workbook_holds_the_same(station):
    call_command("listen_stats_performances", *PERIOD, "--format", "xlsx", "--output", "p.xlsx", stderr=io.StringIO())
    header, *lines = openpyxl.load_workbook("p.xlsx")["performances"].iter_rows(values_only=True)
    assert [line[header.index("performances")] for line in lines] == [2, 2, None]
    assert lines[0][header.index("title")] == "=Blue"


def test_days_that_are_none_are_refused():
    with pytest.raises(CommandError, match="2026-02-30"):
        call_command("listen_stats_performances", "2026-02-30", "2026-03-01")
    with pytest.raises(CommandError, match="before FROM"):
        call_command("listen_stats_performances", "2026-03-02", "2026-03-01")


def test_staff_take_the_tables_from_the_page(client, admin_user, station):
    client.force_login(admin_user)
    address = reverse("listen_stats:performances")
    asked = {"from": PERIOD[0], "to": PERIOD[1]}
    page = client.get(address, asked).content.decode()
    assert "from=2026-11-21&amp;to=2026-11-21&amp;society=suisa&amp;format=xlsx" in page
    told = b"".join(client.get(address, {**asked, "society": "soundexchange"}).streaming_content).decode()
    assert [row["ACTUAL_TOTAL_PERFORMANCES"] for row in csv.DictReader(io.StringIO(told, newline=""))] == ["4", ""]
    workbook = client.get(address, {**asked, "society": "generic", "format": "xlsx"})
    assert openpyxl.load_workbook(io.BytesIO(b"".join(workbook.streaming_content))).sheetnames[0] == "performances"
    assert client.get(address, {"society": "nobody"}).status_code == 404


def test_producers_are_told_that_the_page_is_not_theirs(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("nadia"))
    assert client.get(reverse("listen_stats:performances"), {"society": "generic"}).status_code == 403


@pytest.mark.parametrize("at_once", [1, 2, 3, 500])
def test_plays_of_several_stations_come_in_order_and_each_once(monkeypatch, at_once):
    """Also where several begin in one moment, and what is read at once ends among them."""
    monkeypatch.setattr(performances, "READ_AT_ONCE", at_once)
    made = [
        Airing.objects.create(
            station_id=station_id, layer="track", key=f"{place}", started=START + minutes * MINUTE, ended=START + HOUR,
            start_basis="logged", end_basis="logged",
        )
        for place, (station_id, minutes) in enumerate(
            [(1, 5), (9, 5), (1, 5), (9, 4), (1, 6), (1, 5), (4, 6), (1, -90)]
        )
    ]  # fmt: skip
    asked = query.days(dt.date(2026, 11, 21), dt.date(2026, 11, 21), conf.get())
    found = [one.airing_id for one in performances.each_play(asked, None, now=NOW)]
    assert found == [one.pk for one in sorted(made, key=lambda one: (one.started, one.pk))]
    of_one = [one.airing_id for one in performances.each_play(asked, 9, now=NOW)]
    assert of_one == [made[3].pk, made[1].pk]
