"""Uplink tokens: only ours, only for this peer and device, only for a while."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.roaming.tokens import CLASS_C_S, WINDOW_S, TokenError, TokenRefused, Tokens
from quartier.lorawan.types import Reception

TOKENS = Tokens("a secret of this installation")
DEVICE = bytes.fromhex("00e27d66")
NOW = 1_800_000_000.0
RECEPTION = Reception(
    gateway=bytes.fromhex("b827ebfffe000001"),
    phy=b"\x40",
    frequency_hz=868_100_000,
    data_rate=5,
    received_at=datetime.now(UTC),
    received_monotonic=1234.5,
    rssi_dbm=-90,
    snr_db=7.25,
    context={"tmst": 4_294_967_295, "rctx": b"\x01\x02", "xtime": 12666374223417121},
    peer="hamm",
    token="00ff",
)
TOKEN = TOKENS.issue(RECEPTION, receiver="schwerte", device=DEVICE, now=NOW)


def refusal(token: bytes, *, receiver: str = "schwerte", device: bytes = DEVICE, now: float = NOW) -> str:
    with pytest.raises(TokenError) as refused:
        TOKENS.open(token, receiver=receiver, device=device, now=now)
    return refused.value.reason


def test_token_brings_back_what_the_gateway_needs() -> None:
    grant = TOKENS.open(TOKEN, receiver="schwerte", device=DEVICE, now=NOW + 5)
    assert grant.gateway == RECEPTION.gateway
    assert grant.context == RECEPTION.context
    assert (grant.received_monotonic, grant.snr_db, grant.peer) == (1234.5, 7.25, "hamm")
    assert (grant.frequency_hz, grant.data_rate) == (868_100_000, 5)


def test_token_shows_the_peer_nothing() -> None:
    assert RECEPTION.gateway not in TOKEN
    assert RECEPTION.gateway[-4:] not in TOKEN
    assert b"hamm" not in TOKEN
    assert TOKENS.issue(RECEPTION, receiver="schwerte", device=DEVICE, now=NOW) != TOKEN


@given(st.integers(0, len(TOKEN) * 8 - 1))
def test_any_changed_bit_is_a_forgery(bit: int) -> None:
    changed = bytearray(TOKEN)
    changed[bit // 8] ^= 1 << bit % 8
    assert refusal(bytes(changed)) == TokenRefused.FORGED


@given(st.binary(max_size=200))
def test_made_up_tokens_are_forgeries(token: bytes) -> None:
    assert refusal(token) == TokenRefused.FORGED


def test_tokens_of_another_installation_are_forgeries() -> None:
    other = Tokens("another secret").issue(RECEPTION, receiver="schwerte", device=DEVICE, now=NOW)
    assert refusal(other) == TokenRefused.FORGED


def test_tokens_end() -> None:
    TOKENS.open(TOKEN, receiver="schwerte", device=DEVICE, now=NOW + WINDOW_S)
    assert refusal(TOKEN, now=NOW + WINDOW_S + 0.001) == TokenRefused.EXPIRED
    assert refusal(TOKEN, now=NOW - 60) == TokenRefused.EXPIRED
    TOKENS.open(TOKEN, receiver="schwerte", device=DEVICE, now=NOW + 3600, window_s=CLASS_C_S)


def test_tokens_are_for_one_peer_and_one_device() -> None:
    assert refusal(TOKEN, receiver="hamm") == TokenRefused.FOREIGN
    assert refusal(TOKEN, device=bytes(4)) == TokenRefused.DEVICE
    TOKENS.open(TOKEN, receiver="schwerte", device=None, now=NOW)


def test_private_gateway_has_an_id_that_is_not_its_eui() -> None:
    private = msgspec.structs.replace(RECEPTION, private=True)
    assert TOKENS.gateway_id(RECEPTION) == RECEPTION.gateway[-4:]
    assert TOKENS.gateway_id(private) not in (RECEPTION.gateway[-4:], bytes(4))
    assert TOKENS.gateway_id(private) == TOKENS.gateway_id(private)


def test_issuing_and_opening_are_fast() -> None:
    began = time.perf_counter()
    for _ in range(1000):
        TOKENS.open(
            TOKENS.issue(RECEPTION, receiver="schwerte", device=DEVICE, now=NOW),
            receiver="schwerte",
            device=DEVICE,
            now=NOW,
        )
    assert time.perf_counter() - began < 2
