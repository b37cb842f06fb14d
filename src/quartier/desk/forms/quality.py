"""Filters of the findings, and the decision on them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from quartier.cities.rules import Actor
from quartier.desk import words
from quartier.desk.access import municipalities
from quartier.desk.forms.base import DeskForm, choose
from quartier.desk.forms.devices import municipality_choices
from quartier.desk.queries.quality import FindingFilter
from quartier.intake.models import QualityFinding
from quartier.twin.models import ObservedProperty


class FindingFilterForm(DeskForm):
    """They stand in the address."""

    stadt = forms.ChoiceField(label=_("Stadt"), required=False)
    pruefung = forms.ChoiceField(
        label=_("Prüfung"),
        required=False,
        choices=[("", _("alle")), *((code, check.title) for code, check in words.CHECKS.items())],
    )
    messgroesse = forms.ChoiceField(label=_("Messgröße"), required=False)
    zustand = forms.ChoiceField(
        label=_("Zustand"),
        required=False,
        choices=[
            ("", _("offen")),
            ("confirmed", _("bestätigt")),
            ("dismissed", _("verworfen")),
            ("alle", _("alle")),
        ],
    )

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choose(self, "stadt", municipality_choices(municipalities(actor)))
        name = "name_en" if (get_language() or "de").startswith("en") else "name_de"
        names = ObservedProperty.objects.order_by(name).values_list("slug", name)
        choose(self, "messgroesse", [("", _("alle")), *names])

    def wanted(self) -> FindingFilter:
        """The filter; values that are no choice do not narrow."""
        self.is_valid()
        data = self.cleaned_data
        state = data.get("zustand") or QualityFinding.State.OPEN
        return FindingFilter(
            municipality=data.get("stadt") or "",
            check=data.get("pruefung") or "",
            property=data.get("messgroesse") or "",
            state="" if state == "alle" else state,
        )


class DecisionForm(DeskForm):
    """Wrong or right, and why."""

    state = forms.ChoiceField(choices=QualityFinding.State.choices[1:], widget=forms.HiddenInput)
    note = forms.CharField(
        label=_("Notiz"),
        required=False,
        max_length=300,
        help_text=_("Zum Beispiel „Sensor am 3. Mai getauscht“. Steht beim Befund und im Protokoll."),
    )
