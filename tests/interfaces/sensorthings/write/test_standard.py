"""Requirements that no other test shows: history written by hand, and STAplus entities from first to last."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interfaces.sensorthings.write.conftest import Town, Writing, location

pytestmark = pytest.mark.django_db(transaction=True)


async def test_history_by_hand(sta: Writing, town: Town) -> None:
    """18-088 §10.2: a HistoricalLocation may be posted; an older one does not move the Thing."""
    thing = await sta.post(
        "Things", {"name": "Wagen", "description": "", "Locations": [location(name="jetzt")]}
    )
    past = await sta.post("Locations", location(7.40, 51.50, name="früher"))
    body = {
        "time": "2020-05-01T12:00:00Z",
        "Thing": {"@iot.id": int(thing[7:-1])},
        "Locations": [{"@iot.id": int(past[10:-1])}],
    }
    made = await sta.post("HistoricalLocations", body)
    assert (await sta.json(made))["time"] == "2020-05-01T12:00:00Z"
    times = await sta.values(f"{thing}/HistoricalLocations?$orderby=time&$expand=Locations")
    assert [[one["name"] for one in entry["Locations"]] for entry in times] == [["früher"], ["jetzt"]]
    assert [one["name"] for one in await sta.values(f"{thing}/Locations")] == ["jetzt"]


@pytest.mark.parametrize(
    ("entities", "body", "change"),
    [
        ("Parties", {"role": "individual", "displayName": "Kim"}, {"displayName": "Kim B."}),
        ("Licenses", {"name": "CC0", "definition": "https://example.org/cc0"}, {"attributionText": "Stadt"}),
        ("Campaigns", {"name": "Sommer", "termsOfUse": "frei"}, {"termsOfUse": "offen"}),
        ("ObservationGroups", {"name": "Gruppe"}, {"purpose": "Vergleich"}),
    ],
)
async def test_staplus_is_changed_and_deleted(
    sta: Writing, entities: str, body: dict[str, Any], change: dict[str, Any]
) -> None:
    created = (
        {"creationTime": "2026-01-01T00:00:00Z"} if entities in ("Campaigns", "ObservationGroups") else {}
    )
    path = await sta.post(entities, {"description": ""} | created | body)
    await sta.change("PATCH", path, change)
    found = await sta.json(path)
    assert found | body | created | change == found
    assert (await sta.send("DELETE", path)).status_code == 200
    assert (await sta.get(path)).status_code == 404
