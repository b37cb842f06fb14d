"""Every code that the rooms write has plain words on the desk."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from django.utils import translation

import quartier
from quartier.cities.models import Role
from quartier.cities.rules import ACTIONS_OF_ROLE
from quartier.desk import words
from quartier.desk.queries import devices, quality
from quartier.desk.templatetags import desk
from quartier.intake.codecs.calls import TRANSIENT, Reason
from quartier.intake.findings import CHECK_NAMES

ROOT = Path(quartier.__file__).parent
ROOMS = ("intake", "sources", "cities", "desk", "portal", "usage", "twin")


def _calls(*names: str) -> Iterator[ast.Call]:
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in names:
                    yield node


def _texts(node: ast.expr) -> Iterator[str]:
    """The texts that an argument may be; both sides of a condition."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def test_faults_of_codecs() -> None:
    assert set(words.CODEC_FAULTS) == set(get_args(Reason))
    with translation.override("de"):
        assert desk.fault("codec_reported: not mine: 7 bytes") == "der Codec meldet: not mine: 7 bytes"
        assert desk.fault("codec_reported") == "codec_reported"
        assert desk.fault("Feld temp: keine Zahl") == "Feld temp: keine Zahl"
        assert desk.who("command line (root)") == "Kommandozeile (root)"
        assert desk.who("Olivia, command line (x)") == "Olivia, command line (x)"


def test_reasons_of_refusal() -> None:
    found = {text for call in _calls("MessageError") if call.args for text in _texts(call.args[0])}
    assert len(found) > 15
    assert found | TRANSIENT <= set(words.REASONS)


def test_checks() -> None:
    assert set(words.CHECKS) == set(CHECK_NAMES.values())


def test_actions_of_the_audit_log() -> None:
    found = {
        text for call in _calls("log") if len(call.args) >= 3 for text in _texts(call.args[1]) if "." in text
    }
    assert len(found) > 15
    assert found <= set(words.ACTIONS)


def test_rights() -> None:
    assert set().union(*ACTIONS_OF_ROLE.values()) <= set(words.RIGHTS)


DOCUMENT = (ROOT.parent.parent / "docs/desk.md").read_text()


def test_the_document_tells_the_numbers_that_the_code_has() -> None:
    text = " ".join(DOCUMENT.split())
    for sentence in (
        f"nothing came for {_WORDS[devices.SILENT_AFTER_INTERVALS]} expected intervals,"
        f" at least {devices.SILENT_AFTER_AT_LEAST_S // 60} minutes;"
        f" without an interval, {_WORDS[devices.ASSUMED_INTERVAL_S // 3600]} hours are expected",
        f"below {devices.WEAK_BATTERY_PERCENT} %, or below {devices.WEAK_BATTERY_V} V",
        f"at least {quality.IMPLAUSIBLE_SHARE:.0%} of".replace("%", " %"),
        f"the up to {_WORDS[quality.NEIGHBOURS_AT_MOST]} nearest stations within {quality.RADIUS_KM:.0f} km",
        f"fewer than {_WORDS[quality.NEIGHBOURS_AT_LEAST]} of them do not count",
        f"less than {quality.HOURS_AT_LEAST} such hours",
        "from {:.0f} K or {:.0f} percentage points of deviation, or {} K or {:.0f} points of change".format(
            quality.DRIFT_LIMITS["air_temperature"].mean,
            quality.DRIFT_LIMITS["relative_humidity"].mean,
            quality.DRIFT_LIMITS["air_temperature"].change,
            quality.DRIFT_LIMITS["relative_humidity"].change,
        ),
    ):
        assert sentence in text, sentence


_WORDS = {3: "three", 8: "eight"}


def test_the_document_tells_the_rights_that_the_roles_have() -> None:
    for line in DOCUMENT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 6 or "`" not in line:
            continue
        needed = set(re.findall(r"`([\w:]+)`", line))
        for role, cell in zip((Role.OPERATOR, Role.STEWARD, Role.STAFF), cells[3:], strict=True):
            assert (needed <= ACTIONS_OF_ROLE[role]) == (cell == "yes"), (cells[0], role)
