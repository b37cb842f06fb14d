"""Forms for radio devices. Keys go in and are never shown, not even after an error."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.core.validators import FileExtensionValidator
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality, Organisation
from quartier.cities.rules import Actor
from quartier.desk.access import DEVICES, ENTER, municipalities, within
from quartier.desk.forms.base import DeskForm, ThingField, choose, offer, offer_things
from quartier.desk.forms.devices import municipality_choices
from quartier.lorawan.domain.formats import KEYS
from quartier.lorawan.frames import qr
from quartier.lorawan.frames.errors import FrameError
from quartier.lorawan.models import DeviceProfile, LoraDevice
from quartier.twin.models import DeviceType, Thing

MAXIMUM_FILE_BYTES: Final = 4 * 1024 * 1024


def profiles(actor: Actor, action: str = DEVICES) -> Any:
    """The profiles that devices of the actor's cities may have."""
    ids = actor.municipalities(action)
    rows = DeviceProfile.objects.all()
    return rows if ids is None else rows.filter(Q(municipality__isnull=True) | Q(municipality__in=ids))


class DeviceFilterForm(DeskForm):
    """Filters of the list of radio devices."""

    q = forms.CharField(label=_("Name, DevEUI oder Adresse"), required=False, max_length=100)
    stadt = forms.ChoiceField(label=_("Stadt"), required=False)
    profil = forms.ChoiceField(label=_("Geräteprofil"), required=False)
    zustand = forms.ChoiceField(
        label=_("Zustand"),
        required=False,
        choices=[
            ("", _("alle")),
            ("live", _("sendet")),
            ("silent", _("verstummt")),
            ("never", _("noch nie gehört")),
            ("off", _("abgeschaltet")),
        ],
    )

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choose(self, "stadt", municipality_choices(municipalities(actor, ENTER)))
        known = [(one.key, one.name) for one in profiles(actor, ENTER)]
        choose(self, "profil", [("", _("alle")), *known])

    def wanted(self) -> dict[str, str]:
        """The filter; values that are no choice do not narrow."""
        self.is_valid()
        data = self.cleaned_data
        return {
            "text": (data.get("q") or "").strip(),
            "municipality": data.get("stadt") or "",
            "profile": data.get("profil") or "",
            "state": data.get("zustand") or "",
        }


class _Refusing(DeskForm):
    """Shows what the radio's rules refuse at its field, in the rule's own words."""

    def refuse(self, error: ValueError) -> None:
        """A LoraError names its field; keys of a form carry the rule's names."""
        name = str(getattr(error, "field", ""))
        self.add_error(name if name in self.fields else None, str(getattr(error, "message", error)))


class _NeededField(forms.CharField):
    """Needed in one of several cases, which its hint names: neither required nor optional."""

    needed = True  # read by the field's template

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)


def _key(label: Any, help_text: Any = "", *, size: int = 16) -> forms.CharField:
    return _NeededField(
        label=label,
        max_length=3 * size + 10,
        help_text=help_text,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}, render_value=False),
    )


class KeysForm(_Refusing):
    """Activation and keys; which of them are needed depends on activation and version."""

    profile = forms.ModelChoiceField(
        label=_("Geräteprofil"),
        queryset=DeviceProfile.objects.none(),
        empty_label=_("bitte wählen"),
        help_text=_("Sagt, welche LoRaWAN-Version und Klasse das Gerät hat; steht im Datenblatt."),
    )
    activation = forms.ChoiceField(label=_("Anmeldung"), choices=LoraDevice.Activation.choices)
    join_eui = forms.CharField(
        label=_("JoinEUI (AppEUI)"),
        required=False,
        max_length=30,
        help_text=_("Nur bei OTAA. Leer: lauter Nullen."),
    )
    app_key = _key(_("AppKey"), _("Nötig bei OTAA: 32 Zeichen aus 0–9 und a–f."))
    nwk_key = _key(_("NwkKey"), _("Nötig bei OTAA mit LoRaWAN 1.1."))
    dev_addr = _NeededField(label=_("DevAddr"), max_length=20, help_text=_("Nötig bei ABP: acht Zeichen."))
    nwk_s_key = _key(_("NwkSKey"), _("Nötig bei ABP mit LoRaWAN 1.0."))
    app_s_key = _key(_("AppSKey"), _("Nötig bei ABP."))
    f_nwk_s_int_key = _key(_("FNwkSIntKey"), _("Nötig bei ABP mit LoRaWAN 1.1."))
    s_nwk_s_int_key = _key(_("SNwkSIntKey"), _("Nötig bei ABP mit LoRaWAN 1.1."))
    nwk_s_enc_key = _key(_("NwkSEncKey"), _("Nötig bei ABP mit LoRaWAN 1.1."))

    OTAA = ("app_key", "nwk_key")
    ABP = ("dev_addr", "nwk_s_key", "app_s_key", "f_nwk_s_int_key", "s_nwk_s_int_key", "nwk_s_enc_key")

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "profile", profiles(actor))

    def keys(self) -> dict[str, str]:
        """The keys that were entered and belong to the chosen activation."""
        wanted = self.OTAA if self.cleaned_data["activation"] == "otaa" else self.ABP
        return {
            name: self.cleaned_data[name] for name in KEYS if name in wanted and self.cleaned_data.get(name)
        }


class NewDeviceForm(KeysForm):
    """A single new device, by hand or by its QR code."""

    municipality = forms.ModelChoiceField(
        label=_("Stadt"), queryset=Municipality.objects.none(), empty_label=None
    )
    qr = forms.CharField(
        label=_("Text des QR-Codes"),
        required=False,
        max_length=qr.MAX_SIZE,
        help_text=_("Beginnt mit LW:D0. Er füllt DevEUI und JoinEUI aus; Schlüssel enthält er nicht."),
    )
    dev_eui = _NeededField(
        label=_("DevEUI"),
        max_length=30,
        help_text=_("Sechzehn Zeichen aus 0–9 und a–f. Nötig, wenn oben kein QR-Code steht."),
    )
    name = forms.CharField(label=_("Name"), max_length=200)
    device_type = forms.ModelChoiceField(
        label=_("Gerätetyp"),
        queryset=DeviceType.objects.none(),
        required=False,
        empty_label=_("der des Geräteprofils"),
        help_text=_("Zum Typ gehört der Codec, der die Nutzdaten liest."),
    )
    thing = ThingField(
        label=_("Ort"),
        required=False,
        help_text=_("Kennung des Orts, an dem das Gerät misst. Leer: noch keiner."),
    )
    expected_interval_s = forms.IntegerField(
        label=_("Erwarteter Abstand in Sekunden"), required=False, min_value=1, max_value=31_536_000
    )
    may_roam = forms.BooleanField(label=_("darf über Partnernetze senden"), required=False, initial=True)
    field_order = ["municipality", "qr", "dev_eui", "name", "profile", "activation", "join_eui"]

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(actor, *args, **kwargs)
        offer(self, "municipality", Municipality.objects.filter(within(actor, DEVICES, "pk")))
        offer(self, "device_type", DeviceType.objects.all())
        offer_things(self, "thing", Thing.objects.filter(within(actor, DEVICES)))

    def clean(self) -> dict[str, Any]:
        """The EUIs of the code count where none were typed."""
        data = super().clean() or self.cleaned_data
        if text := data.get("qr"):
            try:
                code = qr.parse(text)
            except FrameError as error:
                self.add_error("qr", _("So ist der Code nicht lesbar: %(why)s") % {"why": error})
            else:
                data["dev_eui"] = data.get("dev_eui") or code.dev_eui.hex()
                data["join_eui"] = data.get("join_eui") or code.join_eui.hex()
        if not data.get("dev_eui") and "qr" not in self.errors:
            self.add_error("dev_eui", _("Bitte DevEUI oder QR-Code angeben."))
        return data


class DeviceForm(_Refusing):
    """What staff may change of a device."""

    name = forms.CharField(label=_("Name"), max_length=200)
    description = forms.CharField(
        label=_("Beschreibung"), required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 3})
    )
    profile = forms.ModelChoiceField(
        label=_("Geräteprofil"), queryset=DeviceProfile.objects.none(), empty_label=_("bitte wählen")
    )
    device_type = forms.ModelChoiceField(
        label=_("Gerätetyp"),
        queryset=DeviceType.objects.none(),
        required=False,
        empty_label=_("noch keiner"),
        help_text=_("Zum Typ gehört der Codec, der die Nutzdaten liest."),
    )
    firmware = forms.CharField(label=_("Firmware"), required=False, max_length=60)
    tags = forms.CharField(
        label=_("Merkmale"),
        required=False,
        max_length=2000,
        help_text=_(
            "Wie strasse=nord zweck=licht, durch Leerzeichen getrennt. Vereinbarungen können sich darauf beziehen."
        ),
    )
    expected_interval_s = forms.IntegerField(
        label=_("Erwarteter Abstand in Sekunden"), required=False, min_value=1, max_value=31_536_000
    )
    may_roam = forms.BooleanField(
        label=_("darf über Partnernetze senden"),
        required=False,
        help_text=_("Nur soweit es eine Vereinbarung gibt. Die Nutzdaten bleiben dabei verschlüsselt."),
    )
    counter_reset = forms.BooleanField(
        label=_("Zähler darf neu beginnen"),
        required=False,
        help_text=_(
            "Nur für ABP-Geräte, die nach einem Neustart von vorn zählen. Es schwächt den Schutz vor Fälschung."
        ),
    )

    def __init__(self, actor: Actor, device: LoraDevice, *args: Any, **kwargs: Any) -> None:
        initial = {name: getattr(device, name) for name in self.base_fields if hasattr(device, name)}
        initial["device_type"] = device.device.device_type
        initial["expected_interval_s"] = device.device.expected_interval_s
        initial["tags"] = " ".join(f"{key}={value}".replace(" ", "_") for key, value in device.tags.items())
        kwargs.setdefault("initial", initial)
        super().__init__(*args, **kwargs)
        offer(self, "profile", profiles(actor))
        offer(self, "device_type", DeviceType.objects.all())

    def clean_tags(self) -> dict[str, str]:
        """As pairs."""
        pairs = {}
        for part in self.cleaned_data["tags"].split():
            key, sign, value = part.partition("=")
            if not sign or not key:
                raise forms.ValidationError(_("„%(part)s“ ist kein name=wert."), params={"part": part[:40]})
            pairs[key] = value
        return pairs


class MoveForm(_Refusing):
    """To another city or owner."""

    municipality = forms.ModelChoiceField(
        label=_("Stadt"), queryset=Municipality.objects.none(), empty_label=None
    )
    owner = forms.ModelChoiceField(
        label=_("Eigentümer"),
        queryset=Organisation.objects.none(),
        required=False,
        empty_label=_("die Stadt"),
    )
    reason = forms.CharField(label=_("Grund"), required=False, max_length=300)

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "municipality", Municipality.objects.filter(within(actor, DEVICES, "pk")))
        offer(self, "owner", Organisation.objects.all())


class ImportForm(_Refusing):
    """A file of devices, or its text from the preview."""

    municipality = forms.ModelChoiceField(
        label=_("Stadt"), queryset=Municipality.objects.none(), empty_label=None
    )
    default_profile = forms.ModelChoiceField(
        label=_("Geräteprofil, wo die Datei keines nennt"),
        queryset=DeviceProfile.objects.none(),
        required=False,
        empty_label=_("das zur LoRaWAN-Version passende"),
    )
    file = forms.FileField(
        label=_("Datei"),
        validators=[FileExtensionValidator(["csv", "json", "jsonl", "ndjson", "txt"])],
        help_text=_("CSV oder JSON in unserer Form, oder ein Auszug aus ChirpStack oder The Things Stack."),
    )

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "municipality", Municipality.objects.filter(within(actor, DEVICES, "pk")))
        offer(self, "default_profile", profiles(actor))

    def clean(self) -> dict[str, Any]:
        """The file's text."""
        data = super().clean() or self.cleaned_data
        uploaded = data.get("file")
        if uploaded is not None:
            if uploaded.size > MAXIMUM_FILE_BYTES:
                self.add_error("file", _("Die Datei ist zu groß."))
            else:
                try:
                    data["text"] = uploaded.read().decode("utf-8-sig")
                except UnicodeDecodeError:
                    self.add_error("file", _("Die Datei ist kein Text in UTF-8."))
        return data
