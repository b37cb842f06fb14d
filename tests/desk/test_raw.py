"""Raw messages: bytes from what people paste, and back to something readable."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.desk import raw


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
