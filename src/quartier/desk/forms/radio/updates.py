"""Software updates of Basics Stations: upload, a further signature, and which one a gateway gets."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.desk.access import RADIO, everywhere, within
from quartier.desk.forms.base import DeskForm, offer, only_own_cities
from quartier.lorawan.domain.updates import visible_updates
from quartier.lorawan.models import Gateway
from quartier.lorawan.models_stations import StationUpdate

_MOST_SMALL: Final = 4096  # of signature and key; the rules name the true limits


class _Refusing(DeskForm):
    def refuse(self, error: ValueError) -> None:
        """Show what the rule refused at its field, in the rule's own words."""
        name = str(getattr(error, "field", ""))
        self.add_error(name if name in self.fields else None, str(getattr(error, "message", error)))


class SignatureFilesForm(_Refusing):
    """A signature and the public key that verifies it."""

    signature = forms.FileField(
        label=_("Unterschrift"),
        help_text=_("Wie openssl dgst -sha512 -sign sie schreibt (ECDSA, DER)."),
        allow_empty_file=True,
    )
    key = forms.FileField(
        label=_("Öffentlicher Schlüssel"),
        help_text=_(
            "Auf der Kurve P-256, als PEM, DER oder wie in sig-0.key der Station. Der geheime bleibt bei Ihnen."
        ),
        allow_empty_file=True,
    )

    def signed(self) -> dict[str, bytes]:
        """For the rules; longer than those allow where the file is."""
        return {name: self.cleaned_data[name].read(_MOST_SMALL + 1) for name in ("signature", "key")}


class UpdateForm(SignatureFilesForm):
    """A new update."""

    municipality = forms.ModelChoiceField(
        label=_("Stadt"),
        queryset=Municipality.objects.none(),
        required=False,
        empty_label=_("alle Städte"),
        help_text=_("Ein Update für alle Städte kann nur ändern, wer das in allen darf."),
    )
    model = forms.CharField(
        label=_("Modell"),
        max_length=80,
        help_text=_("Genau so, wie die Stationen es nennen; es steht auf ihrer Seite Fernverwaltung."),
    )
    package = forms.CharField(
        label=_("Softwarepaket danach"),
        max_length=80,
        help_text=_(
            "Was die Station nennt, wenn das Update gelungen ist: der Inhalt ihrer Datei version.txt. Daran erkennt"
            " Quartier, ob es läuft."
        ),
    )
    packages = forms.CharField(
        label=_("Nur auf diese Softwarepakete"),
        required=False,
        max_length=2000,
        help_text=_("Mit Komma getrennt; - steht für Stationen, die keines nennen. Leer: auf alle."),
    )
    stations = forms.CharField(
        label=_("Nur auf diese Stationssoftware"),
        required=False,
        max_length=2000,
        help_text=_("Anfänge der Version, zum Beispiel 2.0.6, mit Komma getrennt. Leer: auf alle."),
    )
    note = forms.CharField(label=_("Bemerkung"), required=False, max_length=200)
    image = forms.FileField(
        label=_("Datei des Updates"),
        help_text=_("Ein Programm, das die Station ausführt; höchstens 32 MiB."),
        allow_empty_file=True,
    )
    everywhere = forms.BooleanField(
        label=_("Für alle Stationen dieses Modells"),
        required=False,
        help_text=_("Sonst nur für Gateways, denen es zugeordnet wird."),
    )

    field_order = (
        "municipality", "model", "package", "image", "signature", "key", "everywhere", "packages", "stations", "note",
    )  # fmt: skip

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "municipality", Municipality.objects.filter(within(actor, RADIO, "pk")))
        if not everywhere(actor, RADIO):
            only_own_cities(self, "municipality", new=True)

    def values(self) -> dict[str, Any]:
        """For ``domain.add_update``; the file goes through in pieces."""
        data = self.cleaned_data
        image: UploadedFile[Any] = data["image"]
        return {
            **{name: data[name] for name in ("model", "package", "note", "everywhere")},
            **{name: data[name].split(",") for name in ("packages", "stations")},
            **self.signed(),
            "image": image.chunks(),
        }


class AssignForm(_Refusing):
    """The update of one gateway."""

    update = forms.ModelChoiceField(
        label=_("Update für dieses Gateway"),
        queryset=StationUpdate.objects.none(),
        required=False,
        empty_label=_("keines: was für alle Stationen des Modells gilt"),
    )

    def __init__(self, actor: Actor, gateway: Gateway, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        rows = visible_updates(actor)
        rows = rows.filter(municipality=None) | rows.filter(municipality=gateway.municipality_id)
        if gateway.cups.get("model"):
            rows = rows.filter(model=gateway.cups["model"])
        offer(self, "update", rows)
