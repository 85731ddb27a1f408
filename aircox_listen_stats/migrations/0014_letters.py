import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import aircox_listen_stats.fields


class Migration(migrations.Migration):
    dependencies = [
        ("aircox_listen_stats", "0013_day_shares"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="recordingplay",
            name="visit_started",
            field=aircox_listen_stats.fields.InstantField(
                help_text="The listener's key is of that moment's period; null where it is not known.", null=True
            ),
        ),
        migrations.CreateModel(
            name="Letter",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("program_id", models.IntegerField(verbose_name="program")),
                ("station_id", models.IntegerField(verbose_name="station")),
                ("key", models.CharField(max_length=96)),
                ("airing_id", models.BigIntegerField(verbose_name="diffusion")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "waits to be sent"),
                            ("sending", "is being sent"),
                            ("sent", "sent"),
                            ("dead", "given up"),
                            ("doubtful", "perhaps sent"),
                            ("dropped", "no longer wanted"),
                        ],
                        default="waiting",
                        max_length=8,
                        verbose_name="state",
                    ),
                ),
                ("queued", aircox_listen_stats.fields.InstantField(verbose_name="queued")),
                (
                    "due",
                    aircox_listen_stats.fields.InstantField(help_text="Not to be tried earlier.", verbose_name="due"),
                ),
                ("changed", aircox_listen_stats.fields.InstantField(verbose_name="changed")),
                ("tries", models.IntegerField(default=0, verbose_name="tries")),
                (
                    "error",
                    models.CharField(
                        blank=True, help_text="The kind of the last one alone.", max_length=96, verbose_name="error"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "letter",
                "verbose_name_plural": "letters",
                "indexes": [
                    models.Index(
                        condition=models.Q(("state__in", ["waiting", "sending"])),
                        fields=["due"],
                        name="listen_letter_due",
                    ),
                    models.Index(fields=["changed"], name="listen_letter_changed"),
                ],
                "constraints": [models.UniqueConstraint(fields=("user", "station_id", "key"), name="listen_letter_of")],
            },
        ),
        migrations.CreateModel(
            name="LetterSubscription",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("program_id", models.IntegerField(verbose_name="program")),
                ("since", aircox_listen_stats.fields.InstantField(verbose_name="since")),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "subscription to letters",
                "verbose_name_plural": "subscriptions to letters",
                "constraints": [models.UniqueConstraint(fields=("user", "program_id"), name="listen_letter_wanted")],
            },
        ),
    ]
