"""ChirpStack's gateway messages, in protobuf or JSON, to values and back. Pure.

A gateway that sends JSON gets JSON: which one it is shows in the first byte, because no protobuf message of this
protocol begins with a brace.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from quartier.lorawan.frames.modulation import DataRate, Fsk, Lora
from quartier.lorawan.gateways.ids import IdError, parse_eui
from quartier.lorawan.gateways.links import Opportunity, Order
from quartier.lorawan.gateways.mqtt import schema
from quartier.lorawan.types import Eui

LARGEST_MESSAGE: Final = 16 * 1024
LARGEST_PHY: Final = 255
_CRC_OK: Final = 2


class BridgeError(ValueError):
    """A message, or a field of it, that the protocol does not allow; the text names the field."""


class Encoding(StrEnum):
    """How a gateway's messages are written."""

    PROTOBUF = "protobuf"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A frame; ``context`` has to come back with the answer. ``data_rate`` None: neither LoRa nor FSK."""

    gateway: Eui
    phy: bytes
    frequency_hz: int
    data_rate: DataRate | None
    intact: bool
    rssi_dbm: float
    snr_db: float
    context: bytes
    channel: int
    board: int
    antenna: int
    fine_time_ns: int | None
    gps_time_ms: int | None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What became of each item of a downlink: OK, IGNORED, or why not."""

    gateway: Eui
    number: int
    statuses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a gateway counted since its last report."""

    gateway: Eui
    version: str
    counts: dict[str, int]


def encoding_of(payload: bytes) -> Encoding:
    """How a message is written."""
    return Encoding.JSON if payload[:1] == b"{" else Encoding.PROTOBUF


def _decode(name: str, payload: bytes) -> Any:
    if len(payload) > LARGEST_MESSAGE:
        raise BridgeError(f"message: more than {LARGEST_MESSAGE} bytes")
    message = schema.new(name)
    try:
        if encoding_of(payload) is Encoding.JSON:
            fields = msgspec.json.decode(payload)
            return json_format.ParseDict(fields, message, ignore_unknown_fields=True)
        message.ParseFromString(payload)
    except (
        DecodeError,
        json_format.Error,
        msgspec.MsgspecError,
        RecursionError,
        # What json_format lets through for values of surprising types.
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
    ) as error:
        raise BridgeError(f"{name}: {str(error)[:120]}") from None
    return message


def _gateway(text: str) -> Eui:
    try:
        return parse_eui(text)
    except IdError as error:
        raise BridgeError(f"gateway_id: {error}") from None


def parse_up(payload: bytes) -> Heard:
    """An ``up`` event. Raises BridgeError."""
    frame = _decode("UplinkFrame", payload)
    info, radio = frame.rx_info, frame.tx_info
    if not frame.phy_payload or len(frame.phy_payload) > LARGEST_PHY:
        raise BridgeError(f"phy_payload: {len(frame.phy_payload)} bytes are no frame")
    if not -300 <= info.rssi <= 100 or not -100 <= info.snr <= 100:
        raise BridgeError("rx_info: impossible signal")
    if len(info.context) > 256:
        raise BridgeError("context: more than 256 bytes")
    gps_time_ms = fine_time_ns = None
    if info.HasField("time_since_gps_epoch"):
        span = info.time_since_gps_epoch
        gps_time_ms = span.seconds * 1000 + span.nanos // 1_000_000
    if info.HasField("fine_time_since_gps_epoch"):
        nanos = info.fine_time_since_gps_epoch.nanos
        fine_time_ns = nanos if 0 <= nanos < 1_000_000_000 else None
    return Heard(
        gateway=_gateway(info.gateway_id),
        phy=frame.phy_payload,
        frequency_hz=radio.frequency,
        data_rate=_data_rate(radio.modulation),
        intact=info.crc_status == _CRC_OK,
        rssi_dbm=float(info.rssi),
        snr_db=float(info.snr),
        context=info.context,
        channel=info.channel & 0xFF,
        board=info.board,
        antenna=info.antenna,
        fine_time_ns=fine_time_ns,
        gps_time_ms=gps_time_ms if gps_time_ms is not None and 0 <= gps_time_ms < 1 << 53 else None,
    )


def _data_rate(modulation: Any) -> DataRate | None:
    match modulation.WhichOneof("parameters"):
        case "lora":
            return Lora(modulation.lora.spreading_factor, modulation.lora.bandwidth)
        case "fsk":
            return Fsk(modulation.fsk.datarate)
    return None


def parse_ack(payload: bytes) -> Acknowledged:
    """An ``ack`` event. Raises BridgeError."""
    ack = _decode("DownlinkTxAck", payload)
    statuses = tuple(
        schema.STATUSES[item.status] if 0 <= item.status < len(schema.STATUSES) else "INTERNAL_ERROR"
        for item in ack.items[:8]
    )
    return Acknowledged(_gateway(ack.gateway_id), ack.downlink_id, statuses)


def parse_stats(payload: bytes) -> Statistics:
    """A ``stats`` event. Raises BridgeError."""
    stats = _decode("GatewayStats", payload)
    counts = {
        "received": stats.rx_packets_received,
        "received_ok": stats.rx_packets_received_ok,
        "downlinks": stats.tx_packets_received,
        "transmitted": stats.tx_packets_emitted,
    }
    return Statistics(_gateway(stats.gateway_id), stats.config_version[:80], counts)


def parse_state(payload: bytes) -> tuple[Eui, bool]:
    """A ``conn`` message: the gateway, and whether it is connected. Raises BridgeError."""
    state = _decode("ConnState", payload)
    return _gateway(state.gateway_id), state.state == 1


def downlink(order: Order, number: int, data_rates: dict[int, DataRate], encoding: Encoding) -> bytes:
    """A ``down`` command with all opportunities, the first preferred."""
    frame = schema.new("DownlinkFrame")
    frame.downlink_id = number
    frame.gateway_id = order.gateway.eui.hex()
    for one in order.opportunities:
        _fill(frame.items.add(), order, one, data_rates[one.data_rate])
    if encoding is Encoding.JSON:
        return msgspec.json.encode(json_format.MessageToDict(frame))
    packed: bytes = frame.SerializeToString()
    return packed


def _fill(item: Any, order: Order, one: Opportunity, data_rate: DataRate) -> None:
    item.phy_payload = order.phy
    radio = item.tx_info
    radio.frequency = one.frequency_hz
    radio.power = int(one.eirp_dbm)
    if isinstance(data_rate, Lora):
        lora = radio.modulation.lora
        lora.bandwidth = data_rate.bandwidth_hz
        lora.spreading_factor = data_rate.spreading_factor
        lora.code_rate = 1  # 4/5
        lora.polarization_inversion = True
    elif isinstance(data_rate, Fsk):
        radio.modulation.fsk.datarate = data_rate.bit_rate
        radio.modulation.fsk.frequency_deviation = data_rate.bit_rate // 2
    if order.gps_time_ms is not None:
        radio.timing.gps_epoch.time_since_gps_epoch.FromMilliseconds(order.gps_time_ms)
    elif one.delay_s is None:
        radio.timing.immediately.SetInParent()
    else:
        radio.timing.delay.delay.FromMilliseconds(round(one.delay_s * 1000))
    context, board, antenna = (order.context.get(name) for name in ("context", "board", "antenna"))
    if isinstance(context, str):
        radio.context = bytes.fromhex(context)
    if isinstance(board, int) and isinstance(antenna, int):
        radio.board, radio.antenna = board, antenna
