"""Filters of the frame log."""

from __future__ import annotations

import re
from typing import Any, Final

from django import forms
from django.utils.translation import gettext_lazy as _

from quartier.cities.rules import Actor
from quartier.desk import words_radio
from quartier.desk.access import MESSAGES, municipalities
from quartier.desk.forms.base import DeskForm, choose
from quartier.desk.forms.devices import municipality_choices
from quartier.desk.queries.radio.frames import REFUSED, FrameFilter

_NOT_HEX: Final = re.compile(r"[^0-9a-f]")


def hexadecimal(text: str) -> str:
    """An EUI or address as people paste it, in the log's spelling."""
    return _NOT_HEX.sub("", text.lower())[:16]


class FrameFilterForm(DeskForm):
    """They stand in the address; the live log is told the same ones."""

    stadt = forms.ChoiceField(label=_("Stadt"), required=False)
    geraet = forms.CharField(label=_("DevEUI oder DevAddr"), required=False, max_length=40)
    gateway = forms.CharField(label=_("Gateway-EUI"), required=False, max_length=40)
    ergebnis = forms.ChoiceField(label=_("Ergebnis"), required=False)
    richtung = forms.ChoiceField(
        label=_("Richtung"),
        required=False,
        choices=[("", _("beide")), ("up", _("vom Gerät")), ("down", _("zum Gerät"))],
    )
    zeitraum = forms.ChoiceField(
        label=_("Zeitraum"),
        required=False,
        choices=[
            ("", _("letzte 24 Stunden")),
            ("stunde", _("letzte Stunde")),
            ("woche", _("letzte 7 Tage")),
            ("alle", _("alles, was aufbewahrt ist")),
        ],
    )

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choose(self, "stadt", municipality_choices(municipalities(actor, MESSAGES)))
        heard = [(code, words.title) for code, (_badge, words) in words_radio.HEARD.items()]
        sent = [(code, words.title) for code, (_badge, words) in words_radio.SENT.items()]
        choices: list[tuple[Any, Any]] = [
            ("", _("alle")),
            (REFUSED, _("alles, was nicht klappte")),
            (_("gehört"), heard),
            (_("zu senden"), sent),
        ]
        choose(self, "ergebnis", choices)

    def wanted(self) -> FrameFilter:
        """The filter; values that are no choice do not narrow."""
        self.is_valid()
        data = self.cleaned_data
        return FrameFilter(
            municipality=data.get("stadt") or "",
            device=hexadecimal(data.get("geraet") or ""),
            gateway=hexadecimal(data.get("gateway") or ""),
            outcome=data.get("ergebnis") or "",
            direction=data.get("richtung") or "",
            period=data.get("zeitraum") or "",
        )
