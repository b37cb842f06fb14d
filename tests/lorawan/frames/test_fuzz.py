"""Any bytes at all, for everything that reads some."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.lorawan.frames import fuzz


@given(st.binary(max_size=260))
def test_nothing_but_a_frame_error_comes_of_any_bytes(data: bytes) -> None:
    for number in range(len(fuzz.READERS)):
        fuzz.one_input(bytes((number,)) + data)
