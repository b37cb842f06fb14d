"""A question written as a program: for curl, Python (httpx, frost_sta_client) and JavaScript, ready to be copied."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote

from quartier.portal.sensorthings.ask import Question

# What comes back: a list in pages, one thing as JSON, or text.
Shape = Literal["list", "entity", "text"]

_FROST_SETS: Final = {
    "Things": "things",
    "Locations": "locations",
    "HistoricalLocations": "historical_locations",
    "Datastreams": "datastreams",
    "MultiDatastreams": "multi_datastreams",
    "Sensors": "sensors",
    "ObservedProperties": "observed_properties",
    "Observations": "observations",
    "FeaturesOfInterest": "features_of_interest",
}
_FROST_OPTIONS: Final = ("$filter", "$orderby", "$top", "$skip", "$count", "$select", "$expand")
_FOLLOWED: Final = ("$filter", "$select", "$expand")
_TOPIC_SAFE: Final = "/%()',;:@$!*=&~?"
_OF_ONE: Final = re.compile(r"(Things|Datastreams)\((\d+)\)/(Datastreams|Observations|Locations)")


@dataclass(frozen=True, slots=True)
class Program:
    """A way to ask. ``key`` names its tab."""

    key: str
    name: str
    text: str
    needs: str = ""


def programs(
    question: Question, base_url: str, shape: Shape, broker: tuple[str, int] | None = None
) -> list[Program]:
    """All ways that fit; ``base_url`` is the installation's public address, ``broker`` the MQTT broker's."""
    address = f"{base_url}{question.encoded_path}"
    options = question.options()
    # Whoever asks for five gets five, and not everything in pages of five.
    pages = not any(name == "$top" for name, _value in options)
    found = [
        Program("curl", "curl", _curl(address, options)),
        Program("python", "Python", _httpx(address, options, shape, pages=pages), "pip install httpx"),
    ]
    if shape == "list" and (text := _frost(question, base_url, options, pages=pages)):
        found.append(Program("frost", "Python (FROST)", text, "pip install frost-sta-client"))
    found.append(Program("javascript", "JavaScript", _javascript(address, options, shape, pages=pages)))
    if _can_be_followed(question, options):
        found.append(Program("ereignisse", "SSE", _events(address, options)))
        if broker is not None:
            found.append(Program("mqtt", "MQTT", _mqtt(question, broker)))
    return found


def _can_be_followed(question: Question, options: list[tuple[str, str]]) -> bool:
    """Whether new observations can be told as they come: nothing is asked that needs all of them."""
    return question.path.rpartition("/")[2] == "Observations" and all(
        name in _FOLLOWED and "distinct:" not in value for name, value in options
    )


def topic(question: Question) -> str:
    """The question as an MQTT topic, in which spaces, plus and hash signs cannot stand."""
    city = f"{question.city}/" if question.city else ""
    query = f"?{quote(question.query, safe=_TOPIC_SAFE)}" if question.query else ""
    return f"{city}v1.1/{quote(question.path, safe=_TOPIC_SAFE)}{query}"


def _mqtt(question: Question, broker: tuple[str, int]) -> str:
    host, port = broker
    return f"mosquitto_sub -h {host} -p {port} -q 1 \\\n  -t {_shell(topic(question))}"


def _events(address: str, options: list[tuple[str, str]]) -> str:
    return _curl(address, options).replace("curl -G", "curl -N -G -H 'Accept: text/event-stream'", 1)


def _shell(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _curl(address: str, options: list[tuple[str, str]]) -> str:
    lines = [f"curl -G {_shell(address)}"]
    lines += [f"  --data-urlencode {_shell(f'{name}={value}')}" for name, value in options]
    return " \\\n".join(lines)


def _text(text: str) -> str:
    """A text in double quotes, as Python and JavaScript both read it."""
    return json.dumps(text, ensure_ascii=False)


def _table(options: list[tuple[str, str]], indent: str) -> str:
    rows = "".join(f"{indent}  {_text(name)}: {_text(value)},\n" for name, value in options)
    return "{\n" + rows + indent + "}" if options else "{}"


def _httpx(address: str, options: list[tuple[str, str]], shape: Shape, *, pages: bool) -> str:
    if shape != "list":
        asked = f", params={_table(options, '')}" if options else ""
        shown = "answer.json()" if shape == "entity" else "answer.text"
        return (
            f"import httpx\n\nanswer = httpx.get({_text(address)}{asked})\n"
            f"answer.raise_for_status()\nprint({shown})"
        )
    if not pages:
        return f"""import httpx

address = {_text(address)}
options = {_table(options, "")}
page = httpx.get(address, params=options).raise_for_status().json()
for one in page["value"]:
    print(one)"""
    return f"""import httpx

address = {_text(address)}
options = {_table(options, "") if options else None}
while address:
    page = httpx.get(address, params=options).raise_for_status().json()
    for one in page["value"]:
        print(one)
    address, options = page.get("@iot.nextLink"), None"""


def _frost(question: Question, base_url: str, options: list[tuple[str, str]], *, pages: bool) -> str:
    """With FROST's own client; empty where it cannot say the question."""
    if any(name not in _FROST_OPTIONS for name, _value in options) or "distinct:" in question.query:
        return ""
    if question.path in _FROST_SETS:
        entities = f"service.{_FROST_SETS[question.path]}()"
    elif found := _OF_ONE.fullmatch(question.path):
        getter = _FROST_SETS[found[3]]
        entities = f"service.{_FROST_SETS[found[1]]}().find({found[2]}).get_{getter}()"
    else:
        return ""
    calls = []
    for name, value in options:
        if name == "$orderby":
            order, _, way = value.partition(" ")
            if "," in value or way not in ("", "asc", "desc"):
                return ""
            calls.append(f"orderby({_text(order)}, {_text(way or 'asc')})")
        elif name == "$count":
            calls += ["count()"] if value == "true" else []
        elif name in ("$top", "$skip"):
            if not value.isdecimal():
                return ""
            calls.append(f"{name[1:]}({value})")
        else:
            calls.append(f"{name[1:]}({_text(value)})")
    return f"""import frost_sta_client as frost

service = frost.SensorThingsService({_text(base_url + question.service)})
query = {entities}.query()
{"".join(f"query = query.{call}{chr(10)}" for call in calls)}for one in query.list(){"" if pages else ".entities"}:
    print(one.id, one)"""


def _javascript(address: str, options: list[tuple[str, str]], shape: Shape, *, pages: bool) -> str:
    search = f"address.search = new URLSearchParams({_table(options, '')});\n" if options else ""
    begin = f"let address = new URL({_text(address)});\n{search}"
    if shape != "list":
        shown = "await answer.json()" if shape == "entity" else "await answer.text()"
        return f"{begin}const answer = await fetch(address);\nconsole.log({shown});".replace(
            "let ", "const ", 1
        )
    if not pages:
        return f"""{begin}const answer = await fetch(address);
if (!answer.ok) throw new Error((await answer.json()).message);
const page = await answer.json();
for (const one of page.value) console.log(one);""".replace("let ", "const ", 1)
    return f"""{begin}while (address) {{
  const answer = await fetch(address);
  if (!answer.ok) throw new Error((await answer.json()).message);
  const page = await answer.json();
  for (const one of page.value) console.log(one);
  address = page["@iot.nextLink"];
}}"""
