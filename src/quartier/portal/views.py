"""Pages that everybody finds in the footer: imprint, privacy, accessibility, Leichte Sprache, feedback."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from quartier.config import config
from quartier.portal import errors, limits
from quartier.portal.forms import FeedbackForm, first_values

FEEDBACK_TIMES, FEEDBACK_PERIOD_S = 5, 600


@require_safe
def imprint(request: HttpRequest) -> HttpResponse:
    """Who answers for these pages."""
    return render(request, "portal/pages/imprint.html")


@require_safe
def privacy(request: HttpRequest) -> HttpResponse:
    """What is stored about visitors, makers and devices."""
    values = {"inbox_days": config().inbox_days, "map_host": urlsplit(config().map_style_url).hostname or ""}
    return render(request, "portal/pages/privacy.html", values)


@require_safe
def accessibility(request: HttpRequest) -> HttpResponse:
    """The accessibility statement (BITV NRW § 4)."""
    return render(request, "portal/pages/accessibility.html")


@require_safe
def easy_language(request: HttpRequest) -> HttpResponse:
    """What these pages are, in Leichte Sprache (BITV 2.0, Annex 2)."""
    return render(request, "portal/pages/easy_language.html")


@require_http_methods(["GET", "HEAD", "POST"])
def feedback(request: HttpRequest) -> HttpResponse:
    """A form for praise, errors, barriers and ideas; no account needed."""
    if request.method != "POST":
        form = FeedbackForm(initial=first_values(request.GET.dict()))
        return render(request, "portal/pages/feedback.html", {"form": form})
    if request.POST.get("website"):
        # A field that people do not see was filled in: a program. It shall believe that it succeeded.
        return redirect("feedback-done")
    form = FeedbackForm(request.POST)
    if not form.is_valid():
        return render(request, "portal/pages/feedback.html", {"form": form}, status=422)
    if not limits.allow(request, "feedback", times=FEEDBACK_TIMES, period_s=FEEDBACK_PERIOD_S):
        return errors.too_many(request)
    form.save()
    return redirect("feedback-done")


@require_safe
def feedback_done(request: HttpRequest) -> HttpResponse:
    """Thanks."""
    return render(request, "portal/pages/feedback_done.html")
