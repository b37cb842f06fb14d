"""Peers and agreements: what staff may do with them, how the radio reads them, whom a frame belongs to."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async

from quartier.cities.rules import SYSTEM, Actor, NotAllowed
from quartier.engines.pools import Pool
from quartier.lorawan.roaming import registry
from quartier.lorawan.roaming.book import PeerBook
from quartier.lorawan.roaming.peers import DataClass, Devices, Direction, Peer, PeerProtocol, Rate, ranges
from quartier.lorawan.roaming.policy import facts
from tests.lorawan.roaming.scene import KEK, LONG_AGO, agreement
from tests.lorawan.roaming.test_policy import NOW, data, join

if TYPE_CHECKING:
    from tests.lorawan.roaming.certificates import Authority
    from tests.world import World

PLAIN: dict[str, Any] = {
    "name": "Stadt Schwerte",
    "net_ids": ["00000A"],
    "url": "https://ns.schwerte.example",
}
VISITOR = Actor("visitor")


async def saved(world: World, key: str = "schwerte", **values: Any) -> Any:
    from quartier.lorawan.domain.peers import save_peer

    return await sync_to_async(save_peer)(SYSTEM, world.municipality, key, **(PLAIN | values))


async def test_peer_and_signed_agreement_reach_the_radio(
    world: World, pool: Pool, authority: Authority
) -> None:
    from quartier.cities.models import AuditEntry
    from quartier.lorawan.domain import peers

    identity = authority.identity("dortmund.example")
    secret = {
        "certificate": identity.certificate,
        "key": identity.key,
        "ca": authority.certificate,
        "keks": {"grenze": KEK.hex()},
        "mic_keys": [{"dev_addr": "00e27d66", "key": "00" * 16, "dev_eui": "70b3d57ed0000001"}],
    }
    peer = await saved(
        world,
        secret=secret,
        kek_label="grenze",
        fingerprints=["AB:" * 31 + "CD"],
        join_euis=["70-B3-D5-7E-D0-00-00-00/40"],
    )
    for text in (identity.key, KEK.hex()):
        assert text not in peer.sealed
    proposed = await sync_to_async(peers.propose)(
        SYSTEM,
        peer,
        "carry",
        purpose="Gegenseitige Mitnutzung",
        dev_addrs=["00e20000/16"],
        classes=["application", "join"],
        uplink_rate_per_h=60,
        lifetime_s=3600,
        hand_over_keys=True,
    )
    (loaded,) = await registry.load(pool)
    assert loaded.agreement(Direction.CARRY, NOW + timedelta(days=3650)) is None
    await sync_to_async(peers.sign)(SYSTEM, proposed)
    await sync_to_async(peers.note_signature)(SYSTEM, proposed, "M. Muster, Stadt Schwerte")
    (loaded,) = await registry.load(pool)
    agreed = loaded.agreement(Direction.CARRY, NOW + timedelta(days=3650))
    assert agreed is not None
    assert (agreed.devices, agreed.classes, agreed.uplink_rate, agreed.lifetime_s) == (
        Devices(dev_addrs=ranges(["00e20000/16"], 32)),
        frozenset({DataClass.APPLICATION, DataClass.JOIN}),
        Rate(60, 10),
        3600,
    )
    assert (loaded.net_ids, loaded.protocol, loaded.url) == (
        ("00000a",),
        PeerProtocol.TS002_1_0,
        PLAIN["url"],
    )
    assert (loaded.keks, loaded.kek_label, loaded.tls.key) == ({"grenze": KEK}, "grenze", identity.key)
    assert loaded.credentials.fingerprints == {"ab" * 31 + "cd"}
    assert loaded.join_euis == ranges(["70b3d57ed0000000/40"], 64)
    assert loaded.mic_keys[0x00E2_7D66][0].dev_eui == bytes.fromhex("70b3d57ed0000001")
    for shown in (repr(loaded), repr(loaded.mic_keys)):
        assert identity.key not in shown
        assert repr(KEK) not in shown
        assert repr(bytes(16)) not in shown
    # It can be signed once, ended, and every step is in the audit log.
    with pytest.raises(ValueError, match="signed_here"):
        await sync_to_async(peers.sign)(SYSTEM, proposed)
    await sync_to_async(peers.end)(SYSTEM, proposed)
    (loaded,) = await registry.load(pool)
    assert loaded.agreements == ()
    actions = [
        one.action async for one in AuditEntry.objects.filter(action__startswith="lorawan.").order_by("id")
    ]
    assert actions == [
        "lorawan.peer.create",
        "lorawan.agreement.propose",
        "lorawan.agreement.sign",
        "lorawan.agreement.their_signature",
        "lorawan.agreement.end",
    ]


async def test_bearer_is_shown_once_and_known_by_its_digest(world: World, pool: Pool) -> None:
    from quartier.lorawan.domain.peers import make_bearer

    bearer = await sync_to_async(make_bearer)(SYSTEM, await saved(world))
    (loaded,) = await registry.load(pool)
    assert loaded.credentials.bearer_digest == hashlib.sha256(bearer.encode()).hexdigest()
    assert PeerBook([loaded]).proven(authorization=bearer) == loaded
    assert PeerBook([loaded]).proven(authorization=bearer[:-1]) is None


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"net_ids": ["00000"]}, "net_ids"),
        ({"net_ids": []}, "net_ids"),
        ({"url": "ftp://x"}, "url"),
        ({"fingerprints": ["ab"]}, "fingerprints"),
        ({"join_euis": ["70b3/40"]}, "join_euis"),
        ({"subject": "ns.example"}, "authority"),
        ({"authority": "no certificate"}, "authority"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"protocol": "smoke signals"}, "protocol"),
        ({"protocol": "gwmp"}, "gateway"),
        ({"protocol": "station", "gateway": {"eui": "0011223344556677"}}, "gateway"),
        ({"kek_label": "none"}, "kek_label"),
        ({"secret": {"keks": {"a": "00"}}}, "keks.a"),
        ({"secret": {"mic_keys": [{"dev_addr": "00e27d66", "key": "not a key"}]}}, "mic_keys"),
        ({"secret": {"certificate": "x", "key": "y"}}, "certificate"),
        ({"secret": {"password": "x"}}, "secret"),
    ],
)
async def test_what_cannot_be_saved_names_the_field(world: World, values: dict[str, Any], field: str) -> None:
    from quartier.lorawan.domain import LoraError
    from quartier.lorawan.models_roaming import LoraPeer

    with pytest.raises(LoraError) as refused:
        await saved(world, **values)
    assert refused.value.field == field
    assert "not a key" not in str(refused.value)
    assert not await LoraPeer.objects.aexists()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"direction": "sideways"}, "direction"),
        ({"purpose": " "}, "purpose"),
        ({"classes": ["everything"]}, "classes"),
        ({"classes": []}, "classes"),
        ({"dev_addrs": ["00e20001/16"]}, "dev_addrs"),
        ({"uplink_rate_per_h": -1}, "uplink_rate_per_h"),
        ({"uplink_policy": "Queue"}, "uplink_policy"),
        ({"valid_until": LONG_AGO}, "valid_until"),
        ({"hand_over_keys": True}, "hand_over_keys"),
    ],
)
async def test_agreements_that_are_none(world: World, values: dict[str, Any], field: str) -> None:
    from quartier.lorawan.domain import LoraError
    from quartier.lorawan.domain.peers import propose

    peer = await saved(world)
    with pytest.raises(LoraError) as refused:
        await sync_to_async(propose)(SYSTEM, peer, **({"direction": "carry", "purpose": "p"} | values))
    assert refused.value.field == field


async def test_only_operators_may(world: World) -> None:
    from quartier.lorawan.domain import peers

    peer = await saved(world)
    proposed = await sync_to_async(peers.propose)(SYSTEM, peer, "carry", purpose="p")
    for call in (
        lambda: peers.save_peer(VISITOR, world.municipality, "other", **PLAIN),
        lambda: peers.make_bearer(VISITOR, peer),
        lambda: peers.propose(VISITOR, peer, "carry", purpose="p"),
        lambda: peers.sign(VISITOR, proposed),
        lambda: peers.note_signature(VISITOR, proposed, "x"),
        lambda: peers.end(VISITOR, proposed),
        lambda: peers.trail(VISITOR, world.municipality, "70b3d57ed0000001"),
    ):
        with pytest.raises(NotAllowed):
            await sync_to_async(call)()


async def test_peer_that_cannot_be_read_costs_the_others_nothing(world: World, pool: Pool) -> None:
    from quartier.lorawan.models_roaming import LoraPeer

    await saved(world, "good")
    await saved(world, "bad")
    await LoraPeer.objects.filter(key="bad").aupdate(sealed="sealed with another key")
    assert [peer.key for peer in await registry.load(pool)] == ["good"]


# Whom a frame belongs to


def peer(key: str, *net_ids: str, **changes: Any) -> Peer:
    return Peer(key=key, name=key, net_ids=net_ids, agreements=(agreement(Direction.CARRY, **changes),))


OWN = peer("own", "00000a", devices=Devices())
SHARED = peer("shared", "000000", devices=Devices())
RANGE = peer("range", "000000", devices=Devices(dev_addrs=ranges(["00e20000/16"], 32)))
OTHER_RANGE = peer("other", "000000", devices=Devices(dev_addrs=ranges(["00e30000/16"], 32)))
WIDE = peer("wide", "000001", devices=Devices(dev_addrs=ranges(["00000000/7"], 32)))
ALL = (OWN, SHARED, RANGE, OTHER_RANGE, WIDE)


@pytest.mark.parametrize(
    ("dev_addr", "without", "expected"),
    [
        (0x1400_0001, (), ["own"]),  # NetID 00000A
        (0x00E2_7D66, (), ["range", "wide"]),  # a shared NetID alone says nothing
        (0x00E2_7D66, ("range",), ["wide"]),  # never back to where it came from
        (0x00E3_0001, (), ["other", "wide"]),
        (0x0200_0001, (), []),  # NwkID 1 = NetID 000001: nobody's by itself
    ],
)
def test_candidates_by_address(dev_addr: int, without: tuple[str, ...], expected: list[str]) -> None:
    frame = data(dev_addr=dev_addr)
    found = PeerBook(ALL).candidates(frame, b"", now=LONG_AGO + timedelta(days=1), without=frozenset(without))
    assert [candidate.peer.key for candidate in found] == expected


def test_candidates_for_joins() -> None:
    by_join_eui = replace(
        peer("home", "000000", devices=Devices()), join_euis=ranges(["70b3d57ed0ffff00/56"], 64)
    )
    by_list = peer("list", "000000", devices=Devices(dev_euis=ranges(["70b3d57ed0000001"], 64)))
    book = PeerBook([*ALL, by_join_eui, by_list])
    found = book.candidates(join(), b"", now=LONG_AGO + timedelta(days=1))
    assert [candidate.peer.key for candidate in found] == ["home", "list"]
    assert book.candidates(join(bytes(8), bytes(8)), b"", now=LONG_AGO + timedelta(days=1)) == []
    server = replace(by_join_eui, url="https://js.example")
    assert PeerBook([server]).join_server(bytes.fromhex("70b3d57ed0ffff77")) is server
    assert PeerBook([server]).join_server(bytes(8)) is None


def test_net_id_that_two_peers_share_names_neither() -> None:
    assert PeerBook(ALL).by_net_id("00000a") is OWN
    assert PeerBook(ALL).by_net_id("000000") is None
    assert PeerBook([replace(OWN, enabled=False)]).by_net_id("00000a") is None


def test_facts_of_no_frame() -> None:
    with pytest.raises(ValueError, match=r"\S"):
        facts(b"\x40\x00")
