"""Boxes, texts and triggers, in plain SQL."""

from pathlib import Path

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("sensorthings", "0001_initial"), ("twin", "0003_details")]

    operations = [
        migrations.RunSQL(
            (Path(__file__).parent / "store.sql").read_text(),
            "DROP TRIGGER sensorthings_thing_moved ON twin_thing;"
            " DROP TRIGGER sensorthings_device_added ON twin_device;"
            " DROP TRIGGER sensorthings_series_added ON twin_series;"
            " DROP TRIGGER sensorthings_location_changed ON sensorthings_location;"
            " DROP FUNCTION sensorthings_thing_moved, sensorthings_device_added, sensorthings_series_added,"
            " sensorthings_location_changed, sensorthings_feature, sensorthings_quality, sensorthings_unit;"
            " ALTER TABLE sensorthings_location DROP COLUMN place;"
            " ALTER TABLE sensorthings_featureofinterest DROP COLUMN place; DROP FUNCTION sensorthings_box",
        )
    ]
