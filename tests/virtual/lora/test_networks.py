"""Two network servers, eleven gateways and the border between: the virtual radio speaks to the real thing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from quartier.engines.bus import Bus
from quartier.engines.pools import Pool
from quartier.virtual.lora.fleet import fleet
from quartier.virtual.lora.life import LAMP_PORT
from quartier.virtual.payloads import Packed

if TYPE_CHECKING:  # imports models, which Django must be set up for
    from tests.virtual.lora.networks import Networks

logger = logging.getLogger(__name__)
AIR_S = float(os.environ.get("RADIO_TEST_S", "60"))

# Of each city: at home, at the border, class C at the border, 1.1.
FEW = frozenset(
    one.device.dev_eui
    for one in fleet(1).members
    if one.thing.name.removesuffix(" (eigenes Funknetz)")
    in {
        "Klimasensor City", "Klimasensor Lichtendorf", "Leuchte Lichtendorf", "Glascontainer Höchsten",
        "Klimasensor Altstadt", "Stellplatz Schwerterheide", "Leuchte Holzen", "Zählstelle Altstadt",
    }
)  # fmt: skip


async def confirmed(world: Networks, city: str, *, we_carry: bool) -> list[dict[str, Any]]:
    """What counts in a city's ledger."""
    return [row for row in await world.ledger(city, we_carry=we_carry) if row["state"] == "confirmed"]


async def equal_ledgers(world: Networks) -> dict[str, int]:
    """Compare what both cities have of each other until nothing is open; how many frames each carried."""
    for _ in range(2):
        for service in world.services.values():
            await service.roaming.compare_all()
    carried: dict[str, int] = {}
    for city, other in (("dortmund", "schwerte"), ("schwerte", "dortmund")):
        ours = await confirmed(world, city, we_carry=True)
        theirs = await confirmed(world, other, we_carry=False)
        assert [(row["key"], row["direction"], row["airtime_us"], row["size"]) for row in ours] == [
            (row["key"], row["direction"], row["airtime_us"], row["size"]) for row in theirs
        ]
        carried[city] = len(ours)
    for service in world.services.values():
        for key, comparison in (await service.roaming.compare_all()).items():
            assert comparison.differences == (), key
    sums = await world.rows(
        "SELECT m.slug, d.we_carry, d.day, d.uplinks, d.downlinks, d.uplink_airtime_us, d.downlink_airtime_us"
        " FROM lorawan_roamingday d JOIN lorawan_lorapeer p ON p.id = d.peer_id"
        " JOIN cities_municipality m ON m.id = p.municipality_id WHERE d.uplinks > 0 OR d.downlinks > 0"
    )
    by_carrier: dict[Any, list[tuple[Any, ...]]] = {}
    for row in sums:
        carrier = row["slug"] if row["we_carry"] else "".join({"dortmund", "schwerte"} - {row["slug"]})
        day = tuple(
            row[name] for name in ("uplinks", "downlinks", "uplink_airtime_us", "downlink_airtime_us")
        )
        by_carrier.setdefault((carrier, row["day"]), []).append(day)
    assert all(len(both) == 2 and both[0] == both[1] for both in by_carrier.values()), by_carrier
    return carried


async def dim_across_the_border(world: Networks) -> None:
    """Lamps of class C are told something at any time, also where only the other city's gateways reach them."""
    from asgiref.sync import sync_to_async

    from quartier.cities.rules import SYSTEM
    from quartier.lorawan.domain import enqueue
    from quartier.lorawan.models import Downlink, LoraDevice
    from tests.virtual.lora.networks import until

    lamps = [life for life in world.radio.lives.values() if life.member.device_class == "C"]
    assert len(lamps) == 2
    for life in lamps:
        row = await LoraDevice.objects.select_related("municipality").aget(dev_eui=life.member.device.dev_eui)
        for _ in range(8):
            # It may be sending while it is told, and gateways may have used up their time.
            await sync_to_async(enqueue)(SYSTEM, row, port=LAMP_PORT, payload=b"\x62\x28")
            with contextlib.suppress(AssertionError):
                await until(lambda life=life: life.dimming == 40, seconds=8)
                break
        assert life.dimming == 40
        # The lamp hears it before the network is told that it was sent.
        for _ in range(100):
            if await Downlink.objects.filter(device=row, state="sent").aexists():
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("no downlink to the lamp was reported as sent")


def check_uplinks(ups: list[Any], euis: set[str]) -> None:
    """Every device is heard, no frame is there twice, and payloads are those of the device's type."""
    assert {up.dev_eui for up in ups} == euis
    frames = Counter((up.dev_eui, up.dev_addr, up.counter) for up in ups)
    assert max(frames.values()) == 1
    types = {one.device.dev_eui: one.device.device_type for one in fleet(1).members}
    for up in ups:
        if up.data:
            kind = types[up.dev_eui]
            assert up.port == kind.f_port
            assert isinstance(kind.format, Packed)
            assert up.data[0] == kind.format.marker


async def test_border_devices_are_served_through_the_other_city(pool: Pool, bus: Bus) -> None:
    from tests.virtual.lora.networks import networks, until

    async with networks(pool, bus, speed=120.0, only=FEW) as world:
        lives = world.radio.lives
        assert set(lives) == FEW
        await until(
            lambda: all(
                life.radio.state is not None and life.counts["uplinks"] >= 2 for life in lives.values()
            ),
            seconds=90,
        )
        await dim_across_the_border(world)
        await world.silence()
        ups = await world.ups()
        check_uplinks(ups, set(FEW))
        # The parking space at Schwerterheide hears nobody of its own city when it is fast.
        peers = {up.dev_eui: {one.peer for one in up.receptions} for up in ups}
        assert sum("funknetz-" in "".join(heard) for heard in peers.values()) >= 4
        carried = await equal_ledgers(world)
        assert min(carried.values()) >= 5, carried
        downlinks = await world.ledger("dortmund", we_carry=True)
        assert any(row["direction"] == "down" and row["state"] == "confirmed" for row in downlinks)


@pytest.mark.slow
@pytest.mark.timeout(AIR_S + 240)
async def test_ledgers_are_equal_after_an_hour_with_loss(pool: Pool, bus: Bus) -> None:
    """An hour of the virtual cities at speed 60; between the networks a hundredth of all messages gets lost.

    With RADIO_TEST_S it takes that many seconds instead of sixty.
    """
    from tests.virtual.lora.networks import networks

    async with networks(pool, bus, speed=60.0, loss=0.01) as world:
        await asyncio.sleep(AIR_S)
        await world.silence()
        lost = sum((road.counts for road in world.roads.values()), Counter[str]())
        for road in world.roads.values():
            road.loss = 0.0
        carried = await equal_ledgers(world)
        ups = await world.ups()
        check_uplinks(ups, set(world.radio.lives))
    logger.info(
        "carried %s, %d uplinks, lost %s, radio %s", carried, len(ups), lost, world.radio.ether.radio.losses
    )
    assert lost["requests lost"] + lost["answers lost"] >= 3
    assert min(carried.values()) >= 30
