"""Dortmund's car parks: their list, and free spaces recorded on change from 2020 to 2022.

The occupancy names a place as the list does, but in ASCII and with hyphens: "HDI/Südbad" is "HDI-Sudbad".

Capacities of the list that the readings contradict are replaced by the largest number of free spaces in
three years: Friedensplatz (listed 2580, never more than 448 free), Kaufhof (419; never more than 120),
Kuckelke (315; up to 362) and Commerzbank (140; always 320). Three more counters stood still and prove
nothing, so that the list counts: Dietr.-Keuning-Haus (always 62), HDI/Südbad (190) and Westentor (0).
Cinestar and Klinikum DO have no readings.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Set
from datetime import UTC, datetime
from pathlib import Path

from quartier.cli.importers.table import ImportedReading, ImportedThing, OnError, RowError, read_table

CORRECTED_CAPACITIES = {
    "friedensplatz": 448,
    "kaufhof": 120,
    "kuckelke": 362,
    "commerzbank": 320,
}


def place_key(name: str) -> str:
    """The key of a car park from its name in either file."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name.lower()).strip("-")


def car_parks(path: Path, on_error: OnError) -> Iterator[ImportedThing]:
    """The car parks of ``garages.csv`` with corrected capacity and, where it differs, the listed one."""
    columns = ("name", "longitude", "latitude", "capacity", "address", "kind")
    for row in read_table(path, columns, on_error):
        try:
            name = row.text("name")
            key = place_key(name)
            if not key:
                raise row.error("name", f"{name!r} has no letters")
            listed = row.number("capacity")
            if listed < 0 or listed != int(listed):
                raise row.error("capacity", f"{listed:g} is not a number of spaces")
            properties: dict[str, int | str] = {
                "capacity": CORRECTED_CAPACITIES.get(key, int(listed)),
                "building": row.text("kind", required=False),
            }
            if properties["capacity"] != listed:
                properties["listed_capacity"] = int(listed)
            street, _, number = row.text("address", required=False).rpartition(" ")
            has_number = number[:1].isdigit()
            thing = ImportedThing(
                key=key,
                name=name,
                kind="car_park",
                longitude=row.number("longitude"),
                latitude=row.number("latitude"),
                street=street if has_number else row.text("address", required=False),
                house_number=number if has_number else "",
                properties=properties,
            )
        except RowError as error:
            on_error(error)
            continue
        yield thing


def occupancy(path: Path, known: Set[str], on_error: OnError) -> Iterator[ImportedReading]:
    """The free spaces of ``occupancy-2020-2022.csv.gz``; ``known`` are the keys of the car parks."""
    keys: dict[str, str] = {}
    last_text, last_time = "", datetime.min.replace(tzinfo=UTC)
    for row in read_table(path, ("ts", "place", "free"), on_error):
        try:
            place = row.text("place")
            key = keys.get(place)
            if key is None:
                key = place_key(place)
                if key not in known:
                    raise row.error("place", f"{place!r} is not in the list of car parks")
                keys[place] = key
            # All car parks are polled at once, so most rows repeat the time of the row before.
            text = row.text("ts")
            if text != last_text:
                last_time = row.time("ts")
                last_text = text
            free = row.number("free")
            if free < 0 or free != int(free):
                raise row.error("free", f"{free:g} is not a number of spaces")
        except RowError as error:
            on_error(error)
            continue
        yield ImportedReading(key, "free_spaces", "1", last_time, free)
