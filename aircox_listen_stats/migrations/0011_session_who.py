from django.db import migrations


class Migration(migrations.Migration):
    """Nothing looks for the sessions of one listener, and keeping them in that order took most of an import."""

    dependencies = [("aircox_listen_stats", "0010_stale_causes")]

    operations = [migrations.RemoveIndex(model_name="session", name="listen_session_who")]
