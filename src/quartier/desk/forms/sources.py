"""The form of a source, made from the description of its kind.

Credentials can be written and never read: an empty field leaves what is stored.
"""

from __future__ import annotations

import json
from typing import Any, Final

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.desk.access import SOURCES, within
from quartier.desk.forms.base import DeskForm, offer
from quartier.sources.kinds import Kind, Setting
from quartier.sources.models import Source

SETTING: Final = "setting-"
CREDENTIAL: Final = "credential-"


def _condition(kind: Kind, setting: Setting) -> Any:
    """When a setting counts, in words; empty if always."""
    if setting.only_if is None:
        return ""
    name, value = setting.only_if
    other = next((one for one in kind.settings if one.name == name), None)
    if other is None:
        return ""
    label = dict(other.choices).get(value, value)
    return format_lazy(_("Nur bei „{other}: {value}“."), other=other.label, value=label)


def _field(kind: Kind, setting: Setting, *, stored: bool) -> forms.Field:
    help_text = (
        format_lazy("{} {}", _condition(kind, setting), setting.help) if setting.only_if else setting.help
    )
    # What counts only beside another setting cannot be demanded here; the rule of the source says what is missing.
    required = (setting.required and setting.only_if is None and not stored) or setting.type == "choice"
    common: dict[str, Any] = {"label": setting.label, "required": required, "help_text": help_text}
    match setting.type:
        case "boolean":
            return forms.BooleanField(**{**common, "required": False})
        case "choice":
            return forms.ChoiceField(choices=setting.choices, **common)
        case "integer" | "number":
            step = "1" if setting.type == "integer" else "any"
            return forms.CharField(
                widget=forms.NumberInput(
                    attrs={"step": step, "min": setting.minimum, "max": setting.maximum}
                ),
                **common,
            )
        case "json":
            return forms.JSONField(
                widget=forms.Textarea(
                    attrs={"rows": 10, "class": "kern-form-input__input q-code", "spellcheck": "false"}
                ),
                encoder=_Indented,
                **common,
            )
        case "secret":
            if stored:
                common["help_text"] = format_lazy(
                    "{} {}", setting.help, _("Ist hinterlegt. Leer lassen: bleibt so.")
                )
            return forms.CharField(
                strip=False,
                max_length=2000,
                widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}, render_value=False),
                **common,
            )
        case "list":
            return forms.CharField(max_length=20_000, widget=forms.Textarea(attrs={"rows": 2}), **common)
        case _:
            return forms.CharField(max_length=500, **common)


class _Indented(json.JSONEncoder):
    """JSON for editing."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "indent": 2, "ensure_ascii": False})


class SourceForm(DeskForm):
    """Name, settings and credentials of a source of one kind."""

    name = forms.CharField(label=_("Name"), max_length=200)

    def __init__(self, kind: Kind, source: Source | None, *args: Any, **kwargs: Any) -> None:
        self.kind = kind
        initial: dict[str, Any] = {one.name: one.default for one in kind.settings if one.default is not None}
        stored: set[str] = set()
        if source is not None:
            initial |= source.settings
            stored = set(source.credentials)
        shown = {f"{SETTING}{name}": _shown(value) for name, value in initial.items()}
        if source is not None:
            shown["name"] = source.name
        kwargs["initial"] = {**shown, **kwargs.get("initial", {})}
        super().__init__(*args, **kwargs)
        for setting in kind.settings:
            self.fields[f"{SETTING}{setting.name}"] = _field(kind, setting, stored=False)
        for setting in kind.credentials:
            self.fields[f"{CREDENTIAL}{setting.name}"] = _field(kind, setting, stored=setting.name in stored)
        self.dress()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as entered; those that do not count are left out."""
        given = {one.name: self.cleaned_data.get(f"{SETTING}{one.name}") for one in self.kind.settings}
        counting = {one.name for one in self.kind.settings if one.applies(given)}
        return {name: value for name, value in given.items() if name in counting and value not in (None, "")}

    @property
    def credentials(self) -> dict[str, str]:
        """The credentials that were entered."""
        given = {one.name: self.cleaned_data.get(f"{CREDENTIAL}{one.name}") for one in self.kind.credentials}
        return {name: value for name, value in given.items() if value}

    def refuse(self, error: ValueError) -> None:
        """Show what the rule refused at the setting or credential that it names."""
        name = str(getattr(error, "field", ""))
        message = str(getattr(error, "message", error))
        for candidate in (f"{SETTING}{name}", f"{CREDENTIAL}{name}", name):
            if candidate in self.fields:
                self.add_error(candidate, message)
                return
        self.add_error(None, f"{name}: {message}" if name else message)


def _shown(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


class NewSourceForm(SourceForm):
    """A new source: its city and key cannot be changed later."""

    municipality = forms.ModelChoiceField(
        label=_("Stadt"), queryset=Municipality.objects.none(), empty_label=None
    )
    key = forms.SlugField(
        label=_("Kennung"), max_length=60, help_text=_("Kurz und fest, zum Beispiel stadtwerke-lorawan.")
    )
    field_order = ["municipality", "key", "name"]

    def __init__(self, actor: Actor, kind: Kind, *args: Any, **kwargs: Any) -> None:
        super().__init__(kind, None, *args, **kwargs)
        offer(self, "municipality", Municipality.objects.filter(within(actor, SOURCES, "pk")))
