"""How gateways write EUIs: plain hex, dashed or with colons, and Basics Station's ID6.

ID6 is IPv6's notation for 64 bits: four groups of hex, of which one run of zeros may be ``::``; a MAC address becomes
an EUI-64 by ``FFFE`` in its middle.
"""

from __future__ import annotations

import re
from typing import Final

_LONGEST: Final = 40
_EUI: Final = re.compile(r"[0-9a-f]{16}|[0-9a-f]{2}(?:-[0-9a-f]{2}){7}|[0-9a-f]{2}(?::[0-9a-f]{2}){7}")
_MAC: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_GROUPS: Final = re.compile(r"[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*")
_PREFIX: Final = re.compile(r"[a-z]+-(?=.*:)")


class IdError(ValueError):
    """A text or number is no EUI."""


def parse_eui(value: str | int) -> bytes:
    """Eight bytes, most significant first. Raises IdError."""
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 64:
            raise IdError("an EUI has 64 bits")
        return (value & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8)
    text = value[:_LONGEST].strip().lower()
    if _EUI.fullmatch(text):
        return bytes.fromhex(text.replace("-", "").replace(":", ""))
    if _MAC.fullmatch(text):
        mac = bytes.fromhex(text.replace(":", ""))
        return mac[:3] + b"\xff\xfe" + mac[3:]
    return _parse_id6(_PREFIX.sub("", text, count=1), value)


def _parse_id6(text: str, original: str) -> bytes:
    head, gap, tail = text.partition("::")
    if any(part and not _GROUPS.fullmatch(part) for part in (head, tail)):
        raise IdError(f"{original[:_LONGEST]!r} is no EUI")
    before = head.split(":") if head else []
    after = tail.split(":") if tail else []
    missing = 4 - len(before) - len(after)
    if missing < (1 if gap else 0) or (missing and not gap):
        raise IdError(f"{original[:_LONGEST]!r} is no EUI")
    return b"".join(int(group, 16).to_bytes(2) for group in (*before, *["0"] * missing, *after))


def dashed(eui: bytes) -> str:
    """``01-23-45-67-89-AB-CD-EF``, as Basics Station writes it."""
    return eui.hex("-").upper()


def id6(eui: bytes) -> str:
    """The shortest ID6 of an EUI."""
    groups = [f"{int.from_bytes(eui[at : at + 2]):x}" for at in range(0, 8, 2)]
    for length in (4, 3, 2):
        for start in range(5 - length):
            if all(group == "0" for group in groups[start : start + length]):
                if length == 4:
                    return "::0"
                return f"{':'.join(groups[:start])}::{':'.join(groups[start + length :])}"
    return ":".join(groups)
