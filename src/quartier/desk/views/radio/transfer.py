"""Radio devices in bulk: in from files of several kinds, after a preview; out without keys."""

from __future__ import annotations

from typing import Any, Final

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.desk.access import DEVICES, desk_page, municipalities, require
from quartier.desk.forms.radio.devices import ImportForm
from quartier.desk.views.common import said
from quartier.desk.views.radio.common import page
from quartier.lorawan import domain
from quartier.lorawan.domain import LoraError
from quartier.lorawan.domain.formats import COLUMNS
from quartier.lorawan.domain.transfer import ImportReport

_FORMS: Final = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
ERRORS_SHOWN: Final = 100


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(DEVICES)
def device_import(request: HttpRequest, actor: Actor) -> HttpResponse:
    """First a preview, then the same file again with a confirmation: keys do not travel in the page meanwhile."""
    posted = request.method == "POST"
    form = ImportForm(actor, request.POST, request.FILES) if posted else ImportForm(actor)
    report: ImportReport | None = None
    if posted and form.is_valid():
        data = form.cleaned_data
        write = request.POST.get("action") == "write"
        try:
            report = domain.import_devices(
                actor,
                data["municipality"],
                data["text"],
                default_profile=data["default_profile"],
                dry_run=not write,
            )
        except LoraError as error:
            form.refuse(error)
        else:
            if write and not report.errors:
                said(request, _counted(report))
                return redirect("desk:radio-devices")
    context: dict[str, Any] = {
        "form": form,
        "report": report,
        "columns": COLUMNS,
        "errors_slice": f":{ERRORS_SHOWN}",
        "exported": municipalities(actor, DEVICES),
    }
    failed = bool(form.errors) or (report is not None and bool(report.errors))
    return page(
        request,
        actor,
        "desk/radio/device_import.html",
        context,
        tab="radio-devices",
        status=422 if failed else 200,
    )


def _counted(report: ImportReport) -> str:
    created = ngettext("%(n)d Gerät angemeldet", "%(n)d Geräte angemeldet", report.created)
    return ", ".join(
        (
            created % {"n": report.created},
            _("%(n)d geändert") % {"n": report.changed},
            _("%(n)d unverändert") % {"n": report.unchanged},
        )
    )


@require_safe
@desk_page(DEVICES)
def device_export(request: HttpRequest, actor: Actor, slug: str, form: str) -> HttpResponse:
    """A city's devices as CSV or JSON, in the form that can be read in again; never with keys."""
    if form not in _FORMS:
        raise Http404
    municipality = get_object_or_404(Municipality, slug=slug)
    require(actor, DEVICES, municipality)
    response = HttpResponse(domain.export_devices(actor, municipality, form=form), content_type=_FORMS[form])
    response["Content-Disposition"] = f'attachment; filename="funkgeraete-{municipality.slug}.{form}"'
    return response
