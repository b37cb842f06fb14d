"""Random scripts and random results: always an answer of the promised types, never a wrong value."""

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from quartier.intake.codecs.sandbox import CodecError, CodecReport, Decoded

from .conftest import Bench

numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(data=st.dictionaries(texts, values, max_size=5))
@example({"__proto__": {"x": 1}, "constructor": 2, "toString": 3})
@example({"": {"": {}}})
def test_results_arrive_unchanged(bench: Bench, data: dict[str, Any]) -> None:
    text = json.dumps(json.dumps(data))
    assert bench.decode(f"function decodeUplink() {{ return {{data: JSON.parse({text})}} }}") == Decoded(data)


fragments = st.sampled_from(
    [
        "function decodeUplink(input) {", "function Decoder(bytes, port) {", "}", "{", "(", ")", "return", ";", "\n",
        "{data: {x: 1}}", "input.bytes", "bytes[0]", "throw", "new Error('x')", "var x =", "const x =", "let x =",
        "x", "1", "'a'", "`${x}`", "[", "]", "=>", "...", "class X {", "get y()", "async", "await", "yield*",
        "for (const k of bytes)", "while (1)", "if (x)", "else", "try {", "} catch (e) {", "} finally {",
        "Object.prototype.x = ", "Array.prototype[0] =", "globalThis", "delete", "typeof", "console.log(x)",
        "Buffer.from(bytes)", ".readUInt16BE(0)", "/a+/", "JSON.stringify(x)", "new Proxy({}, {})", "Symbol()",
        "null", "undefined", "NaN", "1n", "/*", "*/", "//", "<!--", "import(", "eval(", "\\u0041", "\u2028", "💧",
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    script=st.lists(fragments, max_size=25).map(" ".join) | st.text(max_size=60),
    payload=st.binary(max_size=8),
)
def test_random_scripts_are_answered(bench: Bench, script: str, payload: bytes) -> None:
    assert isinstance(bench.decode(script, payload), Decoded | CodecError)
    assert isinstance(bench.run(bench.pool.check(script)), CodecReport)


@settings(max_examples=40, deadline=None)
@given(data=st.dictionaries(texts, values, max_size=3))
def test_random_downlinks_arrive_unchanged(bench: Bench, data: dict[str, Any]) -> None:
    script = """function encodeDownlink(input) {
      const text = unescape(encodeURIComponent(JSON.stringify(input.data)));
      return {bytes: [text.length & 255], warnings: [], fPort: 7};
    }"""
    result = bench.run(bench.pool.encode_downlink(script, data))
    assert not isinstance(result, CodecError)
    assert (len(result.payload), result.port) == (1, 7)
