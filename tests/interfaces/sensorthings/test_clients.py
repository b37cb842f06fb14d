"""What clients that were written for other servers ask, and what they read in the answers.

The requests are those that their sources build; each test does with the answer what the client does. Clients that can
be installed were tried themselves, too (``docs/sensorthings.md``).
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest

from tests.interfaces.sensorthings.conftest import City, Client

pytestmark = pytest.mark.django_db
BASE: Final = "http://test/sensorthings/v1.1"
EXTENT: Final = "POLYGON ((7.4 51.4,7.6 51.4,7.6 51.6,7.4 51.6,7.4 51.4))"
DAY: Final = ("2026-03-01T00:00:00.000Z", "2026-03-02T00:00:00.000Z")


def written(address: str) -> str:
    """An address as ``fetch`` sends it: spaces are escaped, and nothing that may stand there."""
    return quote(address.replace("\n", ""), safe="$=&?()/:;,'@%+")


# -- Masterportal: SensorThingsHttp of versions 2 and 3, SensorThingsMqtt, the layer's configuration


class Masterportal:
    """Follows every ``nextLink`` in an answer, at any depth, unless its ``$skip`` has reached its ``$top``."""

    def __init__(self, client: Client, *, counts: bool) -> None:
        """``counts``: version 2 writes ``$count=true`` into every address, for its progress bar."""
        self._client, self._counts = client, counts
        self.requests = 0
        self.progress: list[tuple[int, int]] = []

    async def get(self, address: str) -> list[Any]:
        """All entities of an address."""
        result: list[Any] = []
        waiting = [(address, result)]
        while waiting:
            link, into = waiting.pop(0)
            if self._number("top", link) and self._number("top", link) <= self._number("skip", link):
                continue
            if self._counts:
                # Its library takes the query to pieces and writes it anew, everything escaped.
                at = urlsplit(link)
                query = dict(parse_qsl(at.query)) | {"$count": "true"}
                link = at._replace(query=urlencode(query, quote_via=quote, safe="")).geturl()
            body = await self._client.json(link.removeprefix(f"{BASE}/"))
            self.requests += 1
            assert self.requests < 50, link
            if isinstance(body.get("value"), list):
                if self._counts:
                    self.progress.append((self._number("skip", link), body["@iot.count"]))
                into += body["value"]
                if "@iot.nextLink" in body:
                    waiting.append((body["@iot.nextLink"], into))
            else:
                into.append(body)
            self._collect(into, waiting)
        return result

    def _collect(self, found: Any, waiting: list[tuple[str, list[Any]]]) -> None:
        if isinstance(found, dict):
            for key in [one for one in found if one.endswith("@iot.nextLink")]:
                waiting.append((found.pop(key), found[key.removesuffix("@iot.nextLink")]))
        for one in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
            self._collect(one, waiting)

    def _number(self, option: str, address: str) -> int:
        found = re.search(rf"[$|%24]{option}=([0-9]+)", address)
        return int(found[1]) if found else 0


@pytest.mark.parametrize("counts", [True, False])
async def test_masterportal_reads_the_newest_values_in_few_requests(
    client: Client, city: City, counts: bool
) -> None:
    """``$top=1`` within ``$expand`` is what is wanted, not the first page of the whole history."""
    for expand in (
        "Locations,Datastreams($expand=Observations($top=1;$orderby=phenomenonTime desc))",
        "Locations,Datastreams/Observations($orderby=phenomenonTime%20desc;$top=1)",
    ):
        portal = Masterportal(client, counts=counts)
        things = await portal.get(f"{BASE}/{written(f'Things?$expand={expand}')}")
        assert portal.requests == 1
        newest = [
            one for thing in things for stream in thing["Datastreams"] for one in stream["Observations"]
        ]
        assert [one["result"] for one in newest] == [24.5, 55, 21.5]
        for thing in things:
            assert len(thing["Locations"][0]["location"]["coordinates"]) >= 2


async def test_masterportal_reads_lists_to_their_end(client: Client, city: City) -> None:
    """The ``$top`` of what is expanded is none of the list, and its progress reaches the end."""
    path = f"Datastreams({city.temperature.pk})/Observations"
    for counts in (True, False):
        portal = Masterportal(client, counts=counts)
        found = await portal.get(f"{BASE}/{path}?$top=7")
        assert (len(found), portal.requests) == (7, 1)
        portal = Masterportal(client, counts=counts)
        streams = await portal.get(f"{BASE}/Datastreams?$expand=Observations($top=2)")
        assert [len(one["Observations"]) for one in streams] == [2, 1, 1]
    first = await client.json("Datastreams?$top=1&$count=true&$expand=Observations($top=2)")
    second = await client.json(first["@iot.nextLink"].removeprefix(f"{BASE}/"))
    assert "$skip=1&" in first["@iot.nextLink"]
    assert "$skip=2&" in second["@iot.nextLink"]
    assert second["@iot.count"] == 3
    # Whatever is nested is escaped, as others write it: the first $top= is that of the list.
    assert first["@iot.nextLink"].count("$top=") == 1


async def test_masterportal_reads_one_entity_with_its_count(client: Client, city: City) -> None:
    """Also what a subscription is to begin with: the topic of MQTT behind an address."""
    portal = Masterportal(client, counts=True)
    (thing,) = await portal.get(
        f"{BASE}/Things({city.market.pk})?$expand=Datastreams($expand=Observations($top=1))"
    )
    assert [len(one["Observations"]) for one in thing["Datastreams"]] == [1, 1]
    topic = f"Datastreams({city.temperature.pk})/Observations"
    (newest,) = await portal.get(f"{BASE}/{topic}?%24orderby=phenomenonTime%20desc&%24top=1")
    assert newest["result"] == 24.5
    for form in ("CSV", "GeoJSON"):
        assert (
            await client.get(f"Things({city.market.pk})?$count=true&$resultFormat={form}")
        ).status_code == 200


async def test_masterportal_asks_for_the_map_and_by_name(client: Client, city: City) -> None:
    """The filters of its handbook, the one of its own set, too, and those that it adds for the extent."""
    for root, path in (("Things", "Locations"), ("Datastreams", "Thing/Locations")):
        for function in ("st_within", "st_intersects"):
            condition = f"{function}({path}/location,geography'{EXTENT}')"
            found = await client.values(written(f"{root}?$filter={condition}&$expand={path}"))
            assert len(found) == {"Things": 2, "Datastreams": 3}[root]
    condition = f"startswith(Things/name,'Park') and st_within(Locations/location,geography'{EXTENT}')"
    body = await client.json(written(f"Things?$filter={condition}&$expand=Locations&$top=1&$count=true"))
    assert [one["name"] for one in body["value"]] == ["Parkhaus 'Süd'"]
    assert body["@iot.count"] == 1
    path = written("Datastreams?$filter=Things/name eq 'Markt'")
    assert "no property 'Things'" in await client.refused(path)


# -- QGIS: the provider since 3.36, and the plugin before it


async def test_qgis_counts_and_reads_layers(client: Client, city: City) -> None:
    root = await client.json("")
    sets = {one["name"]: one["url"] for one in root["value"]}
    for name, field, expected in (
        ("Locations", "location", 2),
        ("FeaturesOfInterest", "feature", None),
        ("MultiDatastreams", "observedArea", 0),
    ):
        path = sets[name].removeprefix(f"{BASE}/")
        of_type = f"{field}/type eq 'Point' or {field}/geometry/type eq 'Point'"
        body = await client.json(written(f"{path}?$top=0&$count=true&$filter={of_type}"))
        assert body["value"] == []
        if expected is not None:
            assert body["@iot.count"] == expected
    west = "7.40000000000000036"
    extent = f"Polygon (({west} 51.4, 7.6 51.4, 7.6 51.6, {west} 51.6, {west} 51.4))"
    inside = f"geo.intersects(location, geography'{extent}')"
    of_type = "location/type eq 'Point' or location/geometry/type eq 'Point'"
    body = await client.json(written(f"Locations?$top=1&$count=false&$filter=({of_type}) and ({inside})"))
    # The first $top is replaced by the size of its own pages, whatever the rest of the address is.
    following = re.sub(r"\$top=\d+", "$top=200", body["@iot.nextLink"], count=1)
    rest = await client.json(following.removeprefix(f"{BASE}/"))
    for feature in (*body["value"], *rest["value"]):
        assert feature["location"]["type"] == "Point"
        assert {"@iot.id", "@iot.selfLink", "name", "description"} <= feature.keys()
    assert len(rest["value"]) == 1


async def test_qgis_plugin_asks_for_everything_at_once(client: Client, city: City) -> None:
    body = await client.json("Locations?$top=2147483647&$orderby=@iot.id+asc")
    assert len(body["value"]) == 2
    assert "@iot.nextLink" not in body
    assert (await client.json("Locations?$count=true&$top=1"))["@iot.count"] == 2


# -- Grafana: the plugins of LinkSmart and of Fraunhofer IOSB


async def test_grafana_plugin_of_linksmart(client: Client, city: City) -> None:
    begin, end = DAY
    names = await client.values("Datastreams?$top=1000&$select=name,id,observationType")
    assert all({"@iot.id", "name", "observationType"} == one.keys() for one in names)
    condition = f"phenomenonTime gt {begin} and phenomenonTime lt {end}"
    path = f"Datastreams({city.temperature.pk})/Observations"
    query, points = f"$filter={condition}&$select=phenomenonTime,result&$top=12", 0
    while query:
        body = await client.json(written(f"{path}?{query}"))
        points += len([one for one in body["value"] if isinstance(one["result"], float | int)])
        # It keeps its own path, and takes what stands behind the first question mark.
        query = body["@iot.nextLink"].split("?")[1] if "@iot.nextLink" in body else ""
    assert points == 30
    (place,) = await client.values(f"Things({city.market.pk})/Locations")
    condition = "time gt 2020-01-01T00:00:00.000Z and time lt 2100-01-01T00:00:00.000Z"
    path = f"Locations({place['@iot.id']})/HistoricalLocations"
    for one in await client.values(
        written(f"{path}?$filter={condition}&$expand=Things($select=name)&$select=time&$top=1000")
    ):
        assert one["Thing"]["name"] == "Markt"
        assert one["time"].endswith("Z")
    path = f"Things({city.market.pk})/HistoricalLocations"
    query = f"$filter={condition}&$expand=Locations($select=name,location)&$top=1&$select=time"
    for one in await client.values(written(f"{path}?{query}")):
        assert len(one["Locations"][0]["location"]["coordinates"]) >= 2
    text = (
        await client.get("HistoricalLocations?$select=time&$expand=Things($select=name)&$resultFormat=CSV")
    ).text
    assert text.splitlines()[0] == "time,Thing/name"


async def test_grafana_plugin_of_fraunhofer(client: Client, city: City) -> None:
    begin, end = DAY
    # Its table filters every column as a text, the id as well, and writes a dot as a slash.
    condition = f"startswith(@iot.id,'{city.temperature.pk}') and startswith(unitOfMeasurement/symbol,'°')"
    body = await client.json(written(f"Datastreams?$filter={condition}&$count=true&$skip=0&$top=5"))
    assert body["@iot.count"] == len(body["value"]) == 1
    path = f"Datastreams({city.temperature.pk})/Observations"
    condition = f"phenomenonTime ge {begin} and phenomenonTime le {end}"
    body = await client.json(written(f"{path}?&$filter={condition}&$top=1000"))
    assert len(body["value"]) == 30


# -- VC Map: the plugin @vcmap/sensorthings


async def test_vc_map_asks_for_charts_and_newest_values(client: Client, city: City) -> None:
    """It writes options on lines of their own, of which browsers leave the spaces."""
    begin, end = DAY
    (stream,) = await client.values(
        written(
            f"""Things({city.market.pk})/Datastreams?
    $filter=ObservedProperty/name eq 'Lufttemperatur'&
    $top=1&
    $expand=Observations(
      $filter=phenomenonTime ge {begin} and phenomenonTime lt {end};
      $top=10;
      $orderby=phenomenonTime asc)"""
        )
    )
    assert [one["result"] for one in stream["Observations"]] == [10 + n / 2 for n in range(10)]
    for direction, result in (("desc", 24.5), ("asc", 10)):
        (stream,) = await client.values(
            written(
                f"""Datastreams?
    $filter=ObservedProperty/name eq 'Lufttemperatur' and Thing/id eq {city.market.pk}&
    $orderby=Observations/phenomenonTime {direction}&
    $top=1&
    $expand=Observations($top=1;$orderby=phenomenonTime {direction})"""
            )
        )
        assert stream["unitOfMeasurement"]["symbol"] == "°C"
        assert stream["Observations"][0]["result"] == result
    inside = f"st_within(Locations/location, geography'{EXTENT}')"
    condition = f"Datastreams/ObservedProperty/name eq 'Lufttemperatur' and {inside}"
    things = await client.values(written(f"Things?$top=1000&$filter={condition}&$expand=Locations($top=1)"))
    assert [len(one["Locations"]) for one in things] == [1, 1]


async def test_order_by_what_there_are_many_of(client: Client, city: City) -> None:
    """The target that comes first counts; who has none comes last, as what has no value does; pages go on behind it."""
    streams = [city.temperature.pk, city.humidity.pk, city.other.pk]
    for order, expected in (
        ("Observations/result", [streams[0], streams[2], streams[1]]),
        ("Observations/result desc", [streams[1], streams[0], streams[2]]),
        ("Observations/phenomenonTime desc", [streams[0], streams[1], streams[2]]),
    ):
        path = written(f"Datastreams?$orderby={order}&$select=id")
        assert (order, sorted(await client.ids(path))) == (order, streams)
        assert (order, (await client.ids(path))[0]) == (order, expected[0])
        pages = await client.pages(f"{path}&$top=1")
        assert [one["@iot.id"] for page in pages for one in page] == await client.ids(path)
    path = "Things?$select=name&$orderby=Datastreams/Observations/result"
    assert [one["name"] for one in await client.values(f"{path}%20desc")] == ["Markt", "Parkhaus 'Süd'"]
    assert [one["name"] for one in await client.values(path)] == ["Markt", "Parkhaus 'Süd'"]
    # Only the market has a property whose Datastreams have observations of that kind; the others follow.
    for order in ("Datastreams/Observations/result", "Datastreams/Observations/phenomenonTime"):
        for direction in ("", "%20desc"):
            pages = await client.pages(f"ObservedProperties?$select=id&$orderby={order}{direction}&$top=7")
            ids = [one["@iot.id"] for page in pages for one in page]
            used = {city.temperature.observed_property_id, city.humidity.observed_property_id}
            assert set(ids[:2]) == used
            assert len(ids) == len(set(ids)) > 7
    path = "Things?$select=name&$orderby=Datastreams/name%20desc"
    assert [one["name"] for one in await client.values(path)] == ["Parkhaus 'Süd'", "Markt"]
