"""The messages of ChirpStack's gateway protocol (version 4, package ``gw``), as far as they are used.

The descriptors are built when the module is loaded, from a table of names, numbers and types: nothing generated has to
be kept in step, and what a newer version adds is skipped, as protobuf intends.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pool, duration_pb2, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import Message

_PACKAGE: Final = "gw"
_SPAN: Final = "google.protobuf.Duration"

# What became of a transmission, by number.
STATUSES: Final = (
    "IGNORED",
    "OK",
    "TOO_LATE",
    "TOO_EARLY",
    "COLLISION_PACKET",
    "COLLISION_BEACON",
    "TX_FREQ",
    "TX_POWER",
    "GPS_UNLOCKED",
    "QUEUE_FULL",
    "INTERNAL_ERROR",
)
_ENUMS: Final[dict[str, tuple[str, ...]]] = {
    "CodeRate": ("CR_UNDEFINED", "CR_4_5", "CR_4_6", "CR_4_7", "CR_4_8"),
    "CRCStatus": ("NO_CRC", "BAD_CRC", "CRC_OK"),
    "TxAckStatus": STATUSES,
    "State": ("OFFLINE", "ONLINE"),
}
# Fields as "number name type"; "*" repeats, "?" belongs to the message's one choice (oneof).
_MESSAGES: Final[dict[str, tuple[str, ...]]] = {
    "Lora": (
        "1 bandwidth uint32",
        "2 spreading_factor uint32",
        "4 polarization_inversion bool",
        "5 code_rate CodeRate",
    ),
    "Fsk": ("1 frequency_deviation uint32", "2 datarate uint32"),
    "Modulation": ("3 lora Lora ?", "4 fsk Fsk ?"),
    "UplinkTxInfo": ("1 frequency uint32", "2 modulation Modulation"),
    "UplinkRxInfo": (
        "1 gateway_id string",
        f"4 time_since_gps_epoch {_SPAN}",
        f"5 fine_time_since_gps_epoch {_SPAN}",
        "6 rssi int32",
        "7 snr float",
        "8 channel uint32",
        "10 board uint32",
        "11 antenna uint32",
        "13 context bytes",
        "16 crc_status CRCStatus",
    ),
    "UplinkFrame": ("1 phy_payload bytes", "4 tx_info UplinkTxInfo", "5 rx_info UplinkRxInfo"),
    "Immediately": (),
    "Delay": (f"1 delay {_SPAN}",),
    "GpsEpoch": (f"1 time_since_gps_epoch {_SPAN}",),
    "Timing": ("1 immediately Immediately ?", "2 delay Delay ?", "3 gps_epoch GpsEpoch ?"),
    "DownlinkTxInfo": (
        "1 frequency uint32",
        "2 power int32",
        "3 modulation Modulation",
        "4 board uint32",
        "5 antenna uint32",
        "6 timing Timing",
        "7 context bytes",
    ),
    "DownlinkFrameItem": ("1 phy_payload bytes", "3 tx_info DownlinkTxInfo"),
    "DownlinkFrame": ("3 downlink_id uint32", "5 items DownlinkFrameItem *", "7 gateway_id string"),
    "DownlinkTxAckItem": ("1 status TxAckStatus",),
    "DownlinkTxAck": ("2 downlink_id uint32", "5 items DownlinkTxAckItem *", "6 gateway_id string"),
    "GatewayStats": (
        "4 config_version string",
        "5 rx_packets_received uint32",
        "6 rx_packets_received_ok uint32",
        "7 tx_packets_received uint32",
        "8 tx_packets_emitted uint32",
        "17 gateway_id string",
    ),
    "ConnState": ("2 state State", "3 gateway_id string"),
}
_SCALARS: Final = {
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "int32": FieldDescriptorProto.TYPE_INT32,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "float": FieldDescriptorProto.TYPE_FLOAT,
    "string": FieldDescriptorProto.TYPE_STRING,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
}


def _describe(message: DescriptorProto, line: str) -> None:
    number, name, kind, *mark = line.split()
    described = message.field.add(
        name=name,
        number=int(number),
        label=FieldDescriptorProto.LABEL_REPEATED if mark == ["*"] else FieldDescriptorProto.LABEL_OPTIONAL,
    )
    if mark == ["?"]:
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameters")
        described.oneof_index = 0
    if kind in _SCALARS:
        described.type = _SCALARS[kind]
    else:
        described.type = (
            FieldDescriptorProto.TYPE_ENUM if kind in _ENUMS else FieldDescriptorProto.TYPE_MESSAGE
        )
        described.type_name = f".{kind}" if "." in kind else f".{_PACKAGE}.{kind}"


def _build() -> dict[str, type[Message]]:
    file = FileDescriptorProto(name="quartier/gateways.proto", package=_PACKAGE, syntax="proto3")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(duration_pb2.DESCRIPTOR.serialized_pb)
    file.dependency.append(duration_pb2.DESCRIPTOR.name)
    for enum_name, values in _ENUMS.items():
        enum = file.enum_type.add(name=enum_name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for message_name, lines in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for line in lines:
            _describe(message, line)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES: Final = _build()


def new(name: str) -> Any:
    """An empty message; its fields are attributes that mypy cannot know."""
    return _CLASSES[name]()
