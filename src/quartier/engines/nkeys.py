"""NATS' keys and the tokens signed with them, as far as the sign-in of MQTT clients needs them.

An nkey is an Ed25519 key in base32 with a prefix byte and a CRC-16; a NATS JWT is signed with one (``ed25519-nkey``).
The library ``nkeys`` would bring a second implementation of Ed25519 along; ``cryptography`` is here anyway.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# nats-io/nkeys: the first letter of the encoded key says what it belongs to; account keys begin with A.
_ACCOUNT: Final = 0
_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}


class TokenFormatError(ValueError):
    """A text is no JSON Web Token."""


def _encode(prefix: int, raw: bytes) -> str:
    body = bytes([prefix]) + raw
    # CRC-16/XMODEM, little-endian
    return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode().rstrip("=")


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class Issuer:
    """An account key that signs what other people may do on the bus."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = _encode(_ACCOUNT, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @classmethod
    def of(cls, folder: Path) -> Issuer:
        """The issuer of an installation; made on first use and kept readable by its owner only."""
        path = folder / "nats-issuer"
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            folder.mkdir(parents=True, exist_ok=True)
            raw = Ed25519PrivateKey.generate().private_bytes_raw()
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                raw = path.read_bytes()
            else:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(raw)
        return cls(Ed25519PrivateKey.from_private_bytes(raw))

    def sign(self, claims: dict[str, Any]) -> str:
        """A JSON Web Token with these claims and this issuer."""
        body = b".".join(
            _base64url(json.dumps(part).encode()) for part in (_HEADER, {"iss": self.public_key, **claims})
        )
        return (body + b"." + _base64url(self._key.sign(body))).decode()


def claims_of(token: bytes) -> dict[str, Any]:
    """The claims in a token, unchecked: only for tokens that cannot come from anybody but the server itself.

    Raises TokenFormatError.
    """
    try:
        _, middle, _ = token.split(b".")
        found = json.loads(base64.urlsafe_b64decode(middle + b"=" * (-len(middle) % 4)))
    except (ValueError, binascii.Error) as error:
        raise TokenFormatError(str(error)) from None
    if not isinstance(found, dict):
        raise TokenFormatError("claims are no object")
    return found
