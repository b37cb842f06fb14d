"""Values inside Backend Interfaces messages: strict in what we write, tolerant of what others are known to write.

Hexadecimal comes with and without ``0x`` in either case, regions in lower case or with an underscore, and one result
code is misspelled in the standard itself. What is read here leaves in the standard's own spelling.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Self

MAX_GATEWAYS: Final = 64
"""Receptions in one message; a frame heard by more gateways than this is not from this world."""


class Hex(bytes):
    """Bytes that travel as hexadecimal text (TS002 1.0 §22.3); subclasses bound their size in bytes."""

    least = 0
    most = 512

    @classmethod
    def parse(cls, text: Any) -> Self:
        """From hexadecimal text. Raises ValueError, which says what was wrong but never what was in it."""
        if not isinstance(text, str):
            raise ValueError("Expected hexadecimal text")
        if len(text) > 2 * cls.most + 2:
            raise ValueError(f"Longer than {cls.most} bytes")
        digits = text[2:] if text[:2] in ("0x", "0X") else text
        try:
            made = cls(bytes.fromhex(digits))
        except ValueError:
            raise ValueError("Not hexadecimal text") from None
        if len(digits) != 2 * len(made):  # bytes.fromhex skips blanks
            raise ValueError("Not hexadecimal text")
        if not cls.least <= len(made) <= cls.most:
            expected = f"{cls.least}" if cls.least == cls.most else f"{cls.least} to {cls.most}"
            raise ValueError(f"Expected {expected} bytes, got {len(made)}")
        return made


class NetId(Hex):
    """A network's identifier."""

    least = most = 3


class Eui64(Hex):
    """A DevEUI, JoinEUI or NSID."""

    least = most = 8


class DevAddrHex(Hex):
    """A device's address in its network, most significant byte first."""

    least = most = 4


class Frame(Hex):
    """A PHYPayload or FRMPayload; a wrong size is a FrameSizeError."""

    least = 1
    most = 256


class Oui(Hex):
    """Who defined a vendor's extension."""

    least = most = 3


class TokenHex(Hex):
    """An opaque value that comes back unchanged."""

    most = 1024


class Region(str):
    """A radio region as TS002 names it: ``EU868``."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: Any) -> Region:
        """Upper case, hyphens, and without the end of the band that some append (``eu863_870``)."""
        if not isinstance(text, str) or len(text) > 40:
            raise ValueError("Expected the name of a region")
        name = text.strip().upper().replace("_", "-").replace(" ", "")
        return cls(_REGIONS.get(name, name))


_REGIONS: Final = {"EU863-870": "EU868", "EU-868": "EU868", "EU-863-870": "EU868"}


class ResultCode(StrEnum):
    """Results of TS002 1.0 and 1.1 (§22.4). Written as the standard spells them, which includes one mistake."""

    SUCCESS = "Success"
    NO_ACTION = "NoAction"
    MIC_FAILED = "MICFailed"
    FRAME_REPLAYED = "FrameReplayed"
    JOIN_REQ_FAILED = "JoinReqFailed"
    NO_ROAMING_AGREEMENT = "NoRoamingAgreement"
    DEV_ROAMING_DISALLOWED = "DevRoamingDisallowed"
    ROAMING_ACT_DISALLOWED = "RoamingActDisallowed"
    ACTIVATION_DISALLOWED = "ActivationDisallowed"
    UNKNOWN_DEV_EUI = "UnknownDevEUI"
    UNKNOWN_DEV_ADDR = "UnknownDevAddr"
    UNKNOWN_SENDER = "UnknownSender"
    UNKNOWN_RECEIVER = "UnkownReceiver"
    DEFERRED = "Deferred"
    XMIT_FAILED = "XmitFailed"
    INVALID_FPORT = "InvalidFPort"
    INVALID_PROTOCOL_VERSION = "InvalidProtocolVersion"
    STALE_DEVICE_PROFILE = "StaleDeviceProfile"
    MALFORMED_REQUEST = "MalformedRequest"
    MALFORMED_MESSAGE = "MalformedMessage"
    FRAME_SIZE_ERROR = "FrameSizeError"
    OTHER = "Other"

    @classmethod
    def _missing_(cls, value: object) -> ResultCode | None:
        """Any spelling seen in the wild; what no standard knows is ``Other`` (that is what ``Other`` is for)."""
        if not isinstance(value, str) or len(value) > 60:
            return None
        return _RESULTS.get(value.strip().lower(), cls.OTHER)

    def known_to(self, version: str) -> ResultCode:
        """The same, or the nearest that ``version`` of the standard knows."""
        return self if version == "1.1" else _IN_1_0.get(self, self)


_RESULTS: Final = {code.value.lower(): code for code in ResultCode} | {
    "unknownreceiver": ResultCode.UNKNOWN_RECEIVER,
    "roamingactdisalloweda": ResultCode.ROAMING_ACT_DISALLOWED,  # brocaar/lorawan writes it so
}
_IN_1_0: Final = {
    ResultCode.MALFORMED_MESSAGE: ResultCode.MALFORMED_REQUEST,
    ResultCode.NO_ACTION: ResultCode.SUCCESS,
    ResultCode.FRAME_REPLAYED: ResultCode.OTHER,
}


class RatePolicy(StrEnum):
    """What happens to frames above the agreed rate (TS002 1.0 §17.2)."""

    DROP = "Drop"
    MARK = "Mark"


class Activation(StrEnum):
    """How a device is activated away from home."""

    PASSIVE = "Passive"
    HANDOVER = "Handover"


def mhz(frequency_hz: int) -> float:
    """A frequency as TS002 carries it."""
    return frequency_hz / 1_000_000


def hz(frequency_mhz: float) -> int:
    """A frequency in Hz, whole to the 100 Hz that LoRaWAN can name, so that floating point leaves no trace."""
    return round(frequency_mhz * 10_000) * 100


def decode_hook(kind: type, value: Any) -> Any:
    """msgspec asks here for every type of this module."""
    if issubclass(kind, (Hex, Region)):
        return kind.parse(value)
    raise NotImplementedError(kind)


def encode_hook(value: Any) -> str:
    """The standard's spelling of this module's values."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str):
        return str.__str__(value)
    raise NotImplementedError(type(value))
