"""Gateways: list, page, registration, changes, tokens that are shown once."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from quartier.cities.rules import Actor
from quartier.cities.secrets import seal, unseal
from quartier.desk import radio_frames, radio_setup
from quartier.desk.access import MESSAGES, RADIO, desk_page, require
from quartier.desk.forms.radio.gateways import GatewayFilterForm, GatewayForm, NewGatewayForm
from quartier.desk.queries.radio import frames as frame_queries
from quartier.desk.queries.radio import gateways as queries
from quartier.desk.queries.radio.frames import FrameFilter
from quartier.desk.views.common import complained, page_of, said
from quartier.desk.views.radio.common import gateway_of, page
from quartier.lorawan import domain
from quartier.lorawan.domain.gateways import set_certificate
from quartier.lorawan.models import Gateway

_REVEAL: Final = "desk-gateway-token"
_FRAMES_SHOWN: Final = 10


@require_safe
@desk_page()
def gateway_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """All gateways of the actor's cities."""
    form = GatewayFilterForm(actor, request.GET)
    paged = page_of(request, queries.filtered(actor, **form.wanted()))
    context: dict[str, Any] = {
        "form": form,
        "rows": queries.health(paged["page"].object_list),
        "many_broken": queries.MANY_BROKEN,
        "may_write": actor.may(RADIO),
        "query": request.GET.urlencode(),
        **paged,
    }
    return page(request, actor, "desk/radio/gateways.html", context, tab="radio-gateways")


@require_safe
@desk_page()
def gateway_by_id(_request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """Lines of the frame log know rows, addresses know EUIs."""
    gateway = get_object_or_404(Gateway.objects.select_related("municipality"), pk=pk)
    return redirect("desk:radio-gateway", eui=gateway_of(actor, gateway.eui).eui)


@require_safe
@desk_page()
def gateway_detail(request: HttpRequest, actor: Actor, eui: str) -> HttpResponse:
    """Health, hours, newest frames, and how it is set up."""
    gateway = gateway_of(actor, eui)
    city = gateway.municipality_id
    may_write = actor.may(RADIO, city)
    frames = []
    if actor.may(MESSAGES, city):
        wanted = FrameFilter(gateway=gateway.eui, municipality=gateway.municipality.slug)
        frames = radio_frames.told(
            actor, frame_queries.page(actor, wanted, size=_FRAMES_SHOWN)[0], answers=False
        )
    token = _revealed(request, gateway) if may_write else ""
    [health] = queries.health([gateway])
    status = gateway.status if isinstance(gateway.status, dict) else {}
    context = {
        "gateway": gateway,
        "health": health,
        "status": status,
        "point": f"{gateway.lon},{gateway.lat}" if gateway.lon is not None else "",
        "hours": queries.hours(gateway),
        "frames": frames,
        "may_read_messages": actor.may(MESSAGES, city),
        "may_write": may_write,
        "token": token,
        "files": radio_setup.files_of(gateway, token) if may_write else [],
        "many_broken": queries.MANY_BROKEN,
        "much_used": queries.MUCH_USED,
    }
    return page(request, actor, "desk/radio/gateway.html", context, tab="radio-gateways")


def _revealed(request: HttpRequest, gateway: Gateway) -> str:
    """The token that was just made; shown once."""
    kept = request.session.pop(_REVEAL, None)
    if not isinstance(kept, dict) or kept.get("eui") != gateway.eui:
        return ""
    return str(unseal(kept["sealed"]).get("token", ""))


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(RADIO)
def gateway_new(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Register a gateway; a Basics Station gets its first token at once."""
    posted = request.method == "POST"
    form = NewGatewayForm(
        actor,
        request.POST if posted else None,
        initial={"eui": request.GET.get("eui", ""), "antenna_gain_dbi": 2},
    )
    if posted and form.is_valid():
        values = dict(form.cleaned_data)
        municipality, eui = values.pop("municipality"), values.pop("eui")
        try:
            if Gateway.objects.filter(eui=frame_eui(eui)).exists():
                raise domain.LoraError("eui", _("ist schon angemeldet"))
            gateway = domain.save_gateway(actor, municipality, eui, **values)
        except domain.LoraError as error:
            form.refuse(error)
        else:
            said(
                request,
                _("Das Gateway ist angemeldet. Jetzt fehlen nur noch diese Einstellungen am Gateway."),
            )
            if gateway.protocol == Gateway.Protocol.STATION:
                _make_token(request, actor, gateway)
            return redirect("desk:radio-gateway", eui=gateway.eui)
    return page(
        request,
        actor,
        "desk/radio/gateway_edit.html",
        {"form": form, "gateway": None},
        tab="radio-gateways",
        status=422 if form.errors else 200,
    )


def frame_eui(text: str) -> str:
    """An EUI as people write it, in our spelling."""
    return "".join(one for one in text.lower() if one in "0123456789abcdef")


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(RADIO)
def gateway_edit(request: HttpRequest, actor: Actor, eui: str) -> HttpResponse:
    """Change what staff said of it."""
    gateway = gateway_of(actor, eui, RADIO)
    posted = request.method == "POST"
    form = GatewayForm(actor, request.POST if posted else None, initial=GatewayForm.initial_of(gateway))
    if posted and form.is_valid():
        try:
            domain.save_gateway(actor, gateway.municipality, gateway.eui, **form.cleaned_data)
        except domain.LoraError as error:
            form.refuse(error)
        else:
            said(request, _("Gespeichert."))
            return redirect("desk:radio-gateway", eui=gateway.eui)
    return page(
        request,
        actor,
        "desk/radio/gateway_edit.html",
        {"form": form, "gateway": gateway},
        tab="radio-gateways",
        status=422 if form.errors else 200,
    )


@require_POST
@desk_page(RADIO)
def gateway_switch(request: HttpRequest, actor: Actor, eui: str) -> HttpResponse:
    """On or off."""
    gateway = gateway_of(actor, eui, RADIO)
    on = request.POST.get("an") == "1"
    domain.set_disabled(actor, gateway, not on)
    said(request, _("Das Gateway ist eingeschaltet.") if on else _("Das Gateway ist abgeschaltet."))
    return redirect("desk:radio-gateway", eui=gateway.eui)


@require_POST
@desk_page(RADIO)
def gateway_token(request: HttpRequest, actor: Actor, eui: str) -> HttpResponse:
    """A new token, or the fingerprint of a client certificate."""
    gateway = gateway_of(actor, eui, RADIO)
    require(actor, RADIO, gateway.municipality)
    fingerprint = request.POST.get("certificate", "").strip()
    if fingerprint:
        try:
            set_certificate(actor, gateway, fingerprint)
        except domain.LoraError as error:
            complained(request, f"{_('Fingerabdruck')}: {error.message}")
        else:
            said(request, _("Das Zertifikat ist eingetragen."))
    else:
        _make_token(request, actor, gateway)
        said(
            request,
            _("Neuer Zugangsschlüssel. Der alte gilt, bis sich das Gateway mit dem neuen gemeldet hat."),
        )
    return redirect("desk:radio-gateway", eui=gateway.eui)


def _make_token(request: HttpRequest, actor: Actor, gateway: Gateway) -> None:
    token = domain.make_token(actor, gateway)
    request.session[_REVEAL] = {"eui": gateway.eui, "sealed": seal({"token": token})}
