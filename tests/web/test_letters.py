"""The producer's letter: who gets one, when, once; what is in it; and how it is stopped."""

from __future__ import annotations

import datetime as dt
import email
import io
import re
import smtplib
import socket
import struct
import threading
import time
from email import policy

import pytest
from aiosmtpd.controller import Controller
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from aircox_listen_stats import checks, conf, doctor
from aircox_listen_stats.errors import ConfigurationError
from aircox_listen_stats.fields import from_ms, to_ms
from aircox_listen_stats.models import Airing, Blur, Letter, LetterSubscription, ProgramAccess, Recording
from aircox_listen_stats.pipeline import collect, letter_mail, letters, live, retention, timeline
from aircox_listen_stats.pipeline.letters import Sent
from aircox_listen_stats.reports import pictures
from aircox_listen_stats.reports.status import status
from tests.pipeline.scripted import OneStation
from tests.web.stations import DAY, HOUR, MINUTE, NOW, WEEK, ZONE, PastStation

pytestmark = pytest.mark.django_db

User = get_user_model()
State = Letter.State
JAZZ, NEWS = 12, 13
SITE = "https://radio.example/club"
LETTERS = {"site": SITE, "sender": "Radio <audience@radio.example>"}
MS = dt.timedelta(milliseconds=1)


@pytest.fixture(autouse=True)
def _a_station_that_writes(settings, monkeypatch):
    settings.AIRCOX_LISTEN_STATS = {"LETTERS": LETTERS}
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    mail.outbox = []


@pytest.fixture
def ada(db):
    user = User.objects.create_user("ada", "ada@radio.example", "x")
    ProgramAccess.objects.create(user=user, program_id=JAZZ)
    return user


@pytest.fixture
def station(db):
    return PastStation()


def on_air(station: PastStation, started: dt.datetime, *, listeners: int = 3, program: int = JAZZ, **values: object):
    """An hour that some listened to, settled; and a tune in, and one out, during its first track."""
    airing = station.diffusion(program, started, program="Campus Jazz", title="Jazz & <Blues>", **values)
    for _ in range(listeners):
        station.session(started - 5 * MINUTE, started + HOUR)
    station.session(started + 12 * MINUTE, started + 14 * MINUTE)
    station.track("Naima", started + 10 * MINUTE, 5, artist="John Coltrane")
    station.observed(started - HOUR, started + 2 * HOUR)
    station.compute(started - HOUR, started + 2 * HOUR)
    return airing


def want(user, program: int = JAZZ, *, since: dt.datetime = NOW - 300 * DAY) -> None:
    letters.subscribe(user.pk, program, now_ms=to_ms(since))


def post(now: dt.datetime = NOW, **how: object) -> Sent:
    """What the collector does every minute."""
    letters.queue(now_ms=to_ms(now))
    return letters.send_due(clock=lambda: to_ms(now), **how)


# Who, when, once -----------------------------------------------------------------------


def test_nobody_gets_letters_unasked(station, ada):
    on_air(station, NOW - DAY)
    assert post() == Sent()
    assert Letter.objects.count() == 0


def test_who_asked_gets_one_letter_about_each_diffusion_that_has_settled(station, ada):
    want(ada)
    on_air(station, NOW - DAY)
    on_air(station, NOW - 3 * DAY)
    assert post().sent == 2
    assert [one.to for one in mail.outbox] == [["ada@radio.example"]] * 2


def test_no_second_one_however_often_it_is_computed_or_settles(station, ada):
    want(ada)
    airing = on_air(station, NOW - DAY)
    assert post().sent == 1
    station.session(airing.started, airing.ended)
    station.compute(airing.started, airing.ended)
    audience = airing.audiences.get(rule_set="triton")
    assert (audience.settled, audience.version) == (True, 2)
    Airing.objects.filter(pk=airing.pk).update(started=airing.started + MINUTE)
    assert post() == Sent()
    # Even where aircox's row came back under another number of ours.
    values = {field.attname: getattr(airing, field.attname) for field in Airing._meta.fields if field.attname != "id"}
    airing.delete()
    Airing.objects.create(**values)
    station.compute(airing.started, airing.ended)
    assert post() == Sent()
    assert len(mail.outbox) == 1


def test_none_while_it_is_provisional_or_on_air(station, ada):
    want(ada)
    airing = on_air(station, NOW - DAY)
    airing.audiences.update(settled=False)
    running = on_air(station, NOW - 2 * HOUR)
    Airing.objects.filter(pk=running.pk).update(is_running=True)
    assert post() == Sent()


def test_an_imported_past_sends_none(station, ada):
    want(ada)
    for week in range(1, 9):
        on_air(station, NOW - week * WEEK - HOUR)
    assert post() == Sent()


def test_what_ended_before_she_asked_gets_none(station, ada):
    on_air(station, NOW - 2 * DAY)
    on_air(station, NOW - DAY)
    want(ada, since=NOW - DAY + HOUR - MS)  # while the second one was on air
    assert post().sent == 1
    assert "Saturday 21 November" in mail.outbox[0].body


def test_how_many_days_is_a_setting(settings, station, ada):
    want(ada)
    on_air(station, NOW - 10 * DAY)
    assert post() == Sent()
    settings.AIRCOX_LISTEN_STATS = {"LETTERS": {**LETTERS, "within_days": 12}}
    assert post().sent == 1


def test_each_producer_gets_her_own_programs_alone(station, ada):
    bea = User.objects.create_user("bea", "bea@radio.example", "x")
    ProgramAccess.objects.create(user=bea, program_id=NEWS)
    want(ada)
    want(bea, NEWS)
    on_air(station, NOW - DAY)
    on_air(station, NOW - 2 * DAY, program=NEWS)
    assert post().sent == 2
    assert sorted(one.to[0] for one in mail.outbox) == ["ada@radio.example", "bea@radio.example"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda user: ProgramAccess.objects.all().delete(), "no access"),
        (lambda user: User.objects.filter(pk=user.pk).update(is_active=False), "no access"),
        (lambda user: User.objects.filter(pk=user.pk).update(email=""), "no address"),
        (lambda user: letters.unsubscribe(user.pk, JAZZ), "unsubscribed"),
        (lambda user: Airing.objects.all().delete(), "diffusion gone"),
    ],
)
def test_what_changed_while_it_waited_is_asked_when_it_is_sent(station, ada, change, why):
    want(ada)
    on_air(station, NOW - DAY)
    letters.queue(now_ms=to_ms(NOW))
    change(ada)
    assert letters.send_due(clock=lambda: to_ms(NOW)) == Sent(dropped=1)
    assert Letter.objects.get().error == why
    assert mail.outbox == []


def test_without_a_site_there_are_none(settings, station, ada, client):
    want(ada)
    on_air(station, NOW - DAY)
    settings.AIRCOX_LISTEN_STATS = {}
    assert post() == Sent()
    client.force_login(ada)
    assert b"letters" not in client.get(reverse("listen_stats:program", args=[JAZZ])).content
    assert client.post(reverse("listen_stats:letters_switch", args=[JAZZ]), {"wanted": "yes"}).status_code == 403
    with pytest.raises(CommandError, match="LETTERS"):
        call_command("listen_stats_letters")


def test_the_queue_has_an_end(station, ada, monkeypatch):
    monkeypatch.setattr(letters, "MOST_WAITING", 3)
    want(ada)
    for hours in range(5):
        on_air(station, NOW - DAY - 3 * hours * HOUR)
    assert letters.queue(now_ms=to_ms(NOW)) == 3
    assert letters.queue(now_ms=to_ms(NOW)) == 0
    assert letters.send_due(clock=lambda: to_ms(NOW)).sent == 3
    assert letters.queue(now_ms=to_ms(NOW)) == 2


def test_rows_of_letters_go_when_none_may_be_due_any_more(settings, station, ada):
    settings.AIRCOX_LISTEN_STATS = {"LETTERS": LETTERS, "KEEP_SESSIONS_DAYS": 1}
    want(ada)
    on_air(station, NOW - DAY)
    post()
    assert retention.prune(now_ms=to_ms(NOW + 100 * DAY)).letters == 0
    assert retention.prune(now_ms=to_ms(NOW + 400 * DAY), dry_run=True).letters == 1
    assert retention.prune(now_ms=to_ms(NOW + 400 * DAY)).letters == 1


# When it does not go well --------------------------------------------------------------


class Trouble(EmailBackend):
    """A server with a script: what it raises when it is opened, and when it gets a message."""

    opening: list[Exception | None] = []
    sending: list[Exception | None] = []

    def open(self):
        if self.opening and (error := self.opening.pop(0)):
            raise error
        return True

    def send_messages(self, messages):
        assert not connection.in_atomic_block or connection.savepoint_ids == [], "never inside a transaction of ours"
        if self.sending and (error := self.sending.pop(0)):
            raise error
        return super().send_messages(messages)


@pytest.fixture
def trouble(settings):
    settings.EMAIL_BACKEND = f"{__name__}.Trouble"
    Trouble.opening, Trouble.sending = [], []
    return Trouble


def test_a_server_that_is_down_is_tried_again_ever_less_often_and_given_up(station, ada, trouble):
    want(ada)
    on_air(station, NOW - DAY)
    trouble.opening = [ConnectionRefusedError("198.51.100.7 says no")] * 20
    now, waits = NOW, []
    for _ in range(letters.MOST_TRIES):
        done = post(now)
        row = Letter.objects.get()
        waits.append((row.due - now) / MINUTE)
        now = row.due
        assert letters.send_due(clock=lambda now=now: to_ms(now) - 1) == Sent()  # not yet
    assert done == Sent(dead=1)
    assert waits == [5, 10, 20, 40, 80, 160, 320, 360]
    assert (row.state, row.tries, row.error) == (State.DEAD, letters.MOST_TRIES, "ConnectionRefusedError")
    trouble.opening = []
    assert post(now + DAY) == Sent()
    assert letters.retry(now_ms=to_ms(now)) == 1
    assert post(now).sent == 1


def test_a_letter_that_was_refused_waits_and_the_others_go(station, ada, trouble):
    want(ada)
    on_air(station, NOW - DAY)
    on_air(station, NOW - 2 * DAY)
    trouble.sending = [smtplib.SMTPRecipientsRefused({"ada@radio.example": (550, b"no such user")})]
    assert post() == Sent(sent=1, failed=1)
    row = Letter.objects.get(state=State.WAITING)
    assert (row.tries, row.error) == (1, "SMTPRecipientsRefused")
    assert post(NOW + 5 * MINUTE) == Sent(sent=1)


@pytest.mark.parametrize("error", [TimeoutError(), smtplib.SMTPServerDisconnected(), BrokenPipeError()])
def test_a_line_that_breaks_while_it_is_handed_over_sends_none_again(station, ada, trouble, error):
    want(ada)
    on_air(station, NOW - DAY)
    trouble.sending = [error]
    assert post() == Sent(doubtful=1)
    assert post(NOW + DAY) == Sent()
    assert Letter.objects.get().error == type(error).__name__
    assert letters.retry(now_ms=to_ms(NOW + DAY)) == 0
    assert letters.retry(now_ms=to_ms(NOW + DAY), doubtful=True) == 1  # who says so knows better
    assert post(NOW + DAY).sent == 1


def test_a_letter_in_the_hands_of_a_killed_process_is_not_sent_again(station, ada):
    want(ada)
    on_air(station, NOW - DAY)
    letters.queue(now_ms=to_ms(NOW))
    Letter.objects.update(state=State.SENDING)
    assert post(NOW + MINUTE) == Sent()
    assert Letter.objects.get().state == State.SENDING
    assert post(NOW + HOUR) == Sent()
    assert Letter.objects.get().state == State.DOUBTFUL


def test_two_who_send_at_once_send_one(station, ada, trouble, monkeypatch):
    want(ada)
    on_air(station, NOW - DAY)
    letters.queue(now_ms=to_ms(NOW))
    opened = []

    def open_while_another_one_sends(self):
        if not opened:
            opened.append(True)
            letters.send_due(clock=lambda: to_ms(NOW))
        return True

    monkeypatch.setattr(Trouble, "open", open_while_another_one_sends)
    assert letters.send_due(clock=lambda: to_ms(NOW)) == Sent()
    assert len(mail.outbox) == 1


def test_one_letter_that_cannot_be_written_keeps_none_back(station, ada, monkeypatch):
    want(ada)
    on_air(station, NOW - 2 * DAY)
    on_air(station, NOW - DAY)
    real, seen = letter_mail.letter, []

    def sometimes(*args):
        seen.append(args)
        if len(seen) == 1:
            raise ValueError("ada@radio.example")
        return real(*args)

    monkeypatch.setattr(letter_mail, "letter", sometimes)
    assert post() == Sent(sent=1, failed=1)
    assert Letter.objects.get(state=State.WAITING).error == "ValueError"


def test_it_ends_between_two_letters_when_it_is_told_to(station, ada):
    want(ada)
    on_air(station, NOW - DAY)
    stop = threading.Event()
    stop.set()
    assert post(stop=stop) == Sent()
    assert Letter.objects.get().state == State.WAITING


def test_a_mail_server_never_has_for_ever(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_TIMEOUT = None
    assert letters._outbox().timeout == letters.SMTP_SECONDS
    settings.EMAIL_TIMEOUT = 3
    assert letters._outbox().timeout == 3


# What is in it -------------------------------------------------------------------------


@pytest.fixture
def sent(station, ada):
    """The letter about the newest of nine weeks, which had the most listeners."""
    want(ada)
    for week in range(8, -1, -1):
        started = (dt.datetime(2026, 11, 18, 20, tzinfo=ZONE) - week * WEEK).astimezone(dt.UTC)
        on_air(station, started, listeners=30 if week == 0 else 2 + week)
    assert post().sent == 1
    return mail.outbox[-1]


def parts_of(message: mail.EmailMessage) -> dict[str, list[email.message.EmailMessage]]:
    whole = email.message_from_bytes(message.message().as_bytes(), policy=policy.default)
    found: dict[str, list[email.message.EmailMessage]] = {}
    for part in whole.walk():
        found.setdefault(part.get_content_type(), []).append(part)
    return found


def test_it_begins_with_one_sentence_that_says_how_sure_it_is(sent):
    first = " ".join(sent.body.split("\n\n")[0].split())
    assert re.match(r"About .* this slot usually has .median of 8: .*; none of those had so many, which chance", first)
    assert "one time in 9." in first


def test_it_has_figures_with_coverage_rule_set_tracks_and_the_page(sent):
    text = " ".join(sent.body.split())
    airing = Airing.objects.filter(program_id=JAZZ).latest("started")
    assert "Average audience: 30.0 (+" in text
    assert "Peak: 31 (at 20:12)" in text
    assert "Observed: 100\N{NO-BREAK SPACE}%" in sent.body
    assert "Retention: 100" in text
    assert "20:10 John Coltrane – Naima: tuned in 1, tuned out 1" in text
    assert "Rule-set triton: a session counts from 60 s" in text
    assert f"{SITE}/audience/diffusions/{airing.pk}/" in sent.body
    assert "Jazz & <Blues> (Campus Jazz)" in sent.body
    assert all(len(line) <= letter_mail.LINE_WIDTH for line in sent.body.splitlines() if "://" not in line)


def test_html_says_the_same_with_pictures_inside(sent):
    found = parts_of(sent)
    (html,) = found["text/html"]
    shown = html.get_content()
    assert "Jazz &amp; &lt;Blues&gt;" in shown
    assert "http:" not in shown.replace(SITE, "")
    assert "<script" not in shown
    assert "src=" in shown
    assert sorted(re.findall(r'src="cid:([^"]+)"', shown)) == sorted(
        part["Content-ID"].strip("<>") for part in found["image/png"]
    )
    assert len(found["image/png"]) == 2
    for part in found["image/png"]:
        png = part.get_content()
        assert part.get_content_disposition() == "inline"
        assert png.startswith(b"\x89PNG")
        assert struct.unpack(">I", png[16:20]) == (pictures.WIDTH * pictures.SHARP,)
    outer = parts_of(sent)["multipart/related"][0]
    assert next(one.get_content_type() for one in outer.iter_parts()) == "multipart/alternative"


def test_the_curve_is_drawn_from_the_minutes(station, ada):
    from PIL import Image

    want(ada)
    airing = on_air(station, NOW - DAY, listeners=4)
    post()
    png = parts_of(mail.outbox[0])["image/png"][0].get_content()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    accent = tuple(bytes.fromhex(pictures.ACCENT[1:]))

    def is_line(minute: float, share: float) -> bool:
        """Whether the line runs at that height at that minute, give or take its own width."""
        x = (pictures.GUTTER + (pictures.WIDTH - pictures.GUTTER) * minute / 60) * pictures.SHARP
        y = pictures.HEADROOM + (pictures.CURVE_HEIGHT - pictures.HEADROOM - pictures.FOOTROOM) * (1 - share)
        near = [picture.getpixel((round(x), round(y * pictures.SHARP) + off)) for off in (-2, -1, 0, 1, 2)]
        return any(sum(abs(a - b) for a, b in zip(one, accent, strict=True)) < 60 for one in near)

    assert airing.audiences.get(rule_set="triton").curve[12] == 5
    # The scale ends at 6: four listen, five from minute 12 to 14.
    assert [is_line(minute, 4 / 6) for minute in (3, 12.5, 40)] == [True, False, True]
    assert [is_line(minute, 5 / 6) for minute in (3, 12.5, 40)] == [False, True, False]


def test_it_can_be_stopped_by_one_click_of_the_mail_program(sent, ada):
    headers = sent.message()
    address = headers["List-Unsubscribe"].strip("<>")
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert headers["Auto-Submitted"] == "auto-generated"
    assert address in sent.body.replace("\n", "")
    path = address.removeprefix(SITE)
    robot = Client(enforce_csrf_checks=True)
    assert robot.get(path).status_code == 200
    assert LetterSubscription.objects.exists()  # a scanner that follows links stops nothing
    answer = robot.post(path, "List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 200
    assert not LetterSubscription.objects.exists()
    assert "No more letters" in robot.get(path).content.decode()


def test_its_link_names_nobody_and_no_address(sent, ada):
    token = sent.message()["List-Unsubscribe"].strip("<>/").rsplit("/", 1)[-1]
    assert token.startswith(f"{ada.pk}-{JAZZ}.")
    assert "ada" not in token.partition(".")[0]


def test_without_https_no_mail_program_is_offered_to_post(settings, station, ada):
    settings.AIRCOX_LISTEN_STATS = {"LETTERS": {**LETTERS, "site": "http://127.0.0.1:8000"}}
    want(ada)
    on_air(station, NOW - DAY)
    post()
    assert "List-Unsubscribe-Post" not in mail.outbox[0].message()


def test_it_speaks_the_language_of_the_station(settings, station, ada):
    settings.AIRCOX_LISTEN_STATS = {"LETTERS": {**LETTERS, "language": "fr"}}
    want(ada)
    on_air(station, NOW - DAY)
    post()
    (letter,) = mail.outbox
    assert letter.subject == "Campus Jazz, 21 novembre : 3,0 à l’écoute en moyenne"
    assert "En moyenne, 3,0 écoutaient" in letter.body
    assert '<html lang="fr">' in letter.alternatives[0][0]


def test_small_cells_are_not_in_it(settings, station, ada):
    settings.AIRCOX_LISTEN_STATS = {"LETTERS": LETTERS, "MINIMUM_CELL": 10}
    want(ada)
    on_air(station, NOW - DAY)
    post()
    text = " ".join(mail.outbox[0].body.split())
    assert text.startswith("On average 3.0 listened.")
    assert "Peak: –" in text
    assert "Naima: tuned in –, tuned out –" in text
    assert "Counts from 1 to one below 10 are left out." in text


def test_what_was_observed_in_part_is_a_lower_bound(station, ada):
    want(ada)
    started = NOW - DAY
    station.diffusion(JAZZ, started, program="Campus Jazz")
    station.session(started, started + HOUR)
    station.observed(started, started + 45 * MINUTE)
    station.compute(started, started + HOUR)
    post()
    (letter,) = mail.outbox
    assert "≥" in letter.subject
    assert "Only 75\N{NO-BREAK SPACE}% of its time was observed" in " ".join(letter.body.split(" ")).replace("\n", " ")


@pytest.mark.parametrize(
    ("why", "time"), [(Blur.Why.ADDRESS, "Listening time is not affected."), (Blur.Why.SOURCE, "and listening time.")]
)
def test_listeners_who_could_not_be_told_apart_are_at_least_so_many(station, ada, why, time):
    want(ada)
    started = NOW - DAY
    airing = on_air(station, started)
    Blur.objects.create(stream=station.streams[0], why=why, started=started, ended=started + 5 * MINUTE)
    post()
    (letter,) = mail.outbox
    text, page = " ".join(letter.body.split()), " ".join(letter.alternatives[0][0].split())
    listeners = airing.audiences.get(rule_set="triton").listeners
    for told in (text, page):
        assert told.count("several listeners may have been counted as one") == 1
        assert time in told
        assert "Time per listener" not in told
    assert f"Distinct listeners: ≥ {listeners}" in text
    assert "at least 4 at once" in text
    assert ("≥" in letter.subject) is (why == Blur.Why.SOURCE)  # the average is a matter of time
    assert "tuned in 1, tuned out 1" in text  # the track came later


def test_a_letter_says_nothing_of_listeners_that_could_be_told_apart(station, ada):
    want(ada)
    on_air(station, NOW - DAY)
    Blur.objects.create(stream=station.streams[0], why=Blur.Why.ADDRESS, started=NOW - DAY - HOUR, ended=NOW - DAY)
    post()
    (letter,) = mail.outbox
    assert "counted as one" not in letter.body
    assert "≥" not in letter.body


def test_a_night_of_music_ends_somewhere(station, ada):
    want(ada)
    started = NOW - DAY
    for number in range(50):
        station.track(f"Track {number}", started + number * MINUTE, 1)
    on_air(station, started)
    post()
    letter = mail.outbox[0]
    assert "Track 38" in letter.body
    assert "Track 41" not in letter.body
    assert "11 more are on the page." in letter.body
    assert len(letter.message().as_bytes()) < 102_000


def test_the_whole_episode_is_in_it(station, ada):
    want(ada)
    first = on_air(station, NOW - 20 * DAY, episode_id=5)
    on_air(station, NOW - DAY, episode_id=5, initial_id=first.diffusion_id)
    Recording.objects.create(sound_id=1, episode_id=5)
    post()
    assert "Heard 2 times on air" in mail.outbox[0].body


def test_without_pillow_it_has_no_picture(station, ada, monkeypatch):
    monkeypatch.setattr(pictures, "can_draw", lambda: False)
    want(ada)
    on_air(station, NOW - DAY)
    assert post().sent == 1
    assert "image/png" not in parts_of(mail.outbox[0])
    assert "cid:" not in mail.outbox[0].alternatives[0][0]
    assert [one.id for one in checks.check_letters()] == ["listen_stats.W014"]


# The switch, and the way out -----------------------------------------------------------


def test_the_switch_on_the_page_of_the_program(client, station, ada):
    on_air(station, NOW - DAY)
    client.force_login(ada)
    page, switch = (reverse(f"listen_stats:{name}", args=[JAZZ]) for name in ("program", "letters_switch"))
    assert "Send me letters" in client.get(page).content.decode()
    answer = client.post(switch, {"wanted": "yes"})
    assert (answer.status_code, answer.url) == (302, f"{page}#letters")
    assert letters.is_wanted(ada.pk, JAZZ)
    client.post(switch, {"wanted": "yes"})  # twice is once
    assert "Stop these letters" in client.get(page).content.decode()
    client.post(switch, {"wanted": "no"})
    assert not letters.is_wanted(ada.pk, JAZZ)


def test_the_switch_is_hers_alone_and_takes_a_post_of_our_page(client, station, ada):
    on_air(station, NOW - DAY)
    switch = reverse("listen_stats:letters_switch", args=[JAZZ])
    assert client.post(switch, {"wanted": "yes"}).status_code == 302  # to the login
    client.force_login(ada)
    assert client.get(switch).status_code == 405
    assert client.post(reverse("listen_stats:letters_switch", args=[NEWS]), {"wanted": "yes"}).status_code == 403
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(ada)
    assert strict.post(switch, {"wanted": "yes"}).status_code == 403
    assert not LetterSubscription.objects.exists()


def test_who_has_no_address_is_told_so(client, station, ada):
    on_air(station, NOW - DAY)
    User.objects.filter(pk=ada.pk).update(email="")
    client.force_login(ada)
    assert "if your account had an address" in client.get(reverse("listen_stats:program", args=[JAZZ])).content.decode()


def test_the_page_of_the_way_out_asks_first(client, station, ada):
    on_air(station, NOW - DAY)
    want(ada)
    answer = client.get(reverse("listen_stats:letters_stop", args=[letter_mail.stop_token(ada.pk, JAZZ)]))
    assert "Stop the letters about “Campus Jazz”?" in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]
    assert answer["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("break_it", [lambda one: one[:-1], lambda one: one.replace("-", "-1", 1), lambda one: "x"])
def test_a_link_that_we_did_not_make_stops_nothing(client, ada, break_it):
    want(ada)
    address = reverse("listen_stats:letters_stop", args=[break_it(letter_mail.stop_token(ada.pk, JAZZ))])
    assert client.post(address).status_code == 404
    assert letters.is_wanted(ada.pk, JAZZ)


# Command, status, doctor, checks, settings ----------------------------------------------


def command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("listen_stats_letters", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.fixture
def _clock_of_commands(monkeypatch):
    monkeypatch.setattr("aircox_listen_stats.management.commands._words.now_ms", lambda: to_ms(NOW))


@pytest.mark.usefixtures("_clock_of_commands")
def test_the_command_shows_and_sends(station, ada):
    want(ada)
    on_air(station, NOW - DAY)
    told = command("--dry-run")
    assert "Subject: Campus Jazz, 21 November: 3.0 listened on average" in told
    assert "1 would be sent." in told
    assert "ada@radio.example" not in told
    assert (mail.outbox, Letter.objects.count()) == ([], 0)
    assert "1 queued, 1 sent" in command()
    assert "0 queued, 0 sent" in command()
    assert "0 would be sent." in command("--dry-run")


@pytest.mark.usefixtures("_clock_of_commands")
def test_the_command_fails_where_letters_do(station, ada, trouble):
    want(ada)
    on_air(station, NOW - DAY)
    trouble.opening = [OSError("mail.radio.example is gone")]
    with pytest.raises(CommandError, match="mail server"):
        command()
    Letter.objects.update(state=State.DEAD)
    assert "1 are tried again." in command("--retry")
    assert len(mail.outbox) == 1


def test_status_and_doctor_tell_of_them(admin_client, station, ada):
    want(ada)
    on_air(station, NOW - DAY)
    post()
    found = list(doctor._letters(conf.get(), to_ms(NOW)))
    assert [one.grade for one in found] == [doctor.Grade.WELL]
    Letter.objects.update(state=State.DEAD, error="SMTPAuthenticationError 535")
    line = status(conf.get(), now=NOW).letters
    assert (line.health, line.dead, line.subscriptions) == ("failing", 1, 1)
    assert "SMTPAuthenticationError 535" in admin_client.get(reverse("listen_stats:status")).content.decode()
    (found,) = doctor._letters(conf.get(), to_ms(NOW))
    assert found.grade == doctor.Grade.ERROR
    Letter.objects.update(state=State.WAITING, queued=NOW - 2 * HOUR)
    (found,) = doctor._letters(conf.get(), to_ms(NOW))
    assert found.grade == doctor.Grade.WARNING
    Letter.objects.update(state=State.DOUBTFUL)
    assert [one.grade for one in doctor._letters(conf.get(), to_ms(NOW))] == [doctor.Grade.NOTE, doctor.Grade.WELL]


def test_a_sender_that_nobody_chose_is_warned_of(settings):
    assert checks.check_letters() == []
    settings.AIRCOX_LISTEN_STATS = {"LETTERS": {"site": SITE}}
    settings.DEFAULT_FROM_EMAIL = "webmaster@localhost"
    assert [one.id for one in checks.check_letters()] == ["listen_stats.W013"]


@pytest.mark.parametrize(
    "wrong", [{"site": "radio.example"}, {"site": "ftp://radio.example"}, {"within_days": 0}, {"within_days": 365}]
)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigurationError, match="LETTERS"):
        conf.read({"LETTERS": {**LETTERS, **wrong}})


# The collector, and a real mail server --------------------------------------------------


class Sink:
    """Keeps what it is given; refuses whom it is told to."""

    def __init__(self) -> None:
        self.taken: list[email.message.EmailMessage] = []
        self.refuse = ""

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == self.refuse:
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.taken.append(email.message_from_bytes(envelope.content, policy=policy.default))
        return "250 taken"


@pytest.fixture
def sink(settings):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    handler = Sink()
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    yield handler
    controller.stop()


def test_a_real_mail_server_takes_it_as_it_was_meant(station, ada, sink):
    want(ada)
    on_air(station, NOW - DAY)
    assert post().sent == 1
    (taken,) = sink.taken
    assert taken["To"] == "ada@radio.example"
    assert taken["Subject"] == "Campus Jazz, 21 November: 3.0 listened on average"
    assert taken["List-Unsubscribe"].strip().startswith(f"<{SITE}/audience/letters/stop/")
    assert "On average 3.0 listened" in taken.get_body(("plain",)).get_content()
    assert [part.get_filename() for part in taken.walk() if part.get_content_type() == "image/png"] == [
        "audience.png",
        "retention.png",
    ]


def test_a_real_mail_server_that_refuses_somebody_is_noted_without_the_address(station, ada, sink):
    want(ada)
    on_air(station, NOW - DAY)
    sink.refuse = "ada@radio.example"
    assert post() == Sent(failed=1)
    assert Letter.objects.get().error == "SMTPRecipientsRefused"
    sink.refuse = ""
    assert post(NOW + HOUR).sent == 1


@pytest.mark.django_db(transaction=True)
def test_the_collector_sends_them_beside_its_work(station, ada, sink, monkeypatch):
    monkeypatch.setattr(timeline, "refresh", lambda *args, **kwargs: timeline.TimelineChange())
    monkeypatch.setattr(live.aircox, "log", OneStation)
    want(ada)
    on_air(station, NOW - DAY)
    held, go_on = threading.Event(), threading.Event()
    real = Sink.handle_DATA

    async def slowly(self, server, session, envelope):
        held.set()
        while not go_on.is_set():
            time.sleep(0.01)
        return await real(self, server, session, envelope)

    monkeypatch.setattr(Sink, "handle_DATA", slowly)
    one = collect.Collector(sources={}, onair=OneStation())
    try:
        one.step(now_ms=to_ms(NOW))
        assert held.wait(60), "no letter was handed over"
        # The mail server thinks, and the collector works on.
        for second in range(1, 4):
            one.step(now_ms=to_ms(NOW) + second * 1000)
        assert one.is_active
        assert sink.taken == []
        go_on.set()
        for _ in range(6000):
            if Letter.objects.get().state == State.SENT:
                break
            time.sleep(0.01)
        one.step(now_ms=to_ms(NOW) + 120_000)
    finally:
        go_on.set()
        one.close()
    assert Letter.objects.get().state == State.SENT
    assert len(sink.taken) == 1
    assert from_ms(to_ms(NOW)) == Letter.objects.get().queued
