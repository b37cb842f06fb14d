"""Pages that everybody finds in the footer: imprint, privacy, accessibility, Leichte Sprache."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def imprint(request: HttpRequest) -> HttpResponse:
    """Who answers for these pages."""
    return render(request, "portal/pages/imprint.html")


def privacy(request: HttpRequest) -> HttpResponse:
    """What is stored about visitors, makers and devices."""
    return render(request, "portal/pages/privacy.html")


def accessibility(request: HttpRequest) -> HttpResponse:
    """The accessibility statement (BITV NRW § 4)."""
    return render(request, "portal/pages/accessibility.html")


def easy_language(request: HttpRequest) -> HttpResponse:
    """What these pages are, in Leichte Sprache (BITV 2.0, Annex 2)."""
    return render(request, "portal/pages/easy_language.html")
