"""Payload codecs: calls per second through worker processes, and what a new context and a new worker cost."""

from __future__ import annotations

import asyncio
import time

from quartier.intake.codecs.library import library
from quartier.intake.codecs.sandbox import Call, CodecPool, Decoded

CALLS = 20_000
BATCH = 256
PROCESSES = 2


async def _calls_per_s(pool: CodecPool, scripts: list[str], payload: bytes, batch: int) -> float:
    """Batches of one codec each, as the intake pipeline asks for them, eight at a time."""
    batches = iter(range(CALLS // batch))

    async def caller() -> None:
        for number in batches:
            results = await pool.decode(scripts[number % len(scripts)], [Call(payload, 1)] * batch)
            assert all(isinstance(result, Decoded) for result in results)

    await asyncio.gather(*(pool.decode(script, [Call(payload, 1)] * PROCESSES) for script in scripts))
    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(8)))
    return (CALLS // batch) * batch / (time.perf_counter() - began)


async def _figures() -> dict[str, float]:
    simple, weather = library()["decentlab-dl-sht35"], library()["decentlab-dl-atm41"]
    began = time.perf_counter()
    async with CodecPool(PROCESSES) as pool:
        started_s = time.perf_counter() - began
        cpu_began = time.process_time()
        simple_per_s = await _calls_per_s(pool, [simple.script], simple.example_payload, BATCH)
        pool_cpu_us = (time.process_time() - cpu_began) / CALLS * 1e6
        figures = {
            "codec_simple_calls_per_s": simple_per_s,
            "codec_pool_cpu_us_per_call": pool_cpu_us,
            "codec_20_fields_calls_per_s": await _calls_per_s(
                pool, [weather.script], weather.example_payload, BATCH
            ),
            "codec_16_codecs_batches_of_4_calls_per_s": await _calls_per_s(
                pool, [simple.script + f"// {n}" for n in range(16)], simple.example_payload, 4
            ),
            "codec_workers_start_ms": started_s * 1000,
        }
        waits = []
        for number in range(200):
            began = time.perf_counter()
            await pool.decode(simple.script + f"// new {number}", [Call(simple.example_payload, 1)])
            waits.append(time.perf_counter() - began)
        figures["codec_first_call_p50_ms"] = sorted(waits)[100] * 1000
        began = time.perf_counter()
        [hung] = await pool.decode("function Decoder() { new Array(1e9).join('x') }", [Call(b"", 1)])
        assert not isinstance(hung, Decoded)
        figures["codec_hang_stopped_after_ms"] = (time.perf_counter() - began) * 1000
    return figures


def run() -> dict[str, float]:
    """Figures with their units in the names."""
    return asyncio.run(_figures())


if __name__ == "__main__":
    for name, value in run().items():
        print(f"{name:50} {value:12.1f}")
