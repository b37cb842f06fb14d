"""The form by which somebody registers a sensor of her own."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.http import QueryDict
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality
from quartier.cities.rules import NOBODY
from quartier.portal.search import index_of, search
from quartier.sources.domain.devices import Districts, near
from quartier.twin.models import ObservedProperty, Thing
from quartier.usage.rules import visible_things

# What people's sensors measure, in the order of how many do.
PROPERTIES: Final = (
    "air_temperature",
    "relative_humidity",
    "pm2_5",
    "pm10",
    "air_pressure",
    "precipitation",
    "wind_speed",
    "illuminance",
    "soil_moisture",
    "soil_temperature",
    "water_level",
    "water_temperature",
    "noise_level",
    "co2",
)


def municipality_at(lon: float, lat: float) -> Municipality | None:
    """The municipality in which a point lies: by its districts, else by its bounds."""
    found = [m for m in Municipality.objects.prefetch_related("districts") if near(m, lon, lat)]
    inside = (m for m in found if Districts(m).at(lon, lat))
    return next(inside, found[0] if len(found) == 1 else None)


def locate(address: str) -> tuple[float, float] | None:
    """About where an address is, as far as known streets, districts and names tell: there may be no internet to ask."""
    found = search(address, index_of(visible_things(NOBODY), public=True))
    things = Thing.objects.filter(pk__in=found.ids[:5], lon__isnull=False, lat__isnull=False)
    points = [(float(t.lon), float(t.lat)) for t in things if t.lon is not None and t.lat is not None]
    if points:
        return sum(lon for lon, _lat in points) / len(points), sum(lat for _lon, lat in points) / len(points)
    return (found.spot.lon, found.spot.lat) if found.spot else None


class DegreesField(forms.DecimalField):
    """Degrees with a point or, as Germans write, a comma."""

    widget = forms.TextInput

    def to_python(self, value: Any) -> Any:
        """The number in the text."""
        return super().to_python(value.replace(",", ".").strip(" °") if isinstance(value, str) else value)


class SensorForm(forms.Form):
    """Name, place, and what is measured."""

    name = forms.CharField(
        label=_("Wie soll Ihr Sensor heißen?"),
        max_length=200,
        help_text=_("Unter diesem Namen steht er auf der Karte, etwa „Balkon Kaiserviertel“."),
    )
    street = forms.CharField(label=_("Straße"), max_length=120, required=False)
    house_number = forms.CharField(label=_("Hausnummer"), max_length=12, required=False)
    lon = DegreesField(
        label=_("Länge (Ost)"),
        min_value=-180,
        max_value=180,
        required=False,
    )
    lat = DegreesField(
        label=_("Breite (Nord)"),
        min_value=-90,
        max_value=90,
        required=False,
    )
    exposure = forms.ChoiceField(
        label=_("Wo steht er?"),
        choices=[
            ("outdoor", _("draußen")),
            ("indoor", _("in einem Raum – dann werden die Werte nicht veröffentlicht")),
        ],
        widget=forms.RadioSelect,
        initial="outdoor",
    )
    height = DegreesField(
        label=_("Höhe über dem Boden"),
        min_value=-100,
        max_value=1000,
        required=False,
        help_text=_("in Metern, etwa 2,5"),
    )
    properties = forms.MultipleChoiceField(
        label=_("Was misst er?"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Daraus machen wir die Beispiele. Sie können später auch anderes senden."),
    )
    sensor_id = forms.CharField(
        label=_("Kennung bei sensor.community"),
        max_length=120,
        required=False,
        help_text=_("Nur für Sensoren mit dieser Firmware, etwa <code>esp8266-1234567</code>."),
    )

    municipality: Municipality
    # Set where the place was found by its address: the form is shown again, so that the point can be checked.
    located = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        german = not (get_language() or "de").startswith("en")
        known = {p.slug: p for p in ObservedProperty.objects.filter(slug__in=PROPERTIES)}
        choices = [
            (slug, known[slug].name_de if german else known[slug].name_en)
            for slug in PROPERTIES
            if slug in known
        ]
        field = self.fields["properties"]
        assert isinstance(field, forms.MultipleChoiceField)  # noqa: S101
        field.choices = choices
        field.initial = [slug for slug, _name in choices[:2]]

    def clean(self) -> dict[str, Any]:
        """Find the municipality, or the point if only an address was given."""
        values = super().clean() or {}
        if {"lon", "lat"} & self.errors.keys():
            return values
        if values.get("lon") is None or values.get("lat") is None:
            self._find(values)
            return values
        found = municipality_at(float(values["lon"]), float(values["lat"]))
        if found is None:
            names = ", ".join(Municipality.objects.values_list("name", flat=True))
            self.add_error(
                "lon",
                _("Dieser Punkt liegt in keiner der beteiligten Städte (%(names)s).") % {"names": names},
            )
        else:
            self.municipality = found
        return values

    def _find(self, values: dict[str, Any]) -> None:
        address = f"{values.get('street', '')} {values.get('house_number', '')}".strip()
        point = locate(address) if values.get("street") else None
        if point is None:
            self.add_error(
                "lon",
                _(
                    "Bitte klicken Sie auf die Karte oder geben Sie Länge und Breite an; diese Straße kennen wir nicht."
                )
                if address
                else _(
                    "Bitte klicken Sie auf die Karte oder geben Sie eine Straße oder Länge und Breite an."
                ),
            )
            return
        self.located = True
        assert isinstance(self.data, QueryDict)  # noqa: S101 (a form from a request)
        data = self.data.copy()
        data["lon"], data["lat"] = f"{point[0]:.5f}", f"{point[1]:.5f}"
        self.data = data
        self.add_error(
            "lon",
            _("Ungefähr hier liegt die Adresse. Bitte prüfen Sie den Punkt und senden Sie noch einmal ab."),
        )
