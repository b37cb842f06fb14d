"""What survives a restart, what is sealed, and how changes reach a running network server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from asgiref.sync import sync_to_async

from quartier.cities.rules import SYSTEM
from quartier.cities.secrets import SecretError
from quartier.lorawan.domain import replace_keys, save_device, save_gateway, set_active
from quartier.lorawan.domain.devices import DeviceSettings
from quartier.lorawan.domain.gateways import make_token
from quartier.lorawan.frames.crypto import session_1_0
from quartier.lorawan.keyring import ROOT, SESSION, Keyring
from quartier.lorawan.models import DataKey, Downlink, Gateway, LoraDevice, Session
from quartier.lorawan.types import Discarded
from quartier.virtual.lora.device import Abp
from tests.lorawan.network.scene import GATEWAY, Scene

Start = Callable[..., AbstractAsyncContextManager[Scene]]


async def test_everything_counts_on_after_a_restart(scene: Scene, start: Start) -> None:
    profile = await scene.profile_of("v11", mac_version="1.1.0", adr=False, status_interval_s=0)
    old = await scene.joined()
    new = await scene.joined(version="1.1.0", profile=profile)
    for device in (old, new):
        await scene.send(device.uplink(b"\x01", 1, confirmed=True))
    async with start(scene) as after:
        for device in (old, new):
            outcome = await after.send(device.uplink(b"\x02", 1, confirmed=True))
            assert outcome.uplink_counter == 2
            heard = after.air.sent[-1].heard
            assert heard is not None
            assert (heard.what, heard.acknowledged) == ("data", True)
        session = after.store.directory.devices[after.eui_of(old)].session
        assert session is not None
        assert (session.up, session.network_down, session.saved) == (2, 2, (2, 2, 0))


async def test_keys_are_sealed_for_their_device_and_nowhere_in_the_clear(scene: Scene) -> None:
    device = await scene.joined()
    eui = scene.eui_of(device)
    row = await LoraDevice.objects.aget(dev_eui=eui.hex())
    session = await Session.objects.aget(device=row)
    ring = Keyring.of((await DataKey.objects.aget()).sealed)
    app_key = bytes([1]) * 16
    sealed, sealed_session = bytes(row.sealed_keys or b""), bytes(session.sealed_keys)
    assert ring.open(sealed, ROOT, eui) == app_key
    assert app_key not in sealed
    assert device.state is not None
    assert device.state.keys.app_s_key not in sealed_session
    for purpose, owner in ((ROOT, bytes(8)), (SESSION, eui)):
        with pytest.raises(SecretError):
            ring.open(sealed, purpose, owner)
    with pytest.raises(SecretError):
        Keyring(bytes(32)).open(sealed, ROOT, eui)
    assert "key" not in repr(device.state.keys).replace("SessionKeys", "")


async def test_changes_reach_the_running_server(scene: Scene) -> None:
    device = await scene.abp()
    assert (await scene.send(device.uplink(b"\x01", 1))).accepted
    row = await scene.row(device)
    await sync_to_async(set_active)(SYSTEM, row, False)
    await scene.store.reload()
    assert (await scene.send(device.uplink(b"\x01", 1))).reason is Discarded.DEVICE_DISABLED
    await sync_to_async(set_active)(SYSTEM, row, True)
    await sync_to_async(save_device)(SYSTEM, row, tags={"kind": "lamp"})
    await scene.store.reload()
    assert (await scene.send(device.uplink(b"\x01", 1))).accepted
    assert (await scene.ups())[-1].tags == {"kind": "lamp"}
    keys = {"dev_addr": "00e20099", "nwk_s_key": "11" * 16, "app_s_key": "22" * 16}
    settings = DeviceSettings(
        dev_eui=row.dev_eui, name=row.name, profile=row.profile, activation="abp", keys=keys
    )
    await sync_to_async(replace_keys)(SYSTEM, row, settings)
    await scene.store.reload()
    assert (await scene.send(device.uplink(b"\x01", 1))).reason is Discarded.UNKNOWN_DEV_ADDR
    from quartier.virtual.lora.device import Device

    again = Device(Abp(dev_addr=0x00E2_0099, session=session_1_0(b"\x11" * 16, b"\x22" * 16)))
    assert (await scene.send(again.uplink(b"\x01", 1))).accepted
    await LoraDevice.objects.all().adelete()
    await scene.store.reload()
    assert len(scene.store.directory) == 0
    assert (await scene.send(again.uplink(b"\x01", 1))).reason is Discarded.UNKNOWN_DEV_ADDR


async def test_gateways_and_their_credentials(scene: Scene) -> None:
    place = scene.world.municipality
    gateway = await sync_to_async(save_gateway)(
        SYSTEM,
        place,
        GATEWAY.hex(),
        name="Turm",
        lon=7.5,
        lat=51.5,
        networks=["192.0.2.0/24"],
        protocol="station",
    )
    first = await sync_to_async(make_token)(SYSTEM, gateway)
    second = await sync_to_async(make_token)(SYSTEM, gateway)
    assert first != second
    await scene.store.reload()
    known = scene.store.gateways.get(GATEWAY)
    assert known is not None
    assert (known.name, known.municipality, str(known.networks[0])) == ("Turm", "musterstadt", "192.0.2.0/24")
    assert len(known.credentials) == 2
    # Its old token does not end the new one; the new one ends the old.
    for used, left in ((0, 2), (1, 1)):
        scene.store.gateways.signed_in(GATEWAY, known.credentials[used])
        await scene.store.gateways.write([])
        row = await Gateway.objects.aget()
        assert len(row.credentials) == left
    assert row.credentials == [known.credentials[1].hex()]


async def test_what_was_on_its_way_when_a_process_died_is_told_so(scene: Scene, start: Start) -> None:
    device = await scene.abp()
    row = await scene.row(device)
    for state in ("queued", "sending", "sent"):
        await Downlink.objects.acreate(
            municipality=row.municipality, device=row, port=1, payload=b"x", state=state, requested_by="test"
        )
    async with start(scene):
        found = [(one.state, one.reason) async for one in Downlink.objects.order_by("id")]
    assert found == [("queued", ""), ("failed", "interrupted"), ("sent", "")]
