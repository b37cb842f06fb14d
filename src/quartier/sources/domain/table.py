"""Devices in bulk from a CSV file, as a spreadsheet writes it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Final

from django.utils.translation import gettext

from quartier.cities.rules import Actor
from quartier.sources.domain.devices import ImportReport, Row, RowError, import_rows
from quartier.sources.models import Source
from quartier.twin.models import ThingKind

COLUMNS: Final = (
    "external_id",
    "name",
    "device_type",
    "expected_interval_s",
    "thing_key",
    "thing_name",
    "kind",
    "lon",
    "lat",
    "altitude_m",
    "height_above_ground_m",
    "surface",
    "street",
    "house_number",
    "postcode",
    "description",
    "public",
    "since",
)
MAXIMUM_CHARACTERS: Final = 5_000_000


def import_devices_csv(
    actor: Actor,
    source: Source,
    text: str,
    *,
    dry_run: bool = False,
    default_kind: str = ThingKind.STATION,
) -> ImportReport:
    """Create and change the devices (and their places) that the lines of ``text`` describe.

    The first line names the columns (COLUMNS; only ``external_id`` is required), separated by comma, semicolon or tab.
    All lines are written or none: with any error nothing changes and the report says line and column. Needs
    ``devices:write``.
    """
    actor.require("devices:write", source.municipality_id)
    if len(text) > MAXIMUM_CHARACTERS:
        return _refused(dry_run, 0, "", gettext("die Datei ist zu groß"))
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or not lines[0].strip():
        return _refused(dry_run, 1, "", gettext("die Datei ist leer"))
    separator = max(",;\t", key=lines[0].count)
    errors: list[RowError] = []
    try:
        table = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=separator))
    except csv.Error as error:
        return _refused(dry_run, 1, "", str(error))
    header = [name.strip().lower() for name in table[0]]
    for name in header:
        if name not in COLUMNS:
            errors.append(RowError(1, name, gettext("ist unbekannt; bekannt sind: %s") % ", ".join(COLUMNS)))
    for name in {one for one in header if header.count(one) > 1}:
        errors.append(RowError(1, name, gettext("steht zweimal in der ersten Zeile")))
    if "external_id" not in header:
        errors.append(RowError(1, "external_id", gettext("fehlt")))
    if errors:
        return ImportReport(errors=errors, dry_run=dry_run)

    def rows() -> Iterator[Row]:
        for number, cells in enumerate(table[1:], 2):
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(header):
                errors.append(
                    RowError(
                        number,
                        "",
                        gettext("hat %(found)d Spalten statt %(wanted)d")
                        % {"found": len(cells), "wanted": len(header)},
                    )
                )
                continue
            yield Row(number, dict(zip(header, cells, strict=False)))

    # The rows are read before the errors are looked at.
    known = list(rows())
    return import_rows(
        actor,
        source,
        known,
        default_type=None,
        default_kind=default_kind,
        origin="csv",
        dry_run=dry_run,
        errors=errors,
    )


def _refused(dry_run: bool, line: int, column: str, message: str) -> ImportReport:
    return ImportReport(errors=[RowError(line, column, message)], dry_run=dry_run)
