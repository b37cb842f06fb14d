"""Agreements applied to frames, as a table: agreement, frame, what was used, and the verdict."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quartier.lorawan.frames.phy import Data, FrameType, JoinRequest, Proprietary, RejoinRequest
from quartier.lorawan.roaming import policy
from quartier.lorawan.roaming.fields import RatePolicy, ResultCode
from quartier.lorawan.roaming.peers import (
    Agreement,
    DataClass,
    Devices,
    Direction,
    GatewayChoice,
    Peer,
    Range,
    Rate,
    ranges,
)
from quartier.lorawan.roaming.policy import Facts, Refused, Usage, Verdict, facts, share
from quartier.lorawan.types import Reception

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ADDRESS = 0x00E2_7D66
DEV_EUI = bytes.fromhex("70b3d57ed0000001")
JOIN_EUI = bytes.fromhex("70b3d57ed0ffff01")
EVERYTHING = Agreement(
    id=1,
    direction=Direction.CARRY,
    devices=Devices(dev_addrs=ranges(["00e20000/15"], 32), join_euis=ranges(["70b3d57ed0ffff00/56"], 64)),
    valid_from=NOW - timedelta(days=1),
    signed_here_at=NOW - timedelta(days=2),
    signed_there_at=NOW - timedelta(days=1),
)


def data(
    *,
    type: FrameType = FrameType.UNCONFIRMED_UP,
    dev_addr: int = ADDRESS,
    port: int | None = 10,
    payload: bytes = b"\x01",
) -> Facts:
    found = facts(Data(type, dev_addr, 7, port=port, payload=payload).serialise())
    assert found is not None
    return found


def join(dev_eui: bytes = DEV_EUI, join_eui: bytes = JOIN_EUI) -> Facts:
    found = facts(JoinRequest(join_eui, dev_eui, 1).serialise())
    assert found is not None
    return found


def with_devices(**devices: Any) -> Agreement:
    return replace(EVERYTHING, devices=Devices(**devices))


APPLICATION_ONLY = replace(EVERYTHING, classes=frozenset({DataClass.APPLICATION}))
MAC_ONLY = replace(EVERYTHING, classes=frozenset({DataClass.MAC}))
RATE = replace(EVERYTHING, uplink_rate=Rate(60, 10))
MARKED = replace(EVERYTHING, uplink_rate=Rate(60, 10, RatePolicy.MARK))
BUDGET = replace(EVERYTHING, uplink_airtime_s_per_day=10.0)


@pytest.mark.parametrize(
    ("agreement", "frame", "usage", "refused"),
    [
        (EVERYTHING, data(), Usage(), None),
        (None, data(), Usage(), Refused.NO_AGREEMENT),
        # devices
        (EVERYTHING, data(dev_addr=0x00E4_0000), Usage(), Refused.DEVICE),
        (EVERYTHING, join(), Usage(), None),
        (EVERYTHING, join(join_eui=bytes(8)), Usage(), Refused.DEVICE),
        (with_devices(dev_addrs=ranges(["00e27d66"], 32)), data(), Usage(), None),
        (
            with_devices(dev_addrs=ranges(["00e27d66"], 32)),
            data(dev_addr=ADDRESS + 1),
            Usage(),
            Refused.DEVICE,
        ),
        # a list of addresses says nothing about joins, and one of EUIs nothing about frames that name none
        (with_devices(dev_addrs=ranges(["00e27d66"], 32)), join(), Usage(), Refused.DEVICE),
        (with_devices(dev_euis=ranges(["70b3d57ed0000001"], 64)), join(), Usage(), None),
        (with_devices(dev_euis=ranges(["70b3d57ed0000002"], 64)), join(), Usage(), Refused.DEVICE),
        (with_devices(dev_euis=ranges(["70b3d57ed0000001"], 64)), data(), Usage(), Refused.DEVICE),
        # both lists have to fit
        (
            with_devices(
                dev_euis=ranges(["70b3d57ed0000001"], 64), join_euis=ranges(["0000000000000000"], 64)
            ),
            join(),
            Usage(),
            Refused.DEVICE,
        ),
        # classes of data
        (APPLICATION_ONLY, data(), Usage(), None),
        (APPLICATION_ONLY, data(port=0), Usage(), Refused.CLASS),
        (APPLICATION_ONLY, data(port=None, payload=b""), Usage(), Refused.CLASS),
        (APPLICATION_ONLY, data(payload=b""), Usage(), Refused.CLASS),
        (APPLICATION_ONLY, join(), Usage(), Refused.CLASS),
        (MAC_ONLY, data(), Usage(), Refused.CLASS),
        (MAC_ONLY, data(port=0), Usage(), None),
        # rates and budgets
        (RATE, data(), Usage(tokens=1.0), None),
        (RATE, data(), Usage(tokens=0.99), Refused.RATE),
        (BUDGET, data(), Usage(airtime_s=9.9), None),
        (BUDGET, data(), Usage(airtime_s=9.95), Refused.AIRTIME),
    ],
)
def test_uplinks(agreement: Agreement | None, frame: Facts, usage: Usage, refused: Refused | None) -> None:
    assert policy.uplink(agreement, frame, airtime_s=0.1, usage=usage) == Verdict(refused)


def test_frames_above_the_rate_may_be_marked_instead() -> None:
    assert policy.uplink(MARKED, data(), airtime_s=0.1, usage=Usage(tokens=0)) == Verdict(marked=True)


@pytest.mark.parametrize(
    ("wanted", "tags", "refused"),
    [
        ({"amt": "wasser"}, {"amt": "wasser", "x": "y"}, None),
        ({"amt": "wasser"}, {"amt": "tiefbau"}, Refused.DEVICE),
        ({"amt": "wasser"}, {}, Refused.DEVICE),
        ({"amt": "wasser"}, None, Refused.DEVICE),  # not our device: no tags are known
    ],
)
def test_tags_choose_among_our_own_devices(
    wanted: dict[str, str], tags: dict[str, str] | None, refused: Refused | None
) -> None:
    agreement = replace(EVERYTHING, direction=Direction.CARRIED, devices=Devices(tags=wanted))
    assert policy.uplink(agreement, data(), airtime_s=0.1, tags=tags) == Verdict(refused)


AIRTIME = replace(EVERYTHING, downlink_airtime_s_per_day=1)
DOWN: dict[str, Any] = {"type": FrameType.UNCONFIRMED_DOWN}


@pytest.mark.parametrize(
    ("agreement", "frame", "class_c", "usage", "refused"),
    [
        (EVERYTHING, data(**DOWN), False, Usage(), None),
        (EVERYTHING, data(**DOWN), True, Usage(), None),
        (None, data(**DOWN), False, Usage(), Refused.NO_AGREEMENT),
        (EVERYTHING, data(), False, Usage(), Refused.KIND),
        (EVERYTHING, data(**DOWN, dev_addr=0x0100_0000), False, Usage(), Refused.DEVICE),
        (replace(EVERYTHING, class_c=False), data(**DOWN), True, Usage(), Refused.CLASS_C),
        (replace(EVERYTHING, class_c=False), data(**DOWN), False, Usage(), None),
        (MAC_ONLY, data(**DOWN), False, Usage(), Refused.CLASS),
        (MAC_ONLY, data(**DOWN, port=0), False, Usage(), None),
        (replace(EVERYTHING, downlinks_per_day=5), data(**DOWN), False, Usage(downlinks=4), None),
        (replace(EVERYTHING, downlinks_per_day=5), data(**DOWN), False, Usage(downlinks=5), Refused.DOWNLINKS),
        (AIRTIME, data(**DOWN), False, Usage(downlink_airtime_s=0.95), Refused.AIRTIME),
        (replace(EVERYTHING, downlink_rate=Rate(6, 1)), data(**DOWN), False, Usage(downlink_tokens=0.5), Refused.RATE),
    ],
)  # fmt: skip
def test_downlinks(
    agreement: Agreement | None, frame: Facts, class_c: bool, usage: Usage, refused: Refused | None
) -> None:
    assert policy.downlink(agreement, frame, class_c=class_c, airtime_s=0.1, usage=usage) == Verdict(refused)


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        (None, ResultCode.SUCCESS),
        (Refused.NO_AGREEMENT, ResultCode.NO_ROAMING_AGREEMENT),
        (Refused.DEVICE, ResultCode.DEV_ROAMING_DISALLOWED),
        (Refused.CLASS, ResultCode.DEV_ROAMING_DISALLOWED),
        (Refused.RATE, ResultCode.DEFERRED),
        (Refused.AIRTIME, ResultCode.DEFERRED),
        (Refused.CLASS_C, ResultCode.XMIT_FAILED),
    ],
)
def test_verdicts_have_a_name_in_ts002(refused: Refused | None, code: ResultCode) -> None:
    assert Verdict(refused).result is code


@pytest.mark.parametrize(
    ("changes", "in_force"),
    [
        ({}, True),
        ({"signed_here_at": None}, False),
        ({"signed_there_at": None}, False),
        ({"valid_from": NOW + timedelta(seconds=1)}, False),
        ({"valid_until": NOW}, False),
        ({"valid_until": NOW + timedelta(seconds=1)}, True),
    ],
)
def test_agreement_is_in_force_when_both_signed_and_within_its_time(
    changes: dict[str, Any], in_force: bool
) -> None:
    agreement = replace(EVERYTHING, **changes)
    assert agreement.in_force(NOW) is in_force
    peer = Peer(key="p", name="P", agreements=(agreement,))
    assert (peer.agreement(Direction.CARRY, NOW) is not None) is in_force
    assert peer.agreement(Direction.CARRIED, NOW) is None
    assert replace(peer, enabled=False).agreement(Direction.CARRY, NOW) is None


def test_the_newest_agreement_holds() -> None:
    newer = replace(EVERYTHING, id=2, valid_from=NOW - timedelta(hours=1))
    peer = Peer(key="p", name="P", agreements=(newer, EVERYTHING))
    assert peer.agreement(Direction.CARRY, NOW) is newer


def heard(gateway: int, *, private: bool = False, snr_db: float = 0.0) -> Reception:
    return Reception(
        gateway=gateway.to_bytes(8),
        phy=b"\x40",
        frequency_hz=868_100_000,
        data_rate=5,
        received_at=NOW,
        received_monotonic=0,
        rssi_dbm=-100,
        snr_db=snr_db,
        lon=7.5,
        lat=51.5,
        private=private,
    )


RECEPTIONS = (heard(1), heard(2, private=True, snr_db=9), heard(3, snr_db=5))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [(3, 5.0, 7.5), (1, 0.0, 7.5)]),
        # A private gateway may take part, and its place stays private.
        ({"gateways": GatewayChoice.ALL}, [(2, 9.0, None), (3, 5.0, 7.5), (1, 0.0, 7.5)]),
        ({"classes": frozenset({DataClass.APPLICATION})}, [(3, None, None), (1, None, None)]),
        (
            {"classes": frozenset({DataClass.APPLICATION, DataClass.SIGNAL_QUALITY})},
            [(3, 5.0, None), (1, 0.0, None)],
        ),
    ],
)
def test_peer_sees_of_receptions_what_is_agreed(
    changes: dict[str, Any], expected: list[tuple[int, float | None, float | None]]
) -> None:
    shown = share(replace(EVERYTHING, **changes), RECEPTIONS)
    assert [(int.from_bytes(s.reception.gateway), s.snr_db, s.lon) for s in shown] == expected


def test_rejoins_are_joins_and_proprietary_frames_are_nobody_s() -> None:
    rejoin = facts(RejoinRequest(0, 0x13, None, DEV_EUI, 1).serialise())
    assert rejoin == Facts(kind=DataClass.JOIN, type=FrameType.REJOIN_REQUEST, dev_eui=DEV_EUI, net_id=0x13)
    assert facts(Proprietary(b"abc").serialise()) is None


@pytest.mark.parametrize(
    ("text", "bits", "inside", "outside"),
    [
        ("00e20000/15", 32, 0x00E3_FFFF, 0x00E4_0000),
        ("00e27d66", 32, 0x00E2_7D66, 0x00E2_7D67),
        ("0x00E27D66/32", 32, 0x00E2_7D66, 0x00E2_7D67),
        ("70-B3-D5-7E-D0-00-00-00/40", 64, 0x70B3_D57E_D0AB_CDEF, 0x70B3_D57E_D1AB_CDEF),
    ],
)
def test_ranges(text: str, bits: int, inside: int, outside: int) -> None:
    made = Range.parse(text, bits)
    assert inside in made
    assert outside not in made
    assert Range.parse(str(made), bits) == made


@pytest.mark.parametrize(
    "text", ["", "00e2", "00e20000/33", "00e20001/15", "zzzzzzzz", "00e20000/x", "00e20000/-1"]
)
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Range.parse(text, 32)
