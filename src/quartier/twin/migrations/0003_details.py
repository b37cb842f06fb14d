"""What a sender said of an observation besides time and result (SensorThings: resultTime, parameters …)."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("twin", "0002_store")]

    operations = [
        migrations.RunSQL(
            "ALTER TABLE twin_observation ADD COLUMN details jsonb; ALTER TABLE twin_revision ADD COLUMN details jsonb",
            "ALTER TABLE twin_observation DROP COLUMN details; ALTER TABLE twin_revision DROP COLUMN details",
        )
    ]
