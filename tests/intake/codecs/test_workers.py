"""The worker processes: killed, replaced, left without a parent; and a pool that is cancelled and closed."""

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from quartier.intake.codecs import process, sandbox
from quartier.intake.codecs.process import WorkerStartError
from quartier.intake.codecs.sandbox import (
    Call,
    CodecError,
    CodecPool,
    CodecReport,
    Decoded,
    Limits,
    PoolClosedError,
)

ECHO = "function Decoder(bytes) { return {n: bytes[0] * 256 + bytes[1]} }"
# Takes 5 ms of wall time per message.
SLOW_ECHO = """function Decoder(bytes) {
  const t = performance.now();
  while (performance.now() - t < 5);
  return {n: bytes[0] * 256 + bytes[1]};
}"""


def calls(count: int) -> list[Call]:
    return [Call(n.to_bytes(2), 1) for n in range(count)]


def decoded(count: int) -> list[Decoded]:
    return [Decoded({"n": n}) for n in range(count)]


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def gone(pids: list[int], *, within_s: float) -> bool:
    ends_at = time.monotonic() + within_s
    while time.monotonic() < ends_at:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            return True
        time.sleep(0.02)
    return False


async def test_worker_is_small_and_starts_fast() -> None:
    began = time.monotonic()
    async with CodecPool(1) as pool:
        started_s = time.monotonic() - began
        [pid] = pool.worker_pids
        await pool.decode(ECHO, calls(1000))
        worker = psutil.Process(pid)
        assert worker.memory_info().rss < 25e6
        assert worker.num_threads() == 1
        # Nothing of ours is handed down: no secrets of the environment, no open files but the four of the worker.
        assert set(worker.environ()) <= {"PYTHONPATH", "TZ", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME"}
        if os.geteuid() == 0:
            assert worker.uids().effective == 65534
    assert started_s < 2  # measured 0.06 s on an idle machine; this one may be busy


async def test_killed_worker_costs_no_message() -> None:
    """SIGKILL from outside in the middle of a batch; each call has two tries, so one kill per batch."""
    children = len(psutil.Process().children())
    async with CodecPool(2) as pool:
        before = open_files()
        for _ in range(4):
            waiting = asyncio.create_task(pool.decode(SLOW_ECHO, calls(80)))
            await asyncio.sleep(0.1)
            os.kill(pool.worker_pids[0], signal.SIGKILL)
            assert await waiting == decoded(80)
        assert pool.stats.workers_started >= 5
        await asyncio.sleep(0.2)
        assert len(psutil.Process().children()) == children + 2
        assert open_files() <= before


async def test_call_under_which_workers_die_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "function Decoder(bytes) { while (bytes[1] === 2); return {n: bytes[1]} }"
    async with CodecPool(1, Limits(cpu_ms=5000, wall_ms=5000)) as pool:
        waiting = asyncio.create_task(pool.decode(script, calls(5)))
        for _ in range(2):
            await asyncio.sleep(0.4)
            os.kill(pool.worker_pids[0], signal.SIGKILL)
        results = await waiting
        detail = "the worker process died while the call was in hand, twice"
        assert results == [
            *decoded(2),
            CodecError("worker_lost", detail),
            Decoded({"n": 3}),
            Decoded({"n": 4}),
        ]
        assert isinstance(results[2], CodecError)
        assert results[2].transient


async def test_idle_worker_that_dies_is_replaced() -> None:
    async with CodecPool(1) as pool:
        [pid] = pool.worker_pids
        os.kill(pid, signal.SIGKILL)
        assert await pool.decode(ECHO, calls(3)) == decoded(3)
        assert pool.worker_pids != [pid]


async def test_stopped_worker_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was starved (here: stopped) is killed after the wall limit; its call succeeds elsewhere."""
    monkeypatch.setattr(process, "STUCK_S", 1)
    script = """function Decoder(bytes) {
      const t = performance.now();
      while (performance.now() - t < 200);
      return {n: bytes[1]};
    }"""
    async with CodecPool(1, Limits(cpu_ms=2000, wall_ms=1000)) as pool:
        waiting = asyncio.create_task(pool.decode(script, calls(2)))
        await asyncio.sleep(0.1)
        os.kill(pool.worker_pids[0], signal.SIGSTOP)
        assert await waiting == decoded(2)
        assert pool.stats.workers_started == 2


async def test_processor_time_counts_and_not_wall_time() -> None:
    """A call whose process does not run for half a second (here: stopped) is not blamed for it."""
    script = """function Decoder(bytes) {
      const t = performance.now();
      while (performance.now() - t < 100);
      return {n: bytes[1]};
    }"""
    async with CodecPool(1) as pool:
        waiting = asyncio.create_task(pool.decode(script, calls(1)))
        await asyncio.sleep(0.05)
        os.kill(pool.worker_pids[0], signal.SIGSTOP)
        await asyncio.sleep(0.5)
        os.kill(pool.worker_pids[0], signal.SIGCONT)
        assert await waiting == decoded(1)
        assert pool.stats.workers_started == 1


async def test_worker_that_does_not_answer_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STUCK_S", 0.3)
    async with CodecPool(1) as pool:
        os.kill(pool.worker_pids[0], signal.SIGSTOP)
        assert await pool.decode(ECHO, calls(2)) == decoded(2)
        assert pool.stats.workers_started == 2


async def test_cancelled_calls_leave_the_others_right() -> None:
    """Forty callers, half of whom lose patience at a random moment; nobody gets another's answer."""
    chance = random.Random(7)  # noqa: S311
    script = "function Decoder(bytes) {{ return {{codec: {}, n: bytes[0] * 256 + bytes[1]}} }}"
    async with CodecPool(2) as pool:
        for _ in range(3):
            tasks = []
            for number in range(40):
                text = script.format(number % 5)
                tasks.append(asyncio.create_task(pool.decode(text, calls(100))))
                if number % 2:
                    asyncio.get_running_loop().call_later(chance.uniform(0, 0.1), tasks[-1].cancel)
            for number, result in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
                if not isinstance(result, asyncio.CancelledError):
                    assert result == [Decoded({"codec": number % 5, "n": n}) for n in range(100)]
        assert await pool.decode(ECHO, calls(2)) == decoded(2)


async def test_cancelling_drops_what_was_not_begun() -> None:
    async with CodecPool(1) as pool:
        waiting = asyncio.create_task(pool.decode(SLOW_ECHO, calls(10_000)))
        await asyncio.sleep(0.1)
        waiting.cancel()
        began = time.monotonic()
        assert await pool.decode(SLOW_ECHO, calls(2)) == decoded(2)
        assert time.monotonic() - began < 5  # not the fifty seconds of the cancelled batch


async def test_close_ends_waiting_calls_and_leaves_nothing() -> None:
    children = psutil.Process().children()
    before = open_files()
    pool = CodecPool(2)
    await pool.start()
    pids = pool.worker_pids
    waiting = asyncio.create_task(pool.decode(SLOW_ECHO, calls(1000)))
    hanging = asyncio.create_task(pool.check("new Array(1e9).join('x')"))
    await asyncio.sleep(0.2)
    await pool.close()
    with pytest.raises(PoolClosedError):
        await waiting
    with pytest.raises(PoolClosedError):
        await hanging
    with pytest.raises(PoolClosedError):
        await pool.decode(ECHO, calls(1))
    await pool.close()
    assert await asyncio.to_thread(gone, pids, within_s=1)
    assert psutil.Process().children() == children
    await asyncio.sleep(0)
    assert open_files() <= before


async def test_pool_that_was_not_started() -> None:
    with pytest.raises(PoolClosedError):
        await CodecPool().decode(ECHO, calls(1))
    with pytest.raises(ValueError, match="at least one process"):
        CodecPool(0)


async def test_start_says_why_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_files()
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(WorkerStartError, match="No such file or directory"):
        await CodecPool().start()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkerStartError, match="it ended before it was ready"):
        await CodecPool().start()
    assert open_files() <= before


async def test_calls_are_refused_while_workers_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "START_DELAYS_S", (0.01, 0.01, 0.01))
    async with CodecPool(1) as pool:
        good = sys.executable
        monkeypatch.setattr(sys, "executable", "/bin/false")
        os.kill(pool.worker_pids[0], signal.SIGKILL)
        [refused] = await pool.decode(ECHO, calls(1))
        assert isinstance(refused, CodecError)
        assert (refused.reason, refused.transient) == ("worker_lost", True)
        monkeypatch.setattr(sys, "executable", good)
        ends_at = time.monotonic() + 10
        while await pool.check(ECHO) != CodecReport(("Decoder",)):
            assert time.monotonic() < ends_at


PARENT = """
import asyncio
from quartier.intake.codecs.sandbox import Call, CodecPool
async def main():
    async with CodecPool(2) as pool:
        print(*pool.worker_pids, flush=True)
        await pool.decode({script!r}, [Call(b"", 1)] * 1000)
        await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "script",
    ["function Decoder() { return {} }", "function Decoder() { new Array(1e9).join('x') }"],
    ids=["idle", "hanging"],
)
def test_workers_die_with_their_parent(script: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(script=script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        workers = [psutil.Process(pid) for pid in pids]
        time.sleep(0.2)
        # A worker may have been replaced by now because its script hung.
        workers += psutil.Process(parent.pid).children()
        parent.kill()
        parent.wait()
        assert gone([worker.pid for worker in workers], within_s=3)


def test_pool_on_uvloop() -> None:
    """The server runs on uvloop, whose processes and transports differ from asyncio's."""
    script = """
import asyncio, uvloop
from quartier.intake.codecs.sandbox import Call, CodecPool
async def main():
    async with CodecPool(2) as pool:
        hang = "function Decoder(b) { if (b[0] === 3) new Array(1e9).join('x'); return {n: b[0]} }"
        for result in await pool.decode(hang, [Call(bytes([n]), 1) for n in range(5)]):
            print(getattr(result, "reason", None) or result.data["n"])
asyncio.run(main(), loop_factory=uvloop.new_event_loop)
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        text=True,
        check=True,
    )
    assert [line for line in run.stdout.splitlines() if "codec_worker_ended" not in line] == [
        "0",
        "1",
        "2",
        "time_limit",
        "4",
    ]
    assert "Warning" not in run.stderr
