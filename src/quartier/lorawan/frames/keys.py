"""Key derivation: sessions of 1.0.x and 1.1, join server keys of 1.1, multicast groups (TS005 §4.1, §5.1)."""

from __future__ import annotations

from .crypto import KEY_SIZE, SessionKeys, aes_decrypt, aes_encrypt, session_1_0
from .errors import check_length, check_range


def _derive(root: bytes, kind: int, *parts: bytes) -> bytes:
    return aes_encrypt(root, (bytes((kind,)) + b"".join(parts)).ljust(KEY_SIZE, b"\0"))


def _nonce(field: str, value: int, size: int) -> bytes:
    return check_range(field, value, 0, (1 << 8 * size) - 1).to_bytes(size, "little")


def derive_1_0(root: bytes, *, join_nonce: int, net_id: int, dev_nonce: int) -> SessionKeys:
    """Session keys of 1.0.x (TS001-1.0.4 §6.2.5); ``root`` is AppKey, or NwkKey of a 1.1 device in a 1.0.x network."""
    parts = (
        _nonce("join_nonce", join_nonce, 3),
        _nonce("net_id", net_id, 3),
        _nonce("dev_nonce", dev_nonce, 2),
    )
    return session_1_0(_derive(root, 1, *parts), _derive(root, 2, *parts))


def derive_1_1(
    nwk_key: bytes, app_key: bytes, *, join_nonce: int, join_eui: bytes, nonce: int
) -> SessionKeys:
    """Session keys of 1.1 (§6.2.5): ``nonce`` is the DevNonce, or the counter of the accepted rejoin request."""
    parts = (
        _nonce("join_nonce", join_nonce, 3),
        check_length("join_eui", join_eui, 8)[::-1],
        _nonce("nonce", nonce, 2),
    )
    return SessionKeys(
        f_nwk_s_int_key=_derive(nwk_key, 1, *parts),
        s_nwk_s_int_key=_derive(nwk_key, 3, *parts),
        nwk_s_enc_key=_derive(nwk_key, 4, *parts),
        app_s_key=_derive(app_key, 2, *parts),
        lorawan_1_1=True,
    )


def js_int_key(nwk_key: bytes, dev_eui: bytes) -> bytes:
    """JSIntKey: signs rejoin requests of type 1 and join accepts of 1.1 (LoRaWAN 1.1 §6.1.1.3)."""
    return _derive(nwk_key, 6, check_length("dev_eui", dev_eui, 8)[::-1])


def js_enc_key(nwk_key: bytes, dev_eui: bytes) -> bytes:
    """JSEncKey: encrypts join accepts that answer rejoin requests (LoRaWAN 1.1 §6.1.1.3)."""
    return _derive(nwk_key, 5, check_length("dev_eui", dev_eui, 8)[::-1])


def multicast_root_key_1_0(gen_app_key: bytes) -> bytes:
    """McRootKey of a 1.0.x device, from its GenAppKey."""
    return _derive(gen_app_key, 0)


def multicast_root_key_1_1(app_key: bytes) -> bytes:
    """McRootKey of a 1.1 device, from its AppKey."""
    return _derive(app_key, 0x20)


def multicast_ke_key(root: bytes) -> bytes:
    """McKEKey: encrypts the group key on its way to one device."""
    return _derive(root, 0)


def wrap_multicast_key(ke_key: bytes, group_key: bytes) -> bytes:
    """McKey_encrypted of McGroupSetupReq; the device gets the key by AES encryption."""
    return aes_decrypt(ke_key, check_length("group_key", group_key, KEY_SIZE))


def unwrap_multicast_key(ke_key: bytes, wrapped: bytes) -> bytes:
    """McKey, as a device gets it from McGroupSetupReq."""
    return aes_encrypt(ke_key, check_length("wrapped", wrapped, KEY_SIZE))


def multicast_session(group_key: bytes, group_address: int) -> SessionKeys:
    """The keys of a group's downlinks: McNetSKey and McAppSKey; groups are always signed as in 1.0.x (TS005 §4.1)."""
    address = _nonce("group_address", group_address, 4)
    return session_1_0(_derive(group_key, 2, address), _derive(group_key, 1, address))
