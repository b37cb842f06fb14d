"""Tags of the desk's pages: states, battery, signal, numbers in the page's language."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext_lazy, ngettext
from django.utils.translation import gettext as _

from quartier.desk import words
from quartier.desk.queries.devices import WEAK_BATTERY_PERCENT, WEAK_BATTERY_V
from quartier.intake.models import QualityFinding
from quartier.intake.parsers import Uplink
from quartier.sources.kinds import KINDS
from quartier.sources.models import Source
from quartier.twin.flags import is_bad
from quartier.twin.models import Device, ObservedProperty
from quartier.twin.units import display, display_number, display_value

register = template.Library()

# (kind of badge, word): the icon of the kind stands beside the word, so that colour is never alone.
_DEVICE_STATES: Final[dict[str, tuple[str, str | Promise]]] = {
    "live": ("success", gettext_lazy("sendet")),
    "silent": ("danger", gettext_lazy("verstummt")),
    "never": ("warning", gettext_lazy("noch nie gehört")),
    "off": ("info", gettext_lazy("abgeschaltet")),
}
_SOURCE_STATES: Final[dict[str, str]] = {
    Source.State.NEW: "info",
    Source.State.OK: "success",
    Source.State.WAITING: "danger",
    Source.State.OFF: "info",
}
_FINDING_STATES: Final[dict[str, str]] = {
    QualityFinding.State.OPEN: "warning",
    QualityFinding.State.CONFIRMED: "danger",
    QualityFinding.State.DISMISSED: "success",
}


def _language() -> str:
    return (get_language() or "de")[:2]


def badge(kind: str, text: object) -> SafeString:
    """A small KERN badge with the icon of its kind."""
    return format_html(
        '<span class="kern-badge kern-badge--{0} kern-badge--small"><span class="kern-icon kern-icon--{0}"'
        ' aria-hidden="true"></span><span class="kern-label kern-label--small">{1}</span></span>',
        kind,
        text,
    )


@register.simple_tag
def device_state(state: str) -> SafeString:
    """Badge of a device's state."""
    return badge(*_DEVICE_STATES.get(state, ("info", state)))


@register.simple_tag
def source_state(source: Source) -> SafeString:
    """Badge of a source's state; switched off wins over what was last known."""
    if not source.enabled:
        return badge("info", Source.State.OFF.label)
    return badge(_SOURCE_STATES.get(source.state, "info"), source.get_state_display())


@register.simple_tag
def finding_state(finding: QualityFinding) -> SafeString:
    """Badge of a finding's state."""
    return badge(_FINDING_STATES.get(finding.state, "info"), finding.get_state_display())


@register.simple_tag
def warning_badge(text: str) -> SafeString:
    """A badge that asks for attention."""
    return badge("warning", text)


@register.simple_tag
def battery(device: Device) -> SafeString | str:
    """Charge in percent, else voltage; weak ones say so."""
    if device.battery_percent is not None:
        text = display_value(device.battery_percent, "%", 0, _language())
        weak = device.battery_percent < WEAK_BATTERY_PERCENT
    elif device.battery_v is not None:
        text = display_value(device.battery_v, "V", 2, _language())
        weak = device.battery_v < WEAK_BATTERY_V
    else:
        return "–"
    return format_html("{} {}", text, badge("warning", _("schwach"))) if weak else text


@register.simple_tag
def signal(device: Device | Uplink) -> str:
    """Strength and ratio to noise of the last frame."""
    parts = []
    if device.rssi_dbm is not None:
        parts.append(f"{display_number(device.rssi_dbm, 0, _language())} dBm")
    if device.snr_db is not None:
        parts.append(f"{display_number(device.snr_db, 1, _language())} dB")
    return " / ".join(parts) or "–"


@register.filter
def duration(seconds: int | None) -> str:
    """A number of seconds in the largest unit that fits evenly."""
    if seconds is None:
        return "–"
    if seconds and seconds % 86_400 == 0:
        n = seconds // 86_400
        return ngettext("%(n)d Tag", "%(n)d Tage", n) % {"n": n}
    if seconds and seconds % 3600 == 0:
        n = seconds // 3600
        return ngettext("%(n)d Stunde", "%(n)d Stunden", n) % {"n": n}
    if seconds and seconds % 60 == 0:
        n = seconds // 60
        return ngettext("%(n)d Minute", "%(n)d Minuten", n) % {"n": n}
    return ngettext("%(n)d Sekunde", "%(n)d Sekunden", seconds) % {"n": seconds}


@register.filter
def short_duration(seconds: int | None) -> str:
    """A number of seconds for a narrow column: 10 min, 1 h, 2 d."""
    if seconds is None:
        return "–"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds % size == 0 and seconds:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


@register.filter
def name_of(observed_property: ObservedProperty) -> str:
    """Name of a property in the page's language."""
    return observed_property.name_en if _language() == "en" else observed_property.name_de


@register.simple_tag
def measured(value: float | None, observed_property: ObservedProperty) -> str:
    """A value of a property with its unit."""
    if value is None:
        return "–"
    return display_value(value, observed_property.unit, observed_property.decimals, _language())


@register.simple_tag
def difference(value: float | None, observed_property: ObservedProperty, signed: bool = True) -> str:
    """A (signed) difference of two values of a property; degrees Celsius differ by kelvin."""
    if value is None:
        return "–"
    unit = "K" if observed_property.unit == "Cel" else observed_property.unit
    text = display_value(value, unit, observed_property.decimals, _language())
    return f"+{text}" if value > 0 and signed else text


@register.filter
def unit_label(ucum: str) -> str:
    """A unit as people write it."""
    return display(ucum, _language()) if ucum else ""


@register.filter
def plain_number(value: float | int | None, decimals: int = 0) -> str:
    """A number in the page's language."""
    return "–" if value is None else display_number(float(value), decimals, _language())


@register.filter
def sample_text(value: object) -> str:
    """An example value, short: six digits say what a field is, more only take room."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:40]


@register.filter
def percent(share: float, decimals: int = 1) -> str:
    """A share of 0 to 1 in percent."""
    return display_value(share * 100, "%", decimals, _language())


@register.filter
def reason_title(code: str) -> str:
    """A reason of refusal in plain words."""
    return str(words.reason(code).title)


@register.filter
def fault(detail: str) -> str:
    """The detail of a refusal; the code of a fault of the codec in front of it in plain words."""
    code, colon, rest = detail.partition(": ")
    known = words.CODEC_FAULTS.get(code)
    return f"{known}: {rest}" if colon and known is not None else detail


@register.filter
def check_title(code: str) -> str:
    """A quality check in plain words."""
    return str(words.check(code).title)


@register.filter
def action_title(code: str) -> str:
    """An action of the audit log in plain words."""
    return str(words.ACTIONS.get(code, code))


@register.filter
def who(actor: str) -> str:
    """An actor of the audit log; what no person did in the page's language."""
    before, name = actor.partition("command line")[::2]
    if before or not name:
        return actor
    return _("Kommandozeile") + name


@register.filter
def kind_name(key: str) -> str:
    """The name of a kind of source."""
    kind = KINDS.get(key)
    return str(kind.name) if kind is not None else key


@register.filter
def pretty(value: Any) -> str:
    """JSON for reading."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


@register.filter
def is_flagged(flags: int) -> bool:
    """Whether a reading is left out of means."""
    return is_bad(flags)


@register.filter
def moment(iso: str) -> str:
    """A time of a JSON document, local."""
    return date_format(timezone.localtime(datetime.fromisoformat(iso)), "SHORT_DATETIME_FORMAT")
