"""Tags of the pages: parts (one template per component), icons, ages, addresses of static files."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import forms, template
from django.http import QueryDict
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from quartier.portal import assets

register = template.Library()


@register.simple_tag(takes_context=True)
def page_assets(context: dict[str, Any]) -> SafeString:
    """Styles and the script that every page loads, and the themes of the cities."""
    main = assets.entry("main")
    themes = assets.theme_files([city.theme for city in context.get("cities") or ()])
    styles = [*main.styles, *themes]
    return (
        format_html_join(
            "\n",
            '<link rel="preload" href="{}" as="font" type="font/woff2" crossorigin>',
            ((f,) for f in main.preloads),
        )
        + format_html_join("\n", '<link rel="stylesheet" href="{}">', ((style,) for style in styles))
        + format_html_join("\n", '<script type="module" src="{}"></script>', ((s,) for s in main.scripts))
    )


@register.simple_tag
def static_file(path: str) -> str:
    """Address of a plain static file."""
    return assets.static_url(path)


def _flat(context: template.Context) -> dict[str, Any]:
    return {str(name): value for name, value in context.flatten().items()}


@register.simple_block_tag(takes_context=True)
def part(context: template.Context, content: str, name: str, **values: Any) -> SafeString:
    """``{% part "card" title=… %}…{% endpart %}``: the component ``portal/parts/<name>.html`` around its content.

    A part sees its own arguments and nothing of the page, so that a page's ``title`` never becomes a card's.
    """
    shared = {key: context.get(key) for key in ("request", "csrf_token", "user")}
    flat = {**shared, **values, "content": mark_safe(content)}  # noqa: S308 (rendered by Django already)
    return mark_safe(render_to_string(f"portal/parts/{name}.html", flat))  # noqa: S308


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """A KERN icon. Decoration unless it has a label."""
    if label:
        return format_html(
            '<span class="kern-icon kern-icon--{}" role="img" aria-label="{}"></span>', name, label
        )
    return format_html('<span class="kern-icon kern-icon--{}" aria-hidden="true"></span>', name)


_KINDS = {
    forms.CheckboxSelectMultiple: "group",
    forms.RadioSelect: "group",
    forms.CheckboxInput: "check",
    forms.Select: "select",
}
_CLASSES = {
    "group": "kern-form-check__checkbox",
    "check": "kern-form-check__checkbox",
    "select": "kern-form-input__select",
    "text": "kern-form-input__input",
}


@register.simple_tag
def field(bound: forms.BoundField, **attributes: Any) -> SafeString:
    """``{% field form.name %}``: label, hint, input and errors of one field as KERN shows them; hidden ones bare.

    Further arguments become attributes of the input (underscores are written as hyphens).
    """
    widget = bound.field.widget
    if widget.is_hidden:
        return bound.as_widget()
    # RadioSelect is a kind of Select, so the first class that fits decides.
    kind = next((kind for cls, kind in _KINDS.items() if isinstance(widget, cls)), "text")
    several = isinstance(widget, forms.CheckboxSelectMultiple)  # which is a kind of RadioSelect
    css = "kern-form-check__radio" if kind == "group" and not several else _CLASSES[kind]
    if bound.errors and kind in ("text", "select"):
        css += f" {css}--error"
    attrs = {name.replace("_", "-"): value for name, value in attributes.items()}
    attrs["class"] = " ".join(filter(None, [css, widget.attrs.get("class", ""), attrs.pop("class", "")]))
    values: dict[str, Any] = {"field": bound, "kind": kind}
    if kind == "group":
        widget.attrs["class"] = attrs["class"]
        values["described_by"] = " ".join(
            f"{bound.auto_id}_{name}"
            for name, given in (("helptext", bound.help_text), ("error", bound.errors))
            if given
        )
    else:
        values["input"] = bound.as_widget(attrs=attrs)
    return mark_safe(render_to_string("portal/parts/field.html", values))  # noqa: S308 (rendered by Django already)


@register.simple_tag(takes_context=True)
def language_address(context: dict[str, Any], language: str) -> str:
    """The address of this page in another language."""
    request = context.get("request")
    query = request.GET.copy() if request is not None else QueryDict(mutable=True)
    query["lang"] = language
    return f"?{query.urlencode()}"


_DAYS_PER_MONTH = 365.2425 / 12


def age_in_words(seconds: float) -> str:
    """How long ago, in the words of the page's language: one number and one unit, rounded down."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return _("gerade eben")
    minutes = int(seconds // 60)
    if minutes < 60:
        return ngettext("vor %(n)d Minute", "vor %(n)d Minuten", minutes) % {"n": minutes}
    hours = minutes // 60
    if hours < 48:
        return ngettext("vor %(n)d Stunde", "vor %(n)d Stunden", hours) % {"n": hours}
    days = hours // 24
    if days < 60:
        return ngettext("vor %(n)d Tag", "vor %(n)d Tagen", days) % {"n": days}
    months = int(days / _DAYS_PER_MONTH)
    if months < 24:
        return ngettext("vor %(n)d Monat", "vor %(n)d Monaten", months) % {"n": months}
    years = months // 12
    return ngettext("vor %(n)d Jahr", "vor %(n)d Jahren", years) % {"n": years}


@register.simple_tag
def age(moment: datetime | None, now: datetime | None = None) -> SafeString:
    """``vor 3 Minuten`` as a time element that the page's script keeps right; the exact local time is its title."""
    if moment is None:
        return format_html('<span class="q-age">{}</span>', _("noch nie"))
    local = timezone.localtime(moment)
    seconds = ((now or timezone.now()) - moment).total_seconds()
    return format_html(
        '<time class="q-age" data-age datetime="{}" title="{}">{}</time>',
        moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        date_format(local, "DATETIME_FORMAT"),
        age_in_words(seconds),
    )


@register.simple_tag(takes_context=True)
def theme_part(context: template.Context, name: str) -> SafeString:
    """A part that a city may replace: ``portal/themes/<theme>/<name>.html``, else ``portal/parts/<name>.html``."""
    theme = context.get("theme")
    candidates = [f"portal/parts/{name}.html"]
    if theme:
        candidates.insert(0, f"portal/themes/{theme}/{name}.html")
    return mark_safe(render_to_string(candidates, _flat(context)))  # noqa: S308
