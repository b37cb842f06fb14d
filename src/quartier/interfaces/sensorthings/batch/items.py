"""The requests of a batch, and their answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from quartier.interfaces.sensorthings.write.service import Answer

MOST_REQUESTS: Final = 5_000
METHODS: Final = ("GET", "POST", "PATCH", "PUT", "DELETE")


@dataclass(slots=True)
class Item:
    """One request of a batch; ``group`` is its change set."""

    id: str
    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    group: str = ""
    depends_on: tuple[str, ...] = ()
    at: str = ""


@dataclass(slots=True)
class Done:
    """A request with its answer."""

    item: Item
    answer: Answer

    @property
    def good(self) -> bool:
        """Whether it was carried out."""
        return self.answer.status < 400
