"""Sending something to devices, and seeing what became of it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from quartier.cities.rules import Actor
from quartier.desk import radio_downlinks
from quartier.desk.access import ENTER, SEND, desk_page, render, require
from quartier.desk.forms.radio.downlinks import DownlinkForm
from quartier.desk.views.common import complained, said
from quartier.desk.views.radio.common import device_of, page
from quartier.desk.views.radio.devices import device_page
from quartier.lorawan import domain
from quartier.lorawan.domain import LoraError
from quartier.lorawan.models import Downlink


@require_POST
@desk_page(SEND)
def downlink_new(request: HttpRequest, actor: Actor, eui: str) -> HttpResponse:
    """Put a downlink into a device's queue."""
    device = device_of(actor, eui, SEND)
    form = DownlinkForm(request.POST)
    if form.is_valid():
        data = form.cleaned_data
        try:
            payload, port = data["payload"], data["port"]
            if data["command"] is not None:
                payload, port = domain.encode_command(device, data["command"], port)
            downlink = domain.enqueue(
                actor,
                device,
                payload,
                port=port,
                confirmed=data["confirmed"],
                priority=1 if data["urgent"] else 0,
                expires_at=data["expires_at"],
            )
        except LoraError as error:
            form.refuse(error)
        else:
            return redirect("desk:radio-downlink", pk=downlink.pk)
    return device_page(request, actor, device, downlink=form, status=422)


def _downlink(actor: Actor, pk: int, action: str = ENTER) -> Downlink:
    downlink = get_object_or_404(
        Downlink.objects.select_related("municipality", "device__profile", "group"), pk=pk
    )
    require(actor, action, downlink.municipality)
    return downlink


@require_safe
@desk_page()
def downlink_detail(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """The true state of a downlink."""
    downlink = _downlink(actor, pk)
    tab = "radio-groups" if downlink.group_id else "radio-devices"
    return page(request, actor, "desk/radio/downlink.html", _state(actor, downlink), tab=tab)


@require_safe
@desk_page()
def downlink_state(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """The part of the page that changes by itself."""
    return render(request, actor, "desk/radio/parts/downlink_state.html", _state(actor, _downlink(actor, pk)))


def _state(actor: Actor, downlink: Downlink) -> dict[str, object]:
    # A confirmed one that was sent may still be acknowledged.
    follows = downlink.state in Downlink.OPEN or (
        downlink.state == Downlink.State.SENT and downlink.confirmed
    )
    return {
        "downlink": downlink,
        "sentences": radio_downlinks.sentences(downlink),
        "technical": radio_downlinks.technical(downlink),
        "follows": follows,
        "may_send": actor.may(SEND, downlink.municipality_id),
    }


@require_POST
@desk_page(SEND)
def downlink_cancel(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """Withdraw what is not on its way."""
    downlink = _downlink(actor, pk, SEND)
    try:
        domain.cancel_downlink(actor, downlink)
    except LoraError as error:
        complained(request, error.message)
    else:
        said(request, _("Die Nachricht ist zurückgezogen."))
    return redirect("desk:radio-downlink", pk=downlink.pk)
