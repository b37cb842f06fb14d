"""Quartier between two networks that have no agreement with each other, and as a join server for others."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from quartier.lorawan.frames.crypto import open_join_accept
from quartier.lorawan.frames.keys import derive_1_0
from quartier.lorawan.frames.keywrap import unwrap
from quartier.lorawan.frames.phy import EncryptedJoinAccept
from quartier.lorawan.roaming.joining import HOME_TAG
from quartier.lorawan.roaming.peers import Credentials, Devices, Direction, Peer, ranges
from quartier.virtual.lora.device import Otaa
from tests.lorawan.network.scene import JOIN_EUI, Scene, until
from tests.lorawan.roaming.peer import StrictPeer
from tests.lorawan.roaming.scene import KEK, City, agreement
from tests.lorawan.roaming.test_strict_peer import OURS_ID, downlink, emission, start_of, success, windows


@asynccontextmanager
async def peers(alone: City, *names: tuple[str, str], **changes: Any) -> AsyncIterator[list[StrictPeer]]:
    """Strict peers by key and NetID, all of them ours."""
    async with AsyncExitStack() as stack:
        made, known = [], []
        for number, (key, net_id) in enumerate(names):
            strict = StrictPeer(net_id, OURS_ID)
            await strict.start()
            stack.push_async_callback(strict.stop)
            secret = f"Bearer {key}"
            strict.headers = {"Authorization": secret}
            strict.other_url = f"http://127.0.0.1:{alone.roaming.port}/"
            made.append(strict)
            known.append(
                Peer(
                    id=1,
                    key=key,
                    name=key,
                    net_ids=(net_id,),
                    url=strict.url,
                    credentials=Credentials(bearer_digest=hashlib.sha256(secret.encode()).hexdigest()),
                    keks={"k": KEK},
                    kek_label="k",
                    agreements=(
                        agreement(Direction.CARRY, devices=Devices()),
                        agreement(Direction.CARRIED, devices=Devices(dev_addrs=ranges(["14000000/7"], 32))),
                    )
                    if number == 0
                    else (agreement(Direction.CARRY, devices=Devices()),),
                )
            )
        await alone.roaming.use(known)
        yield made
        for strict in made:
            assert strict.violations == []


async def test_hub_carries_between_two_peers(alone: City) -> None:
    async with peers(alone, ("hamm", "00000b"), ("schwerte", "00000a")) as (hamm, home):
        home.replies["PRStartReq"] = success(Lifetime=0)
        hamm.replies["XmitDataReq"] = success(DLFreq1=868.3)
        # Hamm hears a device of the third network, whom it does not know; we do.
        answer = await hamm.ask("PRStartReq", **start_of(emission(1)))
        assert answer["Result"]["ResultCode"] == "Success"
        (start,) = home.of_type("PRStartReq")
        assert start["PHYPayload"] == emission(1).phy.hex()
        assert [g["SNR"] for g in start["ULMetaData"]["GWInfo"]] == [8.5, 1.5]
        # The downlink goes back through us, with Hamm's own token.
        answer = await home.ask("XmitDataReq", PHYPayload=downlink(), DLMetaData=windows(start))
        assert (answer["Result"]["ResultCode"], answer["DLFreq1"]) == ("Success", 868.3)
        (xmit,) = hamm.of_type("XmitDataReq")
        assert (xmit["PHYPayload"], xmit["DLMetaData"]["GWInfo"][0]["ULToken"]) == (downlink(), "02")
        assert alone.sky.sent == []


async def test_peer_s_frame_never_goes_back_to_it(alone: City) -> None:
    async with peers(alone, ("hamm", "00000a")) as (hamm,):
        answer = await hamm.ask("PRStartReq", **start_of(emission(1)))
        assert answer["Result"]["ResultCode"] == "UnknownDevAddr"
        assert hamm.received == []


# Join server for others


def join_request(phy: bytes, dev_eui: bytes) -> dict[str, Any]:
    return {
        "MACVersion": "1.0.3",
        "PHYPayload": phy.hex(),
        "DevEUI": dev_eui.hex(),
        "DevAddr": "14001234",
        "DLSettings": "13",
        "RxDelay": 3,
    }


async def test_join_for_another_network_s_server(alone: City, scene_alone: Scene) -> None:
    async with peers(alone, ("hamm", "00000a")) as (hamm,):
        hamm.other = JOIN_EUI.hex()
        device = await scene_alone.otaa(tags={HOME_TAG: "00000a"})
        identity = device.identity
        assert isinstance(identity, Otaa)
        assert (await hamm.ask("HomeNSReq", DevEUI=identity.dev_eui.hex()))["HNetID"] == "00000a"
        request = device.join()
        answer = await hamm.ask("JoinReq", **join_request(request.phy, identity.dev_eui))
        assert answer["Result"]["ResultCode"] == "Success"
        accept = open_join_accept(
            identity.app_key, identity.app_key, EncryptedJoinAccept(bytes.fromhex(answer["PHYPayload"])[1:])
        )
        assert (accept.net_id, accept.dev_addr, accept.rx_delay_s) == (0x0A, 0x1400_1234, 3)
        assert (accept.rx1_data_rate_offset, accept.rx2_data_rate) == (1, 3)
        expected = derive_1_0(
            identity.app_key,
            join_nonce=accept.join_nonce,
            net_id=accept.net_id,
            dev_nonce=int.from_bytes(request.phy[17:19], "little"),
        )
        assert unwrap(KEK, bytes.fromhex(answer["NwkSKey"]["AESKey"])) == expected.f_nwk_s_int_key
        # The network server does not get the application's key, who asks for it by name does.
        assert "AppSKey" not in answer
        hamm_as_application = await hamm.ask(
            "AppSKeyReq", DevEUI=identity.dev_eui.hex(), SessionKeyID=answer["SessionKeyID"]
        )
        assert unwrap(KEK, bytes.fromhex(hamm_as_application["AppSKey"]["AESKey"])) == expected.app_s_key
        device.receive(bytes.fromhex(answer["PHYPayload"]), "RX1")
        assert device.state is not None
        assert device.state.keys == expected
        # The nonce is used up.
        again = await hamm.ask("JoinReq", **join_request(request.phy, identity.dev_eui))
        assert again["Result"]["ResultCode"] == "JoinReqFailed"


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("home is ours", "ActivationDisallowed"),
        ("home is another", "ActivationDisallowed"),
        ("wrong MIC", "MICFailed"),
        ("another JoinEUI", "UnkownReceiver"),
        ("unknown device", "UnknownDevEUI"),
        ("of another device", "MalformedRequest"),
    ],
)
async def test_joins_that_are_not_answered(alone: City, scene_alone: Scene, case: str, code: str) -> None:
    async with peers(alone, ("hamm", "00000a")) as (hamm,):
        hamm.other = JOIN_EUI.hex()
        tags = {"home is ours": {}, "home is another": {HOME_TAG: "00000c"}}.get(case, {HOME_TAG: "00000a"})
        device = await scene_alone.otaa(tags=tags)
        identity = device.identity
        assert isinstance(identity, Otaa)
        message = join_request(device.join().phy, identity.dev_eui)
        match case:
            case "wrong MIC":
                message["PHYPayload"] = message["PHYPayload"][:-2] + "00"
            case "another JoinEUI":
                hamm.other = "00" * 8
            case "unknown device":
                message["DevEUI"] = "00" * 8
            case "of another device":
                other = await scene_alone.otaa(tags=tags)
                message["PHYPayload"] = other.join().phy.hex()
        answer = await hamm.ask("JoinReq", **message)
        assert answer["Result"]["ResultCode"] == code
        assert "NwkSKey" not in answer
    await until(lambda: alone.network.open_frames == 0)
