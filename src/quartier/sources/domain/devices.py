"""Registering many devices at once, with their places: the part that CSV files and network servers share.

All rows are checked before anything is written; one wrong row of a file stops the import, because half an import is
harder to repair than none.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext
from shapely.geometry import Point, shape
from shapely.geometry.base import BaseGeometry

from quartier.cities import audit
from quartier.cities.models import District, Municipality
from quartier.cities.rules import Actor
from quartier.config import config
from quartier.intake import signals
from quartier.sources.models import Source
from quartier.sources.values import utc
from quartier.twin.models import Deployment, Device, DeviceType, Thing, ThingKind

MAXIMUM_ROWS: Final = 20_000
# A city's things may stand a little beyond its border, in a reservoir or at a waterworks, but not in another country.
_BEYOND_BORDER_DEG = 0.3
# Columns that are kept at the thing as they are, with the longest text that fits.
_THING_TEXTS: Final = {"street": 120, "house_number": 12, "postcode": 10, "surface": 40, "description": 2000}
_UMLAUTS: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "Ä": "ae", "Ö": "oe", "Ü": "ue"})


@dataclass(frozen=True, slots=True)
class RowError:
    """What is wrong with a row: ``line`` of the file (the header is line 1), name of the column, and a sentence."""

    line: int
    column: str
    message: str


@dataclass(slots=True)
class ImportReport:
    """What an import did, or (``dry_run``) would do. With errors nothing was written, unless it is ``partial``."""

    rows: int = 0
    devices_created: int = 0
    devices_changed: int = 0
    devices_unchanged: int = 0
    devices_moved: int = 0
    things_created: int = 0
    things_changed: int = 0
    errors: list[RowError] = field(default_factory=list)
    dry_run: bool = False
    # Whether good rows are written beside bad ones.
    partial: bool = False
    # The first rows as they were understood, for a preview.
    preview: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every row can be used."""
        return not self.errors


@dataclass(slots=True)
class Row:
    """One device as a file or a network server tells of it; texts as they came."""

    line: int
    values: Mapping[str, str]


@dataclass(slots=True)
class _Planned:
    line: int
    external_id: str
    name: str
    device_type: DeviceType | None
    expected_interval_s: int | None
    thing: dict[str, Any] | None
    height_above_ground_m: float | None
    since: datetime


class Districts:
    """Finds the district of a point; the polygons are prepared once for many points."""

    def __init__(self, municipality: Municipality) -> None:
        self._shapes: list[tuple[District, BaseGeometry]] = [
            (district, shape(district.polygon)) for district in municipality.districts.all()
        ]

    def at(self, lon: float | None, lat: float | None) -> District | None:
        """The district whose polygon holds the point."""
        if lon is None or lat is None:
            return None
        point = Point(lon, lat)
        return next((district for district, area in self._shapes if area.covers(point)), None)


def slug_of(text: str) -> str:
    """A key made from a name: ``Möllerbrücke 3`` becomes ``moellerbruecke-3``."""
    return slugify(text.translate(_UMLAUTS))[:80]


def near(municipality: Municipality, lon: float, lat: float) -> bool:
    """Whether a point can belong to the municipality; finds swapped and mistyped coordinates."""
    return (
        municipality.west - _BEYOND_BORDER_DEG <= lon <= municipality.east + _BEYOND_BORDER_DEG
        and municipality.south - _BEYOND_BORDER_DEG <= lat <= municipality.north + _BEYOND_BORDER_DEG
    )


class _Reader:
    """Turns the texts of rows into values and collects what is wrong."""

    def __init__(
        self, municipality: Municipality, report: ImportReport, default_type: DeviceType | None
    ) -> None:
        self._municipality = municipality
        self._report = report
        self._default_type = default_type
        self._types = {one.key: one for one in DeviceType.objects.all()}
        self._seen: dict[str, int] = {}
        # Far enough back that raw messages which are still kept find the device in its place.
        self._since = timezone.now() - timedelta(days=config().inbox_days)

    def read(self, row: Row) -> _Planned | None:
        """The row as a plan, or None if something is wrong with it."""
        before = len(self._report.errors)
        planned = self._plan(row)
        return planned if len(self._report.errors) == before else None

    def _wrong(self, row: Row, column: str, message: str) -> None:
        self._report.errors.append(RowError(row.line, column, message))

    def _plan(self, row: Row) -> _Planned:
        external_id = self._text(row, "external_id", 120).lower()
        if not external_id:
            self._wrong(row, "external_id", gettext("fehlt"))
        elif external_id in self._seen:
            self._wrong(row, "external_id", gettext("steht schon in Zeile %d") % self._seen[external_id])
        else:
            self._seen[external_id] = row.line
        name = self._text(row, "name", 200) or external_id.upper()
        return _Planned(
            line=row.line,
            external_id=external_id,
            name=name,
            device_type=self._device_type(row),
            expected_interval_s=self._integer(row, "expected_interval_s", 1, 31_536_000),
            thing=self._thing(row, name),
            height_above_ground_m=self._number(row, "height_above_ground_m", -100, 1000),
            since=self._time(row, "since") or self._since,
        )

    def _thing(self, row: Row, name: str) -> dict[str, Any] | None:
        lon, lat = self._number(row, "lon", -180, 180), self._number(row, "lat", -90, 90)
        for one, other, column in ((lon, lat, "lat"), (lat, lon, "lon")):
            if one is not None and other is None and not row.values.get(column):
                self._wrong(row, column, gettext("fehlt; lon und lat gehören zusammen"))
        if lon is not None and lat is not None and not near(self._municipality, lon, lat):
            self._wrong(
                row,
                "lon",
                gettext("%(lon)g, %(lat)g liegt nicht bei %(place)s; sind lon und lat vertauscht?")
                % {"lon": lon, "lat": lat, "place": self._municipality.name},
            )
        key = self._text(row, "thing_key", 80)
        if key and not re.fullmatch(r"[-a-zA-Z0-9_]+", key):
            self._wrong(row, "thing_key", gettext("nur Buchstaben, Ziffern, Bindestrich und Unterstrich"))
        thing_name = self._text(row, "thing_name", 200)
        kind = self._text(row, "kind", 40)
        if kind and kind not in ThingKind.values:
            self._wrong(row, "kind", gettext("muss eines sein von: %s") % ", ".join(ThingKind.values))
        if not key and lon is None and not thing_name:
            return None
        found: dict[str, Any] = {"key": key or slug_of(thing_name or name)}
        if not found["key"]:
            self._wrong(row, "thing_key", gettext("fehlt"))
        if thing_name:
            found["name"] = thing_name
        if kind:
            found["kind"] = kind
        if lon is not None and lat is not None:
            found |= {"lon": lon, "lat": lat}
        altitude_m = self._number(row, "altitude_m", -500, 9000)
        if altitude_m is not None:
            found["altitude_m"] = altitude_m
        for column, limit in _THING_TEXTS.items():
            text = self._text(row, column, limit)
            if text:
                found[column] = text
        public = self._text(row, "public", 10).lower()
        if public in ("ja", "yes", "true", "1", "nein", "no", "false", "0"):
            found["public"] = public in ("ja", "yes", "true", "1")
        elif public:
            self._wrong(row, "public", gettext("muss ja oder nein sein"))
        return found

    def _device_type(self, row: Row) -> DeviceType | None:
        key = self._text(row, "device_type", 80)
        if not key:
            return self._default_type
        found = self._types.get(key)
        if found is None:
            close = difflib.get_close_matches(key, self._types, n=3)
            hint = gettext("meinten Sie %s?") % ", ".join(close) if close else ""
            self._wrong(row, "device_type", f"{gettext('ist unbekannt')} {hint}".strip())
        return found

    def _text(self, row: Row, column: str, limit: int) -> str:
        text = (row.values.get(column) or "").strip()
        if len(text) > limit or "\x00" in text:
            self._wrong(row, column, gettext("ist länger als %d Zeichen") % limit)
            return ""
        return text

    def _number(self, row: Row, column: str, low: float, high: float) -> float | None:
        text = self._text(row, column, 40)
        if not text:
            return None
        try:
            # A German spreadsheet writes 7,51.
            number = float(text.replace(",", "."))
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            self._wrong(
                row,
                column,
                gettext("muss eine Zahl zwischen %(low)g und %(high)g sein") % {"low": low, "high": high},
            )
            return None
        return number

    def _integer(self, row: Row, column: str, low: int, high: int) -> int | None:
        number = self._number(row, column, low, high)
        if number is not None and not number.is_integer():
            self._wrong(row, column, gettext("muss eine ganze Zahl sein"))
            return None
        return None if number is None else int(number)

    def _time(self, row: Row, column: str) -> datetime | None:
        text = self._text(row, column, 40)
        if not text:
            return None
        try:
            return utc(datetime.fromisoformat(text))
        except ValueError:
            self._wrong(row, column, gettext("muss ein Datum sein, etwa 2024-05-01"))
            return None


def import_rows(
    actor: Actor,
    source: Source,
    rows: Iterable[Row],
    *,
    default_type: DeviceType | None,
    default_kind: str,
    origin: str,
    dry_run: bool,
    errors: Iterable[RowError] = (),
    partial: bool = False,
) -> ImportReport:
    """Check all rows and, if all are good and it is no dry run, write them. Needs ``devices:write``.

    ``partial`` writes the good rows beside bad ones: for lists that nobody here can correct.
    """
    actor.require("devices:write", source.municipality_id)
    report = ImportReport(dry_run=dry_run, partial=partial, errors=list(errors))
    reader = _Reader(source.municipality, report, default_type)
    planned: list[_Planned] = []
    for row in rows:
        report.rows += 1
        one = reader.read(row)
        if one is not None:
            planned.append(one)
    if report.rows > MAXIMUM_ROWS:
        report.errors.append(RowError(0, "", gettext("höchstens %d Geräte in einem Mal") % MAXIMUM_ROWS))
    report.errors.sort(key=lambda error: error.line)
    report.preview = [
        {
            "line": one.line,
            "external_id": one.external_id,
            "name": one.name,
            "device_type": one.device_type.key if one.device_type else "",
            "thing": one.thing or {},
        }
        for one in planned[:50]
    ]
    if report.errors and not (partial and planned and report.rows <= MAXIMUM_ROWS):
        return report
    with transaction.atomic():
        _write(source, planned, default_kind, report)
        if dry_run:
            transaction.set_rollback(True)
            return report
        audit.log(
            actor,
            "devices.import",
            source.key,
            municipality_id=source.municipality_id,
            origin=origin,
            rows=report.rows,
            devices_created=report.devices_created,
            devices_changed=report.devices_changed,
            things_created=report.things_created,
        )
        # Rows that are written in bulk send no signal of their own.
        signals.notify()
    return report


def _write(source: Source, planned: list[_Planned], default_kind: str, report: ImportReport) -> None:
    things = _write_things(source.municipality, planned, default_kind, report)
    devices = {
        device.external_id: device
        for device in Device.objects.filter(
            municipality_id=source.municipality_id,
            source_key=source.key,
            external_id__in=[one.external_id for one in planned],
        )
    }
    new: list[Device] = []
    for one in planned:
        device = devices.get(one.external_id)
        if device is None:
            device = Device(
                municipality_id=source.municipality_id,
                source_key=source.key,
                external_id=one.external_id,
                name=one.name,
                device_type=one.device_type,
                expected_interval_s=one.expected_interval_s,
            )
            devices[one.external_id] = device
            new.append(device)
            continue
        wanted = {
            "name": one.name,
            "device_type_id": one.device_type.pk if one.device_type else device.device_type_id,
            "expected_interval_s": one.expected_interval_s or device.expected_interval_s,
        }
        if _assign(device, wanted):
            device.save(update_fields=["name", "device_type", "expected_interval_s"])
            report.devices_changed += 1
        else:
            report.devices_unchanged += 1
    Device.objects.bulk_create(new, batch_size=1000)
    report.devices_created = len(new)
    _deploy(planned, devices, things, report)


def _assign(row: Any, wanted: Mapping[str, Any]) -> bool:
    changed = False
    for name, value in wanted.items():
        if getattr(row, name) != value:
            setattr(row, name, value)
            changed = True
    return changed


def _write_things(
    municipality: Municipality, planned: list[_Planned], default_kind: str, report: ImportReport
) -> dict[str, Thing]:
    wanted: dict[str, dict[str, Any]] = {}
    names: dict[str, str] = {}
    for one in planned:
        if one.thing is not None:
            # Several devices may stand at one thing; what a later row leaves empty does not erase.
            wanted[one.thing["key"]] = {**wanted.get(one.thing["key"], {}), **one.thing}
            names.setdefault(one.thing["key"], one.name)
    districts = Districts(municipality)
    things = {thing.key: thing for thing in municipality.things.filter(key__in=wanted)}
    new: list[Thing] = []
    for key, values in wanted.items():
        thing = things.get(key)
        if thing is None:
            thing = Thing(
                **{
                    "municipality": municipality,
                    "name": names[key],
                    "kind": default_kind,
                    "district": districts.at(values.get("lon"), values.get("lat")),
                    **values,
                }
            )
            things[key] = thing
            new.append(thing)
        elif _assign(thing, values):
            thing.district = districts.at(thing.lon, thing.lat)
            thing.save()
            report.things_changed += 1
    Thing.objects.bulk_create(new, batch_size=1000)
    report.things_created = len(new)
    return things


def _deploy(
    planned: list[_Planned], devices: Mapping[str, Device], things: Mapping[str, Thing], report: ImportReport
) -> None:
    current = {
        deployment.device_id: deployment
        for deployment in Deployment.objects.filter(
            device_id__in=[device.pk for device in devices.values()], until__isnull=True
        )
    }
    new: list[Deployment] = []
    for one in planned:
        if one.thing is None:
            continue
        device, thing = devices[one.external_id], things[one.thing["key"]]
        there = current.get(device.pk)
        since = one.since
        if there is not None and there.thing_id == thing.pk:
            if one.height_above_ground_m is not None and _assign(
                there, {"height_above_ground_m": one.height_above_ground_m}
            ):
                there.save(update_fields=["height_above_ground_m"])
            continue
        if there is not None:
            # It was moved; when, the file need not say. Before its last place it cannot have been.
            since = max(since, there.since + timedelta(seconds=1)) if since > there.since else timezone.now()
            there.until = since
            there.save(update_fields=["until"])
            report.devices_moved += 1
        new.append(
            Deployment(
                device=device, thing=thing, since=since, height_above_ground_m=one.height_above_ground_m
            )
        )
    Deployment.objects.bulk_create(new, batch_size=1000)
