"""Forms for what devices are to hear."""

from __future__ import annotations

import json
from typing import Any, Final

from django import forms
from django.utils.translation import gettext_lazy as _

from quartier.desk.forms.base import MOMENT_FORMATS, DeskForm, moment_input

_MOST_DIGITS: Final = 2 * 242 + 300


class GroupDownlinkForm(DeskForm):
    """For a multicast group: bytes only, never confirmed."""

    payload = forms.CharField(
        label=_("Nutzdaten in Hex"),
        required=False,
        max_length=_MOST_DIGITS,
        help_text=_("Zum Beispiel 01 ff. Leerzeichen schaden nicht."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    port = forms.IntegerField(label=_("Port"), min_value=1, max_value=223, initial=1)
    expires_at = forms.DateTimeField(
        label=_("Nur bis"),
        required=False,
        help_text=_("Danach wird die Nachricht nicht mehr gesendet. Leer: ohne Frist."),
        widget=moment_input(),
        input_formats=MOMENT_FORMATS,
    )

    def clean_payload(self) -> bytes:
        """As bytes."""
        text = "".join(self.cleaned_data["payload"].split())
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise forms.ValidationError(
                _("Bitte Paare aus 0–9 und a–f eingeben, zum Beispiel 01 ff.")
            ) from None

    def refuse(self, error: ValueError) -> None:
        """Show what the rule refused at its field, in the rule's own words."""
        name = str(getattr(error, "field", ""))
        self.add_error(name if name in self.fields else None, str(getattr(error, "message", error)))


class DownlinkForm(GroupDownlinkForm):
    """For one device: bytes, or a JSON object that the codec turns into bytes."""

    command = forms.CharField(
        label=_("Oder als JSON durch den Codec"),
        required=False,
        max_length=10_000,
        help_text=_('Ein Objekt, das encodeDownlink des Gerätetyps versteht, zum Beispiel {"dim": 40}.'),
        widget=forms.Textarea(
            attrs={"rows": 3, "spellcheck": "false", "class": "kern-form-input__input q-code q-code--short"}
        ),
    )
    confirmed = forms.BooleanField(
        label=_("Bestätigung verlangen"),
        required=False,
        help_text=_(
            "Das Gerät sagt, dass es die Nachricht hat; sie wird sonst wiederholt. Kostet mehr Sendezeit."
        ),
    )
    urgent = forms.BooleanField(
        label=_("dringend"), required=False, help_text=_("Geht vor und darf die Reserve an Sendezeit nutzen.")
    )
    field_order = ["payload", "command", "port", "confirmed", "urgent", "expires_at"]

    def clean_command(self) -> dict[str, Any] | None:
        """As an object."""
        text = self.cleaned_data["command"].strip()
        if not text:
            return None
        try:
            value = json.loads(text)
        except ValueError:
            raise forms.ValidationError(_("Das ist kein JSON.")) from None
        if not isinstance(value, dict):
            raise forms.ValidationError(_("Bitte ein Objekt in geschweiften Klammern."))
        return value

    def clean(self) -> dict[str, Any]:
        """One of the two ways."""
        data = super().clean() or self.cleaned_data
        if data.get("payload") and data.get("command") is not None:
            self.add_error("command", _("Bitte entweder Hex oder JSON."))
        return data
