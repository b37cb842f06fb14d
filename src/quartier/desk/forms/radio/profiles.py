"""Forms for device profiles and multicast groups."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.utils import formats
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.desk.access import RADIO, everywhere, within
from quartier.desk.forms.base import DeskForm, offer, only_own_cities
from quartier.desk.templatetags.desk import duration
from quartier.lorawan.frames.ping_slots import RAREST
from quartier.lorawan.frames.regions import EU868
from quartier.lorawan.models import DeviceProfile, LoraDevice, MulticastGroup
from quartier.twin.models import DeviceType

_RATES: Final = [(index, EU868.data_rate_name(index)) for index in EU868.downlink_data_rates]

_PERIODICITIES: Final = [(n, format_lazy(_("etwa alle {n} s"), n=1 << n)) for n in range(RAREST + 1)]


def _frequencies(value: str) -> list[int]:
    """Hz from MHz, separated by spaces or semicolons."""
    found = []
    for part in value.replace(";", " ").split():
        try:
            found.append(round(float(part.replace(",", ".")) * 1_000_000))
        except ValueError:
            raise forms.ValidationError(
                _("„%(part)s“ ist keine Frequenz."), params={"part": part[:20]}
            ) from None
    return found


def in_megahertz(frequencies_hz: list[int]) -> str:
    """For the field."""
    return " ".join(f"{one / 1e6:g}" for one in frequencies_hz)


class _Refusing(DeskForm):
    def refuse(self, error: ValueError) -> None:
        """Show what the rule refused at its field, in the rule's own words."""
        name = str(getattr(error, "field", ""))
        self.add_error(name if name in self.fields else None, str(getattr(error, "message", error)))


class ProfileForm(_Refusing):
    """What devices of one make have in common on the radio."""

    municipality = forms.ModelChoiceField(
        label=_("Stadt"),
        queryset=Municipality.objects.none(),
        required=False,
        empty_label=_("alle Städte"),
        help_text=_("Ein Profil für alle Städte kann nur ändern, wer das in allen darf."),
    )
    key = forms.SlugField(
        label=_("Kennung"), max_length=80, help_text=_("Kurz und fest, zum Beispiel muster-th1.")
    )
    name = forms.CharField(label=_("Name"), max_length=120)
    mac_version = forms.ChoiceField(
        label=_("LoRaWAN-Version"), choices=[(v, v) for v in DeviceProfile.MAC_VERSIONS], initial="1.0.3"
    )
    parameters_version = forms.CharField(
        label=_("Regionale Parameter"), max_length=20, required=False, initial="RP002-1.0.4"
    )
    device_class = forms.ChoiceField(
        label=_("Klasse"),
        choices=DeviceProfile.Class.choices,
        help_text=_(
            "Klasse B braucht LoRaWAN 1.0.3 oder neuer, und in Reichweite ein Gateway, das die GPS-Zeit kennt und"
            " Zeitzeichen (Beacons) sendet."
        ),
    )
    device_type = forms.ModelChoiceField(
        label=_("Gerätetyp"),
        queryset=DeviceType.objects.none(),
        required=False,
        empty_label=_("keiner"),
        help_text=_("Gilt für neue Geräte, die selbst keinen nennen; zu ihm gehört der Codec."),
    )
    expected_interval_s = forms.IntegerField(
        label=_("Erwarteter Abstand in Sekunden"),
        required=False,
        min_value=1,
        max_value=31_536_000,
        help_text=_("Wie oft das Gerät sendet; bleibt es deutlich länger aus, gilt es als verstummt."),
    )
    adr = forms.BooleanField(
        label=_("Datenrate regeln (ADR)"),
        required=False,
        initial=True,
        help_text=_("Nur für Geräte, die nicht bewegt werden."),
    )
    adr_margin_db = forms.FloatField(label=_("Reserve in dB"), initial=10, min_value=0, max_value=40)
    rx1_delay_s = forms.IntegerField(label=_("RX1 nach s"), initial=1, min_value=1, max_value=15)
    rx1_dr_offset = forms.IntegerField(
        label=_("Abstand der Datenrate in RX1"), initial=0, min_value=0, max_value=5
    )
    rx2_data_rate = forms.TypedChoiceField(label=_("Datenrate in RX2"), choices=_RATES, coerce=int, initial=0)
    rx2_frequency_mhz = forms.CharField(label=_("Frequenz in RX2 in MHz"), initial="869.525", max_length=20)
    extra_frequencies_mhz = forms.CharField(
        label=_("Weitere Funkkanäle in MHz"),
        required=False,
        max_length=100,
        help_text=_("Höchstens fünf, durch Leerzeichen getrennt, zum Beispiel 867.1 867.3."),
    )
    abp_frequencies_mhz = forms.CharField(
        label=_("Ab Werk eingestellte Funkkanäle in MHz"),
        required=False,
        max_length=100,
        help_text=_("Nur für ABP-Geräte."),
    )
    status_interval_s = forms.IntegerField(
        label=_("Batterie erfragen alle s"),
        initial=86_400,
        min_value=0,
        max_value=31_536_000,
        help_text=_("0: nie."),
    )
    class_c_timeout_s = forms.IntegerField(
        label=_("Bei Klasse C auf Bestätigung warten, in s"), initial=5, min_value=1, max_value=120
    )
    ping_slot_periodicity = forms.TypedChoiceField(
        label=_("Bei Klasse B hört das Gerät"),
        choices=_PERIODICITIES,
        coerce=int,
        initial=RAREST,
        help_text=_(
            "Gilt, solange das Gerät nicht selbst sagt, wie oft. Im Zweifel das Seltenste: Ein Gerät, das öfter hört,"
            " hört auch dann."
        ),
    )
    ping_slot_data_rate = forms.TypedChoiceField(
        label=_("Datenrate bei Klasse B"), choices=_RATES, coerce=int, initial=EU868.ping_slot_data_rate
    )
    ping_slot_frequency_mhz = forms.CharField(
        label=_("Frequenz bei Klasse B in MHz"),
        initial="869.525",
        max_length=20,
        help_text=_(
            "Üblich sind DR3 und 869,525 MHz. Anderes teilt das Netz dem Gerät mit, und wartet, bis es zustimmt."
        ),
    )
    beacon_frequency_mhz = forms.CharField(
        label=_("Frequenz der Zeitzeichen in MHz"),
        required=False,
        max_length=20,
        help_text=_("Leer: 869,525. Etwas anderes nur, wenn die Gateways ihre Zeitzeichen dort senden."),
    )
    class_b_timeout_s = forms.IntegerField(
        label=_("Bei Klasse B auf Bestätigung warten, in s"), initial=8, min_value=1, max_value=600
    )
    MORE = (
        "parameters_version", "adr_margin_db", "rx1_delay_s", "rx1_dr_offset", "rx2_data_rate", "rx2_frequency_mhz",
        "extra_frequencies_mhz", "abp_frequencies_mhz", "status_interval_s", "class_c_timeout_s",
        "ping_slot_periodicity", "ping_slot_data_rate", "ping_slot_frequency_mhz", "beacon_frequency_mhz",
        "class_b_timeout_s",
    )  # fmt: skip
    # Labels of times whose values bring the unit that suits them.
    _WITHOUT_UNIT: Final = {
        "expected_interval_s": _("Erwarteter Abstand"),
        "rx1_delay_s": _("RX1 nach"),
        "status_interval_s": _("Abstand der Batterieabfragen"),
        "class_c_timeout_s": _("Bei Klasse C auf Bestätigung warten"),
        "class_b_timeout_s": _("Bei Klasse B auf Bestätigung warten"),
    }

    def __init__(self, actor: Actor, profile: DeviceProfile | None, *args: Any, **kwargs: Any) -> None:
        if profile is not None:
            kwargs["initial"] = {
                name: getattr(profile, name) for name in self.base_fields if hasattr(profile, name)
            } | {
                "rx2_frequency_mhz": in_megahertz([profile.rx2_frequency_hz]),
                "extra_frequencies_mhz": in_megahertz(profile.extra_frequencies_hz),
                "abp_frequencies_mhz": in_megahertz(profile.abp_frequencies_hz),
                "ping_slot_frequency_mhz": in_megahertz([profile.ping_slot_frequency_hz]),
                "beacon_frequency_mhz": in_megahertz(
                    [profile.beacon_frequency_hz] if profile.beacon_frequency_hz else []
                ),
            }
        super().__init__(*args, **kwargs)
        offer(self, "municipality", Municipality.objects.filter(within(actor, RADIO, "pk")))
        offer(self, "device_type", DeviceType.objects.all())
        if not everywhere(actor, RADIO):
            only_own_cities(self, "municipality", new=profile is None)
        if profile is not None:
            del self.fields["key"]

    def facts(self, profile: DeviceProfile, *names: str) -> list[tuple[str, str]]:
        """What the fields hold, in words, for those who may only read: (label, value)."""
        return [
            (str(self._WITHOUT_UNIT.get(name, self.fields[name].label)), self._in_words(profile, name))
            for name in names
        ]

    def _in_words(self, profile: DeviceProfile, name: str) -> str:
        field: Any = self.fields[name]
        value = self.get_initial_for_field(field, name)
        if isinstance(field, forms.BooleanField):
            return str(_("ja") if value else _("nein"))
        if isinstance(field, forms.ModelChoiceField):
            return str(getattr(profile, name) or field.empty_label)
        if isinstance(field, forms.ChoiceField):
            choices: Any = field.choices
            return str(dict(choices).get(value, value))
        if name in self._WITHOUT_UNIT:
            return str(_("nie")) if value == 0 else duration(value)
        if name.endswith("_mhz"):
            value = " ".join(formats.localize(float(one)) for one in str(value).split())
        return str(formats.localize(value)) if value not in (None, "") else "–"

    def clean_rx2_frequency_mhz(self) -> list[int]:
        """In Hz, one."""
        return self._one("rx2_frequency_mhz")

    def clean_ping_slot_frequency_mhz(self) -> list[int]:
        """In Hz, one."""
        return self._one("ping_slot_frequency_mhz")

    def clean_beacon_frequency_mhz(self) -> list[int]:
        """In Hz, one or none."""
        return self._one("beacon_frequency_mhz") if self.cleaned_data["beacon_frequency_mhz"] else []

    def _one(self, name: str) -> list[int]:
        found = _frequencies(self.cleaned_data[name])
        if len(found) != 1:
            raise forms.ValidationError(_("Bitte eine Frequenz angeben."))
        return found

    def clean_extra_frequencies_mhz(self) -> list[int]:
        """In Hz."""
        return _frequencies(self.cleaned_data["extra_frequencies_mhz"])

    def clean_abp_frequencies_mhz(self) -> list[int]:
        """In Hz."""
        return _frequencies(self.cleaned_data["abp_frequencies_mhz"])

    def refuse(self, error: ValueError) -> None:
        """The rule speaks of Hz, the form of MHz."""
        if hasattr(error, "field"):
            error.field = str(error.field).replace("_hz", "_mhz")
        super().refuse(error)

    def values(self) -> dict[str, Any]:
        """The fields of the model."""
        data = dict(self.cleaned_data)
        data.pop("key", None)
        data.pop("municipality")
        data["rx2_frequency_hz"] = data.pop("rx2_frequency_mhz")[0]
        data["ping_slot_frequency_hz"] = data.pop("ping_slot_frequency_mhz")[0]
        data["beacon_frequency_hz"] = next(iter(data.pop("beacon_frequency_mhz")), None)
        data["extra_frequencies_hz"] = data.pop("extra_frequencies_mhz")
        data["abp_frequencies_hz"] = data.pop("abp_frequencies_mhz")
        return data


class MembersForm(_Refusing):
    """Which devices listen to a group."""

    devices = forms.ModelMultipleChoiceField(
        label=_("Geräte"),
        queryset=LoraDevice.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple(attrs={"class": "kern-form-check__checkbox"}),
        help_text=_("Nur Geräte der Klasse C."),
    )

    def __init__(self, group: MulticastGroup, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("initial", {"devices": list(group.devices.values_list("pk", flat=True))})
        super().__init__(*args, **kwargs)
        offer(
            self,
            "devices",
            LoraDevice.objects.filter(municipality=group.municipality_id, profile__device_class="C").order_by(
                "name"
            ),
        )


class GroupForm(_Refusing):
    """A new multicast group."""

    municipality = forms.ModelChoiceField(
        label=_("Stadt"), queryset=Municipality.objects.none(), empty_label=None
    )
    name = forms.CharField(label=_("Name"), max_length=120)
    dev_addr = forms.CharField(
        label=_("Adresse der Gruppe (McAddr)"),
        required=False,
        max_length=20,
        help_text=_("Leer: wird zufällig gewählt."),
    )
    key = forms.CharField(
        label=_("Schlüssel der Gruppe (McKey)"),
        max_length=60,
        help_text=_("32 Zeichen aus 0–9 und a–f, wie er in den Geräten steht. Er wird nie wieder angezeigt."),
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}, render_value=False),
    )
    data_rate = forms.TypedChoiceField(
        label=_("Datenrate"),
        choices=_RATES,
        coerce=int,
        initial=0,
        help_text=_("Wie in den Geräten eingestellt. DR0 reicht am weitesten und sendet am längsten."),
    )
    frequency_mhz = forms.CharField(
        label=_("Frequenz in MHz"),
        initial="869.525",
        max_length=20,
        help_text=_("Wie in den Geräten eingestellt."),
    )

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offer(self, "municipality", Municipality.objects.filter(within(actor, RADIO, "pk")))

    def clean_frequency_mhz(self) -> int:
        """In Hz."""
        found = _frequencies(self.cleaned_data["frequency_mhz"])
        if len(found) != 1:
            raise forms.ValidationError(_("Bitte eine Frequenz angeben."))
        return found[0]

    def refuse(self, error: ValueError) -> None:
        """The rule speaks of Hz, the form of MHz."""
        if hasattr(error, "field"):
            error.field = str(error.field).replace("_hz", "_mhz")
        super().refuse(error)
