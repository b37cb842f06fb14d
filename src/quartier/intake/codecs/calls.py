"""What goes into the codec sandbox and what comes out of it.

A fault of a script is a value here (`CodecError` in the place of a result), because one bad codec must not
take the other messages of a batch with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Reason = Literal[
    "script_error",  # the script threw, or does not even parse
    "no_function",  # the script offers no function for what was asked
    "codec_reported",  # TS013: the codec itself returned `errors`
    "bad_output",  # what it returned is not of the form that is asked for
    "time_limit",
    "memory_limit",
    "stack_limit",
    "output_limit",
    "depth_limit",
    "input_limit",  # the payload, the variables or the script is larger than allowed
    "suspended",  # not run: this script hit the time limit again and again
    "worker_lost",  # the worker process died twice with this call in hand
]

# Faults that say nothing about the message: trying again later may succeed.
TRANSIENT: frozenset[Reason] = frozenset({"suspended", "worker_lost"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may use. A call beyond a limit is stopped and reported with the reason of the same name.

    `cpu_ms` is processor time: a busy machine makes a call take longer, but not fail. `wall_ms` is the stop
    behind it. `output_bytes` counts characters of JSON, `depth` the containers within each other, with the
    outermost. `input_bytes` holds for the payload and, apart, for variables or downlink data.
    """

    cpu_ms: int = 200
    wall_ms: int = 900
    memory_bytes: int = 16 * 2**20
    stack_bytes: int = 256 * 1024
    output_bytes: int = 65536
    depth: int = 16
    input_bytes: int = 65536
    script_bytes: int = 2**20


@dataclass(frozen=True, slots=True)
class Call:
    """One message. `variables` reach TS013 codecs as `input.variables` and `Decode` as third argument."""

    payload: bytes
    port: int | None
    received_at: datetime | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Fields as the codec named them. `log` is what it wrote to the console, bounded."""

    data: dict[str, Any]
    warnings: tuple[str, ...] = ()
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """A downlink. `port` is None where neither codec nor caller named one."""

    payload: bytes
    port: int | None
    warnings: tuple[str, ...] = ()
    log: tuple[str, ...] = ()


class CodecError(Exception):
    """Why a call gave no result; given back as a value, raised only by those who want to."""

    def __init__(
        self, reason: Reason, detail: str, *, line: int | None = None, log: tuple[str, ...] = ()
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail
        self.line = line
        self.log = log

    @property
    def transient(self) -> bool:
        """True where the fault is not the message's and trying again later may succeed."""
        return self.reason in TRANSIENT

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CodecError):
            return NotImplemented
        return (self.reason, self.detail, self.line, self.log) == (
            other.reason,
            other.detail,
            other.line,
            other.log,
        )

    def __hash__(self) -> int:
        return hash((self.reason, self.detail))


class PoolClosedError(RuntimeError):
    """The pool was closed while the call waited; nothing is known about the message."""


@dataclass(frozen=True, slots=True)
class CodecReport:
    """What a script offers, or why it cannot be loaded.

    `functions` in the order of preference: the first of decodeUplink, Decoder and Decode decodes.
    """

    functions: tuple[str, ...] = ()
    error: CodecError | None = None
    log: tuple[str, ...] = ()

    @property
    def decodes(self) -> str | None:
        return next((name for name in self.functions if name in {"decodeUplink", "Decoder", "Decode"}), None)

    @property
    def encodes(self) -> str | None:
        return next(
            (name for name in self.functions if name in {"encodeDownlink", "Encoder", "Encode"}), None
        )
