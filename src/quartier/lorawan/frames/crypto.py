"""MIC and encryption of frames (TS001-1.0.4 §4.3.3, §4.4, §6.2; LoRaWAN 1.1 §4.3, §4.4, §6.2, with the FOpts errata).

A key's AES schedule is made once and kept for the keys used last, because a network server tries many keys per frame:
what is left per MIC is one or two microseconds. Counters are the full 32 bits. ``phy`` means a whole PHYPayload,
``message`` one without its MIC.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from hmac import compare_digest

import msgspec
from cryptography.hazmat.primitives import cmac
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from .errors import FrameError, check_length
from .phy import ACK, MIC_SIZE, Data, EncryptedJoinAccept, JoinAccept, JoinRequest, RejoinRequest

KEY_SIZE = 16
UP, DOWN = 0, 1
JOIN_REQUEST = 0xFF
"""JoinReqType of an ordinary join request (LoRaWAN 1.1 §6.2.3); rejoin requests have their own type."""

# The keys of some thousand devices that are heard again and again; about 1 kB each.
_KEPT_KEYS = 8192
_MIC_BLOCK = struct.Struct("<BHBBB4sIxB")
_CIPHER_BLOCK = struct.Struct("<BxxxBB4sIxB")


class SessionKeys(msgspec.Struct, frozen=True, gc=False):
    """The keys of one session. In a 1.0.x session the three network keys are all the NwkSKey: see ``session_1_0``."""

    f_nwk_s_int_key: bytes
    s_nwk_s_int_key: bytes
    nwk_s_enc_key: bytes
    app_s_key: bytes
    lorawan_1_1: bool = False

    def __repr__(self) -> str:
        """Without the keys: they must not get into a log."""
        return f"SessionKeys(lorawan_1_1={self.lorawan_1_1})"


def session_1_0(nwk_s_key: bytes, app_s_key: bytes) -> SessionKeys:
    """The keys of a 1.0.x session, ABP or as derived. Raises FrameError for a wrong length."""
    check_length("nwk_s_key", nwk_s_key, KEY_SIZE)
    return SessionKeys(nwk_s_key, nwk_s_key, nwk_s_key, check_length("app_s_key", app_s_key, KEY_SIZE))


@lru_cache(_KEPT_KEYS)
def _cmac(key: bytes) -> cmac.CMAC:
    return cmac.CMAC(algorithms.AES(check_length("key", key, KEY_SIZE)))


@lru_cache(_KEPT_KEYS)
def _encryptor(key: bytes) -> CipherContext:
    # ECB on single blocks is how LoRaWAN builds its key stream and derives its keys.
    return Cipher(algorithms.AES(check_length("key", key, KEY_SIZE)), modes.ECB()).encryptor()  # noqa: S305


def aes_cmac(key: bytes, data: bytes) -> bytes:
    """RFC 4493, 16 bytes. Raises FrameError for a wrong length of the key."""
    context = _cmac(key).copy()
    context.update(data)
    return context.finalize()


def aes_encrypt(key: bytes, blocks: bytes) -> bytes:
    """AES-128 of each block of 16 bytes. Raises FrameError for a wrong length of the key."""
    return _encryptor(key).update(blocks)


def aes_decrypt(key: bytes, blocks: bytes) -> bytes:
    """The inverse of ``aes_encrypt``. Raises FrameError for a wrong length of the key."""
    return Cipher(algorithms.AES(check_length("key", key, KEY_SIZE)), modes.ECB()).decryptor().update(blocks)  # noqa: S305


# Data frames: MIC


def mic_half(
    key: bytes,
    message: bytes,
    counter: int,
    *,
    direction: int = UP,
    confirmed_counter: int = 0,
    data_rate: int = 0,
    channel: int = 0,
) -> bytes:
    """The CMAC over B0 or B1 and the message, cut to 4 bytes: the whole MIC in 1.0.x, its parts in 1.1.

    B0 of an uplink is B1 with nothing set (LoRaWAN 1.1 §4.4).
    """
    context = _cmac(key).copy()
    context.update(
        _MIC_BLOCK.pack(
            0x49, confirmed_counter, data_rate, channel, direction, message[1:5], counter, len(message)
        )
        + message
    )
    return context.finalize()[:MIC_SIZE]


def uplink_mic(
    keys: SessionKeys,
    message: bytes,
    counter: int,
    *,
    confirmed_counter: int = 0,
    data_rate: int = 0,
    channel: int = 0,
) -> bytes:
    """The MIC of an uplink. What is named applies to 1.1 only.

    ``confirmed_counter`` is the counter of the confirmed downlink that the frame acknowledges; it counts only if the
    frame's ACK bit is set. ``data_rate`` and ``channel`` are the indexes in use for the transmission.
    """
    if not keys.lorawan_1_1:
        return mic_half(keys.f_nwk_s_int_key, message, counter)
    acknowledged = confirmed_counter & 0xFFFF if message[5] & ACK else 0
    return (
        mic_half(
            keys.s_nwk_s_int_key,
            message,
            counter,
            confirmed_counter=acknowledged,
            data_rate=data_rate,
            channel=channel,
        )[:2]
        + mic_half(keys.f_nwk_s_int_key, message, counter)[:2]
    )


def downlink_mic(keys: SessionKeys, message: bytes, counter: int, *, confirmed_counter: int = 0) -> bytes:
    """The MIC of a downlink; ``confirmed_counter`` is that of the confirmed uplink that it acknowledges (1.1 only)."""
    acknowledged = confirmed_counter & 0xFFFF if keys.lorawan_1_1 and message[5] & ACK else 0
    return mic_half(keys.s_nwk_s_int_key, message, counter, direction=DOWN, confirmed_counter=acknowledged)


def uplink_fits(
    keys: SessionKeys,
    phy: bytes,
    counter: int,
    *,
    confirmed_counter: int = 0,
    data_rate: int = 0,
    channel: int | None = 0,
) -> bool:
    """Whether the MIC of a received uplink is right for these keys and this counter.

    A 1.1 frame whose channel index is not known (``None``) is checked against all 16 channels that a device may have,
    after its other half has fitted.
    """
    message, mic = phy[:-MIC_SIZE], phy[-MIC_SIZE:]
    half = mic_half(keys.f_nwk_s_int_key, message, counter)
    if not keys.lorawan_1_1:
        return compare_digest(half, mic)
    if not compare_digest(half[:2], mic[2:]):
        return False
    acknowledged = confirmed_counter & 0xFFFF if message[5] & ACK else 0
    return any(
        compare_digest(
            mic_half(
                keys.s_nwk_s_int_key,
                message,
                counter,
                confirmed_counter=acknowledged,
                data_rate=data_rate,
                channel=index,
            )[:2],
            mic[:2],
        )
        for index in (range(16) if channel is None else (channel,))
    )


def forwarder_fits(f_nwk_s_int_key: bytes, phy: bytes, counter: int, *, lorawan_1_1: bool) -> bool:
    """Whether an uplink fits the one key that a forwarding network may have: the whole MIC in 1.0.x, half in 1.1."""
    half = mic_half(f_nwk_s_int_key, phy[:-MIC_SIZE], counter)
    return compare_digest(half[:2], phy[-2:]) if lorawan_1_1 else compare_digest(half, phy[-MIC_SIZE:])


def downlink_fits(keys: SessionKeys, phy: bytes, counter: int, *, confirmed_counter: int = 0) -> bool:
    """Whether the MIC of a received downlink is right for these keys and this counter."""
    expected = downlink_mic(keys, phy[:-MIC_SIZE], counter, confirmed_counter=confirmed_counter)
    return compare_digest(expected, phy[-MIC_SIZE:])


# Data frames: encryption


def crypt_payload(key: bytes, payload: bytes, dev_addr: int, counter: int, *, direction: int) -> bytes:
    """FRMPayload encrypted or decrypted, which is the same (TS001-1.0.4 §4.3.3); by AppSKey, on port 0 NwkSEncKey."""
    size = len(payload)
    if not size:
        return b""
    address = dev_addr.to_bytes(4, "little")
    blocks = [
        _CIPHER_BLOCK.pack(1, 0, direction, address, counter, index)
        for index in range(1, (size + 15) // 16 + 1)
    ]
    stream = _encryptor(key).update(b"".join(blocks))
    return _xor(payload, stream[:size])


def crypt_options(
    nwk_s_enc_key: bytes,
    options: bytes,
    dev_addr: int,
    counter: int,
    *,
    direction: int,
    application: bool = False,
) -> bytes:
    """FOpts encrypted or decrypted, only in 1.1. ``application``: of a downlink numbered by AFCntDown."""
    if not options:
        return b""
    block = _CIPHER_BLOCK.pack(
        1, 2 if application else 1, direction, dev_addr.to_bytes(4, "little"), counter, 1
    )
    return _xor(options, _encryptor(nwk_s_enc_key).update(block)[: len(options)])


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left) ^ int.from_bytes(right)).to_bytes(len(left))


def open_data(keys: SessionKeys, frame: Data, counter: int) -> Data:
    """``frame`` with payload and options in the clear; the MIC is not looked at."""
    return _crypt(keys, frame, counter)


def seal_data(
    keys: SessionKeys,
    frame: Data,
    counter: int,
    *,
    confirmed_counter: int = 0,
    data_rate: int = 0,
    channel: int = 0,
) -> bytes:
    """The PHYPayload of a frame given in the clear. Raises FrameError for a field out of its range.

    The frame's own ``frame_counter`` and ``mic`` are replaced. What is named applies to 1.1 only, see ``uplink_mic``.
    """
    sealed = msgspec.structs.replace(_crypt(keys, frame, counter), frame_counter=counter & 0xFFFF)
    message = sealed.message()
    if sealed.uplink:
        return message + uplink_mic(
            keys, message, counter, confirmed_counter=confirmed_counter, data_rate=data_rate, channel=channel
        )
    return message + downlink_mic(keys, message, counter, confirmed_counter=confirmed_counter)


def _crypt(keys: SessionKeys, frame: Data, counter: int) -> Data:
    direction = UP if frame.uplink else DOWN
    payload, options = frame.payload, frame.options
    if payload:
        key = keys.app_s_key if frame.port else keys.nwk_s_enc_key
        payload = crypt_payload(key, payload, frame.dev_addr, counter, direction=direction)
    if options and keys.lorawan_1_1:
        options = crypt_options(
            keys.nwk_s_enc_key,
            options,
            frame.dev_addr,
            counter,
            direction=direction,
            application=direction == DOWN and bool(frame.port),
        )
    elif not payload:
        return frame
    return msgspec.structs.replace(frame, payload=payload, options=options)


# Joining


def join_mic(key: bytes, frame: JoinRequest | RejoinRequest) -> bytes:
    """The MIC of a request.

    A join: by AppKey (1.0.x) or NwkKey (1.1). A rejoin: by SNwkSIntKey for types 0 and 2, by JSIntKey for type 1.
    """
    return aes_cmac(key, frame.message())[:MIC_SIZE]


def join_fits(key: bytes, frame: JoinRequest | RejoinRequest) -> bool:
    """Whether the MIC of a request is right for this key."""
    return compare_digest(join_mic(key, frame), frame.mic)


def seal_request(key: bytes, frame: JoinRequest | RejoinRequest) -> bytes:
    """The PHYPayload of a request with its MIC."""
    return frame.message() + join_mic(key, frame)


def join_accept_mic(
    key: bytes,
    accept: JoinAccept,
    *,
    join_eui: bytes = b"",
    nonce: int = 0,
    request_type: int = JOIN_REQUEST,
) -> bytes:
    """The MIC of a join accept: by AppKey or NwkKey without OptNeg, by JSIntKey over the request too with it.

    ``nonce`` is the request's DevNonce, or the counter of a rejoin request of ``request_type`` (LoRaWAN 1.1 §6.2.3).
    """
    return aes_cmac(key, _accept_prefix(accept, join_eui, nonce, request_type) + accept.message())[:MIC_SIZE]


def _accept_prefix(accept: JoinAccept, join_eui: bytes, nonce: int, request_type: int) -> bytes:
    if not accept.opt_neg:
        return b""
    return b"%c%b%b" % (
        request_type,
        check_length("join_eui", join_eui, 8)[::-1],
        nonce.to_bytes(2, "little"),
    )


def seal_join_accept(
    mic_key: bytes,
    encryption_key: bytes,
    accept: JoinAccept,
    *,
    join_eui: bytes = b"",
    nonce: int = 0,
    request_type: int = JOIN_REQUEST,
) -> bytes:
    """The PHYPayload of a join accept.

    1.0.x: both keys are AppKey. 1.1: ``mic_key`` is JSIntKey (NwkKey without OptNeg); ``encryption_key`` is NwkKey for
    a join and JSEncKey for a rejoin. Encrypted by AES decryption: a device then needs only the encrypting half of AES.
    """
    mic = join_accept_mic(mic_key, accept, join_eui=join_eui, nonce=nonce, request_type=request_type)
    message = accept.message()
    return message[:1] + aes_decrypt(encryption_key, message[1:] + mic)


def open_join_accept(
    mic_key: bytes,
    encryption_key: bytes,
    frame: EncryptedJoinAccept,
    *,
    join_eui: bytes = b"",
    nonce: int = 0,
    request_type: int = JOIN_REQUEST,
    js_int_key: bytes | None = None,
) -> JoinAccept:
    """The content of a join accept. Raises FrameError("mic") if the keys do not fit.

    ``js_int_key`` is what a 1.1 device gives in addition: it is used instead of ``mic_key`` where OptNeg is set.
    """
    clear = b"\x20" + aes_encrypt(encryption_key, check_length("join accept", frame.ciphertext, 16, 32))
    accept = JoinAccept.parse(clear[:-MIC_SIZE])
    key = js_int_key if js_int_key is not None and accept.opt_neg else mic_key
    # Over the bytes that came: reserved bits count for the MIC.
    signed = _accept_prefix(accept, join_eui, nonce, request_type) + clear[:-MIC_SIZE]
    if not compare_digest(aes_cmac(key, signed)[:MIC_SIZE], clear[-MIC_SIZE:]):
        raise FrameError("mic", "the join accept does not fit the keys")
    return accept
