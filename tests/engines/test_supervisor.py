"""The supervisor with real engines: everything starts, what dies comes back, everything stops in order."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from quartier.engines import installation
from quartier.engines.postgres import EngineError
from quartier.engines.supervisor import require_free
from tests.patience import patient

pytestmark = pytest.mark.timeout(600)  # the tests' own limits follow the load of the machine

# The process under test: a supervisor with two small programs. It stands in a file, so that signals, sessions
# and the engines' lifetimes are the real ones.
SCRIPT = """
import sys
from quartier.config import config
from quartier.engines import logs
from quartier.engines.postgres import EngineError
from quartier.engines.supervisor import Program, Supervisor

prepare, *programs = sys.argv[1:]
logs.configure("supervisor")
supervisor = Supervisor(
    config(),
    prepare=[Program(name="prepare", command=[sys.executable, "-c", prepare])] if prepare else [],
    programs=[
        Program(name=f"program{n}", command=[sys.executable, "-c", text]) for n, text in enumerate(programs)
    ],
    say=lambda text: print(text, flush=True),
    ready=lambda: print("READY", flush=True),
    stop_timeout_s=3,
)
try:
    sys.exit(supervisor.run())
except EngineError as error:
    sys.exit(f"Error: {error}")
"""

# Writes a row into the database and a message to the bus ten times a second, for ever, through both engines' deaths.
BUSY = """
import asyncio, os, nats, psycopg

async def main():
    nc = await nats.connect(os.environ["QUARTIER_NATS_URL"], max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    js = nc.jetstream(timeout=1)
    while True:
        try:
            await js.add_stream(name="beats", subjects=["beats"])
            break
        except Exception:
            await asyncio.sleep(0.1)
    while True:
        try:
            ack = await js.publish("beats", b"beat")
            with psycopg.connect(os.environ["QUARTIER_POSTGRES_URL"], autocommit=True) as connection:
                connection.execute("INSERT INTO beat VALUES (%s)", [ack.seq])
        except Exception:
            pass
        await asyncio.sleep(0.1)

asyncio.run(main())
"""
PREPARE = """
import os, psycopg
with psycopg.connect(os.environ["QUARTIER_POSTGRES_URL"], autocommit=True) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS beat (n bigint)")
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Run:
    """A supervisor process on a data folder."""

    def __init__(self, data: Path, *programs: str, **settings: str) -> None:
        self.data = data
        environment = {k: v for k, v in os.environ.items() if not k.startswith("QUARTIER_")}
        environment |= {
            "QUARTIER_DATA": str(data),
            "QUARTIER_MQTT_PORT": str(_free_port()),
            "PYTHONPATH": "src",
            **settings,
        }
        self.output = data.with_suffix(".out")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, *programs],
                env=environment,
                stdout=output,
                stderr=output,
            )

    def text(self) -> str:
        return self.output.read_text()

    def until(self, found: Callable[[], Any], timeout_s: float = 20) -> Any:
        """Wait for a true value; the output is shown where it does not come."""
        deadline = time.monotonic() + patient(timeout_s)
        while time.monotonic() < deadline:
            value = found()
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(self.text())

    def addresses(self) -> installation.Addresses:
        found: installation.Addresses = self.until(lambda: installation.running(self.data))
        return found

    def beats(self) -> int:
        try:
            with psycopg.connect(self.addresses().postgres_url) as connection:
                row = connection.execute("SELECT count(*) FROM beat").fetchone()
        except psycopg.Error:
            return 0
        return int(row[0]) if row else 0

    def until_beating(self) -> None:
        """Wait until rows arrive again."""
        before: int = self.until(self.beats, 10)
        self.until(lambda: self.beats() > before + 2, 10)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        begin = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(patient(30))
        return status, time.monotonic() - begin


def _pid_of(data: Path, engine: str) -> int:
    return int(
        (data / {"postgres": "postgres/postmaster.pid", "nats": "nats.pid"}[engine])
        .read_text()
        .splitlines()[0]
    )


def _gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.fixture
def data() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="quartier-supervisor-"))
    path.chmod(0o755)
    yield path / "data"
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def run(data: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*programs: str, **settings: str) -> Run:
        runs.append(Run(data, *programs, **settings))
        return runs[-1]

    yield start
    for each in runs:
        if each.process.poll() is None:
            each.stop()


def test_killed_engines_and_programs_come_back(run: Callable[..., Run]) -> None:
    """kill -9 of PostgreSQL, of NATS and of a program: all work again within ten seconds, at the same addresses."""
    supervised = run(PREPARE, BUSY)
    supervised.until(lambda: supervised.beats() > 3)
    addresses = supervised.addresses()

    for engine in ("postgres", "nats"):
        pid = _pid_of(supervised.data, engine)
        os.kill(pid, signal.SIGKILL)
        begin = time.monotonic()
        supervised.until(partial(_gone, pid), 5)
        supervised.until_beating()
        assert time.monotonic() - begin < patient(10)
        assert supervised.addresses() == addresses
        assert _pid_of(supervised.data, engine) != pid

    child = int(re.findall(r"started +pid=(\d+) program=program0", supervised.text())[-1])
    os.kill(child, signal.SIGKILL)
    supervised.until(lambda: "program ended" in supervised.text())
    supervised.until_beating()

    pids = [_pid_of(supervised.data, engine) for engine in ("postgres", "nats")]
    said = len(supervised.text())
    status, seconds = supervised.stop(signal.SIGINT)
    assert (status, seconds < patient(10)) == (0, True)
    assert all(_gone(pid) for pid in pids)
    assert "Traceback" not in supervised.text()[said:]
    assert installation.running(supervised.data) is None


def test_second_start_finds_what_the_first_kept(run: Callable[..., Run]) -> None:
    first = run(PREPARE, BUSY)
    kept = first.until(lambda: first.beats() > 2 and first.beats())
    assert first.stop()[0] == 0
    begin = time.monotonic()
    second = run(PREPARE, "import time; time.sleep(100)")
    second.until(lambda: "program=program0" in second.text())
    assert time.monotonic() - begin < patient(10)
    assert second.beats() >= kept


def test_killed_supervisor_leaves_nothing_that_stands_in_the_way(run: Callable[..., Run]) -> None:
    port = str(_free_port())
    first = run(PREPARE, BUSY, QUARTIER_MQTT_PORT=port)
    first.until(lambda: first.beats() > 2)
    old = [_pid_of(first.data, engine) for engine in ("postgres", "nats")]
    child = int(re.findall(r"started +pid=(\d+) program=program0", first.text())[-1])
    first.process.kill()
    first.process.wait()
    # Programs do not outlive their supervisor; they would hold ports and work beside their successors.
    first.until(partial(_gone, child), 5)
    second = run(PREPARE, BUSY, QUARTIER_MQTT_PORT=port)
    second.until_beating()
    assert all(_gone(pid) for pid in old)


def test_second_supervisor_joins_the_running_engines(run: Callable[..., Run]) -> None:
    first = run(PREPARE, BUSY)
    first.until(lambda: first.beats() > 0)
    pids = [_pid_of(first.data, engine) for engine in ("postgres", "nats")]
    second = run("", "import os; print('JOINED', os.environ['QUARTIER_POSTGRES_URL'], flush=True); input()")
    second.until(lambda: f"JOINED {first.addresses().postgres_url}" in second.text())
    assert second.stop()[0] == 0
    assert [_pid_of(first.data, engine) for engine in ("postgres", "nats")] == pids
    first.until_beating()


def test_stubborn_program_is_killed_in_time(run: Callable[..., Run]) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('STUBBORN', flush=True); time.sleep(60)"
    supervised = run("", stubborn)
    supervised.until(lambda: "STUBBORN" in supervised.text())
    status, seconds = supervised.stop()
    assert (status, seconds < patient(10)) == (0, True)
    assert "did not stop in time" in supervised.text()


def test_second_ctrl_c_does_not_wait(run: Callable[..., Run]) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('STUBBORN', flush=True); time.sleep(60)"
    supervised = run("", stubborn)
    supervised.until(lambda: "STUBBORN" in supervised.text())
    begin = time.monotonic()
    supervised.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    status, _seconds = supervised.stop(signal.SIGINT)
    assert (status, time.monotonic() - begin < patient(2.5)) == (0, True)


def test_failing_preparation_ends_the_start(run: Callable[..., Run]) -> None:
    supervised = run("raise SystemExit(3)", "print('NEVER')")
    assert supervised.process.wait(patient(20)) == 1
    assert "prepare failed (exit status 3)" in supervised.text()
    assert "NEVER" not in supervised.text()


def test_program_that_cannot_run_ends_everything(run: Callable[..., Run]) -> None:
    supervised = run("", "raise SystemExit(78)")
    assert supervised.process.wait(patient(20)) == 1
    assert "program0 cannot run" in supervised.text()


def test_program_that_ends_is_started_with_growing_pauses(run: Callable[..., Run]) -> None:
    supervised = run("", "print('ONCE', flush=True)")
    supervised.until(lambda: supervised.text().count("ONCE") == 3, 10)
    pauses = [
        line.rsplit("again_in_s=", 1)[1].split()[0]
        for line in supervised.text().splitlines()
        if "again_in" in line
    ]
    assert pauses[:2] == ["0.5", "1.0"]


def test_ready_when_the_web_server_answers(run: Callable[..., Run]) -> None:
    port = _free_port()
    slow = f"""
import http.server, time
class Handler(http.server.BaseHTTPRequestHandler):
    begin = time.monotonic()
    def do_GET(self):
        self.send_response(200 if time.monotonic() - self.begin > 1 else 503)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""
    supervised = run("", slow, QUARTIER_PORT=str(port))
    supervised.until(lambda: "READY" in supervised.text())
    assert supervised.text().count(" 503 ") >= 1


def test_busy_mqtt_port_names_the_setting(run: Callable[..., Run]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        supervised = run("", "input()", QUARTIER_MQTT_PORT=str(port))
        assert supervised.process.wait(patient(20)) == 1
    assert supervised.text().splitlines()[-1] == (
        f"Error: Port {port} of 127.0.0.1 is in use by another program. Give another one: QUARTIER_MQTT_PORT=…"
    )
    assert _gone(_pid_or_zero(supervised.data))


def _pid_or_zero(data: Path) -> int:
    try:
        return _pid_of(data, "postgres")
    except FileNotFoundError:
        return 2**30


def test_address_that_is_not_ours() -> None:
    with pytest.raises(
        EngineError, match=r"Port 1883 of 192\.0\.2\.1 is at an address that this machine does not have"
    ):
        require_free("192.0.2.1", 1883, "mqtt_port")


def test_lock_names_its_holder(data: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib\n"
            "from quartier.engines.installation import Lock\n"
            "sys.argv = ['/somewhere/quartier', 'backup', 'file']\n"
            "with Lock(pathlib.Path(sys.stdin.readline().strip())):\n"
            "    print('held', flush=True)\n"
            "    sys.stdin.readline()\n",
        ],
        env={**os.environ, "PYTHONPATH": "src"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        holder.stdin.write(f"{data}\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "held\n"
        expected = rf"{data} is in use by process {holder.pid} \(quartier backup file\)\."
        with pytest.raises(EngineError, match=expected):
            installation.Lock(data).acquire()
        # Whoever holds the lock has not written down any address yet.
        assert installation.running(data) is None
        (data / "engines.json").write_text(json.dumps({"postgres_url": "a", "nats_url": "b"}))
        assert installation.running(data) == installation.Addresses("a", "b")
        holder.stdin.write("\n")
    with installation.Lock(data):
        pass
    assert installation.running(data) is None
