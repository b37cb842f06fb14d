"""Software updates of Basics Stations: uploaded, switched on, assigned to a gateway, and how far they are."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from quartier.cities.rules import Actor
from quartier.desk.access import RADIO, desk_page
from quartier.desk.forms.radio.updates import AssignForm, SignatureFilesForm, UpdateForm
from quartier.desk.queries.radio import updates as queries
from quartier.desk.views.common import complained, said
from quartier.desk.views.radio.common import page
from quartier.desk.views.radio.stations import station_of
from quartier.lorawan import domain
from quartier.lorawan.domain import LoraError
from quartier.lorawan.domain.updates import deliveries_of, may_change_update, visible_updates
from quartier.lorawan.models_stations import StationUpdate

_TAB: Final = "radio-updates"
DELIVERIES_SHOWN: Final = 200


@require_safe
@desk_page()
def update_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """All updates, and what Stations run."""
    running = queries.running(actor)
    context = {
        "rows": queries.with_counts(actor, running),
        "running": queries.together(running),
        "may_write": actor.may(RADIO),
    }
    return page(request, actor, "desk/radio/updates.html", context, tab=_TAB)


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(RADIO)
def update_new(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Upload one; it stays inactive."""
    posted = request.method == "POST"
    form = UpdateForm(actor, request.POST, request.FILES) if posted else UpdateForm(actor)
    if posted and form.is_valid():
        try:
            made = domain.add_update(actor, form.cleaned_data["municipality"], **form.values())
        except LoraError as error:
            form.refuse(error)
        else:
            said(request, _("Die Unterschrift stimmt. Das Update liegt bereit und ist noch nicht aktiv."))
            return redirect("desk:radio-update", pk=made.pk)
    return page(
        request,
        actor,
        "desk/radio/update_new.html",
        {"form": form},
        tab=_TAB,
        status=422 if form.errors else 200,
    )


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page()
def update_detail(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """What it is, who has it; switch it on and off, sign it with another key, delete it."""
    update = get_object_or_404(visible_updates(actor), pk=pk)
    form = SignatureFilesForm()
    if request.method == "POST":
        actor.require(RADIO, update.municipality_id)
        action = request.POST.get("action", "")
        if action == "sign":
            form = SignatureFilesForm(request.POST, request.FILES)
        try:
            if action != "sign" or form.is_valid():
                _act(request, actor, update, action, form)
                gone = action == "delete"
                return redirect("desk:radio-updates") if gone else redirect("desk:radio-update", pk=pk)
        except LoraError as error:
            if action != "sign":
                complained(request, error.message)
                return redirect("desk:radio-update", pk=pk)
            form.refuse(error)
    deliveries = list(deliveries_of(update, actor)[:DELIVERIES_SHOWN])
    context: dict[str, Any] = {
        "update": update,
        "keys": [f"{int(crc):08x}" for crc in update.signatures],
        "deliveries": deliveries,
        "form": form,
        "may_write": may_change_update(actor, update),
    }
    return page(
        request, actor, "desk/radio/update.html", context, tab=_TAB, status=422 if form.errors else 200
    )


def _act(
    request: HttpRequest, actor: Actor, update: StationUpdate, action: str, form: SignatureFilesForm
) -> None:
    match action:
        case "on" | "off":
            domain.set_update(actor, update, active=action == "on")
            said(
                request,
                _("Aktiv. Stationen bekommen es, wenn sie das nächste Mal fragen.")
                if action == "on"
                else _("Abgeschaltet. Es wird nicht mehr angeboten."),
            )
        case "all" | "some":
            domain.set_update(actor, update, everywhere=action == "all")
            said(request, _("Gespeichert."))
        case "delete":
            domain.delete_update(actor, update)
            said(request, _("Das Update ist gelöscht."))
        case "sign":
            domain.add_signature(actor, update, **form.signed())
            said(request, _("Die Unterschrift stimmt und ist eingetragen."))


@require_POST
@desk_page(RADIO)
def gateway_update(request: HttpRequest, actor: Actor, eui: str) -> HttpResponse:
    """Assign an update to a gateway, or begin anew after deliveries in vain."""
    gateway = station_of(actor, eui, RADIO)
    if request.POST.get("action") == "again":
        update = get_object_or_404(
            visible_updates(actor),
            pk=request.POST["update"] if request.POST.get("update", "").isdecimal() else 0,
        )
        domain.offer_again(actor, gateway, update)
        said(request, _("Die Station bekommt das Update noch einmal, wenn sie das nächste Mal fragt."))
        return redirect("desk:radio-gateway-station", eui=gateway.eui)
    form = AssignForm(actor, gateway, request.POST)
    if not form.is_valid():
        complained(request, _("Dieses Update gibt es für diese Station nicht."))
        return redirect("desk:radio-gateway-station", eui=gateway.eui)
    try:
        domain.assign_update(actor, gateway, form.cleaned_data["update"])
    except LoraError as error:
        complained(request, error.message)
    else:
        said(request, _("Gespeichert. Die Station bekommt es, wenn sie das nächste Mal fragt."))
    return redirect("desk:radio-gateway-station", eui=gateway.eui)
