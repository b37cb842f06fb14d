"""``docs/sensorthings-requirements.md`` leaves nothing out, names tests that exist, and says what the service says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from quartier.config import Config
from quartier.interfaces.sensorthings import service

HERE = Path(__file__).parent
TEXT = (HERE.parents[2] / "docs/sensorthings-requirements.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([^`]+)` \| (yes|no) \| (.*) ?\|$", re.MULTILINE)
SENSING = "http://www.opengis.net/spec/iot_sensing/1.1/req/"
TASKING = "http://www.opengis.net/spec/iot_tasking/1.0/req/"
STAPLUS = "http://www.opengis.net/spec/sensorthings-staplus/1.0/conf/"
FROST = "https://fraunhoferiosb.github.io/FROST-Server/extensions/"
CSV = "https://github.com/INSIDE-information-systems/SensorThingsAPI/blob/master/"
# The requirements of 18-088 and 17-079r1 and the conformance classes of 22-022r1, copied from the standards.
KNOWN = {
    SENSING: """
        datamodel/entity-control-information/common-control-information datamodel/thing/properties
        datamodel/thing/relations datamodel/location/properties datamodel/location/relations
        datamodel/historical-location/properties datamodel/historical-location/relations
        datamodel/datastream/properties datamodel/datastream/relations datamodel/sensor/properties
        datamodel/sensor/relations datamodel/observed-property/properties datamodel/observed-property/relations
        datamodel/observation/properties datamodel/observation/relations datamodel/feature-of-interest/properties
        datamodel/feature-of-interest/relations resource-path/resource-path-to-entities request-data/order
        request-data/expand request-data/select request-data/status-code request-data/query-status-code
        request-data/orderby request-data/top request-data/skip request-data/count request-data/filter
        request-data/built-in-filter-operations request-data/built-in-query-functions request-data/pagination
        create-update-delete/create-entity create-update-delete/link-to-existing-entities
        create-update-delete/deep-insert create-update-delete/deep-insert-status-code
        create-update-delete/update-entity create-update-delete/update-entity-put
        create-update-delete/update-entity-jsonpatch create-update-delete/delete-entity
        create-update-delete/historical-location-auto-creation
        create-update-delete/historical-location-manual-creation batch-request/batch-request
        multi-datastream/properties multi-datastream/relations multi-datastream/constraints data-array/data-array
        create-observations-via-mqtt/observations-creation receive-updates-via-mqtt/receive-updates
    """,
    TASKING: """
        tasking-capability/properties tasking-capability/relations task/properties task/relations
        actuator/properties actuator/relations create-tasks/task-creation create-tasks-via-mqtt/task-creation
        receive-updates-via-mqtt/receive-updated
    """,
    STAPLUS: """
        core create update delete authentication mqtt-subscribe business-logic geometry-fg geometry-wkt
    """,
    FROST: """
        DeepSelect.html FilteredDelete.html GeoJSON-ResultFormat.html JsonBatchRequest.html MqttExpand.html
        MqttFilter.html ResponseMetadata.html SelectDistinct.html
    """,
    CSV: "CSV-ResultFormat/CSV-ResultFormat.md",
}


def rows() -> dict[str, tuple[bool, list[str]]]:
    """What the page says: address of the requirement, whether it is met, the tests."""
    found = {}
    for section in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        begin = re.search(r"begins? with `([^`]+)`", section)
        assert begin, section[:40]
        for name, met, tests in ROW.findall(section):
            assert begin[1] + name not in found, f"{name} stands twice"
            found[begin[1] + name] = (met == "yes", re.findall(r"`([^`]+)`", tests))
    return found


ROWS = rows()


def test_nothing_is_left_out() -> None:
    assert set(ROWS) == {begin + name for begin, names in KNOWN.items() for name in names.split()}


@pytest.mark.parametrize("requirement", [name for name, (met, _tests) in ROWS.items() if met])
def test_what_is_met_is_shown_by_a_test(requirement: str) -> None:
    named = ROWS[requirement][1]
    assert named
    for name in named:
        file, _, function = name.partition("::")
        tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
        defined = {
            node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert function in defined, name


def test_what_is_not_met_claims_nothing() -> None:
    assert not [name for name, (met, tests) in ROWS.items() if tests and not met]


def test_the_service_says_the_same() -> None:
    published = service.document("http://test")["serverSettings"]["conformance"]
    assert len(set(published)) == len(published)
    assert set(published) == {name for name, (met, _tests) in ROWS.items() if met} | set(service.CLASSES)
    # A class is published when everything in it is met.
    for one in service.CLASSES:
        within = [met for name, (met, _tests) in ROWS.items() if name.startswith(f"{one}/")]
        assert within
        assert all(within), one


def test_the_broker_is_named() -> None:
    """18-088 §9.2.1: endpoints stand below the requirement."""
    settings = service.document("https://data.example.org/sensorthings/v1.1")["serverSettings"]
    for name in (
        "create-observations-via-mqtt/observations-creation",
        "receive-updates-via-mqtt/receive-updates",
    ):
        assert settings[SENSING + name] == {"endpoints": ["mqtt://data.example.org:1883"]}


def test_browsers_are_told_their_way_to_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """By WebSocket: behind the proxy that brings TLS at the address of the pages, without one at the broker's port."""
    settings = Config(mqtt_websocket_port=8083)
    monkeypatch.setattr(service, "config", lambda: settings)
    for base, endpoint in (
        ("https://data.example.org/sensorthings/v1.1", "wss://data.example.org/mqtt"),
        ("http://localhost:8700/sensorthings/v1.1", "ws://localhost:8083/mqtt"),
    ):
        named = service.document(base)["serverSettings"][f"{SENSING}receive-updates-via-mqtt/receive-updates"]
        assert named["endpoints"][1:] == [endpoint]
