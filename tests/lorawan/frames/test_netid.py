"""NetID and DevAddr, against the tables of the standard and of ChirpStack's tests (``lrwn/src/netid.rs``)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.lorawan.frames import FrameError, netid
from quartier.lorawan.frames.netid import Prefix


@pytest.mark.parametrize(
    ("net_id", "kind", "prefix", "size"),
    [
        (0x000000, 0, "00000000/7", 1 << 25),
        (0x000001, 0, "02000000/7", 1 << 25),
        (0x00003F, 0, "7E000000/7", 1 << 25),
        (0x20003F, 1, "BF000000/8", 1 << 24),
        (0x4001FF, 2, "DFF00000/12", 1 << 20),
        (0x6007FF, 3, "EFFE0000/15", 1 << 17),
        (0x800FFF, 4, "F7FF8000/17", 1 << 15),
        (0xA01FFF, 5, "FBFFE000/19", 1 << 13),
        (0xC07FFF, 6, "FDFFFC00/22", 1 << 10),
        (0xE1FFFF, 7, "FEFFFF80/25", 1 << 7),
        # Bits above the NwkID do not get into an address.
        (0x0000FF, 0, "7E000000/7", 1 << 25),
    ],
)
def test_addresses_of_a_network(net_id: int, kind: int, prefix: str, size: int) -> None:
    block = Prefix.of(net_id)
    assert (netid.net_id_type(net_id), str(block), block.size) == (kind, prefix, size)
    first, last = block.address(0), block.address(size - 1)
    assert netid.dev_addr_type(first) == netid.dev_addr_type(last) == kind
    assert netid.belongs_to(first, net_id)
    assert netid.belongs_to(last, net_id)
    assert not block.covers(first - 1)
    assert not block.covers(last + 1)
    with pytest.raises(FrameError, match="number"):
        block.address(size)


def test_dortmunds_recorded_device_is_in_the_experimental_network() -> None:
    assert netid.belongs_to(0x00E27D66, 0x000000)
    assert Prefix.parse("00E20000/15").covers(0x00E27D66)
    assert not Prefix.parse("00E00000/15").covers(0x00E27D66)


def test_an_address_of_eight_ones_is_nobodys() -> None:
    assert netid.dev_addr_type(0xFF000000) is None
    assert netid.dev_addr_type(0xFEFFFFFF) == 7


def test_a_bare_address_is_a_block_of_one() -> None:
    block = Prefix.parse(" 01020304 ")
    assert block == Prefix.parse("01020304/32") == Prefix(0x01020304, 32)
    assert (block.covers(0x01020304), block.covers(0x01020305), block.size) == (True, False, 1)
    assert Prefix.parse("00000000/0").covers(0xFFFFFFFF)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "dev_addr"),
        ("1234567", "dev_addr"),
        ("0123456z", "dev_addr"),
        ("01 03 05", "dev_addr"),
        ("00000001/31", "dev_addr"),
        ("00000000/33", "length"),
        ("00000000/", "length"),
        ("00000000/-1", "length"),
        ("00000000/²", "length"),
        ("00000000/999999999", "length"),
    ],
)
def test_bad_blocks_name_the_field(text: str, field: str) -> None:
    with pytest.raises(FrameError) as raised:
        Prefix.parse(text)
    assert raised.value.field == field


def test_a_net_id_has_24_bits() -> None:
    with pytest.raises(FrameError, match="net_id: 16777216 is not between 0 and 16777215"):
        Prefix.of(1 << 24)


@given(st.integers(0, 0xFF_FFFF))
def test_blocks_come_back_from_their_text(net_id: int) -> None:
    assert Prefix.parse(str(Prefix.of(net_id))) == Prefix.of(net_id)
    assert netid.dev_addr_type(Prefix.of(net_id).dev_addr) == netid.net_id_type(net_id)


@given(st.text(max_size=20))
def test_any_text_is_a_block_or_refused(text: str) -> None:
    try:
        block = Prefix.parse(text)
    except FrameError:
        return
    assert block.covers(block.dev_addr)
