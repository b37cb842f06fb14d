"""A person registers a sensor of her own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.db import transaction
from django.utils import timezone

from quartier.cities import audit
from quartier.cities.models import Municipality, Role, RoleAssignment
from quartier.cities.rules import Actor
from quartier.sources.domain.devices import Districts, near, slug_of
from quartier.twin.models import Deployment, Device, ObservedProperty, Thing, ThingKind

SOURCE_KEY: Final = "makers"
MAXIMUM_SENSORS: Final = 50
_EXTERNAL_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")


class RegistrationError(ValueError):
    """A sensor cannot be registered; ``field`` names what to correct."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Sensor:
    """A registered sensor. Its messages name it by ``device.external_id``."""

    thing: Thing
    device: Device
    deployment: Deployment


@transaction.atomic
def register_sensor(
    actor: Actor,
    municipality: Municipality,
    *,
    name: str,
    lon: float,
    lat: float,
    height_above_ground_m: float | None = None,
    indoor: bool = False,
    surface: str = "",
    street: str = "",
    house_number: str = "",
    postcode: str = "",
    description: str = "",
    expected_interval_s: int | None = None,
    external_id: str = "",
    sensor_id: str = "",
    sensors: Mapping[str, str] | None = None,
    become_maker: bool = False,
) -> Sensor:
    """Create thing, device and deployment for a sensor of the actor's own.

    ``external_id`` is made from ``name`` where it is not given and is unique among all makers, so that an MQTT topic
    names one sensor. ``sensor_id`` is the id that sensor.community firmware sends (``esp8266-1234567``), ``sensors``
    names the properties behind openSenseMap sensor ids. Indoor sensors are registered but not public. With
    ``become_maker`` (from a page, never from a token) the person gets the role of a maker there.

    Raises RegistrationError, NotAllowed.
    """
    if actor.person_id is None:
        actor.require("observations:write", municipality.pk)
        raise RegistrationError("person", "only a person can have a sensor")
    if become_maker and not actor.may("observations:write", municipality.pk):
        RoleAssignment.objects.get_or_create(
            person_id=actor.person_id, role=Role.MAKER, municipality=municipality
        )
        audit.log(actor, "role.grant", "maker", municipality_id=municipality.pk, role="maker", own=True)
    else:
        actor.require("observations:write", municipality.pk)
    name = " ".join(name.split())
    if not 1 <= len(name) <= 200 or not name.isprintable():
        raise RegistrationError("name", "must have 1 to 200 characters")
    if not (-180 <= lon <= 180 and -90 <= lat <= 90) or not near(municipality, lon, lat):
        raise RegistrationError("lon", f"{lon:g}, {lat:g} is not near {municipality.name}")
    if height_above_ground_m is not None and not -100 <= height_above_ground_m <= 1000:
        raise RegistrationError("height_above_ground_m", "must lie between -100 and 1000")
    if expected_interval_s is not None and not 1 <= expected_interval_s <= 31_536_000:
        raise RegistrationError("expected_interval_s", "must lie between 1 and 31536000")
    for field, text, limit in (
        ("surface", surface, 40),
        ("street", street, 120),
        ("house_number", house_number, 12),
        ("postcode", postcode, 10),
        ("description", description, 2000),
    ):
        if len(text) > limit or "\x00" in text:
            raise RegistrationError(field, f"must have at most {limit} characters")
    mine = Thing.objects.filter(owner_person_id=actor.person_id, kind=ThingKind.CITIZEN_SENSOR).count()
    if mine >= MAXIMUM_SENSORS:
        raise RegistrationError("name", f"at most {MAXIMUM_SENSORS} sensors per person")
    properties: dict[str, object] = {}
    if sensor_id:
        if len(sensor_id) > 120 or not sensor_id.isprintable():
            raise RegistrationError("sensor_id", "must have at most 120 characters")
        properties["sensor_id"] = sensor_id.strip()
    if sensors:
        properties["sensors"] = _sensors(sensors)
    key = _free_id(external_id, name)
    thing = Thing.objects.create(
        municipality=municipality,
        key=_free_thing_key(municipality, key),
        name=name,
        kind=ThingKind.CITIZEN_SENSOR,
        description=description,
        lon=lon,
        lat=lat,
        surface=surface,
        street=street,
        house_number=house_number,
        postcode=postcode,
        district=Districts(municipality).at(lon, lat),
        owner_person_id=actor.person_id,
        public=not indoor,
        properties={"exposure": "indoor" if indoor else "outdoor"},
    )
    device = Device.objects.create(
        municipality=municipality,
        source_key=SOURCE_KEY,
        external_id=key,
        name=name,
        expected_interval_s=expected_interval_s,
        properties=properties,
    )
    deployment = Deployment.objects.create(
        device=device,
        thing=thing,
        # Who registers a sensor may bring along what it measured in the last weeks.
        since=timezone.now() - timedelta(days=30),
        height_above_ground_m=height_above_ground_m,
    )
    audit.log(
        actor, "sensor.register", device, municipality_id=municipality.pk, device=device.pk, thing=thing.pk
    )
    return Sensor(thing, device, deployment)


def _sensors(sensors: Mapping[str, str]) -> dict[str, str]:
    if len(sensors) > 100:
        raise RegistrationError("sensors", "at most 100")
    known = set(ObservedProperty.objects.values_list("slug", flat=True))
    found: dict[str, str] = {}
    for sensor, slug in sensors.items():
        if not isinstance(slug, str) or slug not in known:
            raise RegistrationError(f"sensors.{str(sensor)[:60]}", f"unknown property {str(slug)[:60]!r}")
        found[str(sensor)[:120]] = slug
    return found


def _free_id(wanted: str, name: str) -> str:
    """An id that no other maker's device has. Raises RegistrationError if the wanted one is taken or malformed."""
    taken = Device.objects.filter(source_key=SOURCE_KEY)
    if wanted:
        if not _EXTERNAL_ID.fullmatch(wanted):
            raise RegistrationError(
                "device", "must consist of a-z, 0-9, - and _ and have at most 80 characters"
            )
        if taken.filter(external_id=wanted).exists():
            raise RegistrationError("device", f"{wanted} is taken")
        return wanted
    base = slug_of(name)[:60] or "sensor"
    used = set(taken.filter(external_id__startswith=base).values_list("external_id", flat=True))
    return next(
        candidate
        for candidate in (base, *(f"{base}-{n}" for n in range(2, len(used) + 3)))
        if candidate not in used
    )


def _free_thing_key(municipality: Municipality, base: str) -> str:
    used = set(municipality.things.filter(key__startswith=base).values_list("key", flat=True))
    return next(
        candidate
        for candidate in (base, *(f"{base}-{n}" for n in range(2, len(used) + 3)))
        if candidate not in used
    )
