"""Hostile and broken scripts: each is stopped, named, and costs no other message."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from quartier.intake.codecs import sandbox
from quartier.intake.codecs.sandbox import Call, CodecError, CodecPool, Decoded, Limits
from tests.patience import patient

GOOD = "function Decoder(bytes) { return {n: bytes[0]} }"

# name: (what the script does with a message, reasons that are right)
HOSTILE: dict[str, tuple[str, set[str]]] = {
    "loop": ("for (;;);", {"time_limit"}),
    "loop with catch and finally": (
        "for (;;) { try { for (;;); } catch (e) {} finally { for (;;); } }",
        {"time_limit"},
    ),
    "loop in a getter": ("return {get x() { for (;;); }}", {"time_limit"}),
    "loop in a thrown toString": ("throw {toString() { for (;;); }}", {"script_error"}),
    "loop in the name of an error": (
        "throw {get name() { throw {toString() { for (;;); }} }}",
        {"script_error"},
    ),
    "loop in a message": ("throw {get message() { for (;;); }}", {"time_limit"}),
    "proxy traps": (
        "return new Proxy({}, {ownKeys() { for (;;); }})",
        {"time_limit"},
    ),
    "generator": ("return {x: [...(function* () { for (;;) yield 1; })()]}", {"time_limit", "memory_limit"}),
    "grow an array": ("const a = []; while (1) a.push(a.length)", {"memory_limit", "time_limit"}),
    "grow an array of objects": ("const a = []; while (1) a.push({})", {"memory_limit"}),
    "grow a string": ("let s = 'x'; while (1) s += s", {"memory_limit", "script_error"}),
    "grow typed arrays": ("const a = []; while (1) a.push(new Uint8Array(1e6))", {"memory_limit"}),
    "grow and hide it": (
        "const a = []; for (;;) { try { for (;;) a.push([1, 2, 3]) } catch (e) {} }",
        {"time_limit", "memory_limit"},
    ),
    "regular expression": (
        "return {x: /^(a+)+$/.test('a'.repeat(40) + '!')}",
        {"time_limit"},
    ),
    "sparse array": ("return {x: new Array(1e9).join('x')}", {"time_limit", "memory_limit"}),
    "indexOf": (
        "return {x: ('a'.repeat(2e6)).indexOf('a'.repeat(1e6) + 'b')}",
        {"time_limit"},
    ),
    "sort of nothing": ("return {x: new Array(2 ** 31).sort().length}", {"time_limit", "memory_limit"}),
    "recursion": ("return Decoder(bytes)", {"stack_limit"}),
    "recursion through toString": (
        "const o = {toString() { return '' + o }}; return {x: '' + o}",
        {"stack_limit"},
    ),
    "recursion in JSON": ("return {x: JSON.parse('['.repeat(1e5))}", {"stack_limit"}),
    "regular expression of brackets": (
        "return {x: new RegExp('('.repeat(1e5))}",
        {"script_error", "stack_limit"},
    ),
    "large integer": ("return {x: 3n ** (10n ** 7n)}", {"script_error", "time_limit", "memory_limit"}),
    "huge text": ("return {x: 'y'.repeat(70000)}", {"output_limit"}),
    "huge escaped text": ("return {x: '\\u0001'.repeat(65000)}", {"output_limit"}),
    "huge list": ("return {x: new Array(1e5).fill(1)}", {"output_limit"}),
    "huge sparse list": ("return {x: new Array(4294967295)}", {"output_limit"}),
    "huge typed array": ("return {x: new Uint8Array(1e6)}", {"output_limit"}),
    "giant key": ("return {['k'.repeat(70000)]: 1}", {"output_limit"}),
    "many keys": (
        "const o = {}; for (let i = 0; i < 2e4; i++) o['k' + i] = i; return o",
        {"output_limit"},
    ),
    "list that lies about its length": (
        "return {x: new Proxy([], {get: (t, k) => k === 'length' ? 1e15 : 1})}",
        {"output_limit"},
    ),
    "cycle": ("const o = {}; o.o = o; return o", {"depth_limit"}),
    "cycle of lists": ("const a = []; a[0] = a; return {a}", {"depth_limit"}),
    "endless chain": (
        "const next = () => new Proxy({}, {ownKeys: () => ['x'], get: next,"
        " getOwnPropertyDescriptor: () => ({value: 1, enumerable: true, configurable: true})});"
        "return next()",
        {"depth_limit"},
    ),
    "lattice": (
        "let o = {x: 1}; for (let i = 0; i < 14; i++) o = {a: o, b: o, c: o, d: o, e: o, f: o}; return o",
        {"output_limit", "time_limit"},
    ),
    "console": ("for (;;) console.log('x'.repeat(1e4))", {"time_limit"}),
    "promise": ("(async () => { for (;;); })(); return {}", {"time_limit"}),
    "eval": ("return eval('for (;;);')", {"time_limit"}),
    "wait": (
        "return {x: typeof Atomics + typeof SharedArrayBuffer, y: Atomics.wait}",
        {"script_error"},
    ),
    "getter trap on the prototype": (
        "Object.defineProperty(Object.prototype, 'errors', {get() { for (;;); }}); return {}",
        set(),
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_script_is_stopped(pool: CodecPool, name: str) -> None:
    """Within a second, and the messages around it, of this codec and of another, are decoded."""
    body, reasons = HOSTILE[name]
    script = f"function Decoder(bytes) {{ if (bytes[0] !== 1) return {{n: bytes[0]}};\n{body}\n}}"
    began = time.monotonic()
    batch, good = await asyncio.gather(
        pool.decode(script, [Call(bytes([n]), 1) for n in (0, 1, 2)]),
        pool.decode(GOOD, [Call(b"\x07", 1)]),
    )
    # The stop is at 0.2 s or 0.3 s of processor time or 0.9 s; the rest is a new worker on a busy machine.
    assert time.monotonic() - began < 5
    assert good == [Decoded({"n": 7})]
    assert [batch[0], batch[2]] == [Decoded({"n": 0}), Decoded({"n": 2})]
    if reasons:
        assert isinstance(batch[1], CodecError), batch[1]
        assert batch[1].reason in reasons, batch[1]
    else:
        assert batch[1] == Decoded({})


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("for (;;);", "time_limit"),
        ("new Array(1e9).join('x')", "time_limit"),
        ("const a = []; while (1) a.push({})", "memory_limit"),
        ("(function f() { f() })()", "stack_limit"),
        ("/^(a+)+$/.test('a'.repeat(40) + '!')", "time_limit"),
        ("Object.defineProperty(globalThis, 'Decoder', {get() { for (;;); }})", "time_limit"),
        ("(".ljust(300_000, "("), "stack_limit"),
    ],
)
async def test_hostile_top_level_fails_all_its_calls_at_once(
    pool: CodecPool, script: str, reason: str
) -> None:
    began = time.monotonic()
    batch, good = await asyncio.gather(
        pool.decode(script, [Call(b"", 1)] * 20), pool.decode(GOOD, [Call(b"\x07", 1)])
    )
    assert time.monotonic() - began < 5
    assert {result.reason if isinstance(result, CodecError) else None for result in batch} == {reason}
    assert good == [Decoded({"n": 7})]
    assert pool.stats.workers_started <= 2


async def test_depth_limit_is_exact(pool: CodecPool) -> None:
    def nested(levels: int) -> str:
        return "{x: " * levels + "1" + "}" * levels

    script = "function Decoder() {{ return {} }}"
    [deep] = await pool.decode(script.format(nested(16)), [Call(b"", 1)])
    assert isinstance(deep, Decoded)
    assert await pool.decode(script.format(nested(17)), [Call(b"", 1)]) == [
        CodecError("depth_limit", "the result is nested deeper than 16 levels")
    ]


async def test_limits_are_settings() -> None:
    limits = Limits(cpu_ms=20, output_bytes=100, depth=2, input_bytes=50, script_bytes=200)
    async with CodecPool(1, limits) as pool:
        assert await pool.decode(GOOD, [Call(b"x" * 51, 1), Call(b"x", 1)]) == [
            CodecError("input_limit", "the payload is 51 bytes long"),
            Decoded({"n": 120}),
        ]
        [result] = await pool.decode(GOOD, [Call(b"x", 1, None, {"v": "x" * 1000})])
        assert isinstance(result, CodecError)
        assert result.reason == "input_limit"
        assert await pool.encode_downlink("function Encoder() { return [] }", {"v": "x" * 100}) == CodecError(
            "input_limit", "the downlink is 145 bytes of JSON long"
        )
        assert (
            await pool.decode(GOOD.ljust(201), [Call(b"x", 1)] * 2)
            == [CodecError("input_limit", "the script is 201 bytes long")] * 2
        )
        began = time.monotonic()
        [result] = await pool.decode("function Decoder() { for (;;); }", [Call(b"", 1)])
        assert result == CodecError("time_limit", "used more than 20 ms of processor time (line 1)", line=1)
        assert time.monotonic() - began < patient(1)
        for body, reason in (("{x: 'y'.repeat(100)}", "output_limit"), ("{x: {y: {}}}", "depth_limit")):
            [result] = await pool.decode(f"function Decoder() {{ return {body} }}", [Call(b"", 1)])
            assert isinstance(result, CodecError)
            assert result.reason == reason


async def test_wall_stop_without_processor_limit() -> None:
    """Behind the processor time there is a stop by wall time, with a second try in case the machine was busy."""
    async with CodecPool(1, Limits(cpu_ms=60_000, wall_ms=300)) as pool:
        began = time.monotonic()
        batch = await pool.decode(
            "function Decoder(b) { while (b[0]); return {n: b[0]} }", [Call(bytes([n]), 1) for n in (0, 1, 0)]
        )
        assert 0.6 <= time.monotonic() - began < 5
        assert batch == [
            Decoded({"n": 0}),
            CodecError("time_limit", "did not end within 300 ms on a busy machine, twice"),
            Decoded({"n": 0}),
        ]


async def test_memory_of_one_call_is_free_for_the_next(pool: CodecPool) -> None:
    script = "function Decoder() { const a = new Uint8Array(12e6); return {n: a.length} }"
    assert await pool.decode(script, [Call(b"", 1)] * 50) == [Decoded({"n": 12_000_000})] * 50


async def test_worker_that_keeps_memory_is_replaced(pool: CodecPool) -> None:
    """Twenty codecs that keep 10 MB each do not stay in one process."""
    script = "const kept = new Uint8Array(10e6).fill(1); function Decoder() {{ return {{n: {}, kept: kept.length}} }}"
    for number in range(20):
        assert await pool.decode(script.format(number), [Call(b"", 1)]) == [
            Decoded({"n": number, "kept": 10_000_000})
        ]
    assert 2 <= pool.stats.workers_started <= 5


@pytest.fixture
def short_suspension(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(sandbox, "SUSPEND_S", 0.5)
    return 0.5


def reasons(results: Sequence[object]) -> list[str]:
    return [result.reason if isinstance(result, CodecError) else "" for result in results]


async def test_codec_that_hits_the_time_limit_again_and_again_is_suspended(short_suspension: float) -> None:
    script = "function Decoder(bytes) { while (bytes[0]); return {} }"
    bad, fine = Call(b"\x01", 1), Call(b"\x00", 1)
    async with CodecPool(1, Limits(cpu_ms=10)) as pool:
        # A message that decodes in between starts the count anew.
        assert reasons(await pool.decode(script, [bad] * 9 + [fine] + [bad] * 9)) == (
            ["time_limit"] * 9 + [""] + ["time_limit"] * 9
        )
        assert reasons(await pool.decode(script, [bad] * 3)) == ["time_limit", "suspended", "suspended"]
        assert reasons(await pool.decode(script, [fine])) == ["suspended"]
        assert await pool.decode(GOOD, [Call(b"\x07", 1)]) == [Decoded({"n": 7})]
        [refused] = await pool.decode(script, [fine])
        assert isinstance(refused, CodecError)
        assert refused.transient

        await asyncio.sleep(short_suspension)
        assert reasons(await pool.decode(script, [bad, fine])) == ["time_limit", "suspended"]
        await asyncio.sleep(short_suspension)
        assert reasons(await pool.decode(script, [fine, bad, fine])) == ["", "time_limit", ""]


async def test_codec_that_hits_the_time_limit_gets_one_worker_at_most() -> None:
    script = "function Decoder(bytes) { for (;;); }"
    async with CodecPool(2, Limits(cpu_ms=100)) as pool:
        bad = asyncio.create_task(pool.decode(script, [Call(b"", 1)] * 9))
        await asyncio.sleep(0.5)
        # From now on the other worker is free for everybody else.
        good = await pool.decode(GOOD, [Call(b"\x07", 1)] * 200)
        assert good == [Decoded({"n": 7})] * 200
        assert not bad.done()
        assert reasons(await bad) == ["time_limit"] * 9


async def test_slow_codec_does_not_keep_others_waiting() -> None:
    """Codecs take turns: a worker gives back what is left of a chunk after a tenth of a second."""
    slow = "function Decoder() { const t = performance.now(); while (performance.now() - t < 40); return {} }"
    async with CodecPool(1) as pool:
        waiting = asyncio.create_task(pool.decode(slow, [Call(b"", 1)] * 30))
        await asyncio.sleep(0.05)
        assert await pool.decode(GOOD, [Call(b"\x07", 1)]) == [Decoded({"n": 7})]
        assert not waiting.done()
        assert await waiting == [Decoded({})] * 30
