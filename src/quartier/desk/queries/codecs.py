"""Device types with what belongs to them: devices, codec, mapping, open refusals; and proposals for a mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from quartier.cities.rules import Actor
from quartier.desk import raw
from quartier.desk.access import MESSAGES, within
from quartier.intake.codecs.library import LibraryCodec, library
from quartier.intake.models import Codec, FieldMapping
from quartier.twin.models import Device, DeviceType, ObservedProperty

# What vendors call things, where that is not our own word: property and unit.
_USUAL_NAMES: Final[dict[str, tuple[str, str]]] = {
    "temperature": ("air_temperature", "Cel"),
    "temp": ("air_temperature", "Cel"),
    "tempc_sht": ("air_temperature", "Cel"),
    "humidity": ("relative_humidity", "%"),
    "hum": ("relative_humidity", "%"),
    "hum_sht": ("relative_humidity", "%"),
    "pressure": ("air_pressure", "hPa"),
    "battery": ("battery_level", "%"),
    "battery_percent": ("battery_level", "%"),
    "bat": ("battery_voltage", "V"),
    "batv": ("battery_voltage", "V"),
    "battery_v": ("battery_voltage", "V"),
    "voltage": ("battery_voltage", "V"),
    "distance": ("distance", "mm"),
    "illuminance": ("illuminance", "lx"),
    "light": ("illuminance", "lx"),
    "pm10": ("pm10", "ug/m3"),
    "pm2_5": ("pm2_5", "ug/m3"),
    "pm25": ("pm2_5", "ug/m3"),
    "co2": ("co2", "[ppm]"),
    "wind_speed": ("wind_speed", "m/s"),
    "wind_direction": ("wind_direction", "deg"),
}
_FIELDS_AT_MOST: Final = 60


def device_types(actor: Actor) -> QuerySet[DeviceType]:
    """All types with ``n_devices`` (of the actor's cities), ``n_mappings``, ``version`` of the codec in use."""
    newest = Codec.objects.filter(device_type=OuterRef("pk"), active=True).order_by("-version")
    fields = (
        FieldMapping.objects.filter(device_type=OuterRef("pk"))
        .order_by()
        .values("device_type")
        .annotate(n=Count("pk"))
        .values("n")
    )
    return DeviceType.objects.annotate(
        n_devices=Count(
            "devices", filter=within(actor, MESSAGES, "devices__municipality_id") & Q(devices__isnull=False)
        ),
        version=Subquery(newest.values("version")[:1]),
        n_mappings=Coalesce(Subquery(fields), 0),
    )


def open_refusals(actor: Actor) -> dict[int, int]:
    """Open refusals per device type id, of devices in the actor's cities."""
    ids = actor.municipalities(MESSAGES)
    cities = None if ids is None else sorted(ids)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT d.device_type_id, count(*) FROM intake_refusedmessage r JOIN twin_device d"
            " ON (d.municipality_id, d.source_key, d.external_id) = (r.municipality_id, r.source_key, r.external_id)"
            " WHERE r.resolved_at IS NULL AND d.device_type_id IS NOT NULL"
            " AND (%s::smallint[] IS NULL OR r.municipality_id = ANY(%s)) GROUP BY 1",
            [cities, cities],
        )
        return dict(cursor.fetchall())


def devices_of(actor: Actor, device_type: DeviceType) -> QuerySet[Device]:
    """The devices of a type in the actor's cities, those heard last first."""
    return (
        Device.objects.filter(within(actor, MESSAGES), device_type=device_type)
        .select_related("municipality")
        .order_by("-last_seen_at", "pk")
    )


def library_codec(device_type: DeviceType, script: str) -> LibraryCodec | None:
    """The library's codec of a type: the one that its script is, or the one of its name."""
    for one in library().values():
        if script and one.script == script:
            return one
    return library().get(device_type.key)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A field that could be mapped, with what is known about it."""

    path: str
    property: str = ""
    unit: str = ""
    sample: Any = None


def leaves(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of the plain values in decoded fields: names at the top, JSONPath below."""
    for name, value in fields.items():
        plain = name.replace("_", "").isalnum() and not name[:1].isdigit()
        step = f".{name}" if plain else f"[{_quoted(name)}]"
        path = f"{prefix}{step}" if prefix else name
        if isinstance(value, Mapping):
            if set(value) <= {"value", "unit"} and "value" in value:
                yield path, value["value"]
            else:
                yield from leaves(value, f"{prefix or '$'}{step}")
        elif not isinstance(value, list) and value is not None:
            yield path, value


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def proposals(fields: Mapping[str, Any] | None, known: LibraryCodec | None) -> list[Proposal]:
    """What could be mapped: fields of the last message, then the library's fields that it did not carry."""
    properties = set(ObservedProperty.objects.values_list("slug", flat=True))
    found: dict[str, Proposal] = {}
    for path, value in leaves(fields or {}):
        if len(found) >= _FIELDS_AT_MOST:
            break
        in_library = known.field(path) if known is not None else None
        if in_library is not None:
            guess, unit = in_library.property or "", in_library.unit
        else:
            last = path.rsplit(".", 1)[-1].lower()
            guess, unit = (last, "") if last in properties else _USUAL_NAMES.get(last, ("", ""))
        found[path] = Proposal(
            path, guess if guess in properties else "", unit if guess in properties else "", value
        )
    if known is not None:
        for name, field in known.fields.items():
            if name not in found and not name.endswith("*") and (field.property or "") in properties:
                found[name] = Proposal(name, field.property or "", field.unit)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class LastMessage:
    """The newest readable message of a device: bytes for the codec, or fields already decoded."""

    device: Device
    payload: bytes | None
    port: int | None
    fields: Mapping[str, Any] | None


def last_message(device: Device) -> LastMessage | None:
    """The newest message of ``device``, opened; None where none is kept."""
    opened = raw.last_of(device)
    uplink = opened.uplink_of(device.external_id) if opened is not None else None
    if uplink is None:
        return None
    return LastMessage(device, uplink.payload, uplink.port, uplink.fields)
