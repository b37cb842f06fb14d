"""The error of this room's rules, and reading of hexadecimal input."""

from __future__ import annotations

from django.utils.translation import gettext


class LoraError(ValueError):
    """Something that cannot be saved; ``field`` names what to correct, the message is for the person who tried."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


def hexadecimal(field: str, text: str, size: int) -> bytes:
    """``size`` bytes from hexadecimal digits; separators of printed EUIs are forgiven. Raises LoraError."""
    digits = "".join(one for one in text if one not in " -:.\t")
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        value = b""
    if len(value) != size:
        raise LoraError(field, gettext("muss %d hexadezimale Ziffern haben") % (2 * size))
    return value


def bounded_text(field: str, text: str, longest: int, *, needed: bool = False) -> str:
    """A text in one line. Raises LoraError."""
    text = " ".join(text.split())
    if needed and not text:
        raise LoraError(field, gettext("fehlt"))
    if len(text) > longest or not text.isprintable():
        raise LoraError(field, gettext("darf höchstens %d Zeichen haben") % longest)
    return text


def bounded_number(field: str, value: float, low: float, high: float) -> float:
    """A number between limits. Raises LoraError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise LoraError(
            field, gettext("muss zwischen %(low)g und %(high)g liegen") % {"low": low, "high": high}
        )
    return value
