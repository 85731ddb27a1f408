"""What aircox itself does when its rows go."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete
from django.dispatch import receiver

from aircox.models import Diffusion, Episode


@receiver(post_delete, sender=Diffusion)
def drop_orphan_episodes(**_: Any) -> None:
    """Nothing; episodes that have no diffusion, no sound and no text are deleted."""
    Episode.objects.filter(diffusion__isnull=True, sound__isnull=True, content__isnull=True).delete()
