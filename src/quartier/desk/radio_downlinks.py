"""What became of a downlink, told as it is: queued, sent by which gateway, acknowledged, or why not."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from django.utils.formats import date_format, get_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from quartier.desk import words_radio
from quartier.lorawan.models import DeviceProfile, Downlink, Gateway, Session

# How the network notes for a group what it sent by: "2 of 3 gateways".
_SHARE: Final = re.compile(r"(\d+) of (\d+) gateways")
# For which ping slot a frame was made, and what the gateway said to it.
_SLOT: Final = re.compile(r"ping slot (\S+?)(?:; (.*))?", re.DOTALL)


def technical(downlink: Downlink) -> str:
    """What the network noted, unless a sentence tells it."""
    if (slot := _SLOT.fullmatch(downlink.detail)) is not None:
        return slot[2] or ""
    return "" if _SHARE.fullmatch(downlink.detail) else downlink.detail


def slot_time(moment: str) -> str:
    """When a ping slot began, to the millisecond, local; as it is where it is no time."""
    try:
        at = localtime(datetime.fromisoformat(moment))
    except ValueError:
        return moment
    return f"{at:%H:%M:%S}{get_format('DECIMAL_SEPARATOR')}{at.microsecond // 1000:03}"


def ping_every_s(session: Session, profile: DeviceProfile) -> int:
    """About how often a device of class B listens: as it has said, or as its profile says."""
    said = session.mac.get("ping_slot_periodicity")
    return int(1 << (profile.ping_slot_periodicity if said is None else said))


def sentences(downlink: Downlink) -> list[str]:
    """One sentence for each thing that is known, in order."""
    told = [_queued(downlink)]
    state = Downlink.State(downlink.state)
    if downlink.sent_at is not None:
        told.append(_sent(downlink))
        if (slot := _SLOT.fullmatch(downlink.detail)) is not None:
            told.append(
                _("Im Ping-Slot um %(at)s: Da hört das Gerät (Klasse B).") % {"at": slot_time(slot[1])}
            )
        if (share := _SHARE.fullmatch(downlink.detail)) is not None:
            told.append(
                _("Gateways, die sie gesendet haben: %(n)s von %(all)s.") % {"n": share[1], "all": share[2]}
            )
    elif downlink.attempts and downlink.reason:
        told.append(
            _("Bisher %(n)d Versuch(e). Zuletzt: %(why)s.")
            % {"n": downlink.attempts, "why": words_radio.failure(downlink.reason).title}
        )
        if (slot := _SLOT.fullmatch(downlink.detail)) is not None:
            told.append(_("Es ging um den Ping-Slot um %(at)s (Klasse B).") % {"at": slot_time(slot[1])})
        if state is Downlink.State.QUEUED and downlink.reason == "gps_unlocked":
            told.append(_("Sie geht mit, wenn das Gerät das nächste Mal sendet."))
    match state:
        case Downlink.State.SENT if downlink.confirmed:
            told.append(_("Das Gerät hat den Empfang noch nicht bestätigt."))
        case Downlink.State.SENT:
            told.append(
                _("Ob das Gerät sie gehört hat, ist nicht bekannt: Eine Bestätigung wurde nicht verlangt.")
            )
        case Downlink.State.ACKNOWLEDGED:
            told.append(_("Das Gerät hat den Empfang bestätigt."))
        case Downlink.State.FAILED:
            words = words_radio.failure(downlink.reason)
            told.append(_("Gescheitert: %(why)s.") % {"why": words.title})
            if words.advice:
                told.append(str(words.advice))
        case Downlink.State.CANCELLED:
            told.append(_("Zurückgezogen, bevor sie gesendet wurde."))
    return told


def _queued(downlink: Downlink) -> str:
    if downlink.state not in Downlink.OPEN:
        return _("Aufgegeben am %(at)s von %(who)s.") % {
            "at": _moment(downlink.created_at),
            "who": downlink.requested_by,
        }
    if downlink.state == Downlink.State.SENDING:
        return _("Wird gerade gesendet.")
    device = downlink.device
    if device is None or device.profile.device_class == "C":
        return _("Wartet auf die nächste Gelegenheit; das Gerät hört immer.")
    session = device.sessions.filter(pending=False).first()
    if device.profile.device_class == "B" and session is not None and session.mac.get("class_b_since"):
        return _("Wartet auf den nächsten Ping-Slot; das Gerät hört etwa alle %(n)d s (Klasse B).") % {
            "n": ping_every_s(session, device.profile)
        }
    return _("Wartet, bis das Gerät das nächste Mal sendet; vorher hört es nicht zu.")


def _sent(downlink: Downlink) -> str:
    values = {"at": _moment(downlink.sent_at), "gateway": gateway_name(downlink), "peer": downlink.peer}
    if downlink.peer:
        return _("Gesendet am %(at)s über das Partnernetz %(peer)s.") % values
    return _("Gesendet am %(at)s von %(gateway)s; das Gateway hat es bestätigt.") % values


def gateway_name(downlink: Downlink) -> str:
    """The gateway's name, or its EUI."""
    found = Gateway.objects.filter(eui=downlink.gateway).values_list("name", flat=True).first()
    return found or downlink.gateway or "–"


def _moment(moment: datetime | None) -> str:
    return date_format(localtime(moment), "SHORT_DATETIME_FORMAT") if moment is not None else "–"
