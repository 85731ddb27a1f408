import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """A session's stream without a constraint in the database, which PostgreSQL would check row by row."""

    dependencies = [("aircox_listen_stats", "0007_ruling_holes")]

    operations = [
        migrations.AlterField(
            model_name="session",
            name="stream",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="sessions",
                to="aircox_listen_stats.stream",
            ),
        ),
    ]
