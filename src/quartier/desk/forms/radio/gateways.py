"""Forms for gateways."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality, Organisation
from quartier.cities.rules import Actor
from quartier.desk.access import ENTER, RADIO, municipalities, within
from quartier.desk.forms.base import DeskForm, choose, offer
from quartier.desk.forms.devices import municipality_choices
from quartier.lorawan.models import Gateway


class GatewayFilterForm(DeskForm):
    """Filters of the list of gateways."""

    q = forms.CharField(label=_("Name, Ort oder EUI"), required=False, max_length=100)
    stadt = forms.ChoiceField(label=_("Stadt"), required=False)
    zustand = forms.ChoiceField(
        label=_("Zustand"),
        required=False,
        choices=[
            ("", _("alle")),
            ("online", _("verbunden")),
            ("offline", _("nicht verbunden")),
            ("off", _("abgeschaltet")),
        ],
    )

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choose(self, "stadt", municipality_choices(municipalities(actor, ENTER)))

    def wanted(self) -> dict[str, str]:
        """The filter; values that are no choice do not narrow."""
        self.is_valid()
        data = self.cleaned_data
        return {
            "text": (data.get("q") or "").strip(),
            "municipality": data.get("stadt") or "",
            "state": data.get("zustand") or "",
        }


class GatewayForm(DeskForm):
    """What staff say of a gateway."""

    name = forms.CharField(label=_("Name"), max_length=120)
    protocol = forms.ChoiceField(
        label=_("Gateway-Protokoll"),
        choices=Gateway.Protocol.choices,
        help_text=_(
            "Am sichersten ist Basics Station: Nur sie beweist mit einem Zugangsschlüssel, wer sie ist."
        ),
    )
    owner = forms.ModelChoiceField(
        label=_("Eigentümer"),
        queryset=Organisation.objects.none(),
        required=False,
        empty_label=_("die Stadt"),
    )
    place = forms.CharField(label=_("Ort in Worten"), required=False, max_length=200)
    lon = forms.FloatField(label=_("Länge in Grad"), required=False, min_value=-180, max_value=180)
    lat = forms.FloatField(label=_("Breite in Grad"), required=False, min_value=-90, max_value=90)
    altitude_m = forms.FloatField(
        label=_("Höhe über NHN in m"), required=False, min_value=-500, max_value=9000
    )
    height_above_ground_m = forms.FloatField(
        label=_("Höhe der Antenne über dem Boden in m"), required=False, min_value=-100, max_value=1000
    )
    antenna_gain_dbi = forms.FloatField(
        label=_("Antennengewinn in dBi"),
        required=False,
        min_value=-20,
        max_value=30,
        help_text=_("Steht im Datenblatt der Antenne; so viel weniger darf das Gateway senden."),
    )
    private = forms.BooleanField(
        label=_("Standort nicht zeigen"),
        required=False,
        help_text=_(
            "Für Gateways in Wohnungen: Es erscheint auf keiner Karte, und Partnernetze erfahren den Ort nicht."
        ),
    )
    beacon = forms.BooleanField(
        label=_("sendet Zeitzeichen (Beacons)"),
        required=False,
        help_text=_(
            "Für Geräte der Klasse B; geht nur mit GPS-Empfang. Einer Basics Station sagt das Netz, dass sie sie senden"
            " soll. Andere Gateways werden selbst so eingestellt; das Netz hält ihre Sendezeit dann frei."
        ),
    )
    networks = forms.CharField(
        label=_("Erlaubte Internetadressen"),
        required=False,
        max_length=1000,
        help_text=_(
            "Adressen oder Netze, durch Komma getrennt, zum Beispiel 192.0.2.7 oder 2001:db8::/48. Leer: alle. Beim"
            " Semtech-Protokoll ist das der einzige Schutz."
        ),
    )
    STEPS = ("lon", "lat", "altitude_m", "height_above_ground_m", "antenna_gain_dbi")

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "owner", Organisation.objects.all())
        for name in self.STEPS:
            self.fields[name].widget.attrs.update({"step": "any", "inputmode": "decimal"})

    def clean_networks(self) -> list[str]:
        """As a list."""
        return [one.strip() for one in str(self.cleaned_data["networks"]).split(",") if one.strip()]

    def clean_antenna_gain_dbi(self) -> float:
        """None means nothing."""
        return float(self.cleaned_data["antenna_gain_dbi"] or 0)

    def refuse(self, error: ValueError) -> None:
        """Show what the rule refused at its field, in the rule's own words."""
        name = str(getattr(error, "field", ""))
        self.add_error(name if name in self.fields else None, str(getattr(error, "message", error)))

    @staticmethod
    def initial_of(gateway: Gateway) -> dict[str, Any]:
        """The fields as the gateway has them."""
        values = {name: getattr(gateway, name) for name in GatewayForm.base_fields}
        return {**values, "networks": ", ".join(gateway.networks)}


class NewGatewayForm(GatewayForm):
    """A new gateway: its city and EUI stay."""

    municipality = forms.ModelChoiceField(
        label=_("Stadt"), queryset=Municipality.objects.none(), empty_label=None
    )
    eui = forms.CharField(
        label=_("Gateway-EUI"),
        max_length=30,
        help_text=_(
            "Sechzehn Zeichen aus 0–9 und a–f; steht auf dem Gehäuse oder auf der Webseite des Gateways."
        ),
    )
    field_order = ["municipality", "eui", "name", "protocol"]

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(actor, *args, **kwargs)
        # The safest; what the hint says is also what is chosen unless somebody chooses.
        self.fields["protocol"].initial = Gateway.Protocol.STATION
        offer(self, "municipality", Municipality.objects.filter(within(actor, RADIO, "pk")))
