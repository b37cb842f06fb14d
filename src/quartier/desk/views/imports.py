"""Devices in bulk: from a CSV file or from the network server's own list. First a preview, then a confirmation."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from quartier.cities.rules import Actor
from quartier.desk.access import DEVICES, desk_page, render
from quartier.desk.forms.devices import ImportForm, NetworkForm
from quartier.desk.views.common import said
from quartier.sources import domain as sources
from quartier.sources.domain import COLUMNS, ImportReport
from quartier.sources.models import Source

# So many errors are shown; whoever has more corrects the file's form first.
ERRORS_SHOWN = 100


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(DEVICES)
def device_import(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Both ways on one page. ``action`` is preview or write; the file's text travels with the preview."""
    source = Source.objects.filter(key=request.GET.get("quelle", "")).first()
    csv_form, network_form = (
        ImportForm(actor, initial={"source": source}),
        NetworkForm(actor, initial={"source": source}),
    )
    context: dict[str, Any] = {"columns": COLUMNS, "errors_slice": f":{ERRORS_SHOWN}"}
    report: ImportReport | None = None
    if request.method == "POST":
        write = request.POST.get("action") == "write"
        if request.POST.get("way") == "network":
            network_form = NetworkForm(actor, request.POST)
            report = _from_network(actor, network_form, write=write)
            context["way"] = "network"
        else:
            csv_form = ImportForm(actor, request.POST, request.FILES)
            report = _from_csv(actor, csv_form, write=write)
            context["way"] = "csv"
            context["text"] = csv_form.cleaned_data.get("text", "") if report is not None else ""
        form = network_form if context["way"] == "network" else csv_form
        if report is not None and report.ok and not report.dry_run:
            said(request, _counted(report))
            key = form.cleaned_data["source"].key
            return redirect(f"{reverse('desk:devices')}?{urlencode({'quelle': key})}")
        context["chosen"] = form
    failed = csv_form.errors or network_form.errors or (report is not None and not report.ok)
    context |= {"csv_form": csv_form, "network_form": network_form, "report": report}
    return render(request, actor, "desk/device_import.html", context, status=422 if failed else 200)


def _from_csv(actor: Actor, form: ImportForm, *, write: bool) -> ImportReport | None:
    if not form.is_valid():
        return None
    data = form.cleaned_data
    return sources.import_devices_csv(
        actor, data["source"], data["text"], dry_run=not write, default_kind=data["kind"]
    )


def _from_network(actor: Actor, form: NetworkForm, *, write: bool) -> ImportReport | None:
    if not form.is_valid():
        return None
    data = form.cleaned_data
    try:
        return sources.import_devices_from_network(
            actor, data["source"], data["device_type"], dry_run=not write, default_kind=data["kind"]
        )
    except sources.NetworkError as error:
        form.add_error("source", str(error))
        return None


def _counted(report: ImportReport) -> str:
    created = ngettext("%(n)d Gerät angelegt", "%(n)d Geräte angelegt", report.devices_created)
    return ", ".join(
        (
            created % {"n": report.devices_created},
            _("%(n)d geändert") % {"n": report.devices_changed},
            _("%(n)d unverändert") % {"n": report.devices_unchanged},
        )
    )
