"""EUIs in the spellings of gateways; the ID6 examples are those of Station's documentation of the notation."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quartier.lorawan.gateways.ids import IdError, dashed, id6, parse_eui


@pytest.mark.parametrize(
    ("text", "eui"),
    [
        ("0123456789abcdef", "0123456789abcdef"),
        ("01-23-45-67-89-AB-CD-EF", "0123456789abcdef"),
        ("01:23:45:67:89:ab:cd:ef", "0123456789abcdef"),
        ("b8:27:eb:ab:cd:ef", "b827ebfffeabcdef"),
        ("1:2:3:4", "0001000200030004"),
        ("::1", "0000000000000001"),
        ("::0", "0000000000000000"),
        ("::", "0000000000000000"),
        ("1::", "0001000000000000"),
        ("a:b::", "000a000b00000000"),
        ("::a:b", "00000000000a000b"),
        ("f::1", "000f000000000001"),
        ("router-1:2:3:4", "0001000200030004"),
        (1, "0000000000000001"),
        (-1, "ffffffffffffffff"),
    ],
)
def test_reads_every_spelling(text: str | int, eui: str) -> None:
    assert parse_eui(text).hex() == eui


@pytest.mark.parametrize(
    "text", ["", "1:2:3", "1:2:3:4:5", "1::2::3", "12345", "1:2:3:4::", "x::1", "g" * 16, ":1::"]
)
def test_refuses_what_is_no_eui(text: str) -> None:
    with pytest.raises(IdError):
        parse_eui(text)


@settings(deadline=None)
@given(st.binary(min_size=8, max_size=8))
def test_what_is_written_is_read_again(eui: bytes) -> None:
    assert parse_eui(id6(eui)) == parse_eui(dashed(eui)) == parse_eui(eui.hex()) == eui


@settings(deadline=None)
@given(st.text(max_size=50) | st.integers())
def test_nothing_but_an_id_error_comes_of_any_text(text: str | int) -> None:
    with contextlib.suppress(IdError):
        assert len(parse_eui(text)) == 8
