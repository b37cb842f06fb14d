"""Whatever comes in: a parser gives uplinks or a MessageError, never anything else."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.intake.parsers import MessageError, Uplink, parse
from tests.sources.messages import CHIRPSTACK_UP, SENSOR_COMMUNITY, TTS_UP, raw
from tests.sources.test_element import PACKET

MAPPING = {"device": "$..id", "items": "$[*]", "time": "$.t", "fields": {"v": "$.v"}, "frame_counter": "$.n"}
KINDS: dict[str, tuple[dict[str, Any], Any]] = {
    "chirpstack": ({"use": "object"}, CHIRPSTACK_UP),
    "tts": ({}, TTS_UP),
    "element": ({}, PACKET),
    "generic_http": ({"mapping": MAPPING}, [{"id": "a", "t": 1, "v": 2, "n": 3}]),
    "quartier_json": ({}, {"device": "a", "time": "2026-05-01T12:00:00Z", "values": {"pm10": {"value": 1}}}),
    "opensensemap": ({}, [{"sensor": "a", "value": 1, "createdAt": "2026-05-01T12:00:00Z"}]),
    "sensorcommunity": ({}, SENSOR_COMMUNITY),
}
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(
        ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "1e400", "-", "\x00", "topic:0"]
    )
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


def _try(kind: str, content: bytes, headers: dict[str, str] | None = None) -> None:
    uplinks: Sequence[Uplink] = ()
    reason = "none"
    try:
        uplinks = parse(raw(kind, content, headers={"device": "d", **(headers or {})}), KINDS[kind][0])
    except MessageError as error:
        reason = error.reason
    assert reason not in ("", "unknown_kind")
    for uplink in uplinks:
        assert isinstance(uplink, Uplink)
        assert uplink.external_id
        assert uplink.received_at.tzinfo is UTC
        assert uplink.observed_at is None or uplink.observed_at.tzinfo is UTC
        assert (uplink.payload is None) != (uplink.fields is None)


@pytest.mark.parametrize("kind", KINDS)
@given(content=st.binary(max_size=200))
def test_any_bytes(kind: str, content: bytes) -> None:
    _try(kind, content)


@given(content=st.binary(max_size=200), form=st.sampled_from(["text/csv", "application/sbx-bytes", "x"]))
def test_any_bytes_in_the_forms_of_a_box(content: bytes, form: str) -> None:
    _try("opensensemap", content, {"content-type": form})


@pytest.mark.parametrize("kind", KINDS)
@given(content=values)
def test_any_json(kind: str, content: Any) -> None:
    _try(kind, json.dumps(content).encode())


def _paths(content: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [prefix] if prefix else []
    pairs = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, inner in pairs:
        found += _paths(inner, (*prefix, key))
    return found


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_good_message_with_one_value_of_another_type(kind: str, data: st.DataObject) -> None:
    content = copy.deepcopy(KINDS[kind][1])
    path = data.draw(st.sampled_from(_paths(content)))
    target = content
    for step in path[:-1]:
        target = target[step]
    if data.draw(st.booleans()):
        target[path[-1]] = data.draw(values)
    else:
        del target[path[-1]]
    _try(kind, json.dumps(content).encode())
