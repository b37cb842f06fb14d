"""What several pages of the radio network need: its tabs, objects within reach, errors of the rules."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _

from quartier.cities.rules import Actor
from quartier.desk.access import ENTER, MESSAGES, RADIO, render, require
from quartier.lorawan.models import Gateway, LoraDevice


def page(
    request: HttpRequest,
    actor: Actor,
    template: str,
    context: dict[str, Any],
    *,
    tab: str,
    status: int = 200,
) -> HttpResponse:
    """A page of the radio network, with the tabs that all of them share."""
    parts = [
        ("radio", ENTER, _("Überblick")),
        ("radio-gateways", ENTER, _("Gateways")),
        ("radio-updates", ENTER, _("Updates")),
        ("radio-devices", ENTER, _("Funkgeräte")),
        ("radio-frames", MESSAGES, _("Funkprotokoll")),
        ("radio-profiles", ENTER, _("Geräteprofile")),
        ("radio-groups", ENTER, _("Gruppen")),
        ("radio-peers", RADIO, _("Partnernetze")),
    ]
    tabs = [
        {"label": label, "address": reverse(f"desk:{name}"), "current": name == tab}
        for name, action, label in parts
        if actor.may(action)
    ]
    return render(request, actor, template, {"radio_tabs": tabs, **context}, status=status)


def gateway_of(actor: Actor, eui: str, action: str = ENTER) -> Gateway:
    """The gateway of an address. Raises Http404, NotAllowedIn."""
    gateway = get_object_or_404(Gateway.objects.select_related("municipality"), eui=eui)
    require(actor, action, gateway.municipality)
    return gateway


def device_of(actor: Actor, eui: str, action: str = ENTER) -> LoraDevice:
    """The device of an address. Raises Http404, NotAllowedIn."""
    device = get_object_or_404(
        LoraDevice.objects.select_related("municipality", "profile", "device__device_type", "owner"),
        dev_eui=eui,
    )
    require(actor, action, device.municipality)
    return device
