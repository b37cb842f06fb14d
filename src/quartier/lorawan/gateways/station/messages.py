"""Basics Station's LNS protocol: JSON messages to values and back (source: ``s2e.c`` and ``lora.c`` of Station 2.0.6).

Pure. Station takes frames apart before it sends them; here they become the PHYPayload again, byte for byte, because
their MIC is over it. MIC and DevAddr are signed 32-bit numbers; EUIs come dashed or as ID6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from quartier.lorawan.gateways.ids import IdError, dashed, id6, parse_eui
from quartier.lorawan.gateways.links import Opportunity

LARGEST_MESSAGE: Final = 16 * 1024
LARGEST_PHY: Final = 255
_LONGEST_NAME: Final = 40


class StationError(ValueError):
    """A message, or a field of it, that the protocol does not allow; the text names the field."""


class Version(msgspec.Struct, frozen=True, gc=False):
    """The first message: who the Station is."""

    station: str = ""
    model: str = ""
    package: str = ""
    protocol: int = 0
    features: str = ""


class Heard(msgspec.Struct, frozen=True, gc=False):
    """A frame. ``context`` is the antenna, ``xtime`` the end of reception in the Station's microseconds."""

    phy: bytes
    data_rate: int
    frequency_hz: int
    antenna: int
    xtime: int
    rssi_dbm: float
    snr_db: float
    gps_time_us: int
    fine_time_ns: int | None


class Transmitted(msgspec.Struct, frozen=True, gc=False):
    """``dntxed``: the frame ``number`` went on air."""

    number: int
    data_rate: int | None
    frequency_hz: int | None
    xtime: int


class TimeQuestion(msgspec.Struct, frozen=True, gc=False):
    """``timesync``: what is the GPS time at the Station's ``sent_at_us``?"""

    sent_at_us: int


class Other(msgspec.Struct, frozen=True, gc=False):
    """A message that is none of ours, such as ``rmtsh``."""

    kind: str


Message = Version | Heard | Transmitted | TimeQuestion | Other


class _Head(msgspec.Struct, gc=False):
    msgtype: str


class _Version(msgspec.Struct, gc=False):
    station: str | None = None
    firmware: str | None = None
    package: str | None = None
    model: str | None = None
    protocol: int = 0
    features: str | list[str] | None = None


class _Upinfo(msgspec.Struct, gc=False):
    xtime: int
    rctx: int = 0
    gpstime: int = 0
    fts: int | None = None
    rssi: float = 0.0
    snr: float = 0.0


class _Radio(msgspec.Struct, gc=False, kw_only=True):
    data_rate: int = msgspec.field(name="DR")
    frequency_hz: int = msgspec.field(name="Freq")
    upinfo: _Upinfo


class _Join(_Radio, gc=False, kw_only=True):
    mhdr: int = msgspec.field(name="MHdr")
    join_eui: str | int | None = msgspec.field(default=None, name="JoinEui")
    join_eui_too: str | int | None = msgspec.field(default=None, name="JoinEUI")
    dev_eui: str | int | None = msgspec.field(default=None, name="DevEui")
    dev_eui_too: str | int | None = msgspec.field(default=None, name="DevEUI")
    dev_nonce: int = msgspec.field(name="DevNonce")
    mic: int = msgspec.field(name="MIC")


class _Data(_Radio, gc=False, kw_only=True):
    mhdr: int = msgspec.field(name="MHdr")
    dev_addr: int = msgspec.field(name="DevAddr")
    fctrl: int = msgspec.field(name="FCtrl")
    fcnt: int = msgspec.field(name="FCnt")
    fopts: str = msgspec.field(default="", name="FOpts")
    fport: int = msgspec.field(default=-1, name="FPort")
    payload: str = msgspec.field(default="", name="FRMPayload")
    mic: int = msgspec.field(name="MIC")


class _Whole(_Radio, gc=False, kw_only=True):
    payload: str | None = msgspec.field(default=None, name="FRMPayload")
    pdu: str | None = None


class _Transmitted(msgspec.Struct, gc=False):
    diid: int | None = None
    seqno: int | None = None
    data_rate: int | None = msgspec.field(default=None, name="DR")
    frequency_hz: int | None = msgspec.field(default=None, name="Freq")
    xtime: int = 0


class _TimeSync(msgspec.Struct, gc=False):
    txtime: int = 0


class _Question(msgspec.Struct, gc=False):
    router: str | int


_head = msgspec.json.Decoder(_Head, strict=False)
_version = msgspec.json.Decoder(_Version, strict=False)
_join = msgspec.json.Decoder(_Join, strict=False)
_data = msgspec.json.Decoder(_Data, strict=False)
_whole = msgspec.json.Decoder(_Whole, strict=False)
_transmitted = msgspec.json.Decoder(_Transmitted, strict=False)
_timesync = msgspec.json.Decoder(_TimeSync, strict=False)
_question = msgspec.json.Decoder(_Question, strict=False)
_encoder = msgspec.json.Encoder()


def encode(message: dict[str, Any]) -> str:
    """A message to a Station."""
    return _encoder.encode(message).decode()


def parse_question(text: str | bytes) -> bytes:
    """The EUI in a request to ``/router-info``. Raises StationError."""
    try:
        return parse_eui(_question.decode(text).router)
    except (msgspec.MsgspecError, RecursionError, UnicodeError, IdError) as error:
        raise StationError(f"router: {str(error)[:120]}") from None


def parse(text: str | bytes) -> Message:
    """A message of a Station. Raises StationError."""
    try:
        kind = _head.decode(text).msgtype
        parser = _PARSERS.get(kind)
        return Other(kind[:_LONGEST_NAME]) if parser is None else parser(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise StationError(str(error)[:160] or type(error).__name__) from None


def _parse_version(text: str | bytes) -> Version:
    one = _version.decode(text)
    features = " ".join(one.features) if isinstance(one.features, list) else one.features or ""
    return Version(
        (one.station or "")[:80],
        (one.model or "")[:80],
        (one.package or one.firmware or "")[:80],
        one.protocol,
        features[:200],
    )


def _parse_join(text: str | bytes) -> Heard:
    one = _join.decode(text)
    join_eui = one.join_eui if one.join_eui is not None else one.join_eui_too
    dev_eui = one.dev_eui if one.dev_eui is not None else one.dev_eui_too
    if join_eui is None or dev_eui is None:
        raise StationError("JoinEui, DevEui: missing")
    try:
        euis = parse_eui(join_eui)[::-1] + parse_eui(dev_eui)[::-1]
    except IdError as error:
        raise StationError(f"JoinEui, DevEui: {error}") from None
    phy = _unsigned(one.mhdr, 1, "MHdr") + euis + _unsigned(one.dev_nonce, 2, "DevNonce")
    return _heard(one, phy + _signed(one.mic, "MIC"))


def _parse_rejoin(text: str | bytes) -> Heard:
    # Station reads a rejoin request like a join request; other makers send it whole.
    whole = _whole.decode(text)
    if whole.pdu or whole.payload:
        return _parse_whole(text)
    return _parse_join(text)


def _parse_data(text: str | bytes) -> Heard:
    one = _data.decode(text)
    fopts, payload = _hex(one.fopts, "FOpts"), _hex(one.payload, "FRMPayload")
    if len(fopts) != one.fctrl & 0x0F:
        raise StationError(f"FOpts: {len(fopts)} bytes, but FCtrl says {one.fctrl & 0x0F}")
    phy = (
        _unsigned(one.mhdr, 1, "MHdr")
        + _signed(one.dev_addr, "DevAddr")
        + _unsigned(one.fctrl, 1, "FCtrl")
        + _unsigned(one.fcnt, 2, "FCnt")
        + fopts
    )
    if one.fport >= 0:
        phy += _unsigned(one.fport, 1, "FPort") + payload
    elif payload:
        raise StationError("FRMPayload: without FPort")
    return _heard(one, phy + _signed(one.mic, "MIC"))


def _parse_whole(text: str | bytes) -> Heard:
    one = _whole.decode(text)
    return _heard(one, _hex(one.pdu or one.payload or "", "FRMPayload"))


def _parse_transmitted(text: str | bytes) -> Transmitted:
    one = _transmitted.decode(text)
    number = one.diid if one.diid is not None else one.seqno
    if number is None:
        raise StationError("diid: missing")
    return Transmitted(number, one.data_rate, one.frequency_hz, one.xtime)


def _parse_timesync(text: str | bytes) -> TimeQuestion:
    return TimeQuestion(_timesync.decode(text).txtime)


_PARSERS: Final[dict[str, Callable[[str | bytes], Message]]] = {
    "version": _parse_version,
    "jreq": _parse_join,
    "rejoin": _parse_rejoin,
    "updf": _parse_data,
    "propdf": _parse_whole,
    "dntxed": _parse_transmitted,
    "timesync": _parse_timesync,
}


def _heard(one: _Radio, phy: bytes) -> Heard:
    if not phy or len(phy) > LARGEST_PHY:
        raise StationError(f"FRMPayload: {len(phy)} bytes are no frame")
    info = one.upinfo
    if not 0 <= one.data_rate < 16:
        raise StationError("DR: no data rate")
    if not 0 < one.frequency_hz < 1 << 32:
        raise StationError("Freq: no frequency in Hz")
    if not -300 <= info.rssi <= 100 or not -100 <= info.snr <= 100:
        raise StationError("upinfo: impossible signal")
    if not -(1 << 63) <= info.xtime < 1 << 63 or not 0 <= info.gpstime < 1 << 62:
        raise StationError("upinfo: impossible time")
    fine = info.fts
    return Heard(
        phy,
        one.data_rate,
        one.frequency_hz,
        info.rctx if -(1 << 63) <= info.rctx < 1 << 63 else 0,
        info.xtime,
        info.rssi,
        info.snr,
        info.gpstime,
        fine if fine is not None and 0 <= fine < 1_000_000_000 else None,
    )


def _unsigned(value: int, size: int, field: str) -> bytes:
    if not 0 <= value < 1 << 8 * size:
        raise StationError(f"{field}: not within {8 * size} bits")
    return value.to_bytes(size, "little")


def _signed(value: int, field: str) -> bytes:
    if not -(1 << 31) <= value < 1 << 32:
        raise StationError(f"{field}: not within 32 bits")
    return (value & 0xFFFF_FFFF).to_bytes(4, "little")


def _hex(text: str, field: str) -> bytes:
    try:
        return bytes.fromhex(text[: 2 * LARGEST_PHY + 2])
    except ValueError:
        raise StationError(f"{field}: no hexadecimal text") from None


def downlink(
    *,
    number: int,
    device: bytes,
    phy: bytes,
    opportunities: tuple[Opportunity, ...],
    priority: int,
    xtime: int | None = None,
    antenna: int | None = None,
    gps_time_us: int | None = None,
    now: float,
) -> dict[str, Any]:
    """A ``dnmsg``: for class A (one or two windows), at a GPS time, or for class C.

    ``dnsched`` can send at a GPS time, too, but Station does not confirm it; nor does it where ``device`` is zero.
    """
    first = opportunities[0]
    message: dict[str, Any] = {
        "msgtype": "dnmsg",
        "DevEui": dashed(device),
        "diid": number,
        "pdu": phy.hex().upper(),
        "priority": priority,
        "MuxTime": now,
    }
    if gps_time_us is not None:
        message |= {"dC": 1, "DR": first.data_rate, "Freq": first.frequency_hz, "gpstime": gps_time_us}
    elif first.delay_s is None:
        message |= {"dC": 2, "RxDelay": 1, "RX2DR": first.data_rate, "RX2Freq": first.frequency_hz}
    else:
        message |= {
            "dC": 0,
            "xtime": xtime,
            "RxDelay": round(first.delay_s),
            "RX1DR": first.data_rate,
            "RX1Freq": first.frequency_hz,
        }
        if len(opportunities) > 1:
            # One second later, that is how Station understands it.
            message |= {"RX2DR": opportunities[1].data_rate, "RX2Freq": opportunities[1].frequency_hz}
    if antenna is not None:
        message["rctx"] = antenna
    return message


def router_info(router: bytes, muxs: bytes, uri: str) -> dict[str, Any]:
    """The answer to ``/router-info``."""
    return {"router": id6(router), "muxs": f"muxs-{id6(muxs)}", "uri": uri}


def time_answer(question: TimeQuestion, gps_time_us: int, now: float) -> dict[str, Any]:
    """``timesync`` as an answer: the GPS time when the question came."""
    return {"msgtype": "timesync", "txtime": question.sent_at_us, "gpstime": gps_time_us, "MuxTime": now}


def time_offer(xtime: int, gps_time_us: int, now: float) -> dict[str, Any]:
    """``timesync`` unasked: the Station's ``xtime`` was this GPS time. For Stations without a GPS."""
    return {"msgtype": "timesync", "xtime": xtime, "gpstime": gps_time_us, "MuxTime": now}
