"""The fast tables, in plain SQL."""

from pathlib import Path

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("twin", "0001_initial")]

    operations = [
        migrations.RunSQL(
            (Path(__file__).parent / "store.sql").read_text(),
            "DROP TABLE twin_observation, twin_revision, twin_state, twin_rollup_15min, twin_rollup_1h, twin_rollup_1d,"
            " twin_rollup_mark, twin_change; DROP INDEX twin_thing_place",
        )
    ]
