"""A maker registers her sensors by program, and lists them."""

from __future__ import annotations

from typing import Any

import msgspec
from shapely.geometry import Point, shape
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.config import config
from quartier.sources.api.answers import ApiError, body_of, require_json
from quartier.sources.api.tokens import SCOPE, grant_of, token_in
from quartier.sources.domain.devices import near
from quartier.sources.domain.makers import SOURCE_KEY, RegistrationError, register_sensor
from quartier.sources.threads import in_thread
from quartier.twin.models import Deployment


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    lon: float
    lat: float
    device: str = ""
    municipality: str = ""
    height_above_ground_m: float | None = None
    indoor: bool = False
    surface: str = ""
    street: str = ""
    house_number: str = ""
    postcode: str = ""
    description: str = ""
    expected_interval_s: int | None = None
    sensor_id: str = ""
    sensors: dict[str, str] = {}


_decoder = msgspec.json.Decoder(_Wanted)


async def register(request: Request) -> Response:
    """``POST /api/devices``: thing, device and deployment of a sensor of one's own."""
    token = token_in(request)
    grant = await grant_of(token)
    require_json(request)
    body = await body_of(request, limit=32 * 1024)
    try:
        wanted = _decoder.decode(body)
    except msgspec.ValidationError as error:
        detail, _, path = str(error).partition(" - at `$.")
        raise ApiError(400, "wrong_type", detail, field=path.rstrip("`")) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise ApiError(400, "not_json", "the body is not JSON", field="body") from None
    try:
        made = await in_thread(_register, grant.actor, wanted)
    except RegistrationError as error:
        raise ApiError(400, "bad_value", error.detail, field=error.field) from None
    await grant_of(token, fresh=True)
    return JSONResponse(made, status_code=201)


def _register(actor: Actor, wanted: _Wanted) -> dict[str, Any]:
    municipality = _municipality(wanted)
    fields = msgspec.structs.asdict(wanted)
    del fields["municipality"]
    sensor = register_sensor(actor, municipality, external_id=fields.pop("device"), **fields)
    return _described(sensor.deployment)


def _municipality(wanted: _Wanted) -> Municipality:
    """The one that was named, or the one in whose districts (or else bounds) the sensor stands."""
    if wanted.municipality:
        found = Municipality.objects.filter(slug=wanted.municipality).first()
        if found is None:
            raise RegistrationError("municipality", f"unknown: {wanted.municipality[:60]!r}")
        return found
    point = Point(wanted.lon, wanted.lat)
    candidates = [one for one in Municipality.objects.all() if near(one, wanted.lon, wanted.lat)]
    for one in candidates:
        if any(shape(district.polygon).covers(point) for district in one.districts.all()):
            return one
    if not candidates:
        raise RegistrationError("lon", f"{wanted.lon:g}, {wanted.lat:g} lies in none of the cities")
    return min(candidates, key=lambda one: (one.lon - wanted.lon) ** 2 + (one.lat - wanted.lat) ** 2)


def _described(deployment: Deployment) -> dict[str, Any]:
    device, thing = deployment.device, deployment.thing
    return {
        "device": device.external_id,
        "name": thing.name,
        "municipality": thing.municipality.slug,
        "thing": thing.key,
        "page": f"{config().public_url}/orte/{thing.municipality.slug}/{thing.key}/",
        "mqtt_topic": f"quartier/v1/{device.external_id}",
        "lon": thing.lon,
        "lat": thing.lat,
        "height_above_ground_m": deployment.height_above_ground_m,
        "public": thing.public,
        "last_seen_at": device.last_seen_at.isoformat().replace("+00:00", "Z")
        if device.last_seen_at
        else None,
    }


async def own(request: Request) -> Response:
    """``GET /api/devices``: the sender's sensors."""
    grant = await grant_of(token_in(request))
    return JSONResponse({"devices": await in_thread(_own, grant.actor)})


def _own(actor: Actor) -> list[dict[str, Any]]:
    actor.require(SCOPE)
    deployments = (
        Deployment.objects.filter(
            thing__owner_person_id=actor.person_id, device__source_key=SOURCE_KEY, until__isnull=True
        )
        .select_related("device", "thing__municipality")
        .order_by("device__external_id")
    )
    return [_described(deployment) for deployment in deployments]
