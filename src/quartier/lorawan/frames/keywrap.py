"""AES key wrap (RFC 3394): how networks hand keys to each other (Backend Interfaces, KeyEnvelope)."""

from __future__ import annotations

from cryptography.hazmat.primitives import keywrap

from .errors import FrameError, check_length


def wrap(kek: bytes, key: bytes) -> bytes:
    """``key`` (a multiple of 8, at least 16 bytes) wrapped: 8 bytes longer. Raises FrameError for a wrong length."""
    check_length("kek", kek, 16, 24, 32)
    if len(key) < 16 or len(key) % 8:
        raise FrameError("key", f"{len(key)} bytes instead of a multiple of 8 from 16 on")
    return keywrap.aes_key_wrap(kek, key)


def unwrap(kek: bytes, wrapped: bytes) -> bytes:
    """The key. Raises FrameError for a wrong length, and if it was not wrapped with this KEK."""
    check_length("kek", kek, 16, 24, 32)
    if len(wrapped) < 24 or len(wrapped) % 8:
        raise FrameError("wrapped key", f"{len(wrapped)} bytes instead of a multiple of 8 from 24 on")
    try:
        return keywrap.aes_key_unwrap(kek, wrapped)
    except keywrap.InvalidUnwrap:
        raise FrameError("wrapped key", "it was not wrapped with this key encryption key") from None
