"""What a Basics Station is told through CUPS."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from quartier.desk.forms.base import DeskForm


class StationForm(DeskForm):
    """Addresses and the authority to trust."""

    lns_uri = forms.CharField(
        label=_("Adresse des Netzservers (LNS)"),
        required=False,
        max_length=127,
        help_text=_("Beginnt mit wss:// oder ws://. Leer: Die Station behält, was sie hat."),
    )
    cups_uri = forms.CharField(
        label=_("Adresse der Fernverwaltung (CUPS)"),
        required=False,
        max_length=127,
        help_text=_("Beginnt mit https:// oder http://. Leer: Die Station behält, was sie hat."),
    )
    trust = forms.CharField(
        label=_("Zertifikat der ausstellenden Stelle"),
        required=False,
        max_length=20_000,
        help_text=_(
            "Als Text (PEM), von -----BEGIN CERTIFICATE----- bis -----END CERTIFICATE-----. Die Station vertraut damit"
            " unserem Server; ohne es nimmt sie keinen neuen Zugangsschlüssel an. Leer: Das bisherige bleibt."
        ),
        widget=forms.Textarea(
            attrs={"rows": 4, "spellcheck": "false", "class": "kern-form-input__input q-code q-code--short"}
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("lns_uri", "cups_uri"):
            self.fields[name].widget.attrs.update({"autocomplete": "off", "inputmode": "url"})

    def wanted(self) -> dict[str, Any]:
        """For ``domain.set_station``: an empty certificate leaves the one before."""
        data = self.cleaned_data
        return {
            "lns_uri": data["lns_uri"].strip(),
            "cups_uri": data["cups_uri"].strip(),
            "trust": data["trust"] or None,
        }

    def refuse(self, error: ValueError) -> None:
        """Show what the rule refused at its field, in the rule's own words."""
        name = str(getattr(error, "field", ""))
        self.add_error(name if name in self.fields else None, str(getattr(error, "message", error)))
