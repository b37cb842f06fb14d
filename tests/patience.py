"""Limits of time for tests that start and kill real processes."""

from __future__ import annotations

import os


def patient(seconds: float) -> float:
    """So many seconds of an idle machine: more where others keep this one busy."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
