from django.db import migrations, models

import aircox_listen_stats.fields


class Migration(migrations.Migration):
    dependencies = [
        ("aircox_listen_stats", "0012_cumes"),
    ]

    operations = [
        migrations.AddField(
            model_name="connection",
            name="referrer",
            field=models.CharField(help_text="As of a session.", max_length=64, null=True),
        ),
        migrations.AddField(
            model_name="session",
            name="referrer",
            field=models.CharField(
                blank=True,
                help_text="Host of the page that played it; - where it named none; null where that is not known.",
                max_length=64,
                null=True,
                verbose_name="referrer",
            ),
        ),
        migrations.AddField(
            model_name="streamevent",
            name="referrer",
            field=models.CharField(help_text="As of a session.", max_length=64, null=True, verbose_name="referrer"),
        ),
        migrations.CreateModel(
            name="DayShare",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("station_id", models.IntegerField()),
                ("stream_id", models.IntegerField(help_text="0: all streams of the station together.")),
                ("started", aircox_listen_stats.fields.InstantField(help_text="Of the broadcast day.")),
                ("rule_set", models.CharField(max_length=32)),
                ("kind", models.CharField(help_text="country, app or referrer.", max_length=8)),
                (
                    "value",
                    models.CharField(
                        help_text="Blank: unknown; - a referrer that was not named; * all that have no row.",
                        max_length=64,
                    ),
                ),
                ("listening_ms", models.BigIntegerField(help_text="Sum of the sessions.")),
                ("inherited", models.IntegerField(help_text="Sessions that had begun before.")),
                ("begun", models.IntegerField()),
                ("settled", models.BooleanField(default=False)),
                (
                    "version",
                    models.IntegerField(
                        default=0, help_text="Of all rows of the day, stream, rule-set and kind, as of a quarter-hour."
                    ),
                ),
            ],
            options={
                "verbose_name": "share of a day",
                "verbose_name_plural": "shares of days",
                "indexes": [
                    models.Index(
                        condition=models.Q(("settled", False)),
                        fields=["station_id", "started"],
                        name="listen_share_open",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("station_id", "stream_id", "kind", "rule_set", "started", "value"),
                        name="listen_share_of",
                    )
                ],
            },
        ),
    ]
