"""Forms for device types, codecs, mappings and replays."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.forms import BaseFormSet, formset_factory
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.desk import raw
from quartier.desk.access import CODECS, within
from quartier.desk.forms.base import MOMENT_FORMATS, DeskForm, choose, moment_input, offer
from quartier.intake.domain import MAXIMUM_SCRIPT_BYTES, MappingRow
from quartier.sources.models import Source
from quartier.twin.models import Device, DeviceType, ObservedProperty

ROWS_AT_MOST: Final = 200


class DeviceTypeForm(DeskForm):
    """Make and model."""

    vendor = forms.CharField(label=_("Hersteller"), max_length=120, required=False)
    model = forms.CharField(label=_("Modell"), max_length=120)
    description = forms.CharField(
        label=_("Beschreibung"), required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 2})
    )
    datasheet = forms.URLField(label=_("Datenblatt"), required=False, assume_scheme="https")


class NewDeviceTypeForm(DeviceTypeForm):
    """A new type; a codec of the library may be its start."""

    key = forms.SlugField(
        label=_("Kennung"), max_length=80, help_text=_("Kurz und fest, zum Beispiel milesight-em300-th.")
    )
    library = forms.ChoiceField(
        label=_("Codec aus der Sammlung"),
        required=False,
        help_text=_("Bringt Codec und Zuordnung mit; beides lässt sich danach ändern."),
    )
    field_order = ["library", "key", "vendor", "model"]

    def __init__(self, library: list[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choose(self, "library", [("", _("keiner, ich schreibe ihn selbst")), *library])


class CodecForm(DeskForm):
    """The editor, and what is needed to try the script out."""

    script = forms.CharField(
        label=_("Codec (JavaScript)"),
        max_length=MAXIMUM_SCRIPT_BYTES,
        strip=False,
        widget=forms.Textarea(
            attrs={
                "rows": 24,
                "class": "kern-form-input__input q-code",
                "spellcheck": "false",
                "autocapitalize": "off",
                "autocomplete": "off",
                "wrap": "off",
            }
        ),
        help_text=_(
            "Mit decodeUplink(input) nach TS013, oder Decoder(bytes, port), oder Decode(fPort, bytes)."
        ),
    )
    payload = forms.CharField(
        label=_("Nutzdaten"),
        required=False,
        max_length=200_000,
        widget=forms.Textarea(
            attrs={"rows": 2, "class": "kern-form-input__input q-code q-code--short", "spellcheck": "false"}
        ),
        help_text=_("Hexadezimal oder Base64."),
    )
    port = forms.IntegerField(label=_("Port"), required=False, min_value=0, max_value=255)
    device = forms.ModelChoiceField(
        label=_("Letzte Nachricht von"), queryset=Device.objects.none(), required=False, empty_label="–"
    )
    note = forms.CharField(
        label=_("Was ist anders?"), required=False, max_length=300, help_text=_("Steht bei den Versionen.")
    )

    def __init__(self, devices: list[Device], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(
            self, "device", Device.objects.filter(pk__in=[one.pk for one in devices]).order_by("name", "pk")
        )

    def clean_payload(self) -> bytes:
        """Bytes from the text."""
        try:
            return raw.bytes_from_text(self.cleaned_data["payload"])
        except ValueError:
            raise forms.ValidationError(_("Weder hexadezimal noch Base64.")) from None


class MappingRowForm(DeskForm):
    """One row of a mapping; without the tick it is left out."""

    keep = forms.BooleanField(label=_("gilt"), required=False)
    path = forms.CharField(label=_("Feld"), max_length=200, required=False)
    observed_property = forms.ChoiceField(label=_("Messgröße"), required=False)
    unit = forms.CharField(label=_("Einheit"), max_length=40, required=False)
    channel = forms.CharField(label=_("Kanal"), max_length=40, required=False)
    role = forms.ChoiceField(
        label=_("Rolle"),
        choices=[
            ("observation", _("Messwert")),
            ("time", _("Zeit der Messung")),
            ("battery_v", _("Batterie in V")),
            ("battery_percent", _("Batterie in %")),
            ("ignore", _("nicht beachten")),
        ],
    )

    def __init__(self, *args: Any, properties: list[tuple[str, Any]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choose(self, "observed_property", properties)
        self.fields["unit"].widget.attrs["list"] = "units"
        self.fields["keep"].widget.attrs["class"] = "desk-check"
        number = int(str(self.prefix).rsplit("-", 1)[-1]) + 1 if str(self.prefix)[-1:].isdecimal() else ""
        for field in self.fields.values():
            # The column's head names the field for the eye; each cell needs a name of its own for the ear.
            field.widget.attrs["aria-label"] = _("%(label)s, Zeile %(n)s") % {
                "label": field.label,
                "n": number,
            }

    @property
    def kept(self) -> bool:
        """Whether this row belongs to the mapping."""
        return bool(self.cleaned_data.get("keep")) and bool((self.cleaned_data.get("path") or "").strip())

    @property
    def row(self) -> MappingRow:
        """The row as the rules take it."""
        data = self.cleaned_data
        return MappingRow(
            path=data["path"].strip(),
            observed_property=data["observed_property"] if data["role"] == "observation" else "",
            unit=data["unit"].strip(),
            channel=data["channel"].strip(),
            role=data["role"],
        )


MappingFormSet = formset_factory(
    MappingRowForm, extra=3, max_num=ROWS_AT_MOST, absolute_max=ROWS_AT_MOST, validate_max=True
)


def kept_rows(formset: BaseFormSet[MappingRowForm]) -> list[tuple[MappingRowForm, MappingRow]]:
    """The rows that are ticked and name a field."""
    return [(form, form.row) for form in formset.forms if form.kept]


def property_choices() -> list[tuple[str, Any]]:
    """Properties by category, in the page's language."""
    english = (get_language() or "de").startswith("en")
    groups: dict[str, list[tuple[str, str]]] = {}
    for one in ObservedProperty.objects.all():
        name = one.name_en if english else one.name_de
        groups.setdefault(one.category, []).append((one.slug, f"{name} ({one.unit})" if one.unit else name))
    return [
        ("", "–"),
        *((category, sorted(names, key=lambda n: n[1])) for category, names in sorted(groups.items())),
    ]


class ReplayForm(DeskForm):
    """Which raw messages are read again."""

    municipality = forms.ModelChoiceField(
        label=_("Stadt"), queryset=Municipality.objects.none(), empty_label=None
    )
    device_type = forms.ModelChoiceField(
        label=_("Gerätetyp"),
        queryset=DeviceType.objects.none(),
        required=False,
        empty_label=_("alle"),
        to_field_name="key",
    )
    source = forms.ModelChoiceField(
        label=_("Quelle"),
        queryset=Source.objects.none(),
        required=False,
        empty_label=_("alle"),
        to_field_name="key",
    )
    external_ids = forms.CharField(
        label=_("Nur diese Geräte"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 2, "class": "kern-form-input__input q-code q-code--short"}),
        help_text=_("Kennungen, durch Leerzeichen oder Zeilen getrennt. Leer: alle."),
    )
    since = forms.DateTimeField(
        label=_("von"),
        required=False,
        widget=moment_input(),
        input_formats=MOMENT_FORMATS,
        help_text=_("Ortszeit."),
    )
    until = forms.DateTimeField(
        label=_("bis"),
        required=False,
        widget=moment_input(),
        input_formats=MOMENT_FORMATS,
        help_text=_("Leer: jetzt."),
    )

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "municipality", Municipality.objects.filter(within(actor, CODECS, "pk")))
        offer(self, "device_type", DeviceType.objects.all())
        offer(self, "source", Source.objects.filter(within(actor, CODECS)))

    def clean(self) -> dict[str, Any]:
        """A period has its beginning first."""
        data = super().clean() or self.cleaned_data
        since, until = data.get("since"), data.get("until")
        if since is not None and until is not None and since >= until:
            self.add_error("until", _("Das Ende liegt vor dem Anfang."))
        return data

    @property
    def selection(self) -> dict[str, Any]:
        """What ``intake.domain.start_replay`` takes."""
        data = self.cleaned_data
        return {
            "municipality": data["municipality"].slug,
            "device_type": data["device_type"].key if data["device_type"] else None,
            "source_key": data["source"].key if data["source"] else None,
            "external_ids": sorted({word.lower() for word in data["external_ids"].split()}),
            "since": data["since"].isoformat() if data["since"] else None,
            "until": data["until"].isoformat() if data["until"] else None,
        }
