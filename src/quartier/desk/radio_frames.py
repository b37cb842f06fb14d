"""A line of the frame log, told in sentences: from the database, or as it comes over the bus.

Both ways give the same :class:`Told`, which one template shows, so that a line that appears by itself looks like one
that was loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _

from quartier.cities.rules import Actor
from quartier.desk import words_radio
from quartier.desk.queries.radio import frames as queries
from quartier.desk.queries.radio.frames import KnownGateway
from quartier.desk.radio_downlinks import slot_time
from quartier.lorawan.frames.errors import FrameError
from quartier.lorawan.frames.regions import EU868
from quartier.lorawan.models import Frame
from quartier.lorawan.network.adr import FLOOR_DB
from quartier.lorawan.store.frames import Heard, Line
from quartier.twin.units import display_number

_decoder: Final = msgspec.json.Decoder(list[Line])


@dataclass(frozen=True, slots=True)
class HeardBy:
    """A gateway of a frame."""

    label: str
    pk: int | None
    peer: str
    signal: str


@dataclass(slots=True)
class Told:
    """Everything that the page says about one frame."""

    at: datetime
    direction: str
    kind: str
    badge: str
    title: str
    advice: str
    dev_eui: str
    dev_addr: str
    device_pk: int | None
    device_name: str
    facts: list[str]
    gateways: list[HeardBy]
    commands: list[tuple[str, str]]
    notes: list[str]
    technical: str
    answers: list[Told] = field(default_factory=list)
    pk: int = 0


def rate_text(data_rate: int) -> str:
    """``DR5 (SF7BW125)``."""
    try:
        return EU868.data_rate_name(data_rate)
    except FrameError:
        return f"DR{data_rate}"


def frequency_text(frequency_hz: int) -> str:
    """In MHz as people write it."""
    return f"{_number(frequency_hz / 1e6, None)}\u00a0MHz"


def floor_db(data_rate: int) -> float:
    """The weakest signal-to-noise ratio at which a frame of this data rate is understood."""
    return FLOOR_DB[min(data_rate, len(FLOOR_DB) - 1)]


def _number(value: float, decimals: int | None) -> str:
    return display_number(value, decimals, (get_language() or "de")[:2])


def told(actor: Actor, frames: Sequence[Frame], *, answers: bool = True) -> list[Told]:
    """The lines of a page."""
    follow = queries.answers(frames) if answers else {}
    # What stands below its uplink is not told a second time.
    below = {one.pk for some in follow.values() for one in some}
    frames = [one for one in frames if one.pk not in below]
    everything = [*frames, *(one for some in follow.values() for one in some)]
    gateways, devices = _known(actor, everything)
    result = []
    for one in frames:
        line = _tell(_line(one), gateways, devices)
        line.pk = one.pk
        line.answers = [_tell(_line(down), gateways, devices) for down in follow.get(one.pk, ())]
        result.append(line)
    return result


def told_live(actor: Actor, data: bytes, wanted: queries.FrameFilter) -> list[Told]:
    """The lines of a message of the bus that ``wanted`` lets through."""
    lines = [
        one
        for one in _decoder.decode(data)
        if wanted.fits(
            dev_eui=one.dev_eui,
            dev_addr=one.dev_addr,
            gateways=[g.eui for g in one.gateways],
            outcome=one.outcome,
            direction=one.direction,
        )
    ]
    gateways = queries.known_gateways(actor, [g.eui for one in lines for g in one.gateways])
    devices = queries.known_devices(actor, [one.device_id for one in lines if one.device_id is not None])
    return [_tell(one, gateways, devices) for one in lines]


def _known(actor: Actor, frames: Iterable[Frame]) -> tuple[Mapping[str, KnownGateway], Mapping[int, str]]:
    frames = list(frames)
    euis = [str(g.get("eui", "")) for one in frames for g in one.gateways]
    ids = [one.device_id for one in frames if one.device_id is not None]
    return queries.known_gateways(actor, euis), queries.known_devices(actor, ids)


def _line(frame: Frame) -> Line:
    return Line(
        at=frame.at,
        municipality="",
        direction=frame.direction,
        kind=frame.kind,
        outcome=frame.outcome,
        size=frame.size,
        data_rate=frame.data_rate,
        frequency_hz=frame.frequency_hz,
        gateways=msgspec.convert(frame.gateways, list[Heard]),
        device_id=frame.device_id,
        dev_eui=frame.dev_eui,
        dev_addr=f"{frame.dev_addr:08x}" if frame.dev_addr is not None else "",
        counter=frame.counter,
        port=frame.port,
        detail=frame.detail,
    )


def _tell(line: Line, gateways: Mapping[str, KnownGateway], devices: Mapping[int, str]) -> Told:
    badge, words = words_radio.outcome(line.direction, line.outcome)
    heard = [_heard(one, gateways) for one in line.gateways]
    known = line.device_id is not None and line.device_id in devices
    return Told(
        at=line.at,
        direction=line.direction,
        kind=str(words_radio.KINDS.get(line.kind, line.kind)),
        badge=badge,
        title=str(words.title),
        advice=_advice(line) or str(words.advice),
        dev_eui=line.dev_eui or str(line.detail.get("dev_eui", "")),
        dev_addr=line.dev_addr,
        device_pk=line.device_id if known else None,
        device_name=devices.get(line.device_id, "") if line.device_id is not None else "",
        facts=_facts(line),
        gateways=heard,
        commands=[(name, str(words_radio.command(name))) for name in line.detail.get("commands", ())],
        notes=_notes(line),
        technical=_technical(line),
    )


def _advice(line: Line) -> str:
    """What "accepted" means for frames that bring no readings; empty for the others."""
    if line.outcome != "accepted":
        return ""
    if line.kind in ("join_request", "rejoin_request"):
        return _("Der Schlüssel stimmt; das Gerät bekommt eine neue Funksitzung.")
    if not line.port:
        return _("Prüfsumme und Zähler stimmen; Nutzdaten trägt das Paket keine.")
    return ""


def _heard(one: Heard, gateways: Mapping[str, KnownGateway]) -> HeardBy:
    known = gateways.get(one.eui)
    label = one.eui if known is None else known.label or _("privates Gateway")
    signal = ""
    if one.rssi_dbm is not None and one.snr_db is not None:
        signal = f"{_number(one.rssi_dbm, 0)}\u00a0dBm, {_number(one.snr_db, 1)}\u00a0dB"
    return HeardBy(label, known.pk if known else None, one.peer, signal)


def _facts(line: Line) -> list[str]:
    facts = []
    if line.frequency_hz:
        facts.append(f"{rate_text(line.data_rate)}, {frequency_text(line.frequency_hz)}")
    if line.size:
        facts.append(ngettext("%(n)d Byte", "%(n)d Bytes", line.size) % {"n": line.size})
    if line.counter is not None:
        facts.append(_("Zähler %(n)d") % {"n": line.counter})
    if line.port is not None:
        facts.append(_("nur Funkbefehle") if line.port == 0 else _("Port %(n)d") % {"n": line.port})
    return facts


def _notes(line: Line) -> list[str]:
    detail, notes = line.detail, []
    if line.direction == "up" and detail.get("ack"):
        notes.append(_("Das Gerät bestätigt unsere letzte Nachricht."))
    elif detail.get("ack"):
        notes.append(_("Bestätigt die Nachricht des Geräts."))
    if "downlink" in detail:
        notes.append(_("Trägt die aufgegebene Nachricht Nr. %(n)s.") % {"n": detail["downlink"]})
    if (
        line.direction == "down"
        and isinstance(window := detail.get("window"), int)
        and detail.get("class") not in ("B", "C")
    ):
        notes.append(_("Im Empfangsfenster RX%(n)d.") % {"n": window + 1})
    if detail.get("class") == "C":
        notes.append(_("Das Gerät hört immer (Klasse C)."))
    if (slot := detail.get("ping_slot")) is not None:
        notes.append(_("Im Ping-Slot um %(at)s (Klasse B).") % {"at": slot_time(str(slot))})
    elif detail.get("class") == "B":
        notes.append(_("Das Gerät hört zurzeit zu festen Zeiten (Klasse B)."))
    if detail.get("unknown_class") == "B":
        notes.append(_("Das Gerät sagt, dass es Klasse B kann; sein Geräteprofil sieht sie nicht vor."))
    if (sharing := detail.get("sharing_dev_addr")) is not None:
        notes.append(
            _("%(n)s unserer Geräte haben diese Adresse; der Schlüssel entscheidet.") % {"n": sharing}
        )
    if detail.get("adr_refused"):
        notes.append(_("Das Gerät lehnt die vorgeschlagene Datenrate ab."))
    snrs = [one.snr_db for one in line.gateways if one.snr_db is not None]
    if line.direction == "up" and snrs and line.frequency_hz and max(snrs) - floor_db(line.data_rate) < 3:
        notes.append(_("Am Rand des Empfangs: weniger als 3 dB Reserve."))
    return notes


def _technical(line: Line) -> str:
    parts = [str(line.detail[name]) for name in ("detail", "protocol", "address") if line.detail.get(name)]
    return " · ".join(parts)
