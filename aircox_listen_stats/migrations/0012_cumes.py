from django.db import migrations, models

import aircox_listen_stats.fields


class Migration(migrations.Migration):
    dependencies = [
        ("aircox_listen_stats", "0011_session_who"),
    ]

    operations = [
        migrations.CreateModel(
            name="Cume",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("station_id", models.IntegerField()),
                ("scope", models.CharField(help_text="station, stream or program.", max_length=8)),
                ("scope_id", models.IntegerField()),
                ("kind", models.CharField(help_text="day, week or month.", max_length=8)),
                ("started", aircox_listen_stats.fields.InstantField()),
                ("rule_set", models.CharField(max_length=32)),
                ("count", models.IntegerField()),
                ("lower", models.IntegerField(help_text="The same as the upper bound where the count is exact.")),
                ("upper", models.IntegerField()),
                ("settled", models.BooleanField(default=False)),
            ],
            options={
                "verbose_name": "cume",
                "verbose_name_plural": "cumes",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("station_id", "kind", "started", "scope", "scope_id", "rule_set"), name="listen_cume_of"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="PeriodKey",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(max_length=8)),
                ("started", aircox_listen_stats.fields.InstantField(help_text="Of the week or month.")),
                ("listener", models.BigIntegerField()),
                ("key", models.BigIntegerField()),
                (
                    "day",
                    aircox_listen_stats.fields.InstantField(
                        help_text="The broadcast day on which the listener was first seen under that key."
                    ),
                ),
            ],
            options={
                "verbose_name": "key of a period",
                "verbose_name_plural": "keys of periods",
                "indexes": [models.Index(fields=["kind", "started", "day"], name="listen_period_key_day")],
                "constraints": [
                    models.UniqueConstraint(fields=("kind", "started", "listener"), name="listen_period_key")
                ],
            },
        ),
        migrations.CreateModel(
            name="PeriodSecret",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(help_text="week or month.", max_length=8)),
                ("started", aircox_listen_stats.fields.InstantField(verbose_name="period starts")),
                ("value", models.BinaryField(max_length=64)),
            ],
            options={
                "verbose_name": "secret of a period",
                "verbose_name_plural": "secrets of periods",
                "constraints": [models.UniqueConstraint(fields=("kind", "started"), name="listen_period_secret")],
            },
        ),
        migrations.CreateModel(
            name="Sketch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("station_id", models.IntegerField()),
                ("scope", models.CharField(help_text="station, stream or program.", max_length=8)),
                ("scope_id", models.IntegerField()),
                ("kind", models.CharField(help_text="week or month.", max_length=8)),
                ("started", aircox_listen_stats.fields.InstantField(help_text="Of the week or month.")),
                ("day", aircox_listen_stats.fields.InstantField()),
                ("rule_set", models.CharField(max_length=32)),
                ("known", models.BinaryField(help_text="Of the listeners' keys under the period's secret.")),
                ("strangers", models.BinaryField(help_text="Of the day's keys of listeners that have none.")),
            ],
            options={
                "verbose_name": "sketch",
                "verbose_name_plural": "sketches",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("station_id", "kind", "started", "scope", "scope_id", "rule_set", "day"),
                        name="listen_sketch_of",
                    )
                ],
            },
        ),
    ]
