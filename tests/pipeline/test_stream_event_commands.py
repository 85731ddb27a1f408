"""The commands of stream events: tokens are shown once, dead letters are mended and told again; and the doctor."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from aircox_listen_stats import conf, doctor
from aircox_listen_stats.models import DeadLetter, IngestToken, SourceState, StreamEvent
from aircox_listen_stats.pipeline import tokens
from aircox_listen_stats.sources import registry

from .conftest import HOUR
from .test_stream_events import ICECAST, NOW, SETTINGS, collect, take

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def here(settings: Any, station_settings: None, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from aircox_listen_stats.management.commands import _words

    settings.AIRCOX_LISTEN_STATS = SETTINGS
    monkeypatch.setattr(_words, "now_ms", lambda: NOW)


def run(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


# Tokens ----------------------------------------------------------------------------------------------


def created(*words: str) -> str:
    return run("listen_stats_token", "create", "edge-1", *words).splitlines()[-1]


def test_a_token_is_shown_when_it_is_made_and_never_again() -> None:
    token = created("--source", "events")
    assert tokens.valid(token, now_ms=NOW) == IngestToken.objects.get()
    listed = run("listen_stats_token", "list")
    assert token not in listed
    for word in (token[:8], "edge-1", "source: events", "scopes: ingest", "last used: never", "good"):
        assert word in listed


def test_a_rotation_leaves_the_old_one_its_grace_and_a_revocation_nothing() -> None:
    old = created("--source", "events", "--scope", "ingest", "--scope", "read")
    new = run("listen_stats_token", "rotate", old[:8], "--grace-hours", "2").splitlines()[-2]
    hour_ms = 3_600_000
    assert [tokens.valid(one, now_ms=NOW + 2 * hour_ms - 1) is not None for one in (old, new)] == [True, True]
    assert [tokens.valid(one, now_ms=NOW + 2 * hour_ms) is not None for one in (old, new)] == [False, True]
    assert IngestToken.objects.values_list("scopes", flat=True).distinct().get() == "ingest read"
    assert "good until" in run("listen_stats_token", "list")
    run("listen_stats_token", "revoke", new[:8])
    assert tokens.valid(new, now_ms=NOW) is None
    assert "revoked" in run("listen_stats_token", "list")


def test_a_second_rotation_does_not_lengthen_an_old_tokens_life() -> None:
    old = created("--source", "events")
    run("listen_stats_token", "rotate", old[:8], "--grace-hours", "1")
    run("listen_stats_token", "rotate", old[:8], "--grace-hours", "100")
    assert tokens.valid(old, now_ms=NOW + 3_600_000) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "x"], "needs its --source"),
        (["create", "x", "--source", "evnts"], "Configured: events"),
        (["create", "x", "--source", "log"], "Configured: events"),
        (["revoke", "als_none"], "0 tokens"),
        (["rotate", "", "--grace-hours", "1"], "0 tokens"),
    ],
)
def test_what_cannot_be_done_is_said(words: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        run("listen_stats_token", *words)


def test_a_reader_needs_no_source() -> None:
    assert tokens.valid(created("--scope", "read"), now_ms=NOW) is not None


# Dead letters ----------------------------------------------------------------------------------------


def test_letters_are_listed_shown_mended_told_again_and_dropped() -> None:
    take([{**ICECAST, "status": "2OO"}, {**ICECAST, "ip": "192.0.2.8", "status": "2OO"}, None])
    listed = run("listen_stats_deadletters", "list")
    assert "2  events  status wrong" in listed
    assert "'9AA'" in listed
    shown = run("listen_stats_deadletters", "show", str(DeadLetter.objects.earliest("pk").pk))
    assert '"stream": "live"' in shown
    assert "expected a status from 100 to 599" in shown
    chosen = ("--field", "status", "--reason", "wrong")
    assert "2 would be well-formed" in run("listen_stats_deadletters", "mend", "status=200", *chosen, "--dry-run")
    assert DeadLetter.objects.filter(reason="wrong").count() == 2
    assert "1 are still wrong: event missing" not in run("listen_stats_deadletters", "mend", "status=200", *chosen)
    assert "events: 2 would be accepted" in run("listen_stats_deadletters", "replay", "--all", "--dry-run")
    assert not StreamEvent.objects.exists()
    assert "events: 2 accepted, 0 there already, 0 no listening, 1 still wrong, 0 too old.\n" in run(
        "listen_stats_deadletters", "replay", "--all"
    )
    assert StreamEvent.objects.count() == 2
    assert "1 would go" in run("listen_stats_deadletters", "drop", "--all", "--dry-run")
    assert "1 gone" in run("listen_stats_deadletters", "drop", "--id", str(DeadLetter.objects.get().pk))
    assert "No dead letters" in run("listen_stats_deadletters", "list")


def test_letters_that_are_too_old_are_kept_and_what_to_do_instead_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from aircox_listen_stats.management.commands import _words

    take([{**ICECAST, "status": "2OO"}])
    monkeypatch.setattr(_words, "now_ms", lambda: NOW + 8 * 24 * HOUR)
    for words, found in (
        (("mend", "status=200"), "1 are still wrong: time_end too_old."),
        (("replay",), "events: 0 accepted, 0 there already, 0 no listening, 0 still wrong, 1 too old."),
    ):
        said = run("listen_stats_deadletters", *words, "--all")
        assert found in said
        assert "Import those hours from the log instead (listen_stats_import)" in said
    assert DeadLetter.objects.get().reason == "too_old"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["replay"], "Which ones"),
        (["drop"], "Which ones"),
        (["mend", "status=200"], "Which ones"),
        (["mend", "192.0.2.7", "--all"], "field=value"),
        (["mend", "colour=red", "--all"], "colour"),
        (["show", "1"], "No dead letter"),
    ],
)
def test_what_makes_no_sense_is_refused_without_its_value(words: list[str], said: str) -> None:
    take([None])
    DeadLetter.objects.update(id=7)
    with pytest.raises(CommandError, match=said) as caught:
        run("listen_stats_deadletters", *words)
    assert "192.0.2.7" not in str(caught.value)


def test_letters_of_a_source_that_is_gone_can_only_be_dropped(settings: Any) -> None:
    take([None])
    settings.AIRCOX_LISTEN_STATS = {"SOURCES": {}, "STREAMS": {}}
    with pytest.raises(CommandError, match="events"):
        run("listen_stats_deadletters", "replay", "--all")
    assert "1 gone" in run("listen_stats_deadletters", "drop", "--all")


# The doctor ------------------------------------------------------------------------------------------


def findings() -> str:
    source = registry.source(conf.get(), "events")
    state = SourceState.objects.filter(pk="events").first()
    return "\n".join(
        f"{one.grade}: {one.text} {one.mend}" for one in doctor._stream_events(source, state, NOW + 60_000)
    )


def test_the_doctor_knows_whether_events_come_and_whether_anybody_may_send_them() -> None:
    assert "never told of an event, and no token lets anybody" in findings()
    created("--source", "events")
    assert "never told of an event. Try the curl example" in findings()
    take([ICECAST, None])
    collect()
    assert "well: was last told of events" in findings()
    assert "note: 1 events were refused" in findings()
