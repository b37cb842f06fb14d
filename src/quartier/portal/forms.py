"""Forms of the portal."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Feedback, Municipality


class FeedbackForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for the type checker only
    """A visitor's message. The hidden ``page`` says what it is about."""

    kind = forms.ChoiceField(
        label=_("Worum geht es?"),
        choices=[
            ("general", _("Allgemeines")),
            ("error", _("Ein falscher Wert oder Fehler")),
            ("barrier", _("Eine Barriere")),
            ("idea", _("Eine Idee")),
        ],
        widget=forms.RadioSelect,
    )
    municipality = forms.ModelChoiceField(
        label=_("Welche Stadt?"),
        queryset=Municipality.objects.all(),
        required=False,
        empty_label=_("beide oder egal"),
    )

    class Meta:
        model = Feedback
        fields = ("kind", "message", "municipality", "email", "page")
        labels = {"message": _("Ihre Nachricht"), "email": _("Ihre E-Mail-Adresse")}
        help_texts = {"email": _("Nur wenn Sie eine Antwort möchten.")}
        widgets = {"message": forms.Textarea, "page": forms.HiddenInput}

    def clean_page(self) -> str:
        """A path on this site; anything else is dropped, it is shown to staff as a link."""
        page: str = self.cleaned_data["page"]
        return page if page.startswith("/") and not page.startswith("//") else ""

    def clean_message(self) -> str:
        """At least a few letters."""
        message: str = self.cleaned_data["message"].strip()
        if len(message) < 3:
            raise forms.ValidationError(_("Bitte schreiben Sie ein paar Worte."))
        return message


def first_values(query: dict[str, Any], form: type[FeedbackForm] = FeedbackForm) -> dict[str, Any]:
    """What the address already says: ``?page=/orte/&kind=barrier``."""
    kinds = {value for value, _label in form.base_fields["kind"].choices}  # type: ignore[attr-defined]
    kind = query.get("kind", "general")
    return {"kind": kind if kind in kinds else "general", "page": str(query.get("page", ""))[:300]}
