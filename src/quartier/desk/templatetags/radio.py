"""Tags of the radio network's pages: states of gateways and downlinks, signal, addresses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext_lazy, ngettext
from django.utils.translation import gettext as _

from quartier.desk import radio_downlinks, radio_frames, words, words_radio
from quartier.desk.queries.radio.gateways import is_online
from quartier.desk.templatetags.desk import badge
from quartier.lorawan.domain.stations import Roll
from quartier.lorawan.models import DeviceProfile, Downlink, Gateway, Session
from quartier.lorawan.models_roaming import RoamingAgreement
from quartier.lorawan.models_stations import StationDelivery, StationUpdate
from quartier.lorawan.updates import MOST_ATTEMPTS, UpdateState
from quartier.twin.units import display_number

register = template.Library()

_ROLLS: Final = {
    Roll.NEVER: ("info", gettext_lazy("kein Wechsel im Gang")),
    Roll.WAITING: ("warning", gettext_lazy("wartet auf die Station")),
    Roll.GIVEN: ("warning", gettext_lazy("noch nicht benutzt")),
    Roll.DONE: ("success", gettext_lazy("gewechselt")),
}

_DOWNLINK_STATES: Final = {
    Downlink.State.QUEUED: "info",
    Downlink.State.SENDING: "info",
    Downlink.State.SENT: "success",
    Downlink.State.ACKNOWLEDGED: "success",
    Downlink.State.FAILED: "danger",
    Downlink.State.CANCELLED: "info",
}


@register.simple_tag
def radio_badge(kind: str, text: str) -> SafeString:
    """A badge of any kind."""
    return badge(kind, text)


@register.simple_tag
def gateway_state(gateway: Gateway) -> SafeString:
    """Badge of a gateway's state; switched off wins over what was last known."""
    if gateway.disabled:
        return badge("info", _("abgeschaltet"))
    if gateway.last_seen_at is None:
        return badge("warning", _("noch nie gehört"))
    return badge("success", _("verbunden")) if is_online(gateway) else badge("danger", _("nicht verbunden"))


@register.simple_tag
def class_b(session: Session, profile: DeviceProfile) -> str:
    """Since when a device opens ping slots, and how often."""
    since, seconds = session.mac.get("class_b_since"), radio_downlinks.ping_every_s(session, profile)
    if not since:
        return _("zurzeit nicht; was gesendet werden soll, wartet, bis das Gerät spricht")
    at = date_format(timezone.localtime(datetime.fromtimestamp(since, UTC)), "SHORT_DATETIME_FORMAT")
    return ngettext("seit %(at)s, hört jede Sekunde", "seit %(at)s, hört alle %(n)d s", seconds) % {
        "at": at,
        "n": seconds,
    }


@register.simple_tag
def downlink_state(downlink: Downlink) -> SafeString:
    """Badge of a downlink's state."""
    return badge(_DOWNLINK_STATES.get(Downlink.State(downlink.state), "info"), downlink.get_state_display())


@register.simple_tag
def roll_state(roll: Roll) -> SafeString:
    """Badge: how far a new token of a Basics Station has come."""
    kind, text = _ROLLS[roll]
    return badge(kind, str(text))


@register.filter
def station_part(name: str) -> str:
    """What a Basics Station was given, in words."""
    return str(words_radio.STATION_PARTS.get(name, name))


@register.simple_tag
def update_state(state: UpdateState) -> SafeString:
    """Badge: how far a software update is at a Basics Station."""
    kind, told = words_radio.UPDATE_STATES[state]
    return badge(kind, str(told.title))


@register.filter
def update_advice(state: UpdateState) -> str:
    """What that means, and what to do."""
    return str(words_radio.UPDATE_STATES[state][1].advice)


@register.simple_tag
def update_active(update: StationUpdate) -> SafeString:
    """Badge: whether an update is offered."""
    return badge("success", _("aktiv")) if update.active else badge("info", _("nicht aktiv"))


@register.simple_tag
def delivery_result(delivery: StationDelivery) -> SafeString | str:
    """Badge: what became of an update at a Station that was given it."""
    if delivery.done_at is not None:
        return update_state(UpdateState.DONE)
    if delivery.begun_at is None:
        return "–"
    if delivery.delivered_at is None or delivery.delivered_at < delivery.begun_at:
        stopped = delivery.attempts >= MOST_ATTEMPTS
        return update_state(UpdateState.STOPPED if stopped else UpdateState.BROKEN)
    if delivery.missed_at is None or delivery.missed_at < delivery.delivered_at:
        return update_state(UpdateState.GIVEN)
    return update_state(UpdateState.STOPPED if delivery.attempts >= MOST_ATTEMPTS else UpdateState.MISSED)


@register.filter
def failure_words(code: str) -> words.Words:
    """Why a downlink failed, in words."""
    return words_radio.failure(code)


@register.filter
def address(number: int | None) -> str:
    """A DevAddr as it is printed."""
    return f"{number:08x}" if number is not None else "–"


@register.filter
def eui(value: bytes | memoryview | None) -> str:
    """An EUI that is kept as bytes."""
    return bytes(value).hex() if value is not None else ""


@register.simple_tag
def gateway_link(value: bytes | memoryview, peer: str) -> SafeString | str:
    """A gateway by its name, linked; a peer's by the peer's key, because its EUI says nothing to anybody here."""
    number = bytes(value).hex()
    if peer:
        return format_html(
            '{}<span class="desk-detail desk-mono">{}</span>', _("Partnernetz %s") % peer, number
        )
    name = Gateway.objects.filter(eui=number).values_list("name", flat=True).first()
    if name is None:
        return number
    return format_html('<a href="{}">{}</a>', reverse("desk:radio-gateway", args=[number]), name)


@register.filter
def megahertz(frequency_hz: int | str) -> str:
    """A frequency."""
    return radio_frames.frequency_text(int(frequency_hz))


@register.filter
def sub_band(name: str) -> str:
    """A piece of the band by its limits in MHz, such as 868–868.6."""
    point = "." if (get_language() or "de").startswith("en") else ","
    return f"{name.replace('.', point)}\u00a0MHz"


@register.filter
def rate(data_rate: int | str | None) -> str:
    """A data rate; a session that has not told it has none (templates make that an empty text)."""
    return radio_frames.rate_text(data_rate) if isinstance(data_rate, int) else "–"


@register.filter
def in_hex(payload: bytes | memoryview) -> str:
    """Bytes as two digits each."""
    return bytes(payload).hex(" ")


@register.filter
def decibel(value: float | None) -> str:
    """A ratio, with one decimal."""
    return "–" if value is None else f"{display_number(value, 1, (get_language() or 'de')[:2])}\u00a0dB"


@register.filter
def data_class(name: str) -> str:
    """What of a frame is shared, in words."""
    return str(words_radio.DATA_CLASSES.get(name, name))


@register.filter
def ledger_result(code: str) -> str:
    """Why a frame does not count, in words."""
    return words_radio.ledger_result(code)


@register.filter
def shared_classes(names: str) -> str:
    """What of a frame went to the peer, as the ledger lists it."""
    return ", ".join(data_class(name) for name in names.replace(",", " ").split()) or "–"


@register.simple_tag
def agreement_state(agreement: RoamingAgreement) -> SafeString:
    """Badge: in force, not signed, not yet, or over."""
    now: datetime = timezone.now()
    if agreement.valid_until is not None and agreement.valid_until <= now:
        return badge("info", _("beendet"))
    if agreement.signed_here_at is None or agreement.signed_there_at is None:
        return badge("warning", _("noch nicht von beiden unterschrieben"))
    return (
        badge("info", _("gilt noch nicht")) if agreement.valid_from > now else badge("success", _("in Kraft"))
    )
