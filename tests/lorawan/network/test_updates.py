"""Software updates of Basics Stations: uploaded, fetched by CUPS over HTTP, and given up when they do nothing.

Keys, signatures and the check of the Station are made with ``cryptography`` as ``cups.c`` of Station 2.0.6 does: 64
bytes of public key, ECDSA on P-256 over SHA-512, DER.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from zlib import crc32

import aiohttp
import pytest
from aiohttp import web
from asgiref.sync import sync_to_async
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.db.models import F, Q
from django.utils import timezone

from quartier.cities.models import AuditEntry
from quartier.cities.rules import SYSTEM, Actor, NotAllowed
from quartier.engines.pools import Pool
from quartier.lorawan import domain
from quartier.lorawan.domain import LoraError
from quartier.lorawan.domain.updates import update_at
from quartier.lorawan.gateways.cups import CupsServer
from quartier.lorawan.gateways.registry import Registry
from quartier.lorawan.models import Gateway
from quartier.lorawan.models_stations import StationDelivery, StationUpdate, StationUpdatePart
from quartier.lorawan.store.gateways import GatewayList
from quartier.lorawan.updates import PAUSE, UpdateState
from tests.lorawan.network.scene import GATEWAY, OTHER
from tests.world import World

KEY, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
IMAGE = b"#!/bin/sh\necho 2.0 > version.txt\n" + bytes(range(256)) * 3000


def signed(image: bytes, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    return key.sign(image, ec.ECDSA(hashes.SHA512()))


def pem(key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    return (
        (key or KEY)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def key_file(key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    """``sig-0.key``: the last 64 bytes of the key in DER, as examples/cups/prep.sh of Station cuts them."""
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )[-64:]


CRC = crc32(key_file())


def added(world: World, **changes: Any) -> StationUpdate:
    values: dict[str, Any] = {
        "model": "linux",
        "package": "2.0",
        "image": [IMAGE[:300_000], IMAGE[300_000:]],
        "signature": signed(IMAGE),
        "key": pem(),
        "everywhere": True,
    } | changes
    active = values.pop("active", True)
    update = domain.add_update(SYSTEM, values.pop("municipality", world.municipality), **values)
    if active:
        domain.set_update(SYSTEM, update, active=True)
    update.refresh_from_db()
    return update


def gateway_of(world: World, eui: bytes = GATEWAY) -> Gateway:
    return domain.save_gateway(SYSTEM, world.municipality, eui.hex(), name=eui.hex(), protocol="station")


def state() -> UpdateState:
    return update_at(Gateway.objects.get(eui=GATEWAY.hex())).state


@dataclass
class Station:
    """A Station: what it runs, the keys it holds; takes an answer apart and checks it like ``cups.c``."""

    url: str
    token: str
    package: str | None = "1.0"
    model: str = "linux"
    version: str = "2.0.6(linux/std) 2022-01-01 00:00:00"
    keys: list[bytes] = field(default_factory=lambda: [key_file()])

    async def asks(self) -> bytes:
        """Once; returns the program that it would run, empty for none."""
        told = {
            "router": GATEWAY.hex(),
            "cupsUri": "", "tcUri": "", "cupsCredCrc": 0, "tcCredCrc": 0,
            "station": self.version, "model": self.model, "package": self.package,
            "keys": [crc32(one) for one in self.keys],
        }  # fmt: skip
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{self.url}/update-info",
                data=json.dumps(told),
                headers={"Authorization": f"Bearer {self.token}"},
            ) as response,
        ):
            assert response.status == 200
            body = await response.read()
            assert response.headers["Content-Length"] == str(len(body))
        segments = []
        for size in (1, 1, 2, 2, 4, 4):
            length = int.from_bytes(body[:size], "little")
            segments.append(body[size : size + length])
            body = body[size + length :]
        assert body == b""
        assert segments[:4] == [b""] * 4
        signature, program = segments[4:]
        if not program:
            assert signature == b""
            return b""
        (crc,) = struct.unpack("<I", signature[:4])
        (key,) = [one for one in self.keys if crc32(one) == crc]
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + key)
        point.verify(signature[4:], program, ec.ECDSA(hashes.SHA512()))
        # The last byte is here before the server has written down that it is gone.
        open_deliveries = StationDelivery.objects.filter(
            Q(delivered_at=None) | Q(delivered_at__lt=F("begun_at"))
        )
        async with asyncio.timeout(10):
            while await open_deliveries.aexists():  # noqa: ASYNC110 (it happens in the database)
                await asyncio.sleep(0.01)
        return program

    async def later(self) -> bytes:
        """Asks after the time in which an update may still run."""

        def age() -> None:
            for one in StationDelivery.objects.exclude(delivered_at=None):
                assert one.delivered_at is not None
                assert one.begun_at is not None
                one.delivered_at, one.begun_at = one.delivered_at - PAUSE, one.begun_at - PAUSE
                one.save()

        await sync_to_async(age)()
        return await self.asks()


@pytest.fixture
async def station(world: World, pool: Pool) -> AsyncIterator[Station]:
    token = await sync_to_async(lambda: domain.make_token(SYSTEM, gateway_of(world)))()
    gateways = GatewayList(pool)
    await gateways.reload()
    application = web.Application()
    application.add_routes(CupsServer(Registry(gateways), gateways).routes())
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Station(f"http://127.0.0.1:{runner.addresses[0][1]}", token)
    await runner.cleanup()


async def delivery() -> tuple[int, bool, bool, bool]:
    """How often it was begun; whether it was fetched, runs, was not taken."""
    one = await StationDelivery.objects.aget()
    return one.attempts, one.delivered_at is not None, one.done_at is not None, one.missed_at is not None


async def test_a_station_fetches_a_signed_update_and_then_runs_it(world: World, station: Station) -> None:
    update = await sync_to_async(added)(world)
    assert await StationUpdatePart.objects.acount() == 3
    assert (update.size, update.sha256, update.signatures.keys()) == (
        len(IMAGE),
        hashlib.sha256(IMAGE).hexdigest(),
        {str(CRC)},
    )
    assert await station.asks() == IMAGE
    assert (await delivery(), await sync_to_async(state)()) == ((1, True, False, False), UpdateState.GIVEN)
    # While it may still be at work it is not given again.
    assert await station.asks() == b""
    assert (await delivery(), await sync_to_async(state)()) == ((1, True, False, False), UpdateState.GIVEN)
    station.package = "2.0"
    assert await station.asks() == b""
    assert (await delivery(), await sync_to_async(state)()) == ((1, True, True, False), UpdateState.DONE)
    assert (await Gateway.objects.aget()).cups["given"] == ["update"]


async def test_after_three_deliveries_in_vain_it_is_given_no_more(world: World, station: Station) -> None:
    update = await sync_to_async(added)(world)
    assert await station.asks() == IMAGE
    assert await station.later() == IMAGE
    assert await delivery() == (2, True, False, True)
    assert await station.later() == IMAGE
    assert await sync_to_async(state)() == UpdateState.GIVEN
    assert [await station.later(), await station.later()] == [b"", b""]
    assert (await delivery(), await sync_to_async(state)()) == ((3, True, False, True), UpdateState.STOPPED)
    gateway = await Gateway.objects.aget()
    await sync_to_async(domain.offer_again)(SYSTEM, gateway, update)
    assert await sync_to_async(state)() == UpdateState.WAITING
    assert await station.asks() == IMAGE


@pytest.mark.parametrize(
    ("update", "station_has", "expected"),
    [
        ({}, {"model": "corecell"}, UpdateState.NONE),
        ({}, {"model": ""}, UpdateState.NONE),
        ({}, {"keys": []}, UpdateState.NO_KEY),
        ({}, {"keys": [key_file(STRANGER)]}, UpdateState.NO_KEY),
        ({}, {"package": "2.0"}, UpdateState.DONE),
        ({"active": False}, {}, UpdateState.NONE),
        ({"everywhere": False}, {}, UpdateState.NONE),
        ({"packages": ["1.1"]}, {}, UpdateState.NONE),
        ({"packages": ["-"]}, {}, UpdateState.NONE),
        ({"stations": ["2.0.5"]}, {}, UpdateState.NONE),
    ],
)
async def test_who_is_given_nothing(
    world: World, station: Station, update: dict[str, Any], station_has: dict[str, Any], expected: UpdateState
) -> None:
    await sync_to_async(added)(world, **update)
    for name, value in station_has.items():
        setattr(station, name, value)
    assert await station.asks() == b""
    assert (await StationDelivery.objects.acount(), await sync_to_async(state)()) == (0, expected)


@pytest.mark.parametrize(
    ("update", "station_has"),
    [
        ({"packages": ["1.1", "1.0"], "stations": ["2.0.6"]}, {}),
        ({"packages": ["-"]}, {"package": None}),
        ({"municipality": None}, {}),
        ({"key": key_file()}, {"keys": [key_file(STRANGER), key_file()]}),
    ],
)
async def test_who_is_given_it(
    world: World, station: Station, update: dict[str, Any], station_has: dict[str, Any]
) -> None:
    await sync_to_async(added)(world, **update)
    for name, value in station_has.items():
        setattr(station, name, value)
    assert await station.asks() == IMAGE


async def test_one_signature_for_each_key(world: World, station: Station) -> None:
    update = await sync_to_async(added)(world)
    station.keys = [key_file(STRANGER)]
    assert await station.asks() == b""
    add = sync_to_async(domain.add_signature)
    with pytest.raises(LoraError) as caught:
        await add(SYSTEM, update, signature=signed(IMAGE), key=pem(STRANGER))
    assert caught.value.field == "signature"
    await add(SYSTEM, update, signature=signed(IMAGE, STRANGER), key=pem(STRANGER))
    assert await station.asks() == IMAGE


async def test_the_newest_counts_and_one_for_the_gateway_before_all(world: World, station: Station) -> None:
    old = b"old" * 50
    first = await sync_to_async(added)(world, package="1.5", image=[old], signature=signed(old))
    await sync_to_async(added)(world)
    gateway = await Gateway.objects.aget()
    assert await station.asks() == IMAGE
    # The newest runs: the older one is not given in its turn.
    station.package = "2.0"
    assert await station.later() == b""
    await sync_to_async(domain.assign_update)(SYSTEM, gateway, first)
    assert await station.asks() == old
    await sync_to_async(domain.assign_update)(SYSTEM, gateway, None)
    station.package = "1.0"
    assert await station.later() == IMAGE


async def test_an_update_that_is_deleted_meanwhile_breaks_off(world: World, station: Station) -> None:
    await sync_to_async(added)(world)
    await StationUpdatePart.objects.filter(number=2).adelete()
    with pytest.raises(aiohttp.ClientError):
        await station.asks()
    assert (await delivery(), await sync_to_async(state)()) == ((1, False, False, False), UpdateState.BROKEN)


def _huge() -> Iterator[bytes]:
    while True:
        yield bytes(1 << 20)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"signature": signed(IMAGE, STRANGER)}, "signature"),
        ({"signature": signed(IMAGE + b"!")}, "signature"),
        ({"signature": signed(IMAGE) + b"!"}, "signature"),
        ({"signature": b""}, "signature"),
        ({"signature": b"s" * 129}, "signature"),
        ({"signature": KEY.sign(IMAGE, ec.ECDSA(hashes.SHA256()))}, "signature"),
        ({"key": pem(STRANGER)}, "signature"),
        ({"key": b"nothing"}, "key"),
        ({"key": bytes(64)}, "key"),
        ({"key": b"k" * 5000}, "key"),
        ({"key": pem(ec.generate_private_key(ec.SECP384R1()))}, "key"),
        ({"image": []}, "image"),
        ({"image": [b""]}, "image"),
        ({"image": _huge()}, "image"),
        ({"model": " "}, "model"),
        ({"model": "m" * 81}, "model"),
        ({"package": ""}, "package"),
        ({"packages": ["2.0"]}, "packages"),
        ({"stations": ["s"] * 21}, "stations"),
        ({"note": "n" * 201}, "note"),
    ],
)
def test_what_a_station_would_refuse_is_not_kept(world: World, values: dict[str, Any], field: str) -> None:
    with pytest.raises(LoraError) as caught:
        added(world, **values)
    assert caught.value.field == field
    assert (StationUpdate.objects.count(), StationUpdatePart.objects.count()) == (0, 0)


def test_once_for_each_model_and_package(world: World) -> None:
    added(world)
    with pytest.raises(LoraError) as caught:
        added(world)
    assert caught.value.field == "package"
    added(world, municipality=None)
    with pytest.raises(LoraError):
        added(world, municipality=None)
    assert StationUpdate.objects.count() == 2


def test_active_updates_are_not_deleted_and_all_is_in_the_audit_log(world: World) -> None:
    update, gateway = added(world), gateway_of(world)
    with pytest.raises(LoraError) as caught:
        domain.delete_update(SYSTEM, update)
    assert caught.value.field == "active"
    domain.assign_update(SYSTEM, gateway, update)
    domain.set_update(SYSTEM, update, active=False, everywhere=False)
    domain.set_update(SYSTEM, update, active=False)
    domain.offer_again(SYSTEM, gateway, update)
    domain.delete_update(SYSTEM, update)
    assert (StationUpdate.objects.count(), StationUpdatePart.objects.count()) == (0, 0)
    entries = AuditEntry.objects.filter(action__startswith="lorawan.update.").order_by("pk")
    digest = hashlib.sha256(IMAGE).hexdigest()
    changed = {"active": False, "everywhere": False, "changed": ["active", "everywhere"]}
    assert [(one.action, one.target, one.detail) for one in entries] == [
        ("lorawan.update.create", "linux 2.0", {"sha256": digest, "keys": [f"{CRC:08x}"]}),
        ("lorawan.update.change", "linux 2.0", {"active": True, "everywhere": True, "changed": ["active"]}),
        ("lorawan.update.assign", gateway.eui, {"update": "linux 2.0"}),
        ("lorawan.update.change", "linux 2.0", changed),
        ("lorawan.update.again", gateway.eui, {"update": "linux 2.0"}),
        ("lorawan.update.delete", "linux 2.0", {"sha256": digest}),
    ]


def test_rights(world: World) -> None:
    city = world.municipality.pk
    operator = Actor("operator", rights={city: frozenset({"lorawan:write"})})
    staff = Actor("staff", rights={city: frozenset({"desk:enter"})})
    update, everywhere, gateway = added(world), added(world, municipality=None), gateway_of(world)
    values: dict[str, Any] = {
        "model": "m",
        "package": "p",
        "image": [IMAGE],
        "signature": signed(IMAGE),
        "key": pem(),
    }
    for act in (
        lambda: domain.add_update(staff, world.municipality, **values),
        lambda: domain.add_signature(staff, update, signature=signed(IMAGE), key=pem()),
        lambda: domain.set_update(staff, update, active=False),
        lambda: domain.delete_update(staff, update),
        lambda: domain.assign_update(staff, gateway, update),
        lambda: domain.offer_again(staff, gateway, update),
    ):
        with pytest.raises(NotAllowed):
            act()
    for for_all in (
        lambda: domain.add_update(operator, None, **values),
        lambda: domain.set_update(operator, everywhere, active=False),
        lambda: domain.delete_update(operator, everywhere),
    ):
        with pytest.raises(LoraError) as caught:
            for_all()
        assert caught.value.field == "municipality"
    domain.assign_update(operator, gateway, everywhere)
    domain.set_update(operator, update, active=False)
    assert StationDelivery.objects.get().update == everywhere


def test_an_update_of_another_city_or_model_is_not_assigned(world: World) -> None:
    update, gateway = added(world), gateway_of(world, OTHER)
    gateway.cups = {"model": "corecell", "asked_at": (timezone.now() - timedelta(days=1)).isoformat()}
    with pytest.raises(LoraError) as caught:
        domain.assign_update(SYSTEM, gateway, update)
    assert str(caught.value) == "update: ist für das Modell linux, die Station ist corecell"
    gateway.cups = {}
    gateway.municipality_id += 1
    with pytest.raises(LoraError) as caught:
        domain.assign_update(SYSTEM, gateway, update)
    assert str(caught.value) == "update: gehört zu einer anderen Stadt"
