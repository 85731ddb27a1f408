"""Everything that is kept. No foreign key leaves this app: aircox's rows come and go.

Working memory: Inbox, Connection, PlayerEvent, PlayerVisit, SourceState, StaleWindow, Lease, Secret, PeriodSecret,
PeriodKey, Sketch. The product: Stream, Session, Coverage, Blur, Airing, Audience, QuarterHour, DayShare, Cume,
LiveState.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from .fields import InstantField
from .querysets import AiringQuerySet, AudienceQuerySet, ConnectionQuerySet, SessionQuerySet, StreamQuerySet

LONG_SESSION_MS = 4 * 3600 * 1000
"""Sessions longer than this have an index of their own, so that a look-back of
four hours finds every other one that touches a window."""


class Stream(models.Model):
    """Something that can be listened to: an Icecast mount, an HLS group."""

    slug = models.SlugField(_("slug"), max_length=64, unique=True)
    station_id = models.IntegerField(_("station"), db_index=True)
    title = models.CharField(_("title"), max_length=128, blank=True)
    source = models.CharField(_("source"), max_length=64)
    delay_ms = models.IntegerField(
        _("delay"), default=0, help_text=_("From the studio to the listener's ear, milliseconds.")
    )
    active = models.BooleanField(_("active"), default=True)

    objects = StreamQuerySet.as_manager()

    class Meta:
        verbose_name = _("stream")
        verbose_name_plural = _("streams")
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.title or self.slug


class Secret(models.Model):
    """The secret under which one period's listener keys are made; destroyed afterwards."""

    started = InstantField(_("period starts"), primary_key=True)
    value = models.BinaryField(max_length=64)

    class Meta:
        verbose_name = _("secret")
        verbose_name_plural = _("secrets")

    def __str__(self) -> str:
        return f"secret of {self.started:%Y-%m-%d %H:%M}"


class PeriodSecret(models.Model):
    """The secret of a week or a month, under which its listeners are counted once; destroyed once it is settled."""

    kind = models.CharField(max_length=8, help_text=_("week or month."))
    started = InstantField(_("period starts"))
    value = models.BinaryField(max_length=64)

    class Meta:
        verbose_name = _("secret of a period")
        verbose_name_plural = _("secrets of periods")
        constraints = [models.UniqueConstraint(fields=["kind", "started"], name="listen_period_secret")]

    def __str__(self) -> str:
        return f"secret of the {self.kind} of {self.started:%Y-%m-%d %H:%M}"


class PeriodKey(models.Model):
    """Which key a listener has under the secret of a week or a month; deleted with that secret."""

    kind = models.CharField(max_length=8)
    started = InstantField(help_text=_("Of the week or month."))
    listener = models.BigIntegerField()
    key = models.BigIntegerField()
    day = InstantField(help_text=_("The broadcast day on which the listener was first seen under that key."))

    class Meta:
        verbose_name = _("key of a period")
        verbose_name_plural = _("keys of periods")
        constraints = [models.UniqueConstraint(fields=["kind", "started", "listener"], name="listen_period_key")]
        indexes = [models.Index(fields=["kind", "started", "day"], name="listen_period_key_day")]


class Connection(models.Model):
    """A socket as live sources heard it: working memory until its session is settled."""

    source = models.CharField(max_length=64)
    key = models.CharField(max_length=96)
    client = models.CharField(max_length=64, blank=True)
    stream = models.ForeignKey(Stream, models.CASCADE, related_name="connections", db_index=False)
    listener = models.BigIntegerField()
    identity_known = models.BooleanField(
        default=True, help_text=_("False while only the address of the station's own proxy was told.")
    )
    started = InstantField()
    seen = InstantField(help_text=_("Last sighting, or the end."))
    ended = models.BooleanField(default=False)
    told = models.BooleanField(
        default=False, help_text=_("The server told the end; else a census no longer showed the socket.")
    )
    session = models.ForeignKey("Session", models.SET_NULL, null=True, related_name="connections")
    country = models.CharField(max_length=2, blank=True)
    app = models.CharField(max_length=48, blank=True)
    exclusion = models.CharField(max_length=16, blank=True)
    rule = models.CharField(max_length=64, blank=True)
    bytes_sent = models.BigIntegerField(null=True)
    delivered_ms = models.BigIntegerField(null=True, help_text=_("Sound that was sent; null where only time is told."))
    rendition = models.CharField(
        max_length=32, null=True, help_text=_("The rendition of which most was sent; null where there is none.")
    )
    switches = models.IntegerField(null=True, help_text=_("Changes of rendition."))
    referrer = models.CharField(max_length=64, null=True, help_text=_("As of a session."))

    objects = ConnectionQuerySet.as_manager()

    class Meta:
        verbose_name = _("connection")
        verbose_name_plural = _("connections")
        constraints = [models.UniqueConstraint(fields=["source", "key"], name="listen_connection_key")]
        indexes = [
            models.Index(fields=["source"], name="listen_connection_open", condition=Q(ended=False)),
            models.Index(fields=["source", "client"], name="listen_connection_client"),
            models.Index(fields=["stream", "listener"], name="listen_connection_who"),
            models.Index(fields=["seen"], name="listen_connection_seen"),
        ]


def _told_exclusion() -> models.CharField:
    """What a ruling spoke against."""
    return models.CharField(
        _("was excluded as"),
        max_length=16,
        null=True,
        blank=True,
        help_text=_("What it was taken for before a ruling spoke; null where none did."),
    )


def _told_rule() -> models.CharField:
    """By which rule that was."""
    return models.CharField(_("was excluded by rule"), max_length=64, null=True, blank=True)


class Session(models.Model):
    """Stitched listening of one listener on one stream."""

    # Only Django holds to it: PostgreSQL would look the stream up for each row of an import, half of the time it takes.
    stream = models.ForeignKey(Stream, models.CASCADE, related_name="sessions", db_index=False, db_constraint=False)
    listener = models.BigIntegerField(_("listener"))
    started = InstantField(_("start"))
    ended = InstantField(_("end"), help_text=_("Last sighting while the session is open."))
    played_ms = models.BigIntegerField(_("played"))
    parts = models.JSONField(
        null=True,
        blank=True,
        help_text=_("[[from, to], …] in milliseconds from the start; null where it is one piece."),
    )
    is_open = models.BooleanField(_("open"), default=False)
    is_long = models.BooleanField(default=False)
    country = models.CharField(_("country"), max_length=2, blank=True)
    app = models.CharField(_("app"), max_length=48, blank=True)
    exclusion = models.CharField(_("excluded as"), max_length=16, blank=True)
    rule = models.CharField(_("by rule"), max_length=64, blank=True)
    source = models.CharField(_("source"), max_length=64)
    bytes_sent = models.BigIntegerField(_("bytes"), null=True, blank=True)
    delivered_ms = models.BigIntegerField(
        _("delivered"), null=True, blank=True, help_text=_("Sound that was sent; null where only time is told.")
    )
    rendition = models.CharField(
        _("rendition"),
        max_length=32,
        null=True,
        blank=True,
        help_text=_("The rendition of which most was sent; null where there is none."),
    )
    switches = models.IntegerField(_("changes of rendition"), null=True, blank=True)
    told_exclusion = _told_exclusion()
    told_rule = _told_rule()
    referrer = models.CharField(
        _("referrer"),
        max_length=64,
        null=True,
        blank=True,
        help_text=_("Host of the page that played it; - where it named none; null where that is not known."),
    )

    objects = SessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        indexes = [
            models.Index(
                fields=["stream", "ended"], name="listen_session_end", condition=Q(is_open=False, is_long=False)
            ),
            models.Index(fields=["stream", "ended"], name="listen_session_long", condition=Q(is_long=True)),
            models.Index(fields=["stream", "listener"], name="listen_session_open", condition=Q(is_open=True)),
        ]


class Coverage(models.Model):
    """A stretch in which a stream was really observed. What lies between is unknown, not zero."""

    stream = models.ForeignKey(Stream, models.CASCADE, related_name="coverage", db_index=False)
    started = InstantField()
    ended = InstantField()
    totals_only = models.BooleanField(
        default=False, help_text=_("How many listened is known, and nothing of any one of them.")
    )

    class Meta:
        verbose_name = _("coverage")
        verbose_name_plural = _("coverage")
        indexes = [models.Index(fields=["stream", "ended"], name="listen_coverage_end")]


class Blur(models.Model):
    """A stretch in which listeners of a stream could not be told apart: they were at least as many as are counted.

    Two numbers are kept of what was compared: no address, and no hash of one.
    """

    class Why(models.TextChoices):
        ADDRESS = "address", _("one address carries most of it")
        PROXY = "proxy", _("of some only the own proxy's address is known")
        SOURCE = "source", _("its source takes several listeners for one")
        SHARED = "shared", _("an imported file has addresses that several share")

    stream = models.ForeignKey(Stream, models.CASCADE, related_name="blurs", db_index=False)
    why = models.CharField(max_length=8, choices=Why.choices)
    started = InstantField()
    ended = InstantField(help_text=_("When it was last found."))
    most = models.IntegerField(null=True, help_text=_("Behind one address; null where the source itself says it."))
    compared = models.IntegerField(null=True, help_text=_("Of so many."))
    is_open = models.BooleanField(default=False, help_text=_("Nothing else was found since."))

    class Meta:
        verbose_name = _("blur")
        verbose_name_plural = _("blurs")
        constraints = [
            models.UniqueConstraint(fields=["stream", "why"], name="listen_blur_open", condition=Q(is_open=True))
        ]
        indexes = [models.Index(fields=["stream", "ended"], name="listen_blur_end")]


class Ruling(models.Model):
    """A word on labels that outlives whatever is stitched anew: a technician's, or a back-fill's.

    It is about the sessions that meet everything that it names. While it
    stands they are labelled ``exclusion``; once it is revoked they are what they
    were. With ``only_source`` it says instead who counts in its window.
    """

    made = InstantField(_("made"))
    made_by = models.CharField(_("by"), max_length=150, blank=True)
    reason = models.CharField(_("reason"), max_length=255)
    stream = models.ForeignKey(
        Stream, models.CASCADE, null=True, blank=True, related_name="rulings", verbose_name=_("stream")
    )
    source = models.CharField(_("source"), max_length=64, blank=True)
    told_exclusion = models.CharField(_("taken for"), max_length=16, blank=True)
    told_rule = models.CharField(_("by rule"), max_length=64, blank=True)
    app = models.CharField(_("app"), max_length=48, blank=True)
    listener = models.BigIntegerField(_("listener"), null=True, blank=True)
    started = InstantField(_("from"), null=True, blank=True, help_text=_("Sessions that touch the window."))
    ended = InstantField(_("to"), null=True, blank=True)
    exclusion = models.CharField(_("excluded as"), max_length=16, blank=True)
    only_source = models.CharField(
        max_length=64, blank=True, help_text=_("In the window, what this source told counts and nothing else.")
    )
    heard_until = InstantField(null=True, help_text=_("That source knows nothing of what ended later."))
    also = models.JSONField(
        default=list, help_text=_("[listener, start] of sessions beside the window that it tells of too.")
    )
    holes = models.JSONField(
        default=list, help_text=_("[from, to] inside the window that nothing had observed before.")
    )
    revoked = InstantField(_("revoked"), null=True, blank=True)

    class Meta:
        verbose_name = _("ruling")
        verbose_name_plural = _("rulings")

    def __str__(self) -> str:
        return f"ruling {self.pk}"


class LabelChange(models.Model):
    """The trail of a ruling: who made or revoked it, when, why, and what became of which labels."""

    ruling = models.ForeignKey(Ruling, models.CASCADE, related_name="changes", verbose_name=_("ruling"))
    at = InstantField(_("at"))
    by = models.CharField(_("by"), max_length=150, blank=True)
    reason = models.CharField(_("reason"), max_length=255, blank=True)
    is_revocation = models.BooleanField(_("revoked"), default=False)
    sessions = models.IntegerField(_("sessions"), default=0)
    labels = models.JSONField(
        _("before and after"), default=list, help_text=_("[label, rule, new label, new rule, sessions] of each kind.")
    )
    player_labels = models.JSONField(
        _("in the web player"),
        default=list,
        help_text=_("[what, label, rule, new label, new rule, how many] of each kind."),
    )

    class Meta:
        verbose_name = _("change of labels")
        verbose_name_plural = _("changes of labels")


class SourceState(models.Model):
    """Where a source stands: its cursor and its health."""

    TOTALS = "totals"
    """Where ``cursor`` keeps the totals of a source that knows nobody apart, by stream."""

    source = models.CharField(max_length=64, primary_key=True)
    cursor = models.JSONField(default=dict)
    heard = InstantField(null=True, help_text=_("Observed up to here."))
    succeeded = InstantField(null=True)
    failed = InstantField(null=True)
    failures = models.IntegerField(default=0, help_text=_("In a row."))
    error = models.CharField(max_length=255, blank=True)
    counts = models.JSONField(default=dict)
    server = models.CharField(max_length=64, blank=True, help_text=_("The server's run, as the last census named it."))
    census = models.JSONField(
        default=dict, help_text=_("Of each stream, when all its sockets were last seen, in milliseconds.")
    )

    class Meta:
        verbose_name = _("source")
        verbose_name_plural = _("sources")


class Inbox(models.Model):
    """A callback that was answered and waits for the collector. Holds no address."""

    source = models.CharField(max_length=64)
    received = InstantField()
    payload = models.JSONField()

    class Meta:
        verbose_name = _("callback")
        verbose_name_plural = _("callbacks")
        indexes = [models.Index(fields=["source", "id"], name="listen_inbox_source")]


class JournalPosition(models.Model):
    """How far a journal of callbacks was taken into the Inbox; written with the rows that it brought."""

    name = models.CharField(max_length=48, primary_key=True)
    taken = models.BigIntegerField(help_text=_("Bytes of the file; of what waited in memory, callbacks."))
    changed = InstantField()

    class Meta:
        verbose_name = _("journal position")
        verbose_name_plural = _("journal positions")


class IngestToken(models.Model):
    """A token with which a program tells or reads stream events. Only its hash is kept."""

    INGEST = "ingest"
    READ = "read"

    name = models.CharField(_("name"), max_length=64)
    source = models.CharField(_("source"), max_length=64, blank=True, help_text=_("Blank: every source, to read."))
    scopes = models.CharField(_("scopes"), max_length=32, help_text=_("ingest, read, or both with a space between."))
    digest = models.CharField(max_length=64, unique=True, help_text=_("SHA-256 of the token."))
    prefix = models.CharField(_("begins with"), max_length=12)
    created = InstantField(_("created"))
    used = InstantField(_("last used"), null=True, blank=True, help_text=_("To the minute."))
    expires = InstantField(_("expires"), null=True, blank=True, help_text=_("Another one took its place."))
    revoked = InstantField(_("revoked"), null=True, blank=True)

    class Meta:
        verbose_name = _("token")
        verbose_name_plural = _("tokens")

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class StreamEvent(models.Model):
    """A request that a log shipper told of, as it was accepted. Holds no address, agent or path."""

    key = models.BigIntegerField(unique=True, help_text=_("A hash of what it says: sent twice, it is kept once."))
    batch = models.BigIntegerField(help_text=_("The row of the Inbox that it came with."))
    source = models.CharField(max_length=64)
    stream = models.CharField(_("stream"), max_length=64, help_text=_("Its slug."))
    origin = models.CharField(_("origin"), max_length=8)
    listener = models.BigIntegerField(_("listener"))
    identity_known = models.BooleanField(default=True)
    started = InstantField(_("start"))
    ended = InstantField(_("end"))
    method = models.CharField(_("method"), max_length=8)
    status = models.SmallIntegerField(_("status"))
    bytes_sent = models.BigIntegerField(_("bytes"), null=True)
    rendition = models.CharField(_("rendition"), max_length=32, blank=True)
    number = models.BigIntegerField(_("segment"), null=True, help_text=_("Null where it is no segment of HLS."))
    is_whole = models.BooleanField(default=True, help_text=_("False where the same player may ask for it again."))
    session = models.BigIntegerField(null=True, help_text=_("A keyed hash of the player's session id."))
    country = models.CharField(_("country"), max_length=2, blank=True)
    app = models.CharField(_("app"), max_length=48, blank=True)
    exclusion = models.CharField(_("excluded as"), max_length=16, blank=True)
    rule = models.CharField(_("by rule"), max_length=64, blank=True)
    referrer = models.CharField(_("referrer"), max_length=64, null=True, help_text=_("As of a session."))
    received = InstantField(_("received"))

    class Meta:
        verbose_name = _("stream event")
        verbose_name_plural = _("stream events")
        indexes = [
            models.Index(fields=["batch"], name="listen_event_batch"),
            models.Index(fields=["ended"], name="listen_event_end"),
        ]


class DeadLetter(models.Model):
    """An event that was refused, kept so that it can be mended and told again. Holds no address."""

    key = models.BigIntegerField(unique=True, help_text=_("A hash of what it says: sent twice, it is kept once."))
    source = models.CharField(_("source"), max_length=64)
    received = InstantField(_("received"))
    index = models.IntegerField(_("place in the batch"), help_text=_("The first is 0."))
    field = models.CharField(_("field"), max_length=32)
    value = models.CharField(
        _("value"), max_length=96, help_text=_("Its shape: 9 for each digit, a or A for each letter.")
    )
    reason = models.CharField(_("reason"), max_length=32)
    event = models.JSONField(_("event"), help_text=_("What could be understood, its listener as a key."))

    class Meta:
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        indexes = [models.Index(fields=["source", "received"], name="listen_dead_letter_source")]


class ImportedLog(models.Model):
    """The ledger of imports: which file, how far, what became of its lines. Holds no path."""

    fingerprint = models.CharField(max_length=64, unique=True)
    label = models.CharField(max_length=128)
    source = models.CharField(max_length=64)
    offset = models.BigIntegerField(default=0)
    size = models.BigIntegerField(default=0)
    counts = models.JSONField(default=dict)
    state = models.JSONField(default=dict, help_text=_("What a resumed run needs."))
    secret = models.BinaryField(max_length=64, null=True, help_text=_("Destroyed when the import is finished."))
    started = InstantField()
    finished = InstantField(null=True)

    class Meta:
        verbose_name = _("imported log")
        verbose_name_plural = _("imported logs")


class PlayerEvent(models.Model):
    """What a web player told of itself: working memory. One row, one durable write, no address."""

    visit = models.BigIntegerField()
    sequence = models.IntegerField(help_text=_("The player's own count of what it told."))
    state = models.CharField(max_length=12)
    at = InstantField(help_text=_("By our clock."))
    stream = models.ForeignKey(Stream, models.CASCADE, null=True, related_name="+", db_index=False)
    sound_id = models.IntegerField(null=True, help_text=_("aircox's; null where a stream is listened to."))
    position_ms = models.BigIntegerField(null=True, help_text=_("In the recording."))
    duration_ms = models.BigIntegerField(null=True, help_text=_("Of the recording, as the player knows it."))
    listener = models.BigIntegerField()
    country = models.CharField(max_length=2, blank=True)
    app = models.CharField(max_length=48, blank=True)
    exclusion = models.CharField(max_length=16, blank=True)
    rule = models.CharField(max_length=64, blank=True)
    is_fresh = models.BooleanField(default=True, help_text=_("The collector has not looked at it yet."))

    class Meta:
        verbose_name = _("player event")
        verbose_name_plural = _("player events")
        constraints = [models.UniqueConstraint(fields=["visit", "sequence"], name="listen_player_event_key")]
        indexes = [
            models.Index(fields=["id"], name="listen_player_event_fresh", condition=Q(is_fresh=True)),
            models.Index(fields=["at"], name="listen_player_event_at"),
        ]


class PlayerVisit(models.Model):
    """A page that plays, from the first thing that it told to the last: working memory."""

    visit = models.BigIntegerField(primary_key=True)
    listener = models.BigIntegerField(help_text=_("Who it was at first: the key of a day that is over stays."))
    started = InstantField()
    seen = InstantField()
    is_open = models.BooleanField(default=True, help_text=_("Something plays, as far as was told."))
    stretches = models.JSONField(
        default=list, help_text=_("[[from, to, is it live], …] of what it played, in milliseconds since 1970.")
    )
    country = models.CharField(max_length=2, blank=True)
    app = models.CharField(max_length=48, blank=True)
    exclusion = models.CharField(max_length=16, blank=True)
    rule = models.CharField(max_length=64, blank=True)
    told_exclusion = models.CharField(max_length=16, null=True, blank=True)
    told_rule = models.CharField(max_length=64, null=True, blank=True)

    class Meta:
        verbose_name = _("player visit")
        verbose_name_plural = _("player visits")
        indexes = [
            models.Index(fields=["seen"], name="listen_player_visit_open", condition=Q(is_open=True)),
            models.Index(fields=["listener", "started"], name="listen_player_visit_day"),
        ]


class PlayerSession(models.Model):
    """Listening in a web player without a silence: live and on demand kept apart.

    No audience of an airing is made of it: a stream is counted by its source alone.
    """

    listener = models.BigIntegerField(_("listener"), null=True, help_text=_("Null once it is old."))
    day = InstantField(_("broadcast day"), null=True, help_text=_("Start of the one in which its pages were opened."))
    visit = models.BigIntegerField(
        null=True, help_text=_("Its page alone, of a crowd behind one key; null where pages are put together.")
    )
    started = InstantField(_("start"))
    ended = InstantField(_("end"))
    live_ms = models.BigIntegerField(_("live"))
    on_demand_ms = models.BigIntegerField(_("on demand"))
    played_ms = models.BigIntegerField(_("played"), help_text=_("What overlaps counts once."))
    is_open = models.BooleanField(_("open"), default=False)
    country = models.CharField(_("country"), max_length=2, blank=True)
    app = models.CharField(_("app"), max_length=48, blank=True)
    exclusion = models.CharField(_("excluded as"), max_length=16, blank=True)
    rule = models.CharField(_("by rule"), max_length=64, blank=True)
    told_exclusion = _told_exclusion()
    told_rule = _told_rule()

    class Meta:
        verbose_name = _("session in the web player")
        verbose_name_plural = _("sessions in the web player")
        indexes = [
            models.Index(fields=["ended"], name="listen_player_session_end"),
            models.Index(fields=["listener", "started"], name="listen_player_session_who"),
        ]


class Recording(models.Model):
    """A sound that was listened to on demand: our own copy of what it is called."""

    sound_id = models.IntegerField(_("sound"), unique=True)
    title = models.CharField(_("title"), max_length=255, blank=True)
    episode_id = models.IntegerField(_("episode"), null=True, blank=True, db_index=True)
    program_id = models.IntegerField(_("program"), null=True, blank=True, db_index=True)
    program_title = models.CharField(_("program title"), max_length=255, blank=True)
    duration_ms = models.BigIntegerField(_("length"), null=True, blank=True)

    class Meta:
        verbose_name = _("recording")
        verbose_name_plural = _("recordings")

    def __str__(self) -> str:
        return self.title or str(self.sound_id)


class RecordingPlay(models.Model):
    """What one visit heard of one recording, as sections of the recording's own time."""

    recording = models.ForeignKey(Recording, models.CASCADE, related_name="plays", db_index=False)
    visit = models.BigIntegerField()
    listener = models.BigIntegerField(_("listener"), null=True, help_text=_("Null once it is old."))
    visit_started = InstantField(
        null=True, help_text=_("The listener's key is of that moment's period; null where it is not known.")
    )
    started = InstantField(_("first heard of"))
    seen = InstantField(_("last heard of"))
    sections = models.JSONField(
        _("sections"), default=list, help_text=_("[[from, to], …] in milliseconds, in the order heard.")
    )
    played_ms = models.BigIntegerField(_("played"), help_text=_("What was heard twice counts twice."))
    dropped = models.IntegerField(_("dropped"), default=0, help_text=_("Events after the last section allowed."))
    country = models.CharField(_("country"), max_length=2, blank=True)
    app = models.CharField(_("app"), max_length=48, blank=True)
    exclusion = models.CharField(_("excluded as"), max_length=16, blank=True)
    rule = models.CharField(_("by rule"), max_length=64, blank=True)
    told_exclusion = _told_exclusion()
    told_rule = _told_rule()

    class Meta:
        verbose_name = _("play of a recording")
        verbose_name_plural = _("plays of recordings")
        constraints = [models.UniqueConstraint(fields=["visit", "recording"], name="listen_recording_play_key")]
        indexes = [
            models.Index(fields=["recording", "started"], name="listen_recording_play_start"),
            models.Index(fields=["seen"], name="listen_recording_play_seen"),
        ]


class OnAirChange(models.Model):
    """What the Monitor was seen to play, from the first tick that showed it to the last."""

    station_id = models.IntegerField()
    source = models.CharField(max_length=64)
    item = models.CharField(max_length=32, help_text=_("A keyed hash of the uri: it names the item and tells no path."))
    air_time = InstantField(null=True, help_text=_("As Liquidsoap gave it, whole seconds."))
    started = InstantField(help_text=_("First seen."))
    seen = InstantField(help_text=_("Last seen."))
    ended = models.BooleanField(default=False, help_text=_("Something else was seen after it."))
    status = models.CharField(max_length=16, blank=True)
    remaining_ms = models.BigIntegerField(null=True)
    title = models.CharField(max_length=255, blank=True)
    artist = models.CharField(max_length=255, blank=True)
    sound_id = models.IntegerField(null=True)
    is_live = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("on-air change")
        verbose_name_plural = _("on-air changes")
        indexes = [models.Index(fields=["station_id", "started"], name="listen_onair_start")]


class MonitorWatch(models.Model):
    """A stretch in which the Monitor hook saw every tick: the heartbeat, run together."""

    station_id = models.IntegerField()
    started = InstantField()
    seen = InstantField()

    class Meta:
        verbose_name = _("monitor watch")
        verbose_name_plural = _("monitor watches")
        indexes = [models.Index(fields=["station_id", "seen"], name="listen_watch_seen")]


class Airing(models.Model):
    """Something that was on air during ``[started, ended)``: our own durable copy."""

    station_id = models.IntegerField(_("station"))
    layer = models.CharField(_("layer"), max_length=16)
    key = models.CharField(max_length=96)
    started = InstantField(_("start"))
    ended = InstantField(_("end"))
    start_basis = models.CharField(_("start basis"), max_length=16)
    end_basis = models.CharField(_("end basis"), max_length=16)
    title = models.CharField(_("title"), max_length=255, blank=True)
    artist = models.CharField(_("artist"), max_length=255, blank=True)
    program_id = models.IntegerField(_("program"), null=True)
    program_title = models.CharField(_("program title"), max_length=255, blank=True)
    episode_id = models.IntegerField(_("episode"), null=True)
    diffusion_id = models.IntegerField(_("diffusion"), null=True)
    initial_id = models.IntegerField(_("first run"), null=True)
    sound_id = models.IntegerField(_("sound"), null=True)
    track_id = models.IntegerField(_("track"), null=True)
    is_live = models.BooleanField(_("live"), default=False)
    is_running = models.BooleanField(_("on air"), default=False)
    scheduled_start = InstantField(_("planned start"), null=True)
    scheduled_end = InstantField(_("planned end"), null=True)
    notes = models.JSONField(default=list, blank=True)
    evidence_gone = models.BooleanField(
        default=False, help_text=_("aircox no longer has the rows that this stands on.")
    )

    objects = AiringQuerySet.as_manager()

    class Meta:
        verbose_name = _("airing")
        verbose_name_plural = _("airings")
        constraints = [models.UniqueConstraint(fields=["station_id", "layer", "key"], name="listen_airing_key")]
        indexes = [
            models.Index(fields=["station_id", "layer", "started"], name="listen_airing_start"),
            models.Index(fields=["program_id", "layer", "started"], name="listen_airing_program"),
            models.Index(fields=["diffusion_id", "layer", "started"], name="listen_airing_diffusion"),
        ]

    def __str__(self) -> str:
        return f"{self.title or self.key} {self.started:%Y-%m-%d %H:%M}"


class Audience(models.Model):
    """Who heard one airing, under one rule-set. Recomputed, never incremented."""

    airing = models.ForeignKey(Airing, models.CASCADE, related_name="audiences")
    rule_set = models.CharField(_("rule-set"), max_length=32)
    listening_ms = models.BigIntegerField(
        _("listening time"), help_text=_("Sum over counted sessions of the part inside the airing.")
    )
    sessions = models.IntegerField(_("sessions"))
    listeners = models.IntegerField(_("distinct listeners"))
    peak = models.IntegerField(_("peak"))
    peak_at = InstantField(_("peak at"), null=True)
    at_start = models.IntegerField(_("audience at start"))
    at_end = models.IntegerField(_("audience at end"))
    inherited = models.IntegerField(_("inherited"))
    joined = models.IntegerField(_("joined"))
    left = models.IntegerField(_("left"))
    kept = models.IntegerField(_("kept"))
    stayed = models.IntegerField(_("stayed throughout"))
    curve = models.JSONField(_("curve"), default=list, help_text=_("Mean audience of each minute from the start."))
    retained = models.JSONField(
        _("retained"), default=list, help_text=_("Of those present at the start, how many are left at each minute.")
    )
    coverage = models.FloatField(
        _("coverage"), help_text=_("Share of the airing in which the streams were observed, 0 to 1.")
    )
    settled = models.BooleanField(_("settled"), default=False)
    version = models.IntegerField(
        _("version"), default=0, help_text=_("0 while provisional; 1 once settled; more when settled figures changed.")
    )
    changes = models.JSONField(
        _("changes"),
        default=list,
        help_text=_("Of each version after the first: when, why, by whom, and what it replaced."),
    )
    computed = InstantField(_("computed"))

    objects = AudienceQuerySet.as_manager()

    class Meta:
        verbose_name = _("audience")
        verbose_name_plural = _("audiences")
        constraints = [models.UniqueConstraint(fields=["airing", "rule_set"], name="listen_audience_of")]
        indexes = [models.Index(fields=["computed"], name="listen_audience_open", condition=Q(settled=False))]
        permissions = [
            ("view_all_audiences", "Can see the audience of every program"),
        ]


class QuarterHour(models.Model):
    """What was heard in one clock quarter-hour, under one rule-set: outlives the sessions.

    Everything adds up over quarter-hours but ``peak`` (take the greatest) and ``listeners`` (never added). The
    sessions active in a run of quarter-hours are ``inherited`` of its first and ``begun`` of all.
    """

    STATION = 0

    station_id = models.IntegerField()
    stream_id = models.IntegerField(help_text=_("0: all streams of the station together."))
    started = InstantField()
    rule_set = models.CharField(max_length=32)
    listening_ms = models.BigIntegerField(help_text=_("Sum of the sessions."))
    person_ms = models.BigIntegerField(help_text=_("Union of each listener's sessions."))
    inherited = models.IntegerField(help_text=_("Sessions that had begun before."))
    begun = models.IntegerField()
    listeners = models.IntegerField()
    peak = models.IntegerField()
    peak_at = InstantField(null=True)
    quarter_listeners = models.IntegerField(help_text=_("Listeners with five minutes in it, in aggregate."))
    quarter_listeners_in_one_piece = models.IntegerField()
    bytes_sent = models.BigIntegerField()
    bytes_told_ms = models.BigIntegerField(help_text=_("Listening of which the bytes are known."))
    delivered_ms = models.BigIntegerField()
    delivered_told_ms = models.BigIntegerField(help_text=_("Listening of which the delivered sound is known."))
    covered_ms = models.IntegerField(help_text=_("Observed; of several streams the mean."))
    settled = models.BooleanField(default=False)
    version = models.IntegerField(
        default=0, help_text=_("As of an audience: more than 1 where settled figures changed.")
    )

    class Meta:
        verbose_name = _("quarter-hour")
        verbose_name_plural = _("quarter-hours")
        constraints = [
            models.UniqueConstraint(fields=["station_id", "stream_id", "rule_set", "started"], name="listen_quarter_of")
        ]
        indexes = [
            models.Index(fields=["station_id", "started"], name="listen_quarter_open", condition=Q(settled=False))
        ]


class QuarterChange(models.Model):
    """Settled quarter-hours that came to be others: which, when, why, by whom, and their listening before and after."""

    station_id = models.IntegerField()
    stream_id = models.IntegerField(help_text=_("0: all streams of the station together."))
    rule_set = models.CharField(max_length=32)
    started = InstantField(help_text=_("Of the first that changed."))
    ended = InstantField(help_text=_("Of the last that changed."))
    quarters = models.IntegerField(help_text=_("How many changed."))
    made = InstantField()
    causes = models.JSONField(default=list, help_text=_("[why, who], each once."))
    before_ms = models.BigIntegerField(help_text=_("Sum of the sessions."))
    after_ms = models.BigIntegerField()

    class Meta:
        verbose_name = _("change of settled quarter-hours")
        verbose_name_plural = _("changes of settled quarter-hours")
        indexes = [models.Index(fields=["station_id", "stream_id", "rule_set", "ended"], name="listen_quarter_change")]


class DayShare(models.Model):
    """What one country, app or referrer was heard by in one broadcast day, under one rule-set: outlives the sessions.

    The rows of one day, stream, rule-set and kind add up to all that was heard. Sessions active in a run of days are
    ``inherited`` of its first and ``begun`` of all.
    """

    STATION = 0
    UNKNOWN = ""
    NONE = "-"
    OTHER = "*"

    station_id = models.IntegerField()
    stream_id = models.IntegerField(help_text=_("0: all streams of the station together."))
    started = InstantField(help_text=_("Of the broadcast day."))
    rule_set = models.CharField(max_length=32)
    kind = models.CharField(max_length=8, help_text=_("country, app or referrer."))
    value = models.CharField(
        max_length=64, help_text=_("Blank: unknown; - a referrer that was not named; * all that have no row.")
    )
    listening_ms = models.BigIntegerField(help_text=_("Sum of the sessions."))
    inherited = models.IntegerField(help_text=_("Sessions that had begun before."))
    begun = models.IntegerField()
    settled = models.BooleanField(default=False)
    version = models.IntegerField(
        default=0, help_text=_("Of all rows of the day, stream, rule-set and kind, as of a quarter-hour.")
    )

    class Meta:
        verbose_name = _("share of a day")
        verbose_name_plural = _("shares of days")
        constraints = [
            models.UniqueConstraint(
                fields=["station_id", "stream_id", "kind", "rule_set", "started", "value"], name="listen_share_of"
            )
        ]
        indexes = [models.Index(fields=["station_id", "started"], name="listen_share_open", condition=Q(settled=False))]


class Sketch(models.Model):
    """Who of one broadcast day listened, for the cume of its week or month: merged and deleted when that is settled."""

    station_id = models.IntegerField()
    scope = models.CharField(max_length=8, help_text=_("station, stream or program."))
    scope_id = models.IntegerField()
    kind = models.CharField(max_length=8, help_text=_("week or month."))
    started = InstantField(help_text=_("Of the week or month."))
    day = InstantField()
    rule_set = models.CharField(max_length=32)
    known = models.BinaryField(help_text=_("Of the listeners' keys under the period's secret."))
    strangers = models.BinaryField(help_text=_("Of the day's keys of listeners that have none."))

    class Meta:
        verbose_name = _("sketch")
        verbose_name_plural = _("sketches")
        constraints = [
            models.UniqueConstraint(
                fields=["station_id", "kind", "started", "scope", "scope_id", "rule_set", "day"],
                name="listen_sketch_of",
            )
        ]


class Cume(models.Model):
    """Distinct listeners of a station, stream or program in a broadcast day, week or month, with the bounds."""

    station_id = models.IntegerField()
    scope = models.CharField(max_length=8, help_text=_("station, stream or program."))
    scope_id = models.IntegerField()
    kind = models.CharField(max_length=8, help_text=_("day, week or month."))
    started = InstantField()
    rule_set = models.CharField(max_length=32)
    count = models.IntegerField()
    lower = models.IntegerField(help_text=_("The same as the upper bound where the count is exact."))
    upper = models.IntegerField()
    settled = models.BooleanField(default=False)

    class Meta:
        verbose_name = _("cume")
        verbose_name_plural = _("cumes")
        constraints = [
            models.UniqueConstraint(
                fields=["station_id", "kind", "started", "scope", "scope_id", "rule_set"], name="listen_cume_of"
            )
        ]


class StaleWindow(models.Model):
    """A window whose figures must be computed again: written with the change that made it so."""

    TIMELINE = "timeline"
    AUDIENCE = "audience"

    station_id = models.IntegerField()
    kind = models.CharField(max_length=16, choices=[(TIMELINE, TIMELINE), (AUDIENCE, AUDIENCE)])
    started = InstantField()
    ended = InstantField()
    why = models.CharField(max_length=16, default="late", help_text=_("What made it so, as kernel.types.Why has it."))
    who = models.CharField(max_length=150, default="collector", help_text=_("The collector, a command, or a user."))

    class Meta:
        verbose_name = _("stale window")
        verbose_name_plural = _("stale windows")
        indexes = [models.Index(fields=["kind", "station_id"], name="listen_stale_kind")]


class LiveState(models.Model):
    """The live figures of one station as they were last published."""

    station_id = models.IntegerField(primary_key=True)
    published = InstantField()
    payload = models.JSONField()

    class Meta:
        verbose_name = _("live state")
        verbose_name_plural = _("live states")


class Lease(models.Model):
    """Who is the one active collector, and until when."""

    name = models.CharField(max_length=32, primary_key=True)
    holder = models.CharField(max_length=128)
    expires = InstantField()
    heartbeat = InstantField()
    progress = models.JSONField(default=dict)

    class Meta:
        verbose_name = _("lease")
        verbose_name_plural = _("leases")


class ProgramAccess(models.Model):
    """Lets a user, or the members of a group, see the audience of a program."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="+", verbose_name=_("user")
    )
    group = models.ForeignKey(
        "auth.Group", models.CASCADE, null=True, blank=True, related_name="+", verbose_name=_("group")
    )
    program_id = models.IntegerField(_("program"))
    program_title = models.CharField(_("program title"), max_length=255, blank=True)

    class Meta:
        verbose_name = _("program access")
        verbose_name_plural = _("program accesses")

    def __str__(self) -> str:
        return f"{self.user or self.group}: {self.program_title or self.program_id}"


class LetterSubscription(models.Model):
    """A producer wants a letter after each diffusion of a program that ends from ``since`` on."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", verbose_name=_("user"))
    program_id = models.IntegerField(_("program"))
    since = InstantField(_("since"))

    class Meta:
        verbose_name = _("subscription to letters")
        verbose_name_plural = _("subscriptions to letters")
        constraints = [models.UniqueConstraint(fields=["user", "program_id"], name="listen_letter_wanted")]

    def __str__(self) -> str:
        return f"{self.user}: {self.program_id}"


class Letter(models.Model):
    """The letter about one diffusion to one producer. Its row is why there is never a second one.

    The diffusion is known by the key of its airing, which outlives a change of its times. Holds no address: that is
    asked of the user when the letter is sent.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("waits to be sent")
        SENDING = "sending", _("is being sent")
        SENT = "sent", _("sent")
        DEAD = "dead", _("given up")
        DOUBTFUL = "doubtful", _("perhaps sent")  # the line broke while it was handed over
        DROPPED = "dropped", _("no longer wanted")

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", verbose_name=_("user"))
    program_id = models.IntegerField(_("program"))
    station_id = models.IntegerField(_("station"))
    key = models.CharField(max_length=96)
    airing_id = models.BigIntegerField(_("diffusion"))
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.WAITING)
    queued = InstantField(_("queued"))
    due = InstantField(_("due"), help_text=_("Not to be tried earlier."))
    changed = InstantField(_("changed"))
    tries = models.IntegerField(_("tries"), default=0)
    error = models.CharField(_("error"), max_length=96, blank=True, help_text=_("The kind of the last one alone."))

    class Meta:
        verbose_name = _("letter")
        verbose_name_plural = _("letters")
        constraints = [models.UniqueConstraint(fields=["user", "station_id", "key"], name="listen_letter_of")]
        indexes = [
            models.Index(fields=["due"], name="listen_letter_due", condition=Q(state__in=["waiting", "sending"])),
            models.Index(fields=["changed"], name="listen_letter_changed"),
        ]

    def __str__(self) -> str:
        return f"letter {self.pk}"
