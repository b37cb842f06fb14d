"""Observations posted by MQTT (18-088 clause 14.1), and what a topic allows to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
import orjson
import pytest
from asgiref.sync import sync_to_async

from quartier.cities import tokens
from quartier.cities.models import Municipality, Person, Role, RoleAssignment
from quartier.intake.models import RefusedMessage
from quartier.twin.models import Thing
from tests.interfaces.sensorthings.mqtt.conftest import Installation, broker_of, until
from tests.patience import patient

TIME = "2026-05-03T08:00:00Z"


@asynccontextmanager
async def running(installation: Installation) -> AsyncIterator[Any]:
    """An inlet beside the rest."""
    from quartier.interfaces.sensorthings.mqtt.inlet import Inlet
    from quartier.interfaces.sensorthings.read import Reader, read_pool

    stop = asyncio.Event()
    async with read_pool(max_size=2) as reading:
        made = Inlet(installation.pool, Reader(reading), broker=broker_of(installation.server))
        task = asyncio.create_task(made.run(stop))
        async with asyncio.timeout(patient(15)):
            await made.ready.wait()
        yield made
        stop.set()
        await task


@pytest.fixture
async def inlet(installation: Installation) -> AsyncIterator[Any]:
    """An inlet that runs."""
    async with running(installation) as made:
        yield made


def _token(
    role: Role | None, scopes: list[str], place: Municipality | None, mail: str
) -> tuple[int, str, Person]:
    person = Person.objects.create_user(mail)
    if role is not None:
        RoleAssignment.objects.create(person=person, municipality=place, role=role)
    token, text = tokens.make(person, name="t", scopes=scopes)
    return token.pk, text, person


WRITING = ["observations:write", "devices:write", "things:read"]


async def _publish(installation: Installation, token: str | None, *messages: tuple[str, Any]) -> None:
    async with aiomqtt.Client(
        "127.0.0.1",
        installation.server.mqtt_port,
        username="x" if token else None,
        password=token,
        timeout=patient(15),
    ) as client:
        for topic, body in messages:
            await client.publish(topic, body if isinstance(body, bytes) else orjson.dumps(body), qos=1)


async def _stored(installation: Installation, series: Any) -> list[Any]:
    async with installation.pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT result, details FROM twin_observation WHERE series_id = %s ORDER BY time", [series.pk]
        )
        return [tuple(row) for row in await cursor.fetchall()]


async def _until_stored(installation: Installation, series: Any, n: int) -> list[Any]:
    async with asyncio.timeout(patient(20)):
        while len(found := await _stored(installation, series)) < n:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


async def test_an_operator_posts_to_his_city(installation: Installation, inlet: Any) -> None:
    city = installation.city
    number, token, _ = await sync_to_async(_token)(
        Role.OPERATOR, WRITING, city.world.municipality, "o@example.org"
    )
    t = city.temperature.pk
    topic = f"v1.1/Datastreams({t})/Observations"
    async with installation.listener(topic) as listener:
        await _publish(
            installation,
            token,
            (f"musterstadt/{topic}", {"result": 1.5, "phenomenonTime": TIME, "parameters": {"by": "hand"}}),
            (
                "musterstadt/v1.1/Observations",
                {"result": 2, "phenomenonTime": "2026-05-03T08:01:00Z", "Datastream": {"@iot.id": t}},
            ),
            (f"tokens/{number}/{topic}", {"result": 3, "phenomenonTime": "2026-05-03T08:02:00Z"}),
            (
                f"tokens/{number}/v1.1/Observations",
                {"result": 4, "phenomenonTime": "2026-05-03T08:03:00Z", "Datastream": {"@iot.id": t}},
            ),
        )
        found = await _until_stored(installation, city.temperature, 4)
        await until(lambda: len(listener.got) >= 4)
    assert found == [(1.5, {"parameters": {"by": "hand"}}), (2, None), (3, None), (4, None)]
    # Subscribers get the finished observations only, and never what was posted.
    assert sorted(listener.results()) == [1.5, 2, 3, 4]
    assert all("@iot.selfLink" in body for body in listener.bodies)


async def test_a_maker_posts_to_her_own_datastream(installation: Installation, inlet: Any) -> None:
    city = installation.city

    def prepare() -> tuple[int, str]:
        number, token, person = _token(
            Role.MAKER, ["observations:write"], city.world.municipality, "m@example.org"
        )
        Thing.objects.filter(pk=city.park.pk).update(owner_person_id=person.pk)
        return number, token

    number, token = await sync_to_async(prepare)()
    own, foreign = city.other.pk, city.temperature.pk
    body = {"result": 5, "phenomenonTime": TIME}
    await _publish(
        installation,
        token,
        # The broker takes these from her and hands them to nobody: she may not publish there.
        (f"v1.1/Datastreams({foreign})/Observations", body),
        (f"musterstadt/v1.1/Datastreams({own})/Observations", body),
        ("v1.1/Observations", body | {"Datastream": {"@iot.id": foreign}}),
        # This is looked at, and refused.
        (f"tokens/{number}/v1.1/Datastreams({foreign})/Observations", body),
        # And this is hers.
        (f"v1.1/Datastreams({own})/Observations", body),
    )
    assert await _until_stored(installation, city.other, 1) == [(5, None)]

    async def refused() -> list[Any]:
        return await sync_to_async(
            lambda: list(RefusedMessage.objects.values_list("topic", "reason", "detail", "source_key"))
        )()

    async with asyncio.timeout(patient(15)):
        while not (listed := await refused()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert listed == [
        (
            f"tokens/{number}/v1.1/Datastreams({foreign})/Observations",
            "sensorthings_rights",
            "missing right observations:write",
            "sensorthings",
        )
    ]
    assert await _stored(installation, city.temperature) == []


async def test_nobody_posts_without_a_token(installation: Installation, inlet: Any) -> None:
    city = installation.city
    body = {"result": 5, "phenomenonTime": TIME}
    own = f"v1.1/Datastreams({city.temperature.pk})/Observations"
    async with installation.listener(own) as listener:
        await _publish(
            installation,
            None,
            (own, body),
            (f"sensorthings/in/{own}", body),
            (f"sensorthings/out/{own}", body),
        )
        await installation.record(city.temperature, 1)
        await until(lambda: listener.got)
        assert listener.results() == [1]
    assert len(await _stored(installation, city.temperature)) == 1
    assert not await sync_to_async(RefusedMessage.objects.exists)()


async def test_bad_messages_are_listed_with_the_place_of_the_mistake(
    installation: Installation, inlet: Any
) -> None:
    city = installation.city
    _, token, _ = await sync_to_async(_token)(
        Role.OPERATOR, WRITING, city.world.municipality, "o@example.org"
    )
    topic = f"musterstadt/v1.1/Datastreams({city.temperature.pk})/Observations"
    await _publish(
        installation,
        token,
        (topic, b"{"),
        (topic, {"result": "warm", "phenomenonTime": TIME}),
        (topic, {"phenomenonTime": TIME}),
        ("musterstadt/v1.1/Datastreams(999999)/Observations", {"result": 1, "phenomenonTime": TIME}),
        (topic, {"result": 1, "phenomenonTime": TIME}),
    )
    await _until_stored(installation, city.temperature, 1)

    def listed() -> list[str]:
        return sorted(RefusedMessage.objects.values_list("detail", flat=True))

    async with asyncio.timeout(patient(15)):
        while len(found := await sync_to_async(listed)()) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert found == [
        "result: expected a number, as the observationType says, found a text",
        "result: is missing; every Observation has it",
        "the body is no JSON: unexpected end of data: line 1 column 2 (char 1)",
        "there is no Datastreams(999999)",
    ]


async def test_what_comes_while_no_inlet_runs_waits(installation: Installation) -> None:
    city = installation.city
    _, token, _ = await sync_to_async(_token)(
        Role.OPERATOR, WRITING, city.world.municipality, "o@example.org"
    )
    topic = f"musterstadt/v1.1/Datastreams({city.temperature.pk})/Observations"
    async with running(installation):
        pass
    await _publish(installation, token, (topic, {"result": 7, "phenomenonTime": TIME}))
    assert await _stored(installation, city.temperature) == []
    async with running(installation):
        assert await _until_stored(installation, city.temperature, 1) == [(7, None)]
