"""Flags: what counts as bad, and the sentences people read."""

from __future__ import annotations

import pytest

from quartier.twin.flags import BAD, Flag, explain, is_bad
from quartier.twin.properties import Limits, catalogue

TEMPERATURE = catalogue()["air_temperature"].limits


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (0, False),
        (Flag.RANGE, True),
        (Flag.PERSISTENCE, True),
        (Flag.SPIKE, True),
        (Flag.SPATIAL, True),
        (Flag.TIME_REPLACED, False),
        (Flag.CONFIRMED, True),
        (Flag.DISMISSED, False),
        (Flag.RANGE | Flag.DISMISSED, False),
        (Flag.SPATIAL | Flag.TIME_REPLACED, True),
        (Flag.CONFIRMED | Flag.DISMISSED, False),
    ],
)
def test_is_bad(flags: int, expected: bool) -> None:
    assert is_bad(int(flags)) is expected


def test_bits_are_those_in_the_store() -> None:
    assert {flag.name: flag.value for flag in Flag} == {
        "RANGE": 1,
        "PERSISTENCE": 2,
        "SPIKE": 4,
        "SPATIAL": 8,
        "TIME_REPLACED": 16,
        "CONFIRMED": 64,
        "DISMISSED": 128,
    }
    assert BAD == 1 | 2 | 4 | 8 | 64


@pytest.mark.parametrize(
    ("flags", "limits", "german", "english"),
    [
        (0, TEMPERATURE, [], []),
        (
            Flag.RANGE,
            TEMPERATURE,
            ["Der Wert liegt außerhalb des möglichen Bereichs von −40 bis 60\u00a0°C."],
            ["The value lies outside the possible range of −40 to 60\u00a0°C."],
        ),
        (
            Flag.RANGE,
            Limits(unit="mm", minimum=0.5),
            ["Der Wert ist kleiner als möglich (0,5\u00a0mm)."],
            ["The value is below 0.5\u00a0mm."],
        ),
        (
            Flag.RANGE,
            Limits(unit="lx", maximum=200_000),
            ["Der Wert ist größer als möglich (200\u202f000\u00a0lx)."],
            ["The value is above 200\u202f000\u00a0lx."],
        ),
        (Flag.RANGE, Limits(), ["Der Wert ist unmöglich."], ["The value is impossible."]),
        (
            Flag.PERSISTENCE | Flag.TIME_REPLACED,
            TEMPERATURE,
            [
                "Der Wert hat sich seit mehr als 3 Stunden nicht verändert. Vielleicht hängt der Sensor.",
                "Die Uhr des Sensors ging falsch; angegeben ist die Zeit des Empfangs.",
            ],
            [
                "The value has not changed for more than 3 hours. The sensor may be stuck.",
                "The sensor’s clock was wrong; the time given is that of reception.",
            ],
        ),
        (
            Flag.PERSISTENCE,
            catalogue()["water_level"].limits,
            ["Der Wert hat sich seit mehr als 7 Tagen nicht verändert. Vielleicht hängt der Sensor."],
            ["The value has not changed for more than 7 days. The sensor may be stuck."],
        ),
        (
            Flag.PERSISTENCE,
            Limits(),
            ["Der Wert hat sich auffällig lange nicht verändert."],
            ["The value has not changed for a conspicuously long time."],
        ),
        (
            Flag.SPIKE | Flag.DISMISSED,
            TEMPERATURE,
            [
                "Der Wert springt stärker, als es die Messungen davor und danach erwarten lassen.",
                "Fachleute der Stadt haben den Wert geprüft; er ist richtig.",
            ],
            [
                "The value jumps further than the measurements before and after it suggest.",
                "The city’s experts checked the value; it is right.",
            ],
        ),
        (
            Flag.SPATIAL | Flag.CONFIRMED,
            TEMPERATURE,
            [
                "Der Wert weicht stark von den Stationen in der Nähe ab.",
                "Fachleute der Stadt haben bestätigt, dass der Wert falsch ist.",
            ],
            [
                "The value differs strongly from the stations nearby.",
                "The city’s experts confirmed that the value is wrong.",
            ],
        ),
    ],
)
def test_explain(flags: int, limits: Limits, german: list[str], english: list[str]) -> None:
    assert explain(flags, "de", limits) == german
    assert explain(flags, "en", limits) == english


def test_explain_names_what_the_neighbours_measured() -> None:
    detail = {"expected": 8.7, "neighbours": 8}
    assert explain(Flag.SPATIAL, "de", TEMPERATURE, detail) == [
        "Der Wert weicht stark von den 8 Stationen in der Nähe ab (dort etwa 8,7\u00a0°C)."
    ]
    assert explain(Flag.SPATIAL, "en-GB", TEMPERATURE, detail) == [
        "The value differs strongly from the 8 stations nearby (about 8.7\u00a0°C there)."
    ]
