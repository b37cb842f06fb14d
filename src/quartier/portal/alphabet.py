"""The order in which people look names up: DIN 5007-1 (ä as a, ß as ss), and numbers by their size.

The store sorts by code point, where "Bürenbruch" comes after "Wickede" and "Leuchte 10" before "Leuchte 2".
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_DIGITS = re.compile(r"(\d+)")


@lru_cache(maxsize=20_000)
def alphabetical(name: str) -> tuple[tuple[int, int, str], ...]:
    """Key for sorting by name; equal for names that differ in accents and case only."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))
    # Every second piece is a number; before letters it comes first, as in every list.
    return tuple(
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in _DIGITS.split(plain) if piece
    )
