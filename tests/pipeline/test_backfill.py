"""An outage of the poll is filled in from the access log, and taken back: nobody counts twice, nobody is lost."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.core.management import CommandError, call_command

from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import Audience, Coverage, LabelChange, Ruling, Secret, Session, StaleWindow, Stream
from aircox_listen_stats.pipeline import rollup, secrets
from aircox_listen_stats.pipeline.ingest import store

from .conftest import HOUR, SETTINGS, T0, S, at, heard, ip, poll
from .test_labels import compute
from .test_rollup import LATER, airing

pytestmark = pytest.mark.django_db

EVERY = 120
"""Seconds between two polls: few, since each is a transaction."""
OUTAGE = (1800, 3600)
"""Seconds from ten o'clock between which every poll failed."""
END = 7200
LOG_END = 6900
"""The log was copied five minutes before the end."""


class Listening(NamedTuple):
    who: int
    started: float
    ended: float


def crowd(count: int = 150, seed: int = 5) -> list[Listening]:
    """People who come and go all the time, each with an address of his own."""
    chance = random.Random(seed)
    found = []
    for who in range(1, count + 1):
        started = chance.uniform(0, END - 60)
        found.append(Listening(who, round(started, 1), round(min(END, started + chance.expovariate(1 / 900) + 2), 1)))
    return found


def polled(people: list[Listening], *, ahead: int = 0) -> None:
    """Stores the polls, but those of the outage. ``ahead``: seconds by which they tell a start too early."""
    for seconds in range(EVERY, END + EVERY, EVERY):
        if OUTAGE[0] <= seconds < OUTAGE[1]:
            continue
        there = [one for one in people if one.started <= seconds < one.ended]
        shown = [heard(one.who, int(one.started) - ahead, seconds) for one in there]
        store(poll(seconds, *shown, every=EVERY), now_ms=at(seconds))


def log(folder: Path, people: list[Listening], *, until: float = LOG_END) -> str:
    """Icecast's access log of the same hours, in the order of the ends."""
    lines = []
    for one in sorted(people, key=lambda some: some.ended):
        if one.ended <= until:
            stamp = f"{from_ms(at(int(one.ended))):%d/%b/%Y:%H:%M:%S +0000}"
            seconds = int(one.ended) - int(one.started)
            sent = f'"GET /live.mp3 HTTP/1.1" 200 {seconds * 16000 + 1} "-" "VLC/3.0.20" {seconds}'
            lines.append(f"{ip(one.who)} - - [{stamp}] {sent}\n")
    path = folder / "access.log"
    path.write_text("".join(lines))
    return str(path)


def backfill(*options: str) -> str:
    out = io.StringIO()
    call_command("listen_stats_backfill", *options, stdout=out)
    return out.getvalue()


ALL_ALONG = [Listening(8, 5, 100), Listening(9, 10, LOG_END)]
"""Lines at both ends of the log: what it observed lies between them."""
HOURS = ("live", "2026-11-22T10:30Z", "2026-11-22T11:00Z")
WHY = ("--why", "The poll was down.", "--by", "Ada")


def counted() -> list[tuple[float, float]]:
    return sorted(((to_ms(one.started) - T0) / S, (to_ms(one.ended) - T0) / S) for one in Session.objects.counted())


def rows() -> list[tuple[Any, ...]]:
    names = ("listener", "started", "ended", "exclusion", "rule", "told_exclusion", "told_rule", "source", "is_open")
    return sorted(Session.objects.values_list(*names), key=str)


@pytest.fixture
def people(stream: Stream) -> list[Listening]:
    some = crowd()
    polled(some)
    return some


@pytest.fixture(autouse=True)
def a_slow_poll(settings: Any, station_settings: None) -> None:
    slow = {"ice": {**SETTINGS["SOURCES"]["ice"], "poll_seconds": EVERY}}
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "SOURCES": slow}


def listened(people: list[Listening], start: float, end: float) -> float:
    return sum(max(0, min(one.ended, end) - max(one.started, start)) for one in people)


def measured(start: float, end: float) -> float:
    return sum(max(0, min(b, end) - max(a, start)) for a, b in counted())


@pytest.mark.parametrize("secret_is_gone", [False, True])
def test_everybody_counts_once_after_the_back_fill(
    people: list[Listening], tmp_path: Path, secret_is_gone: bool
) -> None:
    """Before, who came and went in the outage was lost, and who left in it was cut. Afterwards each is there
    once, to the second, whether listeners can be told by their keys or by their times alone."""
    truth = [one for one in people if one.ended - one.started >= EVERY]
    before = len(counted())
    assert before < len(truth)
    assert measured(*OUTAGE) < 0.9 * listened(people, *OUTAGE)
    if secret_is_gone:
        Secret.objects.all().delete()
        secrets.forget()
    backfill(*HOURS, "--log", log(tmp_path, people), *WHY)
    got = counted()
    in_outage = [one for one in people if one.started < OUTAGE[1] and one.ended > OUTAGE[0] and one.ended <= LOG_END]
    for one in in_outage:
        near = [some for some in got if abs(some[0] - one.started) <= 1.1 and abs(some[1] - one.ended) <= 1.1]
        assert near, f"listener {one.who} is missing"
    assert measured(*OUTAGE) == pytest.approx(listened(people, *OUTAGE), rel=0.003)
    # Beside the outage a poll of two minutes still ends sessions a minute early.
    assert 0.93 * listened(people, 0, END) < measured(0, END) <= listened(people, 0, END)
    lost = [one for one in people if one not in in_outage and one.ended - one.started < EVERY]
    assert len(people) - len(lost) <= len(got) <= len(people)


def test_two_tellings_of_one_session_across_a_border_count_once(stream: Stream, tmp_path: Path) -> None:
    """Cut by the outage, ended just before it, come just after it, still there: each is told once."""
    some = [
        Listening(1, 0, 2400),  # its poll ends at 1680, beside the window
        Listening(2, 100, 1796),  # over just before the outage: the poll says 1680
        Listening(3, 3599.6, 4000),  # the log has it begin inside, the poll may too
        Listening(4, 2000, 5000),  # came in the outage and stayed
        Listening(5, 2000, 7100),  # stays beyond the log's end
        Listening(6, 2000, 2300),  # came and went
        Listening(7, 2400, 2401),
    ]
    polled(some)
    assert len(counted()) == 5
    backfill(*HOURS, "--log", log(tmp_path, [*some, Listening(9, 10, LOG_END)]), *WHY)
    starts = sorted(round(one[0]) for one in counted())
    assert starts == [0, 10, 100, 2000, 2000, 2000, 2400, 3599]


def test_whoever_the_two_place_on_different_sides_of_a_border_is_not_lost(stream: Stream, tmp_path: Path) -> None:
    """The poll has it begin a second before the window ends, the log a second later."""
    some = [Listening(3, OUTAGE[1] + 0.2, 4000)]
    polled(some, ahead=1)
    assert [one[0] for one in counted()] == [OUTAGE[1] - 1]
    backfill(*HOURS, "--log", log(tmp_path, [*some, *ALL_ALONG]), *WHY)
    assert [one[0] for one in counted()] == [10, OUTAGE[1]]


def test_who_is_told_whole_here_is_not_told_in_part_from_there(stream: Stream, tmp_path: Path) -> None:
    """A listener reconnects and stays: the log knows only of the first socket, which the poll knows too."""
    polled([Listening(3, 3300, 4000), Listening(3, 4010, 7100)])
    ((start, end),) = counted()
    assert (start, end) == (3300, 7080)
    backfill(*HOURS, "--log", log(tmp_path, [Listening(3, 3300, 4000), *ALL_ALONG]), *WHY)
    assert counted() == [(10, LOG_END), (start, end)]


def test_figures_get_a_new_version_with_the_coverage_of_the_log(people: list[Listening], tmp_path: Path) -> None:
    one = airing(*OUTAGE)
    rollup.refresh(1, T0, T0 + 2 * HOUR, now_ms=LATER)
    before = Audience.objects.get(airing=one)
    assert before.coverage < 0.1
    assert before.version == 1
    compute()
    backfill(*HOURS, "--log", log(tmp_path, people), *WHY)
    compute()
    after = Audience.objects.get(airing=one)
    assert (after.coverage, after.version) == (1.0, 2)
    assert after.listening_ms / S == pytest.approx(listened(people, *OUTAGE), rel=0.003)
    backfill("--undo", "back-fill 1", "--why", "Wrong log.")
    compute()
    undone = Audience.objects.get(airing=one)
    assert (undone.coverage, undone.listening_ms, undone.sessions, undone.version) == (
        before.coverage,
        before.listening_ms,
        before.sessions,
        3,
    )


def test_undone_all_is_as_before_and_what_was_filled_in_stays_labelled(people: list[Listening], tmp_path: Path) -> None:
    before, covered = rows(), list(Coverage.objects.order_by("started").values_list("started", "ended"))
    backfill(*HOURS, "--log", log(tmp_path, people), *WHY)
    assert Session.objects.filter(exclusion="replaced", rule="back-fill 1").exists()
    backfill("--undo", "back-fill 1", "--why", "Wrong log.", "--by", "Ben")
    assert [row for row in rows() if row[7] == "ice"] == before
    assert list(Coverage.objects.order_by("started").values_list("started", "ended")) == covered
    labels = set(Session.objects.filter(source="back-fill 1").values_list("exclusion", "rule"))
    assert labels == {("replaced", "back-fill 1 undone")}
    assert [(one.by, one.reason, one.is_revocation) for one in LabelChange.objects.order_by("pk")] == [
        ("Ada", "The poll was down.", False),
        ("Ben", "Wrong log.", True),
    ]
    with pytest.raises(CommandError, match="No back-fill 'back-fill 1' stands"):
        backfill("--undo", "back-fill 1", "--why", "again")


def test_the_same_again_counts_as_much(people: list[Listening], tmp_path: Path) -> None:
    """Whoever is killed, or is not sure, runs it once more."""
    path = log(tmp_path, people)
    backfill(*HOURS, "--log", path, *WHY)
    once = counted()
    backfill(*HOURS, "--log", path, *WHY)
    assert counted() == once
    backfill("--undo", "back-fill 2", "--why", "x")
    assert counted() == once
    assert "back-fill 1  stands" in backfill()
    assert "back-fill 2  undone" in backfill()


def test_what_the_poll_still_tells_of_those_hours_stays_replaced(people: list[Listening], tmp_path: Path) -> None:
    backfill(*HOURS, "--log", log(tmp_path, people), *WHY)
    once = counted()
    late = [one for one in people if one.started < OUTAGE[0] < one.ended < OUTAGE[1]][:3]
    told = [heard(one.who, int(one.started), OUTAGE[0] + 40, ended=True) for one in late]
    from .conftest import told as report

    store(report(*told), now_ms=at(END))
    assert counted() == once


def test_a_dry_run_says_the_same_and_stores_nothing(people: list[Listening], tmp_path: Path) -> None:
    path, before = log(tmp_path, people), rows()
    StaleWindow.objects.all().delete()
    said = backfill(*HOURS, "--log", path, "--dry-run")
    assert rows() == before
    assert not Ruling.objects.exists()
    assert not StaleWindow.objects.exists()
    done = backfill(*HOURS, "--log", path, *WHY)
    assert said.replace("would be ", "") == "".join(line for line in done.splitlines(True) if "--undo" not in line)


def test_several_days_are_several_steps(people: list[Listening], tmp_path: Path, settings: Any) -> None:
    """The broadcast day turns at 11:00 here."""
    settings.AIRCOX_LISTEN_STATS = {**settings.AIRCOX_LISTEN_STATS, "BROADCAST_DAY_STARTS": "11:00", "TIME_ZONE": "UTC"}
    secrets.forget()
    path = log(tmp_path, people)
    once = backfill("live", "2026-11-22T10:30Z", "2026-11-22T11:20Z", "--log", path, *WHY)
    assert Ruling.objects.count() == 2
    assert Ruling.objects.values_list("only_source", flat=True).distinct().count() == 1
    assert measured(OUTAGE[0], 4800) == pytest.approx(listened(people, OUTAGE[0], 4800), rel=0.003)
    assert "sessions stored" in once
    starts = sorted(Session.objects.filter(source="back-fill 1").values_list("started", "ended", "listener"))
    assert len(set(starts)) == len(starts)
    backfill("--undo", "back-fill 1", "--why", "x")
    assert not Session.objects.counted().filter(source="back-fill 1").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["live", "2026-11-22T10:30Z", "2026-11-22T11:00Z", *WHY], "Name one second source"),
        (["live", *WHY], "STREAM FROM TO"),
        (["--undo", "back-fill 9", "--why", "x"], "Those that do: none"),
    ],
)
def test_what_cannot_be_filled_is_said(stream: Stream, options: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        backfill(*options)


def test_a_log_of_other_hours_and_a_missing_reason_are_refused(people: list[Listening], tmp_path: Path) -> None:
    path, before = log(tmp_path, people), rows()
    with pytest.raises(CommandError, match="tells nothing of these hours: it observed 2026-11-22 10:0"):
        backfill("live", "2026-11-23", "2026-11-24", "--log", path, *WHY)
    with pytest.raises(CommandError, match="reason"):
        backfill(*HOURS, "--log", path)
    assert rows() == before
