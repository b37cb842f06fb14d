"""What happens around every page: the visitor's choice of language, and refusals in words."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed

from quartier.cities.rules import NotAllowed
from quartier.portal import errors

Handler = Callable[[HttpRequest], HttpResponse]


class LanguageChoice:
    """``?lang=en`` shows a page in that language and remembers it in a cookie.

    A plain link does it, so that the switch works without scripts, needs no session, and an address can be passed on
    in a language. Stands before Django's LocaleMiddleware, which reads the cookie.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response
        self.known = {code for code, _name in settings.LANGUAGES}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        wanted = request.GET.get("lang")
        if wanted not in self.known:
            return self.get_response(request)
        request.COOKIES[settings.LANGUAGE_COOKIE_NAME] = wanted
        response = self.get_response(request)
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            wanted,
            max_age=365 * 24 * 3600,
            secure=request.is_secure(),
            httponly=True,
            samesite="Lax",
        )
        return response


class Refusals:
    """A missing right becomes the page 403 that names it, the address of a form a page 405 instead of an empty one."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        response = self.get_response(request)
        if isinstance(response, HttpResponseNotAllowed) and not response.content:
            page = errors.only_a_form(request)
            page["Allow"] = response["Allow"]
            return page
        return response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Called by Django for what a view raised."""
        if isinstance(exception, NotAllowed):
            return errors.forbidden(request, exception)
        return None
