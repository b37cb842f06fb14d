"""Properties and links that several entity types have."""

from __future__ import annotations

from quartier.interfaces.sensorthings.facts import Link, Property

# The place of the thing stands for the area that a datastream observes.
OBSERVED_AREA = (
    "(SELECT x.{column} FROM sensorthings_thinglocation y JOIN sensorthings_location x ON x.id = y.location_id"
    " WHERE y.thing_id = {a}.thing_id ORDER BY x.id LIMIT 1)"
)
ID = Property("id", "id", "{a}.id", writable=False, nullable=False)
NAME = Property("name", "text", "{a}.name", column="name", mandatory=True, nullable=False)
DESCRIPTION = Property(
    "description", "text", "{a}.description", column="description", mandatory=True, nullable=False
)
OPTIONAL_DESCRIPTION = Property("description", "text", "nullif({a}.description, '')", column="description")
PROPERTIES = Property("properties", "json", "{a}.properties", column="properties")
ENCODING = Property(
    "encodingType", "text", "{a}.encoding_type", column="encoding_type", mandatory=True, nullable=False
)


def optional_text(name: str, column: str) -> Property:
    return Property(name, "text", f"nullif({{a}}.{column}, '')", column=column)


PARTY_LINK = Link(
    "Party", "Party", False, "{c}.id = {p}.party_id", column="party_id", shown="{p}.party_id IS NOT NULL"
)
LICENSE_LINK = Link(
    "License",
    "License",
    False,
    "{c}.id = {p}.license_id",
    column="license_id",
    shown="{p}.license_id IS NOT NULL",
)


def pairs(name: str, target: str, table: str, own: str, other: str, *, rare: bool = False) -> Link:
    condition = f"{{c}}.id IN (SELECT x.{other} FROM {table} x WHERE x.{own} = {{p}}.id)"
    return Link(name, target, True, condition, table=(table, own, other), rare=rare)
