"""Stretches in which listeners of a stream could not be told apart."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

import aircox_listen_stats.fields


class Migration(migrations.Migration):
    dependencies = [("aircox_listen_stats", "0017_player_labels")]

    operations = [
        migrations.CreateModel(
            name="Blur",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "why",
                    models.CharField(
                        choices=[
                            ("address", "one address carries most of it"),
                            ("proxy", "of some only the own proxy's address is known"),
                            ("source", "its source takes several listeners for one"),
                            ("shared", "an imported file has addresses that several share"),
                        ],
                        max_length=8,
                    ),
                ),
                ("started", aircox_listen_stats.fields.InstantField()),
                ("ended", aircox_listen_stats.fields.InstantField(help_text="When it was last found.")),
                (
                    "most",
                    models.IntegerField(
                        help_text="Behind one address; null where the source itself says it.", null=True
                    ),
                ),
                ("compared", models.IntegerField(help_text="Of so many.", null=True)),
                ("is_open", models.BooleanField(default=False, help_text="Nothing else was found since.")),
                (
                    "stream",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="blurs",
                        to="aircox_listen_stats.stream",
                    ),
                ),
            ],
            options={
                "verbose_name": "blur",
                "verbose_name_plural": "blurs",
                "indexes": [models.Index(fields=["stream", "ended"], name="listen_blur_end")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("is_open", True)), fields=("stream", "why"), name="listen_blur_open"
                    )
                ],
            },
        ),
    ]
