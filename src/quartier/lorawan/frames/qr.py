"""The QR codes on devices (LoRa Alliance TR005): LW:D0:JoinEUI:DevEUI:ProfileID, and what the vendor adds to it.

Additions begin with a letter: O owner token, S serial number, P proprietary, C checksum. The checksum's algorithm is
the one by which TR005's example fits: CRC-16/MODBUS over everything before it. Keys are never in such a code.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

from .errors import FrameError, check_length

MAX_SIZE = 512
_NAMES = {"O": "owner token", "S": "serial number", "P": "proprietary", "C": "checksum"}
# TR005 uses the alphanumeric mode of QR codes, and the colon separates.
_ALLOWED = frozenset(string.digits + string.ascii_uppercase + " $%*+-./")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode:
    """What a code says. EUIs as printed; vendor and profile are those that the LoRa Alliance lists."""

    join_eui: bytes
    dev_eui: bytes
    vendor_id: int
    vendor_profile_id: int
    owner_token: str = ""
    serial_number: str = ""
    proprietary: str = ""

    def format(self, *, checksum: bool = False) -> str:
        """The text of the code. Raises FrameError for a field that does not fit."""
        profile = _hex("vendor id", self.vendor_id) + _hex("vendor profile id", self.vendor_profile_id)
        parts = [
            "LW:D0",
            check_length("join_eui", self.join_eui, 8).hex().upper(),
            check_length("dev_eui", self.dev_eui, 8).hex().upper(),
            profile,
        ]
        for letter, value in (("O", self.owner_token), ("S", self.serial_number), ("P", self.proprietary)):
            if value:
                parts.append(letter + _allowed(_NAMES[letter], value))
        text = ":".join(parts)
        if checksum:
            text += f":C{_crc16(text.encode()):04X}"
        if len(text) > MAX_SIZE:
            raise FrameError("code", f"{len(text)} characters, more than {MAX_SIZE}")
        return text


def parse(text: str) -> DeviceCode:
    """What a code says; small letters and surrounding space are forgiven. Raises FrameError that names the field."""
    if len(text) > MAX_SIZE:
        raise FrameError("code", f"{len(text)} characters, more than {MAX_SIZE}")
    text = text.strip()
    if not text.isascii():
        raise FrameError("code", "there are characters that are not ASCII")
    text = text.upper()
    parts = text.split(":")
    if parts[0] != "LW":
        raise FrameError("code", "it does not begin with LW:")
    if len(parts) < 2 or parts[1] != "D0":
        raise FrameError("schema", f"“{parts[1] if len(parts) > 1 else ''}” instead of D0")
    if len(parts) < 5:
        missing = ("join_eui", "dev_eui", "profile id")[len(parts) - 2]
        raise FrameError(missing, "missing")
    join_eui = _bytes("join_eui", parts[2], 8)
    dev_eui = _bytes("dev_eui", parts[3], 8)
    profile = _bytes("profile id", parts[4], 4)
    found: dict[str, str] = {}
    for part in parts[5:]:
        name = _NAMES.get(part[:1])
        if name is None:
            raise FrameError("extension", f"“{part[:20]}” begins with none of O, S, P, C")
        if name in found:
            raise FrameError(name, "there are two")
        if "checksum" in found:
            raise FrameError("checksum", "it is not the last part")
        found[name] = _allowed(name, part[1:])
    if "checksum" in found:
        _check(text, found["checksum"])
    return DeviceCode(
        join_eui=join_eui,
        dev_eui=dev_eui,
        vendor_id=int.from_bytes(profile[:2]),
        vendor_profile_id=int.from_bytes(profile[2:]),
        owner_token=found.get("owner token", ""),
        serial_number=found.get("serial number", ""),
        proprietary=found.get("proprietary", ""),
    )


def _check(text: str, given: str) -> None:
    body = text.rpartition(":")[0]
    expected = f"{_crc16(body.encode()):04X}"
    if given != expected:
        raise FrameError("checksum", f"{given[:8]} instead of {expected}: the code was misread or mistyped")


def _bytes(field: str, text: str, size: int) -> bytes:
    if len(text) != 2 * size or not all(sign in string.hexdigits for sign in text):
        raise FrameError(field, f"“{text[:40]}” is not {2 * size} hexadecimal digits")
    return bytes.fromhex(text)


def _hex(field: str, number: int) -> str:
    if not 0 <= number <= 0xFFFF:
        raise FrameError(field, f"{number} is not between 0 and 65535")
    return f"{number:04X}"


def _allowed(field: str, value: str) -> str:
    wrong = sorted(set(value) - _ALLOWED)
    if wrong:
        raise FrameError(field, f"the character “{wrong[0]}” is not allowed")
    return value


def _crc16(data: bytes) -> int:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
