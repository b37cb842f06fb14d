"""Whatever a peer says: it is understood, or refused by the error of the module that reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quartier.lorawan.roaming import statements
from quartier.lorawan.roaming.client import CallError
from quartier.lorawan.roaming.messages import ANSWERS, REQUESTS
from quartier.lorawan.roaming.names import NAMES
from tests.lorawan.roaming import fuzz

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**30), 1 << 63, 1e308, -1e308, 868.1, 0])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("0123456789abcdefxX", max_size=40)
    | st.sampled_from(
        ["Success", "EU868", "A", "C", "Drop", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
         "1969-12-31T23:59:59Z", "2026-11-27T00:00:00Z", "40" * 12, "02000001", "000001", "\0"]
    )
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(sorted(NAMES.values())), inner, max_size=8)
    ),
    max_leaves=12,
)
_HEADER = {
    "ProtocolVersion": "1.1", "SenderID": "000001", "ReceiverID": "000000", "TransactionID": 7,
    "Result": {"ResultCode": "Success"}, "PHYPayload": "40" * 12,
}  # fmt: skip


@settings(deadline=None)
@given(st.binary(max_size=400) | st.text(alphabet='{}[]":,0e-.truenl\\u', max_size=80).map(str.encode))
def test_any_bytes(data: bytes) -> None:
    for number in range(len(fuzz.READERS)):
        fuzz.one_input(bytes((number,)) + data)


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from(sorted(REQUESTS | ANSWERS)),
    st.dictionaries(st.sampled_from(sorted(NAMES.values())), _VALUES, max_size=10),
)
def test_any_message(kind: str, fields: dict[str, Any]) -> None:
    fuzz.one_input(b"\0" + json.dumps(_HEADER | {"MessageType": kind} | fields).encode())


@settings(deadline=None, max_examples=300)
@given(
    st.dictionaries(st.sampled_from(["ULFreq", "DataRate", "RecvTime", "FNSULToken", "GWCnt"]), _SCALARS),
    st.lists(
        st.dictionaries(st.sampled_from(["ID", "RSSI", "SNR", "Lat", "Lon", "ULToken", "FineRecvTime"]), _SCALARS),
        max_size=3,
    ),
)  # fmt: skip
def test_any_metadata(metadata: dict[str, Any], gateways: list[dict[str, Any]]) -> None:
    whole = {"ULFreq": 868.1, "DataRate": 5} | metadata | {"GWInfo": gateways}
    fuzz.one_input(b"\0" + json.dumps(_HEADER | {"MessageType": "PRStartReq", "ULMetaData": whole}).encode())


_LINE: dict[str, Any] = {
    "key": "ab" * 16, "direction": "up", "at": 1_795_000_000_000, "airtime_us": 61696, "size": 20,
    "state": "confirmed",
}  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(st.dictionaries(st.sampled_from(sorted(_LINE)), _SCALARS, max_size=2), max_size=3))
def test_any_statement(changes: list[dict[str, Any]]) -> None:
    fuzz.one_input(b"\2" + json.dumps({"lines": [_LINE | one for one in changes]}).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"key": "zz" * 16},
        {"key": "ab"},
        {"direction": "sideways"},
        {"at": 10**20},
        {"at": -1},
        {"airtime_us": 1 << 31},
        {"size": 256},
        {"state": "lost"},
    ],
)
def test_statement_that_no_ledger_could_keep_is_refused(change: dict[str, Any]) -> None:
    assert statements.read_answer(json.dumps({"lines": [_LINE]}).encode()).lines[0].size == 20
    with pytest.raises(CallError, match="statement"):
        statements.read_answer(json.dumps({"lines": [_LINE | change]}).encode())
