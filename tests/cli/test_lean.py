"""Processes that leave libraries out have to work without them."""

from __future__ import annotations

import subprocess
import sys

_WEB = """
import sys
sys.modules["rich"] = sys.modules["aiohttp"] = None
import quartier.asgi
from django.urls import get_resolver
get_resolver().check()
"""


def test_the_web_server_does_without_rich_and_aiohttp() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WEB], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
