"""What the processes of an installation leave out. Imported before everything else by those that do.

structlog draws coloured tracebacks where rich is installed, and the NATS client speaks WebSocket where aiohttp is; both
are there for other parts of Quartier. A process whose log is a file and whose bus is a socket needs neither, and is
eleven megabytes smaller without.
"""

from __future__ import annotations

import sys
from typing import cast

_NOT_NEEDED = {
    "quartier.cli.web": ("rich", "aiohttp"),
    "quartier.cli.radio": ("rich",),
    "quartier.cli.demo_radio": ("rich",),
    "quartier.cli.intake": ("rich", "aiohttp"),
    "quartier.cli.worker": ("rich", "aiohttp"),
}

# Only where such a process begins: a test or a command may import the same modules and draw tables.
if sys.orig_argv[1:2] == ["-m"]:
    for _name in _NOT_NEEDED.get(sys.orig_argv[2], ()):
        # This is how an import is made to fail.
        cast("dict[str, object]", sys.modules)[_name] = None
