"""Changes of entities for those who follow them, and what became of a Task."""

from pathlib import Path

from django.db import migrations, models

# Tables, the entity type that each belongs to, and which column is its number.
_FOLLOWED = (
    ("twin_thing", "Thing", "id"),
    ("sensorthings_thingdetails", "Thing", "thing_id"),
    ("sensorthings_location", "Location", "id"),
    ("sensorthings_historicallocation", "HistoricalLocation", "id"),
    ("twin_series", "Datastream", "id"),
    ("sensorthings_datastream", "Datastream", "series_id"),
    ("sensorthings_multidatastream", "MultiDatastream", "id"),
    ("sensorthings_sensor", "Sensor", "id"),
    ("twin_observedproperty", "ObservedProperty", "id"),
    ("sensorthings_propertydetails", "ObservedProperty", "observed_property_id"),
    ("sensorthings_featureofinterest", "FeatureOfInterest", "id"),
    ("sensorthings_party", "Party", "id"),
    ("sensorthings_license", "License", "id"),
    ("sensorthings_campaign", "Campaign", "id"),
    ("sensorthings_observationgroup", "ObservationGroup", "id"),
    ("sensorthings_relation", "Relation", "id"),
    ("sensorthings_actuator", "Actuator", "id"),
    ("sensorthings_taskingcapability", "TaskingCapability", "id"),
    ("sensorthings_task", "Task", "id"),
)


def _triggers() -> str:
    return "".join(
        f"CREATE TRIGGER sensorthings_made AFTER INSERT ON {table} REFERENCING NEW TABLE AS new_rows"
        f" FOR EACH STATEMENT EXECUTE FUNCTION sensorthings_made('{entity}', '{column}');"
        f" CREATE TRIGGER sensorthings_altered AFTER UPDATE ON {table}"
        " REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows"
        f" FOR EACH STATEMENT EXECUTE FUNCTION sensorthings_altered('{entity}', '{column}');"
        for table, entity, column in _FOLLOWED
    )


def _without() -> str:
    return "".join(
        f"DROP TRIGGER {name} ON {table};"
        for table, _, _ in _FOLLOWED
        for name in ("sensorthings_made", "sensorthings_altered")
    )


class Migration(migrations.Migration):
    dependencies = [("sensorthings", "0003_posted")]

    operations = [
        migrations.AddField(
            "task",
            "states",
            models.JSONField(default=list, help_text="state, time and detail, the oldest one first"),
        ),
        migrations.RunSQL(
            (Path(__file__).parent / "changes.sql").read_text() + _triggers(),
            _without()
            + "DROP FUNCTION sensorthings_made, sensorthings_altered; DROP TABLE sensorthings_change",
        ),
    ]
