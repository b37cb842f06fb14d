"""Real pages in a real browser: the web server as a process of its own, Debian's Chromium, axe.

Everything lives for one test file: Playwright keeps an event loop open in the thread, which the asynchronous tests of
other rooms could not stand, and the data is committed, because the server must see it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection
from django.test.utils import setup_databases
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from tools import compile_messages

from quartier.cities.models import Person
from quartier.engines import nats
from tests.browser import scene as scenes
from tests.clean import empty_tables

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ("--interface", "asgi", "--no-ws", "--host", "127.0.0.1")
ARGUMENTS = [
    "--no-sandbox",  # tests may run as root, under which Chromium's sandbox does not start
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",  # maps need WebGL, machines for tests have no graphics card
    "--enable-unsafe-swiftshader",
]


def chromium() -> str | None:
    """Debian's Chromium (or another one named by QUARTIER_CHROMIUM)."""
    return os.environ.get("QUARTIER_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def _missing(reason: str) -> None:
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason}, and CI does not skip the page tests")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def frontend() -> None:
    """The built styles and scripts, and the compiled translations."""
    compile_messages.compile_all()
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/build_frontend.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if done.returncode != 0:
        _missing(f"the front end could not be built: {done.stderr.strip()[-500:]}")


@pytest.fixture(scope="module")
def scene(django_db_setup: None, django_db_blocker: Any) -> Iterator[scenes.Scene]:
    """Committed data that the server sees; the database is emptied when the file is through."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = (
        "true"  # Playwright's loop is no reason to fear for the connection
    )
    with django_db_blocker.unblock():
        if not connection.settings_dict["NAME"].startswith("test_"):
            # pytest-django sets a database up only if a test of the run asks for one by its own fixtures.
            setup_databases(verbosity=0, interactive=False, keepdb=True)
        try:
            yield scenes.build()
        finally:
            empty_tables()
            connection.close()
            del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@dataclass(frozen=True, slots=True)
class Site:
    """The running web server."""

    url: str
    log: Path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(site: Site, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{site.url}/impressum/", timeout=5):  # noqa: S310 (our own server)
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(f"the web server did not start:\n{site.log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def site(
    frontend: None, scene: scenes.Scene, nats_server: nats.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """granian with our application on a free port, on the test database."""
    folder = tmp_path_factory.mktemp("web")
    port = _free_port()
    address = urlsplit(os.environ["QUARTIER_POSTGRES_URL"])
    database = urlunsplit(address._replace(path="/" + connection.settings_dict["NAME"]))
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "src"),
        "QUARTIER_POSTGRES_URL": database,
        "QUARTIER_NATS_URL": nats_server.url,
        "QUARTIER_SIMULATED": "true",
        "QUARTIER_PORT": str(port),
    }
    environment.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)
    site = Site(f"http://127.0.0.1:{port}", folder / "web.log")
    with site.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "granian", *OPTIONS, "--port", str(port), "quartier.asgi:application"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        _wait_until_it_answers(site, process)
        yield site
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


@pytest.fixture(scope="module")
def browser(frontend: None) -> Iterator[Browser]:
    """Chromium, started once per test file."""
    executable = chromium()
    if executable is None:
        _missing("no Chromium: install Debian's package chromium, or name one in QUARTIER_CHROMIUM")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=executable,
            args=ARGUMENTS,
        )
        yield started
        started.close()


@dataclass(slots=True)
class Opened:
    """Everything that a test opened, and what went wrong in it."""

    contexts: list[BrowserContext] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class OpenPage(Protocol):
    """Opens an address of the site in a fresh browser profile."""

    def __call__(
        self,
        path: str,
        *,
        language: str = "de",
        width: int = 1280,
        scripts: bool = True,
        person: Person | None = None,
        dark: bool = False,
        faults: bool = False,
    ) -> Page: ...


def session_cookie(person: Person) -> str:
    """The key of a session in which ``person`` is signed in."""
    store = SessionStore()
    store[SESSION_KEY] = str(person.pk)
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[HASH_SESSION_KEY] = person.get_session_auth_hash()
    # allauth asks for the password again before changes to the account, unless somebody has just signed in.
    store["account_authentication_methods"] = [
        {"method": "password", "at": time.time(), "email": person.email, "reauthenticated": True}
    ]
    store["account_authentication_methods_user"] = str(person.pk)
    store.save()
    assert store.session_key is not None
    return store.session_key


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[OpenPage]:
    """``open_page("/orte/", language="en", width=360)``; the test fails if the console shows an error.

    ``scripts=False`` switches JavaScript off; ``person`` is signed in; ``faults=True`` accepts errors in the console
    (for pages that answer 4xx on purpose).
    """
    opened = Opened()

    def visit(
        path: str,
        *,
        language: str = "de",
        width: int = 1280,
        scripts: bool = True,
        person: Person | None = None,
        dark: bool = False,
        faults: bool = False,
    ) -> Page:
        context = browser.new_context(
            base_url=site.url,
            viewport={"width": width, "height": 800},
            locale="de-DE" if language == "de" else "en-GB",
            timezone_id="Europe/Berlin",
            java_script_enabled=scripts,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        opened.contexts.append(context)
        cookies: list[Any] = [{"name": settings.LANGUAGE_COOKIE_NAME, "value": language, "url": site.url}]
        if person is not None:
            key = session_cookie(person)
            cookies.append({"name": settings.SESSION_COOKIE_NAME, "value": key, "url": site.url})
        context.add_cookies(cookies)
        page = context.new_page()
        if not faults:
            page.on("pageerror", lambda error: opened.problems.append(f"{path}: {error}"))
            page.on(
                "console",
                lambda m: (
                    opened.problems.append(f"{path}: {m.text}") if m.type in ("error", "warning") else None
                ),
            )
        page.goto(path)
        return page

    yield visit
    for context in opened.contexts:
        context.close()
    assert not opened.problems, "the browser's console says:\n" + "\n".join(opened.problems)
