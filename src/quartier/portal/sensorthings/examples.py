"""Questions to begin with, about this installation's own places and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext as _

from quartier.cities.rules import NOBODY
from quartier.twin import queries
from quartier.twin.models import Series
from quartier.usage.rules import visible_things

_BEST: Final = "air_temperature"
_LOOKED_AT: Final = 300


@dataclass(frozen=True, slots=True)
class Example:
    """A question with what it is good for."""

    slug: str
    title: str
    text: str
    why: str


def series_to_show(city: str = "") -> Series | None:
    """A series that everybody may see and that has just measured; air temperature if there is any."""
    things = visible_things(NOBODY).order_by()
    if city:
        things = things.filter(municipality__slug=city)
    known = Series.objects.filter(thing__in=things).exclude(observed_property__category="device")
    known = known.select_related("thing", "observed_property").order_by("pk")
    for wanted in (known.filter(observed_property__slug=_BEST), known):
        # Any that has just measured will do: in a city of thousands the first hundreds hold one.
        found = {series.pk: series for series in wanted[:_LOOKED_AT]}
        if latest := queries.latest(found):
            return found[max(latest.values(), key=lambda one: (one.time, -one.series_id)).series_id]
    return None


def examples(series: Series | None) -> list[Example]:
    """What to try; without any series only what fits everywhere."""
    found = [
        Example(
            "orte",
            _("Was wird wo gemessen?"),
            "Things?$select=name,properties&$expand=Datastreams($select=name,unitOfMeasurement)&$top=3",
            _("Orte mit ihren Messreihen in einer Antwort; $expand nimmt mit, was dazugehört."),
        ),
        Example(
            "jetzt",
            _("Was wird gerade gemessen?"),
            "Things?$select=name&$expand=Datastreams($select=name;$expand="
            "Observations($top=1;$orderby=phenomenonTime desc;$select=phenomenonTime,result))&$top=5",
            _("Der neueste Wert jeder Messreihe, ohne für jede einzeln zu fragen."),
        ),
    ]
    if series is not None:
        found += _about(series, vars(series.thing))
    found += [
        Example(
            "karte",
            _("Orte für die Karte"),
            "Things?$select=name&$expand=Locations($select=location)&$resultFormat=GeoJSON&$top=5",
            _("GeoJSON öffnen QGIS, Masterportal und jede Kartenbibliothek."),
        ),
        Example(
            "zahl",
            _("Wie viele Messreihen gibt es?"),
            "Datastreams/$count",
            _("Eine Zahl und sonst nichts."),
        ),
        Example(
            "fehler",
            _("Und wenn ich mich vertippe?"),
            "Observations?$filter=result gtt 20",
            _("Die Schnittstelle sagt, an welcher Stelle sie nicht weiterweiß."),
        ),
    ]
    return found


def _about(series: Series, thing: dict[str, Any]) -> list[Example]:
    name = series.observed_property.name_de.replace("'", "''")
    found = [
        Example(
            "verlauf",
            _("Der Verlauf eines Tages"),
            f"Datastreams({series.pk})/Observations?$filter=phenomenonTime ge now() sub duration'P1D'"
            "&$orderby=phenomenonTime desc&$select=phenomenonTime,result&$top=10",
            _("Eine Messreihe seit gestern; lange Antworten kommen in Seiten."),
        ),
        Example(
            "am-hoechsten",
            _("Wo ist der Wert gerade am höchsten?"),
            f"Observations?$filter=Datastream/ObservedProperty/name eq '{name}'"
            " and phenomenonTime ge now() sub duration'PT2H'&$orderby=result desc&$top=5&$select=result,phenomenonTime"
            "&$expand=Datastream($select=name;$expand=Thing($select=name))",
            _("$filter und $orderby reichen durch alle Verbindungen."),
        ),
        Example(
            "tageswerte",
            _("Ein Jahr in Tageswerten"),
            f"Datastreams({series.pk})/Observations?$apply=filter(phenomenonTime ge now() sub duration'P365D')"
            "/groupby((bucket(phenomenonTime,P1D,'Europe/Berlin') as day),aggregate(result with average as mean,"
            "result with min as low,result with max as high))&$orderby=day desc",
            _("Zusammengefasst in Ortszeit: eine kleine Antwort statt zehntausender Werte."),
        ),
        Example(
            "tabelle",
            _("Als Tabelle"),
            f"Datastreams({series.pk})/Observations?$select=phenomenonTime,result&$orderby=phenomenonTime desc"
            "&$top=20&$resultFormat=CSV",
            _("CSV öffnet jede Tabellenkalkulation."),
        ),
        Example(
            "mitlesen",
            _("Neue Werte von selbst bekommen"),
            f"Datastreams({series.pk})/Observations?$filter=phenomenonTime ge now() sub duration'PT2H'"
            "&$select=phenomenonTime,result",
            _("Fragen ohne Reihenfolge und Anzahl lassen sich auch mitlesen, mit SSE oder MQTT."),
        ),
    ]
    if thing["lon"] is not None and thing["lat"] is not None:
        place = f"POINT({thing['lon']:.5f} {thing['lat']:.5f})"
        found.insert(
            2,
            Example(
                "umkreis",
                _("Was liegt in der Nähe?"),
                f"Locations?$filter=geo.distance(location,geography'{place}') lt 0.01"
                "&$select=name,location&$expand=Things($select=name)&$top=5",
                _("Entfernungen sind Grad, wie bei anderen Servern: 0,01 Grad sind hier etwa 1 km."),
            ),
        )
    return found


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the standard, ours for it, and what it is."""

    name: str
    here: str
    meaning: str
    text: str


def words() -> list[Word]:
    """The entity types that everybody needs, in the order in which one finds a value."""
    return [
        Word(
            "Thing",
            _("Ort"),
            _("Was in der Stadt beobachtet wird: Station, Baum, Parkhaus."),
            "Things?$top=5",
        ),
        Word("Location", _("Lage"), _("Wo ein Ort liegt, als Punkt auf der Karte."), "Locations?$top=5"),
        Word("Sensor", _("Gerät"), _("Womit gemessen oder wie gerechnet wird."), "Sensors?$top=5"),
        Word(
            "ObservedProperty",
            _("Messgröße"),
            _("Was gemessen wird, etwa die Lufttemperatur; mit fester Adresse im Netz."),
            "ObservedProperties?$top=5",
        ),
        Word(
            "Datastream",
            _("Messreihe"),
            _("Eine Messgröße an einem Ort, mit Einheit und Gerät."),
            "Datastreams?$top=5",
        ),
        Word(
            "Observation",
            _("Messwert"),
            _("Ein Wert zu einer Zeit; was eine Prüfung dazu sagt, steht in resultQuality."),
            "Observations?$orderby=phenomenonTime desc&$top=5",
        ),
        Word(
            "FeatureOfInterest",
            _("Beobachtetes"),
            _("Das Stück Welt, von dem der Wert erzählt; meist die Lage des Ortes."),
            "FeaturesOfInterest?$top=5",
        ),
    ]
