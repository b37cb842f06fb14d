"""Observations by MQTT, as subscribers get them (18-088 clause 14.2)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import paho.mqtt.client as paho
import pytest
from asgiref.sync import sync_to_async
from nats.aio.msg import Msg
from paho.mqtt.enums import CallbackAPIVersion

from quartier.cities import tokens
from quartier.cities.models import Person, Role, RoleAssignment
from quartier.engines.bus import OBSERVED
from quartier.interfaces.sensorthings.mqtt.leader import CONSUMER
from quartier.interfaces.sensorthings.mqtt.outlet import Message, Outlet
from tests.interfaces.sensorthings.mqtt.conftest import Installation, until
from tests.patience import patient

NEXT_DAY = datetime(2026, 5, 2, tzinfo=UTC)


async def test_a_datastream_by_both_qualities_of_service(installation: Installation) -> None:
    series = installation.city.temperature
    topic = f"v1.1/Datastreams({series.pk})/Observations"
    async with installation.listener(topic, qos=1) as sure, installation.listener(topic, qos=0) as quick:
        assert (sure.codes, quick.codes) == ([1], [0])
        # At once: the leader finds out about the subscription after it was recorded.
        await installation.record(series, 20.5, 21)
        await installation.record(installation.city.humidity, 50)
        await until(lambda: len(sure.got) >= 2 and len(quick.got) >= 2)
    base = "http://127.0.0.1:8700/sensorthings/v1.1"
    id_ = f"{series.pk}.1777629600000000"
    assert sure.got[0] == (
        topic,
        {
            "@iot.selfLink": f"{base}/Observations('{id_}')",
            "@iot.id": id_,
            "phenomenonTime": "2026-05-01T10:00:00Z",
            "result": 20.5,
            "resultTime": "2026-05-01T10:00:00Z",
            "Datastream@iot.navigationLink": f"{base}/Observations('{id_}')/Datastream",
            "FeatureOfInterest@iot.navigationLink": f"{base}/Observations('{id_}')/FeatureOfInterest",
        },
    )
    assert sure.results() == quick.results() == [20.5, 21]


async def test_filters_selections_and_expansions(installation: Installation) -> None:
    city = installation.city
    t = city.temperature.pk
    topics = {
        f"v1.1/Datastreams({t})/Observations?$filter=result%20gt%2020.5&$select=result": [
            {"result": 21},
            {"result": 30},
        ],
        "v1.1/Observations?$filter=Datastream/Thing/name%20eq%20'Markt'%20and%20result%20lt%2030&$select=result": [
            {"result": 20},
            {"result": 21},
        ],
        f"v1.0/Things({city.market.pk})/Datastreams({t})/Observations?$select=result&$expand=Datastream($select=id)": [
            {"result": n, "Datastream": {"@iot.id": t}} for n in (20, 21, 30)
        ],
        "musterstadt/v1.1/Observations?$filter=result%20ge%2030&$select=id": [
            {"@iot.id": f"{t}.1777629602000000"}
        ],
    }
    async with installation.listener(*topics) as listener:
        assert listener.codes == [1] * 4
        await installation.record(city.temperature, 20, 21, 30)
        await until(lambda: len(listener.got) >= 8)
        found: dict[str, list[Any]] = {topic: [] for topic in topics}
        for topic, body in listener.got:
            found[topic].append(body)
    assert found == topics


async def test_what_is_not_open_is_only_for_those_who_may_read_it(installation: Installation) -> None:
    secret = installation.city.secret

    def prepare() -> tuple[int, str, str]:
        person = Person.objects.create_user("a@example.org")
        RoleAssignment.objects.create(
            person=person, municipality=installation.city.world.municipality, role=Role.STAFF
        )
        token, text = tokens.make(person, name="t", scopes=["things:read"])
        _, other = tokens.make(person, name="o", scopes=["things:read"])
        return token.pk, text, other

    number, text, other = await sync_to_async(prepare)()
    plain = f"v1.1/Datastreams({secret.pk})/Observations"
    own = f"tokens/{number}/{plain}"
    async with (
        installation.listener(plain, own, "#", "tokens/+/v1.1/#") as nobody,
        installation.listener(own, plain, token=text) as staff,
        installation.listener(own, token=other) as stranger,
        installation.listener("v1.1/Observations") as everything,
    ):
        assert nobody.codes == [1, 128, 128, 128]
        assert staff.codes == [1, 1]
        assert stranger.codes == [128]
        await installation.record(secret, 1, 2)
        await installation.record(installation.city.temperature, 3)
        await until(lambda: len(staff.got) >= 2 and everything.got)
        assert [topic for topic, _ in staff.got] == [own, own]
        assert staff.results() == [1, 2]
        assert everything.results() == [3]
        assert nobody.got == stranger.got == []


async def test_a_persistent_session_gets_what_it_missed(installation: Installation) -> None:
    series = installation.city.temperature
    topic = f"v1.1/Datastreams({series.pk})/Observations?$select=result"
    named: dict[str, Any] = {"identifier": "weather-display", "clean": False}
    async with installation.listener(topic, **named) as first:
        await installation.record(series, 1)
        await until(lambda: first.got)
    await installation.record(series, 3, 4, start=NEXT_DAY)
    async with installation.listener(**named) as second:
        await until(lambda: len(second.got) >= 2)
        assert second.bodies == [{"result": 3}, {"result": 4}]
        await second.client.unsubscribe(topic)


async def test_mistakes_are_told_on_the_topic(installation: Installation) -> None:
    topics = {
        "v1.1/Observations?$filter=result%20gtt%205": 400,
        "v1.1/Observations?$top=5": 400,
        "v1.1/Observations?$filter=nonsense%20eq%205": 400,
        "v1.1/Nothing": 404,
        "nowhere/v1.1/Observations": 404,
    }
    async with installation.listener(*topics) as listener:
        await until(lambda: len(listener.got) >= len(topics))
    assert {topic: body["code"] for topic, body in listener.got} == topics
    message = next(body["message"] for topic, body in listener.got if "$top" in topic)
    assert message == "$top: cannot be asked of what is still to come"


async def test_retained_values_are_shown_to_newcomers_and_forgotten_with_the_last(
    installation: Installation,
) -> None:
    series = installation.city.temperature
    topic = f"v1.1/Datastreams({series.pk})/Observations?$select=result&$retain=true"
    await installation.record(series, 17)
    async with installation.listener(topic) as first:
        await until(lambda: first.got)
        assert first.bodies[0] == {"result": 17}
        await installation.record(series, 18, start=NEXT_DAY)
        await until(lambda: first.bodies[-1] == {"result": 18})
        async with installation.listener(topic) as second:
            await until(lambda: second.got)
            assert (second.bodies[0], second.retained[0]) == ({"result": 18}, True)
    # The leader takes it back from the broker when nobody wants it any more.
    await until(lambda: topic not in installation.leader._followed)


async def test_another_client_library(installation: Installation) -> None:
    """paho itself, threaded, as scripts use it."""
    series = installation.city.temperature
    got: list[Any] = []
    subscribed = asyncio.Event()
    loop = asyncio.get_running_loop()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
    client.on_message = lambda _, __, message: got.append(
        (message.qos, orjson.loads(message.payload)["result"])
    )

    def on_subscribe(*_: Any) -> None:
        loop.call_soon_threadsafe(subscribed.set)

    client.on_subscribe = on_subscribe
    client.connect("127.0.0.1", installation.server.mqtt_port)
    client.loop_start()
    try:
        client.subscribe(f"v1.1/Datastreams({series.pk})/Observations?$filter=result%20gt%201", qos=1)
        async with asyncio.timeout(patient(15)):
            await subscribed.wait()
        await installation.record(series, 1, 2, 3)
        await until(lambda: len(got) >= 2)
    finally:
        client.disconnect()
        client.loop_stop()
    assert got == [(1, 2.0), (1, 3.0)]


async def test_browsers_follow_by_websocket(installation: Installation) -> None:
    """mqtt.js, as Masterportal has it: without a sign-in, QoS 2, from a page of whatever origin."""
    series, secret = installation.city.temperature, installation.city.secret
    async with installation.listener(
        f"v1.1/Datastreams({series.pk})/Observations",
        f"v1.1/Datastreams({secret.pk})/Observations",
        qos=2,
        websocket=True,
    ) as listener:
        await installation.record(secret, 7)
        await installation.record(series, 8)
        await until(lambda: listener.got)
        refused: Any = await listener.client.subscribe("inbox/#")
        assert [one.value for one in refused] == [128]
    assert listener.results() == [8]


async def test_a_new_leader_continues_where_the_last_one_stopped(installation: Installation) -> None:
    series = installation.city.temperature
    topic = f"v1.1/Datastreams({series.pk})/Observations?$select=result"
    async with installation.listener(topic) as listener:
        await installation.record(series, 1)
        await until(lambda: listener.got)
        await installation.stop_leader()
        await installation.record(series, *range(2, 400), start=NEXT_DAY)
        await installation.start_leader()
        await until(lambda: len(listener.got) >= 399)
    assert listener.results() == list(range(1, 400))


async def test_nothing_is_lost_when_the_connection_to_the_broker_breaks(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that the broker did not confirm is published again: messages may come twice, and none is missing."""
    series = installation.city.temperature
    topic = f"v1.1/Datastreams({series.pk})/Observations?$select=result"
    sent = Outlet._send
    broken = 0

    async def breaks(outlet: Outlet, part: list[Message]) -> None:
        nonlocal broken
        if part and broken < 3:
            broken += 1
            await sent(outlet, part[: len(part) // 2])
            outlet._writer.transport.abort()
        await sent(outlet, part)

    async with installation.listener(topic) as listener:
        await installation.record(series, 0)
        await until(lambda: listener.got)
        monkeypatch.setattr(Outlet, "_send", breaks)
        for n in range(1, 300, 50):
            await installation.record(
                series, *range(n, min(n + 50, 300)), start=NEXT_DAY + timedelta(minutes=n)
            )
        await until(lambda: set(listener.results()) >= set(range(300)), 60)
    assert broken == 3
    assert set(listener.results()) == set(range(300))


async def test_what_was_on_its_way_to_a_leader_that_died_is_published(installation: Installation) -> None:
    """The consumer counts it as delivered, and a later confirmation would have covered it."""
    series = installation.city.temperature
    topic = f"v1.1/Datastreams({series.pk})/Observations?$select=result"
    js = installation.bus.js
    async with installation.listener(topic) as listener:
        await installation.record(series, 1)
        await until(lambda: listener.got)
        await installation.stop_leader()
        dead: list[Msg] = []

        async def take(message: Msg) -> None:
            dead.append(message)

        info = await js.consumer_info(OBSERVED, CONSUMER)
        reached = await js.subscribe(
            f"{OBSERVED}.>", durable=CONSUMER, stream=OBSERVED, cb=take, manual_ack=True, config=info.config
        )
        await installation.record(series, *range(2, 10), start=NEXT_DAY)
        await until(lambda: dead)
        await reached.unsubscribe()
        await installation.start_leader()
        await installation.record(series, 10, start=NEXT_DAY + timedelta(hours=1))
        await until(lambda: len(listener.got) >= 10)
    assert listener.results() == list(range(1, 11))
