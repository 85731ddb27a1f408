"""Accelerators: aircox saved a row, so the timeline around it is to be looked at again.

They run inside the playout loop (Log) and inside the admin (Diffusion), so they
take notes in memory and return. What they miss, the collector finds by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete, post_save

from ..onair import monitor

DISPATCH_UID = "aircox_listen_stats"


def connect() -> None:
    """Nothing; listens to aircox's models by name, so that a missing or a later loaded aircox is fine."""
    post_save.connect(on_log_saved, sender="aircox.Log", dispatch_uid=DISPATCH_UID)
    post_save.connect(on_diffusion_changed, sender="aircox.Diffusion", dispatch_uid=DISPATCH_UID)
    post_delete.connect(on_diffusion_changed, sender="aircox.Diffusion", dispatch_uid=DISPATCH_UID)


def on_log_saved(*, instance: Any, created: bool, using: str | None = None, **kwargs: Any) -> None:
    if created:
        _after_commit(monitor.note_log, instance, using)


def on_diffusion_changed(*, instance: Any, using: str | None = None, **kwargs: Any) -> None:
    _after_commit(monitor.note_diffusion, instance, using)


def _after_commit(note: Callable[[Any], None], instance: Any, using: str | None) -> None:
    """Takes the note once others can see the row: at once under autocommit, as in the playout loop."""
    try:
        transaction.on_commit(lambda: note(instance), using=using, robust=True)
    except Exception:  # noqa: BLE001  # the broadcast comes first: Django would raise it into the playout loop
        note(instance)
