"""The load generator of the benchmarks."""

from __future__ import annotations

import base64
import itertools
import json
import time
from datetime import UTC, datetime

from quartier.virtual.device_types import DEVICE_TYPES
from quartier.virtual.load import TYPE_KEY, chirpstack_events, load_devices

START_US = 1_780_567_200_000_000


def test_load_events_are_whole_and_deterministic() -> None:
    one = list(itertools.islice(chirpstack_events(3, 5, START_US), 9))
    assert one == list(itertools.islice(chirpstack_events(3, 5, START_US), 9))
    assert one != list(itertools.islice(chirpstack_events(3, 6, START_US), 9))
    events = [json.loads(body) for _, body in one]
    assert [event["deviceInfo"]["devEui"] for event in events] == [
        device.dev_eui for device in load_devices(3)
    ] * 3
    assert [event["fCnt"] for event in events] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [datetime.fromisoformat(event["time"]) for event in events] == [
        datetime.fromtimestamp(1_780_567_200, UTC).replace(microsecond=1000 * number) for number in range(9)
    ]
    assert len({event["deduplicationId"] for event in events}) == 9
    for (topic, _), event in zip(one, events, strict=True):
        info = event["deviceInfo"]
        assert topic == f"application/{info['applicationId']}/device/{info['devEui']}/event/up"


def test_load_payload_has_ten_plausible_readings() -> None:
    form = DEVICE_TYPES[TYPE_KEY].format
    for _, body in itertools.islice(chirpstack_events(2, 1), 20):
        decoded = form.unpack(base64.b64decode(json.loads(body)["data"]))
        assert len(decoded) == 10
        assert 15.0 <= decoded["channel_0"] <= 15.31
        assert 60.0 <= decoded["channel_1"] <= 60.31


def test_load_times_are_now_by_default() -> None:
    _, body = next(chirpstack_events(1))
    assert abs(datetime.fromisoformat(json.loads(body)["time"]).timestamp() - time.time()) < 5.0


def test_load_event_is_cheap() -> None:
    events = chirpstack_events(500)
    for _ in itertools.islice(events, 500):
        pass
    started = time.process_time()
    for _ in itertools.islice(events, 5000):
        pass
    # 30 µs per event are the promise; processor time is counted, so a busy machine does not matter.
    assert (time.process_time() - started) / 5000 < 30e-6
