from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("aircox_listen_stats", "0009_quarter_hours"),
    ]

    operations = [
        migrations.AddField(
            model_name="stalewindow",
            name="why",
            field=models.CharField(
                default="late", help_text="What made it so, as kernel.types.Why has it.", max_length=16
            ),
        ),
        migrations.AddField(
            model_name="stalewindow",
            name="who",
            field=models.CharField(
                default="collector", help_text="The collector, a command, or a user.", max_length=150
            ),
        ),
        migrations.AlterField(
            model_name="audience",
            name="changes",
            field=models.JSONField(
                default=list,
                help_text="Of each version after the first: when, why, by whom, and what it replaced.",
                verbose_name="changes",
            ),
        ),
    ]
