"""Radio devices: list, page, registration, keys, moves."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from quartier.cities.models import Organisation
from quartier.cities.rules import Actor
from quartier.desk import radio_downlinks, radio_frames
from quartier.desk.access import AUDIT, DEVICES, MESSAGES, SEND, desk_page
from quartier.desk.forms.radio.devices import (
    DeviceFilterForm,
    DeviceForm,
    KeysForm,
    MoveForm,
    NewDeviceForm,
)
from quartier.desk.forms.radio.downlinks import DownlinkForm
from quartier.desk.queries import devices as device_queries
from quartier.desk.queries.radio import devices as queries
from quartier.desk.queries.radio import frames as frame_queries
from quartier.desk.views.common import page_of, said
from quartier.desk.views.radio.common import device_of, page
from quartier.lorawan import domain
from quartier.lorawan.domain import DeviceSettings, LoraError
from quartier.lorawan.models import JoinState, LoraDevice
from quartier.twin.models import Device

_TAB = "radio-devices"


@require_safe
@desk_page()
def device_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """All radio devices of the actor's cities."""
    form = DeviceFilterForm(actor, request.GET)
    context: dict[str, Any] = {
        "form": form,
        "may_write": actor.may(DEVICES),
        "query": request.GET.urlencode(),
        **page_of(request, queries.filtered(actor, **form.wanted())),
    }
    return page(request, actor, "desk/radio/devices.html", context, tab=_TAB)


@require_safe
@desk_page()
def device_detail(request: HttpRequest, actor: Actor, eui: str) -> HttpResponse:
    """Session, frames, downlinks and history of a device."""
    return device_page(request, actor, device_of(actor, eui))


def device_page(
    request: HttpRequest,
    actor: Actor,
    device: LoraDevice,
    *,
    downlink: DownlinkForm | None = None,
    move: MoveForm | None = None,
    status: int = 200,
) -> HttpResponse:
    """The page of a device, with forms that were wrong."""
    city = device.municipality_id
    may_read = actor.may(MESSAGES, city)
    may_send, may_write = actor.may(SEND, city), actor.may(DEVICES, city)
    twin = device_queries.with_state(Device.objects.filter(pk=device.device_id)).get()
    frames = radio_frames.told(actor, frame_queries.of_device(device)) if may_read else []
    initial = {"municipality": device.municipality, "owner": device.owner}
    context = {
        "device": device,
        "twin": twin,
        "sessions": queries.sessions(device),
        "join_state": JoinState.objects.filter(device=device).first(),
        "frames": frames,
        "downlinks": [(one, radio_downlinks.sentences(one)) for one in queries.downlinks(device)],
        "moves": list(device.moves.select_related("from_municipality", "to_municipality")),
        "downlink_form": (downlink or DownlinkForm()) if may_send else None,
        "move_form": (move or MoveForm(actor, initial=initial)) if may_write else None,
        "may_read_messages": may_read,
        "may_write": may_write,
        "may_audit": actor.may(AUDIT, city),
    }
    return page(request, actor, "desk/radio/device.html", context, tab=_TAB, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(DEVICES)
def device_new(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Register a device by form or by its QR code."""
    posted = request.method == "POST"
    form = NewDeviceForm(actor, request.POST if posted else None, initial={"qr": request.GET.get("qr", "")})
    if posted and form.is_valid():
        data = form.cleaned_data
        settings = DeviceSettings(
            dev_eui=data["dev_eui"],
            name=data["name"],
            profile=data["profile"],
            activation=data["activation"],
            join_eui=data["join_eui"],
            keys=form.keys(),
            device_type=data["device_type"],
            expected_interval_s=data["expected_interval_s"],
            may_roam=data["may_roam"],
        )
        try:
            device = domain.register_device(actor, data["municipality"], settings, thing=data["thing"])
        except LoraError as error:
            form.refuse(error)
        else:
            said(request, _("Das Gerät ist angemeldet. Schalten Sie es ein: Seine Anmeldung erscheint hier."))
            return redirect("desk:radio-device", eui=device.dev_eui)
    context = {
        "form": form,
        "otaa": [form[name] for name in ("join_eui", *KeysForm.OTAA)],
        "abp": [form[name] for name in KeysForm.ABP],
        "about": [form[name] for name in ("municipality", "qr", "dev_eui", "name", "profile", "activation")],
        "more": [form[name] for name in ("device_type", "thing", "expected_interval_s", "may_roam")],
    }
    return page(
        request, actor, "desk/radio/device_new.html", context, tab=_TAB, status=422 if form.errors else 200
    )


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(DEVICES)
def device_edit(request: HttpRequest, actor: Actor, eui: str) -> HttpResponse:
    """Change name, profile, codec and the rest."""
    device = device_of(actor, eui, DEVICES)
    posted = request.method == "POST"
    form = DeviceForm(actor, device, request.POST if posted else None)
    if posted and form.is_valid():
        try:
            domain.save_device(actor, device, **form.cleaned_data)
        except LoraError as error:
            form.refuse(error)
        else:
            said(request, _("Gespeichert."))
            return redirect("desk:radio-device", eui=device.dev_eui)
    context = {"form": form, "device": device}
    return page(
        request, actor, "desk/radio/device_edit.html", context, tab=_TAB, status=422 if form.errors else 200
    )


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(DEVICES)
def device_keys(request: HttpRequest, actor: Actor, eui: str) -> HttpResponse:
    """Replace activation and keys; the session ends."""
    device = device_of(actor, eui, DEVICES)
    posted = request.method == "POST"
    initial = {"profile": device.profile, "activation": device.activation, "join_eui": device.join_eui}
    form = KeysForm(actor, request.POST if posted else None, initial=initial)
    if posted and form.is_valid():
        data = form.cleaned_data
        settings = DeviceSettings(
            dev_eui=device.dev_eui,
            name=device.name,
            profile=data["profile"],
            activation=data["activation"],
            join_eui=data["join_eui"],
            keys=form.keys(),
        )
        try:
            domain.replace_keys(actor, device, settings)
        except LoraError as error:
            form.refuse(error)
        else:
            said(request, _("Die Schlüssel sind ersetzt. Das Gerät muss sich neu anmelden."))
            return redirect("desk:radio-device", eui=device.dev_eui)
    context = {
        "form": form,
        "device": device,
        "about": [form[name] for name in ("profile", "activation")],
        "otaa": [form[name] for name in ("join_eui", *KeysForm.OTAA)],
        "abp": [form[name] for name in KeysForm.ABP],
    }
    return page(
        request, actor, "desk/radio/device_keys.html", context, tab=_TAB, status=422 if form.errors else 200
    )


@require_POST
@desk_page(DEVICES)
def device_switch(request: HttpRequest, actor: Actor, eui: str) -> HttpResponse:
    """On or off."""
    device = device_of(actor, eui, DEVICES)
    on = request.POST.get("an") == "1"
    domain.set_active(actor, device, on)
    said(request, _("Das Gerät ist eingeschaltet.") if on else _("Das Gerät ist abgeschaltet."))
    return redirect("desk:radio-device", eui=device.dev_eui)


@require_POST
@desk_page(DEVICES)
def device_move(request: HttpRequest, actor: Actor, eui: str) -> HttpResponse:
    """To another city or owner."""
    device = device_of(actor, eui, DEVICES)
    form = MoveForm(actor, request.POST)
    if form.is_valid():
        owner: Organisation | None = form.cleaned_data["owner"]
        try:
            domain.move_device(
                actor,
                device,
                form.cleaned_data["municipality"],
                owner=owner,
                reason=form.cleaned_data["reason"],
            )
        except LoraError as error:
            form.refuse(error)
        else:
            said(request, _("Das Gerät gehört jetzt zu: %(city)s.") % {"city": device.municipality.name})
            return redirect("desk:radio-device", eui=device.dev_eui)
    return device_page(request, actor, device, move=form, status=422)
