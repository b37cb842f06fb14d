"""Forms for roles, the audit log and data sets."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality, Person, Role
from quartier.cities.rules import Actor
from quartier.desk import words
from quartier.desk.access import PEOPLE, everywhere, municipalities
from quartier.desk.forms.base import DeskForm, choose
from quartier.desk.queries import people

ALL_CITIES: Final = "*"


class GrantForm(DeskForm):
    """A role for somebody who has an account."""

    email = forms.EmailField(
        label=_("E-Mail-Adresse"), help_text=_("Die Person muss sich schon einmal angemeldet haben.")
    )
    role = forms.ChoiceField(label=_("Rolle"), choices=Role.choices)
    municipality = forms.ChoiceField(label=_("Stadt"))

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices: list[tuple[str, Any]] = [(one.slug, one.name) for one in municipalities(actor, PEOPLE)]
        if everywhere(actor, PEOPLE):
            choices.append((ALL_CITIES, _("alle Städte")))
        choose(self, "municipality", choices)

    def clean_email(self) -> Person:
        """The person with this address."""
        person = Person.objects.filter(email=self.cleaned_data["email"].lower(), is_active=True).first()
        if person is None:
            raise forms.ValidationError(_("Zu dieser Adresse gibt es kein Konto."))
        return person

    def clean_municipality(self) -> Municipality | None:
        """The city, or None for all."""
        slug = self.cleaned_data["municipality"]
        return None if slug == ALL_CITIES else Municipality.objects.get(slug=slug)


class PeopleFilterForm(DeskForm):
    """Search among people."""

    q = forms.CharField(label=_("Name oder E-Mail-Adresse"), required=False, max_length=100)


def _day_field(label: Any) -> forms.DateField:
    return forms.DateField(
        label=label,
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        input_formats=["%Y-%m-%d", "%d.%m.%Y"],
    )


class AuditFilterForm(DeskForm):
    """Filters of the audit log; they stand in the address."""

    q = forms.CharField(label=_("Wer oder was"), required=False, max_length=100)
    aktion = forms.ChoiceField(label=_("Was geschah"), required=False)
    von = _day_field(_("von"))
    bis = _day_field(_("bis"))

    def __init__(self, actor: Actor, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = [(code, words.ACTIONS.get(code, code)) for code in people.audit_actions(actor)]
        choose(self, "aktion", [("", _("alles")), *known])

    def wanted(self) -> people.AuditFilter:
        """The filter; values that are no choice do not narrow."""
        self.is_valid()
        data = self.cleaned_data
        return people.AuditFilter(
            action=data.get("aktion") or "",
            text=(data.get("q") or "").strip(),
            since=data.get("von"),
            until=data.get("bis"),
        )


class DatasetForm(DeskForm):
    """What a data set says of itself, and under which licence it may be used."""

    title_de = forms.CharField(label=_("Titel (deutsch)"), max_length=200)
    title_en = forms.CharField(label=_("Titel (englisch)"), max_length=200)
    description_de = forms.CharField(
        label=_("Beschreibung (deutsch)"),
        required=False,
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 4}),
    )
    description_en = forms.CharField(
        label=_("Beschreibung (englisch)"),
        required=False,
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 4}),
    )
    licence = forms.CharField(label=_("Lizenz"), max_length=120)
    licence_url = forms.URLField(label=_("Adresse der Lizenz"), assume_scheme="https")
    attribution = forms.CharField(
        label=_("Quellenangabe"),
        required=False,
        max_length=300,
        help_text=_("So soll die Quelle genannt werden."),
    )
    public = forms.BooleanField(
        label=_("öffentlich"),
        required=False,
        help_text=_("Ohne Haken sehen nur Beschäftigte der Stadt diese Daten; auch Downloads enden dann."),
    )
