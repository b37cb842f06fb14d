"""Forms for devices and the places they stand at."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.core.validators import FileExtensionValidator
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.desk.access import DEVICES, municipalities, within
from quartier.desk.forms.base import (
    MOMENT_FORMATS,
    DeskForm,
    ThingField,
    choose,
    moment_input,
    offer,
    offer_things,
)
from quartier.desk.queries import devices as device_queries
from quartier.sources.kinds import KINDS
from quartier.sources.models import Source
from quartier.twin.models import Device, DeviceType, Thing, ThingKind

MAXIMUM_CSV_BYTES = 2 * 1024 * 1024


def municipality_choices(found: list[Municipality]) -> list[tuple[str, Any]]:
    """Choices for a filter: all of them, or one."""
    return [("", _("alle Städte")), *((one.slug, one.name) for one in found)]


class DeviceFilterForm(DeskForm):
    """Filters of the list of devices; they stand in the address."""

    q = forms.CharField(label=_("Name, Kennung oder Ort"), required=False, max_length=100)
    stadt = forms.ChoiceField(label=_("Stadt"), required=False)
    quelle = forms.ChoiceField(label=_("Quelle"), required=False)
    typ = forms.ChoiceField(label=_("Gerätetyp"), required=False)
    zustand = forms.ChoiceField(
        label=_("Zustand"),
        required=False,
        choices=[
            ("", _("alle")),
            ("live", _("sendet")),
            ("silent", _("verstummt")),
            ("never", _("noch nie gehört")),
            ("off", _("abgeschaltet")),
            ("undeployed", _("an keinem Ort")),
        ],
    )
    sortierung = forms.ChoiceField(
        label=_("Sortierung"),
        required=False,
        choices=[
            ("name", _("Name")),
            ("gesehen", _("am längsten nicht gehört")),
            ("batterie", _("schwächste Batterie")),
        ],
    )
    schwach = forms.BooleanField(label=_("nur schwache Batterien"), required=False)

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choose(self, "stadt", municipality_choices(municipalities(actor)))
        choose(self, "quelle", [("", _("alle")), *((key, key) for key in device_queries.source_keys(actor))])
        types = [(one.key, str(one)) for one in DeviceType.objects.all()]
        choose(self, "typ", [("", _("alle")), ("-", _("ohne Typ")), *types])

    def wanted(self) -> device_queries.DeviceFilter:
        """The filter; values that are no choice do not narrow."""
        self.is_valid()
        data = self.cleaned_data
        return device_queries.DeviceFilter(
            municipality=data.get("stadt") or "",
            source=data.get("quelle") or "",
            device_type=data.get("typ") or "",
            state=data.get("zustand") or "",
            weak=bool(data.get("schwach")),
            text=(data.get("q") or "").strip(),
            order=data.get("sortierung") or "name",
        )


class DeviceForm(DeskForm):
    """What staff may change of a device."""

    name = forms.CharField(label=_("Name"), max_length=200)
    device_type = forms.ModelChoiceField(
        label=_("Gerätetyp"),
        queryset=DeviceType.objects.none(),
        required=False,
        empty_label=_("noch keiner"),
        help_text=_(
            "Zum Typ gehören Codec und Zuordnung. Ohne Typ gelten Felder, die wie unsere Messgrößen heißen."
        ),
    )
    expected_interval_s = forms.IntegerField(
        label=_("Erwarteter Abstand in Sekunden"),
        required=False,
        min_value=1,
        max_value=31_536_000,
        help_text=_(
            "Kommt dreimal so lange nichts, gilt das Gerät als verstummt. Zum Beispiel 900 für 15 Minuten."
        ),
    )
    active = forms.BooleanField(
        label=_("in Betrieb"), required=False, help_text=_("Abgeschaltete Geräte werden nicht vermisst.")
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "device_type", DeviceType.objects.all())


class NewDeviceForm(DeviceForm):
    """A single new device, and where it stands."""

    source = forms.ModelChoiceField(label=_("Quelle"), queryset=Source.objects.none(), empty_label=None)
    external_id = forms.CharField(
        label=_("Kennung an der Quelle"),
        max_length=120,
        help_text=_("Bei LoRaWAN die DevEUI, sechzehn Zeichen aus 0–9 und a–f."),
    )
    thing = ThingField(
        label=_("Ort"),
        required=False,
        help_text=_("Kennung des Orts, an dem das Gerät misst. Leer: noch keiner."),
    )
    at = forms.DateTimeField(
        label=_("Steht dort seit"),
        required=False,
        help_text=_("Ortszeit. Frühere Nachrichten gehören zu keinem Ort. Leer: ab jetzt."),
        widget=moment_input(),
        input_formats=MOMENT_FORMATS,
    )
    height_above_ground_m = forms.FloatField(
        label=_("Höhe über dem Boden in m"), required=False, min_value=-50, max_value=500
    )
    field_order = ["source", "external_id", "name", "device_type", "expected_interval_s", "active", "thing"]

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "source", Source.objects.filter(within(actor, DEVICES)))
        offer_things(self, "thing", Thing.objects.filter(within(actor, DEVICES)))


class ThingForm(DeskForm):
    """A place in the city."""

    name = forms.CharField(label=_("Name"), max_length=200)
    kind = forms.ChoiceField(label=_("Art"), choices=ThingKind.choices)
    lat = forms.FloatField(
        label=_("Breite"),
        required=False,
        min_value=-90,
        max_value=90,
        help_text=_("In Grad, zum Beispiel 51,5136."),
    )
    lon = forms.FloatField(
        label=_("Länge"),
        required=False,
        min_value=-180,
        max_value=180,
        help_text=_("In Grad, zum Beispiel 7,4653."),
    )
    street = forms.CharField(label=_("Straße"), max_length=120, required=False)
    house_number = forms.CharField(label=_("Hausnummer"), max_length=12, required=False)
    postcode = forms.CharField(label=_("Postleitzahl"), max_length=10, required=False)
    surface = forms.CharField(
        label=_("Untergrund"),
        max_length=40,
        required=False,
        help_text=_("Zum Beispiel Asphalt, Rasen oder Pflaster."),
    )
    description = forms.CharField(
        label=_("Beschreibung"), required=False, max_length=4000, widget=forms.Textarea(attrs={"rows": 3})
    )
    public = forms.BooleanField(label=_("öffentlich sichtbar"), required=False)


class NewThingForm(ThingForm):
    """A new place: its city and key cannot be changed later."""

    municipality = forms.ModelChoiceField(
        label=_("Stadt"), queryset=Municipality.objects.none(), empty_label=None
    )
    key = forms.SlugField(
        label=_("Kennung"),
        max_length=80,
        help_text=_("Steht in der Adresse der Seite und bleibt, wie sie ist."),
    )
    field_order = ["municipality", "key", "name", "kind"]

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "municipality", Municipality.objects.filter(within(actor, DEVICES, "pk")))


class MoveForm(DeskForm):
    """The device goes to another place, or to the store room."""

    thing = ThingField(
        label=_("Neuer Ort"),
        required=False,
        help_text=_("Kennung des Orts. Leer: kein Ort (Lager, Werkstatt)."),
    )
    at = forms.DateTimeField(
        label=_("Seit wann"),
        help_text=_("Ortszeit."),
        widget=moment_input(),
        input_formats=MOMENT_FORMATS,
    )
    height_above_ground_m = forms.FloatField(
        label=_("Höhe über dem Boden in m"), required=False, min_value=-50, max_value=500
    )
    note = forms.CharField(label=_("Notiz"), required=False, max_length=300)

    def __init__(self, device: Device, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer_things(self, "thing", Thing.objects.filter(municipality_id=device.municipality_id))

    @staticmethod
    def now() -> datetime:
        """The minute that the form proposes."""
        return timezone.localtime().replace(second=0, microsecond=0)


def _kind_field() -> forms.ChoiceField:
    return forms.ChoiceField(
        label=_("Art neuer Orte"),
        choices=ThingKind.choices,
        help_text=_("Gilt, wo die Liste selbst keine Art nennt."),
    )


class NetworkForm(DeskForm):
    """All devices that a network server lists."""

    source = forms.ModelChoiceField(label=_("Quelle"), queryset=Source.objects.none(), empty_label=None)
    device_type = forms.ModelChoiceField(
        label=_("Gerätetyp"),
        queryset=DeviceType.objects.none(),
        required=False,
        empty_label=_("noch keiner"),
        help_text=_("Bekommen alle Geräte, die noch keinen haben."),
    )
    kind = _kind_field()

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, auto_id="netz_%s", **kwargs)
        listing = [key for key, kind in KINDS.items() if kind.lists_devices]
        offer(self, "source", Source.objects.filter(within(actor, DEVICES), kind__in=listing))
        offer(self, "device_type", DeviceType.objects.all())


class ImportForm(DeskForm):
    """A CSV file of devices for one source."""

    source = forms.ModelChoiceField(label=_("Quelle"), queryset=Source.objects.none(), empty_label=None)
    file = forms.FileField(
        label=_("CSV-Datei"),
        required=False,
        validators=[FileExtensionValidator(["csv", "txt"])],
        help_text=_("UTF-8, höchstens 2 MB. Die erste Zeile nennt die Spalten."),
        widget=forms.FileInput(attrs={"accept": ".csv,text/csv"}),
    )
    kind = _kind_field()
    text = forms.CharField(
        required=False, widget=forms.HiddenInput, max_length=MAXIMUM_CSV_BYTES, strip=False
    )

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "source", Source.objects.filter(within(actor, DEVICES)))
        # Not required by the form, because the confirmation carries the text instead; but nothing optional.
        self.fields["file"].needed = True  # type: ignore[attr-defined] # read by the field's template

    def clean(self) -> dict[str, Any]:
        """``text`` is what was read from the file, or what the preview carried along."""
        data = super().clean() or self.cleaned_data
        upload = data.get("file")
        if upload is not None:
            if upload.size > MAXIMUM_CSV_BYTES:
                self.add_error("file", _("Die Datei ist größer als 2 MB."))
            else:
                try:
                    data["text"] = upload.read().decode("utf-8-sig")
                except UnicodeDecodeError:
                    self.add_error("file", _("Die Datei ist nicht in UTF-8 gespeichert."))
        elif not data.get("text"):
            self.add_error("file", _("Bitte eine Datei auswählen."))
        return data
