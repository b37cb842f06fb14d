"""Entities of STAplus and tasks by MQTT: posted to topics, and seen on topics (22-022r1, 17-079r1)."""

from __future__ import annotations

from typing import Any

import aiomqtt
import orjson
from asgiref.sync import sync_to_async

from quartier.cities import tokens
from quartier.cities.models import Person, Role, RoleAssignment
from tests.interfaces.sensorthings.mqtt.conftest import Installation, until
from tests.interfaces.sensorthings.mqtt.test_create import WRITING, running
from tests.patience import patient


async def test_parties_and_tasks_are_posted_and_seen(installation: Installation) -> None:
    city = installation.city

    def prepare() -> tuple[int, str]:
        person = Person.objects.create_user("o@example.org")
        RoleAssignment.objects.create(person=person, municipality=city.world.municipality, role=Role.OPERATOR)
        token, text = tokens.make(person, name="t", scopes=WRITING)
        return token.pk, text

    number, token = await sync_to_async(prepare)()
    own = f"tokens/{number}/v1.1"
    capability = {
        "name": "Schalten",
        "description": "",
        "taskingParameters": {"type": "DataRecord", "field": [{"name": "on", "type": "Boolean"}]},
        "Thing": {"@iot.id": city.market.pk},
        "Actuator": {"name": "Relais", "description": "", "encodingType": "application/json", "metadata": {}},
    }
    topics = [f"{own}/Parties?$select=displayName", f"{own}/TaskingCapabilities?$select=id",
              f"{own}/Tasks?$select=taskingParameters"]  # fmt: skip

    async with (
        running(installation),
        installation.listener(*topics, token=token) as listener,
        aiomqtt.Client(
            "127.0.0.1", installation.server.mqtt_port, username="x", password=token, timeout=patient(15)
        ) as client,
    ):
        assert listener.codes == [1] * len(topics)

        async def post(name: str, body: Any) -> Any:
            """Publish, and wait for what everybody sees of it."""
            seen = len(listener.got)
            await client.publish(f"{own}/{name}", orjson.dumps(body), qos=1)
            await until(lambda: len(listener.got) > seen)
            return listener.got[seen]

        assert await post("Parties", {"role": "individual", "displayName": "Kim", "description": ""}) == (
            topics[0],
            {"displayName": "Kim"},
        )
        topic, made = await post("TaskingCapabilities", capability)
        assert topic == topics[1]
        assert await post(
            f"TaskingCapabilities({made['@iot.id']})/Tasks", {"taskingParameters": {"on": True}}
        ) == (
            topics[2],
            {"taskingParameters": {"on": True}},
        )
