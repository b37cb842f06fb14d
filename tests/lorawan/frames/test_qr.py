"""Codes on devices: the example of TR005 and what people may photograph."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.frames import FrameError, qr

# LoRa Alliance TR005, example with all extensions.
EXAMPLE = "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122:OAABBCCDDEEFF:SYYWWNNNNNN:PFOOBAR:CAF2C"
SHORT = "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122"
CODE = qr.DeviceCode(
    join_eui=bytes.fromhex("1122334455667788"),
    dev_eui=bytes.fromhex("AABBCCDDEEFF0011"),
    vendor_id=0xAABB,
    vendor_profile_id=0x1122,
    owner_token="AABBCCDDEEFF",
    serial_number="YYWWNNNNNN",
    proprietary="FOOBAR",
)


def test_the_example_of_the_standard() -> None:
    assert qr.parse(EXAMPLE) == CODE
    assert CODE.format(checksum=True) == EXAMPLE


def test_extensions_may_be_missing() -> None:
    bare = qr.DeviceCode(
        join_eui=CODE.join_eui, dev_eui=CODE.dev_eui, vendor_id=0xAABB, vendor_profile_id=0x1122
    )
    assert qr.parse(SHORT) == bare
    assert bare.format() == SHORT
    assert qr.parse(f"  {SHORT.lower()}\n") == bare


@pytest.mark.parametrize(
    ("text", "field", "detail"),
    [
        ("", "code", "it does not begin with LW:"),
        ("https://example.org/", "code", "it does not begin with LW:"),
        ("LW", "schema", "“” instead of D0"),
        ("LW:D1:1122334455667788:AABBCCDDEEFF0011:AABB1122", "schema", "“D1” instead of D0"),
        ("LW:D0", "join_eui", "missing"),
        ("LW:D0:1122334455667788", "dev_eui", "missing"),
        ("LW:D0:1122334455667788:AABBCCDDEEFF0011", "profile id", "missing"),
        (
            "LW:D0:11223344556677:AABBCCDDEEFF0011:AABB1122",
            "join_eui",
            "“11223344556677” is not 16 hexadecimal digits",
        ),
        (
            "LW:D0:1122334455667788:AABBCCDDEEFF001X:AABB1122",
            "dev_eui",
            "“AABBCCDDEEFF001X” is not 16 hexadecimal digits",
        ),
        ("LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB", "profile id", "“AABB” is not 8 hexadecimal digits"),
        (SHORT + ":X1", "extension", "“X1” begins with none of O, S, P, C"),
        (SHORT + ":", "extension", "“” begins with none of O, S, P, C"),
        (SHORT + ":S1:S2", "serial number", "there are two"),
        (SHORT + ":S1_2", "serial number", "the character “_” is not allowed"),
        (EXAMPLE[:-1] + "D", "checksum", "AF2D instead of AF2C: the code was misread or mistyped"),
        (EXAMPLE + ":PX", "proprietary", "there are two"),
        (SHORT + ":C0000:PX", "checksum", "it is not the last part"),
        (SHORT + "\u00df", "code", "there are characters that are not ASCII"),
        ("L" * 513, "code", "513 characters, more than 512"),
    ],
)
def test_wrong_codes_name_the_field(text: str, field: str, detail: str) -> None:
    with pytest.raises(FrameError) as raised:
        qr.parse(text)
    assert (raised.value.field, raised.value.detail) == (field, detail)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"join_eui": b""}, "join_eui"),
        ({"vendor_id": 0x1_0000}, "vendor id"),
        ({"serial_number": "A:B"}, "serial number"),
        ({"proprietary": "A" * 500}, "code"),
    ],
)
def test_codes_that_cannot_be_printed_name_the_field(changes: dict[str, object], field: str) -> None:
    values = {name: getattr(CODE, name) for name in qr.DeviceCode.__slots__} | changes
    with pytest.raises(FrameError) as raised:
        qr.DeviceCode(**values).format()
    assert raised.value.field == field


@given(st.text(max_size=100) | st.text("LWD0:123ABCOSPC", max_size=80).map(lambda rest: SHORT + rest))
def test_any_text_is_a_code_or_refused(text: str) -> None:
    try:
        code = qr.parse(text)
    except FrameError:
        return
    assert qr.parse(code.format(checksum=True)) == code
