"""Runs vendors' payload codecs in a pool of worker processes that can be killed.

Calls wait in one queue per script; a worker takes a chunk of one script at a time and the scripts take turns,
so a slow or broken codec delays its own messages and not those of other devices. A call that kills its worker
costs that call: the others of its chunk run again elsewhere. `calls` says what goes in and comes out.
"""

import asyncio
import hashlib
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import structlog

from quartier.intake.codecs import wire
from quartier.intake.codecs.calls import (
    Call,
    CodecError,
    CodecReport,
    Decoded,
    Encoded,
    Limits,
    PoolClosedError,
    Reason,
)
from quartier.intake.codecs.process import Outcome, WorkerProcess, WorkerStartError

__all__ = [
    "Call",
    "CodecError",
    "CodecPool",
    "CodecReport",
    "Decoded",
    "Encoded",
    "Limits",
    "PoolClosedError",
]

CHUNK_CALLS = 64
# A call is begun at most this often when workers die under it.
ATTEMPTS = 2
# After so many time limits in a row a script gets one worker at most and one call at a time; after so many it
# is suspended.
THROTTLE_AFTER = 3
SUSPEND_AFTER = 10
SUSPEND_S = 30.0
STRIKES_KEPT = 1000
# A worker that cannot be started is tried again, later each time; from the third time on waiting calls are
# refused.
START_DELAYS_S = (0.1, 0.5, 2.0, 5.0)
# The longest application payload in EU868 (LoRaWAN regional parameters, data rate 4 and above).
DOWNLINK_BYTES = 242

log = structlog.get_logger(__name__)


class _Answer(msgspec.Struct):
    data: dict[str, Any]
    warnings: list[str] = []
    errors: list[str] = []
    notes: list[str] = []
    log: list[str] = []


class _BytesAnswer(msgspec.Struct):
    data: list[Any]
    port: int | float | None = None
    warnings: list[str] = []
    errors: list[str] = []
    notes: list[str] = []
    log: list[str] = []


class _Names(msgspec.Struct):
    data: list[str]
    log: list[str] = []


class _Fault(msgspec.Struct):
    reason: Reason
    detail: str
    line: int = 0
    log: list[str] = []


_answer = msgspec.json.Decoder(_Answer)
_bytes_answer = msgspec.json.Decoder(_BytesAnswer)
_names = msgspec.json.Decoder(_Names)
_fault = msgspec.json.Decoder(_Fault)


class _Job[T]:
    """Calls of one script that were asked for together."""

    __slots__ = ("attempts", "done", "key", "missing", "mode", "parse", "results", "script", "text_of")

    def __init__(
        self,
        script: bytes,
        mode: int,
        count: int,
        text_of: Callable[[int], bytes],
        parse: Callable[[bytes], T],
    ) -> None:
        self.script = script
        self.key = hashlib.sha256(script).digest()
        self.mode = mode
        self.text_of = text_of
        self.parse = parse
        self.results: list[T | CodecError | None] = [None] * count
        self.missing = count
        self.attempts: Counter[int] = Counter()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(self, index: int, result: T | CodecError) -> None:
        if self.results[index] is None:
            self.results[index] = result
            self.missing -= 1
            if self.missing == 0 and not self.done.done():
                self.done.set_result(None)


type _Entry = tuple[_Job[Any], int]


@dataclass(slots=True)
class _Strikes:
    """Time limits a script hit in a row, and until when it is suspended for them (CLOCK_MONOTONIC, s)."""

    count: int = 0
    suspended_until: float = 0.0


@dataclass(slots=True)
class PoolStats:
    """Counted since the start: calls answered, faults by reason, worker processes started."""

    calls: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    workers_started: int = 0


class CodecPool:
    """A pool of worker processes for one event loop.

    `async with CodecPool() as pool:` or `start` and `close`. No method raises for what a script does; all
    raise `PoolClosedError` when the pool is closed meanwhile. Cancelling a call drops what was not begun.
    """

    def __init__(self, processes: int = 2, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        if processes < 1:
            raise ValueError("a codec pool needs at least one process")
        self.limits = limits
        self.stats = PoolStats()
        self._processes = processes
        self._queues: OrderedDict[bytes, deque[_Entry]] = OrderedDict()
        self._jobs: set[_Job[Any]] = set()
        self._busy: Counter[bytes] = Counter()
        self._strikes: OrderedDict[bytes, _Strikes] = OrderedDict()
        self._wake = asyncio.Event()
        self._workers: dict[int, WorkerProcess] = {}
        self._slots: list[asyncio.Task[None]] = []
        self._closed = False

    # Life

    async def start(self) -> None:
        """Start the workers; `WorkerStartError` where that is not possible."""
        if self._slots:
            return
        workers = await asyncio.gather(
            *(self._start_worker() for _ in range(self._processes)), return_exceptions=True
        )
        failed = [worker for worker in workers if isinstance(worker, BaseException)]
        started = [worker for worker in workers if isinstance(worker, WorkerProcess)]
        if failed:
            for worker in started:
                await worker.stop()
            raise failed[0]
        self._workers = dict(enumerate(started))
        self._slots = [
            asyncio.create_task(self._serve(number, worker), name=f"codec-worker-{number}")
            for number, worker in enumerate(started)
        ]

    async def close(self) -> None:
        """End the workers; calls that still wait raise `PoolClosedError`."""
        self._closed = True
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)
        self._slots = []
        self._queues.clear()
        for job in self._jobs:
            if not job.done.done():
                job.done.set_exception(PoolClosedError("the codec pool was closed"))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def worker_pids(self) -> list[int]:
        return [worker.pid for worker in self._workers.values()]

    # Calls

    async def decode(self, script: str, calls: Sequence[Call]) -> list[Decoded | CodecError]:
        """Decode messages with decodeUplink, Decoder or Decode; results in the order of the calls."""
        return await self._run(
            script, wire.DECODE_UPLINK, len(calls), lambda index: self._text_of(calls[index]), _parse_decoded
        )

    async def decode_downlink(self, script: str, call: Call) -> Decoded | CodecError:
        """Read a downlink back, as TS013's decodeDownlink does."""
        [result] = await self._run(
            script, wire.DECODE_DOWNLINK, 1, lambda _: self._text_of(call), _parse_decoded
        )
        return result

    async def encode_downlink(
        self,
        script: str,
        data: Mapping[str, Any],
        *,
        port: int | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Encoded | CodecError:
        """The bytes of a downlink by encodeDownlink, Encoder or Encode.

        `port` is what the older two forms get as argument, and the answer's port where the codec names none.
        """

        def text_of(_: int) -> bytes:
            text = msgspec.json.encode({"data": data, "fPort": port, "variables": variables or {}})
            if len(text) > self.limits.input_bytes:
                raise CodecError("input_limit", f"the downlink is {len(text)} bytes of JSON long")
            return text

        [result] = await self._run(
            script, wire.ENCODE_DOWNLINK, 1, text_of, lambda raw: _parse_encoded(raw, port)
        )
        return result

    async def check(self, script: str) -> CodecReport:
        """Load the script and say which functions it offers, or why it does not load."""
        [result] = await self._run(script, wire.LOAD, 1, lambda _: b"{}", _parse_names)
        return CodecReport(error=result) if isinstance(result, CodecError) else result

    def _text_of(self, call: Call) -> bytes:
        if len(call.payload) > self.limits.input_bytes:
            raise CodecError("input_limit", f"the payload is {len(call.payload)} bytes long")
        message: dict[str, Any] = {
            "bytes": list(call.payload),
            "fPort": call.port,
            "variables": call.variables,
        }
        if call.received_at is not None:
            message["recvTime"] = round(call.received_at.timestamp() * 1000)
        text = msgspec.json.encode(message)
        # A byte is up to four characters of the list.
        if call.variables and len(text) > self.limits.input_bytes + 4 * len(call.payload) + 100:
            raise CodecError("input_limit", f"the variables are {len(text)} bytes of JSON long")
        return text

    async def _run[T](
        self, script: str, mode: int, count: int, text_of: Callable[[int], bytes], parse: Callable[[bytes], T]
    ) -> list[T | CodecError]:
        if self._closed or not self._slots:
            raise PoolClosedError("the codec pool is not running")
        # A lone surrogate has no UTF-8 and no meaning in a script either.
        job = _Job(script.encode(errors="replace"), mode, count, text_of, parse)
        if count == 0:
            return []
        if len(job.script) > self.limits.script_bytes:
            refusal = CodecError("input_limit", f"the script is {len(job.script)} bytes long")
            for index in range(count):
                self._settle(job, index, refusal)
        else:
            self._queue([(job, index) for index in range(count)])
        self._jobs.add(job)
        try:
            await job.done
        finally:
            self._jobs.discard(job)
        return [result for result in job.results if result is not None]

    # Queues

    def _queue(self, entries: Sequence[_Entry], *, in_front: bool = False) -> None:
        """Put entries of one script into its queue; of a suspended script, refuse them."""
        if not entries:
            return
        key = entries[0][0].key
        strikes = self._strikes.get(key)
        if strikes is not None and strikes.suspended_until > (now := time.monotonic()):
            refusal = CodecError(
                "suspended",
                f"the codec hit the time limit {SUSPEND_AFTER} times in a row; "
                f"it is tried again in {strikes.suspended_until - now:.0f} s",
            )
            for job, index in entries:
                self._settle(job, index, refusal)
            return
        queue = self._queues.setdefault(key, deque())
        if in_front:
            queue.extendleft(reversed(entries))
        else:
            queue.extend(entries)
        self._wake.set()

    def _take(self) -> list[_Entry] | None:
        """The next chunk: from the script whose turn it is."""
        for key in list(self._queues):
            strikes = self._strikes.get(key)
            throttled = strikes is not None and strikes.count >= THROTTLE_AFTER
            if throttled and self._busy[key]:
                continue
            queue = self._queues[key]
            chunk: list[_Entry] = []
            while queue and len(chunk) < (1 if throttled else CHUNK_CALLS):
                entry = queue.popleft()
                if not entry[0].done.done():  # cancelled
                    chunk.append(entry)
            if queue:
                self._queues.move_to_end(key)
            else:
                del self._queues[key]
            if chunk:
                return chunk
        return None

    def _settle(self, job: _Job[Any], index: int, result: Any) -> None:
        self.stats.calls += 1
        if isinstance(result, CodecError):
            self.stats.faults[result.reason] += 1
        job.settle(index, result)

    def _strike(self, key: bytes) -> None:
        """The script used up its time once more."""
        strikes = self._strikes.setdefault(key, _Strikes())
        self._strikes.move_to_end(key)
        strikes.count += 1
        if strikes.count >= SUSPEND_AFTER:
            # One more after the suspension suspends it again.
            strikes.count = SUSPEND_AFTER - 1
            strikes.suspended_until = time.monotonic() + SUSPEND_S
            log.warning("codec_suspended", codec=key.hex(), seconds=SUSPEND_S)
            self._queue(list(self._queues.pop(key, ())))
        if len(self._strikes) > STRIKES_KEPT:
            self._strikes.popitem(last=False)

    # Workers

    async def _start_worker(self) -> WorkerProcess:
        worker = await WorkerProcess.start(self.limits, self._wake.set)
        self.stats.workers_started += 1
        return worker

    async def _serve(self, slot: int, worker: WorkerProcess | None) -> None:
        """Keep one worker process running and give it chunks."""
        try:
            while True:
                if worker is None:
                    worker = self._workers[slot] = await self._replace_worker()
                usable = worker.alive
                if usable and (chunk := self._take()) is not None:
                    usable = await self._run_chunk(worker, chunk)
                elif usable:
                    self._wake.clear()
                    await self._wake.wait()
                if not usable:
                    del self._workers[slot]
                    await worker.stop()
                    worker = None
        finally:
            self._workers.pop(slot, None)
            if worker is not None:
                await worker.stop()

    async def _replace_worker(self) -> WorkerProcess:
        """Start a worker, again and again if need be."""
        failures = 0
        while True:
            # Not to be cancelled half-way: a process between fork and its first word would be left behind.
            starting = asyncio.create_task(self._start_worker())
            try:
                return await asyncio.shield(starting)
            except asyncio.CancelledError:
                await asyncio.wait([starting])
                if starting.exception() is None:
                    await starting.result().stop()
                raise
            except WorkerStartError as error:
                failures += 1
                log.error("codec_worker_not_started", error=str(error), failures=failures)
                if failures >= len(START_DELAYS_S) - 1:
                    self._refuse_all(str(error))
                await asyncio.sleep(START_DELAYS_S[min(failures, len(START_DELAYS_S)) - 1])

    def _refuse_all(self, detail: str) -> None:
        for queue in self._queues.values():
            for job, index in queue:
                self._settle(job, index, CodecError("worker_lost", detail))
        self._queues.clear()

    async def _run_chunk(self, worker: WorkerProcess, chunk: list[_Entry]) -> bool:
        """Run a chunk and deal with how it ended; False where the worker is used up."""
        calls: list[tuple[int, bytes]] = []
        running: list[_Entry] = []
        for job, index in chunk:
            try:
                calls.append((job.mode, job.text_of(index)))
                running.append((job, index))
            except CodecError as error:
                self._settle(job, index, error)
        if not running:
            return True
        key, script = running[0][0].key, running[0][0].script
        received = 0
        struck_at_load = False

        def on_result(number: int, raw: bytes) -> None:
            nonlocal received, struck_at_load
            received = number + 1
            job, index = running[number]
            result = _read(job, raw)
            if isinstance(result, CodecError) and result.reason == "time_limit":
                # A script that uses up its time while it loads does so once for all calls of the chunk.
                if raw[0] != wire.LOAD_FAULT or not struck_at_load:
                    self._strike(key)
                struck_at_load = raw[0] == wire.LOAD_FAULT
            else:
                self._strikes.pop(key, None)
            self._settle(job, index, result)

        self._busy[key] += 1
        try:
            outcome = await worker.run(key, script, calls, on_result)
        finally:
            self._busy[key] -= 1
            if not self._busy[key]:
                del self._busy[key]
        rest = running[received:]
        if outcome.kind == "done":
            self._queue(rest, in_front=True)
        else:
            self._bury(key, outcome, rest, received)
        if self._queues:
            self._wake.set()  # what was held back for this script may go on
        return outcome.kind == "done" and not outcome.recycle

    def _bury(self, key: bytes, outcome: Outcome, rest: list[_Entry], received: int) -> None:
        """Decide on the calls that a dead worker left: which failed, which are tried again."""
        log.info("codec_worker_ended", codec=key.hex(), kind=outcome.kind, loading=outcome.loading)
        if outcome.suspect is None:
            suspects, others = rest, []
        else:
            at = max(outcome.suspect - received, 0)
            # Loading concerns every call from there on.
            end = len(rest) if outcome.loading else at + 1
            suspects, others = rest[at:end], rest[:at] + rest[end:]
        if outcome.suspect is not None:
            self._strike(key)
        again: list[_Entry] = []
        for job, index in suspects:
            job.attempts[index] += 1
            if outcome.kind == "time_limit":
                detail = f"used more than {self.limits.cpu_ms} ms of processor time without a break"
                self._settle(job, index, CodecError("time_limit", detail))
            elif job.attempts[index] < ATTEMPTS:
                again.append((job, index))
            elif outcome.kind == "starved":
                detail = f"did not end within {self.limits.wall_ms} ms on a busy machine, twice"
                self._settle(job, index, CodecError("time_limit", detail))
            else:
                detail = "the worker process died while the call was in hand, twice"
                self._settle(job, index, CodecError("worker_lost", detail))
        # In the old order, so that a codec's calls are not reordered by a neighbour's fault.
        again_ids = {(id(job), index) for job, index in [*again, *others]}
        self._queue([entry for entry in rest if (id(entry[0]), entry[1]) in again_ids], in_front=True)


def _read(job: _Job[Any], raw: bytes) -> Any:
    """A result of the worker. Whatever a script made of it, it is answered and not raised."""
    try:
        if raw[0] == wire.OK:
            return job.parse(raw)
        fault = _fault.decode(memoryview(raw)[1:])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return CodecError("bad_output", f"the result cannot be read: {error}")
    return CodecError(fault.reason, fault.detail, line=fault.line or None, log=tuple(fault.log))


def _parse_decoded(raw: bytes) -> Decoded | CodecError:
    answer = _answer.decode(memoryview(raw)[1:])
    if answer.errors:
        return CodecError("codec_reported", "; ".join(answer.errors), log=tuple(answer.log))
    return Decoded(answer.data, (*answer.warnings, *answer.notes), tuple(answer.log))


def _parse_encoded(raw: bytes, port: int | None) -> Encoded | CodecError:
    answer = _bytes_answer.decode(memoryview(raw)[1:])
    if answer.errors:
        return CodecError("codec_reported", "; ".join(answer.errors), log=tuple(answer.log))
    if len(answer.data) > DOWNLINK_BYTES:
        return CodecError(
            "bad_output", f"{len(answer.data)} bytes are more than the {DOWNLINK_BYTES} of a frame"
        )
    for value in answer.data:
        if type(value) is not int or not 0 <= value <= 255:
            return CodecError("bad_output", f"{value!r:.40} is not a byte")
    if answer.port is not None:
        # TS001 §4.3.2: ports 1 to 223 are the application's.
        if answer.port != int(answer.port) or not 1 <= answer.port <= 223:
            return CodecError("bad_output", f"{answer.port} is not a port of an application (1 to 223)")
        port = int(answer.port)
    return Encoded(bytes(answer.data), port, (*answer.warnings, *answer.notes), tuple(answer.log))


def _parse_names(raw: bytes) -> CodecReport:
    answer = _names.decode(memoryview(raw)[1:])
    return CodecReport(tuple(answer.data), log=tuple(answer.log))
