"""``$batch`` in both forms: order, references, change sets, limits."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

import orjson
import pytest

from quartier.engines.pools import Pool
from tests.interfaces.sensorthings.write.conftest import (
    Town,
    Writing,
    datastream,
    location,
    rows,
    sensor,
    thing,
)

pytestmark = pytest.mark.django_db(transaction=True)


async def ask(sta: Writing, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The responses of a JSON batch."""
    answer = await sta.send("POST", "$batch", {"requests": requests})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["responses"]
    return found


def statuses(responses: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(one["id"], one["status"]) for one in responses]


async def test_json_batch_with_references(sta: Writing) -> None:
    linked = datastream(Sensor={"@iot.id": "$s"})
    found = await ask(
        sta,
        [
            {"id": "t", "method": "post", "url": "Things", "body": {"name": "T", "description": ""}},
            {"id": "s", "method": "POST", "url": "/sensorthings/v1.1/Sensors", "body": sensor()},
            {"id": "l", "method": "post", "url": "$t/Locations", "body": location()},
            {"id": "d", "method": "post", "url": "$t/Datastreams", "body": linked, "dependsOn": ["t", "s"]},
            {
                "id": "o",
                "method": "post",
                "url": "Observations",
                "body": {"result": 1.5, "Datastream": {"@iot.id": "$d"}},
            },
            {"id": "p", "method": "patch", "url": "$t", "body": {"name": "Neu"}},
            {
                "id": "g",
                "method": "get",
                "url": "Things?$filter=name eq 'Neu'&$expand=Datastreams/Observations,Locations",
            },
        ],
    )
    assert statuses(found) == [
        ("t", 201),
        ("s", 201),
        ("l", 201),
        ("d", 201),
        ("o", 201),
        ("p", 200),
        ("g", 200),
    ]
    [read] = found[-1]["body"]["value"]
    assert [one["result"] for one in read["Datastreams"][0]["Observations"]] == [1.5]
    assert (await sta.json(found[3]["location"].split("/v1.1/")[1] + "/Sensor"))["name"] == "SHT35"


async def test_change_set_happens_whole_or_not_at_all(sta: Writing, pool: Pool) -> None:
    stream = datastream(Thing={"@iot.id": "$1"})
    requests: list[dict[str, Any]] = [
        {
            "id": "1",
            "atomicityGroup": "g",
            "method": "post",
            "url": "Things",
            "body": {"name": "T", "description": ""},
        },
        {"id": "2", "atomicityGroup": "g", "method": "post", "url": "Datastreams", "body": stream},
        {
            "id": "3",
            "atomicityGroup": "g",
            "method": "post",
            "url": "$2/Observations",
            "body": {"result": 7.0},
        },
        {
            "id": "4",
            "atomicityGroup": "g",
            "method": "post",
            "url": "$2/Observations",
            "body": {"result": "x"},
        },
        {"id": "5", "method": "post", "url": "$1/Locations", "body": location()},
        {"id": "6", "method": "get", "url": "Things/$count"},
    ]
    found = await ask(sta, requests)
    assert statuses(found) == [("1", 424), ("2", 424), ("3", 424), ("4", 400), ("5", 424), ("6", 200)]
    assert found[3]["body"]["message"].startswith("result: expected a number")
    for table in ("sensorthings_datastream", "twin_observation", "sensorthings_sensor"):
        assert await rows(pool, f"SELECT count(*) FROM {table}") == [(0,)]
    requests[3]["body"] = {"result": 8.0, "phenomenonTime": "2026-07-01T12:00:00Z"}
    found = await ask(sta, requests)
    assert statuses(found) == [("1", 201), ("2", 201), ("3", 201), ("4", 201), ("5", 201), ("6", 200)]
    assert await rows(pool, "SELECT result FROM twin_observation ORDER BY result") == [(7.0,), (8.0,)]
    assert await rows(pool, "SELECT n FROM twin_state") == [(2,)]


async def test_many_plain_observations(sta: Writing, town: Town, pool: Pool) -> None:
    path = await sta.post("Datastreams", datastream(Thing={"@iot.id": town.world.thing.pk}))
    requests = [
        {"id": str(n), "method": "post", "url": f"{path}/Observations",
         "body": {"result": n if n % 100 else "x", "phenomenonTime": f"2026-07-01T{n // 60:02}:{n % 60:02}:00Z"}}
        for n in range(600)
    ]  # fmt: skip
    found = await ask(sta, requests)
    assert [one["status"] for one in found] == [201 if n % 100 else 400 for n in range(600)]
    assert [one["id"] for one in found] == [str(n) for n in range(600)]
    assert await rows(pool, "SELECT count(*), sum(result) FROM twin_observation") == [
        (594, sum(n for n in range(600) if n % 100))
    ]


async def test_wrong_batches(sta: Writing) -> None:
    one = {"id": "1", "method": "get", "url": "Things"}
    refused: list[tuple[Any, int, str]] = [
        ({}, 400, "requests: is missing"),
        ({"requests": [7]}, 400, "requests[0]: expected an object, found a number"),
        ({"requests": [one, one]}, 400, "requests[1].id: '1' is given twice"),
        ({"requests": [one | {"method": "BREW"}]}, 400, "requests[0].method: expected one of GET"),
        ({"requests": [one | {"url": 7}]}, 400, "requests[0].url: expected an address"),
        ({"requests": [one | {"dependsOn": ["2"]}, one | {"id": "2"}]}, 400, "requests[0].dependsOn: '2' is no"),
        ({"requests": [one | {"dependsOn": ["1"]}]}, 400, "requests[0].dependsOn: '1' is no earlier request"),
        ({"requests": [one | {"id": str(n)} for n in range(100_000)]}, 413, "at most 5000 requests"),
    ]  # fmt: skip
    for body, status, message in refused:
        assert (await sta.no("POST", "$batch", body, status)).startswith(message)
    found = await ask(
        sta,
        [
            one | {"id": "a", "url": "Nichts"},
            one | {"id": "b", "url": "$batch", "method": "post", "body": {}},
            one | {"id": "c", "url": "$zz/Locations", "method": "post", "body": {}},
            one | {"id": "d", "url": "Things", "dependsOn": ["a"]},
            one | {"id": "e", "url": "Things?$filter=name eq"},
            one | {"id": "f", "url": "Things", "method": "post"},
        ],
    )
    assert statuses(found) == [("a", 404), ("b", 400), ("c", 400), ("d", 424), ("e", 400), ("f", 400)]


def multipart(*parts: str) -> bytes:
    return "".join(f"--b\r\n{part}\r\n" for part in parts).encode() + b"--b--\r\n"


def http(line: str, body: Any = None, content_id: str = "") -> str:
    head = "Content-Type: application/http\r\n" + (f"Content-ID: {content_id}\r\n" if content_id else "")
    text = orjson.dumps(body).decode() if body is not None else ""
    return f"{head}\r\n{line} HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{text}"


def change_set(*parts: str) -> str:
    inner = "".join(f"--c\r\n{part}\r\n" for part in parts)
    return f"Content-Type: multipart/mixed; boundary=c\r\n\r\n{inner}--c--\r\n"


async def send(sta: Writing, body: bytes) -> list[Any]:
    """The parts of a multipart answer, as a mail parser reads them: (status line, JSON) or lists of them."""
    answer = await sta.send(
        "POST", "$batch", content=body, headers={"content-type": "multipart/mixed; boundary=b"}
    )
    assert answer.status_code == 200, answer.text
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    return [_read(part) for part in BytesParser(policy=HTTP).parsebytes(head + answer.content).iter_parts()]


def _read(part: Any) -> Any:
    if part.is_multipart():
        return [_read(one) for one in part.iter_parts()]
    status, _, rest = part.get_payload(decode=True).partition(b"\r\n")
    body = rest.partition(b"\r\n\r\n")[2].strip()
    return status.decode(), orjson.loads(body) if body else None


async def test_multipart_batch(sta: Writing, town: Town, pool: Pool) -> None:
    """The example of 18-088 clause 10.6 in this city: a reading request, a change set with a reference, an error."""
    stream = datastream(Thing={"@iot.id": town.world.thing.pk})
    found = await send(
        sta,
        multipart(
            http("GET /sensorthings/v1.1/Things?$select=name"),
            change_set(
                http("POST /sensorthings/v1.1/Datastreams", stream, "ds"),
                http("POST $ds/Observations", {"result": 4.5}, "ob"),
                http("PATCH /sensorthings/v1.1/$ds", {"description": "neu"}, "pa"),
            ),
            change_set(
                http("POST Locations", location(), "x"),
                http("POST Locations", {"name": "?"}, "y"),
            ),
            http("GET Nichts"),
        ),
    )
    assert found[0][0] == "HTTP/1.1 200 OK"
    assert [one["name"] for one in found[0][1]["value"]] == ["Markt"]
    assert [status for status, _ in found[1]] == [
        "HTTP/1.1 201 Created",
        "HTTP/1.1 201 Created",
        "HTTP/1.1 200 OK",
    ]
    assert found[2] == (
        "HTTP/1.1 400 Bad Request",
        {"code": 400, "type": "error", "message": "description: is missing; every Location has it"},
    )
    assert found[3][0] == "HTTP/1.1 404 Not Found"
    assert await rows(pool, "SELECT result FROM twin_observation") == [(4.5,)]
    assert await sta.json("Locations?$filter=name eq 'Platz'&$count=true&$top=0") == {
        "@iot.count": 0,
        "value": [],
    }


async def test_wrong_multipart(sta: Writing) -> None:
    kind = {"content-type": "multipart/mixed; boundary=b"}
    refused = [
        (b"", "batch: the boundary occurs nowhere"),
        (b"--b\r\nx", "batch: ends without its closing boundary"),
        (multipart("Content-Type: application/http\r\n\r\nHELLO"), "part 1: expected a request line"),
        (multipart(http("POST Things")), "part 1: the body is empty"),
        (
            multipart(http("GET Things", None, "a"), http("GET Things", None, "a")),
            "part 2: the Content-ID a is given twice",
        ),
    ]
    for body, message in refused:
        answer = await sta.send("POST", "$batch", content=body, headers=kind)
        assert answer.status_code == 400
        assert answer.json()["message"].startswith(message)
    answer = await sta.send("POST", "$batch", content=b"x", headers={"content-type": "multipart/mixed"})
    assert answer.json()["message"] == "batch: the Content-Type says no boundary"
    many = multipart(*[http("GET Things")] * 6000)
    assert (await sta.send("POST", "$batch", content=many, headers=kind)).status_code == 413


async def test_representation_and_deletion_within_a_batch(sta: Writing) -> None:
    wanted = {"prefer": "return=representation"}
    found = await ask(
        sta,
        [
            {"id": "1", "method": "post", "url": "Things", "body": thing(), "headers": wanted},
            {"id": "2", "method": "delete", "url": "$1"},
            {"id": "3", "method": "get", "url": "$1"},
        ],
    )
    assert statuses(found) == [("1", 201), ("2", 200), ("3", 404)]
    assert found[0]["body"]["name"] == "Messstelle Süd"
