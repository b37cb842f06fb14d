"""GWMP v2, Semtech's UDP protocol between packet forwarder and server: datagrams to values and back.

Pure. Strict in sizes and ranges, tolerant in spelling, because every maker of gateways has its own forwarder: numbers
as texts, base64 with or without padding and in either alphabet, trailing zeros, one antenna or several. Source:
``packet_forwarder/PROTOCOL.md`` of Semtech's sx1302_hal, version 1.6.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from enum import IntEnum
from typing import Any, Final

import msgspec

VERSION: Final = 2
LARGEST_DATAGRAM: Final = 65_507
LARGEST_PHY: Final = 255
MOST_RECEPTIONS: Final = 255
_TIMESTAMPS: Final = 1 << 32
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


class GwmpError(ValueError):
    """A datagram, or a field of it, that the protocol does not allow; the message names the field."""


class Kind(IntEnum):
    """The identifier in byte 3."""

    PUSH_DATA = 0
    PUSH_ACK = 1
    PULL_DATA = 2
    PULL_RESP = 3
    PULL_ACK = 4
    TX_ACK = 5


FROM_GATEWAY: Final = frozenset({Kind.PUSH_DATA, Kind.PULL_DATA, Kind.TX_ACK})
_KINDS: Final = {int(kind): kind for kind in Kind}


class Heard(msgspec.Struct, frozen=True, gc=False):
    """One ``rxpk``: a frame as the forwarder reports it, by its best antenna.

    ``data_rate`` is LoRa's name (``SF7BW125``) or the bit rate of FSK; ``crc`` 1 intact, -1 broken, 0 none.
    """

    phy: bytes
    timestamp_us: int
    frequency_hz: int
    data_rate: str | int
    crc: int
    rssi_dbm: float
    snr_db: float
    channel: int | None = None
    fine_time_ns: int | None = None
    gps_time_ms: int | None = None


class Push(msgspec.Struct, frozen=True, gc=False):
    """What a PUSH_DATA carries. ``errors`` tells what of it was left out."""

    heard: list[Heard]
    status: dict[str, Any] | None = None
    errors: tuple[str, ...] = ()


class Acknowledgement(msgspec.Struct, frozen=True, gc=False):
    """A TX_ACK: ``error`` is empty where the frame was taken, ``power_dbm`` what a TX_POWER warning says."""

    error: str = ""
    warning: str = ""
    power_dbm: float | None = None


class _Antenna(msgspec.Struct, gc=False):
    rssic: float | None = None
    rssis: float | None = None
    lsnr: float = 0.0
    chan: int | None = None
    ftime: int | None = None


class _Rxpk(msgspec.Struct, gc=False):
    data: str
    freq: float
    datr: str | int
    tmst: int
    size: int | None = None
    rssi: float | None = None
    rssis: float | None = None
    lsnr: float | None = None
    stat: int = 1
    modu: str = "LORA"
    chan: int | None = None
    tmms: int | None = None
    ftime: int | None = None
    fts: int | None = None
    rsig: list[_Antenna] | None = None


class _Push(msgspec.Struct, gc=False):
    rxpk: list[_Rxpk] | None = None
    stat: dict[str, Any] | None = None


class _LoosePush(msgspec.Struct, gc=False):
    rxpk: list[msgspec.Raw] | None = None
    stat: Any = None


class _TxpkAck(msgspec.Struct, gc=False):
    error: str | None = None
    warn: str | None = None
    value: float | str | None = None


class _Ack(msgspec.Struct, gc=False):
    txpk_ack: _TxpkAck | None = None


_push = msgspec.json.Decoder(_Push, strict=False)
_loose = msgspec.json.Decoder(_LoosePush, strict=False)
_rxpk = msgspec.json.Decoder(_Rxpk, strict=False)
_ack = msgspec.json.Decoder(_Ack, strict=False)
_encoder = msgspec.json.Encoder()


def parse(datagram: bytes) -> tuple[Kind, bytes, bytes, bytes]:
    """Kind, token, gateway (empty in what servers send) and body of a datagram. Raises GwmpError."""
    if len(datagram) < 4:
        raise GwmpError("datagram: shorter than its header")
    if datagram[0] != VERSION:
        raise GwmpError(f"version: {datagram[0]} instead of {VERSION}")
    kind = _KINDS.get(datagram[3])
    if kind is None:
        raise GwmpError(f"identifier: {datagram[3]} is unknown")
    if kind in FROM_GATEWAY:
        if len(datagram) < 12:
            raise GwmpError("gateway: missing")
        return kind, datagram[1:3], datagram[4:12], datagram[12:]
    return kind, datagram[1:3], b"", datagram[4:]


def parse_push(body: bytes) -> Push:
    """The receptions and the status in a PUSH_DATA. Raises GwmpError where nothing of it can be read.

    One unreadable reception does not take the others with it.
    """
    body = body.rstrip(b"\0")
    try:
        push = _push.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _parse_loosely(body)
    if push.rxpk is None:
        return Push([], push.stat)
    heard: list[Heard] = []
    errors: list[str] = []
    for one in push.rxpk[:MOST_RECEPTIONS]:
        try:
            heard.append(_heard(one))
        except GwmpError as error:
            errors.append(str(error))
    if len(push.rxpk) > MOST_RECEPTIONS:
        errors.append(f"rxpk: more than {MOST_RECEPTIONS}")
    return Push(heard, push.stat, tuple(errors))


def _parse_loosely(body: bytes) -> Push:
    try:
        push = _loose.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise GwmpError(f"body: {_told(error)}") from None
    heard: list[Heard] = []
    errors: list[str] = []
    for raw in (push.rxpk or ())[:MOST_RECEPTIONS]:
        try:
            heard.append(_heard(_rxpk.decode(raw)))
        except GwmpError as error:
            errors.append(str(error))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            errors.append(f"rxpk: {_told(error)}")
    status = push.stat if isinstance(push.stat, dict) else None
    if push.stat is not None and status is None:
        errors.append("stat: no object")
    return Push(heard, status, tuple(errors))


def _told(error: Exception) -> str:
    return str(error)[:120] or type(error).__name__


def _heard(one: _Rxpk) -> Heard:
    phy = _bytes(one.data)
    if one.size is not None and one.size != len(phy):
        raise GwmpError(f"size: {one.size}, but data has {len(phy)} bytes")
    if not phy or len(phy) > LARGEST_PHY:
        raise GwmpError(f"data: {len(phy)} bytes are no frame")
    if not 0 <= one.tmst < _TIMESTAMPS:
        raise GwmpError("tmst: not within 32 bits")
    if not 1 <= one.freq <= 10_000:
        raise GwmpError("freq: no frequency in MHz")
    data_rate = one.datr
    if type(data_rate) is str:
        if data_rate.isdecimal() and len(data_rate) < 9:
            data_rate = int(data_rate)
        elif len(data_rate) > 16:
            raise GwmpError("datr: no data rate")
        else:
            data_rate = data_rate.upper()
    rssi, snr, channel = one.rssi, one.lsnr, one.chan
    fine = one.fts if one.ftime is None else one.ftime
    if one.rsig:
        best = max(one.rsig, key=_quality)
        rssi = best.rssic if best.rssic is not None else best.rssis
        snr, channel = best.lsnr, best.chan
        fine = best.ftime if best.ftime is not None else fine
    if rssi is None:
        rssi = one.rssis
    if rssi is None or not -300 <= rssi <= 100:
        raise GwmpError("rssi: missing or impossible")
    snr = snr or 0.0
    if not -100 <= snr <= 100:
        raise GwmpError("lsnr: impossible")
    return Heard(
        phy,
        one.tmst,
        round(one.freq * 1_000_000),
        data_rate,
        one.stat,
        rssi,
        snr,
        channel if channel is not None and 0 <= channel < 256 else None,
        fine if fine is not None and 0 <= fine < 1_000_000_000 else None,
        one.tmms if one.tmms is not None and 0 <= one.tmms < 1 << 53 else None,
    )


def _quality(antenna: _Antenna) -> float:
    return antenna.lsnr


def _bytes(text: str) -> bytes:
    try:
        raw = text.rstrip("=").encode("ascii")
        if b"-" in raw or b"_" in raw:
            raw = raw.translate(_URL_SAFE)
        return a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True) if raw else b""
    except (Base64Error, UnicodeEncodeError):
        raise GwmpError("data: no base64") from None


def parse_acknowledgement(body: bytes) -> Acknowledgement:
    """What a TX_ACK says; an empty body means that all is well. Raises GwmpError."""
    body = body.rstrip(b"\0 \r\n")
    if not body:
        return Acknowledgement()
    try:
        ack = _ack.decode(body).txpk_ack
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise GwmpError(f"txpk_ack: {_told(error)}") from None
    if ack is None:
        return Acknowledgement()
    refused = (ack.error or "").strip().upper()[:40]
    power = ack.value
    if isinstance(power, str):
        try:
            power = float(power[:20])
        except ValueError:
            power = None
    if power is not None and not -100 <= power <= 100:
        power = None
    return Acknowledgement("" if refused == "NONE" else refused, (ack.warn or "").strip().upper()[:40], power)


def pull_response(
    token: bytes,
    *,
    phy: bytes,
    frequency_hz: int,
    data_rate: str | int,
    power_dbm: int,
    timestamp_us: int | None = None,
    gps_time_ms: int | None = None,
) -> bytes:
    """A PULL_RESP: a frame at a counter's value, at a GPS time, or at once. Downlinks have no checksum (TS001 §3)."""
    txpk: dict[str, Any] = {
        "imme": timestamp_us is None and gps_time_ms is None,
        "freq": frequency_hz / 1_000_000,
        "rfch": 0,
        "powe": power_dbm,
        "size": len(phy),
        "data": b64encode(phy).decode(),
        "ncrc": True,
    }
    if timestamp_us is not None:
        txpk["tmst"] = timestamp_us % _TIMESTAMPS
    elif gps_time_ms is not None:
        txpk["tmms"] = gps_time_ms
    if isinstance(data_rate, str):
        txpk |= {"modu": "LORA", "datr": data_rate, "codr": "4/5", "ipol": True}
    else:
        txpk |= {"modu": "FSK", "datr": data_rate, "fdev": data_rate // 2, "prea": 5}
    return header(Kind.PULL_RESP, token) + _encoder.encode({"txpk": txpk})


def header(kind: Kind, token: bytes, gateway: bytes = b"") -> bytes:
    """The first bytes of a datagram; whole for acknowledgements."""
    return bytes((VERSION, *token, kind)) + gateway
