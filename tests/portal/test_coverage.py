"""The public page of the radio networks: what it says, and what it keeps to itself."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from django.test import Client

from quartier.lorawan.models import Gateway
from quartier.portal import context
from tests.desk import radio_scene
from tests.desk.radio_scene import DEVICES, GATEWAYS, PRIVATE
from tests.desk.scene import Scene, build


@pytest.fixture
def scene(db: None) -> Scene:
    cache.clear()
    made = build()
    radio_scene.build(made)
    Gateway.objects.create(
        municipality=made.dortmund, eui=PRIVATE, name="Balkon Meier", private=True, lon=7.4, lat=51.5
    )
    context.cities(fresh=True)
    return made


def test_squares_and_gateways(scene: Scene) -> None:
    found = Client().get("/funknetz/abdeckung.geojson").json()
    squares = [one for one in found["features"] if one["geometry"]["type"] == "Polygon"]
    assert [one["properties"]["name"] for one in squares] == ["Mitte (Dortmund)", "Mitte (Schwerte)"]
    # -118 dBm of the city's own gateway is the best; the neighbour's is weaker.
    assert {(one["properties"]["rssi_dbm"], one["properties"]["gateways"]) for one in squares} == {(-120, 2)}
    points = [one["properties"]["name"] for one in found["features"] if one["geometry"]["type"] == "Point"]
    assert points == ["Rathaus Dortmund", "Rathaus Schwerte"]


def test_nothing_private_and_no_id_is_told(scene: Scene) -> None:
    for address in ("/funknetz/", "/funknetz/abdeckung.geojson"):
        text = Client().get(address).content.decode()
        for secret in (PRIVATE, "Balkon Meier", *DEVICES.values(), *GATEWAYS.values()):
            assert secret not in text, (address, secret)
    assert "Dazu kommt 1 privates Gateway" in Client().get("/funknetz/").content.decode()


def test_a_new_network_says_that_there_is_no_map_yet(db: None) -> None:
    cache.clear()
    context.cities(fresh=True)
    assert "Noch keine Karte" in Client().get("/funknetz/").content.decode()
    assert Client().get("/funknetz/abdeckung.geojson").json()["features"] == []
