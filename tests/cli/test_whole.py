"""The commands as a user runs them: own processes, own data folders, engines that start and stop with them."""

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
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_main import run
from tests.patience import patient

pytestmark = pytest.mark.timeout(900)  # the tests' own limits follow the load of the machine


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the system user of PostgreSQL can reach, with a blank in its name."""
    path = Path(tempfile.mkdtemp(prefix="quartier-cli-"))
    path.chmod(0o755)
    folder = path / "with a blank"
    folder.mkdir()
    yield folder
    shutil.rmtree(path, ignore_errors=True)


def test_backup_moves_an_installation(place: Path) -> None:
    """Set up, back up, restore into an empty folder: the same people; refused where something is."""
    old, new, file = str(place / "old"), str(place / "new"), str(place / "quartier.backup")

    def ok(data: str, *arguments: str) -> str:
        done = run("--data", data, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    refused = run("--data", old, "users", "list")
    assert refused.returncode == 1
    assert "The database is empty. Run `quartier migrate`" in refused.stderr
    assert re.fullmatch(r"Database: \d+ migrations applied\.\n", ok(old, "migrate"))
    said = subprocess.run(
        [
            sys.executable,
            "-m",
            "quartier",
            "--data",
            old,
            "users",
            "add",
            "a@example.org",
            "--password-stdin",
        ],
        input="Ruhr-Emscher-7\n",
        capture_output=True,
        text=True,
        check=False,
        env=_environment(),
    )
    assert said.returncode == 0, said.stderr
    assert "with the secret key" in ok(old, "backup", file, "--with-secret")
    assert "The secret key of the backup is now in" in ok(new, "restore", file)
    assert ok(new, "users", "list") == ok(old, "users", "list")
    assert (place / "new" / "secret-key").read_text() == (place / "old" / "secret-key").read_text()
    again = run("--data", new, "restore", file)
    assert (again.returncode, "This installation is not empty" in again.stderr) == (1, True)

    report = run(
        "--data",
        new,
        "doctor",
        "--start",
        QUARTIER_PORT=str(_free_port()),
        QUARTIER_MQTT_PORT=str(_free_port()),
    )
    assert report.returncode == 0, report.stdout
    assert "ok      Database: PostgreSQL 18" in report.stdout


def _environment(**settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QUARTIER_")}
    return {**kept, "PYTHONPATH": str(Path("src").resolve()), **settings}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 (our own server)
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def _until(found: Callable[[], Any], timeout_s: float, explain: Callable[[], str]) -> Any:
    deadline = time.monotonic() + patient(timeout_s)
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.3)
    raise AssertionError(explain())


def test_demo_lives_and_stops(place: Path) -> None:
    """Both cities come alive, readings of both networks arrive, Ctrl-C ends it, the second start keeps the data."""
    data, output, port = place / "demo", place / "output", _free_port()
    command = [
        sys.executable,
        "-m",
        "quartier",
        "demo",
        "--data",
        str(data),
        "--port",
        str(port),
        "--history",
        "0.2",
    ]
    environment = _environment(QUARTIER_MQTT_PORT=str(_free_port()), PYTHONUNBUFFERED="1")
    base = f"http://127.0.0.1:{port}"

    def everything() -> str:
        logs = [f"== {log.name}\n{log.read_text()[-3000:]}" for log in sorted(data.glob("logs/*.log"))]
        return "\n".join([output.read_text(), *logs])

    def health() -> dict[str, Any]:
        status, body = _get(f"{base}/health")
        return json.loads(body) if status == 200 else {}

    def counted(name: str, label: str) -> float:
        """A sum of /metrics over all processes."""
        _, text = _get(f"{base}/metrics")
        found = re.findall(rf"^{name}\{{[^}}]*{label}[^}}]*\}} (\S+)$", text, re.MULTILINE)
        return sum(float(one) for one in found)

    def sources() -> dict[str, bool]:
        """Whether each source is connected and has brought something."""
        lines = run("--data", str(data), "sources", "list").stdout.splitlines()[2:]
        found = {line.split()[0]: line.split()[3:5] for line in lines}
        return {key: state == "ok" and int(received) > 0 for key, (state, received) in found.items()}

    def recorded() -> float:
        """Observations recorded so far."""
        return counted("quartier_observations_total", 'outcome="added"')

    def carried(peer: str) -> float:
        """Frames that a city's gateways have carried for the other one."""
        return counted("quartier_roaming_frames_total", f'peer="{peer}"')

    for start in (1, 2):
        with output.open("wb") as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        try:
            _until(lambda: f"Quartier is at {base}/" in output.read_text(), 90, everything)
            status, page = _get(f"{base}/")
            assert status == 200
            assert "Simulierte Daten" in page
            if start == 1:
                _until(lambda: recorded() > 500, 90, everything)
                # Health is remembered for a moment, so it may still tell of the time before the first reading.
                _until(lambda: health().get("database", {}).get("newest_observation_age_s"), 30, everything)
                found = health()
                assert found["status"] == "ok"
                # Sources write down every few seconds how they are.
                _until(
                    lambda: sources() == {"element-dortmund": True, "chirpstack-schwerte": True},
                    60,
                    everything,
                )
                # Both cities' own radio networks live, and each carries frames for the other one.
                for peer in ("funknetz-dortmund", "funknetz-schwerte"):
                    _until(lambda peer=peer: carried(peer) > 0, 90, everything)  # type: ignore[misc]
                second = run("demo", "--data", str(data))
                assert (second.returncode, "is in use by process" in second.stderr) == (1, True)
        finally:
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            status = process.wait(patient(30))
        assert status == 0, everything()
        assert time.monotonic() - begin < patient(15)
        assert output.read_text().endswith("Stopped.\n")
        tracebacks = everything().partition("Traceback")
        assert tracebacks[1] == "", tracebacks[0][-800:] + tracebacks[2][:4000]
    things = run("--data", str(data), "users", "list").stdout
    assert "operator@dortmund.example" in things
