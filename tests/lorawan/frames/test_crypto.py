"""MIC, encryption and keys against answers from elsewhere; ``test_lora_packet`` has the breadth."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.frames import FrameError, crypto, keys, keywrap, phy
from quartier.lorawan.frames.phy import Data, FrameType


def h(text: str) -> bytes:
    return bytes.fromhex(text)


def test_downlink_of_chirpstacks_roaming_test() -> None:
    """ChirpStack v4.19, ``chirpstack/src/test/class_a_pr_test.rs``; also confirmed there with lora-packet."""
    session = crypto.session_1_0(bytes(range(1, 17)), bytes(range(16, 0, -1)))
    frame = Data(FrameType.UNCONFIRMED_DOWN, 0x0A000000, 0, phy.ADR, port=10, payload=h("01020304"))
    sealed = crypto.seal_data(session, frame, 5)
    assert sealed == h("600000000a8005000a54972baa8b983cd1")
    assert crypto.downlink_fits(session, sealed, 5)
    read = phy.parse(sealed)
    assert isinstance(read, Data)
    assert crypto.open_data(session, read, 5).payload == h("01020304")


def test_uplink_of_lora_packets_readme() -> None:
    session = crypto.session_1_0(h("44024241ed4ce9a68c6a8bc055233fd3"), h("ec925802ae430ca77fd3dd73cb2cc588"))
    whole = h("40f17dbe4900020001954378762b11ff0d")
    assert crypto.uplink_fits(session, whole, 2)
    frame = phy.parse(whole)
    assert isinstance(frame, Data)
    assert crypto.open_data(session, frame, 2).payload == b"test"


@pytest.mark.parametrize(
    ("message", "mac"),
    [
        ("", "bb1d6929e95937287fa37d129b756746"),
        ("6bc1bee22e409f96e93d7e117393172a", "070a16b46b4d4144f79bdd9dd04a287c"),
        (
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411",
            "dfa66747de9ae63030ca32611497c827",
        ),
    ],
)
def test_cmac_of_rfc_4493(message: str, mac: str) -> None:
    assert crypto.aes_cmac(h("2b7e151628aed2a6abf7158809cf4f3c"), h(message)) == h(mac)


@pytest.mark.parametrize(
    ("kek", "key", "wrapped"),
    [
        ("000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff",
         "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5"),
        ("000102030405060708090a0b0c0d0e0f1011121314151617", "00112233445566778899aabbccddeeff",
         "96778b25ae6ca435f92b5b97c050aed2468ab8a17ad84e5d"),
        ("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "00112233445566778899aabbccddeeff",
         "64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7"),
        ("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
         "00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f",
         "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"),
    ],
)  # fmt: skip
def test_key_wrap_of_rfc_3394(kek: str, key: str, wrapped: str) -> None:
    assert keywrap.wrap(h(kek), h(key)) == h(wrapped)
    assert keywrap.unwrap(h(kek), h(wrapped)) == h(key)


def test_key_wrap_refuses_what_it_cannot_wrap_or_unwrap() -> None:
    wrapped = keywrap.wrap(bytes(16), bytes(16))
    refused = []
    for function, key, data in (
        (keywrap.wrap, bytes(15), bytes(16)),
        (keywrap.wrap, bytes(16), bytes(15)),
        (keywrap.unwrap, bytes(16), bytes(23)),
        (keywrap.unwrap, b"\1" + bytes(15), wrapped),
    ):
        with pytest.raises(FrameError) as raised:
            function(key, data)
        refused.append(str(raised.value))
    assert refused == [
        "kek: 15 bytes instead of 16 or 24 or 32",
        "key: 15 bytes instead of a multiple of 8 from 16 on",
        "wrapped key: 23 bytes instead of a multiple of 8 from 24 on",
        "wrapped key: it was not wrapped with this key encryption key",
    ]


def test_multicast_keys_of_chirpstack() -> None:
    """ChirpStack, tests in ``lrwn/src/applayer/multicastsetup/v2.rs``."""
    rest = h("02030405060708090a0b0c0d0e0f10")
    assert keys.multicast_root_key_1_0(b"\3" + rest) == h("55344e82570eaec8bf03b99962d1f445")
    assert keys.multicast_root_key_1_1(b"\2" + rest) == h("264fd859583fcc670241ac071cc9f5bb")
    assert keys.multicast_ke_key(b"\4" + rest) == h("9083bebf704257883160dbfcde33ad71")
    session = keys.multicast_session(b"\1" + rest, 0x01020304)
    assert session == crypto.session_1_0(
        h("c3f6b388bad6c000b23291ad52c11c7b"), h("95cb4518ee375606735bbacbdce837fa")
    )
    wrapped = keys.wrap_multicast_key(b"\1" * 16, b"\2" * 16)
    assert wrapped == h("3437d6e231d702419b51b494727 1b611".replace(" ", ""))
    assert keys.unwrap_multicast_key(b"\1" * 16, wrapped) == b"\2" * 16


def test_keys_are_not_shown() -> None:
    session = crypto.session_1_0(b"\xaa" * 16, b"\xbb" * 16)
    assert repr(session) == str(session) == "SessionKeys(lorawan_1_1=False)"


def test_keys_of_a_wrong_length_are_refused() -> None:
    with pytest.raises(FrameError, match="nwk_s_key: 15 bytes instead of 16"):
        crypto.session_1_0(bytes(15), bytes(16))
    with pytest.raises(FrameError, match="key: 5 bytes instead of 16"):
        crypto.aes_cmac(b"short", b"")
    with pytest.raises(FrameError, match="join_eui: 0 bytes instead of 8"):
        keys.derive_1_1(bytes(16), bytes(16), join_nonce=1, join_eui=b"", nonce=1)
    with pytest.raises(FrameError, match="dev_nonce: 65536 is not between 0 and 65535"):
        keys.derive_1_0(bytes(16), join_nonce=1, net_id=0, dev_nonce=65536)


SESSION_1_1 = crypto.SessionKeys(b"\1" * 16, b"\2" * 16, b"\3" * 16, b"\4" * 16, lorawan_1_1=True)


def test_1_1_uplink_fits_only_with_its_channel_data_rate_and_acknowledged_counter() -> None:
    frame = Data(FrameType.UNCONFIRMED_UP, 1, 0, phy.ACK, port=1, payload=b"x")
    sealed = crypto.seal_data(SESSION_1_1, frame, 70000, confirmed_counter=9, data_rate=5, channel=3)
    facts = {"confirmed_counter": 9, "data_rate": 5, "channel": 3}
    assert crypto.uplink_fits(SESSION_1_1, sealed, 70000, **facts)
    for wrong in ({"confirmed_counter": 10}, {"data_rate": 4}, {"channel": 2}):
        assert not crypto.uplink_fits(SESSION_1_1, sealed, 70000, **(facts | wrong))
    assert crypto.uplink_fits(SESSION_1_1, sealed, 70000, confirmed_counter=9, data_rate=5, channel=None)
    # The forwarding network's half does not depend on them.
    assert crypto.forwarder_fits(SESSION_1_1.f_nwk_s_int_key, sealed, 70000, lorawan_1_1=True)
    assert not crypto.forwarder_fits(SESSION_1_1.s_nwk_s_int_key, sealed, 70000, lorawan_1_1=True)


def test_1_1_downlink_options_depend_on_which_counter_numbers_them() -> None:
    """Errata FOpts encryption: NFCntDown and AFCntDown of the same number must not share a key stream."""
    sealed = []
    for port, payload in ((None, b""), (1, b"")):
        frame = Data(FrameType.UNCONFIRMED_DOWN, 1, 0, options=b"\x06", port=port, payload=payload)
        whole = crypto.seal_data(SESSION_1_1, frame, 7)
        read = phy.parse(whole)
        assert isinstance(read, Data)
        assert crypto.open_data(SESSION_1_1, read, 7).options == b"\x06"
        sealed.append(read.options)
    assert sealed[0] != sealed[1]


@pytest.mark.parametrize("request_type", [0, 1, 2])
def test_accept_of_a_rejoin_is_bound_to_the_request(request_type: int) -> None:
    nwk_key, dev_eui, join_eui = b"\5" * 16, bytes(range(8)), bytes(range(8, 16))
    int_key, enc_key = keys.js_int_key(nwk_key, dev_eui), keys.js_enc_key(nwk_key, dev_eui)
    accept = phy.JoinAccept(1, 2, 3, opt_neg=True)
    sealed = crypto.seal_join_accept(
        int_key, enc_key, accept, join_eui=join_eui, nonce=77, request_type=request_type
    )
    frame = phy.parse(sealed)
    assert isinstance(frame, phy.EncryptedJoinAccept)
    right = {"join_eui": join_eui, "nonce": 77, "request_type": request_type}
    assert crypto.open_join_accept(int_key, enc_key, frame, **right) == accept  # type: ignore[arg-type]
    for wrong in ({"nonce": 78}, {"join_eui": bytes(8)}, {"request_type": crypto.JOIN_REQUEST}):
        with pytest.raises(FrameError, match="mic: the join accept does not fit the keys"):
            crypto.open_join_accept(int_key, enc_key, frame, **(right | wrong))  # type: ignore[arg-type]


@given(st.binary(min_size=17, max_size=33).filter(lambda whole: len(whole) in (17, 33)))
def test_any_join_accept_is_opened_or_refused(whole: bytes) -> None:
    frame = phy.EncryptedJoinAccept(whole[1:])
    with pytest.raises(FrameError, match="mic"):
        crypto.open_join_accept(bytes(16), bytes(16), frame, join_eui=bytes(8), js_int_key=bytes(16))


DATA = st.builds(
    Data,
    st.sampled_from((FrameType.UNCONFIRMED_UP, FrameType.CONFIRMED_DOWN)),
    st.integers(0, 0xFFFF_FFFF),
    st.just(0),
    st.just(0),
    st.binary(max_size=15),
    st.integers(1, 255),
    st.binary(max_size=222),
)


@given(DATA, st.integers(0, 0xFFFF_FFFF), st.booleans())
def test_what_is_sealed_can_be_opened(frame: Data, counter: int, lorawan_1_1: bool) -> None:
    session = SESSION_1_1 if lorawan_1_1 else crypto.session_1_0(b"\1" * 16, b"\4" * 16)
    read = phy.parse(crypto.seal_data(session, frame, counter))
    assert isinstance(read, Data)
    opened = crypto.open_data(session, read, counter)
    assert opened == msgspec.structs.replace(frame, frame_counter=counter & 0xFFFF, mic=read.mic)
    assert crypto.open_data(session, opened, counter) == read
