"""Our Buffer against Python's struct, base64 and codecs modules, whose answers are Node's too."""

import base64
import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quartier.intake.codecs.sandbox import CodecError, Decoded

from .conftest import Bench


def evaluate(bench: Bench, expression: str, payload: bytes = b"") -> Any:
    result = bench.decode(
        f"function Decoder(bytes) {{ const b = Buffer.from(bytes); return {{x: {expression}}} }}", payload
    )
    return result.data["x"] if isinstance(result, Decoded) else result


READS = {
    "readUInt8(%d)": "B",
    "readInt8(%d)": "b",
    "readUInt16LE(%d)": "<H",
    "readUInt16BE(%d)": ">H",
    "readInt16LE(%d)": "<h",
    "readInt16BE(%d)": ">h",
    "readUInt32LE(%d)": "<I",
    "readUInt32BE(%d)": ">I",
    "readInt32LE(%d)": "<i",
    "readInt32BE(%d)": ">i",
    "readFloatLE(%d)": "<f",
    "readFloatBE(%d)": ">f",
    "readDoubleLE(%d)": "<d",
    "readDoubleBE(%d)": ">d",
}


@settings(max_examples=60, deadline=None)
@given(payload=st.binary(min_size=12, max_size=12), offset=st.integers(0, 4))
def test_reads(bench: Bench, payload: bytes, offset: int) -> None:
    found = evaluate(bench, "[" + ",".join("b." + read % offset for read in READS) + "]", payload)
    expected = [struct.unpack_from(form, payload, offset)[0] for form in READS.values()]
    # JSON has no NaN and no infinity; the sandbox gives null.
    assert found == [value if math.isfinite(value) else None for value in expected]


@settings(max_examples=40, deadline=None)
@given(payload=st.binary(min_size=8, max_size=8), size=st.integers(1, 6))
def test_reads_of_one_to_six_bytes(bench: Bench, payload: bytes, size: int) -> None:
    found = evaluate(
        bench,
        f"[b.readUIntBE(1, {size}), b.readUIntLE(1, {size}), b.readIntBE(1, {size}), b.readIntLE(1, {size}),"
        " b.readBigUInt64BE(0), b.readBigInt64LE()]",
        payload,
    )
    part = payload[1 : 1 + size]
    large = [int.from_bytes(payload, "big"), int.from_bytes(payload, "little", signed=True)]
    assert found == [
        int.from_bytes(part, "big"),
        int.from_bytes(part, "little"),
        int.from_bytes(part, "big", signed=True),
        int.from_bytes(part, "little", signed=True),
        *(value if abs(value) < 2**53 else str(value) for value in large),
    ]


@settings(max_examples=60, deadline=None)
@given(payload=st.binary(max_size=20))
def test_text_of_bytes(bench: Bench, payload: bytes) -> None:
    forms = ["hex", "base64", "utf8", "utf-8", "ascii", "latin1", "binary", "HEX"]
    found = evaluate(
        bench, "[" + ",".join(f"b.toString('{form}')" for form in forms) + ", b.toString()]", payload
    )
    utf8 = payload.decode(errors="replace").replace("\0", "")
    assert found == [
        payload.hex(),
        base64.b64encode(payload).decode(),
        utf8,
        utf8,
        bytes(byte & 0x7F for byte in payload).decode("ascii").replace("\0", ""),
        payload.decode("latin1").replace("\0", ""),
        payload.decode("latin1").replace("\0", ""),
        payload.hex(),
        utf8,
    ]


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20), payload=st.binary(max_size=20))
def test_bytes_of_text(bench: Bench, text: str, payload: bytes) -> None:
    encoded = base64.b64encode(payload).decode()
    urlsafe = base64.urlsafe_b64encode(payload).decode().rstrip("=")
    found = evaluate(
        bench,
        f"[Buffer.from({json.dumps(text)}), Buffer.from('{payload.hex()}', 'hex'),"
        f" Buffer.from('{encoded}', 'base64'), Buffer.from('{urlsafe}', 'base64url'),"
        f" Buffer.from({json.dumps(payload.decode('latin1'))}, 'latin1'), Buffer.byteLength({json.dumps(text)})]",
    )
    utf8 = list(text.encode())
    assert found == [utf8, list(payload), list(payload), list(payload), list(payload), len(utf8)]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("b.length", 4),
        ("b[1]", 2),
        ("b.slice(1, 3)", [2, 3]),
        ("b.slice(-2).toString('hex')", "03ff"),
        ("b.subarray(1).readUInt16BE(0)", 0x0203),
        ("b.toString('hex', 1, 3)", "0203"),
        ("(b.slice(1)[0] = 9, b[1])", 9),
        ("Buffer.concat([b, Buffer.from([5])])", [1, 2, 3, 255, 5]),
        ("Buffer.concat([b, [5, 6]], 5)", [1, 2, 3, 255, 5]),
        ("Buffer.isBuffer(b.slice(1)) && b instanceof Uint8Array && !Buffer.isBuffer([1])", True),
        ("Buffer.alloc(3, 7)", [7, 7, 7]),
        ("Buffer.from(b)", [1, 2, 3, 255]),
        ("Buffer.from(new Uint8Array([1, 2]).buffer, 1)", [2]),
        ("Buffer.from('0102zz03', 'hex')", [1, 2]),
        ("Buffer.from([256, -1, 1.9])", [0, 255, 1]),
        ("b.equals(Buffer.from([1, 2, 3, 255]))", True),
        ("b.indexOf(3)", 2),
        ("b.readUint8(0) + b.readUint16LE(1)", 1 + 0x0302),
        ("b.readInt8(3)", -1),
        ("b.readUInt8()", 1),
        ("[...b].reverse()", [255, 3, 2, 1]),
        ("JSON.stringify(Buffer.from([1]))", '{"type":"Buffer","data":[1]}'),
        (
            "(() => { const w = Buffer.alloc(7); w.writeUInt16BE(258, 0); w.writeInt8(-1, 2); "
            "w.writeFloatLE(1, 3); return w })()",
            [1, 2, 255, 0, 0, 128, 63],
        ),
        ("(() => { const w = Buffer.alloc(3); w.writeUIntBE(0x010203, 0, 3); return w })()", [1, 2, 3]),
        ("(() => { const w = Buffer.alloc(4); w.write('ab', 1); b.copy(w, 3); return w })()", [0, 97, 98, 1]),
    ],
)
def test_behaviour(bench: Bench, expression: str, value: Any) -> None:
    assert evaluate(bench, expression, b"\x01\x02\x03\xff") == value


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("b.readUInt16BE(3)", "RangeError"),
        ("b.readInt32LE(-1)", "RangeError"),
        ("b.readUInt8(0.5)", "RangeError"),
        ("b.readUInt8('0')", "TypeError"),
        ("b.toString('ebcdic')", "TypeError"),
        ("Buffer.from(7)", "TypeError"),
        ("Buffer.from('x', 'ebcdic')", "TypeError"),
    ],
)
def test_refused(bench: Bench, expression: str, error: str) -> None:
    result = evaluate(bench, expression, b"\x01\x02\x03\xff")
    assert isinstance(result, CodecError)
    assert (result.reason, result.detail.split(":")[0]) == ("script_error", error)
