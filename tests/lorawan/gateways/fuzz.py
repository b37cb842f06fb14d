"""Everything in ``gateways`` that reads what comes from outside, behind one function for fuzzers.

``python -m tests.lorawan.gateways.fuzz [seconds]`` runs it under atheris where that is installed, which finds inputs by
the branches they take; the tests of each protocol run its readers under hypothesis.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

from quartier.lorawan.gateways import cups_messages, gwmp
from quartier.lorawan.gateways.ids import IdError, parse_eui
from quartier.lorawan.gateways.mqtt import codec
from quartier.lorawan.gateways.station import messages
from tests.lorawan.fuzzing import fuzz

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
    cups_messages.parse,
    lambda data: parse_eui(data.decode(errors="replace")),
)
ALLOWED = (gwmp.GwmpError, messages.StationError, codec.BridgeError, cups_messages.CupsError, IdError)


def one_input(data: bytes) -> None:
    """The first byte chooses the reader. Anything but its module's own error is a finding."""
    if not data:
        return
    with contextlib.suppress(*ALLOWED):
        READERS[data[0] % len(READERS)](data[1:])


def main() -> None:
    """Until something is found, or for so many seconds."""
    from tests.lorawan.gateways import test_cups, test_gwmp, test_mqtt, test_station_messages

    push = b"\x02\x12\x34\x00" + bytes(range(8))
    written = [
        test_station_messages.JOIN,
        test_station_messages.DATA,
        test_station_messages.CONFIRMED,
        test_mqtt.UP_JSON,
        test_cups.REQUEST,
        {"router": "b827:ebff:fe00:1"},
    ]
    samples = [
        push
        + json.dumps({"rxpk": [test_gwmp.LORA, test_gwmp.FSK], "stat": {"rxnb": 2, "ackr": 100.0}}).encode(),
        b"\x02\x12\x34\x05" + bytes(range(8)) + b'{"txpk_ack":{"error":"TOO_LATE"}}',
        test_mqtt.UP,
        *(json.dumps(one).encode() for one in written),
    ]
    fuzz(one_input, readers=len(READERS), samples=samples, longest=2000)


if __name__ == "__main__":
    main()
