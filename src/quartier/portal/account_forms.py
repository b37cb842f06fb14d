"""Forms of the account pages."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Person
from quartier.cities.rules import SCOPES, Actor
from quartier.portal.words import RIGHTS


class NameForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for the type checker only
    """How somebody wants to be called."""

    class Meta:
        model = Person
        fields = ("name",)
        labels = {"name": _("Ihr Name")}
        help_texts = {"name": _("So sprechen wir Sie an, und so stehen Sie im Protokoll Ihrer Änderungen.")}


class TokenForm(forms.Form):
    """A new access key. Offers only rights that the person has herself."""

    name = forms.CharField(
        label=_("Bezeichnung"),
        max_length=100,
        help_text=_("Woran Sie den Schlüssel später erkennen, etwa „Sensor Balkon“."),
    )
    scopes = forms.MultipleChoiceField(
        label=_("Was darf, wer den Schlüssel hat?"), widget=forms.CheckboxSelectMultiple
    )
    days = forms.TypedChoiceField(
        label=_("Wie lange gilt er?"),
        coerce=int,
        initial="365",
        choices=[("30", _("30 Tage")), ("365", _("ein Jahr")), ("0", _("bis Sie ihn widerrufen"))],
        widget=forms.RadioSelect,
    )

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = [(scope, RIGHTS.get(scope, scope)) for scope in SCOPES if actor.may(scope)]
        scopes = self.fields["scopes"]
        assert isinstance(scopes, forms.MultipleChoiceField)  # noqa: S101
        scopes.choices = offered
        if len(offered) == 1:
            scopes.initial = [offered[0][0]]
