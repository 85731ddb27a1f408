"""Sessions in the web player by the broadcast day of their pages, made of what each page says of itself."""

from __future__ import annotations

from typing import Any

from django.db import migrations, models
from django.db.models import Min

import aircox_listen_stats.fields


def derive_again(apps: Any, schema_editor: Any) -> None:
    """Lets the collector look again at all events that are kept, and make the sessions of their pages anew."""
    alias = schema_editor.connection.alias
    event, visit, session = (
        apps.get_model("aircox_listen_stats", name)._default_manager.using(alias)
        for name in ("PlayerEvent", "PlayerVisit", "PlayerSession")
    )
    event.update(is_fresh=True)
    for listener, first in visit.values_list("listener").annotate(first=Min("started")).order_by():
        session.filter(listener=listener, ended__gte=first).delete()


class Migration(migrations.Migration):
    dependencies = [("aircox_listen_stats", "0018_blurs")]

    operations = [
        migrations.RemoveIndex(model_name="playervisit", name="listen_player_visit_who"),
        migrations.AddField(
            model_name="playervisit",
            name="stretches",
            field=models.JSONField(
                default=list, help_text="[[from, to, is it live], …] of what it played, in milliseconds since 1970."
            ),
        ),
        migrations.AddIndex(
            model_name="playervisit",
            index=models.Index(fields=["listener", "started"], name="listen_player_visit_day"),
        ),
        migrations.AddField(
            model_name="playersession",
            name="day",
            field=aircox_listen_stats.fields.InstantField(
                help_text="Start of the one in which its pages were opened.", null=True, verbose_name="broadcast day"
            ),
        ),
        migrations.AddField(
            model_name="playersession",
            name="visit",
            field=models.BigIntegerField(
                help_text="Its page alone, of a crowd behind one key; null where pages are put together.", null=True
            ),
        ),
        migrations.RunPython(derive_again, migrations.RunPython.noop),
    ]
