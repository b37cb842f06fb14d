"""Entities, their sets and properties by MQTT, whoever changes them (18-088 clause 14.2)."""

from __future__ import annotations

import asyncio
from typing import Any

from asgiref.sync import sync_to_async

from quartier.twin.models import Thing
from tests.interfaces.sensorthings.mqtt.conftest import Installation, until
from tests.patience import patient

BASE = "http://127.0.0.1:8700/sensorthings/v1.1"


async def _settled(installation: Installation) -> None:
    """Wait until the making of the city is published, and forget it: new topics would be told of it."""
    async with asyncio.timeout(patient(15)):
        while True:
            async with installation.pool.connection() as connection:
                cursor = await connection.execute("SELECT 1 FROM sensorthings_change LIMIT 1")
                if await cursor.fetchone() is None:
                    break
            await asyncio.sleep(0.05)
    installation.leader._entities._mind.clear()


async def test_things_and_their_properties(installation: Installation) -> None:
    city = installation.city
    await _settled(installation)
    m = city.market.pk
    topics = [
        "v1.1/Things?$select=name",
        f"v1.1/Things({m})?$select=id,description&$expand=Datastreams($select=id;$top=1)",
        f"v1.1/Things({m})/name",
        f"v1.1/Things({m})/description",
        f"v1.1/Datastreams({city.temperature.pk})/Thing?$select=name",
        "v1.1/Things?$filter=name%20eq%20'Nirgends'",
    ]
    async with installation.listener(*topics) as listener:
        assert listener.codes == [1] * len(topics)

        def change() -> None:
            # Past Django's signals, as imports do.
            Thing.objects.filter(pk=m).update(description="neu")
            Thing.objects.filter(pk=city.hidden.pk).update(description="geheim")
            Thing.objects.bulk_create(
                [
                    Thing(
                        municipality=city.world.municipality, key=key, name=key, kind="station", public=public
                    )
                    for key, public in (("new", True), ("dark", False))
                ]
            )

        await sync_to_async(change)()
        await until(lambda: len(listener.got) >= 5)
        found: dict[str, list[Any]] = {topic: [] for topic in topics}
        for topic, body in listener.got:
            found[topic].append(body)
    first = min(city.temperature.pk, city.humidity.pk)
    expanded = found[topics[1]]
    assert [one["@iot.id"] for one in expanded] == [m]
    assert expanded[0]["description"] == "neu"
    assert expanded[0]["Datastreams"] == [{"@iot.id": first}]
    assert found[topics[0]] == [{"name": "Markt"}, {"name": "new"}]
    assert found[topics[2]] == []
    assert found[topics[3]] == [{"description": "neu"}]
    assert found[topics[4]] == [{"name": "Markt"}]
    assert found[topics[5]] == []


async def test_a_change_that_is_rolled_back_is_none(installation: Installation) -> None:
    city = installation.city
    await _settled(installation)
    async with installation.listener("v1.1/Things?$select=name") as listener:
        async with installation.pool.connection() as connection:
            async with connection.transaction(force_rollback=True):
                await connection.execute(
                    "UPDATE twin_thing SET name = 'falsch' WHERE id = %s", [city.market.pk]
                )
            await connection.execute("UPDATE twin_thing SET name = 'richtig' WHERE id = %s", [city.market.pk])
        await until(lambda: listener.got)
    assert listener.bodies == [{"name": "richtig"}]
