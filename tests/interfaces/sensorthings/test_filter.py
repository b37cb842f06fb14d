"""``$filter`` (18-088 clause 9.3.3.5): every operator and function, over links, JSON and geometries."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.interfaces.sensorthings.conftest import City, Client

pytestmark = pytest.mark.django_db

# Of the 30 temperatures of the market (10.0, 10.5 … 24.5 at 12:00, 12:01 … 12:29): how many are meant.
OBSERVATIONS: list[tuple[str, int]] = [
    ("result eq 10", 1),
    ("result ne 10", 29),
    ("result gt 20", 9),
    ("result ge 20", 10),
    ("20 le result", 10),
    ("result lt 11", 2),
    ("result le 11.0", 3),
    ("result in (10, 10.5, 99)", 2),
    ("result gt 1e300", 0),
    ("result gt 99999999999999999999", 0),
    ("result gt 20 and result lt 22", 3),
    ("result lt 11 or result gt 24", 3),
    ("not (result lt 11 or result gt 24)", 27),
    ("not result gt 20", 21),
    ("result add 1 eq 11", 1),
    ("result sub 1 eq 9", 1),
    ("result mul 2 eq 20", 1),
    ("result div 2 eq 5", 1),
    ("result mod 5 eq 0", 3),
    ("result div 0 eq 5", 0),
    ("-result eq -10", 1),
    ("(result add 1) mul 2 eq 22", 1),
    ("result eq 'warm'", 0),
    ("result eq null", 0),
    ("result ne null", 30),
    ("phenomenonTime eq 2026-03-01T12:00:00Z", 1),
    ("phenomenonTime lt 2026-03-01T12:10:00Z", 10),
    ("phenomenonTime le 2026-03-01T12:10:00Z", 11),
    ("phenomenonTime gt 2026-03-01T13:10:00+01:00", 19),
    ("phenomenonTime ge 2026-03-01T13:10:00+01:00", 20),
    ("phenomenonTime ge 2026-03-01", 30),
    ("2026-03-01T12:10:00Z ge phenomenonTime", 11),
    ("resultTime lt 2026-03-01T12:10:00Z", 10),
    ("during(phenomenonTime, 2026-03-01T12:00:00Z/2026-03-01T12:04:00Z)", 5),
    ("before(phenomenonTime, 2026-03-01T12:04:00Z)", 4),
    ("after(phenomenonTime, 2026-03-01T12:04:00Z)", 25),
    ("overlaps(phenomenonTime, 2026-03-01T12:28:00Z/2026-03-01T14:00:00Z)", 2),
    ("starts(phenomenonTime, 2026-03-01T12:28:00Z/2026-03-01T14:00:00Z)", 1),
    ("meets(phenomenonTime, 2026-03-01T12:28:00Z/2026-03-01T14:00:00Z)", 1),
    ("finishes(phenomenonTime, 2026-03-01T12:20:00Z/2026-03-01T12:25:00Z)", 1),
    ("year(phenomenonTime) eq 2026", 30),
    ("month(phenomenonTime) eq 3 and day(phenomenonTime) eq 1", 30),
    ("hour(phenomenonTime) eq 12", 30),
    ("minute(phenomenonTime) eq 7", 1),
    ("second(phenomenonTime) eq 0", 30),
    ("fractionalseconds(phenomenonTime) eq 0", 30),
    ("date(phenomenonTime) eq 2026-03-01", 30),
    ("time(phenomenonTime) ge 12:20:00", 10),
    ("totaloffsetminutes(phenomenonTime) eq 0", 30),
    ("phenomenonTime gt mindatetime() and phenomenonTime lt maxdatetime()", 30),
    ("phenomenonTime lt now() sub duration'P3000Y'", 0),
    ("phenomenonTime add duration'PT10M' le 2026-03-01T12:12:00Z", 3),
    ("phenomenonTime sub 2026-03-01T12:00:00Z lt duration'PT3M'", 3),
    ("round(result) eq 11", 2),
    ("floor(result) eq 11", 2),
    ("ceiling(result) eq 11", 2),
    ("parameters/cloud eq 3", 0),
    ("resultQuality eq null", 30),
    ("Datastream/Thing/name eq 'Markt'", 30),
    ("Datastream/ObservedProperty/properties/key eq 'air_temperature'", 30),
    ("Datastream/Thing/properties/owner/since lt 1991", 30),
    ("Datastream/Thing/Locations/name eq 'Markt'", 30),
    ("FeatureOfInterest/name eq 'Markt'", 30),
    (
        "geo.intersects(FeatureOfInterest/feature, geography'POLYGON((7.4 51.4,7.6 51.4,7.6 51.51,7.4 51.4))')",
        0,
    ),
    (
        "st_within(FeatureOfInterest/feature, geography'POLYGON((7.4 51.4,7.6 51.4,7.6 51.6,7.4 51.6,7.4 51.4))')",
        30,
    ),
]

# Names of the things that are meant (of "Markt" at 7.5 51.5 and "Parkhaus 'Süd'" at 7.52 51.52).
MARKET, PARK = "Markt", "Parkhaus 'Süd'"
BOTH = [MARKET, PARK]
THINGS: list[tuple[str, list[str]]] = [
    ("name eq 'Markt'", [MARKET]),
    ("name eq 'Parkhaus ''Süd'''", [PARK]),
    ("name ne 'Markt'", [PARK]),
    ("name gt 'N'", [PARK]),
    ("name in ('Markt', 'x')", [MARKET]),
    ("substringof('ark', name)", BOTH),
    ("startswith(name, 'Park')", [PARK]),
    ("endswith(name, 't')", [MARKET]),
    ("length(name) eq 5", [MARKET]),
    ("indexof(name, 'r') eq 2", BOTH),
    ("substring(name, 1) eq 'arkt'", [MARKET]),
    ("substring(name, 1, 2) eq 'ar'", BOTH),
    ("substring(name, -5, -5) eq ''", BOTH),
    ("tolower(name) eq 'markt'", [MARKET]),
    ("toupper(name) eq 'MARKT'", [MARKET]),
    ("trim(concat(name, '  ')) eq 'Markt'", [MARKET]),
    ("concat(concat(name, ', '), description) eq 'Markt, '", [MARKET]),
    ("properties/owner/name eq 'Stadt'", [MARKET]),
    ("properties/owner/name ne 'Stadt'", [PARK]),
    ("properties/owner/since add 1 eq 1991", [MARKET]),
    ("properties/owner/since gt 'a'", []),
    ("properties/tags[1] eq 'b'", [MARKET]),
    ("properties/owner eq null", [PARK]),
    ("properties/owner ne null", [MARKET]),
    ("properties/simulated eq false", BOTH),
    ("not properties/simulated", BOTH),
    ("startswith(properties/owner/name, 'St')", [MARKET]),
    ("properties/kind in ('station', 'tree')", [MARKET]),
    ("Datastreams/name eq 'Markt: Relative Luftfeuchte'", [MARKET]),
    ("Datastreams/Observations/result gt 24", [MARKET]),
    ("Datastreams/ObservedProperty/name eq 'Lufttemperatur'", BOTH),
    ("Datastreams/any(d: d/ObservedProperty/properties/key eq 'relative_humidity')", [MARKET]),
    ("Datastreams/all(d: d/ObservedProperty/properties/key eq 'air_temperature')", [PARK]),
    ("Datastreams/any()", BOTH),
    ("not Datastreams/any(d: d/unitOfMeasurement/symbol eq '%')", [PARK]),
    ("Datastreams/any(d: d/Observations/any(o: o/result eq 55))", [MARKET]),
    ("MultiDatastreams/any()", []),
    ("st_equals(Locations/location, geography'POINT(7.5 51.5)')", [MARKET]),
    ("geo.distance(Locations/location, geography'POINT(7.5 51.5)') lt 0.01", [MARKET]),
    ("geo.distance(Locations/location, geography'POINT(7.5 51.5)') gt 0.01", [PARK]),
    ("geo.distance(Locations/location, geography'POINT(7.5 51.5)') add 0 le 1", BOTH),
    ("st_disjoint(Locations/location, geography'POLYGON((7 51,7.51 51,7.51 51.51,7 51.51,7 51))')", [PARK]),
    ("st_relate(Locations/location, geography'POLYGON((7 51,8 51,8 51.51,7 51.51,7 51))', 'T********')", [MARKET]),
    ("st_contains(geography'POLYGON((7 51,7.51 51,7.51 51.51,7 51.51,7 51))', Locations/location)", [MARKET]),
    ("st_touches(Locations/location, geography'LINESTRING(7.5 51.5,8 52)')", [MARKET]),
    ("st_crosses(Locations/location, geography'LINESTRING(7 51,8 52)')", []),
    ("st_overlaps(Locations/location, geography'POINT(7.5 51.5)')", []),
    ("geo.length(Locations/location) eq 0", BOTH),
    ("id gt 0 and Datastreams/id gt 0", BOTH),
    ("name eq 'x'' OR 1=1; DROP TABLE twin_thing; --'", []),
]  # fmt: skip

# What is refused, and a part of the reason.
REFUSED: list[tuple[str, str]] = [
    ("Things?$filter=nme eq 'x'", "did you mean name?"),
    ("Things?$filter=name gt 5", "expected a number, found a text"),
    ("Things?$filter=name", "expected true or false, found a text"),
    ("Things?$filter=Datastreams eq 1", "write a property behind it"),
    ("Things?$filter=year(name) eq 1", "expected a time, found a text"),
    ("Things?$filter=name eq", "found the end"),
    ("Things?$filter=Datastreams/any(d: d/nme eq 1)", "Datastream has no property 'nme'"),
    ("Things?$filter=name/any()", "is none"),
    ("Things?$filter=id/x eq 1", "has no parts"),
    ("Things?$filter=geo.distance(name, geography'POINT(1 1)') lt 1", "expected a geometry"),
    ("Locations?$filter=st_within(location, geography'POLYGON((0 0,1 1,0 1,1 0,0 0))')", "impossible"),
    ("Locations?$filter=st_within(location, location)", "one property and one constant"),
    ("Locations?$filter=location eq geography'POINT(1 1)'", "compared with functions"),
    ("Datastreams?$orderby=Observations/parameters", "many targets"),
    ("Things?$orderby=ObservationGroups/id", "has no property"),
    ("Things?$orderby=nme", "did you mean name?"),
    ("Locations?$orderby=location", "nothing can be ordered by a geometry"),
    ("Things?$select=nme", "did you mean name?"),
    ("Things?$select=name/x", "has no parts"),
    ("Things?$expand=Datastream", "has no link"),
    ("Things?$expand=Datastreams($expand=Observations($filter=nme eq 1))", "no property 'nme'"),
    ("Things?$skip=100000000", "nextLink"),
    ("Things?$skiptoken=x", "no place of this list"),
    ("Things?$skiptoken=WzEsMl0", "no place of this list"),
    ("Things(1)?$filter=name eq 'x'", "cannot be asked of one entity"),
    ("Things?$expand=Datastreams($top=10000;$expand=Observations($top=10000))", "entities in one answer"),
    ("Observations?$filter=result mul 1e300 mul 1e300 gt 1", "out of range"),
]


async def test_conditions_on_observations(client: Client, city: City) -> None:
    for condition, expected in OBSERVATIONS:
        path = f"Datastreams({city.temperature.pk})/Observations?$count=true&$filter={quote(condition)}"
        body = await client.json(path)
        assert (condition, len(body["value"]), body["@iot.count"]) == (condition, expected, expected)


async def test_conditions_on_things(client: Client, city: City) -> None:
    for condition, expected in THINGS:
        body = await client.json(f"Things?$count=true&$filter={quote(condition)}")
        names = [one["name"] for one in body["value"]]
        assert (condition, names, body["@iot.count"]) == (condition, expected, len(expected))


async def test_refusals_name_what_is_wrong(client: Client, city: City) -> None:
    for path, reason in REFUSED:
        head, _, query = path.partition("?")
        answer = await client.get(f"{head}?{quote(query, safe='$=&')}")
        assert (path, answer.status_code) == (path, 400), answer.text
        message = answer.json()["message"]
        assert reason in message, (path, message)


async def test_periods_of_observations_and_datastreams(client: Client, city: City) -> None:
    other = city.other.pk
    for condition, expected in (
        ("phenomenonTime lt 2026-03-01T12:30:00Z", 0),
        ("phenomenonTime le 2026-03-01T13:00:00Z", 1),
        ("phenomenonTime eq 2026-03-01T12:00:00Z/2026-03-01T13:00:00Z", 1),
        ("phenomenonTime ne 2026-03-01T12:00:00Z/2026-03-01T13:00:00Z", 0),
        ("phenomenonTime gt 2026-03-01T11:00:00Z/2026-03-01T12:00:00Z", 1),
        ("overlaps(phenomenonTime, 2026-03-01T12:59:00Z/2026-03-01T14:00:00Z)", 1),
        ("parameters/cloud eq 3", 1),
        ("validTime gt 2026-02-01T00:00:00Z", 1),
        ("resultTime eq 2026-03-01T12:00:05Z", 1),
        ("resultTime gt phenomenonTime/start", 1),
    ):
        found = await client.ids(f"Datastreams({other})/Observations?$filter={quote(condition)}")
        assert (condition, len(found)) == (condition, expected)
    found = await client.ids(f"Datastreams?$filter={quote('phenomenonTime ge 2026-03-01T12:00:01Z')}")
    assert found == []
    found = await client.ids(f"Datastreams?$filter={quote('phenomenonTime/end gt 2026-03-01T12:10:00Z')}")
    assert found == [city.temperature.pk]


async def test_an_observation_is_found_by_its_id(client: Client, city: City) -> None:
    first = f"{city.temperature.pk}.1772366400000000"
    assert await client.ids(f"Observations?$filter={quote(f"id eq '{first}'")}") == [first]
    assert len(await client.ids(f"Observations?$filter={quote(f"id ne '{first}'")}")) == 31
    assert await client.ids("Observations?$filter=id eq 'nonsense'") == []
    assert await client.ids(f"Things?$filter=Datastreams/Observations/id eq '{first}'") == [city.market.pk]
