"""A technician labels in admin, and takes it back; the trail is shown beside."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.urls import reverse

from aircox_listen_stats.models import (
    Airing,
    LabelChange,
    PlayerSession,
    Recording,
    RecordingPlay,
    Ruling,
    Session,
    StaleWindow,
    Stream,
)

pytestmark = pytest.mark.django_db

ADD = "admin:aircox_listen_stats_ruling_add"
RULINGS = "admin:aircox_listen_stats_ruling_changelist"
PLAYS = "admin:aircox_listen_stats_recordingplay_changelist"
SESSIONS = "admin:aircox_listen_stats_session_changelist"
START = dt.datetime(2026, 11, 22, 10, tzinfo=dt.UTC)
LISTENER = 4242424242


@pytest.fixture
def session(db: None) -> Session:
    return Session.objects.create(
        stream=Stream.objects.create(slug="live", station_id=1, source="icecast"),
        listener=LISTENER,
        started=START,
        ended=START + dt.timedelta(minutes=10),
        played_ms=600_000,
        app="VLC",
        exclusion="bot",
        rule="crawlerdetect",
        source="icecast",
    )


def send(client: Any, after_commit: Any, url: str, fields: dict[str, Any]) -> Any:
    with after_commit(execute=True):
        return client.post(url, fields, follow=True)


def test_a_rule_is_overruled_and_the_overruling_revoked(
    admin_client: Any, session: Session, django_capture_on_commit_callbacks: Any
) -> None:
    fields = {"told_rule": "crawlerdetect", "exclusion": "", "reason": "It is a speaker."}
    assert send(admin_client, django_capture_on_commit_callbacks, reverse(ADD), fields).status_code == 200
    ruling = Ruling.objects.get()
    session.refresh_from_db()
    assert (ruling.made_by, session.exclusion, session.rule) == ("admin", "", f"ruling {ruling.pk}")
    assert StaleWindow.objects.exists()
    page = admin_client.get(reverse("admin:aircox_listen_stats_ruling_change", args=[ruling.pk])).content.decode()
    assert "It is a speaker." in page
    assert "crawlerdetect" in page
    revocation = {"action": "revoke", "_selected_action": [ruling.pk], "reason": ""}
    assert (
        b"needs a reason"
        in send(admin_client, django_capture_on_commit_callbacks, reverse(RULINGS), revocation).content
    )
    send(admin_client, django_capture_on_commit_callbacks, reverse(RULINGS), {**revocation, "reason": "No, a bot."})
    session.refresh_from_db()
    assert (session.exclusion, session.rule, session.told_rule) == ("bot", "crawlerdetect", None)
    assert list(LabelChange.objects.order_by("pk").values_list("by", "reason", "sessions")) == [
        ("admin", "It is a speaker.", 1),
        ("admin", "No, a bot.", 1),
    ]


def test_one_listener_is_chosen_by_a_session_and_no_key_is_shown(
    admin_client: Any, session: Session, django_capture_on_commit_callbacks: Any
) -> None:
    chosen = {"action": "rule_on_listener", "_selected_action": [session.pk]}
    answer = admin_client.post(reverse(SESSIONS), chosen)
    assert answer.url == f"{reverse(ADD)}?session={session.pk}"
    assert f'value="{session.pk}"' in admin_client.get(answer.url).content.decode()
    fields = {"session": session.pk, "exclusion": "staff", "reason": "The studio."}
    send(admin_client, django_capture_on_commit_callbacks, reverse(ADD), fields)
    ruling = Ruling.objects.get()
    assert (ruling.listener, ruling.stream_id) == (LISTENER, session.stream_id)
    session.refresh_from_db()
    assert session.exclusion == "staff"
    for url in (reverse(RULINGS), reverse("admin:aircox_listen_stats_ruling_change", args=[ruling.pk])):
        assert str(LISTENER) not in admin_client.get(url).content.decode()


def test_a_play_is_ruled_on_and_counted_and_no_key_is_shown(
    admin_client: Any, session: Session, django_capture_on_commit_callbacks: Any
) -> None:
    who = {"listener": LISTENER, "country": "BE", "app": "Firefox", "started": START}
    play = RecordingPlay.objects.create(
        recording=Recording.objects.create(sound_id=7, title="Jazz"), visit=1, seen=START, played_ms=60_000, **who
    )
    PlayerSession.objects.create(ended=START, live_ms=0, on_demand_ms=60_000, played_ms=60_000, **who)
    answer = admin_client.post(reverse(PLAYS), {"action": "rule_on_listener", "_selected_action": [play.pk]})
    assert answer.url == f"{reverse(ADD)}?play={play.pk}"
    fields = {"play": play.pk, "exclusion": "staff", "reason": "The studio."}
    page = admin_client.post(reverse(ADD), {**fields, "_preview": "1"}).content.decode()
    assert "In the web player too: 1 plays of recordings and 1 sessions." in page
    assert not Ruling.objects.exists()
    send(admin_client, django_capture_on_commit_callbacks, reverse(ADD), fields)
    ruling = Ruling.objects.get()
    play.refresh_from_db()
    session.refresh_from_db()
    assert (ruling.listener, ruling.stream_id) == (LISTENER, None)
    assert (play.exclusion, play.told_exclusion, session.exclusion) == ("staff", "", "staff")
    trail = admin_client.get(reverse("admin:aircox_listen_stats_ruling_change", args=[ruling.pk])).content.decode()
    assert "session in the player" in trail
    pages = [reverse(PLAYS), reverse("admin:aircox_listen_stats_recordingplay_change", args=[play.pk])]
    pages += [reverse("admin:aircox_listen_stats_playersession_changelist")]
    for shown in (trail, *(admin_client.get(page).content.decode() for page in pages)):
        assert str(LISTENER) not in shown
    revocation = {"action": "revoke", "_selected_action": [ruling.pk], "reason": "Others listen there too."}
    send(admin_client, django_capture_on_commit_callbacks, reverse(RULINGS), revocation)
    play.refresh_from_db()
    assert (play.exclusion, play.told_exclusion) == ("", None)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"exclusion": "staff", "reason": "x"}, b"about everybody"),
        ({"app": "VLC", "exclusion": "staff"}, b"This field is required"),
        ({"session": 99, "exclusion": "staff", "reason": "x"}, b"no session 99"),
        ({"play": 99, "exclusion": "staff", "reason": "x"}, b"no play 99"),
        ({"play": 99, "session": 99, "exclusion": "staff", "reason": "x"}, b"of a session, or of a play"),
        ({"app": "VLC", "exclusion": "replaced", "reason": "x"}, b"not one of the available choices"),
    ],
)
def test_what_makes_no_sense_is_said_on_the_form(admin_client: Any, fields: dict[str, Any], says: bytes) -> None:
    assert says in admin_client.post(reverse(ADD), fields).content
    assert not Ruling.objects.exists()


def test_who_may_only_look_makes_no_ruling(client: Any, session: Session, django_user_model: Any) -> None:
    from django.contrib.auth.models import Permission

    user = django_user_model.objects.create_user("looker", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["view_session", "view_ruling"]))
    client.force_login(user)
    assert client.get(reverse(ADD)).status_code == 403
    assert client.get(reverse(RULINGS)).status_code == 200
    answer = client.post(reverse(SESSIONS), {"action": "rule_on_listener", "_selected_action": [session.pk]})
    assert getattr(answer, "url", "").startswith(reverse(ADD)) is False


def test_what_would_change_is_shown_before_it_is_done_and_the_notes_name_the_user(
    admin_client: Any, session: Session, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django.utils.timezone.now", lambda: START + dt.timedelta(hours=5))
    Airing.objects.create(
        station_id=1, layer="diffusion", key="diffusion:1", title="Morning", started=START,
        ended=START + dt.timedelta(hours=1), start_basis="observed", end_basis="observed",
    )  # fmt: skip
    fields = {"told_rule": "crawlerdetect", "exclusion": "", "reason": "It is a speaker."}
    fields |= {"started_0": "2026-11-22", "started_1": "09:00:00"}
    page = admin_client.post(reverse(ADD), {**fields, "_preview": "1"}).content.decode()
    assert 'name="started_1" value="09:00:00"' in page
    assert "1 session would count, or no longer count." in page
    assert '<th scope="row">Morning' in page
    assert "<td>Sessions</td><td>0</td><td>1</td>" in page
    assert 'name="reason" value="It is a speaker."' in page
    assert not Ruling.objects.exists()
    send(admin_client, django_capture_on_commit_callbacks, reverse(ADD), {**fields, "_save": "1"})
    assert StaleWindow.objects.values_list("why", "who").get() == ("label", "admin")
    number = Ruling.objects.get().pk
    revocation = {"_selected_action": [number], "reason": "No, a bot."}
    page = admin_client.post(reverse(RULINGS), {**revocation, "action": "preview_revocation"}).content.decode()
    assert "<td>Sessions</td><td>1</td><td>0</td>" in page
    assert f'name="_selected_action" value="{number}"' in page
    assert Ruling.objects.get().revoked is None
    send(admin_client, django_capture_on_commit_callbacks, reverse(RULINGS), {**revocation, "action": "revoke"})
    assert Ruling.objects.get().revoked is not None


def test_a_preview_of_what_makes_no_sense_is_refused_on_the_form(admin_client: Any) -> None:
    fields = {"exclusion": "staff", "reason": "x", "_preview": "1"}
    assert b"about everybody" in admin_client.post(reverse(ADD), fields).content
