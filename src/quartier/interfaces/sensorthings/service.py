"""The service document: which sets there are, and what of the standards is spoken (18-088 section 9.2.1)."""

from __future__ import annotations

from typing import Any, Final

from quartier.interfaces.sensorthings.model import ENTITIES

_SENSING: Final = "http://www.opengis.net/spec/iot_sensing/1.1/req/"
_STAPLUS: Final = "http://www.opengis.net/spec/sensorthings-staplus/1.0/conf/"
_TASKING: Final = "http://www.opengis.net/spec/iot_tasking/1.0/req/"

# Requirements that reading fulfils; other parts of the interface add theirs.
READING: Final = tuple(
    _SENSING + name
    for name in (
        "datamodel",
        "resource-path/resource-path-to-entities",
        "request-data",
        "multi-datastream",
        "data-array/data-array",
    )
)

# Requirements that writing fulfils.
WRITING: Final = tuple(
    _SENSING + name
    for name in (
        "create-update-delete",
        "create-update-delete/update-entity-put",
        "create-update-delete/update-entity-jsonpatch",
        "create-update-delete/historical-location-auto-creation",
        "batch-request",
        "batch-request/batch-request",
        "data-array/create-observations",
    )
)


def document(base: str, further: tuple[str, ...] = ()) -> dict[str, Any]:
    """The answer to the root of a service at ``base``; ``further`` requirements beside those of reading."""
    return {
        "value": [{"name": one.set, "url": f"{base}/{one.set}"} for one in ENTITIES],
        "serverSettings": {"conformance": [*READING, *WRITING, *further], "functions": {}},
    }
