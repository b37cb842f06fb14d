"""Who posts a Datastream names its Sensor himself: the trigger that makes one for imported series leaves it alone."""

from django.db import migrations

_FUNCTION = """
CREATE OR REPLACE FUNCTION sensorthings_series_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.derivation <> '' OR NEW.device_id IS NULL) {condition} THEN
        -- A series of neither a device nor a derivation was imported: "imported" is then how it came.
        INSERT INTO sensorthings_sensor (municipality_id, derivation, name, description, encoding_type)
        VALUES (NEW.municipality_id, coalesce(nullif(NEW.derivation, ''), 'imported'), '', '', '')
        ON CONFLICT (municipality_id, derivation) WHERE derivation <> '' DO NOTHING;
    END IF;
    RETURN NULL;
END $$
"""
_POSTED = "AND current_setting('quartier.series_posted', true) IS DISTINCT FROM 'yes'"


class Migration(migrations.Migration):
    dependencies = [("sensorthings", "0002_store")]

    operations = [
        migrations.RunSQL(_FUNCTION.replace("{condition}", _POSTED), _FUNCTION.replace("{condition}", ""))
    ]
