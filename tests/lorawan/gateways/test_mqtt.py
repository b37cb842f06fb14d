"""Gateways behind ChirpStack's bridge, over a real MQTT broker.

The bytes of protobuf messages are put together here by hand, with the numbers of ChirpStack's ``api/proto/gw/gw.proto``
(v4.19), so that the table in ``schema`` is checked against something else than itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import aiomqtt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quartier.engines.nats import Server as Nats
from quartier.lorawan.frames.gps_time import gps_ms
from quartier.lorawan.frames.modulation import Fsk, Lora
from quartier.lorawan.gateways.mqtt import MqttBroker, MqttClient, codec
from quartier.lorawan.gateways.mqtt.codec import Acknowledged, BridgeError, Encoding, Heard
from quartier.lorawan.gateways.registry import GatewayProtocol
from quartier.lorawan.types import Transmission, TransmitError
from tests.lorawan.gateways.bench import ALWAYS, DOWNLINK, EUI, OTHER, RX1, RX2, UPLINK, Bench, answer, until
from tests.lorawan.gateways.test_gwmp import json_values
from tests.sources.mqtt_client import mqtt

CONTEXT = b"\x12\x34\x56\x78"


def number(field: int, value: int) -> bytes:
    """A varint field."""
    return _varint(field << 3) + _varint(value)


def text(field: int, value: bytes | str) -> bytes:
    """A field with a length: text, bytes, message."""
    raw = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    packed = b""
    while value > 0x7F:
        packed += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return packed + bytes((value,))


LORA = text(3, number(1, 125_000) + number(2, 7) + number(5, 1))
UP = (
    text(1, UPLINK)
    + text(4, number(1, 868_100_000) + text(2, LORA))
    + text(
        5,
        text(1, EUI.hex())
        + number(2, 17)
        + text(4, number(1, 1_400_000_000) + number(2, 250_000_000))
        + text(5, number(1, 1_400_000_000) + number(2, 250_000_017))
        + number(6, -87)
        + b"\x3d"
        + struct.pack("<f", 7.5)
        + number(8, 2)
        + number(10, 1)
        + number(11, 3)
        + text(13, CONTEXT)
        + number(16, 2)
        + text(99, b"what a newer version adds"),
    )
)
UP_JSON: dict[str, Any] = {
    "phyPayload": base64.b64encode(UPLINK).decode(),
    "txInfo": {
        "frequency": 868100000,
        "modulation": {"lora": {"bandwidth": 125000, "spreadingFactor": 7, "codeRate": "CR_4_5"}},
    },
    "rxInfo": {
        "gatewayId": EUI.hex(),
        "uplinkId": 17,
        "timeSinceGpsEpoch": "1400000000.250s",
        "fineTimeSinceGpsEpoch": "1400000000.250000017s",
        "rssi": -87,
        "snr": 7.5,
        "channel": 2,
        "board": 1,
        "antenna": 3,
        "context": base64.b64encode(CONTEXT).decode(),
        "crcStatus": "CRC_OK",
        "newer": {"field": 1},
    },
}
HEARD = Heard(
    gateway=EUI,
    phy=UPLINK,
    frequency_hz=868_100_000,
    data_rate=Lora(7, 125_000),
    intact=True,
    rssi_dbm=-87.0,
    snr_db=7.5,
    context=CONTEXT,
    channel=2,
    board=1,
    antenna=3,
    fine_time_ns=250_000_017,
    gps_time_ms=1_400_000_000_250,
)


def ack(number_of_downlink: int, *statuses: int, eui: bytes = EUI) -> bytes:
    """A DownlinkTxAck."""
    items = b"".join(text(5, number(1, status) if status else b"") for status in statuses)
    return number(2, number_of_downlink) + items + text(6, eui.hex())


def test_uplinks_in_both_spellings() -> None:
    assert codec.parse_up(UP) == HEARD
    assert codec.parse_up(json.dumps(UP_JSON).encode()) == HEARD
    assert (codec.encoding_of(UP), codec.encoding_of(b"{}")) == (Encoding.PROTOBUF, Encoding.JSON)


def test_modulations() -> None:
    fsk = UP_JSON | {"txInfo": {"frequency": 1, "modulation": {"fsk": {"datarate": 50000}}}}
    none = UP_JSON | {"txInfo": {"frequency": 1, "modulation": {"lrFhss": {"gridSteps": 8}}}}
    assert codec.parse_up(json.dumps(fsk).encode()).data_rate == Fsk(50_000)
    assert codec.parse_up(json.dumps(none).encode()).data_rate is None


def test_other_events() -> None:
    assert codec.parse_ack(ack(7, 2, 1)) == Acknowledged(EUI, 7, ("TOO_LATE", "OK"))
    assert codec.parse_ack(ack(7, 99)) == Acknowledged(EUI, 7, ("INTERNAL_ERROR",))
    stats = text(4, "v1") + number(5, 10) + number(6, 8) + number(7, 3) + number(8, 2) + text(17, EUI.hex())
    counts = {"received": 10, "received_ok": 8, "downlinks": 3, "transmitted": 2}
    assert codec.parse_stats(stats) == codec.Statistics(EUI, "v1", counts)
    assert codec.parse_state(number(2, 1) + text(3, EUI.hex())) == (EUI, True)
    assert codec.parse_state(json.dumps({"gatewayId": EUI.hex(), "state": "OFFLINE"}).encode()) == (
        EUI,
        False,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phyPayload": ""}, "phy_payload: 0 bytes are no frame"),
        ({"phyPayload": "A" * 400}, "phy_payload: 300 bytes are no frame"),
        ({"rxInfo": UP_JSON["rxInfo"] | {"rssi": 1000}}, "rx_info: impossible signal"),
        ({"rxInfo": UP_JSON["rxInfo"] | {"snr": "NaN"}}, "rx_info: impossible signal"),
        ({"rxInfo": UP_JSON["rxInfo"] | {"gatewayId": "x"}}, "gateway_id: 'x' is no EUI"),
        ({"rxInfo": UP_JSON["rxInfo"] | {"context": "A" * 400}}, "context: more than 256 bytes"),
        ({"phyPayload": "A" * 20000}, "message: more than 16384 bytes"),
    ],
)
def test_refused_uplinks(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BridgeError) as caught:
        codec.parse_up(json.dumps(UP_JSON | changes).encode())
    assert str(caught.value) == message


readers = (codec.parse_up, codec.parse_ack, codec.parse_stats, codec.parse_state)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_nothing_but_a_bridge_error_comes_of_any_bytes(payload: bytes) -> None:
    for reader in readers:
        with contextlib.suppress(BridgeError):
            reader(payload)


@settings(deadline=None)
@given(st.data())
def test_nothing_but_a_bridge_error_comes_of_changed_bytes(data: st.DataObject) -> None:
    payload = bytearray(UP)
    for _ in range(data.draw(st.integers(1, 5))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BridgeError):
        heard = codec.parse_up(bytes(payload))
        assert len(heard.gateway) == 8
        assert 0 < len(heard.phy) <= 255


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["phyPayload", "txInfo", "rxInfo", "items", "downlinkId", "state"]), json_values
    ),
    st.dictionaries(st.sampled_from(list(UP_JSON["rxInfo"])), json_values, max_size=4),
    st.dictionaries(st.sampled_from(["frequency", "modulation"]), json_values),
)
def test_nothing_but_a_bridge_error_comes_of_any_json(
    changes: dict[str, Any], received: dict[str, Any], sent: dict[str, Any]
) -> None:
    changed = UP_JSON | {"rxInfo": UP_JSON["rxInfo"] | received, "txInfo": UP_JSON["txInfo"] | sent} | changes
    payload = json.dumps(changed).encode()
    for reader in readers:
        with contextlib.suppress(BridgeError):
            reader(payload)


class Bridge(Bench):
    """With a client at a real broker, and a program that plays the bridge."""

    client: aiomqtt.Client

    def __init__(self, server: Nats, prefix: str) -> None:
        super().__init__()
        parts = urlsplit(server.url)
        self.broker = MqttBroker(
            host="127.0.0.1",
            port=server.mqtt_port,
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            prefix=prefix,
            client_id=f"test-{prefix}",
        )
        self.link = MqttClient(self.broker, self.registry, self.rates, self, first_backoff_s=0.05)
        self.downs: asyncio.Queue[bytes] = asyncio.Queue()

    async def event(self, kind: str, payload: bytes, eui: bytes = EUI, **options: Any) -> None:
        """Publish as the gateway."""
        topic = f"{self.broker.prefix}/gateway/{eui.hex()}/{kind}"
        await self.client.publish(topic, payload, qos=1, **options)

    async def follow(self) -> None:
        """Collect the commands."""
        async for message in self.client.messages:
            assert isinstance(message.payload, bytes)
            self.downs.put_nowait(message.payload)


@pytest.fixture
async def bridge(nats_server: Nats, request: pytest.FixtureRequest) -> AsyncIterator[Bridge]:
    # The broker keeps retained messages between tests, so each has its own topics.
    bench = Bridge(nats_server, f"eu868-{abs(hash(request.node.name)) % 10**9}")
    bench.known.add()
    stop = asyncio.Event()
    running = asyncio.create_task(bench.link.run(stop))
    async with mqtt(bench.broker.port, bench.broker.username, bench.broker.password) as bench.client:
        await bench.client.subscribe(f"{bench.broker.prefix}/gateway/+/command/down")
        following = asyncio.create_task(bench.follow())
        async with asyncio.timeout(20):
            await bench.link.connected.wait()
        yield bench
        following.cancel()
        stop.set()
        await running


async def test_receptions_and_state(bridge: Bridge) -> None:
    await bridge.event("state/conn", number(2, 1) + text(3, EUI.hex()), retain=True)
    await bridge.event("event/up", UP)
    await bridge.event("event/stats", text(4, "v1") + number(5, 10) + text(17, EUI.hex()))
    await until(lambda: bridge.registry.live(EUI) and bridge.registry.snapshot()[0].version)
    (one,) = bridge.receptions
    assert (one.gateway, one.phy, one.frequency_hz, one.data_rate) == (EUI, UPLINK, 868_100_000, 5)
    assert (one.context, one.fine_time_ns, one.gps_time_ms) == (
        {"context": CONTEXT.hex(), "board": 1, "antenna": 3},
        250_000_017,
        1_400_000_000_250,
    )
    (shown,) = bridge.registry.snapshot()
    assert (shown.protocol, shown.online, shown.status["received"]) == (GatewayProtocol.MQTT, True, 10)
    await bridge.event("event/conn", number(2, 0) + text(3, EUI.hex()))
    await until(lambda: not bridge.registry.snapshot()[0].online)


@pytest.mark.parametrize(
    ("kind", "payload", "eui", "reason"),
    [
        ("event/up", UP, OTHER, "unknown_gateway"),
        ("event/up", UP.replace(EUI.hex().encode(), OTHER.hex().encode()), EUI, "malformed"),
        ("event/up", b"\xff", EUI, "malformed"),
        ("event/up", b"{" + b" " * 20_000, EUI, "too_large"),
        ("event/raw", b"", EUI, "unsupported"),
        ("event/ack", ack(5, 1), EUI, "unsupported"),
        (
            "event/up",
            json.dumps(UP_JSON | {"rxInfo": UP_JSON["rxInfo"] | {"crcStatus": "BAD_CRC"}}).encode(),
            EUI,
            "crc",
        ),
        ("event/up", json.dumps(UP_JSON | {"txInfo": {"frequency": 915000000}}).encode(), EUI, "unsupported"),
        ("event/up", json.dumps(UP_JSON | {"txInfo": {"frequency": 868100000}}).encode(), EUI, "unsupported"),
    ],
)
def test_events_that_are_not_taken(
    nats_server: Nats, kind: str, payload: bytes, eui: bytes, reason: str
) -> None:
    bench = Bridge(nats_server, "eu868")
    bench.known.add()
    bench.link.take(f"eu868/gateway/{eui.hex()}/{kind}", payload)
    assert bench.reasons() == [reason]
    assert bench.receptions == []


def test_retained_uplinks_and_odd_topics_are_not_taken(nats_server: Nats) -> None:
    bench = Bridge(nats_server, "eu868")
    bench.known.add()
    bench.link.take(f"eu868/gateway/{EUI.hex()}/event/up", UP, retained=True)
    bench.link.take("eu868/gateway/x/event/up", UP)
    bench.link.take("eu868/gateway/event", UP)
    assert bench.reasons() == ["unsupported", "malformed", "unsupported"]


async def down(bridge: Bridge) -> bytes:
    async with asyncio.timeout(10):
        return await bridge.downs.get()


async def test_both_windows_go_out_at_once_in_protobuf(bridge: Bridge) -> None:
    await bridge.event("event/up", UP)
    await until(lambda: bridge.receptions)
    reception = bridge.receptions[0]
    sending = asyncio.create_task(bridge.transmitter.transmit(answer(reception)))
    payload = await down(bridge)
    downlink_id = bridge.link._number

    def item(frequency_hz: int, power_dbm: int, factor: int, delay_s: int) -> bytes:
        lora = number(1, 125_000) + number(2, factor) + number(4, 1) + number(5, 1)
        radio = (
            number(1, frequency_hz)
            + number(2, power_dbm)
            + text(3, text(3, lora))
            + number(4, 1)
            + number(5, 3)
            + text(6, text(2, text(1, number(1, delay_s))))
            + text(7, CONTEXT)
        )
        return text(5, text(1, DOWNLINK) + text(3, radio))

    rx1, rx2 = item(868_100_000, 16, 7, 1), item(869_525_000, 29, 12, 2)
    assert payload == number(3, downlink_id) + rx1 + rx2 + text(7, EUI.hex())
    await bridge.event("event/ack", ack(downlink_id, 2, 1))
    result = await sending
    assert (result.ok, result.window, result.detail) == (True, 1, "TOO_LATE")
    assert bridge.registry.live(EUI)._rtt_s  # type: ignore[union-attr]


async def test_a_gateway_that_speaks_json_is_answered_in_json(bridge: Bridge) -> None:
    await bridge.event("event/up", json.dumps(UP_JSON).encode())
    await until(lambda: bridge.receptions)
    sending = asyncio.create_task(bridge.transmitter.transmit(answer(bridge.receptions[0], RX1)))
    message = json.loads(await down(bridge))
    assert message == {
        "downlinkId": bridge.link._number,
        "gatewayId": EUI.hex(),
        "items": [
            {
                "phyPayload": base64.b64encode(DOWNLINK).decode(),
                "txInfo": {
                    "frequency": 868100000,
                    "power": 16,
                    "modulation": {
                        "lora": {
                            "bandwidth": 125000,
                            "spreadingFactor": 7,
                            "codeRate": "CR_4_5",
                            "polarizationInversion": True,
                        }
                    },
                    "board": 1,
                    "antenna": 3,
                    "timing": {"delay": {"delay": "1s"}},
                    "context": base64.b64encode(CONTEXT).decode(),
                },
            }
        ],
    }
    acked = {"gatewayId": EUI.hex(), "downlinkId": message["downlinkId"], "items": [{"status": "TX_FREQ"}]}
    await bridge.event("event/ack", json.dumps(acked).encode())
    result = await sending
    assert (result.ok, result.error) == (False, TransmitError.TX_FREQ)
    assert sum(bridge.transmitter.duty_cycle(EUI).values()) == 0


async def test_class_c_goes_out_immediately(bridge: Bridge) -> None:
    await bridge.event("event/conn", json.dumps({"gatewayId": EUI.hex(), "state": "ONLINE"}).encode())
    await until(lambda: bridge.registry.live(EUI))
    frame = Transmission(id=1, gateway=EUI, phy=DOWNLINK, windows=(replace(ALWAYS, data_rate=7),))
    sending = asyncio.create_task(bridge.transmitter.transmit(frame))
    message = json.loads(await down(bridge))
    radio = message["items"][0]["txInfo"]
    assert radio["timing"] == {"immediately": {}}
    assert radio["modulation"] == {"fsk": {"frequencyDeviation": 25000, "datarate": 50000}}
    await bridge.event("event/ack", ack(message["downlinkId"], 9))
    result = await sending
    assert (result.error, result.detail) == (TransmitError.QUEUE_FULL, "QUEUE_FULL")


async def test_class_b_goes_out_at_a_gps_time(bridge: Bridge) -> None:
    now_s = gps_ms(datetime.now(UTC)) // 1000
    heard = UP_JSON | {"rxInfo": UP_JSON["rxInfo"] | {"timeSinceGpsEpoch": f"{now_s}s"}}
    await bridge.event("event/up", json.dumps(heard).encode())
    await until(lambda: bridge.receptions)
    at_ms = now_s * 1000 + 5250
    sending = asyncio.create_task(
        bridge.transmitter.transmit(
            Transmission(id=1, gateway=EUI, phy=DOWNLINK, windows=(ALWAYS,), gps_time_ms=at_ms)
        )
    )
    told = json.loads(await down(bridge))
    (item,) = told["items"]
    assert item["txInfo"]["timing"] == {"gpsEpoch": {"timeSinceGpsEpoch": f"{now_s + 5}.250s"}}
    await bridge.event("event/ack", ack(told["downlinkId"], 1))
    assert (await sending).ok


async def test_silence_is_a_failure(bridge: Bridge) -> None:
    await bridge.event("event/up", UP)
    await until(lambda: bridge.receptions)
    result = await bridge.transmitter.transmit(answer(bridge.receptions[0], RX1))
    assert (result.ok, result.error) == (False, TransmitError.NO_CONFIRMATION)


@pytest.mark.parametrize("windows", [(RX1,), (RX2,)])
async def test_without_the_gateways_context_nothing_is_sent(bridge: Bridge, windows: Any) -> None:
    await bridge.event("event/up", UP)
    await until(lambda: bridge.receptions)
    result = await bridge.transmitter.transmit(replace(answer(bridge.receptions[0], *windows), context={}))
    assert (result.error, result.detail) == (
        TransmitError.NOT_ALLOWED,
        "the reception has no context of this gateway",
    )


async def test_a_broken_connection_is_opened_again(bridge: Bridge) -> None:
    broker = bridge.broker
    # A broker ends the connection of a client when another comes with the same id.
    async with mqtt(broker.port, broker.username, broker.password, client_id=broker.client_id):
        await until(lambda: not bridge.link.connected.is_set())
    await until(bridge.link.connected.is_set, 20)
    await bridge.event("event/up", UP)
    await until(lambda: bridge.receptions)


async def test_a_cancelled_client_leaves_nothing_behind(bridge: Bridge) -> None:
    other = MqttClient(bridge.broker, bridge.registry, bridge.rates, bridge)
    other._broker = replace(bridge.broker, client_id="")
    running = asyncio.create_task(other.run(asyncio.Event()))
    async with asyncio.timeout(20):
        await other.connected.wait()
    before = asyncio.all_tasks()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await until(lambda: not other.connected.is_set())
    assert asyncio.all_tasks() < before


async def test_a_broker_that_is_away_is_no_error() -> None:
    bench = Bench()
    client = MqttClient(
        MqttBroker(host="127.0.0.1", port=9), bench.registry, bench.rates, bench, first_backoff_s=0.02
    )
    stop = asyncio.Event()
    running = asyncio.create_task(client.run(stop))
    await asyncio.sleep(0.2)
    assert not client.connected.is_set()
    stop.set()
    async with asyncio.timeout(5):
        await running
