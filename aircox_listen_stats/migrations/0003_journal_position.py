from django.db import migrations, models

import aircox_listen_stats.fields


class Migration(migrations.Migration):
    dependencies = [
        ("aircox_listen_stats", "0002_delivered"),
    ]

    operations = [
        migrations.CreateModel(
            name="JournalPosition",
            fields=[
                ("name", models.CharField(max_length=48, primary_key=True, serialize=False)),
                (
                    "taken",
                    models.BigIntegerField(help_text="Bytes of the file; of what waited in memory, callbacks."),
                ),
                ("changed", aircox_listen_stats.fields.InstantField()),
            ],
            options={
                "verbose_name": "journal position",
                "verbose_name_plural": "journal positions",
            },
        ),
    ]
