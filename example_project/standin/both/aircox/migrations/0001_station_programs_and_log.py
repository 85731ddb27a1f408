"""Stations, programs, diffusions, sounds and the log, in the shape that the database is made in."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

from aircox.models.sound import FILE_FIELD, file_column


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Page",
            fields=[
                ("id", models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("title", models.CharField(max_length=100)),
                ("slug", models.SlugField(blank=True, max_length=120, unique=True)),
                (
                    "status",
                    models.PositiveSmallIntegerField(
                        choices=[(0, "draft"), (16, "published"), (32, "trash")], default=0
                    ),
                ),
                ("content", models.TextField(blank=True, null=True)),
                ("pub_date", models.DateTimeField(blank=True, null=True)),
                ("featured", models.BooleanField(default=False)),
                ("allow_comments", models.BooleanField(default=True)),
                (
                    "parent",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="child_set",
                        to="aircox.page",
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Sound",
            fields=[
                ("id", models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=64)),
                (
                    "type",
                    models.SmallIntegerField(choices=[(0, "other"), (1, "archive"), (2, "excerpt"), (3, "removed")]),
                ),
                ("position", models.PositiveSmallIntegerField(default=0)),
                ("duration", models.TimeField(blank=True, null=True)),
                ("mtime", models.DateTimeField(blank=True, null=True)),
                ("is_good_quality", models.BooleanField(blank=True, null=True)),
                ("is_public", models.BooleanField(default=False)),
                (FILE_FIELD, file_column()),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Station",
            fields=[
                ("id", models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=64)),
                ("slug", models.SlugField(max_length=64, unique=True)),
                ("path", models.CharField(blank=True, max_length=256)),
                ("default", models.BooleanField(default=True)),
                ("active", models.BooleanField(default=True)),
                ("hosts", models.TextField(blank=True, max_length=512, null=True)),
                ("audio_streams", models.TextField(blank=True, max_length=2048, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="Episode",
            fields=[
                (
                    "page_ptr",
                    models.OneToOneField(
                        auto_created=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        parent_link=True,
                        primary_key=True,
                        serialize=False,
                        to="aircox.page",
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
            bases=("aircox.page",),
        ),
        migrations.CreateModel(
            name="Program",
            fields=[
                (
                    "page_ptr",
                    models.OneToOneField(
                        auto_created=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        parent_link=True,
                        primary_key=True,
                        serialize=False,
                        to="aircox.page",
                    ),
                ),
                ("active", models.BooleanField(default=True)),
                ("sync", models.BooleanField(default=True)),
                ("station", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="aircox.station")),
            ],
            options={
                "abstract": False,
            },
            bases=("aircox.page",),
        ),
        migrations.CreateModel(
            name="Schedule",
            fields=[
                ("id", models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("date", models.DateField()),
                ("time", models.TimeField()),
                ("timezone", models.CharField(default=django.utils.timezone.get_current_timezone_name, max_length=100)),
                ("duration", models.TimeField()),
                (
                    "frequency",
                    models.SmallIntegerField(
                        choices=[
                            (0, "ponctual"),
                            (1, "first"),
                            (2, "second"),
                            (4, "third"),
                            (8, "fourth"),
                            (16, "last"),
                            (5, "first_and_third"),
                            (10, "second_and_fourth"),
                            (31, "every"),
                            (32, "one_on_two"),
                        ]
                    ),
                ),
                (
                    "initial",
                    models.ForeignKey(
                        blank=True,
                        limit_choices_to={"initial__isnull": True},
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="rerun_set",
                        to="aircox.schedule",
                    ),
                ),
                ("program", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="aircox.program")),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Diffusion",
            fields=[
                ("id", models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "type",
                    models.SmallIntegerField(
                        choices=[(0, "on air"), (1, "not confirmed"), (2, "cancelled")], default=0
                    ),
                ),
                ("start", models.DateTimeField(db_index=True)),
                ("end", models.DateTimeField(db_index=True)),
                (
                    "initial",
                    models.ForeignKey(
                        blank=True,
                        limit_choices_to={"initial__isnull": True},
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="rerun_set",
                        to="aircox.diffusion",
                    ),
                ),
                (
                    "schedule",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, to="aircox.schedule"
                    ),
                ),
                ("episode", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="aircox.episode")),
                ("program", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="aircox.program")),
            ],
            options={
                "permissions": (("programming", "edit the diffusion's planification"),),
            },
        ),
        migrations.CreateModel(
            name="Port",
            fields=[
                ("id", models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("direction", models.SmallIntegerField(choices=[(0, "input"), (1, "output")])),
                (
                    "type",
                    models.SmallIntegerField(
                        choices=[
                            (0, "jack"),
                            (1, "alsa"),
                            (2, "pulseaudio"),
                            (3, "icecast"),
                            (4, "http"),
                            (5, "https"),
                            (6, "file"),
                        ]
                    ),
                ),
                ("active", models.BooleanField(default=True)),
                ("settings", models.TextField(blank=True, null=True)),
                ("station", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="aircox.station")),
            ],
        ),
        migrations.CreateModel(
            name="Track",
            fields=[
                ("id", models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("position", models.PositiveSmallIntegerField(default=0)),
                ("timestamp", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("title", models.CharField(max_length=128)),
                ("artist", models.CharField(max_length=128)),
                ("info", models.CharField(blank=True, max_length=128, null=True)),
                (
                    "sound",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, to="aircox.sound"
                    ),
                ),
                (
                    "episode",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, to="aircox.episode"
                    ),
                ),
            ],
            options={
                "ordering": ("position",),
            },
        ),
        migrations.CreateModel(
            name="Log",
            fields=[
                ("id", models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "type",
                    models.SmallIntegerField(
                        choices=[(0, "stop"), (1, "start"), (2, "cancelled"), (3, "on air"), (4, "other")]
                    ),
                ),
                ("date", models.DateTimeField(db_index=True, default=django.utils.timezone.now)),
                ("source", models.CharField(blank=True, max_length=64, null=True)),
                ("comment", models.CharField(blank=True, max_length=512, null=True)),
                (
                    "diffusion",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, to="aircox.diffusion"
                    ),
                ),
                (
                    "sound",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, to="aircox.sound"
                    ),
                ),
                ("station", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="aircox.station")),
                (
                    "track",
                    models.ForeignKey(
                        blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, to="aircox.track"
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="sound",
            name="episode",
            field=models.ForeignKey(
                blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, to="aircox.episode"
            ),
        ),
        migrations.CreateModel(
            name="Stream",
            fields=[
                ("id", models.AutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("delay", models.TimeField(blank=True, null=True)),
                ("begin", models.TimeField(blank=True, null=True)),
                ("end", models.TimeField(blank=True, null=True)),
                ("program", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="aircox.program")),
            ],
        ),
        migrations.AddField(
            model_name="sound",
            name="program",
            field=models.ForeignKey(blank=True, on_delete=django.db.models.deletion.CASCADE, to="aircox.program"),
        ),
    ]
