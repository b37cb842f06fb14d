"""One worker process of the codec pool: runs chunks of calls in QuickJS contexts, one context per codec.

Started as `python -m quartier.intake.codecs.worker` with the socket as standard input. It must stay small and
start fast, so it imports the extension module `_quickjs` (the package `quickjs` around it starts a thread)
and almost nothing else, holds no secrets and gives up what it can: user, files, new processes, core dumps.
"""

import mmap
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import _quickjs

from quartier.intake.codecs import wire

CALLS_PER_CONTEXT = 1000
# A chunk is given back unfinished after this long, so that a slow codec does not keep others waiting.
SLICE_S = 0.1
FLUSH_S = 0.01
FLUSH_BYTES = 65536
# The kernel ends the process when one call has used the CPU limit plus this, as a stop for what QuickJS
# cannot interrupt (long loops inside its C code).
CPU_GRACE_S = 0.1
# Beyond this resident size the worker asks to be replaced: codecs may keep memory in their contexts.
RECYCLE_BYTES = 96 * 2**20
ADDRESS_SPACE_BYTES = 192 * 2**20
PARENT_POLL_MS = 5000
NOBODY = 65534

Json = str


def main() -> None:
    progress_fd, cpu_ms, memory_bytes, stack_bytes, output_chars, depth = map(int, sys.argv[1:7])
    # What the platform left open by mistake is not for codecs.
    os.closerange(3, progress_fd)
    os.closerange(progress_fd + 1, 2**16)
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib doubles the start time
    with open(os.path.join(here, "harness.js"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
        harness = file.read()
    with open(os.path.join(here, "buffer.js"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
        buffer = file.read()
    progress = mmap.mmap(progress_fd, wire.PROGRESS_SIZE)
    os.close(progress_fd)
    statm_fd = os.open("/proc/self/statm", os.O_RDONLY)
    parent = os.getppid()
    contexts = Contexts(
        harness=harness,
        buffer=buffer,
        cpu_s=cpu_ms / 1000,
        memory_bytes=memory_bytes,
        stack_bytes=stack_bytes,
        output_chars=output_chars,
        depth=depth,
    )
    shut_in(memory_bytes)
    worker = Worker(contexts, progress, statm_fd, cpu_ms / 1000 + CPU_GRACE_S, output_chars)
    with suppress(BrokenPipeError, ConnectionResetError):
        worker.send(wire.READY)
        for frame in frames(parent):
            worker.run(frame)


def shut_in(memory_bytes: int) -> None:
    """Give up what a codec that broke out of QuickJS could use. Everything here is a second fence."""
    os.chdir("/")
    # A parent that ignores SIGPROF would hand that down, and the CPU stop would be none.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):  # only root may; in a container even root may not
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    with open("/proc/self/statm") as file:  # noqa: PTH123
        address_space = int(file.read().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (address_space + ADDRESS_SPACE_BYTES + 4 * memory_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # The lowest free descriptor is beyond this, so none can be opened; poll() demands that it is not 0.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def frames(parent: int) -> Iterator[memoryview]:
    """Bodies of the frames on standard input until the pool closes it or is gone."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    while True:
        # The end of the socket is the usual sign that the pool is gone, but a process forked from it may
        # still hold the other end.
        while not poll.poll(PARENT_POLL_MS):
            if os.getppid() != parent:
                return
        head = read_exactly(wire.LENGTH.size)
        if head is None:
            return
        body = read_exactly(wire.LENGTH.unpack(head)[0])
        if body is None:
            return
        yield memoryview(body)


def read_exactly(size: int) -> bytes | None:
    data = os.read(0, size)
    if len(data) == size:
        return data
    parts = bytearray(data)
    while len(parts) < size:
        data = os.read(0, size - len(parts))
        if not data:
            return None
        parts += data
    return bytes(parts)


class Contexts:
    """Makes contexts for scripts."""

    def __init__(
        self,
        *,
        harness: str,
        buffer: str,
        cpu_s: float,
        memory_bytes: int,
        stack_bytes: int,
        output_chars: int,
        depth: int,
    ) -> None:
        self.harness = harness
        self.buffer = buffer
        self.cpu_s = cpu_s
        self.memory_bytes = memory_bytes
        self.stack_bytes = stack_bytes
        self.output_chars = output_chars
        self.depth = depth
        self.pad = "\n" * max(harness.count("\n"), buffer.count("\n"))

    def call_of(self, script: str) -> Any:
        """The harness's `call(mode, text)` in a new context that will serve this script only."""
        context = _quickjs.Context()
        context.set_memory_limit(self.memory_bytes)
        context.set_max_stack_size(self.stack_bytes)
        call = context.eval(self.harness)(self.pad, self.output_chars, self.depth)
        if "Buffer" in script:
            context.eval(self.buffer)
        # Only now: the limit counts from each entry, and codecs are entered through `call` alone.
        context.set_time_limit(self.cpu_s)
        return call

    def line_of(self, stack: str) -> int:
        """The line in the codec of its innermost stack frame, or 0."""
        for part in stack.split("<input>:")[1:]:
            digits = part.split(":")[0]
            if digits.isdigit() and int(digits) > len(self.pad):
                return int(digits) - len(self.pad)
        return 0


class Codec:
    """A script and its current context."""

    __slots__ = ("call", "calls", "script")

    def __init__(self, script: str) -> None:
        self.script = script
        self.call: Any = None
        self.calls = 0

    def renew(self) -> None:
        self.call = None
        self.calls = 0


class Worker:
    def __init__(
        self, contexts: Contexts, progress: mmap.mmap, statm_fd: int, cpu_stop_s: float, output_chars: int
    ) -> None:
        self.contexts = contexts
        self.progress = progress
        self.statm_fd = statm_fd
        self.cpu_stop_s = cpu_stop_s
        # What the answer may hold besides the data: warnings, notes and log, each bounded in the harness; a
        # character takes up to three bytes.
        self.result_bytes = 3 * output_chars + 65536
        self.codecs: dict[bytes, Codec] = {}  # in order of last use
        self.pending: list[bytes] = []
        self.pending_bytes = 0
        self.flushed_at = 0.0

    def send(self, flags: int) -> None:
        size = wire.FLAGS.size + self.pending_bytes
        data = b"".join([wire.LENGTH.pack(size), wire.FLAGS.pack(flags), *self.pending])
        self.pending = []
        self.pending_bytes = 0
        view = memoryview(data)
        while view:
            view = view[os.write(0, view) :]
        self.flushed_at = time.monotonic()

    def run(self, frame: memoryview) -> None:
        """Answer one chunk."""
        key, script_size, count = wire.CHUNK.unpack_from(frame)
        at = wire.CHUNK.size
        if script_size == wire.KNOWN:
            codec = self.codecs.pop(key)
        else:
            codec = Codec(str(frame[at : at + script_size], "utf-8"))
            at += script_size
        self.codecs[key] = codec
        if len(self.codecs) > wire.SCRIPTS_KEPT:
            del self.codecs[next(iter(self.codecs))]

        began_at = self.flushed_at = time.monotonic()
        load_fault: bytes | None = None
        for number in range(count):
            mode, size = wire.CALL.unpack_from(frame, at)
            at += wire.CALL.size
            text = str(frame[at : at + size], "utf-8")
            at += size
            if load_fault is None:
                self.mark(number)
                result = self.answer(codec, number, mode, text)
                self.mark(wire.BETWEEN_CALLS)
                if result[0] == wire.LOAD_FAULT:
                    load_fault = result
            else:
                # A script that fails to load fails for every call; trying again would only cost time.
                result = load_fault
            self.pending += (wire.RESULT.pack(len(result)), result)
            self.pending_bytes += wire.RESULT.size + len(result)
            now = time.monotonic()
            if now - began_at > SLICE_S and load_fault is None:
                break
            if now - self.flushed_at > FLUSH_S or self.pending_bytes > FLUSH_BYTES:
                self.send(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.send(wire.END | (wire.RECYCLE if self.resident_bytes() > RECYCLE_BYTES else 0))

    def mark(self, number: int) -> None:
        wire.PROGRESS.pack_into(self.progress, 0, number, time.monotonic(), time.process_time())

    def resident_bytes(self) -> int:
        return int(os.pread(self.statm_fd, 100, 0).split()[1]) * mmap.PAGESIZE

    def answer(self, codec: Codec, number: int, mode: int, text: Json) -> bytes:
        """The result of one call; renews the context where the call may have left it broken."""
        signal.setitimer(signal.ITIMER_PROF, self.cpu_stop_s)
        if codec.calls >= CALLS_PER_CONTEXT:
            codec.renew()
        if codec.call is None:
            self.mark(wire.LOADING - number)
            try:
                codec.call = self.contexts.call_of(codec.script)
            except (_quickjs.JSException, MemoryError) as error:
                return fault(wire.LOAD_FAULT, "memory_limit", f"no room for a context: {error}")
            result = self.enter(codec, wire.LOAD, codec.script)
            if result[0] != wire.OK:
                codec.renew()
                return bytes([wire.LOAD_FAULT]) + result[1:]
            if mode == wire.LOAD:
                return result
            signal.setitimer(signal.ITIMER_PROF, self.cpu_stop_s)
            self.mark(number)
        elif mode == wire.LOAD:
            codec.renew()
            return self.answer(codec, number, mode, text)
        codec.calls += 1
        result = self.enter(codec, mode, text)
        if result[0] == wire.FAULT:
            codec.renew()
        return result

    def enter(self, codec: Codec, mode: int, text: str) -> bytes:
        """Call into the context; every way in which that can end becomes a result."""
        try:
            answer = codec.call(mode, text)
        except _quickjs.StackOverflow as error:
            reason, detail = "stack_limit", "too many calls within calls"
            line = self.contexts.line_of(str(error))
        except _quickjs.JSException as error:
            message = str(error)
            line = self.contexts.line_of(message)
            if message.startswith("InternalError: interrupted"):
                limit_ms = round(self.contexts.cpu_s * 1000)
                reason, detail = "time_limit", f"used more than {limit_ms} ms of processor time"
            else:
                # What is thrown while no memory is left arrives as `null` or "out of memory"; everything else
                # is caught inside the context.
                reason, detail = "memory_limit", "used more memory than allowed"
        except MemoryError:
            reason, detail, line = "memory_limit", "used more memory than allowed", 0
        else:
            if not isinstance(answer, str) or not answer:
                # The binding returns None where the text of the answer did not fit into memory.
                return fault(wire.FAULT, "memory_limit", "used more memory than allowed")
            result = answer.encode()
            if len(result) > self.result_bytes:
                return fault(wire.FAULT, "output_limit", f"the result is {len(result)} bytes long")
            return result
        if line:
            detail = f"{detail} (line {line})"
        return fault(wire.FAULT, reason, detail, line, self.log_of(codec))

    def log_of(self, codec: Codec) -> Json:
        """What the codec wrote to the console before it was stopped."""
        try:
            log = codec.call(wire.TAKE_LOG, "")
        except (_quickjs.JSException, MemoryError):
            return "[]"
        return log if isinstance(log, str) else "[]"


def fault(sign: int, reason: str, detail: str, line: int = 0, log: Json = "[]") -> bytes:
    """A fault as the harness writes it. `detail` is ours, but may quote a message of the engine."""
    safe = "".join(char if char.isprintable() and char not in '"\\' else " " for char in detail)
    return b'%c{"reason":"%s","detail":"%s","line":%d,"log":%s}' % (
        sign,
        reason.encode(),
        safe.encode(),
        line,
        log.encode(),
    )


if __name__ == "__main__":
    main()
