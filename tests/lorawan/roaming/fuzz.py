"""Everything in ``roaming`` that reads what a peer says, behind one function for fuzzers.

``python -m tests.lorawan.roaming.fuzz [seconds]`` runs it under atheris where that is installed, which finds inputs by
the branches they take; ``test_fuzz`` runs it under hypothesis.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from quartier.lorawan.roaming import delivery, messages, statements
from quartier.lorawan.roaming.client import CallError
from quartier.lorawan.roaming.envelope import EnvelopeError, opened
from quartier.lorawan.roaming.fields import ResultCode
from quartier.lorawan.roaming.heard import gateways_of, receptions_of
from quartier.lorawan.roaming.ledger import uplink_key
from quartier.lorawan.roaming.messages import Answer, MessageError
from quartier.lorawan.roaming.objects import Downlink, KeyEnvelope, Uplink
from quartier.lorawan.roaming.peers import Peer, ranges
from quartier.lorawan.roaming.tokens import TokenError, Tokens
from quartier.lorawan.types import Reception
from tests.lorawan.fuzzing import fuzz

PEER: Final = Peer(key="schwerte", name="Schwerte", net_ids=("000001",), keks={"grenze": bytes(range(16))})
_PHY: Final = b"\x40" * 12
_NOW: Final = datetime(2026, 11, 27, tzinfo=UTC)
_TOKENS: Final = Tokens("the secret of a test")


def _message(data: bytes) -> None:
    message = messages.read(data)
    written = messages.write(message)
    again = messages.read(written)
    assert messages.write(again) == written
    for value in (getattr(message, name) for name in message.__struct_fields__):
        _value(value)
    if not isinstance(message, Answer):
        for code in ResultCode:
            answer = messages.answer_to(message, code, "because")
            if answer.message_type in messages.ANSWERS:
                messages.read(messages.write(answer))


def _value(value: Any) -> None:
    """What is done with a part of a message."""
    match value:
        case Uplink():
            with contextlib.suppress(MessageError):
                for _ in receptions_of(PEER, _PHY, value, gateways_of(PEER, value), 1):
                    uplink_key(_PHY, messages.whole_milliseconds(value.received_at or _NOW))
            _token(bytes(value.fns_token or b""))
        case Downlink():
            for class_c in (True, False):
                with contextlib.suppress(MessageError):
                    assert delivery._windows(value, class_c=class_c, delay_s=1)
            _token(bytes(value.fns_token or b""))
        case KeyEnvelope():
            with contextlib.suppress(EnvelopeError):
                assert len(opened(value, PEER.keks)) == 16


def _token(data: bytes) -> None:
    with contextlib.suppress(TokenError):
        _TOKENS.open(data, receiver=PEER.key, device=None, now=0.0)
        raise AssertionError("a token that we did not issue was honoured")


def _statement(data: bytes) -> None:
    answer = statements.read_answer(data)
    for we_carry in (True, False):
        found = statements.reconcile((), answer.lines, we_carry=we_carry)
        for line in found.adopt:
            statements.adopted(PEER, line, we_carry=we_carry)


def _statement_request(data: bytes) -> None:
    statements.read_request(data)


def _range(data: bytes) -> None:
    for bits in (32, 64):
        for one in ranges([data.decode(errors="replace")], bits):
            assert ranges([str(one)], bits) == (one,)


READERS: tuple[Callable[[bytes], None], ...] = (_message, _token, _statement, _statement_request, _range)
ALLOWED = (MessageError, CallError, ValueError)


def one_input(data: bytes) -> None:
    """The first byte chooses the reader. Anything but its module's own error is a finding."""
    if not data:
        return
    with contextlib.suppress(*ALLOWED):
        READERS[data[0] % len(READERS)](data[1:])


def main() -> None:
    """Until something is found, or for so many seconds."""
    from tests.lorawan.roaming.test_messages import HEADER, START

    kinds = sorted(messages.REQUESTS | messages.ANSWERS)
    reception = Reception(
        gateway=bytes(8), phy=_PHY, frequency_hz=868_100_000, data_rate=0, received_at=_NOW, received_monotonic=0.0,
        rssi_dbm=-100.0, snr_db=5.0, context={"tmst": 1},
    )  # fmt: skip
    token = Tokens("somebody else's secret").issue(
        reception, receiver=PEER.key, device=bytes(8), now=_NOW.timestamp()
    )
    samples = [json.dumps(START).encode(), token] + [
        json.dumps(HEADER | {"MessageType": kind, "Result": {"ResultCode": "Success"}}).encode()
        for kind in kinds
    ]
    fuzz(one_input, readers=len(READERS), samples=samples, longest=3000)


if __name__ == "__main__":
    main()
