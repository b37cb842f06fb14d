"""The frame of every page and the pages in the footer."""

from __future__ import annotations

import pytest

from tests.browser.checks import assert_accessible, assert_fits
from tests.browser.conftest import OpenPage

pytestmark = pytest.mark.browser

PAGES = ("/impressum/", "/datenschutz/", "/barrierefreiheit/", "/leichte-sprache/")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("language", ["de", "en"])
@pytest.mark.parametrize("path", PAGES)
def test_page_is_accessible_and_fits(open_page: OpenPage, path: str, language: str, width: int) -> None:
    page = open_page(path, language=language, width=width)
    assert_accessible(page)
    assert_fits(page)
