"""Nothing a call leaves behind reaches another codec, nor the same codec after its context was renewed."""

import pytest

from quartier.intake.codecs.sandbox import Call, CodecError, CodecPool, Decoded

from .conftest import DecodeOne

POISON = """
  Object.prototype.x = 1;
  Array.prototype.map = () => 'poisoned';
  String.prototype.poison = 1;
  globalThis.shared = 'left behind';
  JSON.parse = JSON.stringify = Math.round = () => 'poisoned';
  Object.freeze(Object.prototype);
"""
PROBE = """function Decoder() {
  return {
    x: typeof ({}).x, map: [1].map((n) => n + 1), poison: typeof ''.poison, shared: typeof shared,
    json: JSON.stringify(JSON.parse('[1]')), round: Math.round(1.4), frozen: Object.isFrozen(Object.prototype)
  }
}"""
CLEAN = Decoded(
    {
        "x": "undefined",
        "map": [2],
        "poison": "undefined",
        "shared": "undefined",
        "json": "[1]",
        "round": 1,
        "frozen": False,
    }
)


async def test_prototypes_of_another_codec_are_untouched(decode: DecodeOne) -> None:
    assert await decode(PROBE) == CLEAN
    assert await decode(POISON + "function Decoder() { return {done: 1} }") == Decoded({"done": 1})
    assert await decode("function Decoder() {" + POISON + "return {done: 1} }") == Decoded({"done": 1})
    assert await decode(PROBE) == CLEAN
    # A script that differs by one blank is another codec.
    assert await decode(PROBE + " ") == CLEAN


@pytest.mark.parametrize(
    "fault",
    [
        "throw new Error('x')",
        "for (;;);",
        "return Decoder(bytes)",
        "const a = []; while (1) a.push({})",
        "return {x: new Array(1e9).join('x')}",
    ],
)
async def test_context_is_renewed_after_a_fault(pool: CodecPool, fault: str) -> None:
    script = f"""var calls = 0;
    function Decoder(bytes) {{
      calls += 1;
      if (bytes[0]) {{ Object.prototype.x = 1; globalThis.shared = 1; {fault} }}
      return {{calls: calls, x: typeof ({{}}).x, shared: typeof shared}};
    }}"""
    results = await pool.decode(script, [Call(bytes([n]), 1) for n in (0, 0, 1, 0)])
    clean = {"x": "undefined", "shared": "undefined"}
    assert results[:2] == [Decoded({"calls": n, **clean}) for n in (1, 2)]
    assert isinstance(results[2], CodecError)
    # Where the worker had to be killed, the first two may have run again before the last.
    assert results[3] in (Decoded({"calls": 1, **clean}), Decoded({"calls": 3, **clean}))


async def test_context_is_renewed_after_a_thousand_calls(pool: CodecPool) -> None:
    script = "var calls = 0; function Decoder() { return {calls: ++calls} }"
    results = await pool.decode(script, [Call(b"", 1)] * 2001)
    assert results == [Decoded({"calls": n % 1000 + 1}) for n in range(2001)]


async def test_contexts_of_many_codecs_are_bounded(pool: CodecPool) -> None:
    """Only the latest codecs keep their context; the others begin anew, with the right script."""
    script = "var calls = 0; function Decoder() {{ return {{codec: {}, calls: ++calls}} }}"
    for _ in range(2):
        for codec in range(30):
            assert await pool.decode(script.format(codec), [Call(b"", 1)]) == [
                Decoded({"codec": codec, "calls": 1})
            ]
    assert await pool.decode(script.format(29), [Call(b"", 1)]) == [Decoded({"codec": 29, "calls": 2})]


async def test_nothing_of_the_machine_is_within_reach(decode: DecodeOne) -> None:
    names = [
        "require", "process", "global", "window", "self", "fetch", "XMLHttpRequest", "WebSocket", "setTimeout",
        "setInterval", "setImmediate", "std", "os", "scriptArgs", "print", "load", "Worker", "Atomics",
        "SharedArrayBuffer", "WebAssembly", "Deno", "Bun", "__filename",
    ]  # fmt: skip
    script = "function Decoder() { return {" + ",".join(f"{name}: typeof {name}" for name in names) + "} }"
    assert await decode(script) == Decoded(dict.fromkeys(names, "undefined"))


async def test_import_gives_nothing(decode: DecodeOne) -> None:
    script = "function Decoder() { import('os').then((m) => { globalThis.os = m }); return {os: typeof os} }"
    assert await decode(script) == Decoded({"os": "undefined"})


@pytest.mark.parametrize(
    "tampering",
    [
        'JSON.stringify = JSON.parse = () => \'{"data":{"forged":1}}\'',
        "Reflect.apply = Function.prototype.call = Function.prototype.apply = () => 'forged'",
        "Object.keys = Object.getPrototypeOf = Array.isArray = () => ['forged']",
        "String.prototype.toWellFormed = String.prototype.indexOf = String.prototype.slice = () => 'forged'",
        "Array.prototype[Symbol.iterator] = Array.prototype.join = Array.prototype.push = () => { throw 1 }",
        "Object.prototype.toJSON = String.prototype.toJSON = Number.prototype.toJSON = () => 'forged'",
        "Number.prototype.toString = String.prototype.toString = String.prototype.valueOf = () => 'forged'",
        "for (let i = 0; i < 20; i++) "
        "Object.defineProperty(Array.prototype, i, {get() { throw 1 }, set() { throw 2 }})",
        "Object.defineProperty = Object.getOwnPropertyDescriptor = () => { throw 1 }",
        "Date = Number = String = Array = Object = InternalError = RangeError = undefined",
        "globalThis.eval = globalThis.Reflect = globalThis.JSON = undefined",
        "Error.prepareStackTrace = () => { throw 1 }",
        "Object.freeze(globalThis); Object.seal(Object.prototype)",
        "delete globalThis.console; delete globalThis.module",
        "globalThis.Decoder.call = globalThis.Decoder.apply = null",
    ],
)
async def test_result_is_right_whatever_the_script_does_to_the_builtins(
    decode: DecodeOne, tampering: str
) -> None:
    script = f"""function Decoder(bytes, port) {{
      return {{n: 1.5, text: 'a"b\\u0000', list: [1, [2, NaN]], big: 5n, date: new D(0), more: {{}}, bytes: bytes}}
    }}
    var D = Date;
    {tampering};"""
    expected = {
        "n": 1.5,
        "text": 'a"b',
        "list": [1, [2, None]],
        "big": 5,
        "date": "1970-01-01T00:00:00.000Z",
        "more": {},
        "bytes": [1, 2],
    }
    warning = "list: NaN is not a measured value, null in its place"
    assert await decode(script, b"\x01\x02") == Decoded(expected, (warning,))
    assert await decode(PROBE) == CLEAN


async def test_functions_of_the_harness_are_no_way_out(decode: DecodeOne) -> None:
    """QuickJS gives a script the functions on its stack; they are of its own context and obey the limits."""
    script = """function Decoder(bytes) {
      Error.prepareStackTrace = (error, frames) => frames;
      const found = new Error().stack.map((frame) => frame.getFunction()).filter((f) => typeof f === 'function');
      for (const f of found) {
        try { if (f !== Decoder) f(0, 'function Decoder() { return {forged: 1} }') } catch (e) {}
      }
      return {n: bytes[0]};
    }"""
    result = await decode(script, b"\x07")
    assert result in (Decoded({"n": 7}), Decoded({"forged": 1})) or isinstance(result, CodecError)
    assert await decode(PROBE) == CLEAN
