"""Every code that the rooms write has plain words on the desk."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import quartier
from quartier.desk import words
from quartier.intake.codecs.calls import TRANSIENT
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
    from quartier.cities.rules import ACTIONS_OF_ROLE

    assert set().union(*ACTIONS_OF_ROLE.values()) <= set(words.RIGHTS)
