"""Against a peer by the book: what we send it, and what we make of what it sends."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from quartier.lorawan.frames.crypto import seal_data, session_1_0
from quartier.lorawan.frames.keywrap import unwrap, wrap
from quartier.lorawan.frames.phy import Data, FrameType, JoinRequest
from quartier.lorawan.roaming import metrics
from quartier.lorawan.roaming.peers import (
    Credentials,
    DataClass,
    Devices,
    Direction,
    MicKey,
    Peer,
    PeerProtocol,
    Rate,
    ranges,
)
from quartier.lorawan.types import TransmitError
from quartier.virtual.lora.air import Emission
from tests.lorawan.network.scene import GATEWAY, JOIN_EUI, OTHER, Scene, until
from tests.lorawan.roaming.peer import StrictPeer
from tests.lorawan.roaming.scene import KEK, City, agreement

OURS_ID, STRICT_ID = "000000", "00000a"
SECRET = "Bearer by the book"
ADDRESS = 0x1400_1234  # of NetID 00000A: type 0, NwkID 10 (TS002 1.0 §13)
DEV_EUI = bytes.fromhex("0000000000c0ffee")
KEYS = session_1_0(bytes(range(16)), bytes(range(16, 32)))
Connect = Callable[..., AbstractAsyncContextManager[StrictPeer]]


def on_air(phy: bytes, frequency_hz: int = 868_300_000, data_rate: int = 5) -> Emission:
    """A frame as a gateway hears it."""
    return Emission(
        phy=phy,
        frequency_hz=frequency_hz,
        data_rate=data_rate,
        channel=0,
        power_dbm=14,
        airtime_s=0.1,
        pause_s=0,
    )


def emission(counter: int, *, address: int = ADDRESS, port: int = 5) -> Emission:
    """A frame of the peer's device."""
    data = Data(FrameType.UNCONFIRMED_UP, address, 0, port=port, payload=b"abc")
    return on_air(seal_data(KEYS, data, counter))


def downlink(counter: int = 0, *, address: int = ADDRESS) -> str:
    """A frame for it, as the peer would send it through us."""
    data = Data(FrameType.UNCONFIRMED_DOWN, address, 0, port=9, payload=b"xyz")
    return seal_data(KEYS, data, counter).hex()


def windows(start: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """DLMetaData that answers a PRStartReq in both windows."""
    heard = start["ULMetaData"]
    return {
        "DLFreq1": heard["ULFreq"],
        "DataRate1": heard["DataRate"],
        "DLFreq2": 869.525,
        "DataRate2": 0,
        "RXDelay1": 1,
        "ClassMode": "A",
        "FNSULToken": heard["FNSULToken"],
        "GWInfo": [{"ID": g["ID"], "ULToken": g["ULToken"]} for g in heard["GWInfo"]],
    } | changes


def refused(reason: str) -> float:
    return float(metrics.REFUSED.labels("strict", reason)._value.get())


EVERY_MODE = pytest.mark.parametrize("connect", ["1.0", "1.1", "1.0 asynchronous"], indirect=True)


@pytest.fixture
def connect(request: pytest.FixtureRequest, alone: City) -> Connect:
    """Makes a strict peer our only one, in 1.0 or as a test asks; nothing it sees may be against the standard."""
    version, _, mode = getattr(request, "param", "1.0").partition(" ")

    @asynccontextmanager
    async def begin(
        carry: dict[str, Any] | None = None, carried: dict[str, Any] | None = None, **changes: Any
    ) -> AsyncIterator[StrictPeer]:
        strict = StrictPeer(STRICT_ID, OURS_ID, version=version, asynchronous=bool(mode))
        await strict.start()
        strict.headers = {"Authorization": SECRET}
        strict.other_url = f"http://127.0.0.1:{alone.roaming.port}/"
        settings: dict[str, Any] = {
            "id": 1,
            "key": "strict",
            "name": "By the book",
            "net_ids": (STRICT_ID,),
            "protocol": PeerProtocol(f"ts002-{version}"),
            "asynchronous": bool(mode),
            "url": strict.url,
            "credentials": Credentials(bearer_digest=hashlib.sha256(SECRET.encode()).hexdigest()),
            "keks": {"k": KEK},
            "kek_label": "k",
            "agreements": (
                agreement(Direction.CARRY, **({"devices": Devices()} | (carry or {}))),
                agreement(Direction.CARRIED, **(carried or {})),
            ),
        }
        await alone.roaming.use([Peer(**(settings | changes))])
        try:
            yield strict
            assert strict.violations == []
        finally:
            await strict.stop()

    return begin


def success(**objects: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda _: {"Result": {"ResultCode": "Success"}} | objects


def failure(code: str, **objects: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda _: {"Result": {"ResultCode": code}} | objects


async def forwarded(alone: City, sent: Emission, by: Iterable[bytes] = (GATEWAY,)) -> bool:
    """Our gateways hear a frame; whether the peer took it."""
    alone.hear(sent, dict.fromkeys(by, 4.0))
    outcome = await alone.network.outcome(sent.phy)
    await until(lambda: alone.network.open_frames == 0)
    return outcome.forwarded


# Forwarding: our gateways, their devices


@EVERY_MODE
async def test_frame_is_forwarded_and_answered_through_the_gateway_it_names(
    connect: Connect, alone: City
) -> None:
    async with connect() as strict:
        strict.replies["PRStartReq"] = success(Lifetime=0)
        assert await forwarded(alone, emission(1), [GATEWAY, OTHER])
        (start,) = strict.of_type("PRStartReq")
        heard = start["ULMetaData"]
        assert start["PHYPayload"] == emission(1).phy.hex()
        assert (heard["DevAddr"], heard["ULFreq"], heard["DataRate"], heard["FPort"]) == (
            "14001234",
            868.3,
            5,
            5,
        )
        assert [(g["RSSI"], g["SNR"], g["Lat"]) for g in heard["GWInfo"]] == [(-100, 4.0, 51.45)] * 2
        assert {g["ID"] for g in heard["GWInfo"]} == {GATEWAY[-4:].hex(), OTHER[-4:].hex()}
        answer = await strict.ask("XmitDataReq", PHYPayload=downlink(), DLMetaData=windows(start))
        assert (answer["Result"], answer["DLFreq1"]) == ({"ResultCode": "Success"}, 868.3)
        (sent,) = alone.sky.sent
        assert (sent.phy.hex(), sent.gateway in (GATEWAY, OTHER)) == (downlink(), True)
        assert [(w.frequency_hz, w.data_rate, w.delay_s) for w in sent.windows] == [
            (868_300_000, 5, 1.0),
            (869_525_000, 0, 2.0),
        ]


async def test_second_window_is_named_if_it_was_used(connect: Connect, alone: City) -> None:
    async with connect() as strict:
        strict.replies["PRStartReq"] = success(Lifetime=0)
        alone.sky.window = 1
        await forwarded(alone, emission(1))
        (start,) = strict.of_type("PRStartReq")
        answer = await strict.ask("XmitDataReq", PHYPayload=downlink(), DLMetaData=windows(start))
        assert "DLFreq1" not in answer
        assert answer["DLFreq2"] == 869.525


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"GWInfo": [], "FNSULToken": "00ff"}, "XmitFailed", "token_forged"),
        ({"GWInfo": [{"ULToken": "ab" * 100}]}, "XmitFailed", "token_forged"),
        ({"ClassMode": "B"}, "XmitFailed", ""),
    ],
)
async def test_downlink_that_may_not_go(
    connect: Connect, alone: City, changes: dict[str, Any], code: str, reason: str
) -> None:
    async with connect() as strict:
        strict.replies["PRStartReq"] = success(Lifetime=0)
        await forwarded(alone, emission(1))
        (start,) = strict.of_type("PRStartReq")
        before = refused(reason)
        answer = await strict.ask("XmitDataReq", PHYPayload=downlink(), DLMetaData=windows(start, **changes))
        assert answer["Result"]["ResultCode"] == code
        assert refused(reason) == before + bool(reason)
        assert alone.sky.sent == []


async def test_token_of_one_device_does_not_serve_another(connect: Connect, alone: City) -> None:
    async with connect() as strict:
        strict.replies["PRStartReq"] = success(Lifetime=0)
        await forwarded(alone, emission(1))
        (start,) = strict.of_type("PRStartReq")
        other = downlink(address=ADDRESS + 1)
        answer = await strict.ask("XmitDataReq", PHYPayload=other, DLMetaData=windows(start))
        assert answer["Result"]["ResultCode"] == "XmitFailed"
        assert alone.sky.sent == []


async def test_true_result_is_told(connect: Connect, alone: City) -> None:
    async with connect() as strict:
        strict.replies["PRStartReq"] = success(Lifetime=0)
        await forwarded(alone, emission(1))
        (start,) = strict.of_type("PRStartReq")
        alone.sky.failures = [TransmitError.NO_CONFIRMATION]
        answer = await strict.ask("XmitDataReq", PHYPayload=downlink(), DLMetaData=windows(start))
        assert answer["Result"] == {"ResultCode": "XmitFailed", "Description": "no_confirmation: told so"}
        assert len(alone.sky.sent) == 1


async def test_class_c_downlink_needs_no_fresh_uplink(connect: Connect, alone: City) -> None:
    async with connect() as strict:
        strict.replies["PRStartReq"] = success(Lifetime=0)
        await forwarded(alone, emission(1))
        (start,) = strict.of_type("PRStartReq")
        heard = start["ULMetaData"]
        metadata = {
            "ClassMode": "C",
            "DLFreq2": 869.525,
            "DataRate2": 0,
            "GWInfo": [{"ID": g["ID"], "ULToken": g["ULToken"]} for g in heard["GWInfo"]],
        }
        # A group's address, too: it never sends, so that the token is a member's.
        for address in (ADDRESS, ADDRESS + 99):
            answer = await strict.ask(
                "XmitDataReq", PHYPayload=downlink(address=address), DLMetaData=metadata
            )
            assert (answer["Result"], answer["DLFreq2"]) == ({"ResultCode": "Success"}, 869.525)
        assert [(s.windows[0].delay_s, s.context, s.gateway) for s in alone.sky.sent] == [
            (None, {}, GATEWAY)
        ] * 2


async def test_downlink_budget_is_kept(connect: Connect, alone: City) -> None:
    async with connect(carry={"downlinks_per_day": 1}) as strict:
        strict.replies["PRStartReq"] = success(Lifetime=0)
        await forwarded(alone, emission(1))
        (start,) = strict.of_type("PRStartReq")
        codes = [
            (await strict.ask("XmitDataReq", PHYPayload=downlink(n), DLMetaData=windows(start)))["Result"][
                "ResultCode"
            ]
            for n in range(2)
        ]
        assert codes == ["Success", "Deferred"]


async def test_deferred_device_is_not_offered_again(connect: Connect, alone: City) -> None:
    async with connect() as strict:
        strict.replies["PRStartReq"] = failure("Deferred", Lifetime=3600)
        assert not await forwarded(alone, emission(1))
        assert not await forwarded(alone, emission(2))
        assert len(strict.of_type("PRStartReq")) == 1
        # PRStopReq with a lifetime of 0 lifts it (§11.3.3).
        answer = await strict.ask("PRStopReq", DevEUI=DEV_EUI.hex(), DevAddr="14001234", Lifetime=0)
        assert answer["Result"]["ResultCode"] == "UnknownDevEUI"
        strict.replies["PRStartReq"] = success(Lifetime=0)
        assert await forwarded(alone, emission(3))


@EVERY_MODE
async def test_stateful_roaming_checks_the_mic_itself(connect: Connect, alone: City) -> None:
    key = {"KEKLabel": "k", "AESKey": wrap(KEK, KEYS.f_nwk_s_int_key).hex()}
    async with connect(carry={"lifetime_s": 3600}) as strict:
        strict.replies["PRStartReq"] = success(
            Lifetime=3600, DevEUI=DEV_EUI.hex(), NwkSKey=key, FCntUp=70_000, SenderToken="aa01"
        )
        strict.replies["XmitDataReq"] = success()
        assert await forwarded(alone, emission(70_000))
        # The counter goes on above 16 bits; a frame of somebody else at the same address is none of this session's.
        assert await forwarded(alone, emission(70_001))
        (xmit,) = strict.of_type("XmitDataReq")
        assert (xmit["ULMetaData"]["DevEUI"], xmit["ULMetaData"]["FCntUp"]) == (DEV_EUI.hex(), 70_001)
        assert xmit["ReceiverToken"] == "aa01"
        broken = on_air(emission(70_002).phy[:-1] + b"\0")
        strict.replies["PRStartReq"] = failure("MICFailed")
        assert not await forwarded(alone, broken)
        assert (len(strict.of_type("XmitDataReq")), len(strict.of_type("PRStartReq"))) == (1, 2)
        # The serving network ends it; from then on it is asked again.
        answer = await strict.ask("PRStopReq", DevEUI=DEV_EUI.hex(), DevAddr="14001234")
        assert answer["Result"]["ResultCode"] == "Success"
        assert not await forwarded(alone, emission(70_003))
        assert len(strict.of_type("PRStartReq")) == 3


async def test_rate_of_the_serving_network_s_profile_is_kept(connect: Connect, alone: City) -> None:
    async with connect(carry={"lifetime_s": 3600}) as strict:
        profile = {"ULRate": 1, "ULBucketSize": 2, "ULRatePolicy": "Drop"}
        strict.replies["PRStartReq"] = success(Lifetime=3600, DevEUI=DEV_EUI.hex(), ServiceProfile=profile)
        strict.replies["XmitDataReq"] = success()
        assert [await forwarded(alone, emission(n)) for n in range(5)] == [True, True, True, False, False]
        assert len(strict.of_type("XmitDataReq")) == 2


@EVERY_MODE
async def test_join_accept_goes_out_in_the_windows_of_the_answer(connect: Connect, alone: City) -> None:
    request = JoinRequest(JOIN_EUI, DEV_EUI, 7, b"mic!").serialise()
    accept = "20" + "ab" * 16
    carry = {"devices": Devices(dev_euis=ranges([DEV_EUI.hex()], 64))}
    async with connect(carry=carry) as strict:
        strict.replies["PRStartReq"] = lambda start: {
            "Result": {"ResultCode": "Success"},
            "Lifetime": 0,
            "PHYPayload": accept,
            "DLMetaData": windows(start, RXDelay1=5),
        }
        assert await forwarded(alone, on_air(request, 868_500_000, 3))
        (sent,) = alone.sky.sent
        assert (sent.phy.hex(), [w.delay_s for w in sent.windows]) == (accept, [5.0, 6.0])
        assert [(w.frequency_hz, w.data_rate) for w in sent.windows] == [(868_500_000, 3), (869_525_000, 0)]


async def test_home_of_a_joining_device_is_asked_for_once(connect: Connect, alone: City) -> None:
    async with connect(join_euis=ranges([f"{JOIN_EUI.hex()}"], 64), carry={"devices": Devices(
        dev_euis=ranges([DEV_EUI.hex()], 64), join_euis=ranges(["0000000000000000"], 64)
    )}) as strict:  # fmt: skip
        # The agreement's lists do not cover the join, so that its home has to be asked for; it still is not covered.
        strict.other = OURS_ID
        strict.net_id = JOIN_EUI.hex()
        strict.replies["HomeNSReq"] = success(HNetID=STRICT_ID)
        for nonce in (1, 2):
            request = JoinRequest(JOIN_EUI, DEV_EUI, nonce, b"mic!").serialise()
            assert not await forwarded(alone, on_air(request, 868_500_000, 3))
        (asked,) = strict.of_type("HomeNSReq")
        assert asked["DevEUI"] == DEV_EUI.hex()


async def test_rate_of_a_device_is_kept(connect: Connect, alone: City) -> None:
    async with connect(carry={"uplink_rate": Rate(1, 2)}) as strict:
        strict.replies["PRStartReq"] = success(Lifetime=0)
        assert [await forwarded(alone, emission(n)) for n in range(3)] == [True, True, False]
        assert await forwarded(alone, emission(0, address=ADDRESS + 1))


async def test_what_is_not_agreed_does_not_leave_the_house(connect: Connect, alone: City) -> None:
    classes = frozenset({DataClass.APPLICATION})
    async with connect(carry={"classes": classes}) as strict:
        strict.replies["PRStartReq"] = success(Lifetime=0)
        assert not await forwarded(alone, emission(1, port=0))
        assert await forwarded(alone, emission(2))
        (start,) = strict.of_type("PRStartReq")
        (gateway,) = start["ULMetaData"]["GWInfo"]
        assert set(gateway) == {"ID", "RFRegion", "ULToken", "DLAllowed"}


async def test_mic_filter_inside_the_shared_net_id(connect: Connect, alone: City) -> None:
    address = 0x00E2_7D66
    key = MicKey(dev_addr=address, key=KEYS.f_nwk_s_int_key, dev_eui=DEV_EUI)
    carry = {"devices": Devices(dev_addrs=ranges(["00e20000/16"], 32)), "mic_filter": True}
    async with connect(carry=carry, mic_keys={address: (key,)}) as strict:
        strict.replies["PRStartReq"] = success(Lifetime=0)
        assert await forwarded(alone, emission(70_001, address=address))
        # The same address, but another device's key; and an address without a key.
        stranger = seal_data(
            session_1_0(bytes(16), bytes(16)),
            Data(FrameType.UNCONFIRMED_UP, address, 0, port=5, payload=b"abc"),
            1,
        )
        assert not await forwarded(alone, on_air(stranger))
        assert not await forwarded(alone, emission(1, address=address + 1))
        assert len(strict.of_type("PRStartReq")) == 1
    (row,) = await alone.rows(we_carry=True)
    assert (row["dev_addr"], row["dev_eui"]) == (address, DEV_EUI.hex())


# Serving: their gateways, our devices


def start_of(emitted: Emission, **changes: Any) -> dict[str, Any]:
    """PRStartReq of a frame that the peer's two gateways heard."""
    return {
        "PHYPayload": emitted.phy.hex(),
        "ULMetaData": {
            "DataRate": emitted.data_rate,
            "ULFreq": emitted.frequency_hz / 1e6,
            "RecvTime": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "RFRegion": "EU868",
            "GWCnt": 2,
            "GWInfo": [
                {"ID": "00000001", "RSSI": -110, "SNR": 1.5, "ULToken": "01", "Lat": 51.4, "Lon": 7.5},
                {"ID": "00000002", "RSSI": -90, "SNR": 8.5, "ULToken": "02"},
            ],
        }
        | changes,
    }


@EVERY_MODE
async def test_our_device_is_served_through_their_gateways(
    connect: Connect, alone: City, scene_alone: Scene
) -> None:
    async with connect() as strict:
        device = await scene_alone.abp()
        strict.replies["XmitDataReq"] = success(DLFreq1=868.1)
        answer = await strict.ask("PRStartReq", **start_of(device.uplink(b"\x2a", 7, confirmed=True)))
        assert (answer["Result"], answer["Lifetime"]) == ({"ResultCode": "Success"}, 0)
        assert "DevEUI" not in answer
        await until(lambda: strict.of_type("XmitDataReq"))
        (xmit,) = strict.of_type("XmitDataReq")
        metadata = xmit["DLMetaData"]
        # The better gateway's token comes first.
        assert [g["ULToken"] for g in metadata["GWInfo"]] == ["02", "01"]
        assert (metadata["RXDelay1"], metadata["ClassMode"]) == (1, "A")
        heard = device.receive(bytes.fromhex(xmit["PHYPayload"]), "RX1")
        assert heard is not None
        assert heard.acknowledged
        (up,) = await scene_alone.ups()
        assert [(r.peer, r.rssi, r.snr) for r in up.receptions] == [
            ("strict", -90, 8.5),
            ("strict", -110, 1.5),
        ]
        await until(lambda: alone.network.open_frames == 0)


@EVERY_MODE
async def test_state_and_wrapped_key_where_agreed(connect: Connect, scene_alone: Scene) -> None:
    carried = {"lifetime_s": 600, "hand_over_keys": True, "uplink_rate": Rate(60, 5)}
    async with connect(carried=carried) as strict:
        device = await scene_alone.abp()
        answer = await strict.ask("PRStartReq", **start_of(device.uplink(b"\x2a", 7)))
        assert (answer["Lifetime"], answer["DevEUI"], answer["FCntUp"]) == (
            600,
            scene_alone.eui_of(device).hex(),
            0,
        )
        assert answer["NwkSKey"]["KEKLabel"] == "k"
        assert device.state is not None
        key = unwrap(KEK, bytes.fromhex(answer["NwkSKey"]["AESKey"]))
        assert key == device.state.keys.f_nwk_s_int_key
        assert (answer["ServiceProfile"]["ULRate"], answer["ServiceProfile"]["ULRatePolicy"]) == (60, "Drop")
        # Stateful: the next frame comes as XmitDataReq.
        start = start_of(device.uplink(b"\x2b", 7))
        answer = await strict.ask("XmitDataReq", **start)
        assert answer["Result"]["ResultCode"] == "Success"
        assert [up.data for up in await scene_alone.ups()] == [b"\x2a", b"\x2b"]
        codes = [
            (await strict.ask("PRStopReq", DevEUI=scene_alone.eui_of(device).hex()))["Result"]["ResultCode"]
            for _ in range(2)
        ]
        assert codes == ["Success", "UnknownDevEUI"]


async def test_no_kek_no_key(connect: Connect, scene_alone: Scene) -> None:
    async with connect(carried={"lifetime_s": 600, "hand_over_keys": True}, keks={}) as strict:
        device = await scene_alone.abp()
        answer = await strict.ask("PRStartReq", **start_of(device.uplink(b"\x2a", 7)))
        assert answer["Result"]["ResultCode"] == "Success"
        assert not {"NwkSKey", "FNwkSIntKey"} & answer.keys()


@EVERY_MODE
async def test_join_of_our_device_through_their_gateways(connect: Connect, scene_alone: Scene) -> None:
    async with connect() as strict:
        device = await scene_alone.otaa()
        answer = await strict.ask("PRStartReq", **start_of(device.join()))
        assert answer["Result"]["ResultCode"] == "Success"
        metadata = answer["DLMetaData"]
        assert (metadata["RXDelay1"], [g["ULToken"] for g in metadata["GWInfo"]]) == (5, ["02", "01"])
        assert not {"NwkSKey", "FNwkSIntKey"} & answer.keys()
        device.receive(bytes.fromhex(answer["PHYPayload"]), "RX1")
        assert device.state is not None


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("no agreement", "NoRoamingAgreement"),
        ("wrong MIC", "MICFailed"),
        ("unknown address", "UnknownDevAddr"),
        ("unknown device", "UnknownDevEUI"),
        ("replay", "FrameReplayed"),
        ("may not roam", "DevRoamingDisallowed"),
        ("may not join here", "RoamingActDisallowed"),
        ("truncated", "FrameSizeError"),
        ("no frequency", "MalformedMessage"),
        ("a downlink", "MalformedMessage"),
    ],
)
@pytest.mark.parametrize("connect", ["1.1"], indirect=True)
async def test_refusals_have_the_standard_s_names(
    connect: Connect, scene_alone: Scene, case: str, expected: str
) -> None:
    changes: dict[str, Any] = {"valid_until": datetime.now(UTC)} if case == "no agreement" else {}
    async with connect(carried=changes) as strict:
        strict.other = OURS_ID
        device = await scene_alone.abp(may_roam=case != "may not roam")
        frame = device.uplink(b"\x2a", 7)
        message = start_of(frame)
        match case:
            case "wrong MIC":
                message["PHYPayload"] = message["PHYPayload"][:-2] + "00"
            case "unknown address":
                message = start_of(emission(1, address=0x0012_3456))
            case "unknown device":
                request = JoinRequest(JOIN_EUI, DEV_EUI, 7, b"mic!").serialise()
                message = start_of(on_air(request, 868_500_000, 3))
            case "replay":
                for _ in range(3):
                    await strict.ask("PRStartReq", **start_of(device.uplink(b"\x2a", 7)))
            case "may not join here":
                joiner = await scene_alone.otaa(may_roam=False)
                message = start_of(joiner.join())
            case "truncated":
                message["PHYPayload"] = message["PHYPayload"][:16]
            case "no frequency":
                del message["ULMetaData"]["ULFreq"]
            case "a downlink":
                message["PHYPayload"] = downlink()
        answer = await strict.ask("PRStartReq", **message)
        assert answer["Result"]["ResultCode"] == expected
        assert strict.of_type("XmitDataReq") == []


async def test_home_and_profile_are_told_to_who_may_carry(connect: Connect, scene_alone: Scene) -> None:
    async with connect() as strict:
        device = await scene_alone.otaa()
        roaming, staying = scene_alone.eui_of(device), (await scene_alone.otaa(may_roam=False)).identity
        strict.other = OURS_ID
        answer = await strict.ask("ProfileReq", DevEUI=roaming.hex())
        assert answer["RoamingActivationType"] == "Passive"
        profile = answer["DeviceProfile"]
        assert (profile["MACVersion"], profile["RFRegion"], profile["SupportsClassC"]) == (
            "1.0.3",
            "EU868",
            False,
        )
        # SF12 at 125 kHz, coding rate 4/5: 12 · 125000 / 4096 · 0.8
        assert (profile["RXFreq2"], profile["RXDataRate2"]) == (869.525, 293)
        codes = [
            (await strict.ask("ProfileReq", DevEUI=eui.hex()))["Result"]["ResultCode"]
            for eui in (staying.dev_eui, DEV_EUI)  # type: ignore[union-attr]
        ]
        assert codes == ["DevRoamingDisallowed", "UnknownDevEUI"]
        strict.other = JOIN_EUI.hex()
        assert (await strict.ask("HomeNSReq", DevEUI=roaming.hex()))["HNetID"] == OURS_ID
        assert (await strict.ask("HomeNSReq", DevEUI=DEV_EUI.hex()))["Result"][
            "ResultCode"
        ] == "UnknownDevEUI"
