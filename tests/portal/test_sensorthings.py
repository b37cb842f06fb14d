"""The page to try SensorThings: it asks the real endpoint in its own process, and what it offers works elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from quartier.portal.sensorthings.programs import Program
    from tests.portal.data_scene import DataScene

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data", "fresh")]
PAGE = "/schnittstellen/sensorthings/"


@asynccontextmanager
async def site() -> AsyncIterator[httpx.AsyncClient]:
    """People's and machines' side together, as in the web server."""
    from django.core.asgi import get_asgi_application
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from quartier.interfaces.sensorthings import api
    from quartier.interfaces.sensorthings.read import Reader, read_pool
    from quartier.interfaces.sensorthings.visibility import Observers
    from quartier.portal.server import LowerCaseHeaders
    from tests.portal.data_scene import database_url

    api.observers = Observers()
    people: Any = get_asgi_application()
    app = Starlette(routes=[Mount("/sensorthings", routes=api.routes), Mount("/", LowerCaseHeaders(people))])
    async with read_pool(database_url(), max_size=3) as pool:
        app.state.sensorthings = Reader(pool)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            yield client


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with site() as made:
        yield made


async def ask(client: httpx.AsyncClient, text: str, **more: str) -> str:
    answer = await client.get(PAGE, params={"anfrage": text, "lang": "de"} | more)
    assert answer.status_code == 200
    return answer.text


def answer_in(page: str) -> str:
    """The text of the answer as a reader sees it."""
    found = re.search(r'q-try__answer".*?<pre><code>(.*?)</code></pre>', page, re.DOTALL)
    assert found, page
    return html.unescape(re.sub(r"<[^>]*>", "", found[1]))


def links_in(page: str) -> list[str]:
    found = re.search(r'q-try__answer".*?<pre><code>(.*?)</code></pre>', page, re.DOTALL)
    assert found
    return [html.unescape(one) for one in re.findall(r'<a href="([^"]*)"', found[1])]


async def test_the_answer_is_the_interface_s_own(client: httpx.AsyncClient) -> None:
    text = "Things?$top=2&$orderby=name&$count=true&$expand=Locations"
    page = await ask(client, text)
    direct = (await client.get(f"/sensorthings/v1.1/{text}")).json()
    assert json.loads(answer_in(page)) == direct
    assert "200 beantwortet" in page
    assert "2 Einträge" in page
    assert f"von {direct['@iot.count']}" in page
    assert re.search(r"in \d+ ms", page)


async def test_every_example_is_answered(client: httpx.AsyncClient, data: DataScene) -> None:
    from asgiref.sync import sync_to_async

    from quartier.portal.sensorthings.examples import examples, series_to_show, words

    series = await sync_to_async(series_to_show)()
    assert series is not None
    assert series.observed_property.slug == "air_temperature"
    offered = examples(series)
    assert len(offered) == 11
    for example in offered:
        page = await ask(client, example.text)
        assert ("400 abgelehnt" if example.slug == "fehler" else "200 beantwortet") in page, example
        assert page.count('aria-current="true"') == 1, example
        if example.slug not in ("fehler", "zahl", "tabelle", "karte"):
            assert json.loads(answer_in(page))["value"], example
    for word in words():
        assert "200 beantwortet" in await ask(client, word.text), word


async def test_links_lead_on_and_pages_follow(client: httpx.AsyncClient) -> None:
    page = await ask(client, "Things?$top=1&$orderby=name")
    following = re.search(r'<a href="([^"]*)" rel="next"', page)
    assert following
    second = await client.get(html.unescape(following[1]))
    names = [json.loads(answer_in(one))["value"][0]["name"] for one in (page, second.text)]
    assert names == sorted(names)
    assert names[0] != names[1]
    target = next(one for one in links_in(page) if "Datastreams" in one)
    assert target.startswith(PAGE)
    assert '"unitOfMeasurement"' in answer_in((await client.get(target)).text)


@pytest.mark.parametrize(
    ("text", "option", "marked"),
    [
        ("Observations?$filter=result gtt 20", "$filter", "result <mark>gtt</mark> 20"),
        ("Observations?$filter=result%20gtt%2020", "$filter", "result <mark>gtt</mark> 20"),
        ("Observations?$orderby=resultat", "$orderby", "<mark>resultat</mark>"),
        ("Things(one)", "path", "Things(<mark>one</mark>)"),
        ("Things?$expand=Datastreams($top=x)", "$expand", "Datastreams($top=<mark>x</mark>)"),
        ("Observations?$filter=result gt", "$filter", "result gt<mark> </mark>"),
    ],
)
async def test_errors_are_marked_where_they_are(
    client: httpx.AsyncClient, text: str, option: str, marked: str
) -> None:
    page = await ask(client, text)
    assert "Diese Frage wurde nicht verstanden" in page
    assert f"In <code>{option}</code>, ab Zeichen" in page
    assert f"<code>{marked}</code>" in page


async def test_other_refusals_say_what_they_are(client: httpx.AsyncClient) -> None:
    page = await ask(client, "Things(4711)")
    assert "404 abgelehnt" in page
    assert "Das gibt es hier nicht" in page
    assert "200 beantwortet" in await ask(client, "", stadt="nirgendwo")


async def test_whole_addresses_lines_and_cities(client: httpx.AsyncClient) -> None:
    one = await ask(client, "http://testserver/sensorthings/schwerte/v1.1/Things?$select=name")
    other = await ask(client, "\n Things\n  ?$select=name\n", stadt="schwerte")
    assert answer_in(one) == answer_in(other)
    everywhere = json.loads(answer_in(await ask(client, "Things?$select=name")))["value"]
    here = json.loads(answer_in(one))["value"]
    assert 0 < len(here) < len(everywhere)
    assert '<option value="schwerte" selected>' in one


async def test_nothing_in_question_or_answer_becomes_markup(client: httpx.AsyncClient) -> None:
    for text in (
        "Things?$filter=name eq '<script>alert(1)</script>'",
        "<script>alert(1)</script>",
        "Things?$filter=<script>alert(1)</script>",
        "Things?<script>alert(1)</script>=1",
    ):
        assert "<script>alert" not in await ask(client, text)


async def test_large_answers_are_cut_and_private_things_stay_private(
    client: httpx.AsyncClient, data: DataScene
) -> None:
    page = await ask(client, "Observations?$top=100000")
    assert "Hier steht nur der Anfang." in page
    assert len(page) < 400_000
    lamps = [thing.name for thing in data.things.values() if thing.kind == "street_lamp"]
    assert lamps
    everything = answer_in(await ask(client, "Things?$select=name&$top=1000"))
    assert not [name for name in lamps if name in everything]


async def test_too_many_questions(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Visitors of the page share nothing: each one has the limit of his own address."""
    from quartier.interfaces.sensorthings import api
    from quartier.interfaces.sensorthings.limits import RateLimit

    monkeypatch.setattr(api, "_limit", RateLimit(1))
    assert "200 beantwortet" in await ask(client, "Things")
    assert "zu viele Fragen" in await ask(client, "Things")
    other = await client.get(
        PAGE, params={"anfrage": "Things", "lang": "de"}, headers={"x-forwarded-for": "198.51.100.7"}
    )
    assert "200 beantwortet" in other.text


async def test_following_is_shown_for_a_series_that_lives(client: httpx.AsyncClient, data: DataScene) -> None:
    from quartier.config import config

    page = html.unescape(await ask(client, "Things"))
    number = re.search(r"-t 'v1\.1/Datastreams\((\d+)\)/Observations'", page)
    assert number
    assert int(number[1]) in {series.pk for series in data.series.values()}
    assert f"-p {config().mqtt_port} -q 1" in page
    assert f"'http://testserver/sensorthings/v1.1/Datastreams({number[1]})/Observations'" in page


def test_without_an_endpoint_the_page_says_so(data: DataScene) -> None:
    from django.test import Client

    answer = Client().get(PAGE, {"lang": "de"})
    assert answer.status_code == 200
    assert "Gerade antwortet die Schnittstelle nicht" in answer.content.decode()


async def test_other_pages_lead_here(client: httpx.AsyncClient, data: DataScene) -> None:
    assert f'href="{PAGE}"' in (await client.get("/daten/")).text
    station = (await client.get("/orte/dortmund/do-1/")).text
    found = re.search(rf'href="({PAGE}[^"]*)">SensorThings', station)
    assert found
    assert '"name": "' + data.things["do-1"].name in answer_in(
        (await client.get(html.unescape(found[1]))).text
    )


@pytest.fixture
def address(data: DataScene) -> Iterator[str]:
    """A real server, for programs outside of this process."""
    from granian.constants import HTTPModes, Interfaces
    from granian.server.embed import Server
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from quartier.interfaces.sensorthings import api
    from quartier.interfaces.sensorthings.read import Reader, read_pool
    from quartier.interfaces.sensorthings.visibility import Observers
    from tests.portal.data_scene import database_url

    api.observers = Observers()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    up, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        app = Starlette(routes=[Mount("/sensorthings", routes=api.routes)])
        async with read_pool(database_url(), max_size=3) as pool:
            app.state.sensorthings = Reader(pool)
            server = Server(
                app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, http=HTTPModes.http1, log_enabled=False
            )  # fmt: skip
            serving = asyncio.create_task(server.serve())
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    up.set()
                await asyncio.sleep(0.05)
            server.stop()  # type: ignore[no-untyped-call]
            await serving

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert up.wait(60)
    yield f"http://127.0.0.1:{port}"
    stop.set()
    thread.join(30)


def run(program: Program) -> str:
    """What a program prints."""
    commands = {"curl": ["sh", "-c"], "javascript": ["node", "--input-type=module", "-e"]}
    command = [*commands.get(program.key, [sys.executable, "-c"]), program.text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_offered_programs_run(address: str, data: DataScene) -> None:
    from quartier.portal.sensorthings.ask import Question
    from quartier.portal.sensorthings.programs import programs

    question = Question.of("Things?$filter=contains(name,'''') eq false&$top=2&$orderby=name&$select=id,name")
    offered = programs(question, address, "list")
    assert [one.key for one in offered] == ["curl", "python", "frost", "javascript"]
    numbers = {
        str(thing.pk) for thing in data.things.values() if thing.public and thing.kind != "street_lamp"
    }
    assert len(numbers) > 4
    found = {}
    for program in offered:
        if shutil.which(program.key.replace("javascript", "node")) or program.key in ("python", "frost"):
            found[program.key] = run(program)
    first = json.loads(found.pop("curl", '{"value": [1, 2]}'))
    assert len(first["value"]) == 2
    # Whoever asks for two gets two.
    for printed in found.values():
        assert len(printed.strip().splitlines()) == 2, printed

    # Whoever does not say how many gets all, in pages, which are made small here.
    whole = programs(Question.of("Things?$orderby=name&$select=id,name"), address, "list")
    pages = {
        "python": ('"id,name",', '"id,name", "$top": "2",'),
        "frost": ("for one in", "query = query.top(2)\nfor one in"),
        "javascript": ('"id,name",', '"id,name", "$top": "2",'),
    }
    for program in whole:
        if program.key in found:
            assert pages[program.key][0] in program.text
            printed = run(replace(program, text=program.text.replace(*pages[program.key])))
            assert len(printed.strip().splitlines()) == len(numbers), printed
    single = programs(Question.of("Things/$count"), address, "text")
    assert [one.key for one in single] == ["curl", "python", "javascript"]
    assert run(single[1]).strip() == str(len(numbers))


@pytest.mark.parametrize(
    ("text", "city", "topic"),
    [
        ("Observations", "", "v1.1/Observations"),
        (
            "Datastreams(4)/Observations?$filter=result gt 5 and Datastream/name ne 'a+b#c'&$select=result",
            "schwerte",
            "schwerte/v1.1/Datastreams(4)/Observations?$filter=result%20gt%205%20and%20Datastream/name%20ne%20"
            "'a%2Bb%23c'&$select=result",
        ),
        ("Observations?$top=5", "", ""),
        ("Observations?$select=distinct:result", "", ""),
        ("Things(1)", "", ""),
    ],
)
def test_what_can_be_followed_is_offered_as_a_topic(text: str, city: str, topic: str) -> None:
    from quartier.interfaces.sensorthings.mqtt.topics import parse
    from quartier.interfaces.sensorthings.query.parse import parse_options, parse_resource
    from quartier.portal.sensorthings.ask import Question
    from quartier.portal.sensorthings.programs import programs

    question = Question.of(text, city)
    offered = {one.key: one.text for one in programs(question, "http://x", "list", ("host", 1883))}
    assert ("mqtt" in offered, "ereignisse" in offered) == (bool(topic), bool(topic))
    if topic:
        (shown,) = shlex.split(offered["mqtt"])[-1:]
        assert shown == topic
        assert offered["ereignisse"].startswith("curl -N -G -H 'Accept: text/event-stream' 'http://x/")
        read = parse(shown)
        assert read is not None
        assert read.parsed() == (
            parse_resource(question.path),
            parse_options(question.query.replace("+", "%2B")),
        )


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("Things(1)/Datastreams?$top=1", True),
        ("Things?$orderby=name,id desc", False),
        ("Things?$select=distinct:name", False),
        ("Things?$resultFormat=dataArray", False),
        ("Things(1)", False),
    ],
)
def test_frost_client_only_where_it_can_ask(text: str, offered: bool) -> None:
    from quartier.portal.sensorthings.ask import Question
    from quartier.portal.sensorthings.programs import programs

    assert ("frost" in [one.key for one in programs(Question.of(text), "http://x", "list")]) == offered


async def test_the_rules_for_writing_are_linked_and_there(client: httpx.AsyncClient) -> None:
    page = (await client.get(PAGE)).text
    [address] = re.findall(r'href="([^"]*/business-logic)"', page)
    answer = await client.get(html.unescape(address))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/markdown; charset=utf-8")
