"""One process that starts the engines and the roles of Quartier, watches them, and stops them in the right order.

It is small and does nothing else, so that it has no reason to die: no database work, no event loop, no
Django. What dies is started again with growing pauses. Engines stop last, because roles still write while
they end.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

import structlog

from quartier.config import Config
from quartier.engines import installation, nats, postgres
from quartier.engines.installation import Addresses
from quartier.engines.postgres import EngineError

log = structlog.get_logger(__name__)

# sysexits.h EX_CONFIG: a program that ends with it would end so again; see Supervisor.run.
CANNOT_RUN: Final = 78
_LOG_BYTES: Final = 10 * 1024 * 1024


class Stopped(Exception):
    """The supervisor was asked to stop while it was starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A process to run: a role, or a step of preparation. ``environment`` is added to ours."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """What the supervisor needs to know of an engine."""

    name: str

    def start(self, cancelled: Callable[[], bool]) -> None:
        """Start; return when it answers. Raises EngineError."""

    def alive(self) -> bool:
        """Whether its process runs."""

    def stop(self) -> None:
        """Stop in order."""


class Postgres:
    """The embedded database. It comes back on the same socket."""

    name = "PostgreSQL"

    def __init__(self, settings: Config) -> None:
        self._settings = settings
        self.server: postgres.Server | None = None

    def start(self, cancelled: Callable[[], bool]) -> None:
        """Start the cluster of the data folder."""
        self.server = postgres.start(self._settings.data, prefer=self._settings.postgres, cancelled=cancelled)

    def alive(self) -> bool:
        """Whether the postmaster runs."""
        return self.server is not None and self.server.alive()

    def stop(self) -> None:
        """Fast shutdown."""
        if self.server is not None:
            self.server.stop()


class Nats:
    """The embedded bus and broker. It comes back on the same ports, because its clients only know those."""

    name = "NATS"

    def __init__(self, settings: Config) -> None:
        self._settings = settings
        self.server: nats.Server | None = None

    def start(self, cancelled: Callable[[], bool]) -> None:
        """Start with new ports, or again with the configuration of the first start."""
        if self.server is None:
            settings = self._settings
            if not left_behind(settings.data / "nats.pid"):
                require_free(settings.mqtt_host, settings.mqtt_port, "mqtt_port")
                if settings.mqtt_websocket_port:
                    require_free(settings.mqtt_host, settings.mqtt_websocket_port, "mqtt_websocket_port")
            self.server = nats.start(
                settings.data,
                mqtt_host=settings.mqtt_host,
                mqtt_port=settings.mqtt_port,
                websocket_port=settings.mqtt_websocket_port,
            )
            return
        self.server.launch_again()

    def alive(self) -> bool:
        """Whether the server runs."""
        return self.server is not None and self.server.alive()

    def stop(self) -> None:
        """Stop after flushing streams."""
        if self.server is not None:
            self.server.stop()


def require_free(host: str, port: int, setting: str) -> None:
    """Raise EngineError that names ``setting`` unless this process may listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: connections of the last run that are still closing are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = {
                errno.EADDRINUSE: "is in use by another program",
                errno.EACCES: "may not be opened by this user",
                errno.EADDRNOTAVAIL: "is at an address that this machine does not have",
            }.get(error.errno or 0, f"cannot be opened ({error.strerror})")
            raise EngineError(
                f"Port {port} of {host} {reason}. Give another one: QUARTIER_{setting.upper()}=…"
            ) from None


def left_behind(pid_file: Path) -> bool:
    """Whether a server of ours still runs that a killed supervisor started; starting the engine replaces it."""
    try:
        command = Path(f"/proc/{int(pid_file.read_text())}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    return str(pid_file.with_name("nats.conf").resolve()).encode() in command


class _Child:
    """A running program and what the supervisor remembers of it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.start_at = 0.0
        self.failures = 0


class Supervisor:
    """Runs engines and programs until it is told to stop (SIGTERM, SIGINT, SIGHUP).

    ``prepare`` is run one after the other when the engines answer (migrations, seeding); then ``programs``
    start together. ``ready`` is called once when the web server answers. ``logs``: a folder for the output of
    programs; None leaves it on our own standard error.
    """

    def __init__(
        self,
        settings: Config,
        *,
        prepare: Sequence[Program] = (),
        programs: Sequence[Program] = (),
        say: Callable[[str], None] = lambda _text: None,
        ready: Callable[[], None] | None = None,
        logs: Path | None = None,
        stop_timeout_s: float = 7,
    ) -> None:
        self._settings = settings
        self._prepare = prepare
        self._children = [_Child(program) for program in programs]
        self._say = say
        self._ready = ready
        self._logs = logs
        self._stop_timeout_s = stop_timeout_s
        self._engines: list[Engine] = []
        self._engine_failures: dict[str, tuple[int, float]] = {}
        self._stopping = threading.Event()
        self._hurry = False
        self._status = 0
        self._environment: dict[str, str] = {}
        self._wake_read: socket.socket | None = None

    def run(self) -> int:
        """Run until told to stop; returns the exit status: 0 after an orderly stop, 1 where something cannot run.

        Raises EngineError where an engine cannot be started at all.
        """
        with self._signals(), contextlib.ExitStack() as stack:
            try:
                self._start_engines(stack)
                stack.callback(self._stop_children)
                for program in self._prepare:
                    self._run_step(program)
                for child in self._children:
                    self._start(child)
                if self._ready is not None:
                    threading.Thread(target=self._announce, daemon=True).start()
                while not self._stopping.is_set():
                    self._wait(1.0)
                    self._look_after_engines()
                    self._look_after_children()
            except Stopped:
                pass
        return self._status

    # Starting

    def _start_engines(self, stack: contextlib.ExitStack) -> None:
        """Use engines that are named by URL or run already; start the others and write down where they are."""
        settings = self._settings
        addresses = Addresses(settings.postgres_url, settings.nats_url)
        if not (settings.postgres_url and settings.nats_url):
            already = installation.running(settings.data)
            if already is not None and already.nats_url:
                self._use(already)
                return
            stack.enter_context(installation.Lock(settings.data))
            database, bus = Postgres(settings), Nats(settings)
            if not settings.postgres_url:
                self._start_engine(database, stack)
                assert database.server is not None  # noqa: S101 (just started)
                addresses = Addresses(database.server.url(), addresses.nats_url)
            if not settings.nats_url:
                self._start_engine(bus, stack)
                assert bus.server is not None  # noqa: S101 (just started)
                addresses = Addresses(
                    addresses.postgres_url, bus.server.url, bus.server.mqtt_host, bus.server.mqtt_port
                )
            installation.publish(settings.data, addresses)
            stack.callback(installation.withdraw, settings.data)
            shutil.rmtree(settings.data / "metrics", ignore_errors=True)
        self._use(addresses)

    def _use(self, addresses: Addresses) -> None:
        metrics = (self._settings.data / "metrics").resolve()
        metrics.mkdir(parents=True, exist_ok=True)
        # Every role counts in files of this folder, so that /metrics shows all of them (see engines.health).
        self._environment = {**addresses.environment(), "PROMETHEUS_MULTIPROC_DIR": str(metrics)}

    def _start_engine(self, engine: Engine, stack: contextlib.ExitStack) -> None:
        begin = time.monotonic()
        try:
            engine.start(self._stopping.is_set)
        except EngineError:
            if self._stopping.is_set():
                raise Stopped from None
            raise
        stack.callback(engine.stop)
        self._engines.append(engine)
        log.info("engine started", engine=engine.name, seconds=round(time.monotonic() - begin, 2))
        if self._stopping.is_set():
            raise Stopped

    def _run_step(self, program: Program) -> None:
        """Run a step of preparation to its end. Raises Stopped if we are told to stop or it fails."""
        process = self._spawn(program)
        while process.poll() is None:
            self._wait(0.5)
            if self._stopping.is_set():
                _end(process, self._stop_timeout_s)
                raise Stopped
        if process.returncode != 0:
            self._status = 1
            self._say(f"{program.name} failed (exit status {process.returncode}).{self._where(program)}")
            if self._logs:
                self._say("\n".join(self._log_file(program).read_text(errors="replace").splitlines()[-15:]))
            raise Stopped

    def _start(self, child: _Child) -> None:
        child.process = self._spawn(child.program)
        child.started_at = time.monotonic()
        log.info("started", program=child.program.name, pid=child.process.pid)

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self._environment, **program.environment}
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self._log_file(program).open("ab")) if self._logs else None
            # A session of its own: Ctrl-C reaches the supervisor only, which stops all in the right order.
            return subprocess.Popen(  # noqa: S603 (our own programs)
                list(program.command),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 (one call into the C library, no lock, no Python state)
            )

    def _log_file(self, program: Program) -> Path:
        assert self._logs is not None  # noqa: S101 (asked by the caller)
        self._logs.mkdir(parents=True, exist_ok=True)
        path = self._logs / f"{program.name}.log"
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.rename(path.with_suffix(".log.1"))
        return path

    def _where(self, program: Program) -> str:
        return f" See {self._log_file(program)}." if self._logs else ""

    def _announce(self) -> None:
        """Call ``ready`` when the web server answers. It listens before its application is loaded."""
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._settings.host, self._settings.host)  # noqa: S104
        while not self._stopping.is_set():
            with contextlib.suppress(OSError):
                with socket.create_connection((host, self._settings.port), timeout=20) as connection:
                    connection.sendall(request)
                    answer = connection.recv(64)
                if answer.split(b" ")[1:2] == [b"200"] and self._ready is not None:
                    self._ready()
                    return
            self._stopping.wait(0.1)

    # Watching

    def _look_after_engines(self) -> None:
        for engine in self._engines:
            if engine.alive() or self._stopping.is_set():
                continue
            failures, not_before = self._engine_failures.get(engine.name, (0, 0.0))
            if time.monotonic() < not_before:
                continue
            log.error("engine died; starting it again", engine=engine.name)
            try:
                engine.start(self._stopping.is_set)
            except EngineError as error:
                pause = min(30.0, 0.5 * 2**failures)
                log.error("engine does not start", engine=engine.name, pause_s=pause, error=str(error))
                self._engine_failures[engine.name] = (failures + 1, time.monotonic() + pause)
            else:
                log.info("engine started again", engine=engine.name)
                self._engine_failures.pop(engine.name, None)

    def _look_after_children(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is None:
                if now >= child.start_at and not self._stopping.is_set():
                    self._start(child)
                continue
            status = child.process.poll()
            if status is None:
                continue
            child.process = None
            if status == CANNOT_RUN:
                self._say(f"{child.program.name} cannot run.{self._where(child.program)}")
                self._status = 1
                self._stopping.set()
                return
            # A program that ran for a while has earned a fresh start.
            child.failures = 1 if now - child.started_at > 60 else child.failures + 1
            pause = min(30.0, 0.25 * 2**child.failures)
            child.start_at = now + pause
            log.error("program ended", program=child.program.name, status=status, again_in_s=pause)

    def _wait(self, timeout_s: float) -> None:
        """Sleep until a signal arrives (also: a child ended), a child is due, or the time is over."""
        assert self._wake_read is not None  # noqa: S101 (only called inside _signals)
        due = [child.start_at for child in self._children if child.process is None and child.started_at]
        if due and not self._stopping.is_set():
            timeout_s = max(0.0, min(timeout_s, min(due) - time.monotonic()))
        readable, _, _ = select.select([self._wake_read], [], [], timeout_s)
        if readable:
            self._wake_read.recv(4096)

    # Stopping

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        self._wake_read, wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        wake_write.setblocking(False)
        previous_fd = signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        previous = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        }
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous_fd)
            self._wake_read.close()
            wake_write.close()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return
        if self._stopping.is_set():
            self._hurry = True
        self._stopping.set()

    def _stop_children(self) -> None:
        running = [
            child.process for child in self._children if child.process and child.process.poll() is None
        ]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + self._stop_timeout_s
        while any(process.poll() is None for process in running):
            if self._hurry or time.monotonic() > deadline:
                for process in running:
                    if process.poll() is None:
                        log.warning("killed, because it did not stop in time", pid=process.pid)
                        process.kill()
                        process.wait()
            else:
                self._wait(0.2)
        log.info("programs stopped")


# Looked up before a fork, because a forked process should do as little as possible.
_prctl = ctypes.CDLL(None, use_errno=True).prctl
_PR_SET_PDEATHSIG: Final = 1


def _die_with_parent() -> None:
    """Runs in a new child: the kernel is to end it when the supervisor dies, however that happens (prctl(2))."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
