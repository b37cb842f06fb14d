"""The downlink queue in memory beside the one in the database, and networks that share a database."""

from __future__ import annotations

from asgiref.sync import sync_to_async

from quartier.cities.models import Municipality
from quartier.cities.rules import SYSTEM
from quartier.lorawan.domain import DeviceSettings, enqueue, move_device, register_device, save_gateway
from quartier.lorawan.models import DeviceProfile, Downlink, LoraDevice
from quartier.lorawan.store import Store
from tests.lorawan.network.scene import Scene
from tests.world import World


async def test_what_waits_again_is_not_forgotten_before_that_is_written(scene: Scene) -> None:
    device = await scene.abp()
    await sync_to_async(enqueue)(SYSTEM, await scene.row(device), b"\x01", port=5)
    queue = scene.store.queue
    (item,) = await queue.reload(scene.store.keyring)
    await Downlink.objects.filter(pk=item.id).aupdate(state="sending")
    queue.take(item)
    queue.tell(item, "queued", reason="duty_cycle")
    # A change of something else is taken in while the row still says that the item is on its way.
    assert await queue.reload(scene.store.keyring) == []
    assert item.device_id is not None
    assert list(queue.waiting(item.device_id)) == [item]
    await queue.write()
    assert await queue.reload(scene.store.keyring) == []
    assert list(queue.waiting(item.device_id)) == [item]
    assert (await Downlink.objects.aget()).state == "queued"


def _two_cities(world: World, profile: DeviceProfile) -> tuple[Municipality, list[LoraDevice]]:
    """Another city beside Musterstadt; each with a gateway, a device, and a downlink on its way."""
    other = Municipality.objects.create(
        slug="nachbarstadt",
        name="Nachbarstadt",
        lon=7.6,
        lat=51.4,
        west=7.5,
        south=51.3,
        east=7.7,
        north=51.5,
    )
    devices = []
    for number, city in enumerate((world.municipality, other), start=1):
        save_gateway(SYSTEM, city, f"b827ebfffe00000{number}", name=f"Dach {number}")
        device = register_device(
            SYSTEM,
            city,
            DeviceSettings(
                dev_eui=f"70b3d57ed000000{number}",
                name=str(number),
                profile=profile,
                keys={"app_key": "11" * 16},
            ),
        )
        sending = enqueue(SYSTEM, device, b"\x01", port=5)
        Downlink.objects.filter(pk=sending.pk).update(state="sending")
        enqueue(SYSTEM, device, b"\x02", port=5)
        devices.append(device)
    return other, devices


async def test_network_of_one_city_leaves_the_others_alone(scene: Scene, profile: DeviceProfile) -> None:
    other, (ours, theirs) = await sync_to_async(_two_cities)(scene.world, profile)
    store = Store(scene.store.pool, ["nachbarstadt"])
    await store.start()
    try:
        assert set(store.directory.devices) == {bytes.fromhex(theirs.dev_eui)}
        assert store.gateways.get(bytes.fromhex("b827ebfffe000001")) is None
        assert store.gateways.get(bytes.fromhex("b827ebfffe000002")) is not None
        assert store.queue.device_ids() == [theirs.pk]
        # What the other network has on its way is its own business.
        states = {one.device_id: one.state async for one in Downlink.objects.exclude(state="queued")}
        assert states == {ours.pk: "sending", theirs.pk: "failed"}
        await sync_to_async(move_device)(SYSTEM, ours, other)
        await sync_to_async(move_device)(SYSTEM, theirs, scene.world.municipality)
        await store.reload()
        assert set(store.directory.devices) == {bytes.fromhex(ours.dev_eui)}
    finally:
        await store.close()
