"""Raw messages: bytes from what people paste, and back to something readable."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from datetime import UTC, datetime

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from quartier.config import config
from quartier.desk import raw
from quartier.engines import nats
from quartier.engines.bus import connect
from quartier.intake.inbox import Inbox, RawMessage
from tests.desk.scene import Scene


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00d737", b"\x00\xd7\x37"),
        ("00 D7 37", b"\x00\xd7\x37"),
        ("0x00d737", b"\x00\xd7\x37"),
        ("00:d7-37,", b"\x00\xd7\x37"),
        (" ANc3\n", b"\x00\xd7\x37"),
        ("", b""),
        # Both hex and Base64: hex wins, because that is what network servers show.
        ("abcd", b"\xab\xcd"),
    ],
)
def test_bytes_from_text(text: str, expected: bytes) -> None:
    assert raw.bytes_from_text(text) == expected


@pytest.mark.parametrize("text", ["0", "xyz", "00d73", "ANc", "äöü!", "{}"])
def test_text_that_is_neither_hex_nor_base64(text: str) -> None:
    with pytest.raises(ValueError, match="neither hex nor Base64"):
        raw.bytes_from_text(text)


@given(st.binary(max_size=300))
def test_every_payload_comes_back_from_hex(data: bytes) -> None:
    assert raw.bytes_from_text(data.hex()) == data
    assert raw.bytes_from_text(data.hex(" ").upper()) == data


@given(st.binary(max_size=300).filter(lambda data: "=" in base64.b64encode(data).decode()))
def test_padded_base64_comes_back(data: bytes) -> None:
    """Without padding, text of hex digits only could be either."""
    assert raw.bytes_from_text(base64.b64encode(data).decode()) == data


def test_hex_dump() -> None:
    assert raw.hex_dump(b"Quartier 2026\x00\xff\x01!") == (
        "000000  51 75 61 72 74 69 65 72 20 32 30 32 36 00 ff 01  Quartier 2026...\n"
        "000010  21                                               !"
    )


def test_long_messages_are_cut_in_the_dump() -> None:
    dump = raw.hex_dump(bytes(16_390))
    assert dump.endswith("\n… 6 bytes more")
    assert dump.count("\n") == 1024


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a":1}', '{\n  "a": 1\n}'),
        (b'{"a":', '{"a":'),
        (b"time;value\n1;2", "time;value\n1;2"),
        (b"\xff\x00", ""),
        (b"\x00\x01", ""),
    ],
)
def test_as_text(data: bytes, expected: str) -> None:
    assert raw.as_text(data) == expected


def _put(url: str, message: RawMessage) -> int:
    async def put() -> int:
        bus = await connect(url)
        try:
            return await Inbox(bus).put(message)
        finally:
            await bus.close()

    return asyncio.run(put())


def test_newest_message_is_fetched_from_the_inbox_by_its_position(
    scene: Scene, nats_server: nats.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, now = scene.devices["schwerte live"], scene.now
    message = RawMessage(
        municipality="schwerte",
        source=device.source_key,
        kind="quartier_json",
        received_at=now,
        body=b'{"device": "%s", "values": {"air_temperature": 4.5}}' % device.external_id.encode(),
    )
    position = _put(nats_server.url, message)
    monkeypatch.setattr(raw, "config", lambda: dataclasses.replace(config(), nats_url=nats_server.url))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE twin_observation SET origin = %s WHERE series_id = %s",
            [position, scene.series["schwerte"].pk],
        )
    opened = raw.last_of(device)
    assert opened is not None
    assert opened.raw == message
    uplink = opened.uplink_of(device.external_id)
    assert uplink is not None
    assert dict(uplink.fields or {}) == {"air_temperature": 4.5}
    page = scene.client("steward").get(f"/amt/geraete/{device.pk}/nachricht/")
    assert "&quot;air_temperature&quot;: 4.5" in page.content.decode()


def test_a_position_that_is_gone_is_no_error(
    nats_server: nats.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(
        nats_server.url,
        RawMessage(municipality="x", source="y", kind="z", received_at=datetime.now(UTC), body=b""),
    )
    monkeypatch.setattr(raw, "config", lambda: dataclasses.replace(config(), nats_url=nats_server.url))
    assert raw.at_position(10**9) is None


def test_without_the_inbox_the_refusals_remain(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is away: the page says so within seconds, and what was refused is still at hand."""
    monkeypatch.setattr(raw, "config", lambda: dataclasses.replace(config(), nats_url="nats://127.0.0.1:1"))
    device = scene.devices["schwerte live"]
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE twin_observation SET origin = 1 WHERE series_id = %s", [scene.series["schwerte"].pk]
        )
    assert raw.last_of(device) is None
    message = scene.refused["schwerte"]
    message.external_id = device.external_id
    message.save()
    opened = raw.last_of(device)
    assert opened is not None
    assert opened.raw.body == bytes(message.body)
