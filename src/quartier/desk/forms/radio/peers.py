"""Forms for neighbouring networks and agreements with them."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from django import forms
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.desk import words_radio
from quartier.desk.access import RADIO, within
from quartier.desk.forms.base import MOMENT_FORMATS, DeskForm, moment_input, offer
from quartier.lorawan.models_roaming import LoraPeer, RoamingAgreement

_PEM: Final = {"rows": 4, "spellcheck": "false", "autocomplete": "off"}


def _words(text: str) -> list[str]:
    return text.replace(",", " ").replace(";", " ").split()


class _Refusing(DeskForm):
    NAMES: ClassVar[dict[str, str]] = {}

    def refuse(self, error: ValueError) -> None:
        """Show what the rule refused at its field, in the rule's own words."""
        name = str(getattr(error, "field", "")).split(".", 1)[0]
        name = self.NAMES.get(name, name)
        self.add_error(name if name in self.fields else None, str(getattr(error, "message", error)))


class PeerForm(_Refusing):
    """How a neighbouring network is reached, and how it proves who it is."""

    NAMES: ClassVar[dict[str, str]] = {"keks": "kek", "gateway": "gateway_eui", "secret": "authorization"}

    name = forms.CharField(label=_("Name"), max_length=120)
    protocol = forms.ChoiceField(
        label=_("Verbindung"),
        choices=LoraPeer.Protocol.choices,
        help_text=_(
            "Backend Interfaces, wo das andere Netz Roaming kann; sonst sprechen wir mit ihm als eines seiner Gateways."
        ),
    )
    net_ids = forms.CharField(
        label=_("NetIDs"),
        required=False,
        max_length=200,
        help_text=_("Sechs Zeichen je NetID, zum Beispiel 000000."),
    )
    url = forms.CharField(
        label=_("Adresse"),
        required=False,
        max_length=300,
        help_text=_("Wo das andere Netz Anfragen annimmt: https://…"),
    )
    asynchronous = forms.BooleanField(
        label=_("Antworten kommen getrennt"),
        required=False,
        help_text=_("Das andere Netz antwortet später mit einer eigenen Anfrage an uns (asynchron)."),
    )
    role_suffix = forms.BooleanField(
        label=_("Adresse endet mit der Rolle"),
        required=False,
        help_text=_("An die Adresse kommt /fns, /sns oder /hns; manche Netzserver verlangen das."),
    )
    timeout_s = forms.FloatField(
        label=_("Wartezeit in s"),
        initial=5,
        min_value=0.1,
        max_value=60,
        help_text=_("So lange warten wir auf eine Antwort."),
    )
    nsid = forms.CharField(
        label=_("NSID"),
        required=False,
        max_length=20,
        help_text=_("Nummer ihres Netzservers, nur bei Backend Interfaces 1.1: sechzehn Zeichen."),
    )
    join_euis = forms.CharField(
        label=_("JoinEUIs"),
        required=False,
        max_length=2000,
        help_text=_("Einzeln oder als Bereich wie 70b3d57ed0000000/40."),
    )
    contact = forms.CharField(
        label=_("Ansprechstelle"),
        required=False,
        max_length=300,
        help_text=_("Wen Sie dort anrufen oder anschreiben, wenn etwas nicht stimmt."),
    )
    fingerprints = forms.CharField(
        label=_("Fingerabdruck des Zertifikats"),
        required=False,
        max_length=1000,
        help_text=_("SHA-256, 64 Zeichen. Damit beweist das andere Netz, wer es ist."),
    )
    subject = forms.CharField(
        label=_("Name im Zertifikat"),
        required=False,
        max_length=200,
        help_text=_("Statt des Fingerabdrucks, wenn eine Zertifizierungsstelle für das Zertifikat bürgt."),
    )
    authority = forms.CharField(
        label=_("Zertifizierungsstelle (PEM)"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs=_PEM),
    )
    kek_label = forms.CharField(label=_("Name des Schlüsselschlüssels (KEK)"), required=False, max_length=100)
    kek = forms.CharField(
        label=_("Schlüsselschlüssel (KEK)"),
        required=False,
        max_length=120,
        help_text=_("32, 48 oder 64 Zeichen. Nur nötig, wo Netzschlüssel weitergegeben werden."),
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}, render_value=False),
    )
    authorization = forms.CharField(
        label=_("Anmeldung bei ihnen (Authorization)"),
        required=False,
        max_length=2000,
        help_text=_("Inhalt des Kopfes, den das andere Netz Ihnen gegeben hat, zum Beispiel Bearer …"),
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}, render_value=False),
    )
    certificate = forms.CharField(
        label=_("Unser Zertifikat für sie (PEM)"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs=_PEM),
    )
    key = forms.CharField(
        label=_("Schlüssel dazu (PEM)"), required=False, max_length=20_000, widget=forms.Textarea(attrs=_PEM)
    )
    ca = forms.CharField(
        label=_("Zertifizierungsstelle ihres Servers (PEM)"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs=_PEM),
    )
    gateway_eui = forms.CharField(label=_("EUI unseres Gateways bei ihnen"), required=False, max_length=30)
    gateway_host = forms.CharField(label=_("Ihr Rechner (Semtech UDP)"), required=False, max_length=200)
    gateway_port = forms.IntegerField(
        label=_("Port"), required=False, min_value=1, max_value=65535, initial=1700
    )
    gateway_url = forms.CharField(label=_("Ihre Adresse (Basics Station)"), required=False, max_length=300)
    gateway_token = forms.CharField(
        label=_("Zugangsschlüssel des Gateways"),
        required=False,
        max_length=2000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}, render_value=False),
    )
    enabled = forms.BooleanField(label=_("eingeschaltet"), required=False, initial=True)

    PROOF = ("fingerprints", "subject", "authority")
    SECRET = ("kek_label", "kek", "authorization", "certificate", "key", "ca")
    GATEWAY = ("gateway_eui", "gateway_host", "gateway_port", "gateway_url", "gateway_token")

    def __init__(self, peer: LoraPeer | None, *args: Any, **kwargs: Any) -> None:
        if peer is not None:
            initial = {name: getattr(peer, name) for name in self.base_fields if hasattr(peer, name)}
            initial |= {
                name: " ".join(getattr(peer, name)) for name in ("net_ids", "join_euis", "fingerprints")
            }
            initial |= {f"gateway_{name}": value for name, value in peer.gateway.items()}
            initial.pop("key", None)
            kwargs["initial"] = initial
        super().__init__(*args, **kwargs)

    def parts(self) -> dict[str, list[forms.BoundField]]:
        """The fields in groups."""
        special = (*self.PROOF, *self.SECRET, *self.GATEWAY)
        return {
            "about": [field for field in self if field.name not in special],
            "proof": [self[name] for name in self.PROOF],
            "secret": [self[name] for name in self.SECRET],
            "gateway": [self[name] for name in self.GATEWAY],
        }

    def values(self) -> dict[str, Any]:
        """The fields of the model."""
        data = self.cleaned_data
        plain = (
            "name", "protocol", "url", "asynchronous", "role_suffix", "timeout_s", "nsid", "contact", "subject",
            "authority", "kek_label", "enabled",
        )  # fmt: skip
        gateway = {}
        if data["protocol"] in (LoraPeer.Protocol.GWMP, LoraPeer.Protocol.STATION):
            gateway = {
                name: data[f"gateway_{name}"]
                for name in ("eui", "host", "port", "url")
                if data[f"gateway_{name}"]
            }
        lists = {name: _words(data[name]) for name in ("net_ids", "join_euis", "fingerprints")}
        return {**{name: data[name] for name in plain}, **lists, "gateway": gateway}

    def secret(self) -> dict[str, Any]:
        """What was entered of the secrets; what was left empty stays as it is."""
        data = self.cleaned_data
        names = ("authorization", "certificate", "key", "ca", "gateway_token")
        found: dict[str, Any] = {name: data[name] for name in names if data[name]}
        if data["kek"]:
            found["keks"] = {data["kek_label"] or "kek": data["kek"]}
        return found


class NewPeerForm(PeerForm):
    """A new peer: its city and key stay."""

    municipality = forms.ModelChoiceField(
        label=_("Stadt"),
        queryset=Municipality.objects.none(),
        empty_label=None,
        help_text=_("Wer über die Bedingungen entscheidet."),
    )
    slug = forms.SlugField(
        label=_("Kennung"), max_length=60, help_text=_("Kurz und fest, zum Beispiel schwerte.")
    )
    field_order = ["municipality", "slug", "name", "protocol"]

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(None, *args, **kwargs)
        offer(self, "municipality", Municipality.objects.filter(within(actor, RADIO, "pk")))


class AgreementForm(_Refusing):
    """Terms of a new agreement. One that was signed is never edited."""

    direction = forms.ChoiceField(label=_("Richtung"), choices=RoamingAgreement.Direction.choices)
    purpose = forms.CharField(
        label=_("Zweck"),
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("Steht im Verzeichnis für den Datenschutz."),
    )
    classes = forms.MultipleChoiceField(
        label=_("Was weitergegeben wird"),
        choices=list(words_radio.DATA_CLASSES.items()),
        widget=forms.CheckboxSelectMultiple(attrs={"class": "kern-form-check__checkbox"}),
        initial=list(words_radio.DATA_CLASSES),
    )
    gateways = forms.ChoiceField(label=_("Gateways"), choices=RoamingAgreement.Gateways.choices)
    dev_addrs = forms.CharField(
        label=_("Adressbereiche der Geräte"),
        required=False,
        max_length=5000,
        help_text=_("Wie 00e20000/16. Innerhalb der NetID 000000 sind Bereiche oder Listen nötig."),
    )
    dev_euis = forms.CharField(
        label=_("DevEUIs"),
        required=False,
        max_length=20_000,
        help_text=_(
            "Durch Leerzeichen getrennt. Sind oben nur Adressbereiche angegeben und weder DevEUIs noch JoinEUIs, "
            "gilt die Vereinbarung nicht für Anmeldungen."
        ),
    )
    join_euis = forms.CharField(
        label=_("JoinEUIs"),
        required=False,
        max_length=5000,
        help_text=_("Durch Leerzeichen getrennt."),
    )
    uplink_airtime_s_per_day = forms.FloatField(
        label=_("Sendezeit der Geräte je Tag in s"),
        required=False,
        min_value=0,
        help_text=_("Leer: ohne Grenze."),
    )
    downlink_airtime_s_per_day = forms.FloatField(
        label=_("Sendezeit der Gateways je Tag in s"),
        required=False,
        min_value=0,
        help_text=_("Leer: ohne Grenze."),
    )
    downlinks_per_day = forms.IntegerField(
        label=_("Nachrichten an Geräte je Tag"),
        required=False,
        min_value=0,
        help_text=_("Leer: ohne Grenze."),
    )
    uplink_rate_per_h = forms.FloatField(
        label=_("Nachrichten eines Geräts je Stunde"),
        required=False,
        min_value=0,
        help_text=_("Leer: ohne Grenze."),
    )
    lifetime_s = forms.IntegerField(
        label=_("Merkdauer in s"),
        initial=0,
        min_value=0,
        max_value=31_536_000,
        help_text=_("Wie lange sich das tragende Netz ein Gerät merkt. 0: gar nicht."),
    )
    mic_filter = forms.BooleanField(
        label=_("nur Pakete, deren Prüfsumme zu einem bekannten Schlüssel passt"), required=False
    )
    hand_over_keys = forms.BooleanField(label=_("Netzschlüssel verschlüsselt weitergeben"), required=False)
    class_c = forms.BooleanField(label=_("auch Geräte der Klasse C"), required=False, initial=True)
    valid_from = forms.DateTimeField(label=_("gilt ab"), widget=moment_input(), input_formats=MOMENT_FORMATS)
    valid_until = forms.DateTimeField(
        label=_("gilt bis"),
        required=False,
        widget=moment_input(),
        input_formats=MOMENT_FORMATS,
        help_text=_("Leer: bis sie beendet wird."),
    )
    retention_days = forms.IntegerField(
        label=_("Einzelnachweise aufbewahren, in Tagen"), initial=30, min_value=1, max_value=3650
    )

    def values(self) -> dict[str, Any]:
        """The fields of the model."""
        data = dict(self.cleaned_data)
        data.pop("direction")
        for name in ("dev_addrs", "dev_euis", "join_euis"):
            data[name] = _words(data[name])
        return data


class SignatureForm(_Refusing):
    """Who signed for the other side."""

    NAMES: ClassVar[dict[str, str]] = {"signed_there_by": "name", "signed_there": "name"}

    name = forms.CharField(
        label=_("Unterschrieben von"),
        max_length=200,
        help_text=_("Name und Amt der Person auf der anderen Seite."),
    )
    at = forms.DateTimeField(label=_("am"), widget=moment_input(), input_formats=MOMENT_FORMATS)


class AuditForm(DeskForm):
    """Which device, for whom."""

    municipality = forms.ModelChoiceField(
        label=_("Stadt"), queryset=Municipality.objects.none(), empty_label=None
    )
    geraet = forms.CharField(label=_("DevEUI"), max_length=30)
