"""Credentials at rest: encrypted with a key derived from the installation's secret.

A database dump alone must not open another city's server, so credentials are stored as Fernet tokens
(AES-128-CBC with HMAC-SHA256) and never leave through an interface.
"""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from quartier.config import config


class SecretError(Exception):
    """A stored credential cannot be opened with this installation's secret."""


@lru_cache(maxsize=4)
def _fernet(secret: str) -> Fernet:
    derived = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"quartier credentials").derive(
        secret.encode()
    )
    return Fernet(base64.urlsafe_b64encode(derived))


def seal(value: dict[str, Any]) -> str:
    """Encrypt a small JSON object."""
    return _fernet(config().secret()).encrypt(json.dumps(value).encode()).decode()


def unseal(sealed: str) -> dict[str, Any]:
    """Decrypt what :func:`seal` made; an empty string is an empty object.

    Raises SecretError where the secret is another one.
    """
    if not sealed:
        return {}
    try:
        opened: dict[str, Any] = json.loads(_fernet(config().secret()).decrypt(sealed.encode()))
    except InvalidToken:
        raise SecretError("stored credentials were sealed with another secret key") from None
    return opened
