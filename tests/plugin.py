"""Starts the tests' PostgreSQL. Loaded by ``-p tests.plugin``: Django reads its settings before any conftest."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

# The process that only hands out tests to workers needs no database.
_distributes = any(argument.startswith(("-n", "--numprocesses")) for argument in sys.argv)

if "PYTEST_XDIST_WORKER" in os.environ or not _distributes:
    _data = Path(tempfile.mkdtemp(prefix="quartier-test-"))
    _data.chmod(0o755)
    for _name in [name for name in os.environ if name.startswith("QUARTIER_")]:
        del os.environ[_name]
    os.environ["QUARTIER_DATA"] = str(_data)

    from quartier.engines import postgres

    _postgres = postgres.start(_data, durable=False)
    os.environ["QUARTIER_POSTGRES_URL"] = _postgres.url()

    def _stop() -> None:
        _postgres.stop()
        shutil.rmtree(_postgres.sockets, ignore_errors=True)
        shutil.rmtree(_data, ignore_errors=True)

    atexit.register(_stop)
