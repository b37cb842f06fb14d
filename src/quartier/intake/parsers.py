"""From a raw message to uplinks: each kind of source registers one parser.

The parser runs in the pipeline and not at the connector, so that a message that it could not read is kept, listed with
its reason, and read again when the parser was corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from quartier.intake.inbox import RawMessage


class MessageError(Exception):
    """A message (or one reading in it) cannot be used. ``reason`` is a short code, ``detail`` names the field."""

    def __init__(self, reason: str, detail: str = "", external_id: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.external_id = external_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplink:
    """What one device said, freed from its network's wrapping.

    Either ``payload`` (for the device type's codec) or ``fields`` (already decoded) is given. ``observed_at`` is the
    time that the message states for the measurement, ``received_at`` that of reception by the network; both UTC.
    """

    external_id: str
    received_at: datetime
    payload: bytes | None = None
    fields: Mapping[str, Any] | None = None
    observed_at: datetime | None = None
    frame_counter: int | None = None
    port: int | None = None
    rssi_dbm: float | None = None
    snr_db: float | None = None
    gateways: int | None = None
    battery_percent: float | None = None
    device_name: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)


Parser = Callable[[RawMessage, Mapping[str, Any]], Sequence[Uplink]]

_parsers: dict[str, Parser] = {}


def register(kind: str, parser: Parser) -> None:
    """Make ``parser`` read the messages of sources of ``kind``."""
    _parsers[kind] = parser


def parse(message: RawMessage, settings: Mapping[str, Any]) -> Sequence[Uplink]:
    """The uplinks in a message (none for a message that carries no reading, such as a join). Raises MessageError."""
    parser = _parsers.get(message.kind)
    if parser is None:
        raise MessageError("unknown_kind", f"no parser for messages of kind {message.kind!r}")
    return parser(message, settings)
