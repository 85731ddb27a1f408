"""Of settled quarter-hours that change: which, when, why and by whom."""

from __future__ import annotations

from django.db import migrations, models

import aircox_listen_stats.fields


class Migration(migrations.Migration):
    dependencies = [("aircox_listen_stats", "0015_session_without_start_index")]

    operations = [
        migrations.CreateModel(
            name="QuarterChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("station_id", models.IntegerField()),
                ("stream_id", models.IntegerField(help_text="0: all streams of the station together.")),
                ("rule_set", models.CharField(max_length=32)),
                ("started", aircox_listen_stats.fields.InstantField(help_text="Of the first that changed.")),
                ("ended", aircox_listen_stats.fields.InstantField(help_text="Of the last that changed.")),
                ("quarters", models.IntegerField(help_text="How many changed.")),
                ("made", aircox_listen_stats.fields.InstantField()),
                ("causes", models.JSONField(default=list, help_text="[why, who], each once.")),
                ("before_ms", models.BigIntegerField(help_text="Sum of the sessions.")),
                ("after_ms", models.BigIntegerField()),
            ],
            options={
                "verbose_name": "change of settled quarter-hours",
                "verbose_name_plural": "changes of settled quarter-hours",
                "indexes": [
                    models.Index(fields=["station_id", "stream_id", "rule_set", "ended"], name="listen_quarter_change")
                ],
            },
        ),
    ]
