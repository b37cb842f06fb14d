"""Agreements applied to single frames: pure functions, so that a table of cases can say what is allowed.

They decide and count nothing; what was used so far comes in as :class:`Usage`, from ``meters``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from quartier.lorawan.frames.phy import Data, FrameType, JoinRequest, RejoinRequest, parse
from quartier.lorawan.roaming.fields import RatePolicy, ResultCode
from quartier.lorawan.roaming.peers import (
    Agreement,
    DataClass,
    GatewayChoice,
)
from quartier.lorawan.types import Reception

UPLINK_TYPES: Final = (
    FrameType.UNCONFIRMED_UP,
    FrameType.CONFIRMED_UP,
    FrameType.JOIN_REQUEST,
    FrameType.REJOIN_REQUEST,
)


class Refused(StrEnum):
    """Why an agreement does not cover a frame; counted and shown under these names."""

    NO_AGREEMENT = "no_agreement"
    DEVICE = "device"
    CLASS = "class"
    GATEWAY = "gateway"
    RATE = "rate"
    AIRTIME = "airtime"
    DOWNLINKS = "downlinks"
    CLASS_C = "class_c"
    KIND = "kind"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a frame may go; ``marked``: above the agreed rate, carried all the same (ULRatePolicy Mark)."""

    refused: Refused | None = None
    marked: bool = False

    @property
    def ok(self) -> bool:
        """It may go."""
        return self.refused is None

    @property
    def result(self) -> ResultCode:
        """What TS002 calls it."""
        match self.refused:
            case None:
                return ResultCode.SUCCESS
            case Refused.DEVICE | Refused.CLASS:
                return ResultCode.DEV_ROAMING_DISALLOWED
            case Refused.RATE | Refused.AIRTIME | Refused.DOWNLINKS:
                return ResultCode.DEFERRED
            case Refused.NO_AGREEMENT | Refused.GATEWAY:
                return ResultCode.NO_ROAMING_AGREEMENT
            case _:
                return ResultCode.XMIT_FAILED


ALLOWED = Verdict()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a frame says about itself without any key."""

    kind: DataClass
    type: FrameType
    dev_addr: int | None = None
    dev_eui: bytes | None = None
    join_eui: bytes | None = None
    net_id: int | None = None
    port: int | None = None
    counter: int | None = None
    confirmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What of an agreement is used up. ``tokens``: whole frames left in the device's bucket."""

    tokens: float = 1.0
    airtime_s: float = 0.0
    downlink_tokens: float = 1.0
    downlink_airtime_s: float = 0.0
    downlinks: int = 0


UNUSED = Usage()


def facts(phy: bytes) -> Facts | None:
    """What kind of frame this is; None for one that roaming has no business with. Raises FrameError."""
    frame = parse(phy)
    if isinstance(frame, Data):
        # Without a payload, or on port 0, devices and networks only talk about the radio.
        talk = not frame.port or not frame.payload
        return Facts(
            kind=DataClass.MAC if talk else DataClass.APPLICATION,
            type=frame.type,
            dev_addr=frame.dev_addr,
            port=frame.port,
            counter=frame.frame_counter,
            confirmed=frame.confirmed,
        )
    if isinstance(frame, JoinRequest):
        return Facts(
            kind=DataClass.JOIN,
            type=FrameType.JOIN_REQUEST,
            dev_eui=frame.dev_eui,
            join_eui=frame.join_eui,
        )
    if isinstance(frame, RejoinRequest):
        return Facts(
            kind=DataClass.JOIN,
            type=FrameType.REJOIN_REQUEST,
            dev_eui=frame.dev_eui,
            join_eui=frame.join_eui,
            net_id=frame.net_id,
        )
    if frame.serialise()[0] >> 5 == FrameType.JOIN_ACCEPT:
        return Facts(kind=DataClass.JOIN, type=FrameType.JOIN_ACCEPT)
    return None


def covers(agreement: Agreement, frame: Facts, tags: Mapping[str, str] | None = None) -> bool:
    """Whether the frame's device is one the agreement is about.

    Lists of addresses judge data frames, lists of EUIs judge joins and every frame whose DevEUI is known; ``tags`` are
    given where the device is our own.
    """
    devices = agreement.devices
    judged = devices.unlimited
    for value, listed in (
        (frame.dev_addr, devices.dev_addrs),
        (_number(frame.dev_eui), devices.dev_euis),
        (_number(frame.join_eui), devices.join_euis),
    ):
        if listed and value is not None:
            if not any(value in r for r in listed):
                return False
            judged = True
    if devices.tags and tags is not None:
        if any(tags.get(name) != wanted for name, wanted in devices.tags.items()):
            return False
        judged = True
    return judged


def uplink(
    agreement: Agreement | None,
    frame: Facts,
    *,
    airtime_s: float,
    usage: Usage = UNUSED,
    tags: Mapping[str, str] | None = None,
    known: bool = False,
) -> Verdict:
    """Whether an uplink may be carried under ``agreement`` (already in force).

    ``known``: of a device whose roaming began under the agreement, so that it is one of those.
    """
    if agreement is None:
        return Verdict(Refused.NO_AGREEMENT)
    if not known and not covers(agreement, frame, tags):
        return Verdict(Refused.DEVICE)
    if frame.kind not in agreement.classes:
        return Verdict(Refused.CLASS)
    limit = agreement.uplink_airtime_s_per_day
    if limit is not None and usage.airtime_s + airtime_s > limit:
        return Verdict(Refused.AIRTIME)
    if agreement.uplink_rate is not None and usage.tokens < 1:
        if agreement.uplink_rate.policy is RatePolicy.DROP:
            return Verdict(Refused.RATE)
        return Verdict(marked=True)
    return ALLOWED


def downlink(
    agreement: Agreement | None, frame: Facts, *, class_c: bool, airtime_s: float, usage: Usage = UNUSED
) -> Verdict:
    """Whether a downlink of the peer may be sent by our gateways. Its device was checked when its uplink came."""
    if agreement is None:
        return Verdict(Refused.NO_AGREEMENT)
    if frame.type not in (FrameType.UNCONFIRMED_DOWN, FrameType.CONFIRMED_DOWN, FrameType.JOIN_ACCEPT):
        return Verdict(Refused.KIND)
    if frame.kind not in agreement.classes:
        return Verdict(Refused.CLASS)
    if frame.dev_addr is not None and agreement.devices.dev_addrs and not covers(agreement, frame):
        return Verdict(Refused.DEVICE)
    if class_c and not agreement.class_c:
        return Verdict(Refused.CLASS_C)
    limit = agreement.downlink_airtime_s_per_day
    if limit is not None and usage.downlink_airtime_s + airtime_s > limit:
        return Verdict(Refused.AIRTIME)
    if agreement.downlinks_per_day is not None and usage.downlinks >= agreement.downlinks_per_day:
        return Verdict(Refused.DOWNLINKS)
    if agreement.downlink_rate is not None and usage.downlink_tokens < 1:
        if agreement.downlink_rate.policy is RatePolicy.DROP:
            return Verdict(Refused.RATE)
        return Verdict(marked=True)
    return ALLOWED


@dataclass(frozen=True, slots=True)
class Shared:
    """A reception as the peer may see it: what is not agreed is None."""

    reception: Reception
    rssi_dbm: float | None
    snr_db: float | None
    lon: float | None
    lat: float | None


def share(agreement: Agreement, receptions: Iterable[Reception]) -> Sequence[Shared]:
    """What the peer is shown of the receptions, strongest first; empty where no gateway takes part.

    A private gateway never shows its place, even where it takes part.
    """
    quality = DataClass.SIGNAL_QUALITY in agreement.classes
    location = DataClass.LOCATION in agreement.classes
    taking_part = [r for r in receptions if agreement.gateways is GatewayChoice.ALL or not r.private]
    taking_part.sort(key=lambda r: (r.snr_db, r.rssi_dbm), reverse=True)
    return tuple(
        Shared(
            r,
            r.rssi_dbm if quality else None,
            r.snr_db if quality else None,
            r.lon if location and not r.private else None,
            r.lat if location and not r.private else None,
        )
        for r in taking_part
    )


def day_of(moment: datetime) -> int:
    """The day that budgets and statements count in: days since 1970 in UTC, so that both sides mean the same."""
    return int(moment.timestamp() // 86_400)


def _number(eui: bytes | None) -> int | None:
    return int.from_bytes(eui) if eui is not None else None
