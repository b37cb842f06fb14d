"""Any bytes at all, for everything that reads some."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lorawan.gateways import fuzz


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet='{}[]":,0e-.truenl\\u', max_size=80).map(str.encode))
def test_nothing_but_the_modules_own_error_comes_of_any_bytes(data: bytes) -> None:
    for number in range(len(fuzz.READERS)):
        fuzz.one_input(bytes((number,)) + data)
