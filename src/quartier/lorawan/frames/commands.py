"""How a command is declared: where each field lies in the command's body, read as one little-endian number.

Every command of the MAC and of clock synchronisation is a few bytes of bit fields; one declaration serves parsing and
serialising. Bits that no field claims are reserved: sent as zero, ignored when received.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Self, dataclass_transform

from .errors import FrameError


@dataclass(frozen=True, slots=True)
class _Place:
    start: int
    width: int
    kind: str
    scale: int = 1

    def read(self, number: int) -> int | bool:
        raw = number >> self.start & (1 << self.width) - 1
        if self.kind == "flag":
            return bool(raw)
        if self.kind == "signed" and raw >> self.width - 1:
            raw -= 1 << self.width
        return raw * self.scale

    def write(self, name: str, value: int) -> int:
        raw, rest = divmod(value, self.scale)
        if rest:
            raise FrameError(name, f"{value} is not a multiple of {self.scale}")
        low = -(1 << self.width - 1) if self.kind == "signed" else 0
        high = low + (1 << self.width) - 1
        if not low <= raw <= high:
            raise FrameError(name, f"{value} is not between {low * self.scale} and {high * self.scale}")
        return (raw & (1 << self.width) - 1) << self.start


def bits(start: int, width: int, *, signed: bool = False) -> Any:
    """A number of ``width`` bits from bit ``start`` on; bit 0 is the lowest bit of the first byte."""
    return field(metadata={"place": _Place(start, width, "signed" if signed else "number")})


def flag(start: int) -> Any:
    """One bit."""
    return field(metadata={"place": _Place(start, 1, "flag")})


def hertz(start: int) -> Any:
    """A frequency: three bytes in steps of 100 Hz."""
    return field(metadata={"place": _Place(start, 24, "number", 100)})


class Command:
    """One command. Its fields are keyword arguments; a request and its answer share the ``cid``."""

    __slots__ = ()

    cid: ClassVar[int]
    size: ClassVar[int]
    """Bytes of the body, without the CID."""
    uplink: ClassVar[bool]
    _places: ClassVar[tuple[tuple[str, _Place], ...]]

    @classmethod
    def read(cls, body: bytes) -> Self:
        """From exactly ``size`` bytes."""
        number = int.from_bytes(body, "little")
        return cls(**{name: place.read(number) for name, place in cls._places})

    def serialise(self) -> bytes:
        """CID and body. Raises FrameError for a field out of its range."""
        number = 0
        for name, place in self._places:
            number |= place.write(name, getattr(self, name))
        return bytes((self.cid,)) + number.to_bytes(self.size, "little")


class Parsed(NamedTuple):
    """Commands in their order, and the bytes that could not be read: from the first unknown or truncated command on."""

    commands: tuple[Command, ...]
    rest: bytes


class Vocabulary:
    """The commands of one protocol: what devices send (``uplink``) and what networks send, by CID."""

    def __init__(self) -> None:
        self.uplink: dict[int, type[Command]] = {}
        self.downlink: dict[int, type[Command]] = {}

    def enter[C: Command](self, declared: type[C], cid: int, size: int, *, uplink: bool) -> type[C]:
        """Makes a class one of the commands; ``up`` and ``down`` are the decorators for it."""
        made = dataclass(frozen=True, slots=True, kw_only=True)(declared)
        made.cid, made.uplink, made.size = cid, uplink, size
        made._places = tuple((one.name, one.metadata["place"]) for one in fields(made))  # type: ignore[arg-type]
        (self.uplink if uplink else self.downlink)[cid] = made
        return made

    def parse(self, data: bytes, *, uplink: bool) -> Parsed:
        """What devices (``uplink``) or networks say. Never raises."""
        known = self.uplink if uplink else self.downlink
        found: list[Command] = []
        at, end = 0, len(data)
        while at < end:
            kind = known.get(data[at])
            if kind is None or at + 1 + kind.size > end:
                break
            found.append(kind.read(data[at + 1 : at + 1 + kind.size]))
            at += 1 + kind.size
        return Parsed(tuple(found), data[at:])


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(bits, flag, hertz))
def up[C: Command](words: Vocabulary, cid: int, size: int = 0) -> Callable[[type[C]], type[C]]:
    """Makes a class a command that devices send, with a body of ``size`` bytes."""
    return lambda declared: words.enter(declared, cid, size, uplink=True)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(bits, flag, hertz))
def down[C: Command](words: Vocabulary, cid: int, size: int = 0) -> Callable[[type[C]], type[C]]:
    """Makes a class a command that networks send, with a body of ``size`` bytes."""
    return lambda declared: words.enter(declared, cid, size, uplink=False)


def serialise(commands: Iterable[Command]) -> bytes:
    """The bytes of several commands. Raises FrameError for a field out of its range."""
    return b"".join(one.serialise() for one in commands)
