"""Radio keys at rest: AES-256-GCM under one data key, which is sealed with the installation's secret.

Opening a hundred thousand session keys must not take longer than reading their rows, which rules out a derivation or a
token per key. The owner's id goes into the seal, so that a row copied to another device opens nothing.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from quartier.cities.secrets import SecretError, seal, unseal

_NONCE_BYTES: Final = 12
ROOT: Final = b"root:"
SESSION: Final = b"session:"
GROUP: Final = b"group:"


class Keyring:
    """Seals and opens keys. ``purpose`` and ``owner`` (an EUI or address) must be the same both times."""

    def __init__(self, data_key: bytes) -> None:
        self._cipher = AESGCM(data_key)

    @classmethod
    def of(cls, sealed: str) -> Keyring:
        """The keyring behind a row of ``lorawan_datakey``. Raises SecretError."""
        return cls(bytes.fromhex(unseal(sealed)["key"]))

    @staticmethod
    def make() -> str:
        """A new data key, sealed."""
        return seal({"key": os.urandom(32).hex()})

    def seal(self, keys: bytes, purpose: bytes, owner: bytes) -> bytes:
        """Nonce, ciphertext and tag."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, keys, purpose + owner)

    def open(self, sealed: bytes, purpose: bytes, owner: bytes) -> bytes:
        """The keys. Raises SecretError where they were sealed for something else, or with another key."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose + owner)
        except (InvalidTag, ValueError):
            raise SecretError(
                "a radio key cannot be opened: sealed with another key, or for another device"
            ) from None
