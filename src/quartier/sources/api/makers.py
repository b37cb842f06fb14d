"""Readings of people's own sensors: our simple JSON, and the forms of openSenseMap and sensor.community."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from quartier.intake.inbox import RawMessage
from quartier.intake.parsers import Uplink
from quartier.sources import opensensemap, quartier_json, sensorcommunity
from quartier.sources.api import properties
from quartier.sources.api.answers import ApiError, accepted, body_of, media_type, put, require_json
from quartier.sources.api.tokens import device_of, grant_of, token_in
from quartier.sources.domain.makers import SOURCE_KEY
from quartier.sources.grants import Grant, OwnDevice

_json = msgspec.json.Decoder()
_BOX_TYPES = (
    "",
    "application/json",
    "text/json",
    "text/csv",
    "application/sbx-bytes",
    "application/sbx-bytes-ts",
)


def _message(
    request: Request, kind: str, body: bytes, *, municipality: str = "", headers: dict[str, str] | None = None
) -> RawMessage:
    return RawMessage(
        municipality=municipality,
        source=SOURCE_KEY,
        kind=kind,
        received_at=datetime.now(UTC),
        body=body,
        # A token may stand in the path; what is kept does not name it.
        topic="/api/push-sensor-data/" if "token" in request.path_params else request.url.path[:200],
        headers=headers or {},
    )


async def observations(request: Request) -> Response:
    """``POST /api/observations``: one entry or a list. All entries are taken or none."""
    token = token_in(request)
    grant = await grant_of(token)
    require_json(request)
    body = await body_of(request)
    uplinks = tuple(quartier_json.parse(_message(request, "quartier_json", body), {}))
    devices = [await device_of(token, grant, uplink.external_id, "device") for uplink in uplinks]
    await properties.check(uplinks, "values.")
    positions: dict[str, int] = {}
    for municipality, part in _by_municipality(body, devices).items():
        positions[municipality] = await put(
            request, _message(request, "quartier_json", part, municipality=municipality)
        )
    return accepted(max(positions.values()), readings=sum(len(uplink.fields or {}) for uplink in uplinks))


def _by_municipality(body: bytes, devices: Sequence[OwnDevice]) -> dict[str, bytes]:
    """The body, cut into one list per municipality where somebody has sensors in both."""
    municipalities = {device.municipality for device in devices}
    if len(municipalities) == 1:
        return {municipalities.pop(): body}
    entries: list[Any] = _json.decode(body)
    parts: dict[str, list[Any]] = {}
    for entry, device in zip(entries, devices, strict=True):
        parts.setdefault(device.municipality, []).append(entry)
    return {municipality: msgspec.json.encode(part) for municipality, part in parts.items()}


async def box_data(request: Request) -> Response:
    """``POST /api/boxes/{box}/data``: as openSenseMap, which answers 201 and this sentence."""
    return await _box(request, await _box_body(request))


async def box_measurement(request: Request) -> Response:
    """``POST /api/boxes/{box}/{sensor}``: one measurement of one sensor."""
    require_json(request)
    body = await _box_body(request)
    try:
        content = _json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise ApiError(400, "not_json", "the body is not JSON", field="body") from None
    if not isinstance(content, dict):
        raise ApiError(400, "wrong_type", "an object was expected", field="body")
    return await _box(request, msgspec.json.encode([{**content, "sensor": request.path_params["sensor"]}]))


async def _box_body(request: Request) -> bytes:
    if media_type(request) not in _BOX_TYPES:
        raise ApiError(
            415,
            "bad_content_type",
            f"known are {', '.join(one for one in _BOX_TYPES if one)}",
            field="Content-Type",
        )
    return await body_of(request)


async def _box(request: Request, body: bytes) -> Response:
    token = token_in(request, raw=True)
    grant = await grant_of(token)
    device = await device_of(token, grant, request.path_params["box"], "boxId")
    headers = {
        quartier_json.DEVICE_HEADER: device.external_id,
        "content-type": media_type(request) or "application/json",
    }
    if device.sensors:
        headers[opensensemap.SENSORS_HEADER] = msgspec.json.encode(device.sensors).decode()
    message = _message(request, "opensensemap", body, municipality=device.municipality, headers=headers)
    uplinks: tuple[Uplink, ...] = tuple(opensensemap.parse(message, {}))
    await properties.check(uplinks, "")
    await put(request, message)
    return JSONResponse("Measurements saved in box", status_code=201)


async def push_sensor_data(request: Request) -> Response:
    """``POST /api/push-sensor-data/``: the firmware's "own API"."""
    token = token_in(request, basic=True)
    grant = await grant_of(token)
    require_json(request)
    body = await body_of(request)
    headers = {"x-sensor": request.headers["x-sensor"][:120]} if "x-sensor" in request.headers else {}
    # The box's own id says which of the sender's devices it is; any id will do for reading the form.
    probe = _message(request, "sensorcommunity", body, headers={**headers, quartier_json.DEVICE_HEADER: "?"})
    uplinks = tuple(sensorcommunity.parse(probe, {}))
    device = await _sensor(token, grant, sensorcommunity.sensor_id(_json.decode(body), headers))
    await properties.check(uplinks, "sensordatavalues.", unknown_allowed=True)
    headers[quartier_json.DEVICE_HEADER] = device.external_id
    message = _message(request, "sensorcommunity", body, municipality=device.municipality, headers=headers)
    return accepted(await put(request, message))


async def _sensor(token: str, grant: Grant, sensor_id: str) -> OwnDevice:
    """The device behind a box's id: by the id that was registered, by name, or the only one there is."""
    found = _match(grant, sensor_id)
    if found is None:
        # It may have been registered a moment ago.
        grant = await grant_of(token, fresh=True)
        found = _match(grant, sensor_id)
    if found is None:
        raise ApiError(
            404,
            "unknown_device",
            f"none of your sensors is registered with the id {sensor_id[:80]!r}",
            field="X-Sensor",
        )
    return await device_of(token, grant, found.external_id, "X-Sensor")


def _match(grant: Grant, sensor_id: str) -> OwnDevice | None:
    devices = list(grant.devices.values())
    wanted = sensor_id.lower()
    for device in devices:
        if wanted and wanted in (device.sensor_id.lower(), device.external_id):
            return device
    if len(devices) == 1 and not (devices[0].sensor_id and wanted):
        return devices[0]
    return None
