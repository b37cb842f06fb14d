"""Pages for what went wrong, in words that say what to do."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from quartier.cities.rules import NotAllowed
from quartier.portal.words import RIGHTS


def _page(
    request: HttpRequest, status: int, heading: str, explanation: str, detail: str = ""
) -> HttpResponse:
    values = {"status": status, "heading": heading, "explanation": explanation, "detail": detail}
    return render(request, "portal/error.html", values, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400: something in the address or the form cannot be understood."""
    return _page(
        request,
        400,
        _("Diese Anfrage verstehen wir nicht"),
        _("In der Adresse oder im Formular steht etwas, womit die Seite nichts anfangen kann."),
    )


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403: names the right that is missing."""
    if isinstance(exception, NotAllowed):
        right = RIGHTS.get(exception.action, exception.action)
        explanation = _("Dafür fehlt Ihnen das Recht: %(right)s.") % {"right": right}
        if request.user.is_authenticated:
            explanation += " " + _("Der Betrieb Ihrer Stadt kann es Ihnen geben.")
        else:
            explanation += " " + _("Vielleicht müssen Sie sich nur anmelden.")
        return _page(request, 403, _("Kein Zugang"), explanation, exception.action)
    return _page(request, 403, _("Kein Zugang"), _("Diese Seite ist nicht für alle da."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: there is no such page."""
    return _page(
        request,
        404,
        _("Diese Seite gibt es nicht"),
        _("Vielleicht wurde der Ort umbenannt oder abgebaut. Suchen Sie nach Straße, Stadtteil oder Name."),
    )


def only_a_form(request: HttpRequest) -> HttpResponse:
    """405: somebody opened the address that a form is sent to, for example from their history."""
    return _page(
        request,
        405,
        _("Hier gibt es nichts zu lesen"),
        _("Diese Adresse nimmt nur Formulare an. Gehen Sie zurück und senden Sie das Formular noch einmal."),
    )


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403: the form was older than the session, or cookies are off."""
    return _page(
        request,
        403,
        _("Das Formular ist abgelaufen"),
        _(
            "Gehen Sie zurück, laden Sie die Seite neu und senden Sie noch einmal. Cookies müssen dafür erlaubt sein."
        ),
    )


def too_many(request: HttpRequest) -> HttpResponse:
    """429: too often in too short a time."""
    return _page(
        request,
        429,
        _("Bitte etwas langsamer"),
        _("Das waren viele Versuche in kurzer Zeit. Warten Sie ein paar Minuten."),
    )
