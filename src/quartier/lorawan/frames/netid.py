"""NetID and DevAddr: which network an address belongs to (Backend Interfaces TS002-1.1 §16, LoRaWAN 1.1 §6.1.1).

The first bits of a DevAddr tell the type, the next ones the NwkID: the low bits of the NetID.
"""

from __future__ import annotations

from string import hexdigits
from typing import NamedTuple, Self

from .errors import FrameError, check_range

# By type 0 … 7: bits of the NwkID, and bits of the whole prefix (type's ones, a zero, NwkID).
_NWK_ID_BITS = (6, 6, 9, 11, 12, 13, 15, 17)
_PREFIX_BITS = (7, 8, 12, 15, 17, 19, 22, 25)


class Prefix(NamedTuple):
    """A block of addresses: those whose first ``length`` bits are those of ``dev_addr``."""

    dev_addr: int
    length: int

    @classmethod
    def of(cls, net_id: int) -> Self:
        """All addresses of a network. Raises FrameError outside of 24 bits."""
        kind = net_id_type(net_id)
        ones = (1 << kind) - 1 << 1  # as many ones as the type says, and a zero
        nwk_id = net_id & (1 << _NWK_ID_BITS[kind]) - 1
        length = _PREFIX_BITS[kind]
        return cls((ones << _NWK_ID_BITS[kind] | nwk_id) << 32 - length, length)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From such as 00E20000/15; a bare address is a block of one. Raises FrameError."""
        address, slash, length = text.strip().partition("/")
        if len(address) != 8 or not all(digit in hexdigits for digit in address):
            raise FrameError("dev_addr", f"“{address[:40]}” is not eight hexadecimal digits")
        start = int(address, 16)
        if not slash:
            return cls(start, 32)
        if not (length.isascii() and length.isdigit() and len(length) <= 2 and int(length) <= 32):
            raise FrameError("length", f"“{length[:40]}” is not a number from 0 to 32")
        bits = int(length)
        if start & (1 << 32 - bits) - 1:
            raise FrameError("dev_addr", f"{address} has bits set behind the first {bits}")
        return cls(start, bits)

    def __str__(self) -> str:
        return f"{self.dev_addr:08X}/{self.length}"

    @property
    def size(self) -> int:
        """How many addresses."""
        return 1 << 32 - self.length

    def covers(self, dev_addr: int) -> bool:
        """Whether an address is in this block."""
        return (dev_addr ^ self.dev_addr) >> 32 - self.length == 0

    def address(self, number: int) -> int:
        """The address with this number in the block. Raises FrameError beyond its end."""
        return self.dev_addr | check_range("number", number, 0, self.size - 1)


def net_id_type(net_id: int) -> int:
    """0 … 7: the first three bits. Raises FrameError outside of 24 bits."""
    return check_range("net_id", net_id, 0, 0xFF_FFFF) >> 21


def dev_addr_type(dev_addr: int) -> int | None:
    """The type of the NetID that an address belongs to; None for one that begins with eight ones, which is nobody's."""
    ones = 8 - ((dev_addr >> 24 & 0xFF) ^ 0xFF).bit_length()
    return ones if ones < 8 else None


def belongs_to(dev_addr: int, net_id: int) -> bool:
    """Whether an address was given out by this network. Raises FrameError for a NetID outside of 24 bits."""
    return Prefix.of(net_id).covers(dev_addr)
