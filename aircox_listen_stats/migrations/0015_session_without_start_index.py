"""What looked sessions up by their start finds them by their end, and a row costs one index less."""

from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("aircox_listen_stats", "0014_letters")]

    operations = [migrations.RemoveIndex(model_name="session", name="listen_session_start")]
