"""The producer's letters: who gets one about which diffusion, when it is tried, and that it is tried once.

A row of Letter is written when a diffusion has settled, and stays: it is why
nobody gets a second one, whatever is rebuilt or settles again. A row is taken
before its letter is handed over; where the line then breaks, nobody knows
whether it arrived, and it is not handed over again.

Nothing here is inside a transaction: a mail server may take its time.
"""

from __future__ import annotations

import smtplib
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from typing import Any

from django.contrib.auth import get_user_model
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import close_old_connections, connections
from django.db.models import F, Q, QuerySet

from .. import conf
from ..conf import Settings
from ..fields import from_ms, to_ms
from ..kernel.types import Layer
from ..models import Airing, Letter, LetterSubscription
from ..onair.reach import Reach, reach_of
from ..reports import diffusion as diffusions
from ..reports.diffusion import DiffusionAudience
from . import letter_mail
from .letter_mail import Envelope

State = Letter.State

MS = 1000
MINUTE_MS = 60 * MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

MOST_WAITING = 500
"""Letters in the queue. What finds no room is queued later, as long as it is not too old."""

AT_ONCE = 20
"""Letters of one round: drawing one takes the processor for a fifth of a second."""

ROUND_SECONDS = 120.0
"""After so long a round begins no further letter."""

SMTP_SECONDS = 20.0
"""What a mail server may take for each answer, unless EMAIL_TIMEOUT says otherwise: Django would wait for ever."""

MOST_TRIES = 8
FIRST_WAIT_MS = 5 * MINUTE_MS
LONGEST_WAIT_MS = 6 * HOUR_MS
"""5 minutes after the first failure, then twice as long each time: given up after half a day."""

LOST_MS = 15 * MINUTE_MS
"""A letter that is being sent for longer was in the hands of a process that is no more."""

LONGEST_DIFFUSION_MS = DAY_MS

_NOBODY_KNOWS = (TimeoutError, ConnectionResetError, BrokenPipeError, smtplib.SMTPServerDisconnected)
"""While a letter is handed over: the server may have taken it, and could not say so."""


@dataclass(slots=True, kw_only=True)
class Sent:
    """What became of the letters of one round."""

    sent: int = 0
    failed: int = 0
    dead: int = 0
    doubtful: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A letter that may be sent now, and what is in it."""

    letter: Letter
    report: DiffusionAudience
    envelope: Envelope

    def mail(self, settings: Settings) -> EmailMultiAlternatives:
        return letter_mail.letter(self.report, self.envelope, settings)


class _Unwanted(Exception):
    """Why a letter is not sent, in one word or two."""


# Who wants them ------------------------------------------------------------------------


def is_wanted(user_id: int, program_id: int) -> bool:
    """Does the user get letters about the program?"""
    return LetterSubscription.objects.filter(user_id=user_id, program_id=program_id).exists()


def subscribe(user_id: int, program_id: int, *, now_ms: int) -> None:
    """Letters about diffusions of the program that end from now on."""
    LetterSubscription.objects.get_or_create(
        user_id=user_id, program_id=program_id, defaults={"since": from_ms(now_ms)}
    )


def unsubscribe(user_id: int, program_id: int) -> None:
    """No further letters about the program, those that wait included."""
    LetterSubscription.objects.filter(user_id=user_id, program_id=program_id).delete()


# The queue -----------------------------------------------------------------------------


def queue(*, now_ms: int) -> int:
    """How many letters were put into the queue: of diffusions that have settled since the last look.

    A few queries where nobody is to get any. Twice is once.
    """
    settings = conf.get()
    if not settings.letters.enabled:
        return 0
    _find_lost(now_ms)
    room = MOST_WAITING - Letter.objects.filter(state=State.WAITING).count()
    found = list(_new(settings, now_ms))[: max(room, 0)]
    # Two collectors may look at the same moment: the row of the first one stands.
    Letter.objects.bulk_create(found, ignore_conflicts=True)
    return len(found)


def is_due(*, now_ms: int) -> bool:
    """Does any letter wait to be tried?"""
    return conf.get().letters.enabled and _due(now_ms).exists()


def retry(*, now_ms: int, doubtful: bool = False) -> int:
    """How many letters that were given up are tried again; with ``doubtful`` those that perhaps arrived.

    These may then arrive twice: it is for whoever has asked their readers.
    """
    again = Letter.objects.filter(state=State.DOUBTFUL if doubtful else State.DEAD)
    return again.update(state=State.WAITING, due=from_ms(now_ms), changed=from_ms(now_ms), tries=0, error="")


def long_done(before_ms: int) -> QuerySet[Letter]:
    """The letters of which nothing has changed since then, and nothing will."""
    return Letter.objects.filter(changed__lt=from_ms(before_ms)).exclude(state__in=(State.WAITING, State.SENDING))


def _due(now_ms: int) -> QuerySet[Letter]:
    return Letter.objects.filter(state=State.WAITING, due__lte=from_ms(now_ms)).order_by("due", "pk")


def _find_lost(now_ms: int) -> None:
    lost = Letter.objects.filter(state=State.SENDING, changed__lt=from_ms(now_ms - LOST_MS))
    if lost.exists():  # SQLite has one writer: it is asked for when there is something to write
        lost.update(state=State.DOUBTFUL, changed=from_ms(now_ms), error="interrupted")


def _new(settings: Settings, now_ms: int) -> Iterator[Letter]:
    """Letters about what ended and settled within the days of the settings, and after its reader asked for them."""
    wanted: dict[int, list[LetterSubscription]] = {}
    for one in LetterSubscription.objects.order_by("pk"):
        wanted.setdefault(one.program_id, []).append(one)
    if not wanted:
        return
    since_ms = now_ms - settings.letters.within_days * DAY_MS
    settled = list(
        Airing.objects.on_layer(Layer.DIFFUSION)
        .filter(
            Q(audiences__rule_set=settings.rule_set, audiences__settled=True),
            program_id__in=list(wanted),
            started__gt=from_ms(since_ms - LONGEST_DIFFUSION_MS),
            ended__gt=from_ms(since_ms),
            ended__lte=from_ms(now_ms),
            is_running=False,
        )
        .order_by("ended", "pk")
    )
    # A letter is queued after its diffusion has ended.
    recent = Letter.objects.filter(queued__gt=from_ms(since_ms - LONGEST_DIFFUSION_MS))
    known = set(recent.values_list("user_id", "station_id", "key"))
    now = from_ms(now_ms)
    for airing in settled:
        for one in wanted[airing.program_id or 0]:
            if airing.ended > one.since and (one.user_id, airing.station_id, airing.key) not in known:
                yield Letter(
                    user_id=one.user_id,
                    program_id=one.program_id,
                    station_id=airing.station_id,
                    key=airing.key,
                    airing_id=airing.pk,
                    queued=now,
                    due=now,
                    changed=now,
                )


# Sending -------------------------------------------------------------------------------


def send_due(*, clock: Callable[[], int], stop: Event | None = None, most: int = AT_ONCE) -> Sent:
    """Sends what is due, one letter after the other, until there is no more, the round is over, or ``stop`` is set.

    ``clock`` gives milliseconds since 1970. A server that cannot be reached ends the round, once that is noted on the
    letter that was to go first.
    """
    done = Sent()
    settings = conf.get()
    begun = time.monotonic()
    outbox = _outbox()
    try:
        for letter in list(_due(clock())[:most]):
            if (stop is not None and stop.is_set()) or time.monotonic() - begun > ROUND_SECONDS:
                break
            if not _send(letter, outbox, settings, clock, done):
                break
    finally:
        with suppress(Exception):  # a connection that broke has told it
            outbox.close()
    return done


def in_thread(*, clock: Callable[[], int], stop: Event) -> Sent:
    """:func:`send_due` with database connections of its own, which are closed at its end."""
    close_old_connections()
    try:
        return send_due(clock=clock, stop=stop)
    finally:
        connections.close_all()


def each_ready(*, now_ms: int) -> Iterator[Ready]:
    """The letters that are due or would be queued, and none of which is sent: to look at them."""
    settings = conf.get()
    for letter in (*_due(now_ms), *_new(settings, now_ms)):
        with suppress(_Unwanted):
            yield _ready(letter, settings, now_ms)


def _send(letter: Letter, outbox: BaseEmailBackend, settings: Settings, clock: Callable[[], int], done: Sent) -> bool:
    """Can the next letter be tried? Not while the server cannot be reached."""
    mail = None
    is_taken = False
    try:
        mail = _ready(letter, settings, clock()).mail(settings)
        outbox.open()
        is_taken = _take(letter, clock())
        if not is_taken:
            return True  # somebody else sends it
        outbox.send_messages([mail])
    except _Unwanted as why:
        done.dropped += _note(letter, State.DROPPED, clock(), str(why))
        return True
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one letter, the others are to go
        if is_taken and isinstance(error, _NOBODY_KNOWS):
            done.doubtful += _note(letter, State.DOUBTFUL, clock(), _kind(error))
            return False
        _put_off(letter, error, clock(), done)
        with suppress(Exception):
            outbox.close()  # whatever state this left it in
        return is_taken or mail is None
    # Beside the try: a letter that is gone is not put off, should this fail.
    done.sent += _note(letter, State.SENT, clock(), "")
    return True


def _ready(letter: Letter, settings: Settings, now_ms: int) -> Ready:
    """The letter as it would be sent at this moment. Raises :class:`_Unwanted`."""
    user = get_user_model()._default_manager.get(pk=letter.user_id)
    if not is_wanted(letter.user_id, letter.program_id):
        raise _Unwanted("unsubscribed")
    reach = reach_of(user)
    if not reach.covers(letter.program_id):
        raise _Unwanted("no access")
    address = getattr(user, user.get_email_field_name(), "")
    if not address:
        raise _Unwanted("no address")
    airing = diffusions.find(letter.airing_id) or _moved(letter)
    if airing is None:
        raise _Unwanted("diffusion gone")
    return Ready(letter=letter, report=_report(airing, reach, settings, now_ms), envelope=_envelope(letter, address))


def _moved(letter: Letter) -> Airing | None:
    """The diffusion under the row that it has now."""
    airings = Airing.objects.on_layer(Layer.DIFFUSION).filter(station_id=letter.station_id, key=letter.key)
    return airings.first()


def _report(airing: Airing, reach: Reach, settings: Settings, now_ms: int) -> DiffusionAudience:
    report = diffusions.diffusion_audience(airing, settings.rules(), settings, now=from_ms(now_ms))
    if report.figures is None or not report.figures.settled:
        raise _Unwanted("no figures")
    return diffusions.within_reach(report, reach.covers)


def _envelope(letter: Letter, address: str) -> Envelope:
    return Envelope(
        user_id=letter.user_id,
        program_id=letter.program_id,
        address=address,
        number=f"{letter.pk}.{to_ms(letter.queued)}",
    )


def _outbox() -> BaseEmailBackend:
    outbox: Any = get_connection()
    if getattr(outbox, "timeout", 0) is None:
        outbox.timeout = SMTP_SECONDS
    return outbox


def _take(letter: Letter, now_ms: int) -> bool:
    """Is it this process that sends the letter?"""
    waiting = Letter.objects.filter(pk=letter.pk, state=State.WAITING)
    return bool(waiting.update(state=State.SENDING, tries=F("tries") + 1, changed=from_ms(now_ms)))


def _put_off(letter: Letter, error: Exception, now_ms: int, done: Sent) -> None:
    """Notes a failure: the letter waits twice as long each time, and is given up in the end."""
    tries = letter.tries + 1
    wait_ms = min(FIRST_WAIT_MS * 2 ** (tries - 1), LONGEST_WAIT_MS)
    is_over = tries >= MOST_TRIES
    Letter.objects.filter(pk=letter.pk).update(
        state=State.DEAD if is_over else State.WAITING,
        tries=tries,
        due=from_ms(now_ms + wait_ms),
        changed=from_ms(now_ms),
        error=_kind(error),
    )
    if is_over:
        done.dead += 1
    else:
        done.failed += 1


def _note(letter: Letter, state: str, now_ms: int, error: str) -> int:
    return Letter.objects.filter(pk=letter.pk).update(state=state, changed=from_ms(now_ms), error=error)


def _kind(error: BaseException) -> str:
    """The kind of an error and a mail server's number for it: its text may hold addresses."""
    code = getattr(error, "smtp_code", None)
    return f"{type(error).__name__} {code}"[:96] if code else type(error).__name__[:96]
