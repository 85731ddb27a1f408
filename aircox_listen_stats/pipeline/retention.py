"""What is old is deleted: sockets after two days, sessions after their time, figures never."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.db.models import QuerySet

from .. import conf
from ..fields import from_ms
from ..kernel import calendar
from ..models import (
    Connection,
    DeadLetter,
    Inbox,
    JournalPosition,
    Lease,
    MonitorWatch,
    OnAirChange,
    Ruling,
    Session,
    StaleWindow,
    StreamEvent,
)
from ..reports.heard import HORIZON, sessions_cutoff_ms
from . import event_rows, ingest, letters, player_labels, players, rows, secrets, stitching

DAY_MS = 24 * 3600 * 1000
HOUR_MS = 3600 * 1000

LONGEST_PERIOD_MS = 31 * DAY_MS
"""As long as a listener's key may live (KEY_ROTATION)."""

BATCH = 10_000
"""Sessions deleted in one transaction: the collector writes between two of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows were deleted, or would be."""

    sessions: int = 0
    connections: int = 0
    lapsed: int = 0  # open connections that nobody heard any more, ended at their last sighting
    onair_changes: int = 0
    secrets: int = 0
    stale_windows: int = 0
    callbacks: int = 0
    player_events: int = 0
    plays: int = 0  # plays and sessions of web players of which only the figures are left
    events: int = 0
    dead_letters: int = 0
    letters: int = 0  # to producers, sent or given up long ago
    rulings: int = 0  # about one listener, whose key nothing bears any more


def prune(*, now_ms: int, dry_run: bool = False) -> Pruned:
    """Deletes what the settings say is old, in small transactions; with ``dry_run`` only counts.

    Sessions by KEEP_SESSIONS_DAYS, sockets by KEEP_CONNECTIONS_HOURS once their
    whole session is closed and as old, what web players told by PLAYER's
    keep_events_days, on-air observations with the sessions,
    secrets with their period, stream events by KEEP_EVENTS_DAYS, dead letters by
    KEEP_DEAD_LETTERS_DAYS. Airings, audiences and coverage stay.
    """
    settings = conf.get()
    sessions_ms = sessions_cutoff_ms(now_ms)
    connections_ms = now_ms - settings.keep_connections_hours * HOUR_MS
    old_sessions = Session.objects.filter(ended__lt=sessions_ms, is_open=False)
    settled = (
        Connection.objects.filter(ended=True, seen__lt=connections_ms)
        .exclude(session__ended__gte=connections_ms)
        .exclude(session__is_open=True)
    )
    forgotten = Connection.objects.open().filter(seen__lt=connections_ms)
    changes = OnAirChange.objects.filter(seen__lt=sessions_ms)
    watches = MonitorWatch.objects.filter(seen__lt=sessions_ms)
    stale = StaleWindow.objects.filter(ended__lt=sessions_ms)
    callbacks = Inbox.objects.filter(received__lt=connections_ms)
    of_players = {
        "events_before_ms": now_ms - settings.player.keep_events_days * DAY_MS,
        "sessions_before_ms": sessions_ms,
        "now_ms": now_ms,
    }
    events = StreamEvent.objects.filter(ended__lt=event_rows.oldest_known_ms(now_ms))
    # A ruling about a listener holds its key, which lives a month at most.
    ruled = Ruling.objects.filter(listener__isnull=False, made__lt=from_ms(sessions_ms - LONGEST_PERIOD_MS))
    dead_letters = DeadLetter.objects.filter(received__lt=now_ms - settings.keep_dead_letters_days * DAY_MS)
    # For longer than one may be due: its row is why no second one is sent.
    letters_ms = min(sessions_ms, now_ms - 2 * conf.MOST_LETTER_DAYS * DAY_MS)
    if dry_run:
        player_events, plays = players.waiting_to_be_pruned(**of_players)
        return Pruned(
            sessions=old_sessions.count(),
            connections=settled.count(),
            lapsed=forgotten.count(),
            onair_changes=changes.count() + watches.count(),
            stale_windows=stale.count(),
            callbacks=callbacks.count(),
            player_events=player_events,
            plays=plays,
            events=events.count(),
            dead_letters=dead_letters.count(),
            letters=letters.long_done(letters_ms).count(),
            rulings=ruled.count(),
        )
    # A crash between the deletion of a journal and that of its row leaves the row.
    JournalPosition.objects.filter(changed__lt=sessions_ms).delete()
    Ruling.objects.filter(ended__lt=from_ms(sessions_ms)).exclude(also=[]).update(also=[])
    lapsed = _lapse(connections_ms)
    _remember_horizon(sessions_ms, now_ms)
    player_events, plays = players.prune(**of_players)
    player_labels.make_final(ruled)
    return Pruned(
        sessions=_delete_sessions(sessions_ms),
        connections=settled._raw_delete(using=settled.db) or 0,
        lapsed=lapsed,
        onair_changes=changes.delete()[0] + watches.delete()[0],
        secrets=_destroy_secrets(now_ms),
        stale_windows=stale.delete()[0],
        callbacks=callbacks.delete()[0],
        player_events=player_events,
        plays=plays,
        events=_delete_in_pieces(events),
        dead_letters=_delete_in_pieces(dead_letters),
        letters=letters.long_done(letters_ms).delete()[0],
        rulings=ruled.delete()[1].get(Ruling._meta.label, 0),
    )


def _delete_in_pieces(some: QuerySet) -> int:
    """How many rows were deleted. The collector and the monitor write between two pieces."""
    deleted = 0
    while ids := list(some.values_list("pk", flat=True)[:BATCH]):
        with transaction.atomic():
            deleted += rows.change_in(f"DELETE FROM {rows.table(some.model)} WHERE id IN ({{values}})", [], ids)
    return deleted


def _remember_horizon(sessions_ms: int, now_ms: int) -> None:
    horizon, now = from_ms(sessions_ms), from_ms(now_ms)
    row = Lease.objects.filter(pk=HORIZON)
    if not row.exists():
        Lease.objects.bulk_create(
            [Lease(name=HORIZON, holder="", expires=horizon, heartbeat=now)], ignore_conflicts=True
        )
    row.filter(expires__lt=horizon).update(expires=horizon, heartbeat=now)


def _delete_sessions(before_ms: int) -> int:
    deleted = 0
    while True:
        ids = list(Session.objects.filter(ended__lt=before_ms, is_open=False).values_list("pk", flat=True)[:BATCH])
        if not ids:
            return deleted
        with transaction.atomic():
            rows.change_in(
                f"UPDATE {rows.table(Connection)} SET session_id = NULL WHERE session_id IN ({{values}})", [], ids
            )
            deleted += rows.change_in(f"DELETE FROM {rows.table(Session)} WHERE id IN ({{values}})", [], ids)


def _lapse(before_ms: int) -> int:
    """Ends, at their last sighting, sockets of a source that has been silent for days.

    Else they would keep every later airing provisional for ever.
    """
    forgotten = Connection.objects.open().filter(seen__lt=before_ms)
    touched = set(forgotten.values_list("stream_id", "listener"))
    if not touched:
        return 0
    with transaction.atomic():
        ingest.wait_for_reports()
        lapsed = forgotten.update(ended=True)
        stitched = stitching.restitch(touched, gap_ms=conf.get().rules().gap_seconds * 1000)
        ingest.mark_stale_windows(stitched.windows)
    return lapsed


def _destroy_secrets(now_ms: int) -> int:
    settings = conf.get()
    period = (settings.key_rotation, settings.zone, settings.broadcast_day_start)
    started_ms = calendar.period_start(now_ms, *period)
    return secrets.destroy_before(calendar.period_start(started_ms - 1, *period))
