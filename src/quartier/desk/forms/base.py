"""Forms of the desk: KERN markup from one template per field, errors tied to their fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.forms.renderers import DjangoTemplates
from django.utils.translation import gettext_lazy as _

from quartier.twin.models import Thing

# What browsers send for a local date and time, and what people type where the browser has no picker.
MOMENT_FORMATS = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M"]


def moment_input() -> forms.DateTimeInput:
    """A field for a local date and time."""
    return forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")


_CHECKS = (forms.CheckboxInput, forms.RadioSelect, forms.CheckboxSelectMultiple)


class DeskRenderer(DjangoTemplates):
    """Renders a field with our template; widgets with Django's."""

    field_template_name = "desk/parts/field.html"


class DeskForm(forms.Form):
    """A form whose widgets carry KERN's classes; wrong fields say so to the eye and to a screen reader."""

    # One instance for all forms, because templates are cached below it.
    default_renderer = DeskRenderer()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dress()

    def dress(self) -> None:
        """Give each widget the class of its kind; called again after fields were added."""
        for field in self.fields.values():
            widget = field.widget
            if isinstance(widget, forms.Select) and not isinstance(widget, forms.RadioSelect):
                widget.attrs.setdefault("class", "kern-form-input__select")
            elif isinstance(widget, forms.CheckboxInput):
                widget.attrs.setdefault("class", "kern-form-check__checkbox")
            elif not isinstance(widget, _CHECKS):
                widget.attrs.setdefault("class", "kern-form-input__input")

    def refuse(self, error: ValueError) -> None:
        """Show what a rule refused at its field, or above the form where it names none."""
        name = getattr(error, "field", "") or None
        self.add_error(name if name in self.fields else None, str(error))


class ThingField(forms.CharField):
    """A place by its key, with the known ones proposed: a city has more places than a list box can show."""

    SUGGESTIONS = 300

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 200)
        super().__init__(**kwargs)
        self.things: QuerySet[Thing] = Thing.objects.none()

    @property
    def suggestions(self) -> list[tuple[str, str]]:
        """(key, name) for the data list, in order of names."""
        return list(self.things.order_by("name", "pk").values_list("key", "name")[: self.SUGGESTIONS])

    def clean(self, value: Any) -> Thing | None:
        """The place with this key, or the only one with this name."""
        text = super().clean(value)
        if not text:
            return None
        found = list(self.things.filter(key=text)[:2]) or list(self.things.filter(name__iexact=text)[:2])
        if not found:
            raise forms.ValidationError(
                _("Es gibt keinen Ort mit der Kennung „%(key)s“."), params={"key": text}
            )
        if len(found) > 1:
            raise forms.ValidationError(_("Mehrere Orte heißen so; bitte die Kennung eingeben."))
        return found[0]


def choose(form: forms.Form, name: str, choices: Sequence[tuple[str, Any]]) -> None:
    """Give the choices of a field that depend on who asks."""
    field = form.fields[name]
    if not isinstance(field, forms.ChoiceField):
        raise TypeError(f"{name} has no choices")
    field.choices = choices


def offer(form: forms.Form, name: str, rows: QuerySet[Any]) -> None:
    """Give the rows that a field chooses among."""
    field = form.fields[name]
    if not isinstance(field, forms.ModelChoiceField):
        raise TypeError(f"{name} chooses among no rows")
    field.queryset = rows


def only_own_cities(form: forms.Form, name: str, *, new: bool) -> None:
    """Where ``name`` chooses a city or all of them: for those who may not change what is for all cities."""
    field = form.fields[name]
    field.required, field.help_text = True, ""
    if new and isinstance(field, forms.ModelChoiceField):
        field.empty_label = None


def offer_things(form: forms.Form, name: str, things: QuerySet[Thing]) -> None:
    """Give the places that a field chooses among; the page holds them as ``<datalist id="things">``."""
    field = form.fields[name]
    if not isinstance(field, ThingField):
        raise TypeError(f"{name} chooses no place")
    field.things = things
    field.widget.attrs.update({"list": "things", "autocomplete": "off"})
