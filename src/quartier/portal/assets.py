"""Addresses of built and plain static files.

Vite names what it builds after its content and writes a manifest; plain files (city themes, icons) get the digest of
their content as a query. Both may therefore be cached for ever, and an installation needs no collect step.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

STATIC = Path(__file__).parent / "static"
BUILD = STATIC / "build"
STATIC_URL = "/static/"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a page loads for one entry of the front end: addresses, in the order in which they are to be loaded."""

    styles: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    preloads: tuple[str, ...] = field(default=())


@lru_cache(maxsize=8)
def _manifest(_changed_ns: int) -> dict[str, dict[str, object]]:
    content: dict[str, dict[str, object]] = json.loads((BUILD / "manifest.json").read_text())
    return content


def entry(name: str) -> Entry:
    """The files of the entry ``name`` (``main``). Empty while the front end is not built: pages work without it."""
    try:
        changed = (BUILD / "manifest.json").stat().st_mtime_ns
    except FileNotFoundError:
        return Entry()
    manifest = _manifest(changed)
    chunk = next((c for c in manifest.values() if c.get("isEntry") and c.get("name") == name), None)
    if chunk is None:
        raise LookupError(f"the front end has no entry {name!r}")
    prefix = f"{STATIC_URL}build/"
    styles = chunk.get("css", [])
    assert isinstance(styles, list)  # noqa: S101 (Vite's manifest format)
    fonts = [
        c["file"]
        for c in manifest.values()
        if str(c["file"]).endswith(".woff2") and ("FiraSans-Regular" in str(c["file"]))
    ]
    return Entry(
        styles=tuple(prefix + str(style) for style in styles),
        scripts=(prefix + str(chunk["file"]),),
        preloads=tuple(prefix + str(font) for font in fonts),
    )


@lru_cache(maxsize=256)
def _digest(path: str, _changed_ns: int) -> str:
    return hashlib.sha256((STATIC / path).read_bytes()).hexdigest()[:10]


def static_url(path: str) -> str:
    """Address of a plain static file of the portal, e.g. ``portal/mark.svg``. Raises FileNotFoundError."""
    changed = (STATIC / path).stat().st_mtime_ns
    return f"{STATIC_URL}{path}?v={_digest(path, changed)}"


def theme_files(slugs: list[str]) -> list[str]:
    """Addresses of the style files of those themes that exist."""
    return [
        static_url(f"portal/themes/{slug}.css")
        for slug in slugs
        if (STATIC / f"portal/themes/{slug}.css").is_file()
    ]
