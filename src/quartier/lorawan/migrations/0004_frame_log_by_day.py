"""The frame log in partitions of a day."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

_HERE = Path(__file__).parent


class Migration(migrations.Migration):
    dependencies = [("lorawan", "0003_cups")]

    operations = [
        migrations.RunSQL(
            (_HERE / "frame_log_by_day.sql").read_text(),
            (_HERE / "frame_log_whole.sql").read_text(),
            state_operations=[
                migrations.AlterField(
                    model_name="frame",
                    name="municipality",
                    field=models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="cities.municipality",
                    ),
                ),
            ],
        ),
    ]
