"""Tasks (17-079r1): what a capability takes, who may ask for it, and what becomes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from quartier.cities.rules import SYSTEM
from quartier.engines.pools import Pool
from quartier.intake.models import Codec
from quartier.interfaces.sensorthings.tasking.carrier import Carrier
from quartier.interfaces.sensorthings.tasking.downlinks import Later, Order, Undeliverable, Ways
from quartier.interfaces.sensorthings.tasking.radio import RADIO_SOURCE, RadioDownlinks
from quartier.lorawan.domain import DeviceSettings, register_device, save_profile
from quartier.lorawan.models import Downlink, LoraDevice
from quartier.twin.models import Device, DeviceType
from tests.interfaces.sensorthings.write.conftest import Town, Writing

LAMP: dict[str, Any] = {
    "type": "DataRecord",
    "field": [
        {"name": "on", "label": "Licht", "type": "Boolean"},
        {
            "name": "level",
            "label": "Helligkeit",
            "type": "Quantity",
            "uom": {"code": "%"},
            "constraint": {"type": "AllowedValues", "interval": [[0, 100]]},
            "optional": True,
        },
        {
            "name": "colour",
            "type": "Category",
            "constraint": {"type": "AllowedTokens", "value": ["warm", "cold"]},
            "optional": True,
        },
    ],
}


def capability(town: Town, description: Any = LAMP, device: str = "lamp-1") -> dict[str, Any]:
    return {
        "name": "Schalten",
        "description": "",
        "taskingParameters": description,
        "Thing": {"@iot.id": town.world.thing.pk},
        "Actuator": {
            "name": "Relais",
            "description": "",
            "encodingType": "application/json",
            "metadata": {"port": 5},
            "properties": {"device": device},
        },
    }


class Lamps:
    """A way to lamps; ``problem`` is what stands in it."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.problem: Exception | None = None

    async def send(self, order: Order) -> str:
        if self.problem is not None:
            raise self.problem
        self.orders.append(order)
        return "queued for the next uplink"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "taskingParameters.on: is missing; the capability asks for it"),
        ({"on": 1}, "taskingParameters.on: expected a Boolean"),
        ({"on": True, "level": 101}, "taskingParameters.level: 101 is not allowed; 0 to 100 is"),
        ({"on": True, "level": True}, "taskingParameters.level: expected a Quantity"),
        ({"on": True, "colour": "red"}, "taskingParameters.colour: red is not allowed; warm, cold is"),
        (
            {"on": True, "x": 1},
            "taskingParameters.x: there is no such parameter; there are on, level, colour",
        ),
    ],
)
async def test_a_task_that_the_capability_does_not_take(
    sta: Writing, town: Town, given: Any, message: str
) -> None:
    made = await sta.post("TaskingCapabilities", capability(town))
    assert await sta.no("POST", f"{made}/Tasks", {"taskingParameters": given}) == message
    assert await sta.json(f"{made}/Tasks/$count") == 0


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({}, 'taskingParameters: expected {"type": "DataRecord", "field": […]} (17-079r1, SWE Common)'),
        (
            {"type": "DataRecord", "field": [{"name": "a", "type": "Blob"}]},
            "taskingParameters.field[0].type:",
        ),
        (
            {"type": "DataRecord", "field": [{"name": "a", "type": "Text"}, {"name": "a", "type": "Text"}]},
            "taskingParameters.field[1].name: 'a' is there twice",
        ),
        (
            {
                "type": "DataRecord",
                "field": [{"name": "a", "type": "Count", "constraint": {"interval": [[1]]}}],
            },
            "taskingParameters.field[0].constraint.interval:",
        ),
    ],
)
async def test_a_description_that_says_nothing(
    sta: Writing, town: Town, description: Any, message: str
) -> None:
    refused = await sta.no("POST", "TaskingCapabilities", capability(town, description))
    assert refused.startswith(message)


async def test_only_who_cares_for_devices_gives_tasks(sta: Writing, town: Town) -> None:
    made = await sta.post("TaskingCapabilities", capability(town))
    task = {"taskingParameters": {"on": True}}
    assert (await sta.by(town.maker_token).send("POST", f"{made}/Tasks", task)).status_code == 403
    assert (await sta.by("").send("POST", f"{made}/Tasks", task)).status_code == 401
    path = await sta.by(town.steward_token).post(f"{made}/Tasks", task)
    message = await sta.no("PATCH", path, {"taskingParameters": {"on": False}})
    assert message == "a Task cannot be changed; delete it, or give another one"


async def test_what_becomes_of_a_task(sta: Writing, town: Town, pool: Pool) -> None:
    await sync_to_async(
        lambda: Device.objects.create(
            municipality=town.world.municipality, source_key="lns", external_id="lamp-1", name="Lampe"
        )
    )()
    made = await sta.post("TaskingCapabilities", capability(town))
    path = await sta.post(f"{made}/Tasks", {"taskingParameters": {"on": True, "level": 40}})
    lamps, ways = Lamps(), Ways()
    ways.add(lamps, "lns")
    carrier = Carrier(pool, ways)

    async def state() -> tuple[str, list[tuple[str, str | None]]]:
        found = (await sta.json(path))["properties"]
        return found["state"], [(one["state"], one.get("detail")) for one in found["states"]]

    assert await state() == ("accepted", [("accepted", None)])
    lamps.problem = Later("the gateway is away")
    assert await carrier.turn() == 0
    assert await carrier.turn() == 0
    waiting = [("accepted", None), ("accepted", "the gateway is away")]
    assert await state() == ("accepted", waiting)
    lamps.problem = None
    assert await carrier.turn() == 1
    assert await state() == ("sent", [*waiting, ("sent", "queued for the next uplink")])
    assert await carrier.turn() == 0
    (order,) = lamps.orders
    assert (order.municipality, order.source, order.device) == ("musterstadt", "lns", "lamp-1")
    assert (order.parameters, order.metadata) == ({"on": True, "level": 40}, {"port": 5})
    times = [one["time"] for one in (await sta.json(path))["properties"]["states"]]
    assert times == sorted(times)


async def test_tasks_that_reach_nobody(sta: Writing, town: Town, pool: Pool) -> None:
    await sync_to_async(
        lambda: Device.objects.create(
            municipality=town.world.municipality, source_key="lns", external_id="lamp-1", name="Lampe"
        )
    )()
    lamps, ways = Lamps(), Ways()

    async def ended(device: str, later: timedelta = timedelta(0)) -> tuple[str, str]:
        made = await sta.post("TaskingCapabilities", capability(town, device=device))
        path = await sta.post(f"{made}/Tasks", {"taskingParameters": {"on": True}})
        await Carrier(pool, ways).turn(now=datetime.now(UTC) + later)
        last = (await sta.json(path))["properties"]["states"][-1]
        return last["state"], last.get("detail", "")

    assert await ended("nowhere") == ("failed", "the Actuator names no device")
    assert await ended("lamp-1") == ("failed", "devices of lns cannot be told anything")
    ways.add(lamps)
    lamps.problem = Undeliverable("it has no downlinks")
    assert await ended("lamp-1") == ("failed", "it has no downlinks")
    lamps.problem = Later("away")
    assert await ended("lamp-1", timedelta(days=2)) == ("failed", "away")


DIMMER = """function encodeDownlink(input) {
  if (input.data.level === undefined) return { errors: ["a level is needed"] };
  return { fPort: 15, bytes: [0x01, input.data.level] };
}"""


def radio_lamp(town: Town) -> LoraDevice:
    """A lamp of our own radio network, with a codec that understands orders."""
    device_type = DeviceType.objects.create(key="dimmer", model="Dimmer")
    Codec.objects.create(device_type=device_type, version=1, script=DIMMER)
    profile = save_profile(SYSTEM, "lamps", name="Lamps", device_type=device_type)
    return register_device(
        SYSTEM,
        town.world.municipality,
        DeviceSettings(
            dev_eui="02005e0000000a01",
            name="Leuchte",
            profile=profile,
            join_eui="02005e0000000001",
            keys={"app_key": "0123456789abcdef" * 2},
        ),
    )


async def test_a_task_waits_in_the_queue_of_the_radio_network(sta: Writing, town: Town, pool: Pool) -> None:
    lora = await sync_to_async(radio_lamp)(town)
    made = await sta.post("TaskingCapabilities", capability(town, device=lora.dev_eui))
    path = await sta.post(f"{made}/Tasks", {"taskingParameters": {"on": True, "level": 40}})
    ways = Ways()
    ways.add(RadioDownlinks(), RADIO_SOURCE)
    assert await Carrier(pool, ways).turn() == 1
    task_id = int(path.rpartition("(")[2].rstrip(")"))
    queued = await sync_to_async(lambda: list(Downlink.objects.all()))()
    assert [
        (one.device_id, bytes(one.payload), one.port, one.confirmed, one.requested_by) for one in queued
    ] == [(lora.pk, b"\x01\x28", 15, True, f"SensorThings Task {task_id}")]
    last = (await sta.json(path))["properties"]["states"][-1]
    assert (last["state"], last["detail"]) == (
        "sent",
        f"downlink {queued[0].pk} is queued for {lora.dev_eui}",
    )
    again = Order(task_id, "musterstadt", RADIO_SOURCE, lora.dev_eui, {"on": True, "level": 40})
    assert await RadioDownlinks().send(again) == last["detail"]
    assert await sync_to_async(Downlink.objects.count)() == 1
    dark = await sta.post(f"{made}/Tasks", {"taskingParameters": {"on": True}})
    await Carrier(pool, ways).turn()
    last = (await sta.json(dark))["properties"]["states"][-1]
    assert last["state"] == "failed"
    assert "a level is needed" in last["detail"]
