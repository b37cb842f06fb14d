"""The one error of this library. It names the field, because somebody will read it in the frame log."""

from __future__ import annotations


class FrameError(ValueError):
    """Bytes, or a field's value, that the standard does not allow; ``field`` is the name of the field."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


def check_range(field: str, value: int, low: int, high: int) -> int:
    """``value``. Raises FrameError where it lies outside of ``low`` … ``high``."""
    if not low <= value <= high:
        raise FrameError(field, f"{value} is not between {low} and {high}")
    return value


def check_length(field: str, value: bytes, *lengths: int) -> bytes:
    """``value``. Raises FrameError where it does not have one of the ``lengths``."""
    if len(value) not in lengths:
        wanted = " or ".join(map(str, lengths))
        raise FrameError(field, f"{len(value)} bytes instead of {wanted}")
    return value
