"""How long the demo takes until its page answers, and how much memory everything together has."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

SETTLE_S = 90
PAGES = ("/", "/orte/", "/daten/", "/funknetz/", "/schnittstellen/sensorthings/", "/sensorthings/v1.1/Things")


def run() -> dict[str, float]:
    """Seconds to the first page at the first and at a later start, seconds to stop, memory 90 s later, after visits."""
    folder = Path(tempfile.mkdtemp(prefix="quartier-bench-"))
    folder.chmod(0o755)
    try:
        first_s, stop_s, memory = _once(folder, settle_s=SETTLE_S)
        again_s, _, _ = _once(folder, settle_s=0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"first_start_s": first_s, "later_start_s": again_s, "stop_s": stop_s, **memory}


def _once(folder: Path, *, settle_s: float) -> tuple[float, float, dict[str, float]]:
    begin = time.monotonic()
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "quartier", "demo", "--data", str(folder / "data")],
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        while b"Quartier is at" not in output.read_bytes():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() - begin < 120
            time.sleep(0.05)
        start_s = time.monotonic() - begin
        memory = {}
        if settle_s:
            time.sleep(settle_s)
            _visit(output.read_text())
            memory = _memory(process.pid)
    finally:
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(60)
    return start_s, time.monotonic() - begin, memory


def _visit(output: str) -> None:
    address = output.split("Quartier is at", 1)[1].split(maxsplit=1)[0].rstrip("/")
    for page in PAGES:
        with urllib.request.urlopen(address + page, timeout=30) as answer:  # noqa: S310 (our own server)
            answer.read()


def _memory(pid: int) -> dict[str, float]:
    """Memory of a process and all below it; pages that several share count once (PSS) or each time (RSS)."""
    parent = psutil.Process(pid)
    everyone = [parent, *parent.children(recursive=True)]
    infos = [one.memory_full_info() for one in everyone]
    return {
        "memory_shared_once_mb": sum(info.pss for info in infos) / 1e6,
        "memory_resident_sum_mb": sum(info.rss for info in infos) / 1e6,
    }
