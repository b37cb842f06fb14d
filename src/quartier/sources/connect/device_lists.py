"""The device lists of network servers, as rows for the import. Keys are not asked for, nor read where they come.

ChirpStack v4 is asked through its REST interface (``chirpstack-rest-api``), The Things Stack through its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import msgspec

from quartier.sources.connect.element_client import ElementClient, ElementDevice
from quartier.sources.connect.http import Server, ServerError
from quartier.sources.connect.report import SourceConfig

_PAGE: Final = 100
_MAXIMUM_DEVICES: Final = 100_000
_TOO_MANY_REQUESTS: Final = 429


@dataclass(slots=True)
class Listed:
    """One device as a network server knows it: columns of the import, and vendor and model where it says so."""

    columns: dict[str, str]
    vendor: str = ""
    model: str = ""
    tags: list[str] = field(default_factory=list)


@dataclass(slots=True)
class DeviceList:
    """The devices, and what is wrong with those that could not be read."""

    devices: list[Listed]
    problems: list[str]


async def element(source: SourceConfig) -> DeviceList:
    """Devices of the source's folders. Raises ServerError."""
    found: dict[str, Listed] = {}
    problems: list[str] = []
    async with ElementClient(source.settings["url"], source.credentials["api_key"]) as server:
        for tag in source.settings["tags"]:
            devices, wrong = await server.devices(tag)
            problems += wrong
            for device in devices:
                if device.id not in found:
                    found[device.id] = _element_device(await _with_profile(server, device))
    return DeviceList(list(found.values()), problems)


async def _with_profile(server: ElementClient, device: ElementDevice) -> ElementDevice:
    """The device with its address and type; some servers leave those out of lists."""
    if device.fields is not None or not device.slug:
        return device
    while True:
        try:
            return await server.device(device.slug)
        except ServerError as error:
            if error.status != _TOO_MANY_REQUESTS:
                return device
            await asyncio.sleep(error.retry_after_s or 1)


def _element_device(device: ElementDevice) -> Listed:
    columns = {
        "external_id": device.external_id,
        "name": device.name,
        "thing_name": device.name,
        "street": device.profile("strasse"),
        "house_number": device.profile("hausnummer"),
        "postcode": device.profile("plz"),
        "since": device.profile("installationsdatum") or device.inserted_at,
    }
    if device.location and len(device.location.coordinates) >= 2:
        lon, lat = device.location.coordinates[:2]
        columns |= {"lon": repr(lon), "lat": repr(lat)}
    interval = device.stats.packet_interval if device.stats else None
    if interval is not None:
        seconds = round(interval.days * 86_400 + interval.secs)
        if seconds > 0:
            columns["expected_interval_s"] = str(seconds)
    return Listed(
        columns,
        device.profile("hersteller"),
        device.profile("geratetyp"),
        [tag.slug for tag in device.tags or []],
    )


class _ChirpStackDevice(msgspec.Struct, rename="camel"):
    dev_eui: str
    name: str = ""
    description: str = ""
    created_at: str = ""
    device_profile_name: str = ""


class _ChirpStackDevices(msgspec.Struct, rename="camel"):
    total_count: int = 0
    result: list[_ChirpStackDevice] = []


_chirpstack = msgspec.json.Decoder(_ChirpStackDevices)


async def chirpstack(source: SourceConfig) -> DeviceList:
    """Devices of the source's applications. Raises ServerError."""
    address, applications, token = _access(source)
    found: list[Listed] = []
    headers = {"Grpc-Metadata-Authorization": f"Bearer {token}"}
    async with Server(address, headers=headers, secret=token) as server:
        for application in applications:
            offset = 0
            while offset < _MAXIMUM_DEVICES:
                parameters = {"applicationId": application, "limit": _PAGE, "offset": offset}
                page = _read(_chirpstack, await server.get("api/devices", parameters))
                found += [_chirpstack_device(device) for device in page.result]
                offset += _PAGE
                if offset >= page.total_count or not page.result:
                    break
    return DeviceList(found, [])


def _chirpstack_device(device: _ChirpStackDevice) -> Listed:
    return Listed(
        {
            "external_id": device.dev_eui,
            "name": device.name,
            "thing_name": device.name,
            "description": device.description,
            "since": device.created_at,
        },
        model=device.device_profile_name,
    )


class _TtsIds(msgspec.Struct):
    device_id: str
    dev_eui: str = ""


class _TtsVersion(msgspec.Struct):
    brand_id: str = ""
    model_id: str = ""


class _TtsLocation(msgspec.Struct):
    latitude: float = 0
    longitude: float = 0
    altitude: float | None = None


class _TtsDevice(msgspec.Struct):
    ids: _TtsIds
    created_at: str = ""
    name: str = ""
    description: str = ""
    locations: dict[str, _TtsLocation] = {}
    version_ids: _TtsVersion | None = None


class _TtsDevices(msgspec.Struct):
    end_devices: list[_TtsDevice] = []


_tts = msgspec.json.Decoder(_TtsDevices)


async def tts(source: SourceConfig) -> DeviceList:
    """Devices of the source's applications. Raises ServerError."""
    address, applications, token = _access(source)
    found: list[Listed] = []
    headers = {"Authorization": f"Bearer {token}"}
    async with Server(address, headers=headers, secret=token) as server:
        for application in applications:
            path = f"api/v3/applications/{quote(application, safe='')}/devices"
            for number in range(1, _MAXIMUM_DEVICES // _PAGE + 1):
                parameters = {
                    "field_mask": "name,description,locations,version_ids",
                    "limit": _PAGE,
                    "page": number,
                }
                page = _read(_tts, await server.get(path, parameters))
                found += [_tts_device(device) for device in page.end_devices]
                if len(page.end_devices) < _PAGE:
                    break
    return DeviceList(found, [])


def _tts_device(device: _TtsDevice) -> Listed:
    name = device.name or device.ids.device_id
    columns = {
        "external_id": device.ids.dev_eui or device.ids.device_id,
        "name": name,
        "thing_name": name,
        "description": device.description,
        "since": device.created_at,
    }
    place = device.locations.get("user") or next(iter(device.locations.values()), None)
    if place is not None:
        columns |= {"lon": repr(place.longitude), "lat": repr(place.latitude)}
        if place.altitude is not None:
            columns["altitude_m"] = repr(place.altitude)
    version = device.version_ids or _TtsVersion()
    return Listed(columns, version.brand_id, version.model_id)


def _access(source: SourceConfig) -> tuple[str, list[str], str]:
    """Address, applications and key. Raises ServerError naming what is missing."""
    for name, given in (
        ("api_url", source.settings.get("api_url")),
        ("applications", source.settings.get("applications")),
        ("api_token", source.credentials.get("api_token")),
    ):
        if not given:
            raise ServerError(f"the setting {name} is missing")
    return source.settings["api_url"], source.settings["applications"], source.credentials["api_token"]


def _read[T](decoder: msgspec.json.Decoder[T], answer: bytes) -> T:
    try:
        return decoder.decode(answer)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ServerError(f"the answer cannot be read: {error}") from None


LISTS: Final[dict[str, Callable[[SourceConfig], Coroutine[Any, Any, DeviceList]]]] = {
    "element": element,
    "chirpstack": chirpstack,
    "tts": tts,
}
