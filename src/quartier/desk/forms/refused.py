"""Filters of the list of refused messages."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from quartier.cities.rules import Actor
from quartier.desk import words
from quartier.desk.access import MESSAGES, municipalities
from quartier.desk.forms.base import DeskForm, choose
from quartier.desk.forms.devices import municipality_choices
from quartier.desk.queries import refused


class RefusedFilterForm(DeskForm):
    """They stand in the address, so that a list can be passed on to a colleague."""

    stadt = forms.ChoiceField(label=_("Stadt"), required=False)
    quelle = forms.ChoiceField(label=_("Quelle"), required=False)
    grund = forms.CharField(label=_("Grund"), required=False, max_length=40)
    geraet = forms.CharField(label=_("Kennung des Geräts"), required=False, max_length=120)
    zustand = forms.ChoiceField(
        label=_("Zustand"),
        required=False,
        choices=[("", _("offen")), ("erledigt", _("erledigt")), ("alle", _("alle"))],
    )

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choose(self, "stadt", municipality_choices(municipalities(actor, MESSAGES)))
        choose(self, "quelle", [("", _("alle")), *((key, key) for key in refused.source_keys(actor))])
        codes = list(words.REASONS)
        given = str(self.data.get("grund", ""))[:40]
        if given and given not in codes:
            codes.append(given)
        self.fields["grund"].widget = forms.Select(
            attrs={"class": "kern-form-input__select"},
            choices=[("", _("alle")), *((code, words.reason(code).title) for code in codes)],
        )

    def wanted(self) -> refused.RefusedFilter:
        """The filter; values that are no choice do not narrow."""
        self.is_valid()
        data = self.cleaned_data
        return refused.RefusedFilter(
            municipality=data.get("stadt") or "",
            source=data.get("quelle") or "",
            reason=data.get("grund") or "",
            device=(data.get("geraet") or "").strip().lower(),
            state={"": "open", "erledigt": "resolved", "alle": ""}.get(data.get("zustand") or "", "open"),
        )
