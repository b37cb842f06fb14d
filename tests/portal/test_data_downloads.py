"""Downloads: whole files compared, limits named, nothing hidden given away, and never held in memory at once."""

from __future__ import annotations

import asyncio
import csv
import gc
import io
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quartier.portal import downloads, selection
from quartier.twin.models import Thing
from tests.portal.data_scene import DataScene

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fresh")]
LICENCE = "https://www.govdata.de/dl-de/zero-2-0"


def period(data: DataScene, minutes: int) -> str:
    """The last minutes as parameters; the newest readings are a minute old."""
    until = data.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    since = (data.now - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"von={since}&bis={until}"


def body(answer: Any) -> bytes:
    """All of a streamed answer; the test client closes it at the end."""
    return b"".join(pieces_of(answer))


def pieces_of(answer: Any) -> list[bytes]:
    """The pieces in which a streamed answer comes."""
    return list(answer.streaming_content)


def stamp(data: DataScene, minutes_ago: int) -> str:
    return (data.now - timedelta(minutes=minutes_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_csv_holds_every_reading_and_says_where_its_meaning_stands(data: DataScene, client: Client) -> None:
    answer = client.get(f"/daten/beobachtungen.csv?ort=dortmund/do-2&{period(data, 25)}")
    assert answer["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert answer["Content-Disposition"].startswith('attachment; filename="do-2_')
    assert f'<{LICENCE}>; rel="license"' in answer["Link"]
    assert "</daten/beobachtungen.csv-metadata.json?ort=dortmund%2Fdo-2&" in answer["Link"]
    assert 'rel="describedby"; type="application/csvm+json"' in answer["Link"]
    assert body(answer).decode() == "\r\n".join(
        [
            "municipality,thing,name,longitude,latitude,property,channel,unit,time,result,flags,flag_names",
            *(
                f'dortmund,do-2,"Bolmke, Ardeystraße",7.449,51.4905,air_temperature,,Cel,{stamp(data, m)},15.0,0,'
                for m in (21, 11, 1)
            ),
            "",
        ]
    )


def test_flags_and_truth_are_words_in_csv(data: DataScene, client: Client) -> None:
    address = (
        f"/daten/beobachtungen.csv?ort=dortmund/do-1&messgroesse=air_temperature&{period(data, 60 * 30)}"
    )
    rows = list(csv.DictReader(io.StringIO(body(client.get(address)).decode())))
    assert len(rows) == 180
    assert [row for row in rows if row["flags"] != "0"] == [
        {
            "municipality": "dortmund", "thing": "do-1", "name": "Hörde, Hermannstraße", "longitude": "7.5",
            "latitude": "51.49", "property": "air_temperature", "channel": "", "unit": "Cel",
            "time": stamp(data, 1 + 10 * 19), "result": "55.5", "flags": "4", "flag_names": "spike",
        }
    ]  # fmt: skip
    address = f"/daten/beobachtungen.csv?ort=dortmund/do-platz&{period(data, 25)}"
    rows = list(csv.DictReader(io.StringIO(body(client.get(address)).decode())))
    assert [row["result"] for row in rows] == ["true", "false", "true"]


def test_name_that_looks_like_a_formula_is_harmless(data: DataScene, client: Client) -> None:
    Thing.objects.filter(key="do-2").update(name='=HYPERLINK("http://x")')
    rows = list(
        csv.DictReader(
            io.StringIO(
                body(client.get(f"/daten/beobachtungen.csv?ort=dortmund/do-2&{period(data, 5)}")).decode()
            )
        )
    )
    assert rows[0]["name"] == '\'=HYPERLINK("http://x")'


def test_metadata_of_csv_describe_columns_licence_and_source(data: DataScene, client: Client) -> None:
    query = f"ort=dortmund/do-2&{period(data, 25)}"
    answer = client.get(f"/daten/beobachtungen.csv-metadata.json?{query}")
    assert answer["Content-Type"] == "application/csvm+json"
    found = answer.json()
    header = body(client.get(f"/daten/beobachtungen.csv?{query}")).decode().splitlines()[0].split(",")
    assert [column["name"] for column in found["tableSchema"]["columns"]] == header
    assert found["dc:license"] == [
        {"@id": LICENCE, "rdfs:label": "Datenlizenz Deutschland – Zero – Version 2.0"}
    ]
    assert found["dc:source"] == ["Stadt Dortmund"]
    assert found["dc:temporal"] == f"{stamp(data, 25)}/{stamp(data, 0)}"


def test_geojson_holds_observations_licence_and_source(data: DataScene, client: Client) -> None:
    answer = client.get(
        f"/daten/beobachtungen.geojson?ort=dortmund/do-park&ort=dortmund/do-2&{period(data, 5)}"
    )
    assert answer["Content-Type"] == "application/geo+json"
    found = json.loads(body(answer))
    assert found["quartier"]["licence"] == [
        {"name": "Datenlizenz Deutschland – Zero – Version 2.0", "url": LICENCE}
    ]
    assert found["quartier"]["source"] == ["Stadt Dortmund"]
    assert found["type"] == "FeatureCollection"
    assert {"type": "Feature", "geometry": {"type": "Point", "coordinates": [7.501, 51.491]},
            "properties": {"municipality": "dortmund", "thing": "do-park", "name": "Tiefgarage Hörde",
                           "property": "free_spaces", "channel": "", "unit": "1", "time": stamp(data, 1),
                           "result": 42.0, "flags": 0}} in found["features"]  # fmt: skip
    assert len(found["features"]) == 2


def test_parquet_holds_the_same_in_columns(
    data: DataScene, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_ROW_GROUP", 100)
    address = (
        f"/daten/beobachtungen.parquet?stadt=dortmund&messgroesse=air_temperature&{period(data, 60 * 24)}"
    )
    file = pq.ParquetFile(io.BytesIO(body(client.get(address))))
    table = file.read()
    # Two stations are awake, each with a reading every ten minutes.
    assert (table.num_rows, file.metadata.num_row_groups) == (288, 3)
    first = table.slice(0, 1).to_pylist()[0]
    assert first == {
        "municipality": "dortmund", "thing": "do-1", "name": "Hörde, Hermannstraße", "longitude": 7.5,
        "latitude": 51.49, "property": "air_temperature", "channel": "", "unit": "Cel",
        "time": data.now - timedelta(minutes=1 + 143 * 10), "result": 21.84, "value": None, "flags": 0,
    }  # fmt: skip
    stated = json.loads(table.schema.metadata[b"quartier"])
    assert stated["licence"][0]["url"] == LICENCE
    assert stated["flags"]["spike"] == 4


def test_days_are_civil_days_and_the_last_one_counts(data: DataScene, client: Client) -> None:
    found = client.get(
        "/daten/beobachtungen.csv-metadata.json?stadt=dortmund&art=tree&von=2026-10-24&bis=2026-10-25"
    )
    # On 25 October 2026 the clocks go back: the two days have 49 hours.
    assert found.json()["dc:temporal"] == "2026-10-23T22:00:00Z/2026-10-25T23:00:00Z"


def test_without_period_the_last_week_is_given(data: DataScene, client: Client) -> None:
    since, until = (
        client.get("/daten/beobachtungen.csv-metadata.json?stadt=schwerte").json()["dc:temporal"].split("/")
    )
    parsed = [datetime.fromisoformat(text) for text in (since, until)]
    assert parsed[1] - parsed[0] == timedelta(days=7)
    assert abs(datetime.now(UTC) - parsed[1]) < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("query", "field", "detail"),
    [
        ("", "ort", "give at least one of ort, messgroesse, stadt"),
        ("art=tree", "ort", "give at least one of ort, messgroesse, stadt"),
        ("ort=do-1", "ort", "'do-1' is not <municipality>/<key>"),
        ("ort=dortmund/nichts", "ort", "'dortmund/nichts' is not known"),
        ("ort=dortmund/do-geheim", "ort", "'dortmund/do-geheim' is not known"),
        ("ort=dortmund/do-leuchte", "ort", "'dortmund/do-leuchte' is not known"),
        ("messgroesse=nichts", "messgroesse", "'nichts' is not known"),
        ("stadt=atlantis", "stadt", "'atlantis' is not known"),
        ("stadt=%00", "stadt", "holds characters that no name has"),
        ("stadt=dortmund&von=gestern", "von", "is no day (2026-11-22) and no moment (2026-11-22T10:00:00Z)"),
        ("stadt=dortmund&bis=2026-02-30", "bis", "is no day (2026-11-22) and no moment (2026-11-22T10:00:00Z)"),
        ("stadt=dortmund&von=2026-11-01T10:00:00", "von", "needs an offset from UTC, such as 2026-11-22T10:00:00Z"),
        ("stadt=dortmund&von=0001-01-01T00:00:00%2B01:00", "von", "lies outside of the years that are kept"),
        ("stadt=dortmund&von=2026-11-02&bis=2026-11-01", "von", "must be before bis"),
        ("stadt=dortmund&von=2010-01-01&bis=2026-01-01", "von",
         "at most 3660 days at once; ask for the years one after the other"),
        ("ort=" + ",".join(f"dortmund/t{n}" for n in range(101)), "ort", "at most 100 places at once, not 101"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("data")
def test_wrong_selection_names_the_parameter(client: Client, query: str, field: str, detail: str) -> None:
    for form in ("csv", "geojson", "parquet", "csv-metadata.json"):
        answer = client.get(f"/daten/beobachtungen.{form}?{query}")
        assert answer.status_code == 400
        assert answer.json() == {"error": "invalid", "field": field, "detail": detail}


def test_too_much_at_once_says_how_much_fits(
    data: DataScene, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "MAXIMUM_SERIES_DAYS", 40)
    answer = client.get("/daten/beobachtungen.csv?messgroesse=air_temperature&von=2026-01-01&bis=2026-01-20")
    assert answer.json() == {
        "error": "invalid",
        "field": "von",
        "detail": "4 series over 20 days are too many at once; at most 10 days for them",
    }


def test_head_costs_nothing(data: DataScene, client: Client) -> None:
    answer = client.head("/daten/beobachtungen.csv?stadt=dortmund")
    assert (answer.status_code, answer.content) == (200, b"")
    assert "Link" in answer.headers
    assert client.post("/daten/beobachtungen.csv?stadt=dortmund").status_code == 405


def test_one_download_too_many_is_asked_to_come_back(
    data: DataScene, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_slots", threading.BoundedSemaphore(1))
    address = f"/daten/beobachtungen.csv?ort=dortmund/do-2&{period(data, 25)}"
    first = client.get(address)
    second = client.get(address)
    assert (second.status_code, second["Retry-After"]) == (503, "10")
    body(first)
    assert client.get(address).status_code == 200


def test_answer_that_nobody_reads_gives_its_place_back(
    data: DataScene, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_slots", threading.BoundedSemaphore(1))
    address = f"/daten/beobachtungen.csv?ort=dortmund/do-2&{period(data, 25)}"
    for _ in range(3):
        answer = client.get(address)
        assert answer.status_code == 200
        del answer
        gc.collect()


def test_large_download_comes_in_pieces(
    data: DataScene, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_CHUNK_ROWS", 100)
    answer = client.get(f"/daten/beobachtungen.csv?ort=dortmund/do-1&{period(data, 60 * 30)}")
    pieces = pieces_of(answer)
    # 4 series of 180 readings and one of 6.
    assert [piece.count(b"\r\n") for piece in pieces] == [101, *[100] * 6, 26]


def test_asgi_streams_and_a_visitor_who_leaves_frees_the_place(
    data: DataScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = threading.BoundedSemaphore(1)
    monkeypatch.setattr(downloads, "_slots", slots)
    monkeypatch.setattr(downloads, "_CHUNK_ROWS", 50)
    query = f"ort=dortmund/do-1&{period(data, 60 * 30)}".encode()
    scope = {
        "type": "http", "method": "GET", "path": "/daten/beobachtungen.csv", "query_string": query, "headers": [],
        "http_version": "1.1", "scheme": "http", "server": ("localhost", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip

    async def visit(leave_after: int | None) -> list[bytes]:
        gone, pieces = asyncio.Event(), list[bytes]()
        incoming = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> dict[str, Any]:
            if message := next(incoming, None):
                return message
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message.get("body"):
                pieces.append(message["body"])
                if leave_after is not None and len(pieces) >= leave_after:
                    gone.set()
                    await asyncio.sleep(0.05)

        await ASGIHandler()(scope, receive, send)  # type: ignore[arg-type]
        return pieces

    whole = asyncio.run(visit(None))
    assert b"".join(whole).count(b"\r\n") == 1 + 4 * 180 + 6
    assert len(whole) == 15
    part = asyncio.run(visit(2))
    assert len(part) < 15
    assert slots.acquire(blocking=False)


anything = st.text(max_size=12) | st.sampled_from(
    ["dortmund", "dortmund/do-1", "air_temperature", "station", "2026-11-22", "2026-11-22T10:00:00Z", "0001-01-01",
     "9999-12-31", "9999-12-31T23:59:59-12:00", "1990-01-01T00:00:00+23:59", "", "\x00", ",", "/", "//", "nan"]
)  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "csv-metadata.json", "geojson", "parquet"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.dictionaries(st.sampled_from(["ort", "messgroesse", "stadt", "art", "von", "bis"]), anything))
def test_no_selection_is_a_server_error(
    data: DataScene, client: Client, form: str, query: dict[str, str]
) -> None:
    answer = client.get(f"/daten/beobachtungen.{form}", query)
    assert answer.status_code in {200, 400}
    if answer.streaming:
        body(answer)
