"""Nothing acknowledged is lost: the whole installation under load, and everything in it killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killing_everything_loses_and_doubles_nothing() -> None:
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "bench.kill"],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout[done.stdout.index("{") :])
    killed = {name: n for name, n in figures.items() if name.startswith("killed_")}
    assert killed == {"killed_intake": 2, "killed_nats_server": 2, "killed_postgres": 2, "killed_worker": 2}
    assert figures["acknowledged"] > 10_000
    wrong = (
        "lost",
        "incomplete",
        "invented",
        "refused",
        "counted_otherwise",
        "published_missing",
        "published_twice",
    )
    assert {name: figures[name] for name in wrong} == dict.fromkeys(wrong, 0)
