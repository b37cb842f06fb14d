"""The service document: which sets there are, and what of the standards is spoken (18-088 section 9.2.1).

``docs/sensorthings-requirements.md`` says the same with the tests that show it; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from quartier.config import config
from quartier.interfaces.sensorthings.model import ENTITIES
from quartier.interfaces.sensorthings.write import crs

_SENSING: Final = "http://www.opengis.net/spec/iot_sensing/1.1/req/"
_STAPLUS: Final = "http://www.opengis.net/spec/sensorthings-staplus/1.0/conf/"
_TASKING: Final = "http://www.opengis.net/spec/iot_tasking/1.0/req/"

# Every requirement that is met, by class; older clients look for classes, newer ones for requirements.
_MET: Final = {
    _SENSING: {
        "datamodel": (
            "entity-control-information/common-control-information",
            *(
                f"{entity}/{what}"
                for entity in (
                    "thing",
                    "location",
                    "historical-location",
                    "datastream",
                    "sensor",
                    "observed-property",
                    "observation",
                    "feature-of-interest",
                )
                for what in ("properties", "relations")
            ),
        ),
        "resource-path": ("resource-path-to-entities",),
        "request-data": (
            "order",
            "expand",
            "select",
            "status-code",
            "query-status-code",
            "orderby",
            "top",
            "skip",
            "count",
            "filter",
            "built-in-filter-operations",
            "built-in-query-functions",
            "pagination",
        ),
        "create-update-delete": (
            "create-entity",
            "link-to-existing-entities",
            "deep-insert",
            "deep-insert-status-code",
            "update-entity",
            "update-entity-put",
            "update-entity-jsonpatch",
            "delete-entity",
            "historical-location-auto-creation",
            "historical-location-manual-creation",
        ),
        "batch-request": ("batch-request",),
        "multi-datastream": ("properties", "relations", "constraints"),
        "data-array": ("data-array",),
        "create-observations-via-mqtt": ("observations-creation",),
        "receive-updates-via-mqtt": ("receive-updates",),
    },
    _TASKING: {
        "tasking-capability": ("properties", "relations"),
        "task": ("properties", "relations"),
        "actuator": ("properties", "relations"),
        "create-tasks": ("task-creation",),
        "create-tasks-via-mqtt": ("task-creation",),
        "receive-updates-via-mqtt": ("receive-updated",),
    },
}
_STAPLUS_CLASSES: Final = (
    "core",
    "create",
    "update",
    "delete",
    "authentication",
    "mqtt-subscribe",
    "business-logic",
    "geometry-fg",
    "geometry-wkt",
)
# Where the text is that 22-022r1 wants for the class "business-logic", behind the address of the service.
BUSINESS_LOGIC: Final = "business-logic"
_FROST: Final = "https://fraunhoferiosb.github.io/FROST-Server/extensions/"
# What FROST's users look for by the addresses of its documentation.
_EXTENSIONS: Final = (
    f"{_FROST}DeepSelect.html",
    f"{_FROST}FilteredDelete.html",
    f"{_FROST}GeoJSON-ResultFormat.html",
    f"{_FROST}JsonBatchRequest.html",
    f"{_FROST}MqttExpand.html",
    f"{_FROST}MqttFilter.html",
    f"{_FROST}ResponseMetadata.html",
    f"{_FROST}SelectDistinct.html",
    "https://github.com/INSIDE-information-systems/SensorThingsAPI/blob/master/CSV-ResultFormat/CSV-ResultFormat.md",
)

# 18-088 §9.2.1 wants the addresses of the broker below the requirements that it meets.
_BY_MQTT: Final = (
    f"{_SENSING}create-observations-via-mqtt/observations-creation",
    f"{_SENSING}receive-updates-via-mqtt/receive-updates",
)
# 22-022r1 wants the reference systems "on the conformance page", which is this document.
_SYSTEMS: Final = {"defaultCrs": crs.CRS84, "supportedCrs": list(crs.SUPPORTED)}
CLASSES: Final = tuple(standard + one for standard, classes in _MET.items() for one in classes)
CONFORMANCE: Final = (
    *CLASSES,
    *(
        f"{standard}{one}/{requirement}"
        for standard, classes in _MET.items()
        for one, requirements in classes.items()
        for requirement in requirements
    ),
    *(_STAPLUS + one for one in _STAPLUS_CLASSES),
    *_EXTENSIONS,
)


def document(base: str) -> dict[str, Any]:
    """The answer to the root of a service at ``base``; its broker is at the same host."""
    broker = {"endpoints": list(_endpoints(base))}
    return {
        "value": [{"name": one.set, "url": f"{base}/{one.set}"} for one in ENTITIES],
        "serverSettings": {"conformance": list(CONFORMANCE), "functions": {}}
        | dict.fromkeys(_BY_MQTT, broker)
        | {f"{_STAPLUS}business-logic": {"description": f"{base}/{BUSINESS_LOGIC}"}}
        | dict.fromkeys((f"{_STAPLUS}geometry-fg", f"{_STAPLUS}geometry-wkt"), _SYSTEMS),
    }


def _endpoints(base: str) -> Iterator[str]:
    """Where the broker is reached: by MQTT, and by WebSocket behind the proxy that brings TLS, or without one."""
    at, settings = urlsplit(base), config()
    yield f"mqtt://{at.hostname}:{settings.mqtt_port}"
    if settings.mqtt_websocket_port:
        secure = at.scheme == "https"
        yield (
            f"wss://{at.netloc}/mqtt" if secure else f"ws://{at.hostname}:{settings.mqtt_websocket_port}/mqtt"
        )


@cache
def business_logic() -> bytes:
    """What the service does with requests that write, in English (22-022r1, class "business-logic")."""
    return (Path(__file__).parent / "business-logic.md").read_bytes()
