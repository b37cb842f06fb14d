"""Devices in bulk: out of files of our own form or of other network servers, and into them (without keys)."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from django.db import transaction
from django.utils.translation import gettext

from quartier.cities import audit
from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.intake import signals
from quartier.lorawan.domain.changes import notify
from quartier.lorawan.domain.devices import DeviceSettings, register_device, save_device
from quartier.lorawan.domain.errors import LoraError, hexadecimal
from quartier.lorawan.domain.formats import COLUMNS, KEYS, Row, read
from quartier.lorawan.models import DeviceProfile, LoraDevice
from quartier.twin.models import DeviceType, Thing

MAXIMUM_ROWS: Final = 20_000
_TOLD_ERRORS: Final = 200
_WORDS: Final = {
    "yes": True,
    "ja": True,
    "true": True,
    "1": True,
    "no": False,
    "nein": False,
    "false": False,
    "0": False,
}
_EXPORTED: Final = tuple(name for name in COLUMNS if name not in KEYS and name not in ("qr", "thing"))


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with a row: line of the file (or number of the object), column, and a sentence."""

    line: int
    column: str
    message: str


@dataclass(slots=True)
class ImportReport:
    """What an import did, or (``dry_run``) would do. With errors nothing was written."""

    rows: int = 0
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    errors: list[RowError] = field(default_factory=list)
    dry_run: bool = False


class _Undo(Exception):
    """Rolls back what a dry run, or a file with errors, has written."""


def import_devices(
    actor: Actor,
    municipality: Municipality,
    text: str,
    *,
    default_profile: DeviceProfile | None = None,
    dry_run: bool = False,
) -> ImportReport:
    """Register the devices of a file: all of them, or none where one is wrong.

    Devices that are there already are changed, except for their keys, which are replaced one by one. Rows without
    ``profile`` get ``default_profile``, or the one profile for all cities that has the row's LoRaWAN version. Needs
    ``devices:write``.
    """
    actor.require("devices:write", municipality.pk)
    report = ImportReport(dry_run=dry_run)
    importer = _Importer(actor, municipality, default_profile, report)
    try:
        with transaction.atomic():
            for row in read(text):
                report.rows += 1
                if report.rows > MAXIMUM_ROWS:
                    raise LoraError("file", gettext("höchstens %d Geräte in einem Mal") % MAXIMUM_ROWS)
                importer.take(row)
                if len(report.errors) >= _TOLD_ERRORS:
                    break
            if report.errors or dry_run:
                raise _Undo
            audit.log(
                actor,
                "lorawan.devices.import",
                municipality.slug,
                municipality_id=municipality.pk,
                rows=report.rows,
                created=report.created,
                changed=report.changed,
            )
            signals.notify()
            notify()
    except LoraError as error:
        report.errors.append(RowError(0, error.field, error.message))
    except _Undo:
        pass
    return report


class _Importer:
    """Takes the rows of one file."""

    def __init__(
        self, actor: Actor, municipality: Municipality, default: DeviceProfile | None, report: ImportReport
    ) -> None:
        self._actor = actor
        self._municipality = municipality
        self._default = default
        self._report = report
        self._profiles = {
            one.key: one
            for one in DeviceProfile.objects.all()
            if one.municipality_id in (None, municipality.pk)
        }
        self._types = {one.key: one for one in DeviceType.objects.all()}
        self._things: dict[str, Thing] | None = None
        self._seen: dict[str, int] = {}

    def take(self, row: Row) -> None:
        """Write one row, or note what is wrong with it."""
        try:
            if row.problem is not None:
                raise row.problem
            # A row that fails must not end the transaction of the others: all errors are told at once.
            with transaction.atomic():
                self._write(row)
        except LoraError as error:
            self._report.errors.append(RowError(row.line, error.field, error.message))

    def _write(self, row: Row) -> None:
        values = row.values
        eui = hexadecimal("dev_eui", values.get("dev_eui", ""), 8).hex()
        if eui in self._seen:
            raise LoraError("dev_eui", gettext("steht schon in Zeile %d") % self._seen[eui])
        self._seen[eui] = row.line
        there = (
            LoraDevice.objects.select_related("profile", "device", "municipality").filter(dev_eui=eui).first()
        )
        if there is not None:
            self._change(there, row)
            return
        settings = DeviceSettings(
            dev_eui=eui,
            name=values.get("name") or eui,
            profile=self._profile(row),
            activation=values.get("activation", "otaa").lower(),
            join_eui=values.get("join_eui", ""),
            keys={name: values[name] for name in KEYS if values.get(name)},
            device_type=self._device_type(values),
            description=values.get("description", ""),
            tags=row.tags,
            firmware=values.get("firmware", ""),
            expected_interval_s=_whole(values, "expected_interval_s"),
            counter_reset=_yes(values, "counter_reset", default=False),
            may_roam=_yes(values, "may_roam", default=True),
            active=_yes(values, "active", default=True),
            counters=row.counters,
            used_nonces=row.used_nonces,
            join_nonce=row.join_nonce,
        )
        register_device(self._actor, self._municipality, settings, thing=self._thing(values), log=False)
        self._report.created += 1

    def _change(self, lora: LoraDevice, row: Row) -> None:
        if lora.municipality_id != self._municipality.pk:
            raise LoraError("dev_eui", gettext("ist in einer anderen Stadt angemeldet"))
        values = row.values
        if any(values.get(name) for name in KEYS):
            raise LoraError("dev_eui", gettext("ist schon angemeldet; Schlüssel werden einzeln ersetzt"))
        wanted: dict[str, Any] = {
            name: values[name] for name in ("name", "description", "firmware") if name in values
        }
        if row.tags:
            wanted["tags"] = row.tags
        if "profile" in values:
            wanted["profile"] = self._profile(row)
        if "device_type" in values:
            wanted["device_type"] = self._device_type(values)
        for name in ("counter_reset", "may_roam"):
            if name in values:
                wanted[name] = _yes(values, name, default=False)
        before = lora.updated_at
        save_device(self._actor, lora, **wanted)
        if lora.updated_at != before:
            self._report.changed += 1
        else:
            self._report.unchanged += 1

    def _profile(self, row: Row) -> DeviceProfile:
        key = row.values.get("profile", "")
        if key:
            found = self._profiles.get(key)
            if found is None:
                raise LoraError("profile", gettext("ist unbekannt"))
            return found
        if self._default is not None:
            return self._default
        fitting = [one for one in self._profiles.values() if one.mac_version == row.mac_version]
        if len(fitting) != 1:
            raise LoraError("profile", gettext("fehlt"))
        return fitting[0]

    def _device_type(self, values: Mapping[str, str]) -> DeviceType | None:
        key = values.get("device_type", "")
        if key and key not in self._types:
            raise LoraError("device_type", gettext("ist unbekannt"))
        return self._types.get(key)

    def _thing(self, values: Mapping[str, str]) -> Thing | None:
        key = values.get("thing", "")
        if not key:
            return None
        if self._things is None:
            self._things = {one.key: one for one in self._municipality.things.all()}
        if key not in self._things:
            raise LoraError("thing", gettext("ist unbekannt"))
        return self._things[key]


def _yes(values: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = values.get(name, "").lower()
    if not text:
        return default
    if text not in _WORDS:
        raise LoraError(name, gettext("muss ja oder nein sein"))
    return _WORDS[text]


def _whole(values: Mapping[str, str], name: str) -> int | None:
    text = values.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text[:10]) <= 31_536_000:
        raise LoraError(
            name, gettext("muss zwischen %(low)g und %(high)g liegen") % {"low": 1, "high": 31_536_000}
        )
    return int(text)


def export_devices(actor: Actor, municipality: Municipality, *, form: str = "csv") -> str:
    """The city's devices as ``csv`` or ``json``, in the columns that the import reads; never with keys.

    Needs ``devices:write``.
    """
    actor.require("devices:write", municipality.pk)
    devices = municipality.lora_devices.select_related("profile", "device__device_type").order_by("dev_eui")
    rows = [
        {
            "dev_eui": one.dev_eui,
            "join_eui": one.join_eui,
            "name": one.name,
            "profile": one.profile.key,
            "activation": one.activation,
            "device_type": one.device.device_type.key if one.device.device_type else "",
            "description": one.description,
            "tags": one.tags,
            "firmware": one.firmware,
            "expected_interval_s": one.device.expected_interval_s,
            "counter_reset": one.counter_reset,
            "may_roam": one.may_roam,
            "active": one.active,
        }
        for one in devices.iterator(chunk_size=2000)
    ]
    audit.log(
        actor, "lorawan.devices.export", municipality.slug, municipality_id=municipality.pk, rows=len(rows)
    )
    if form == "json":
        return msgspec.json.format(msgspec.json.encode(rows), indent=1).decode()
    text = io.StringIO()
    writer = csv.DictWriter(text, _EXPORTED, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        tags = " ".join(f"{key}={value}".replace(" ", "_") for key, value in row["tags"].items())
        cells = {name: _cell(value) for name, value in row.items()}
        writer.writerow({**cells, "tags": tags})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else value
