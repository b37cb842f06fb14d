"""PHYPayload: what goes through the air, parsed and serialised (TS001-1.0.4 §4 to §6, LoRaWAN 1.1 §4 to §6).

Knows no keys: a join accept stays ciphertext here, payload and options stay as they came; ``crypto`` does the rest.
Parsing keeps everything that was sent, reserved bits too, so that serialising gives back the same bytes.
Frames are msgspec structs rather than dataclasses, because every received frame makes one.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Self

import msgspec

from .errors import FrameError, check_length, check_range

MAX_SIZE = 255
"""Bytes: what a LoRa radio can send at most."""
MIC_SIZE = 4
MAX_OPTIONS = 15

ADR = 0x80
ADR_ACK_REQUEST = 0x40
ACK = 0x20
PENDING = 0x10
"""FCtrl bit 4: FPending of a downlink, class B of an uplink."""


class FrameType(IntEnum):
    """FType (1.0.4) or MType (before): the first three bits of a frame."""

    JOIN_REQUEST = 0
    JOIN_ACCEPT = 1
    UNCONFIRMED_UP = 2
    UNCONFIRMED_DOWN = 3
    CONFIRMED_UP = 4
    CONFIRMED_DOWN = 5
    REJOIN_REQUEST = 6
    PROPRIETARY = 7

    @property
    def header(self) -> int:
        """The MHDR byte for major version 0 (LoRaWAN R1)."""
        return self << 5


_TYPES = tuple(FrameType)
_DATA = struct.Struct("<BIBH")
_DATA_TYPES = frozenset((2, 3, 4, 5))


class Data(msgspec.Struct, frozen=True, gc=False):
    """A data frame. ``payload`` and (from 1.1 on) ``options`` are as on the air: encrypted.

    ``frame_counter`` holds the low 16 bits of the counter, ``flags`` the upper four bits of FCtrl, ``reserved`` the RFU
    bits of MHDR; ``port`` is None where there is no FPort. ``crypto.seal_data`` makes a frame ready for the air.
    """

    type: FrameType
    dev_addr: int
    frame_counter: int
    flags: int = 0
    options: bytes = b""
    port: int | None = None
    payload: bytes = b""
    mic: bytes = bytes(MIC_SIZE)
    reserved: int = 0

    @property
    def uplink(self) -> bool:
        return self.type in (FrameType.UNCONFIRMED_UP, FrameType.CONFIRMED_UP)

    @property
    def confirmed(self) -> bool:
        return self.type in (FrameType.CONFIRMED_UP, FrameType.CONFIRMED_DOWN)

    @property
    def adr(self) -> bool:
        return bool(self.flags & ADR)

    @property
    def adr_ack_request(self) -> bool:
        """Only of uplinks; reserved in downlinks."""
        return bool(self.flags & ADR_ACK_REQUEST)

    @property
    def ack(self) -> bool:
        return bool(self.flags & ACK)

    @property
    def pending(self) -> bool:
        """Only of downlinks: more is waiting."""
        return bool(self.flags & PENDING)

    @property
    def class_b(self) -> bool:
        """Only of uplinks: the device has opened its ping slots."""
        return bool(self.flags & PENDING)

    def message(self) -> bytes:
        """The frame without its MIC. Raises FrameError for a field out of its range."""
        check_range("type", self.type, 2, 5)
        check_range("dev_addr", self.dev_addr, 0, 0xFFFF_FFFF)
        check_range("frame_counter", self.frame_counter, 0, 0xFFFF)
        check_range("reserved", self.reserved, 0, 7)
        if self.flags & ~0xF0:
            raise FrameError("flags", f"{self.flags:#x} has bits outside of the upper four")
        if len(self.options) > MAX_OPTIONS:
            raise FrameError("options", f"{len(self.options)} bytes, more than {MAX_OPTIONS}")
        if self.port is None:
            if self.payload:
                raise FrameError("port", "missing, but there is a payload")
            tail = b""
        else:
            check_range("port", self.port, 0, 255)
            if self.port == 0 and self.options:
                raise FrameError("port", "0 together with options")
            tail = b"%c%b" % (self.port, self.payload)
        whole = (
            _DATA.pack(
                self.type << 5 | self.reserved << 2,
                self.dev_addr,
                self.flags | len(self.options),
                self.frame_counter,
            )
            + self.options
            + tail
        )
        if len(whole) + MIC_SIZE > MAX_SIZE:
            raise FrameError("payload", f"the frame has more than {MAX_SIZE} bytes")
        return whole

    def serialise(self) -> bytes:
        """The PHYPayload. Raises FrameError for a field out of its range."""
        return self.message() + check_length("mic", self.mic, MIC_SIZE)


class JoinRequest(msgspec.Struct, frozen=True, gc=False):
    """EUIs are most significant byte first, as printed on the device."""

    join_eui: bytes
    dev_eui: bytes
    dev_nonce: int
    mic: bytes = bytes(MIC_SIZE)

    def message(self) -> bytes:
        """The frame without its MIC. Raises FrameError for a field out of its range."""
        return b"\x00%b%b%b" % (
            check_length("join_eui", self.join_eui, 8)[::-1],
            check_length("dev_eui", self.dev_eui, 8)[::-1],
            check_range("dev_nonce", self.dev_nonce, 0, 0xFFFF).to_bytes(2, "little"),
        )

    def serialise(self) -> bytes:
        """The PHYPayload. Raises FrameError for a field out of its range."""
        return self.message() + check_length("mic", self.mic, MIC_SIZE)

    @classmethod
    def parse(cls, phy: bytes) -> Self:
        check_length("join request", phy, 23)
        return cls(phy[8:0:-1], phy[16:8:-1], int.from_bytes(phy[17:19], "little"), phy[19:])


class RejoinRequest(msgspec.Struct, frozen=True, gc=False):
    """Type 0 and 2 carry the NetID, type 1 the JoinEUI (LoRaWAN 1.1 §6.2.4); the other one is None."""

    rejoin_type: int
    net_id: int | None
    join_eui: bytes | None
    dev_eui: bytes
    counter: int
    """RJcount0 of types 0 and 2, RJcount1 of type 1."""
    mic: bytes = bytes(MIC_SIZE)

    def message(self) -> bytes:
        """The frame without its MIC. Raises FrameError for a field that is missing or out of its range."""
        check_range("rejoin_type", self.rejoin_type, 0, 2)
        if self.rejoin_type == 1:
            if self.join_eui is None:
                raise FrameError("join_eui", "missing in a rejoin request of type 1")
            network = check_length("join_eui", self.join_eui, 8)[::-1]
        else:
            if self.net_id is None:
                raise FrameError("net_id", f"missing in a rejoin request of type {self.rejoin_type}")
            network = check_range("net_id", self.net_id, 0, 0xFF_FFFF).to_bytes(3, "little")
        return b"%c%c%b%b%b" % (
            FrameType.REJOIN_REQUEST.header,
            self.rejoin_type,
            network,
            check_length("dev_eui", self.dev_eui, 8)[::-1],
            check_range("counter", self.counter, 0, 0xFFFF).to_bytes(2, "little"),
        )

    def serialise(self) -> bytes:
        """The PHYPayload. Raises FrameError for a field that is missing or out of its range."""
        return self.message() + check_length("mic", self.mic, MIC_SIZE)

    @classmethod
    def parse(cls, phy: bytes) -> Self:
        if len(phy) < 2:
            raise FrameError("rejoin_type", "missing")
        kind = phy[1]
        if kind == 1:
            check_length("rejoin request of type 1", phy, 24)
            counter = int.from_bytes(phy[18:20], "little")
            return cls(kind, None, phy[9:1:-1], phy[17:9:-1], counter, phy[20:])
        if kind in (0, 2):
            check_length(f"rejoin request of type {kind}", phy, 19)
            counter = int.from_bytes(phy[13:15], "little")
            return cls(kind, int.from_bytes(phy[2:5], "little"), None, phy[12:4:-1], counter, phy[15:])
        raise FrameError("rejoin_type", f"{kind} is reserved")


class EncryptedJoinAccept(msgspec.Struct, frozen=True, gc=False):
    """A join accept as on the air; ``crypto.open_join_accept`` makes it readable."""

    ciphertext: bytes

    def serialise(self) -> bytes:
        """The PHYPayload. Raises FrameError for a wrong length."""
        return b"\x20" + check_length("join accept", self.ciphertext, 16, 32)


class JoinAccept(msgspec.Struct, frozen=True, gc=False):
    """The content of a join accept. ``opt_neg``: the network speaks 1.1 (DLSettings bit 7)."""

    join_nonce: int
    net_id: int
    dev_addr: int
    rx1_data_rate_offset: int = 0
    rx2_data_rate: int = 0
    opt_neg: bool = False
    rx_delay_s: int = 1
    channel_list: bytes | None = None
    """CFList, 16 bytes; a region knows how to read it."""

    def message(self) -> bytes:
        """MHDR and content without MIC, in the clear. Raises FrameError for a field out of its range."""
        offset = check_range("rx1_data_rate_offset", self.rx1_data_rate_offset, 0, 7)
        settings = self.opt_neg << 7 | offset << 4 | check_range("rx2_data_rate", self.rx2_data_rate, 0, 15)
        return b"\x20%b%b%b%c%c%b" % (
            check_range("join_nonce", self.join_nonce, 0, 0xFF_FFFF).to_bytes(3, "little"),
            check_range("net_id", self.net_id, 0, 0xFF_FFFF).to_bytes(3, "little"),
            check_range("dev_addr", self.dev_addr, 0, 0xFFFF_FFFF).to_bytes(4, "little"),
            settings,
            check_range("rx_delay_s", self.rx_delay_s, 0, 15),
            b"" if self.channel_list is None else check_length("channel_list", self.channel_list, 16),
        )

    @classmethod
    def parse(cls, message: bytes) -> Self:
        """From MHDR and content without MIC, in the clear. RxDelay 0 means 1 s (TS001-1.0.4 §5.7)."""
        check_length("join accept", message, 13, 29)
        return cls(
            join_nonce=int.from_bytes(message[1:4], "little"),
            net_id=int.from_bytes(message[4:7], "little"),
            dev_addr=int.from_bytes(message[7:11], "little"),
            rx1_data_rate_offset=message[11] >> 4 & 7,
            rx2_data_rate=message[11] & 15,
            opt_neg=message[11] >= 0x80,
            rx_delay_s=message[12] & 15 or 1,
            channel_list=message[13:] or None,
        )


class Proprietary(msgspec.Struct, frozen=True, gc=False):
    """A frame in somebody's own format: everything after MHDR."""

    body: bytes
    reserved: int = 0

    def serialise(self) -> bytes:
        """The PHYPayload. Raises FrameError for a field out of its range."""
        if len(self.body) >= MAX_SIZE:
            raise FrameError("body", f"the frame has more than {MAX_SIZE} bytes")
        return b"%c%b" % (
            FrameType.PROPRIETARY.header | check_range("reserved", self.reserved, 0, 31),
            self.body,
        )


Frame = Data | JoinRequest | RejoinRequest | EncryptedJoinAccept | Proprietary


def parse(phy: bytes) -> Frame:
    """The frame in a PHYPayload, at most 255 bytes. Raises FrameError, and nothing else, on any bytes."""
    size = len(phy)
    if size > MAX_SIZE:
        raise FrameError("frame", f"{size} bytes, more than {MAX_SIZE}")
    if not size:
        raise FrameError("frame", "empty")
    header = phy[0]
    kind = header >> 5
    if kind in _DATA_TYPES:
        if header & 3:
            raise FrameError("major version", f"{header & 3} instead of 0")
        if size < 12:
            raise FrameError("data frame", f"{size} bytes, fewer than 12")
        _, dev_addr, control, frame_counter = _DATA.unpack_from(phy)
        start = 8 + (control & 15)
        end = size - MIC_SIZE
        if start > end:
            raise FrameError("options", f"{control & 15} bytes announced, {end - 8} there")
        if start == end:
            port, payload = None, b""
        else:
            port, payload = phy[start], phy[start + 1 : end]
            if port == 0 and control & 15:  # TS001-1.0.4 §4.3.1.6: such a frame is discarded
                raise FrameError("port", "0 together with options")
        return Data(
            _TYPES[kind],
            dev_addr,
            frame_counter,
            control & 0xF0,
            phy[8:start],
            port,
            payload,
            phy[end:],
            header >> 2 & 7,
        )
    if kind == FrameType.PROPRIETARY:
        return Proprietary(phy[1:], header & 31)
    if header & 3:
        raise FrameError("major version", f"{header & 3} instead of 0")
    if header & 0x1C:
        raise FrameError("reserved", "bits of MHDR are set in a join frame")
    if kind == FrameType.JOIN_REQUEST:
        return JoinRequest.parse(phy)
    if kind == FrameType.JOIN_ACCEPT:
        return EncryptedJoinAccept(check_length("join accept", phy, 17, 33)[1:])
    return RejoinRequest.parse(phy)
