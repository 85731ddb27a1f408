"""What plays and sessions in the web player were taken for before a ruling spoke."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("aircox_listen_stats", "0016_quarter_changes")]

    operations = [
        migrations.AddField(
            model_name="labelchange",
            name="player_labels",
            field=models.JSONField(
                default=list,
                help_text="[what, label, rule, new label, new rule, how many] of each kind.",
                verbose_name="in the web player",
            ),
        ),
        *(
            migrations.AddField(
                model_name=model,
                name=name,
                field=models.CharField(
                    blank=True,
                    help_text=help_text,
                    max_length=max_length,
                    null=True,
                    verbose_name=verbose_name,
                ),
            )
            for model in ("playersession", "recordingplay")
            for name, max_length, verbose_name, help_text in (
                (
                    "told_exclusion",
                    16,
                    "was excluded as",
                    "What it was taken for before a ruling spoke; null where none did.",
                ),
                ("told_rule", 64, "was excluded by rule", ""),
            )
        ),
        migrations.AddField(
            model_name="playervisit",
            name="told_exclusion",
            field=models.CharField(blank=True, max_length=16, null=True),
        ),
        migrations.AddField(
            model_name="playervisit",
            name="told_rule",
            field=models.CharField(blank=True, max_length=64, null=True),
        ),
    ]
