"""Everything in ``gateways`` that reads what comes from outside, behind one function for fuzzers.

``python -m tests.lorawan.gateways.fuzz [seconds]`` runs it under atheris where that is installed, which finds inputs by
the branches they take; the tests of each protocol run its readers under hypothesis.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from typing import Any

from quartier.lorawan.gateways import cups, gwmp
from quartier.lorawan.gateways.ids import IdError, parse_eui
from quartier.lorawan.gateways.mqtt import codec
from quartier.lorawan.gateways.station import messages

READERS: tuple[Callable[[bytes], object], ...] = (
    gwmp.parse,
    gwmp.parse_push,
    gwmp.parse_acknowledgement,
    messages.parse,
    messages.parse_question,
    codec.parse_up,
    codec.parse_ack,
    codec.parse_stats,
    codec.parse_state,
    cups.parse,
    lambda data: parse_eui(data.decode(errors="replace")),
)
ALLOWED = (gwmp.GwmpError, messages.StationError, codec.BridgeError, cups.CupsError, IdError)


def one_input(data: bytes) -> None:
    """The first byte chooses the reader. Anything but its module's own error is a finding."""
    if not data:
        return
    with contextlib.suppress(*ALLOWED):
        READERS[data[0] % len(READERS)](data[1:])


def main() -> None:
    """Until something is found, or for so many seconds."""
    atheris: Any = importlib.import_module("atheris")
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-max_len=2000"], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
