"""A worker process as the pool sees it: started, given one chunk at a time, watched, killed, reaped.

The stop by processor time is the kernel's (see worker.py); here is the stop by wall time behind it, which
also catches a worker that sleeps, is stopped or waits for memory. What a dead worker was doing is read from
shared memory.
"""

import asyncio
import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Self, cast

from quartier.intake.codecs import wire
from quartier.intake.codecs.calls import Limits

START_TIMEOUT_S = 20
WATCH_S = 0.1
# A worker that neither works on a call nor answers for so long is taken for lost.
STUCK_S = 5
# A call stopped by wall time that got less than this share of its processor time was starved by a busy
# machine.
STARVED_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a chunk ended.

    done: every result came, or those that did not come were not begun. time_limit: the process was ended
    because call `suspect` ran too long. starved: the same, but the call hardly got processor time. lost: the
    process died of something else; `suspect` was in hand, or None. `loading` says that it was the script's
    own top level that ran.
    """

    kind: Literal["done", "time_limit", "starved", "lost"]
    suspect: int | None = None
    loading: bool = False
    recycle: bool = False


class WorkerStartError(RuntimeError):
    """The worker process could not be started."""


class WorkerProcess(asyncio.Protocol):
    """Use `start`; then `run` one chunk after another; `stop` in the end, always."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        progress: mmap.mmap,
        limits: Limits,
        on_lost: Callable[[], None],
    ) -> None:
        self.process = process
        self._progress = progress
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._ready: asyncio.Future[bool] = self._loop.create_future()
        self._finished: asyncio.Future[int | None] | None = None
        self._on_result: Callable[[int, bytes], None] | None = None
        self._received = 0
        self._heard_at = 0.0
        self._stopped = False
        self._cpu_used_s = 0.0
        self._known: dict[bytes, None] = {}  # scripts the worker has, in order of last use

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @classmethod
    async def start(cls, limits: Limits, on_lost: Callable[[], None]) -> Self:
        """A worker that is ready; `on_lost` is called when it dies, whatever it does."""
        ours, theirs = socket.socketpair()
        progress_fd = os.memfd_create("codec-progress")
        progress: mmap.mmap | None = None
        process: asyncio.subprocess.Process | None = None
        worker: Self | None = None
        try:
            os.ftruncate(progress_fd, wire.PROGRESS_SIZE)
            progress = mmap.mmap(progress_fd, wire.PROGRESS_SIZE)
            wire.PROGRESS.pack_into(progress, 0, wire.BETWEEN_CALLS, 0.0, 0.0)
            process = await asyncio.create_subprocess_exec(
                *_command(progress_fd, limits),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(progress_fd,),
                env=_environment(),
                cwd="/",
                # Ctrl-C in a terminal is for the pool, which then closes its workers.
                start_new_session=True,
            )
            # While this end is open too, the end of the worker would not be noticed.
            theirs.close()
            ours.setblocking(False)
            protocol = worker = cls(process, progress, limits, on_lost)
            await worker._loop.create_unix_connection(lambda: protocol, sock=ours)
            async with asyncio.timeout(START_TIMEOUT_S):
                if not await worker._ready:
                    raise EOFError("it ended before it was ready")
        except BaseException as error:
            if worker is None or worker._transport is None:
                ours.close()
            if worker is not None:
                await worker.stop()
            else:
                if process is not None:
                    await _end(process)
                if progress is not None:
                    progress.close()
            if isinstance(error, OSError | TimeoutError | EOFError):
                raise WorkerStartError(f"codec worker did not start: {error}") from error
            raise
        finally:
            theirs.close()
            os.close(progress_fd)
        return worker

    async def run(
        self,
        key: bytes,
        script: bytes,
        calls: Sequence[tuple[int, bytes]],
        on_result: Callable[[int, bytes], None],
    ) -> Outcome:
        """Run (mode, JSON text) calls of one script; `on_result` gets (number, result) in their order.

        After any outcome but done the process is gone and this object used up.
        """
        if self._transport is None:
            raise RuntimeError("the worker was not started")
        known = key in self._known
        self._known.pop(key, None)
        self._known[key] = None
        if len(self._known) > wire.SCRIPTS_KEPT:
            del self._known[next(iter(self._known))]
        parts = [wire.CHUNK.pack(key, wire.KNOWN if known else len(script), len(calls))]
        if not known:
            parts.append(script)
        for mode, text in calls:
            parts += (wire.CALL.pack(mode, len(text)), text)
        body = b"".join(parts)

        self._on_result = on_result
        self._received = 0
        self._finished = self._loop.create_future()
        self._heard_at = time.monotonic()
        self._transport.write(wire.LENGTH.pack(len(body)) + body)
        watch = self._loop.call_later(WATCH_S, self._watch)
        self._watch_handle = watch
        try:
            flags = await self._finished
        finally:
            self._watch_handle.cancel()
            self._on_result = None
            self._finished = None
        if flags is not None:
            return Outcome("done", recycle=bool(flags & wire.RECYCLE))
        number, _, _ = wire.PROGRESS.unpack_from(self._progress)
        await self.stop()
        if number == wire.BETWEEN_CALLS:
            return Outcome("lost")
        loading = number <= wire.LOADING
        suspect = wire.LOADING - number if loading else number
        if self.process.returncode == -signal.SIGPROF:
            return Outcome("time_limit", suspect, loading)
        if self._stopped:
            starved = self._cpu_used_s < STARVED_SHARE * self._limits.cpu_ms / 1000
            return Outcome("starved" if starved else "time_limit", suspect, loading)
        return Outcome("lost", suspect, loading)

    async def stop(self) -> None:
        """End the process and take its exit status; nothing of it is left afterwards."""
        if self._transport is not None:
            self._transport.abort()
        await _end(self.process)
        if not self._progress.closed:
            self._progress.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        buffer = self._buffer
        at = 0
        head = wire.LENGTH.size
        while len(buffer) - at >= head:
            (size,) = wire.LENGTH.unpack_from(buffer, at)
            if len(buffer) - at - head < size:
                break
            self._frame(bytes(buffer[at + head : at + head + size]))
            at += head + size
        del buffer[:at]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ready.done():
            self._ready.set_result(False)
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(None)
        self._on_lost()

    def _frame(self, body: bytes) -> None:
        self._heard_at = time.monotonic()
        flags = body[0]
        if flags & wire.READY:
            if not self._ready.done():
                self._ready.set_result(True)
            return
        at = wire.FLAGS.size
        while at < len(body):
            (size,) = wire.RESULT.unpack_from(body, at)
            at += wire.RESULT.size
            if self._on_result is not None:
                self._on_result(self._received, body[at : at + size])
            self._received += 1
            at += size
        if flags & wire.END and self._finished is not None and not self._finished.done():
            self._finished.set_result(flags)

    def _watch(self) -> None:
        if self._finished is None or self._finished.done():
            return
        now = time.monotonic()
        number, began_at, cpu_began_s = wire.PROGRESS.unpack_from(self._progress)
        if number == wire.BETWEEN_CALLS:
            ends_at = max(self._heard_at, began_at) + STUCK_S
        else:
            ends_at = began_at + self._limits.wall_ms / 1000
        if now >= ends_at:
            # The worker may be writing this very moment; what is read twice is whole.
            if wire.PROGRESS.unpack_from(self._progress) == (number, began_at, cpu_began_s):
                self._stopped = True
                self._cpu_used_s = _cpu_of(self.pid) - cpu_began_s
                with suppress(ProcessLookupError):
                    self.process.kill()
                return
            ends_at = now
        self._watch_handle = self._loop.call_later(min(WATCH_S, max(ends_at - now, 0.005)), self._watch)


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _command(progress_fd: int, limits: Limits) -> list[str]:
    numbers = (
        progress_fd,
        limits.cpu_ms,
        limits.memory_bytes,
        limits.stack_bytes,
        limits.output_bytes,
        limits.depth,
    )
    # -S and -P: no site packages set-up and no current directory; the path is handed over as it is here.
    return [sys.executable, "-S", "-P", "-m", "quartier.intake.codecs.worker", *map(str, numbers)]


def _environment() -> dict[str, str]:
    """What Python needs to start and no more, thus no secrets; UTC, so that dates are the same everywhere."""
    environment = {
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "TZ": "UTC0",
        "LC_ALL": "C.UTF-8",
    }
    for name in ("LD_LIBRARY_PATH", "PYTHONHOME"):
        if name in os.environ:
            environment[name] = os.environ[name]
    return environment


def _cpu_of(pid: int) -> float:
    """Processor time of another process (s), 0 where it is gone; the id as clock_getcpuclockid(3) makes it."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0
