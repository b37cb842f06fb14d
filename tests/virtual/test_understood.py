"""What the virtual networks say is understood by the parsers that read the real ones."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime

import pytest

from quartier.intake.inbox import RawMessage
from quartier.intake.parsers import MessageError
from quartier.sources import chirpstack, element
from quartier.virtual.chirpstack import Events
from quartier.virtual.element_json import Documents
from quartier.virtual.load import chirpstack_events
from quartier.virtual.messages import payload_of
from quartier.virtual.radio import Radio
from quartier.virtual.schedule import Faults
from tests.virtual.conftest import START_S, schedule

START_US = int(START_S * 1e6)
MANY = Faults(lost=0.05, doubled=0.05, late=0.05, broken=0.1)


def raw(body: bytes, topic: str = "", headers: dict[str, str] | None = None) -> RawMessage:
    return RawMessage(
        municipality="dortmund",
        source="virtual",
        kind="virtual",
        received_at=datetime.now(UTC),
        body=body,
        topic=topic,
        headers=headers or {},
    )


def test_element_parser_reads_every_packet_and_reading() -> None:
    plan = schedule("element", faults=MANY)
    documents = Documents(plan, Radio(plan.world))
    for item in plan.window(START_US - 1_200_000_000, START_US, "sent"):
        headers = {element.EUI_HEADER: item.device.dev_eui}
        (uplink,) = element.parse(raw(json.dumps(documents.packet(item)).encode(), headers=headers), {})
        assert (uplink.external_id, uplink.payload, uplink.frame_counter, uplink.port) == (
            item.device.dev_eui,
            payload_of(plan.world, item),
            item.frame_count,
            item.device.device_type.f_port,
        )
        reading = documents.reading(item)
        if reading is not None:
            (uplink,) = element.parse(raw(json.dumps(reading).encode(), headers=headers), {})
            assert uplink.fields == reading["data"]


def test_chirpstack_parser_reads_every_event_that_is_whole() -> None:
    plan = schedule("chirpstack", faults=MANY)
    events = Events(plan, Radio(plan.world))
    refused = 0
    for item in plan.window(START_US - 3_600_000_000, START_US, "sent"):
        for event in events.events_of(item):
            message = raw(event.payload, event.topic)
            if event.topic.endswith("/status"):
                assert chirpstack.parse(message, {}) == ()
            elif item.damage == "garbled":
                refused += 1
                with pytest.raises(MessageError):
                    chirpstack.parse(message, {})
            else:
                (uplink,) = chirpstack.parse(message, {})
                assert (uplink.external_id, uplink.payload, uplink.frame_counter) == (
                    item.device.dev_eui,
                    payload_of(plan.world, item),
                    item.frame_count,
                )
    assert refused > 3


def test_chirpstack_parser_reads_the_load() -> None:
    for topic, body in itertools.islice(chirpstack_events(5), 20):
        (uplink,) = chirpstack.parse(raw(body, topic), {})
        assert (len(uplink.payload or b""), uplink.port) == (21, 99)
