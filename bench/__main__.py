"""``python -m bench``: runs every benchmark in a process of its own, prints a table, keeps the figures as JSON.

A benchmark is a module of this package with ``run()`` that returns figures by name; names end in their unit. Processes
of their own, because each starts engines of its own and Django reads its settings once.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

import bench

RESULT = Path(".quartier/bench.json")
_MARK = "BENCH-RESULT "
_TIMEOUT_S = 3600


def _is_benchmark(name: str) -> bool:
    source = Path(bench.__file__).with_name(f"{name}.py")
    return not name.startswith("_") and "\ndef run(" in source.read_text()


BENCHMARKS = sorted(name for _, name, _ in pkgutil.iter_modules(bench.__path__) if _is_benchmark(name))


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(BENCHMARKS))
@click.option("--inside", is_flag=True, hidden=True)
def main(*, names: tuple[str, ...], inside: bool) -> None:
    """Run the benchmarks NAMES, or all of them."""
    if inside:
        figures = importlib.import_module(f"bench.{names[0]}").run()
        print(_MARK + json.dumps(figures), flush=True)
        return
    console = Console()
    conditions = _conditions()
    console.print(", ".join(f"{name} {value}" for name, value in conditions.items()), soft_wrap=True)
    kept = _kept()
    failed = False
    for name in names or BENCHMARKS:
        with console.status(f"{name} …"):
            figures, seconds, problem = _run(name)
        if problem:
            failed = True
            console.print(f"[red]{name} failed[/]\n{problem}", soft_wrap=True)
            continue
        table = Table(title=f"{name} ({seconds:.0f} s)", title_justify="left", show_header=False, box=None)
        for figure, value in figures.items():
            table.add_row(f"  {figure}", _shown(value))
        console.print(table)
        kept["figures"][name] = {**figures, "measured_at": conditions["at"]}
    kept["conditions"] = dict(conditions)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(kept, indent=1))
    console.print(f"Kept in {RESULT}.")
    sys.exit(1 if failed else 0)


def _run(name: str) -> tuple[dict[str, float | str], float, str]:
    """Figures, seconds, and what went wrong."""
    begin = time.monotonic()
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "bench", "--inside", name],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return {}, time.monotonic() - begin, f"took longer than {_TIMEOUT_S} s"
    seconds = time.monotonic() - begin
    lines = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode != 0 or not lines:
        return {}, seconds, (done.stderr or done.stdout)[-2000:]
    figures: dict[str, float | str] = json.loads(lines[-1].removeprefix(_MARK))
    return figures, seconds, ""


def _conditions() -> dict[str, str]:
    """On what was measured; figures without it mean nothing."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "commit": commit,
        "cpu": cpu,
        "cores": str(len(os.sched_getaffinity(0))),
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    }


def _kept() -> dict[str, dict[str, object]]:
    try:
        kept: dict[str, dict[str, object]] = json.loads(RESULT.read_text())
    except (OSError, ValueError):
        return {"figures": {}}
    kept.setdefault("figures", {})
    return kept


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
