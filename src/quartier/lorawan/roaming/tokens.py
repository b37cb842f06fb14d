"""Uplink tokens: the right to answer through the gateway that heard a frame, for one peer, device and short time.

A peer sees an opaque value. It holds what the gateway needs to answer (so nothing has to be remembered here), encrypted
because a gateway's identity may be private, and authenticated because a peer must not be able to make one up.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from quartier.lorawan.types import Reception

WINDOW_S: Final = 30.0
"""For so long an uplink may be answered (class A); RX2 of a join opens after 6 s."""
CLASS_C_S: Final = 24 * 3600.0
"""For so long the gateway may be used for class C downlinks to the same device."""
MAX_TOKEN_BYTES: Final = 1024
_VERSION: Final = 1
_MAC_BYTES: Final = 16
_HEAD: Final = struct.Struct(">B16s")


class TokenRefused(StrEnum):
    """Why a token is not honoured; counted under these names."""

    FORGED = "forged"
    EXPIRED = "expired"
    FOREIGN = "foreign"
    DEVICE = "device"


class TokenError(Exception):
    """A token that is not honoured."""

    def __init__(self, reason: TokenRefused) -> None:
        self.reason = reason
        super().__init__(f"uplink token: {reason.value}")


class _Content(msgspec.Struct, array_like=True, gc=False):
    receiver: str
    gateway: bytes
    device: bytes
    at: float
    monotonic: float
    frequency_hz: int
    data_rate: int
    snr_db: float
    peer: str
    context: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a token allows: to send by ``gateway`` (of ``peer``'s network, or ours where empty) to ``device``."""

    gateway: bytes
    device: bytes
    at: float
    received_monotonic: float
    frequency_hz: int
    data_rate: int
    snr_db: float
    peer: str
    context: Mapping[str, Any] = field(default_factory=dict)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Content).decode


class Tokens:
    """Issues and opens tokens with keys that never leave the installation."""

    def __init__(self, secret: str) -> None:
        keys = HKDF(
            algorithm=hashes.SHA256(), length=48, salt=None, info=b"quartier lorawan uplink tokens"
        ).derive(secret.encode())
        self._cipher_key, self._mac_key = keys[:16], keys[16:]

    def issue(self, reception: Reception, *, receiver: str, device: bytes, now: float) -> bytes:
        """A token for peer ``receiver`` to answer ``reception`` of ``device`` (DevAddr or DevEUI, as bytes).

        ``now`` is the time of day in seconds since 1970.
        """
        content = _encode(
            _Content(
                receiver,
                reception.gateway,
                device,
                now,
                reception.received_monotonic,
                reception.frequency_hz,
                reception.data_rate,
                reception.snr_db,
                reception.peer,
                dict(reception.context),
            )
        )
        nonce = os.urandom(16)
        body = _HEAD.pack(_VERSION, nonce) + self._crypt(nonce, content)
        return body + self._mac(body)

    def open(
        self, token: bytes, *, receiver: str, device: bytes | None, now: float, window_s: float = WINDOW_S
    ) -> Grant:
        """What ``receiver``'s token allows. ``device`` None accepts any (a join-accept names none).

        Raises TokenError where it was not issued by us to this peer for this device, or is older than ``window_s``.
        """
        if not _HEAD.size + _MAC_BYTES < len(token) <= MAX_TOKEN_BYTES:
            raise TokenError(TokenRefused.FORGED)
        body, mac = token[:-_MAC_BYTES], token[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            raise TokenError(TokenRefused.FORGED)
        version, nonce = _HEAD.unpack_from(body)
        if version != _VERSION:
            raise TokenError(TokenRefused.FORGED)
        content = _decode(self._crypt(nonce, body[_HEAD.size :]))
        if content.receiver != receiver:
            raise TokenError(TokenRefused.FOREIGN)
        if not -5.0 <= now - content.at <= window_s:
            raise TokenError(TokenRefused.EXPIRED)
        if device is not None and device != content.device:
            raise TokenError(TokenRefused.DEVICE)
        return Grant(
            gateway=content.gateway,
            device=content.device,
            at=content.at,
            received_monotonic=content.monotonic,
            frequency_hz=content.frequency_hz,
            data_rate=content.data_rate,
            snr_db=content.snr_db,
            peer=content.peer,
            context=content.context,
        )

    def gateway_id(self, reception: Reception) -> bytes:
        """GWInfo.ID, 32 bits (TS002 1.0 table 21): of a private gateway a number that says nothing about its EUI."""
        if not reception.private:
            return reception.gateway[-4:]
        return hmac.new(self._mac_key, b"gateway" + reception.gateway, hashlib.sha256).digest()[:4]

    def _crypt(self, nonce: bytes, data: bytes) -> bytes:
        context = Cipher(algorithms.AES(self._cipher_key), modes.CTR(nonce)).encryptor()
        return context.update(data) + context.finalize()

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._mac_key, body, hashlib.sha256).digest()[:_MAC_BYTES]
