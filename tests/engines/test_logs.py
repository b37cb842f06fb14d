"""One line per event, of ours and of libraries, as text or as JSON."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from quartier.config import ConfigError
from quartier.engines import logs


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _lines(log_format: str) -> list[str]:
    stream = io.StringIO()
    logs.configure("worker", log_format, stream)
    structlog.get_logger("ours").info("recorded", rows=3)
    logging.getLogger("library").warning("slow %s", "query")
    logging.getLogger("library").debug("not shown")
    return stream.getvalue().splitlines()


def test_json_is_one_object_per_line() -> None:
    ours, theirs = (json.loads(line) for line in _lines("json"))
    assert ours.pop("timestamp").endswith("Z")
    assert ours == {"event": "recorded", "rows": 3, "level": "info", "role": "worker"}
    assert (theirs["event"], theirs["level"], theirs["role"]) == ("slow query", "warning", "worker")


def test_text_names_event_and_role() -> None:
    ours, theirs = _lines("text")
    assert "recorded" in ours
    assert "role=worker" in ours
    assert "rows=3" in ours
    assert "slow query" in theirs


def test_unknown_format_names_the_setting() -> None:
    with pytest.raises(ConfigError, match="setting log_format: 'xml' is not one of text, json"):
        logs.configure("worker", "xml")
