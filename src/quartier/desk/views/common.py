"""What several views of the desk need: objects within reach, addresses, answers to a form."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.core.paginator import Page, Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, QueryDict
from django.utils.http import url_has_allowed_host_and_scheme


def page_of[M: Model](request: HttpRequest, rows: QuerySet[M], size: int = 50) -> dict[str, Any]:
    """A page of ``rows`` and the addresses of its neighbours, for the template part ``pagination``."""
    page: Page[M] = Paginator(rows, size).get_page(request.GET.get("seite"))
    return {
        "page": page,
        "previous": _page_address(request, page.previous_page_number()) if page.has_previous() else "",
        "next": _page_address(request, page.next_page_number()) if page.has_next() else "",
    }


def _page_address(request: HttpRequest, number: int) -> str:
    query = request.GET.copy()
    query["seite"] = str(number)
    return f"?{query.urlencode()}"


def back(request: HttpRequest, otherwise: str) -> str:
    """Where the form said it came from, if that is a page of ours."""
    target = request.POST.get("zurueck", "")
    if target.startswith("/amt/") and url_has_allowed_host_and_scheme(target, allowed_hosts=None):
        return target
    return otherwise


def said(request: HttpRequest, text: str) -> None:
    """A confirmation on the next page."""
    messages.success(request, text)


def complained(request: HttpRequest, text: str) -> None:
    """An error on the next page."""
    messages.error(request, text)


def keyset_key(text: str) -> tuple[datetime, int] | None:
    """The (time, id) that an address carries; None for none or nonsense, which begins at the start."""
    moment, _sign, pk = text.rpartition("_")
    try:
        key = datetime.fromisoformat(moment), int(pk)
    except ValueError:
        return None
    return key if key[0].tzinfo is not None and abs(key[1]) < 2**63 else None


def keyset_address(query: QueryDict, key: tuple[datetime, int] | None) -> str:
    """The address of the page after ``key``; empty where there is none."""
    if key is None:
        return ""
    changed = query.copy()
    changed["vor"] = f"{key[0].isoformat()}_{key[1]}"
    return f"?{changed.urlencode()}"
