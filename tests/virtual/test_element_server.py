"""The virtual ELEMENT IoT server: against recorded answers, with the public client, and its paging."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import httpx
import pandas as pd  # type: ignore[import-untyped]
import pytest
from element import ElementApi, decode_ATM41, decode_BLG, decode_STH35
from hypothesis import given, settings
from hypothesis import strategies as st

from quartier.virtual.element_server import ElementServer
from quartier.virtual.radio import Radio
from quartier.virtual.schedule import Faults, Schedule
from tests.virtual.conftest import START_S, Hand, schedule, served

ROOT = "virtuelles-dortmund"
SHT35 = f"{ROOT}-klimasensoren-aktiv-sht35"
NOW = datetime.fromtimestamp(START_S + 900, UTC)
MANY = Faults(lost=0.05, doubled=0.05, late=0.05, broken=0.05)


def make(
    plan: Schedule | None = None,
    *,
    requests_per_10_s: int = 1_000_000,
    monotonic_s: Callable[[], float] = time.monotonic,
) -> Any:
    plan = plan or schedule("element")
    return ElementServer(
        plan,
        Radio(plan.world),
        api_key="secret",
        requests_per_10_s=requests_per_10_s,
        monotonic_s=monotonic_s,
    ).app()


@asynccontextmanager
async def client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://virtual/api/v1", params={"auth": "secret"}
    ) as opened:
        yield opened


async def body(opened: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await opened.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["body"]


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# -- the same shapes as a real server ---------------------------------------------------------------------------


def shape_of(value: Any) -> Any:
    """Keys and types of a document, whatever the values; lists by their first element, numbers as one type."""
    if isinstance(value, dict):
        return {key: shape_of(entry) for key, entry in sorted(value.items())}
    if isinstance(value, list):
        return [shape_of(value[0])] if value else []
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__


def recorded(data: Path, name: str) -> Any:
    return json.loads((data / "element-iot" / name).read_text())


async def test_device_has_the_shape_of_a_real_one(data: Path) -> None:
    model = recorded(data, "device.json")
    async with client(make()) as opened:
        answer = (await opened.get("/devices/dec00d101")).json()
    # What a city enters into the profile is its own affair; the keys here are ones the real profile has, too.
    real_fields = {entry["name"] for entry in model["body"]["profile_data"][0]["profile"]["fields"]}
    assert set(answer["body"]["fields"]["gerateinformation"]) <= real_fields
    for document in (model, answer):
        del document["body"]["fields"]["gerateinformation"]
        del document["body"]["profile_data"][0]["data"]
    assert shape_of(answer) == shape_of(model)


async def test_device_list_has_the_shape_of_a_real_one(data: Path) -> None:
    model = recorded(data, "devices_1.json")
    async with client(make()) as opened:
        answer = (await opened.get(f"/tags/{SHT35}/devices")).json()
    assert shape_of(answer) == shape_of(model)
    assert len(answer["body"]) == len(model["body"])


async def test_folder_list_has_the_shape_of_a_real_one(data: Path) -> None:
    model = recorded(data, "folders_1.json")
    async with client(make()) as opened:
        answer = (await opened.get("/tags")).json()
    assert shape_of(answer) == shape_of(model)


async def test_packets_have_the_shape_of_real_ones(data: Path) -> None:
    async with client(make()) as opened:
        for name, path in (
            ("packets_by_device_DEC0054A6.json", "/devices/by-name/DEC00D101/packets"),
            ("packets_by_folder.json", f"/tags/{SHT35}/packets"),
        ):
            model = recorded(data, name)
            answer = (await opened.get(path)).json()
            del answer["retrieve_after_id"]  # the recorded answers were the last of their pages
            assert shape_of(answer) == shape_of(model)


async def test_readings_have_the_shape_of_real_ones(data: Path) -> None:
    async with client(make()) as opened:
        for name, params in (
            ("readings_DEC0054A6.json", {"limit": "1"}),
            ("readings_DEC0054A6_no_data.json", {"limit": "100", "after": "2026-06-04T10:00:00Z"}),
        ):
            model = recorded(data, name)
            answer = (await opened.get("/devices/by-name/DEC00D101/readings", params=params)).json()
            assert shape_of(answer) == shape_of(model)


async def test_empty_answer_is_that_of_a_real_server(data: Path) -> None:
    async with client(make()) as opened:
        answer = await opened.get(
            "/devices/by-name/DEC00D101/readings", params={"after": "2026-06-04T11:00:00Z"}
        )
    assert answer.json() == recorded(data, "empty_resp.json")


async def test_streams_have_the_shape_of_real_ones(data: Path) -> None:
    async with client(make()) as opened:
        for name, path in (
            ("packets_by_folder_streamed.txt", f"/tags/{SHT35}/packets/stream"),
            ("readings_DEC0054A6_short_streamed.txt", "/devices/by-name/DEC00D101/readings/stream"),
        ):
            model = lines((data / "element-iot" / name).read_text())
            answer = await opened.get(path, params={"after": "2026-06-04T10:00:00Z"})
            assert {json.dumps(shape_of(line)) for line in lines(answer.text)} == {
                json.dumps(shape_of(model[0]))
            }


async def test_stream_timeout_has_the_form_of_a_real_one(data: Path) -> None:
    model = lines((data / "element-iot" / "packets_by_folder_streamed_error.txt").read_text())[-1]
    ticks = itertools.count()
    async with client(make(monotonic_s=lambda: float(next(ticks)))) as opened:
        answer = await opened.get(f"/tags/{ROOT}/packets/stream", params={"timeout": "250"})
    received = lines(answer.text)
    assert received[-1] == model
    assert all("id" in line for line in received[:-1])
    assert len(received) == 51


# -- the public client ------------------------------------------------------------------------------------------


async def with_client(action: Callable[[ElementApi], Any], plan: Schedule | None = None) -> Any:
    """Run blocking calls of the public client against the server on a real port."""
    async with served(make(plan)) as address:
        return await asyncio.to_thread(action, ElementApi(f"{address}/api/v1/", "secret"))


async def test_client_lists_folders() -> None:
    folders, slugs = await with_client(lambda api: (api.get_folders(), api.get_folder_slugs()))
    assert sorted(slugs) == sorted(
        [
            ROOT,
            f"{ROOT}-klimasensoren",
            f"{ROOT}-klimasensoren-aktiv",
            SHT35,
            f"{ROOT}-klimasensoren-aktiv-atm41",
            f"{ROOT}-klimasensoren-aktiv-blackglobe",
            f"{ROOT}-pegel",
            f"{ROOT}-parken",
            f"{ROOT}-parken-stellplatze",
            f"{ROOT}-parken-parkhauser",
            f"{ROOT}-wertstoffcontainer",
            f"{ROOT}-stadtbaume",
            f"{ROOT}-strassenbeleuchtung",
            f"{ROOT}-verkehrszahlung",
        ]
    )
    assert len(folders["body"]) == 14


async def test_client_lists_devices() -> None:
    devices, addresses = await with_client(
        lambda api: (api.get_devices(SHT35), api.get_device_addresses(SHT35))
    )
    assert len(addresses) == 51
    assert len(set(addresses)) == 51
    assert [device["name"] for device in devices["body"]] == addresses


async def test_client_reads_one_device() -> None:
    device = await with_client(lambda api: api.get_device("DEC00D101"))
    assert device["body"]["name"] == "DEC00D101"
    assert device["body"]["fields"]["gerateinformation"]["seriennummer"] == str(0xD101)


async def test_client_translates_addresses_and_ids() -> None:
    decentlab_id, address = await with_client(
        lambda api: (api.decentlab_id_from_address("DEC00D103"), api.address_from_decentlab_id(0xD105, SHT35))
    )
    assert (decentlab_id, address) == (0xD103, "DEC00D105")


async def test_client_reads_readings_by_page_and_as_stream() -> None:
    start, end = NOW - timedelta(hours=3), NOW - timedelta(hours=1)

    def read(api: ElementApi) -> tuple[Any, Any, Any]:
        return (
            api.get_readings("DEC00D101", start=start, end=end, limit=7),
            api.get_readings("DEC00D101", start=start, end=end, stream=True),
            api.get_readings("DEC00D101", start=start, end=end, sort_direction="desc", max_pages=2, limit=5),
        )

    paged, streamed, newest = await with_client(read, schedule("element", faults=Faults.none()))
    assert paged["body"] == streamed["body"]
    assert len(paged["body"]) == 24
    times = [reading["measured_at"] for reading in paged["body"]]
    assert times == sorted(times)
    assert newest["body"] == paged["body"][::-1][:10]


async def test_client_makes_a_dataframe() -> None:
    frame = await with_client(
        lambda api: api.get_readings(
            "DEC00D101", start=NOW - timedelta(hours=2), stream=True, as_dataframe=True
        ),
        schedule("element", faults=Faults.none()),
    )
    assert isinstance(frame, pd.DataFrame)
    assert frame.shape == (24, 5)
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert frame["air_temperature"].between(-25, 45).all()


async def test_client_reads_packets_of_device_and_folder() -> None:
    start, end = NOW - timedelta(minutes=40), NOW

    def read(api: ElementApi) -> tuple[Any, Any, Any, Any]:
        return (
            api.get_packets(device_name="DEC00D101", start=start, end=end),
            api.get_packets(folder=ROOT, start=start, end=end, packet_type="up"),
            api.get_packets(folder=ROOT, start=start, end=end, stream=True),
            api.get_packets(folder=ROOT, start=start, end=end, packet_type="down"),
        )

    of_device, of_folder, streamed, down = await with_client(read, schedule("element", faults=Faults.none()))
    assert len(of_device["body"]) == 8
    assert of_folder["body"] == streamed["body"]
    assert len(of_folder["body"]) > 500
    device_id = of_device["body"][0]["device_id"]
    assert [packet for packet in of_folder["body"] if packet["device_id"] == device_id] == of_device["body"]
    assert down["body"] == []


async def test_client_decodes_our_decentlab_packets_as_the_server_does() -> None:
    # Between a packet and its reading lie some milliseconds; a bound in both avoids the moment.
    earlier = "2026-06-04T10:10:00Z"
    async with client(make(schedule("element", faults=Faults.none()))) as opened:
        for folder, decode in (
            (SHT35, decode_STH35),
            (f"{ROOT}-klimasensoren-aktiv-atm41", decode_ATM41),
            (f"{ROOT}-klimasensoren-aktiv-blackglobe", decode_BLG),
        ):
            packet = (await body(opened, f"/tags/{folder}/packets", limit=1, before=earlier))[0]
            reading = (await body(opened, f"/tags/{folder}/readings", limit=1, before=earlier))[0]
            assert reading["packet_id"] == packet["id"]
            by_client = decode(packet["payload"].encode(), hex=True)
            expected = {
                name.lower().replace(" ", "_").replace("(", "").replace(")", ""): value["value"]
                for name, value in by_client.items()
                if isinstance(value, dict)
            }
            data = reading["data"]
            assert data.pop("device_id") == by_client["Device ID"]
            assert data.pop("protocol_version") == 2
            assert data == pytest.approx(expected)


async def test_client_gets_an_error_for_a_wrong_key() -> None:
    async with served(make()) as address:
        with pytest.raises(HTTPError) as refused:
            await asyncio.to_thread(ElementApi(f"{address}/api/v1", "wrong").get_folders)
    assert refused.value.code == 401
    refused.value.close()


# -- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "params", "status", "message"),
    [
        ("/tags", {"auth": "wrong"}, 401, "Unauthorized"),
        ("/tags", {"auth": ""}, 401, "Unauthorized"),
        ("/nothing", {}, 404, "Not Found"),
        ("/tags/unknown/devices", {}, 404, "Not Found"),
        ("/tags/unknown/packets", {}, 404, "Not Found"),
        ("/devices/unknown", {}, 404, "Not Found"),
        ("/devices/by-name/unknown/readings", {}, 404, "Not Found"),
        ("/devices/by-name/DEC00D101/frames", {}, 404, "Not Found"),
        ("/devices/by-name/DEC00D101/frames/stream", {}, 404, "Not Found"),
        (f"/tags/{ROOT}/packets", {"limit": "101"}, 400, "limit must be between 1 and 100"),
        (f"/tags/{ROOT}/packets", {"limit": "ten"}, 400, "limit must be an integer"),
        (f"/tags/{ROOT}/packets", {"timeout": "249"}, 400, "timeout must be between 250 and 180000"),
        (f"/tags/{ROOT}/packets", {"after": "yesterday"}, 400, "after is not a valid date"),
        (f"/tags/{ROOT}/packets", {"sort": "name"}, 400, "sort must be transceived_at or inserted_at"),
        (f"/tags/{ROOT}/readings", {"sort": "name"}, 400, "sort must be measured_at or inserted_at"),
        (
            f"/tags/{ROOT}/packets",
            {"sort_direction": "up"},
            400,
            "sort_direction must be ascending or descending",
        ),
        (f"/tags/{ROOT}/packets", {"retrieve_after": "x"}, 400, "retrieve_after is not the id of an item"),
        (f"/tags/{ROOT}/devices", {"retrieve_after": "x"}, 400, "retrieve_after is not the id of an item"),
        ("/tags", {"sort_direction": "up"}, 400, "sort_direction must be ascending or descending"),
    ],
)
async def test_error_has_status_and_reason(
    path: str, params: dict[str, str], status: int, message: str
) -> None:
    async with client(make()) as opened:
        answer = await opened.get(path, params={"auth": "secret"} | params)
    assert answer.status_code == status
    assert answer.json() == {"error": message, "ok": False, "status": status}


async def test_rate_limit_counts_down_and_refuses() -> None:
    hand = Hand(100.0)
    async with client(make(requests_per_10_s=3, monotonic_s=hand)) as opened:
        seen = []
        for _ in range(5):
            answer = await opened.get("/tags", params={"limit": "1"})
            seen.append((answer.status_code, answer.headers["x-ratelimit-remaining"]))
            assert answer.headers["x-ratelimit-limit"] == "3/10000ms"
            hand.now_s += 1.0
        assert seen == [(200, "2"), (200, "1"), (200, "0"), (429, "0"), (429, "0")]
        assert answer.headers["x-ratelimit-reset"] == "6000"
        assert answer.json() == {"error": "Too Many Requests", "ok": False, "status": 429}
        hand.now_s += 6.0
        assert (await opened.get("/tags")).status_code == 200


# -- paging -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("kind", ["packets", "readings"])
@pytest.mark.parametrize("sort", ["own", "inserted_at"])
async def test_pages_hold_the_same_as_the_stream(kind: str, sort: str, direction: str) -> None:
    own = "transceived_at" if kind == "packets" else "measured_at"
    params: dict[str, Any] = {
        "sort": own if sort == "own" else sort,
        "sort_direction": direction,
        "after": "2026-06-04T09:40:00Z",
        "before": "2026-06-04T10:10:00Z",
    }
    async with client(make(schedule("element", faults=MANY))) as opened:
        streamed = lines((await opened.get(f"/tags/{ROOT}/{kind}/stream", params=params)).text)
        paged: list[dict[str, Any]] = []
        position: dict[str, Any] = {}
        while True:
            answer = (
                await opened.get(f"/tags/{ROOT}/{kind}", params=params | position | {"limit": 37})
            ).json()
            paged.extend(answer["body"])
            if "retrieve_after_id" not in answer:
                break
            position = {"retrieve_after": answer["retrieve_after_id"]}
    assert paged == streamed
    assert len({item["id"] for item in paged}) == len(paged) > 300
    inserted = [item["inserted_at"] for item in paged]
    assert all("2026-06-04T09:40:00" < moment < "2026-06-04T10:10:00" for moment in inserted)
    if sort == "inserted_at":
        assert inserted == sorted(inserted, reverse=direction == "desc")


@given(
    pauses_s=st.lists(st.floats(0.2, 400.0), min_size=3, max_size=12),
    limit=st.integers(1, 100),
    speed=st.sampled_from([1.0, 30.0]),
)
@settings(max_examples=15, deadline=None)
def test_resuming_after_the_last_item_loses_and_repeats_nothing(
    pauses_s: list[float], limit: int, speed: float
) -> None:
    """A client that reads by time of insertion and goes on after the last id sees every packet once."""
    hand = Hand(START_S - 30.0)
    plan = schedule("element", hand=hand, speed=speed, faults=MANY, history_s=1800)
    app = make(plan)

    async def follow() -> list[str]:
        seen: list[str] = []
        async with client(app) as opened:
            for pause_s in [0.0, *pauses_s]:
                hand.now_s += pause_s / speed
                while True:
                    params: dict[str, Any] = {"sort": "inserted_at", "sort_direction": "asc", "limit": limit}
                    if seen:
                        params["retrieve_after"] = seen[-1]
                    answer = (await opened.get(f"/tags/{ROOT}-pegel/packets", params=params)).json()
                    seen.extend(packet["id"] for packet in answer["body"])
                    if "retrieve_after_id" not in answer:
                        break
            params = {"sort": "inserted_at", "sort_direction": "asc", "timeout": 180000}
            whole = await opened.get(f"/tags/{ROOT}-pegel/packets/stream", params=params)
        assert seen == [packet["id"] for packet in lines(whole.text)]
        return seen

    assert asyncio.run(follow())


async def test_late_packet_appears_when_it_arrives_and_not_before() -> None:
    hand = Hand(START_S)
    plan = schedule("element", hand=hand, faults=Faults(lost=0, doubled=0, late=0.05, broken=0))
    late = next(
        item
        for item in plan.window(plan.begin_us, int(START_S * 1e6), "arrived")
        if item.arrived_us - item.sent_us > 60_000_000 and item.device.type == "decentlab-dl-sht35"
    )
    path = f"/devices/by-name/{late.device.name}/packets"
    async with client(make(plan)) as opened:
        for moment_us, expected in ((late.arrived_us - 1, 0), (late.arrived_us, 1)):
            hand.now_s = (moment_us + 0.5) / 1e6
            found = await body(opened, path, limit=100)
            assert sum(packet["meta"]["frame_count_up"] == late.frame_count for packet in found) == expected


async def test_packets_default_to_the_ten_newest() -> None:
    async with client(make(schedule("element", faults=Faults.none()))) as opened:
        packets = await body(opened, f"/tags/{ROOT}/packets")
    times = [packet["transceived_at"] for packet in packets]
    assert len(times) == 10
    assert times == sorted(times, reverse=True)
    newest = datetime.fromisoformat(times[0])
    assert timedelta(0) < NOW - newest < timedelta(seconds=30)


@pytest.mark.parametrize(
    "text",
    [
        "1780566900",
        "2026-06-04T09:55:00Z",
        "2026-06-04T09:55:00",
        "2026-06-04T11:55:00+02:00",
        "2026-06-04T11:55:00 +02:00",
        "20260604T095500Z",
    ],
)
async def test_every_documented_form_of_time_is_understood(text: str) -> None:
    async with client(make(schedule("element", faults=Faults.none()))) as opened:
        packets = await body(opened, "/devices/by-name/DEC00D101/packets", after=text, limit=100)
    assert len(packets) == 4


async def test_history_ends_where_it_was_said_to() -> None:
    plan = schedule("element", faults=Faults.none(), history_s=7200)
    async with client(make(plan)) as opened:
        packets = await body(opened, "/devices/by-name/DEC00D101/packets", sort_direction="asc", limit=1)
        past = await body(opened, "/devices/by-name/DEC00D101/packets", before="2026-06-04T08:00:00Z")
    first = datetime.fromisoformat(packets[0]["transceived_at"]).timestamp()
    assert 0 <= first - (START_S - 7200) < 305
    assert past == []


async def test_folder_holds_what_lies_below_it() -> None:
    async with client(make()) as opened:
        counts = {}
        for slug in (ROOT, f"{ROOT}-klimasensoren", f"{ROOT}-klimasensoren-aktiv-atm41"):
            found = await body(opened, f"/tags/{slug}/devices", limit=100)
            counts[slug] = len(found)
        folder = (await opened.get(f"/tags/{SHT35}")).json()["body"]
        assert (await opened.get(f"/tags/{folder['id']}")).json()["body"] == folder
        ancestors = [(await opened.get(f"/tags/{one}")).json()["body"]["slug"] for one in folder["path"]]
    assert counts == {ROOT: 100, f"{ROOT}-klimasensoren": 100, f"{ROOT}-klimasensoren-aktiv-atm41": 25}
    assert ancestors == [ROOT, f"{ROOT}-klimasensoren", f"{ROOT}-klimasensoren-aktiv", SHT35]


async def test_device_is_found_by_slug_id_name_and_eui() -> None:
    async with client(make()) as opened:
        device = await body(opened, "/devices/dec00d101")
        eui = device["interfaces"][0]["opts"]["device_eui"]
        assert (await body(opened, f"/devices/{device['id']}"))["name"] == "DEC00D101"
        assert [found["id"] for found in await body(opened, "/devices/by-name/DEC00D101")] == [device["id"]]
        assert [found["id"] for found in await body(opened, f"/devices/by-eui/{eui}")] == [device["id"]]
        detailed = await body(opened, f"/tags/{SHT35}/devices", with_profile="true")
        assert all("gerateinformation" in found["fields"] for found in detailed)


async def test_broken_packets_have_no_reading_unless_decodable() -> None:
    plan = schedule("element", faults=Faults(lost=0, doubled=0, late=0, broken=0.3))
    async with client(make(plan)) as opened:
        params: dict[str, Any] = {"after": "2026-06-04T08:00:00Z", "before": "2026-06-04T10:10:00.01Z"}
        packets = lines((await opened.get(f"/tags/{SHT35}/packets/stream", params=params)).text)
        readings = lines((await opened.get(f"/tags/{SHT35}/readings/stream", params=params)).text)
    by_packet = {reading["packet_id"]: reading for reading in readings}
    whole = [packet for packet in packets if len(packet["payload"]) == 22]
    assert 0 < len(whole) < len(packets)
    assert {packet["id"] for packet in whole} == set(by_packet)
    assert any(reading["measured_at"].startswith("1970") for reading in readings)
    assert any(reading["data"]["air_temperature"] > 120 for reading in readings)
