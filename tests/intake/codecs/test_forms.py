"""The forms of codecs that are accepted, what they are given, and what becomes of what they return."""

from datetime import UTC, datetime
from typing import Any

import pytest

from quartier.intake.codecs.sandbox import Call, CodecError, CodecPool, CodecReport, Decoded, Encoded

from .conftest import DecodeOne

RECEIVED_AT = datetime(2026, 7, 1, 12, 30, 15, 250_000, tzinfo=UTC)
ECHO = "return {data: {bytes: input.bytes, port: input.fPort}}"


@pytest.mark.parametrize(
    "script",
    [
        "function decodeUplink(input) { " + ECHO + " }",
        "const decodeUplink = (input) => { " + ECHO + " };",
        "let decodeUplink = function (input) { " + ECHO + " }",
        "var decodeUplink = function (input) { " + ECHO + " } // no line end, no semicolon",
        "decodeUplink = (input) => { " + ECHO + " }",
        "globalThis.decodeUplink = (input) => { " + ECHO + " }",
        "'use strict'; function decodeUplink(input) { " + ECHO + " }",
        "module.exports = {decodeUplink: (input) => { " + ECHO + " }}",
        "exports.decodeUplink = function (input) { " + ECHO + " }",
        "module.exports.decodeUplink = class { static x(input) { " + ECHO + " } }.x",
        "if (typeof module !== 'undefined') { module.exports = {decodeUplink} }"
        "function decodeUplink(input) { " + ECHO + " }",
        "function Decoder(bytes, port) { return {bytes: bytes, port: port} }",
        "function Decode(fPort, bytes) { return {bytes: bytes, port: fPort} }",
        # The newest form wins where a vendor's file offers several.
        "function Decode(fPort, bytes) { return {old: 1} } function Decoder(bytes, port) { return {old: 2} }"
        "function decodeUplink(input) { " + ECHO + " }",
        "function Decode(fPort, bytes) { return {old: 1} } function Decoder(bytes, port) { return {bytes, port} }",
    ],
)
async def test_decode_every_form(decode: DecodeOne, script: str) -> None:
    assert await decode(script, b"\x01\xff", 7) == Decoded({"bytes": [1, 255], "port": 7})


@pytest.mark.parametrize(
    "script",
    [
        "function decodeUplink(input) { seen = input.bytes.length; return {data: {n: seen}} }",
        "function decodeUplink(input) { with (input) { return {data: {n: bytes.length}} } }",
        "function decodeUplink(input) { var n = 03; delete n; return {data: {n: n}} }",
        "function decodeUplink(input, input) { return {data: {n: arguments.length + 2}} }",
        "function decodeUplink(input) { return {data: {n: this === globalThis ? 3 : 0}} }",
    ],
)
async def test_decode_sloppy_mode(decode: DecodeOne, script: str) -> None:
    """Strict mode broke vendors' codecs (chirpstack#898)."""
    assert await decode(script, b"abc") == Decoded({"n": 3})


async def test_decode_uplink_gets_time_port_and_variables(pool: CodecPool) -> None:
    script = """function decodeUplink(input) {
      return {data: {
        isDate: input.recvTime instanceof Date, time: input.recvTime, zone: input.recvTime.getTimezoneOffset(),
        offset: input.variables.offset, keys: Object.keys(input).sort().join()}}
    }"""
    call = Call(b"", 1, RECEIVED_AT, {"offset": "-0.5"})
    assert await pool.decode(script, [call]) == [
        Decoded(
            {
                "isDate": True,
                "time": "2026-07-01T12:30:15.250Z",
                "zone": 0,
                "offset": "-0.5",
                "keys": "bytes,fPort,recvTime,variables",
            }
        )
    ]


async def test_decode_without_port_and_time(decode: DecodeOne) -> None:
    script = (
        "function decodeUplink(i) { return {data: {port: i.fPort, time: typeof i.recvTime, v: i.variables}} }"
    )
    assert await decode(script, port=None) == Decoded({"port": None, "time": "undefined", "v": {}})


async def test_decode_old_form_gets_variables(pool: CodecPool) -> None:
    script = (
        "function Decode(fPort, bytes, variables) { return {height: Number(variables.height) - bytes[0]} }"
    )
    assert await pool.decode(script, [Call(b"\x05", 1, None, {"height": "12"})]) == [Decoded({"height": 7})]


async def test_decode_keeps_order_of_a_long_batch(pool: CodecPool) -> None:
    script = "function Decoder(b, p) { return {n: b[0] * 256 + b[1]} }"
    results = await pool.decode(script, [Call(n.to_bytes(2), 1) for n in range(2500)])
    assert results == [Decoded({"n": n}) for n in range(2500)]


async def test_decode_empty_batch(pool: CodecPool) -> None:
    assert await pool.decode("function Decoder() {}", []) == []


async def test_warnings_come_along(decode: DecodeOne) -> None:
    script = (
        "function decodeUplink() { return {data: {a: 1}, warnings: ['low battery', {code: 3}], errors: []} }"
    )
    assert await decode(script) == Decoded({"a": 1}, ("low battery", '{"code":3}'))


@pytest.mark.parametrize(
    ("returned", "detail"),
    [
        ("{errors: ['unknown port', 'too short'], data: {a: 1}}", "unknown port; too short"),
        ("{errors: 'unknown port'}", "unknown port"),
        ("{errors: [{message: 'x'}]}", '{"message":"x"}'),
    ],
)
async def test_errors_of_the_codec(decode: DecodeOne, returned: str, detail: str) -> None:
    assert await decode(f"function decodeUplink() {{ return {returned} }}") == CodecError(
        "codec_reported", detail
    )


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ("function decodeUplink() {}", "decodeUplink returned nothing instead of an object"),
        ("function decodeUplink() { return [1] }", "decodeUplink returned a list instead of an object"),
        (
            "function decodeUplink() { return {} }",
            "decodeUplink returned nothing as data instead of an object",
        ),
        (
            "function decodeUplink() { return {data: 'x'} }",
            "decodeUplink returned a string as data instead of an object",
        ),
        (
            "function decodeUplink() { return {data: null} }",
            "decodeUplink returned null as data instead of an object",
        ),
        (
            "async function decodeUplink() { return {data: {}} }",
            "decodeUplink returned a promise; codecs must answer at once",
        ),
        ("function Decoder() { return false }", "Decoder returned a boolean instead of an object"),
        ("function Decode() { return null }", "Decode returned null instead of an object"),
    ],
)
async def test_bad_output(decode: DecodeOne, script: str, detail: str) -> None:
    assert await decode(script) == CodecError("bad_output", detail)


async def test_no_function(decode: DecodeOne) -> None:
    assert await decode("function decode() {}") == CodecError(
        "no_function", "the script has none of decodeUplink, Decoder and Decode"
    )


@pytest.mark.parametrize(
    ("script", "detail", "line"),
    [
        ("\n\nlet a = ;", "SyntaxError: unexpected token in expression: ';' (line 3)", 3),
        (
            "\nfunction decodeUplink() {\n  return input.bytes;\n}",
            "ReferenceError: input is not defined (line 3)",
            3,
        ),
        (
            "function at(b) {\n  return b.x.y;\n}\nfunction Decoder(b) { return at(b) }",
            "TypeError: cannot read property 'y' of undefined (line 2)",
            2,
        ),
        ("function Decoder() {\n\n throw new Error('bad frame') }", "Error: bad frame (line 3)", 3),
        ("function Decoder() { throw 'bad frame' }", "bad frame", None),
        ("function Decoder() { throw {code: 7} }", '{"code":7}', None),
        ("function Decoder() { throw 42 }", "42", None),
        ("function Decoder() { throw undefined }", "undefined", None),
        # The line is the codec's, not that of the Buffer it calls.
        (
            "function Decoder(bytes) {\n  const b = Buffer.from(bytes);\n  return {x: b.readUInt16BE(7)};\n}",
            "RangeError: The offset 7 with 2 bytes is outside of the 0 bytes (line 3)",
            3,
        ),
        ("throw new TypeError('at load')", "TypeError: at load (line 1)", 1),
        (
            "export function decodeUplink() {}",
            "SyntaxError: unsupported keyword: export (line 1)",
            1,
        ),
        ("require('fs')", "ReferenceError: require is not defined (line 1)", 1),
    ],
)
async def test_script_error_names_the_line(
    decode: DecodeOne, script: str, detail: str, line: int | None
) -> None:
    assert await decode(script) == CodecError("script_error", detail, line=line)


@pytest.mark.parametrize(
    ("expression", "value", "warnings"),
    [
        ("1.5", 1.5, ()),
        ("-0", 0, ()),
        ("1e21", 1e21, ()),
        ("0.1 + 0.2", 0.1 + 0.2, ()),
        ("5e-324", 5e-324, ()),
        ("NaN", None, ("x: NaN is not a measured value, null in its place",)),
        ("-1 / 0", None, ("x: -Infinity is not a measured value, null in its place",)),
        ("[NaN, 1]", [None, 1], ("x: NaN is not a measured value, null in its place",)),
        ("12n", 12, ()),
        ("-(2n ** 53n) + 1n", -(2**53) + 1, ()),
        ("2n ** 64n", "18446744073709551616", ("x: an integer beyond 2^53 is given as text",)),
        ("new Date(0)", "1970-01-01T00:00:00.000Z", ()),
        ("new Date('nonsense')", None, ("x: an invalid date, null in its place",)),
        ("[1, undefined, , () => 1, Symbol()]", [1, None, None, None, None], ()),
        ("{a: undefined, b: () => 1, c: Symbol(), d: null}", {"d": None}, ()),
        ("new Uint8Array([1, 2])", [1, 2], ()),
        ("new Float32Array([0.5])", [0.5], ()),
        ("new BigInt64Array([7n])", [7], ()),
        ("Buffer.from('ab')", [97, 98], ()),
        ("new Number(3)", 3, ()),
        ("new String('x')", "x", ()),
        ("new Boolean(false)", False, ()),
        ("new Map([[1, 2]])", {}, ()),
        ("true", True, ()),
        ("'Grüße \\u{1F600} \"\\\\ \\n'", 'Grüße \U0001f600 "\\ \n', ()),
        ("'SN12\\u0000\\u0000'", "SN12", ()),
        ("'a\\ud800b'", "a\ufffdb", ()),
        ("{'\\u0000a': 1, '\\udc00': 2}", {"a": 1, "\ufffd": 2}, ()),
        ("{toJSON() { return 'never called' }, a: 1}", {"a": 1}, ()),
        ("Object.create({inherited: 1}, {own: {value: 2, enumerable: true}})", {"own": 2}, ()),
        ("{get y() { return 7 }}", {"y": 7}, ()),
        ("new Proxy({a: 1}, {})", {"a": 1}, ()),
        ("new Proxy([1, 2], {})", [1, 2], ()),
    ],
)
async def test_output_values(
    decode: DecodeOne, expression: str, value: Any, warnings: tuple[str, ...]
) -> None:
    assert await decode(f"function Decoder() {{ return {{x: {expression}}} }}") == Decoded(
        {"x": value}, warnings
    )


async def test_console_is_captured(decode: DecodeOne) -> None:
    script = """console.log('at load')
    function Decoder(b) {
      console.log('n', 1, null, undefined, [1, {a: 'x'}], NaN, 3n, () => 1)
      console.warn('two'); console.error('three'); console.debug(b); console.log()
      return {}
    }"""
    log = ('n 1 null undefined [1,{"a":"x"}] NaN 3 function', "two", "three", "[1,2]", "")
    assert await decode(script, b"\x01\x02") == Decoded({}, log=log)


async def test_console_is_bounded(decode: DecodeOne) -> None:
    result = await decode(
        "function Decoder() { for (let i = 0; i < 2e3; i++) console.log('x'.repeat(i)); return {} }"
    )
    assert isinstance(result, Decoded)
    assert len(result.log) <= 101
    assert sum(map(len, result.log)) < 9000
    assert result.log[-1] == "… (further lines are not kept)"
    assert result.log[3] == "xxx"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("function Decoder() { console.log('seen'); throw new Error('x') }", "script_error"),
        ("function Decoder() { console.log('seen'); for (;;); }", "time_limit"),
        ("function Decoder() { console.log('seen'); return Decoder() }", "stack_limit"),
        ("function Decoder() { console.log('seen'); return 1 }", "bad_output"),
    ],
)
async def test_console_is_kept_with_a_fault(decode: DecodeOne, script: str, reason: str) -> None:
    result = await decode(script)
    assert isinstance(result, CodecError)
    assert (result.reason, result.log[0]) == (reason, "seen")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            "function encodeDownlink(input) { return {bytes: [input.data.level, 255], fPort: 10, warnings: ['w']} }",
            Encoded(b"\x07\xff", 10, ("w",)),
        ),
        (
            "function encodeDownlink(input) { return {bytes: Buffer.from([input.data.level])} }",
            Encoded(b"\x07", 2),
        ),
        ("function Encoder(object, port) { return [object.level, port] }", Encoded(b"\x07\x02", 2)),
        (
            "function Encode(fPort, object, variables) { return [object.level, fPort] }",
            Encoded(b"\x07\x02", 2),
        ),
        ("function encodeDownlink() { return {bytes: []} }", Encoded(b"", 2)),
        ("function encodeDownlink() { return {errors: ['no']} }", CodecError("codec_reported", "no")),
        (
            "function encodeDownlink() { return {bytes: [256]} }",
            CodecError("bad_output", "256 is not a byte"),
        ),
        ("function encodeDownlink() { return {bytes: [-1]} }", CodecError("bad_output", "-1 is not a byte")),
        (
            "function encodeDownlink() { return {bytes: [1.5]} }",
            CodecError("bad_output", "1.5 is not a byte"),
        ),
        (
            "function encodeDownlink() { return {bytes: ['1']} }",
            CodecError("bad_output", "'1' is not a byte"),
        ),
        (
            "function encodeDownlink() { return {bytes: [true]} }",
            CodecError("bad_output", "True is not a byte"),
        ),
        (
            "function encodeDownlink() { return {bytes: [1], fPort: 0} }",
            CodecError("bad_output", "0 is not a port of an application (1 to 223)"),
        ),
        (
            "function encodeDownlink() { return {bytes: new Array(243).fill(1)} }",
            CodecError("bad_output", "243 bytes are more than the 242 of a frame"),
        ),
        (
            "function encodeDownlink() { return {bytes: 'ff'} }",
            CodecError("bad_output", "encodeDownlink returned a string instead of a list of bytes"),
        ),
        (
            "function Decoder() {}",
            CodecError("no_function", "the script has none of encodeDownlink, Encoder and Encode"),
        ),
    ],
)
async def test_encode_downlink(pool: CodecPool, script: str, expected: Encoded | CodecError) -> None:
    assert await pool.encode_downlink(script, {"level": 7}, port=2) == expected


async def test_decode_downlink(pool: CodecPool) -> None:
    script = "function decodeDownlink(input) { return {data: {level: input.bytes[0], port: input.fPort}} }"
    assert await pool.decode_downlink(script, Call(b"\x07", 10)) == Decoded({"level": 7, "port": 10})
    assert await pool.decode_downlink("function Decoder() {}", Call(b"", 1)) == CodecError(
        "no_function", "the script has no decodeDownlink"
    )


async def test_check(pool: CodecPool) -> None:
    vendor = "function Encode() {} function decodeUplink() {} const Decoder = () => 1; console.log('loaded')"
    report = await pool.check(vendor)
    assert report == CodecReport(("decodeUplink", "Decoder", "Encode"), log=("loaded",))
    assert (report.decodes, report.encodes) == ("decodeUplink", "Encode")

    report = await pool.check("var x = 1")
    assert report == CodecReport()
    assert (report.decodes, report.encodes) == (None, None)

    assert await pool.check("var x = 1;\nvar = 2") == CodecReport(
        error=CodecError("script_error", "SyntaxError: variable name expected (line 2)", line=2)
    )


async def test_check_runs_the_script_anew(pool: CodecPool) -> None:
    script = "function Decoder() {}"
    await pool.decode(script, [Call(b"", 1)])
    assert await pool.check(script) == CodecReport(("Decoder",))
    assert await pool.check(script) == CodecReport(("Decoder",))
