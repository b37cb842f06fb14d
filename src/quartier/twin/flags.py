"""Quality flags of an observation: their bits in the store and their words on the pages.

A flagged value is kept and shown with its reason; only means and derived series leave it out. What a data
steward decided is a bit of its own and wins over every automatic check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntFlag
from math import isinf
from typing import Any

from quartier.twin.properties import Limits
from quartier.twin.units import display_value


class Flag(IntFlag):
    """Bits of the column ``flags``."""

    RANGE = 1  # impossible value
    PERSISTENCE = 2  # does not change for too long
    SPIKE = 4  # jumps against the values around it in time
    SPATIAL = 8  # differs from the stations around it
    TIME_REPLACED = 16  # the device's clock was wrong, the time of reception stands instead
    CONFIRMED = 64  # a data steward confirmed that the value is wrong
    DISMISSED = 128  # a data steward found the value right


BAD = Flag.RANGE | Flag.PERSISTENCE | Flag.SPIKE | Flag.SPATIAL | Flag.CONFIRMED

_BAD = int(BAD)
_DISMISSED = int(Flag.DISMISSED)


def is_bad(flags: int) -> bool:
    """Whether means and derived series leave this value out; a steward's "right" wins over every check."""
    return bool(flags & _BAD) and not flags & _DISMISSED


def explain(flags: int, language: str, limits: Limits, detail: Mapping[str, Any] | None = None) -> list[str]:
    """One plain sentence per flag, for people; empty when nothing was found.

    ``detail`` may carry what the spatial check found: ``expected`` (in the unit of the limits) and
    ``neighbours``.
    """
    german = language.startswith("de")
    sentences = []
    for flag, sentence in _SENTENCES:
        if flags & flag:
            sentences.append(sentence(german, limits, detail or {}))
    return sentences


def _value(number: float, german: bool, limits: Limits) -> str:
    return display_value(number, limits.unit, None, "de" if german else "en")


def _range(german: bool, limits: Limits, _: Mapping[str, Any]) -> str:
    low, high = limits.minimum, limits.maximum
    if isinf(low) and isinf(high):
        return "Der Wert ist unmöglich." if german else "The value is impossible."
    top = _value(high, german, limits)
    if isinf(low):
        return f"Der Wert ist größer als möglich ({top})." if german else f"The value is above {top}."
    if isinf(high):
        bottom = _value(low, german, limits)
        return f"Der Wert ist kleiner als möglich ({bottom})." if german else f"The value is below {bottom}."
    bottom = display_value(low, "1", None, "de" if german else "en")
    if german:
        return f"Der Wert liegt außerhalb des möglichen Bereichs von {bottom} bis {top}."
    return f"The value lies outside the possible range of {bottom} to {top}."


def _duration(seconds: float, german: bool) -> str:
    hours = seconds / 3600
    number, words = (hours, ("Stunden", "hours")) if hours < 72 else (hours / 24, ("Tagen", "days"))
    return f"{display_value(number, '1', 0, 'de')} {words[0] if german else words[1]}"


def _persistence(german: bool, limits: Limits, _: Mapping[str, Any]) -> str:
    if isinf(limits.persistence_s):
        return (
            "Der Wert hat sich auffällig lange nicht verändert."
            if german
            else "The value has not changed for a conspicuously long time."
        )
    duration = _duration(limits.persistence_s, german)
    if german:
        return f"Der Wert hat sich seit mehr als {duration} nicht verändert. Vielleicht hängt der Sensor."
    return f"The value has not changed for more than {duration}. The sensor may be stuck."


def _spike(german: bool, limits: Limits, _: Mapping[str, Any]) -> str:
    if german:
        return "Der Wert springt stärker, als es die Messungen davor und danach erwarten lassen."
    return "The value jumps further than the measurements before and after it suggest."


def _spatial(german: bool, limits: Limits, detail: Mapping[str, Any]) -> str:
    expected, neighbours = detail.get("expected"), detail.get("neighbours")
    if expected is None or neighbours is None:
        if german:
            return "Der Wert weicht stark von den Stationen in der Nähe ab."
        return "The value differs strongly from the stations nearby."
    middle = _value(round(float(expected), 1), german, limits)
    if german:
        return f"Der Wert weicht stark von den {neighbours} Stationen in der Nähe ab (dort etwa {middle})."
    return f"The value differs strongly from the {neighbours} stations nearby (about {middle} there)."


def _fixed(german_text: str, english_text: str) -> Callable[[bool, Limits, Mapping[str, Any]], str]:
    return lambda german, _limits, _detail: german_text if german else english_text


_SENTENCES: tuple[tuple[Flag, Callable[[bool, Limits, Mapping[str, Any]], str]], ...] = (
    (Flag.RANGE, _range),
    (Flag.PERSISTENCE, _persistence),
    (Flag.SPIKE, _spike),
    (Flag.SPATIAL, _spatial),
    (
        Flag.TIME_REPLACED,
        _fixed(
            "Die Uhr des Sensors ging falsch; angegeben ist die Zeit des Empfangs.",
            "The sensor’s clock was wrong; the time given is that of reception.",
        ),
    ),
    (
        Flag.CONFIRMED,
        _fixed(
            "Fachleute der Stadt haben bestätigt, dass der Wert falsch ist.",
            "The city’s experts confirmed that the value is wrong.",
        ),
    ),
    (
        Flag.DISMISSED,
        _fixed(
            "Fachleute der Stadt haben den Wert geprüft; er ist richtig.",
            "The city’s experts checked the value; it is right.",
        ),
    ),
)
