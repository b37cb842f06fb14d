"""How writing says no: with the place in the body where something is wrong."""

from __future__ import annotations

from quartier.interfaces.sensorthings.answers import Refusal


class BadField(Refusal):
    """Something in a body is wrong; ``at`` is its JSON path, such as ``Datastreams[0].unitOfMeasurement.symbol``."""

    def __init__(self, at: str, reason: str) -> None:
        super().__init__(400, f"{at}: {reason}" if at else reason)
        self.at = at
        self.reason = reason


class Conflict(Refusal):
    """What is asked for contradicts what is there."""

    def __init__(self, message: str) -> None:
        super().__init__(409, message)


def below(at: str, name: str | int) -> str:
    """The path of a member of the value at ``at``."""
    if isinstance(name, int):
        return f"{at}[{name}]"
    name = name[:60]
    return f"{at}.{name}" if at else name
