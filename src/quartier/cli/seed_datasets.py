"""Descriptions of the data sets that Quartier knows by kind of thing, for people who reuse them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from quartier.cities.models import Municipality

ZERO: Final = "Datenlizenz Deutschland – Zero – Version 2.0"
LICENCES: Final = {
    ZERO: "https://www.govdata.de/dl-de/zero-2-0",
    "Datenlizenz Deutschland – Namensnennung – Version 2.0": "https://www.govdata.de/dl-de/by-2-0",
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "MIT": "https://spdx.org/licenses/MIT.html",
}


@dataclass(frozen=True, slots=True)
class Description:
    """A data set in both languages; ``{city}`` is replaced."""

    slug: str
    title_de: str
    title_en: str
    description_de: str
    description_en: str
    update_interval_s: int | None


DESCRIPTIONS: Final = {
    "station": Description(
        "klima",
        "Klimamessnetz {city}",
        "Climate network {city}",
        "Lufttemperatur, Feuchte und Luftdruck, an einigen Orten auch Wind, Regen, Sonnenstrahlung und "
        "Globetemperatur, dazu daraus berechnete Maße der Wärmebelastung.",
        "Air temperature, humidity and pressure, in some places wind, rain, solar radiation and globe temperature as "
        "well, and measures of heat stress computed from them.",
        300,
    ),
    "level_gauge": Description(
        "pegel",
        "Wasserstände kleiner Gewässer {city}",
        "Water levels of small streams {city}",
        "Wasserstände an Bächen, die bei Starkregen schnell steigen.",
        "Levels of streams that rise quickly in heavy rain.",
        900,
    ),
    "car_park": Description(
        "parkhaeuser",
        "Freie Plätze in Parkhäusern {city}",
        "Free spaces in car parks {city}",
        "Wie viele Plätze in Parkhäusern und Tiefgaragen frei sind.",
        "How many spaces are free in multi-storey and underground car parks.",
        300,
    ),
    "parking_space": Description(
        "stellplaetze",
        "Stellplätze am Straßenrand {city}",
        "On-street parking spaces {city}",
        "Ob einzelne Stellplätze belegt sind. Erkannt wird ein Fahrzeug, nicht wem es gehört.",
        "Whether single spaces are occupied. A vehicle is detected, not whose it is.",
        None,
    ),
    "waste_container": Description(
        "container",
        "Füllstände der Wertstoffcontainer {city}",
        "Fill levels of recycling containers {city}",
        "Wie voll die Container für Glas, Papier und Kleidung sind.",
        "How full the containers for glass, paper and clothes are.",
        3600,
    ),
    "tree": Description(
        "bodenfeuchte",
        "Bodenfeuchte an Stadtbäumen {city}",
        "Soil moisture at street trees {city}",
        "Feuchte und Temperatur des Bodens an den Wurzeln von Stadtbäumen.",
        "Moisture and temperature of the soil at the roots of street trees.",
        3600,
    ),
    "street_lamp": Description(
        "strassenbeleuchtung",
        "Straßenbeleuchtung {city}",
        "Street lighting {city}",
        "Helligkeit und Leistung von Straßenleuchten, und ob eine ausgefallen ist.",
        "Brightness and power of street lamps, and whether one has failed.",
        900,
    ),
    "counter": Description(
        "zaehlstellen",
        "Zählstellen für Fuß- und Radverkehr {city}",
        "Counters of pedestrians and bicycles {city}",
        "Wie viele Menschen zu Fuß und mit dem Rad vorbeikommen. Gezählt wird, niemand wird erkannt.",
        "How many people pass on foot and by bicycle. They are counted, nobody is recognised.",
        900,
    ),
    "citizen_sensor": Description(
        "buergersensoren",
        "Sensoren von Bürgerinnen und Bürgern {city}",
        "Citizens' sensors {city}",
        "Messwerte, die Menschen mit eigenen Geräten erheben und teilen. Geräte und Aufstellung sind verschieden gut.",
        "Readings that people take with devices of their own and share. Devices and places differ in quality.",
        None,
    ),
}


def describe(
    municipality: Municipality,
    kind: str,
    *,
    licence: str = ZERO,
    attribution: str = "",
    simulated: bool = False,
) -> bool:
    """Describe the data set of the things of ``kind``, unless there is one; returns whether it is new."""
    from quartier.usage.models import Dataset  # noqa: PLC0415 (needs Django set up)

    if Dataset.objects.filter(municipality=municipality, thing_kinds__contains=[kind]).exists():
        return False
    found = DESCRIPTIONS[kind]
    Dataset.objects.create(
        municipality=municipality,
        slug=found.slug,
        title_de=found.title_de.format(city=municipality.name),
        title_en=found.title_en.format(city=municipality.name),
        description_de=found.description_de + (" Alle Werte sind simuliert." if simulated else ""),
        description_en=found.description_en + (" All values are simulated." if simulated else ""),
        thing_kinds=[kind],
        licence=licence,
        licence_url=LICENCES.get(licence, ""),
        attribution=attribution or municipality.name,
        update_interval_s=found.update_interval_s,
    )
    return True
