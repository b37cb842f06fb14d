"""Everything in ``frames`` that reads bytes or text from outside, behind one function for fuzzers.

``python -m tests.lorawan.frames.fuzz [seconds]`` runs it under atheris where that is installed, which finds inputs by
the branches they take; ``test_fuzz`` runs it under hypothesis.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from quartier.lorawan.frames import FrameError, clock_sync, crypto, mac, netid, phy, qr
from quartier.lorawan.frames.commands import serialise
from quartier.lorawan.frames.regions import EU868
from tests.lorawan.fuzzing import fuzz

_SESSION = crypto.SessionKeys(b"\1" * 16, b"\2" * 16, b"\3" * 16, b"\4" * 16, lorawan_1_1=True)
_KEY = bytes(16)


def _frame(data: bytes) -> None:
    frame = phy.parse(data)
    assert frame.serialise() == data
    if isinstance(frame, phy.Data):
        clear = crypto.open_data(_SESSION, frame, frame.frame_counter)
        mac.parse(clear.options, uplink=frame.uplink)
        if frame.uplink:
            crypto.uplink_fits(_SESSION, data, frame.frame_counter)
        else:
            crypto.downlink_fits(_SESSION, data, frame.frame_counter)
    elif isinstance(frame, phy.JoinRequest | phy.RejoinRequest):
        crypto.join_fits(_KEY, frame)
    elif isinstance(frame, phy.EncryptedJoinAccept):
        crypto.open_join_accept(_KEY, _KEY, frame, join_eui=bytes(8), js_int_key=_KEY)


def _commands(data: bytes) -> None:
    for parse in (mac.parse, clock_sync.parse):
        for uplink in (True, False):
            commands, rest = parse(data, uplink=uplink)
            again = serialise(commands)
            assert len(again) + len(rest) == len(data)
            assert parse(again + rest, uplink=uplink) == (commands, rest)


def _code(data: bytes) -> None:
    code = qr.parse(data.decode(errors="replace"))
    assert qr.parse(code.format(checksum=True)) == code


def _block(data: bytes) -> None:
    block = netid.Prefix.parse(data.decode(errors="replace"))
    assert netid.Prefix.parse(str(block)) == block


def _channel_list(data: bytes) -> None:
    EU868.parse_channel_list(data)


def _join_accept(data: bytes) -> None:
    accept = phy.JoinAccept.parse(data)
    assert phy.JoinAccept.parse(accept.message()) == accept


READERS: tuple[Callable[[bytes], None], ...] = (_frame, _commands, _code, _block, _channel_list, _join_accept)


def one_input(data: bytes) -> None:
    """The first byte chooses the reader. Anything but FrameError is a finding."""
    if not data:
        return
    with contextlib.suppress(FrameError):
        READERS[data[0] % len(READERS)](data[1:])


def main() -> None:
    """Until something is found, or for so many seconds."""
    samples = [
        bytes.fromhex(text)
        for text in (
            "40f17dbe4900020001954378762b11ff0d",
            "600000000a8005000a54972baa8b983cd1",
            "00080706050403020111223344556677880700" + "01020304",
            "02030405060708090a0b",
        )
    ]
    fuzz(one_input, readers=len(READERS), samples=samples, longest=300)


if __name__ == "__main__":
    main()
