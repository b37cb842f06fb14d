"""Take pictures of pages for looking at them: both languages, 360 and 1280 pixels wide.

    python tools/screenshots.py http://127.0.0.1:8700/ http://127.0.0.1:8700/orte/ --out /tmp/pictures
    python tools/screenshots.py … --dark --no-scripts --sign-in steward@example.org --password …

Files are called <path>-<language>-<width>[-dark][-noscript].png.
"""
# ruff: noqa: T201 (a command line tool speaks by printing)

from __future__ import annotations

import argparse
import os
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, sync_playwright

WIDTHS = (360, 1280)
LANGUAGES = ("de", "en")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--enable-unsafe-swiftshader",
    "--use-gl=angle",
    "--use-angle=swiftshader",
]


def file_name(address: str) -> str:
    """A file name that still says which page it shows."""
    parts = urlsplit(address)
    whole = parts.path.strip("/") + ("?" + parts.query if parts.query else "")
    return re.sub(r"[^A-Za-z0-9]+", "-", whole).strip("-") or "home"


def _context(
    browser: Browser, address: str, language: str, width: int, arguments: argparse.Namespace
) -> BrowserContext:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        locale="de-DE" if language == "de" else "en-GB",
        timezone_id="Europe/Berlin",
        color_scheme="dark" if arguments.dark else "light",
        java_script_enabled=not arguments.no_scripts,
        reduced_motion="reduce",
    )
    parts = urlsplit(address)
    origin = f"{parts.scheme}://{parts.netloc}"
    context.add_cookies([{"name": "django_language", "value": language, "url": origin}])
    if arguments.sign_in:
        page = context.new_page()
        page.goto(f"{origin}/accounts/login/")
        page.fill("[name=login]", arguments.sign_in)
        page.fill("[name=password]", arguments.password)
        page.click("main button[type=submit]")
        page.close()
    return context


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("addresses", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("screenshots"))
    parser.add_argument("--width", type=int, action="append", help="default: 360 and 1280")
    parser.add_argument("--language", choices=LANGUAGES, action="append", help="default: both")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--no-scripts", action="store_true")
    parser.add_argument("--window", action="store_true", help="only what fits the window, not the whole page")
    parser.add_argument("--wait-ms", type=int, default=800, help="time for maps and charts after loading")
    parser.add_argument("--sign-in", default="", metavar="EMAIL")
    parser.add_argument("--password", default="")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    executable = os.environ.get("QUARTIER_CHROMIUM") or shutil.which("chromium")
    suffix = ("-dark" if arguments.dark else "") + ("-noscript" if arguments.no_scripts else "")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        for language in arguments.language or LANGUAGES:
            for width in arguments.width or WIDTHS:
                context = _context(browser, arguments.addresses[0], language, width, arguments)
                page = context.new_page()
                page.on(
                    "console", lambda m: print(f"  console {m.type}: {m.text}") if m.type != "log" else None
                )
                page.on("pageerror", lambda error: print(f"  page error: {error}"))
                for address in arguments.addresses:
                    answer = page.goto(address)
                    if not arguments.no_scripts:
                        # Maps and pictures further down are loaded only when they come near.
                        page.evaluate("scrollTo(0, document.body.scrollHeight)")
                        page.wait_for_timeout(arguments.wait_ms)
                        page.evaluate("scrollTo(0, 0)")
                    page.wait_for_timeout(arguments.wait_ms)
                    path = arguments.out / f"{file_name(address)}-{language}-{width}{suffix}.png"
                    page.screenshot(path=path, full_page=not arguments.window)
                    print(f"{path}  {answer.status if answer else ''}")
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
