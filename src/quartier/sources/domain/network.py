"""Devices in bulk from the list that a network server keeps anyway."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from django.utils.translation import gettext

from quartier.cities.rules import Actor
from quartier.sources.connect.device_lists import LISTS, Listed
from quartier.sources.connect.http import ServerError
from quartier.sources.connect.report import SourceConfig, redact
from quartier.sources.domain.devices import ImportReport, Row, RowError, import_rows
from quartier.sources.models import Source
from quartier.twin.models import DeviceType, ThingKind

_TIME_LIMIT_S = 60


class NetworkError(Exception):
    """The device list cannot be had; the message says why and holds no credentials."""


def config_of(source: Source) -> SourceConfig:
    """A source as connectors see it."""
    return SourceConfig(
        source.pk,
        source.municipality.slug,
        source.key,
        source.kind,
        source.settings,
        source.credentials,
    )


def import_devices_from_network(
    actor: Actor,
    source: Source,
    device_type: DeviceType | None = None,
    *,
    dry_run: bool = False,
    default_kind: str = ThingKind.STATION,
) -> ImportReport:
    """Create and change devices (and places) from the network server's own list.

    What cannot be used of the list is reported ("line" is the number in the list), the rest is written. A device gets
    ``device_type``, or without it the one whose vendor and model the list names. Needs ``devices:write``. Raises
    NetworkError, NotAllowed.
    """
    actor.require("devices:write", source.municipality_id)
    ask = LISTS.get(source.kind)
    if ask is None:
        raise NetworkError(gettext("Diese Art von Quelle kennt keine Geräteliste."))
    config = config_of(source)
    try:
        listed = asyncio.run(asyncio.wait_for(ask(config), _TIME_LIMIT_S))
    except ServerError as error:
        raise NetworkError(redact(str(error), config.credentials.values())) from None
    except TimeoutError:
        raise NetworkError(gettext("Der Netzserver hat nicht in %d s geantwortet.") % _TIME_LIMIT_S) from None
    types = list(DeviceType.objects.all())
    rows: list[Row] = []
    for number, one in enumerate(listed.devices, 1):
        columns = dict(one.columns)
        if device_type is None and (found := guess_type(one, types)) is not None:
            columns["device_type"] = found.key
        # A device without a position is registered all the same; somebody places it later.
        if "lon" not in columns:
            for name in ("thing_name", "street", "house_number", "postcode"):
                columns.pop(name, None)
        rows.append(
            Row(
                number,
                {
                    name: text[:120] if name != "description" else text[:2000]
                    for name, text in columns.items()
                },
            )
        )
    return import_rows(
        actor,
        source,
        rows,
        default_type=device_type,
        default_kind=default_kind,
        origin="network",
        dry_run=dry_run,
        errors=[RowError(0, "", problem) for problem in listed.problems],
        partial=True,
    )


def guess_type(listed: Listed, types: Sequence[DeviceType]) -> DeviceType | None:
    """The one device type whose vendor and model the list names; None where none or several fit."""
    vendor, model = _plain(listed.vendor), _plain(listed.model)
    if not model:
        return None
    fitting = [
        one
        for one in types
        if model in _plain(one.model) and (not vendor or not one.vendor or vendor == _plain(one.vendor))
    ]
    return fitting[0] if len(fitting) == 1 else None


def _plain(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())
