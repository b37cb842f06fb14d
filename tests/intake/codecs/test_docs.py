"""`docs/codecs.md` says what the code does."""

import re
from pathlib import Path
from typing import get_args

from quartier.intake.codecs import sandbox, wire, worker
from quartier.intake.codecs.calls import Reason
from quartier.intake.codecs.library import library
from quartier.intake.codecs.sandbox import Call, CodecError, CodecPool, Decoded, Limits

PAGE = (Path(__file__).parents[3] / "docs" / "codecs.md").read_text(encoding="utf-8")


async def test_example_runs(pool: CodecPool) -> None:
    [script] = re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL)
    assert await pool.decode(script, [Call(b"\x0b\xb8\x64", 1), Call(b"\xff\x9c\xc9", 1), Call(b"", 1)]) == [
        Decoded({"air_temperature": 30, "relative_humidity": 50}),
        Decoded({"air_temperature": -1, "relative_humidity": 100.5}, ("humidity above 100 %",)),
        CodecError("codec_reported", "a message has 3 bytes, this has 0"),
    ]


def test_limits_are_those_of_the_code() -> None:
    limits = Limits()
    for row in (
        f"| processor time of a call | {limits.cpu_ms} ms |",
        f"| wall time of a call | {limits.wall_ms} ms |",
        f"| memory of a codec | {limits.memory_bytes // 2**20} MB |",
        f"| stack | {limits.stack_bytes // 1024} kB |",
        f"| result, in characters of JSON | {limits.output_bytes} |",
        f"| nesting of the result | {limits.depth} |",
        f"| payload; variables or downlink data | {limits.input_bytes // 1024} kB each |",
        f"| script | {limits.script_bytes // 2**20} MB |",
    ):
        assert row in PAGE
    text = " ".join(PAGE.split())
    for words in (
        f"at {limits.cpu_ms + worker.CPU_GRACE_S * 1000:.0f} ms of processor time",
        f"time limit {sandbox.THROTTLE_AFTER} times in a row",
        f"after {sandbox.SUSPEND_AFTER} times in a row it is not run for {sandbox.SUSPEND_S:.0f} seconds",
        f"after {worker.CALLS_PER_CONTEXT} calls",
        f"the {wire.SCRIPTS_KEPT} scripts used last",
        f"beyond {worker.RECYCLE_BYTES // 2**20} MB",
        f"up to {sandbox.CHUNK_CALLS} messages",
        f"after {worker.SLICE_S} s",
    ):
        assert words in text


def test_every_reason_and_every_library_codec_is_named() -> None:
    assert [reason for reason in get_args(Reason) if f"`{reason}`" not in PAGE] == []
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE, re.MULTILINE)) == set(library())
