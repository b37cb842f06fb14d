"""What every page must pass: axe, no sideways scrolling, a visible focus."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

AXE = Path(__file__).resolve().parents[2] / "node_modules/axe-core/axe.min.js"
# EN 301 549 asks for WCAG 2.1 AA; we prove 2.2 AA, and axe's own good practice (landmarks, heading order).
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


@lru_cache(maxsize=1)
def _axe() -> str:
    return AXE.read_text()


def findings(page: Page) -> list[str]:
    """What axe finds on the page as it stands: rule, help and the elements."""
    # Evaluated and not added as a script tag: the page's Content Security Policy stays in force.
    page.evaluate(_axe())
    result: dict[str, Any] = page.evaluate(
        "tags => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})",
        list(RULES),
    )
    return [
        f"{violation['id']}: {violation['help']}\n    "
        + "\n    ".join(
            node["html"][:200] + "\n      " + node["failureSummary"] for node in violation["nodes"][:5]
        )
        for violation in result["violations"]
    ]


def assert_accessible(page: Page) -> None:
    """No finding of axe (WCAG 2.2 AA and good practice)."""
    found = findings(page)
    assert not found, f"{page.url}:\n" + "\n".join(found)


def assert_fits(page: Page) -> None:
    """Nothing makes the page scroll sideways (WCAG 1.4.10)."""
    wider = page.evaluate(
        """() => {
          const room = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= room) return [];
          const out = [];
          for (const e of document.body.querySelectorAll('*')) {
            const box = e.getBoundingClientRect();
            if (box.right > room + 1 && box.width > 0)
              out.push(e.outerHTML.slice(0, 120) + ' → ' + Math.round(box.right));
          }
          return out.length ? out.slice(0, 8) : ['scrollWidth ' + document.documentElement.scrollWidth];
        }"""
    )
    assert not wider, f"{page.url} is wider than the window:\n" + "\n".join(wider)


def assert_passes_at_both_widths(page: Page) -> None:
    """The two checks above in a wide window and on a small telephone; the page is loaded only once."""
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        assert_accessible(page)
        assert_fits(page)


def wait_for(page: Page, expression: str, *, seconds: float = 20) -> None:
    """Wait until a JavaScript expression is true.

    Playwright's own ``wait_for_function`` evaluates text within the page from the second try on, which its Content
    Security Policy forbids.
    """
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(20)


def wait_for_map(page: Page) -> None:
    """Wait until the map of the page is drawn and answers clicks."""
    expect(page.locator("city-map canvas")).to_be_visible(timeout=20_000)
    expect(page.locator("city-map[aria-busy]")).to_have_count(0, timeout=20_000)


def focus_is_visible(page: Page) -> bool:
    """Whether the focused element looks different from when it is not focused (WCAG 2.4.7)."""
    visible: bool = page.evaluate(
        """() => {
          const e = document.activeElement;
          if (!e || e === document.body) return false;
          const look = (s) => [
            s.outlineStyle === 'none' ? '' : s.outlineWidth + s.outlineColor,
            s.boxShadow, s.backgroundColor, s.borderColor,
          ].join();
          const around = e.closest('.q-search, .q-card--link') ?? e;
          const on = look(getComputedStyle(e)) + look(getComputedStyle(around));
          e.blur();
          const off = look(getComputedStyle(e)) + look(getComputedStyle(around));
          e.focus({focusVisible: true});
          return on !== off;
        }"""
    )
    return visible
