"""Reading ELEMENT: nothing is missed, nothing is read twice, no key leaves."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quartier.engines.bus import INBOX, Bus
from quartier.intake.conveyor import Conveyor
from quartier.intake.inbox import RawMessage, decode
from quartier.sources.connect import element
from quartier.sources.connect.element_client import ElementClient, scrub
from quartier.sources.connect.http import ServerError
from quartier.sources.connect.report import Report, SourceConfig
from tests.sources.conftest import FakeServer
from tests.sources.element_server import BEGIN, KEY, RADIO_KEYS, Element, device, packet
from tests.sources.messages import recorded


def _source(server: FakeServer, **settings: Any) -> SourceConfig:
    return SourceConfig(
        1,
        "musterstadt",
        "element",
        "element",
        {
            "url": f"{server.url}/api/v1",
            "tags": ["klima"],
            "interval_s": 0.05,
            "since": BEGIN.isoformat(),
            **settings,
        },
        {"api_key": KEY},
    )


@asynccontextmanager
async def _reading(bus: Bus, source: SourceConfig, report: Report) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    async with Conveyor(bus) as conveyor:
        task = asyncio.create_task(element.run(source, conveyor, report, stop))
        try:
            yield task
        finally:
            stop.set()
            await asyncio.gather(task, return_exceptions=True)


async def _until_received(report: Report, number: int, *, timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while report.received < number:
            report.changed.clear()
            await report.changed.wait()


async def _inbox(bus: Bus) -> list[RawMessage]:
    info = await bus.js.stream_info(INBOX)
    found: list[RawMessage] = []
    for position in range(info.state.first_seq, info.state.last_seq + 1):
        stored = await bus.js.get_msg(INBOX, seq=position)
        assert stored.data is not None
        found.append(decode(stored.data))
    return found


def _ids(messages: list[RawMessage]) -> list[int]:
    return [int(json.loads(message.body)["id"][-6:]) for message in messages]


async def test_the_past_comes_by_stream_and_the_present_by_pages(bus: Bus, http_server: FakeServer) -> None:
    server = Element(packets=[packet(n) for n in range(1, 251)])
    http_server.answer = server
    source = _source(http_server)
    report = Report(source)
    async with _reading(bus, source, report):
        await _until_received(report, 250)
        server.packets.append(packet(251))
        await _until_received(report, 251)
    messages = await _inbox(bus)
    assert _ids(messages) == list(range(1, 252))
    assert messages[0].headers == {"dev-eui": "70b3d57ba0000001", "device-name": "DEC0000001"}
    assert (messages[0].kind, messages[0].topic) == ("element", "tags/klima/packets")
    assert json.loads(messages[0].body) == packet(1)
    assert report.state == "ok"
    assert report.cursor == {
        "tags": {
            "klima": {
                "retrieve_after_id": packet(251)["id"],
                "inserted_at": (BEGIN + timedelta(seconds=251)).isoformat(),
            }
        }
    }


async def test_reading_goes_on_after_the_last_packet(bus: Bus, http_server: FakeServer) -> None:
    begin = datetime.now(UTC) - timedelta(minutes=5)
    server = Element(packets=[packet(n, inserted_at=begin + timedelta(seconds=n)) for n in range(1, 221)])
    http_server.answer = server
    source = _source(http_server)
    position = {
        "retrieve_after_id": packet(10)["id"],
        "inserted_at": (begin + timedelta(seconds=10)).isoformat(),
    }
    report = Report(source, {"tags": {"klima": position}})
    async with _reading(bus, source, report):
        await _until_received(report, 210)
        await asyncio.sleep(0.3)
    assert _ids(await _inbox(bus)) == list(range(11, 221))
    asked = [r.query.get("retrieve_after") for r in http_server.requests if r.path.endswith("/packets")]
    assert asked[:3] == [packet(10)["id"], packet(110)["id"], packet(210)["id"]]


async def test_stream_that_ends_with_an_error_is_continued_by_pages(
    bus: Bus, http_server: FakeServer
) -> None:
    server = Element(packets=[packet(n) for n in range(1, 151)], stream_until=40)
    http_server.answer = server
    source = _source(http_server)
    report = Report(source)
    async with _reading(bus, source, report):
        await _until_received(report, 150)
    assert sorted(_ids(await _inbox(bus))) == list(range(1, 151))
    assert report.last_error.startswith("the stream ended: Database timeout.")
    assert report.state == "ok"


async def test_broken_line_costs_no_other(bus: Bus, http_server: FakeServer) -> None:
    server = Element(packets=[packet(n) for n in range(1, 11)], broken_after=5)
    http_server.answer = server
    source = _source(http_server)
    report = Report(source)
    async with _reading(bus, source, report):
        await _until_received(report, 11)
    messages = await _inbox(bus)
    whole = [message for message in messages if message.body.endswith(b"}")]
    assert _ids(whole) == list(range(1, 11))
    assert len(messages) == 11
    assert report.last_error == "klima: a line that is no packet"


async def test_packets_that_become_visible_late_are_not_missed(bus: Bus, http_server: FakeServer) -> None:
    moment = datetime.now(UTC)
    server = Element(
        packets=[packet(1, inserted_at=moment), packet(3, inserted_at=moment + timedelta(milliseconds=5))]
    )
    http_server.answer = server
    source = _source(http_server)
    report = Report(source)
    async with _reading(bus, source, report):
        await _until_received(report, 2)
        server.packets.append(packet(2, inserted_at=moment + timedelta(milliseconds=3)))
        await _until_received(report, 3)
        await asyncio.sleep(0.2)
    assert sorted(_ids(await _inbox(bus))) == [1, 2, 3]


async def test_deleted_packet_at_the_position_is_passed_by_time(bus: Bus, http_server: FakeServer) -> None:
    begin = datetime.now(UTC) - timedelta(minutes=5)
    http_server.answer = Element(
        packets=[packet(n, inserted_at=begin + timedelta(seconds=n)) for n in range(20, 31)]
    )
    source = _source(http_server)
    position = {
        "retrieve_after_id": packet(19)["id"],
        "inserted_at": (begin + timedelta(seconds=19)).isoformat(),
    }
    report = Report(source, {"tags": {"klima": position}})
    async with _reading(bus, source, report):
        await _until_received(report, 11)
    assert _ids(await _inbox(bus)) == list(range(20, 31))


async def test_too_many_requests_are_waited_out(bus: Bus, http_server: FakeServer) -> None:
    http_server.answer = Element(
        packets=[packet(1)],
        refuse=[(429, b'{"error": "Too Many Requests"}', {"x-ratelimit-reset": "120"})] * 2,
    )
    source = _source(http_server)
    report = Report(source)
    began = time.monotonic()
    async with _reading(bus, source, report):
        await _until_received(report, 1)
    assert time.monotonic() - began > 0.24
    assert report.failures == 0


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((401, b'{"error": "Unauthorized"}', {}), "tags/klima/devices: answer 401: Unauthorized"),
        ((503, b"<html>", {}), "tags/klima/devices: answer 503"),
        ((302, b"", {"Location": "https://elsewhere.example.org/?auth=1"}), "tags/klima/devices: answer 302"),
        ((200, b"<html>", {}), "tags/klima/devices: the answer cannot be read: JSON is malformed"),
        (
            (200, b'{"body": 7}', {}),
            "tags/klima/devices: the answer cannot be read: Expected `array`, got `int`",
        ),
    ],
)
async def test_server_errors_end_the_connection_with_a_reason(
    answer: tuple[int, bytes, dict[str, str]], error: str, bus: Bus, http_server: FakeServer
) -> None:
    http_server.answer = Element(refuse=[answer])
    source = _source(http_server)
    async with _reading(bus, source, Report(source)) as task:
        with pytest.raises(ServerError) as caught:
            await asyncio.wait_for(task, 10)
    assert str(caught.value).startswith(error)


async def test_new_device_is_looked_up(
    bus: Bus, http_server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(element, "_DEVICES_AT_MOST_EVERY_S", 0.0)
    server = Element(packets=[packet(1)])
    http_server.answer = server
    source = _source(http_server)
    report = Report(source)
    async with _reading(bus, source, report):
        await _until_received(report, 1)
        server.devices.append(device(2))
        server.packets.append(packet(2, device_number=2))
        await _until_received(report, 2)
    assert [message.headers["device-name"] for message in await _inbox(bus)] == ["DEC0000001", "DEC0000002"]


async def test_no_key_is_stored_logged_or_raised(
    bus: Bus, http_server: FakeServer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")
    leaky = {
        **packet(2),
        "meta": {"frame_count_up": 2, "app_s_key": RADIO_KEYS[0], "x": [{"Token": RADIO_KEYS[1]}]},
    }
    half = json.dumps({"id": "x", "nwk_s_key": RADIO_KEYS[1], "payload": "00"})[:-3]
    server = Element(packets=[packet(1), leaky])
    http_server.answer = server
    source = _source(http_server)
    report = Report(source)
    async with _reading(bus, source, report):
        await _until_received(report, 2)
    wrong = SourceConfig(1, "m", "element", "element", source.settings, {"api_key": "an-0ther-k3y"})
    raised = ""
    async with _reading(bus, wrong, report) as task:
        try:
            await asyncio.wait_for(task, 10)
        except ServerError as error:
            raised = repr(error)
            report.failed(str(error))
    stored = b"".join(message.body + repr(message.headers).encode() for message in await _inbox(bus))
    everything = "\n".join(
        [
            stored.decode(),
            scrub(half.encode()).decode(),
            repr(report.cursor),
            report.last_error,
            repr(source),
            repr(wrong),
            raised,
            caplog.text,
            *capsys.readouterr(),
        ]
    )
    assert "HTTP Request: GET" in caplog.text
    for secret in (*RADIO_KEYS, KEY, "an-0ther-k3y"):
        assert secret not in everything
    assert "Unauthorized: •••" in raised
    assert json.loads((await _inbox(bus))[1].body)["meta"] == {
        "frame_count_up": 2,
        "app_s_key": None,
        "x": [{"Token": None}],
    }


async def test_recorded_devices_are_read_without_their_keys(http_server: FakeServer) -> None:
    whole = recorded("devices_1.json")
    http_server.answer = lambda request: (
        200,
        whole if "retrieve_after" not in request.query else recorded("devices_2.json"),
        {},
    )
    async with ElementClient(f"{http_server.url}/api/v1", KEY) as client:
        devices, problems = await client.devices("klima")
    assert problems == []
    assert [(one.name, one.dev_eui) for one in devices][:2] == [
        ("DEC0054A6", "70b3d57ba00054a6"),
        ("DEC0054B0", "70b3d57ba00054b0"),
    ]
    assert len(devices) == 20
    keys = {
        value
        for one in json.loads(whole)["body"]
        for interface in one["interfaces"]
        for name, value in _walk(interface)
        if "key" in name and value
    }
    assert len(keys) >= 3
    assert not [key for key in keys if key in repr(devices)]


def _walk(value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return []
    return [
        pair
        for name, inner in value.items()
        for pair in ((name, inner), *_walk(inner))
        if isinstance(name, str)
    ]


@pytest.mark.parametrize("name", ["packets_by_folder_streamed.txt", "packets_by_folder_streamed_error.txt"])
async def test_recorded_streams(name: str, http_server: FakeServer) -> None:
    body = recorded(name)
    http_server.answer = lambda request: (200, body, {})
    found = []
    error = ""
    async with ElementClient(f"{http_server.url}/api/v1", KEY) as client:
        try:
            async for document in client.stream("klima", "packets", after=BEGIN):
                found.append(document)
        except ServerError as problem:
            error = str(problem)
    assert [(one.id, one.device_id) for one in found] == [
        ("89bdf402-994d-463d-a97d-721576f46fa2", "0126d246-05e1-43c7-a0df-3765cf982022"),
        ("48e59e13-f1ed-4712-b8fd-a3bf1473b969", "0126d246-05e1-43c7-a0df-3765cf982022"),
    ]
    assert error.startswith("the stream ended: Database timeout.") == name.endswith("_error.txt")
    assert http_server.requests[0].query == {
        "sort": "inserted_at",
        "sort_direction": "asc",
        "timeout": "20000",
        "packet_type": "up",
        "after": "2026-05-01T10:00:00Z",
        "auth": KEY,
    }


async def test_a_backlog_is_read_at_more_than_500_messages_a_second(
    bus: Bus, http_server: FakeServer
) -> None:
    number = 3000
    http_server.answer = Element(packets=[packet(n) for n in range(1, number + 1)])
    source = _source(http_server)
    report = Report(source)
    began = time.monotonic()
    async with _reading(bus, source, report):
        await _until_received(report, number, timeout_s=60)
    assert number / (time.monotonic() - began) > 500
