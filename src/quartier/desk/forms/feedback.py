"""Filters of the visitors' messages."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from quartier.desk import words
from quartier.desk.forms.base import DeskForm


class FeedbackFilterForm(DeskForm):
    """They stand in the address."""

    art = forms.ChoiceField(
        label=_("Worum es geht"), required=False, choices=[("", _("alles")), *words.FEEDBACK_KINDS.items()]
    )
    zustand = forms.ChoiceField(
        label=_("Zustand"),
        required=False,
        choices=[("", _("offen")), ("beantwortet", _("beantwortet")), ("alle", _("alle"))],
    )

    @property
    def kind(self) -> str:
        """The kind to narrow to, or nothing."""
        return self.cleaned_data.get("art") or "" if self.is_valid() else ""

    @property
    def state(self) -> str:
        """As :func:`quartier.desk.queries.feedback.filtered` takes it."""
        chosen = self.cleaned_data.get("zustand") or "" if self.is_valid() else ""
        return {"": "open", "beantwortet": "answered", "alle": ""}[chosen]
