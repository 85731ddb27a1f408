"""Labels that a technician puts on and takes off: they outlive stitching, and figures follow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from aircox_listen_stats.fields import from_ms
from aircox_listen_stats.models import Audience, LabelChange, Ruling, Session, StaleWindow, Stream
from aircox_listen_stats.pipeline import labels, rebuild, retention, rollup, windows
from aircox_listen_stats.pipeline.ingest import store

from .conftest import MINUTE, SETTINGS, T0, at, heard, poll
from .test_rollup import LATER, airing, session

pytestmark = pytest.mark.django_db

CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1)"


def label(*options: str, **more: Any) -> str:
    out = io.StringIO()
    call_command("listen_stats_label", *options, stdout=out, **more)
    return out.getvalue()


def told() -> list[tuple[Any, ...]]:
    names = ("exclusion", "rule", "told_exclusion", "told_rule")
    return list(Session.objects.order_by("started", "pk").values_list(*names))


def compute() -> None:
    """Works off what became stale, as the collector does."""
    windows.work_off(
        StaleWindow.AUDIENCE,
        1,
        lambda start, end: rollup.refresh(1, start, end, now_ms=LATER),
        put_off=windows.PutOff(),
        now_ms=LATER,
    )


def test_a_ruling_outlives_stitching_and_is_undone_without_a_trace(stream: Stream) -> None:
    """What it takes for no bot counts from now on, also what is heard later; undone, all is as it was told."""
    store(poll(15, heard(1, 0, 15, agent=CRAWLER), heard(2, 5, 15)), now_ms=at(15))
    assert told() == [("bot", "crawlerdetect", None, None), ("", "", None, None)]
    label("--as", "counted", "--rule", "crawlerdetect", "--why", "Our partner's player calls itself so.", "--by", "Ada")
    ruling = Ruling.objects.get()
    ruled = ("", f"ruling {ruling.pk}", "bot", "crawlerdetect")
    assert told() == [ruled, ("", "", None, None)]
    later = (heard(1, 0, 30, agent=CRAWLER), heard(2, 5, 30), heard(3, 20, 30, agent=CRAWLER))
    store(poll(30, *later), now_ms=at(30))
    assert told() == [ruled, ("", "", None, None), ruled]
    store(poll(45), now_ms=at(45))
    assert not Session.objects.open().exists()
    assert told() == [ruled, ("", "", None, None), ruled]
    label("--undo", str(ruling.pk), "--why", "It was a crawler after all.", "--by", "Ben")
    told_first = ("bot", "crawlerdetect", None, None)
    assert told() == [told_first, ("", "", None, None), told_first]


def test_the_trail_says_who_when_why_and_what_became_of_which_labels(stream: Stream) -> None:
    for number in range(3):
        session(stream, number * 60, number * 60 + 120, exclusion="bot", rule="crawlerdetect", app="VLC")
    session(stream, 0, 120, app="VLC")
    label("--as", "staff", "--app", "VLC", "--why", "The studio's own monitor.", "--by", "Ada")
    ruling = Ruling.objects.get()
    name = f"ruling {ruling.pk}"
    label("--undo", str(ruling.pk), "--why", "Wrong app.", "--by", "Ben")
    assert [
        (one.by, one.reason, one.is_revocation, one.sessions, one.labels) for one in LabelChange.objects.order_by("pk")
    ] == [
        (
            "Ada",
            "The studio's own monitor.",
            False,
            4,
            [["", "", "staff", name, 1], ["bot", "crawlerdetect", "staff", name, 3]],
        ),
        ("Ben", "Wrong app.", True, 4, [["staff", name, "", "", 1], ["staff", name, "bot", "crawlerdetect", 3]]),
    ]
    assert "revoked" in label()


def test_settled_figures_are_computed_again_as_a_new_version(stream: Stream) -> None:
    one = airing(0, 3600)
    session(stream, 0, 600, app="Sonos")
    session(stream, 0, 600, app="VLC")
    rollup.refresh(1, T0, T0 + 60 * MINUTE, now_ms=LATER)
    before = Audience.objects.get(airing=one)
    assert (before.sessions, before.settled, before.version) == (2, True, 1)
    label("--as", "monitor", "--app", "Sonos", "--why", "It plays in the lobby.")
    compute()
    after = Audience.objects.get(airing=one)
    assert (after.sessions, after.listening_ms, after.version) == (1, 600_000, 2)
    label("--undo", str(Ruling.objects.get().pk), "--why", "People do hear the lobby.")
    compute()
    undone = Audience.objects.get(airing=one)
    assert (undone.sessions, undone.listening_ms, undone.version) == (2, before.listening_ms, 3)


def test_a_label_that_leaves_the_same_ones_out_makes_no_figure_stale(stream: Stream) -> None:
    session(stream, 0, 600, exclusion="bot", rule="crawlerdetect")
    label("--as", "monitor", "--rule", "crawlerdetect", "--why", "It is our probe.")
    assert told() == [("monitor", f"ruling {Ruling.objects.get().pk}", "bot", "crawlerdetect")]
    assert not StaleWindow.objects.exists()


def test_one_listener_alone_is_meant_by_a_session(stream: Stream) -> None:
    one = session(stream, 0, 600, listener=11)
    session(stream, 900, 1000, listener=11)
    session(stream, 0, 600, listener=12)
    elsewhere = Stream.objects.create(slug="low", station_id=1, source="ice")
    session(elsewhere, 0, 600, listener=11)
    assert "2 sessions are meant" in label("--as", "staff", "--session", str(one.pk), "--why", "x", "--dry-run")
    assert not Ruling.objects.exists()
    label("--as", "staff", "--session", str(one.pk), "--why", "The janitor's radio.")
    assert Session.objects.filter(exclusion="staff").count() == 2
    assert "11" not in label().replace("2026-11", "")


def test_a_window_bounds_a_ruling(stream: Stream) -> None:
    session(stream, 0, 600, app="VLC")
    session(stream, 7200, 7800, app="VLC")
    hour = ["--from", "2026-11-22T10:00Z", "--to", "2026-11-22T11:00Z"]
    label("--as", "staff", "--app", "VLC", *hour, "--stream", "live", "--why", "Rehearsal.")
    assert [one[0] for one in told()] == ["staff", ""]


def test_whoever_was_killed_lays_rulings_again(stream: Stream) -> None:
    """The ruling is stored first: laid once more, it labels what was left, and then changes nothing."""
    session(stream, 0, 600, app="VLC")
    labels.store(Ruling(app="VLC", exclusion="bot", reason="x"))
    assert told()[0][0] == ""
    assert label("--again").startswith("1 sessions")
    assert told()[0][0] == "bot"
    assert label("--again").startswith("0 sessions")


def test_rebuilding_keeps_labels(stream: Stream) -> None:
    store(poll(15, heard(1, 0, 15), heard(2, 0, 15)), now_ms=at(15))
    label("--as", "staff", "--app", "VLC", "--why", "x")
    before = told()
    rebuild.rebuild(1, T0 - MINUTE, T0 + MINUTE, now_ms=at(20))
    assert told() == before


def test_imported_sessions_heed_rulings(stream: Stream) -> None:
    labels.make(Ruling(app="VLC", exclusion="bot", reason="x"))
    session(stream, 0, 600, app="VLC")
    assert labels.lay_all([stream], at(0), at(600)) == 1
    assert told()[0][0] == "bot"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--as", "staff", "--why", "x"], "about everybody"),
        (["--as", "staff", "--stream", "live", "--why", "x"], "about everybody"),
        (["--as", "staff", "--app", "VLC"], "needs a reason"),
        (["--as", "staff", "--app", "VLC", "--why", "x", "--stream", "nope"], "Unknown stream 'nope'. Known: live."),
        (["--as", "staff", "--session", "99", "--why", "x"], "no session 99"),
        (["--undo", "99", "--why", "x"], "no ruling 99"),
        (
            ["--as", "staff", "--app", "VLC", "--why", "x", "--from", "2026-11-23", "--to", "2026-11-22"],
            "before it begins",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(stream: Stream, options: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        label(*options)
    assert not Ruling.objects.exists()


def test_a_ruling_is_revoked_once(stream: Stream) -> None:
    session(stream, 0, 600, app="VLC")
    ruling = Ruling(app="VLC", exclusion="bot", reason="x")
    labels.make(ruling)
    with pytest.raises(labels.RulingRefused, match="reason"):
        labels.revoke(ruling, by="", reason=" ")
    labels.revoke(ruling, by="", reason="y")
    with pytest.raises(labels.RulingRefused, match="revoked already"):
        labels.revoke(ruling, by="", reason="y")


def test_a_session_that_moves_into_a_window_is_labelled_then(stream: Stream) -> None:
    labels.make(Ruling(app="VLC", exclusion="staff", reason="x", started=from_ms(at(20)), ended=from_ms(at(40))))
    store(poll(15, heard(1, 0, 15)), now_ms=at(15))
    assert told()[0][0] == ""
    store(poll(30, heard(1, 0, 30)), now_ms=at(30))
    assert told()[0][0] == "staff"


def test_a_ruling_about_a_listener_goes_when_nothing_bears_the_key_any_more(stream: Stream, settings: Any) -> None:
    settings.AIRCOX_LISTEN_STATS = {**SETTINGS, "KEEP_SESSIONS_DAYS": 1}
    day_ms = 24 * 60 * MINUTE
    labels.make(Ruling(listener=7, exclusion="staff", reason="x"), now_ms=at(0))
    labels.make(Ruling(app="VLC", exclusion="staff", reason="x"), now_ms=at(0))
    assert retention.prune(now_ms=at(0) + 31 * day_ms).rulings == 0
    assert retention.prune(now_ms=at(0) + 33 * day_ms, dry_run=True).rulings == 1
    assert retention.prune(now_ms=at(0) + 33 * day_ms).rulings == 1
    assert [one.app for one in Ruling.objects.all()] == ["VLC"]


def test_an_import_heeds_rulings(stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aircox_listen_stats.management.commands import listen_stats_import

    monkeypatch.setattr(listen_stats_import, "_station_of", lambda slug, entry: 1)
    labels.make(Ruling(app="VLC", exclusion="staff", reason="x"))
    line = '192.0.2.{} - - [22/Nov/2026:10:10:00 +0000] "GET /live.mp3 HTTP/1.1" 200 9 "-" "{}" 300\n'
    (tmp_path / "access.log").write_text(line.format(1, "VLC/3") + line.format(2, "Sonos/1"))
    call_command("listen_stats_import", str(tmp_path / "access.log"), verbosity=0)
    assert sorted(Session.objects.values_list("app", "exclusion")) == [("Sonos", ""), ("VLC", "staff")]
