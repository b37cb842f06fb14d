"""Remote management of a Basics Station (CUPS): what it should have, what it has, and a new token for it."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from quartier.cities.rules import Actor
from quartier.desk import radio_setup
from quartier.desk.access import ENTER, RADIO, desk_page, require
from quartier.desk.forms.radio.stations import StationForm
from quartier.desk.forms.radio.updates import AssignForm
from quartier.desk.views.common import complained, said
from quartier.desk.views.radio.common import gateway_of, page
from quartier.lorawan import domain
from quartier.lorawan.domain.updates import assigned_update, update_at
from quartier.lorawan.models import Gateway


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page()
def station(request: HttpRequest, actor: Actor, eui: str) -> HttpResponse:
    """What CUPS keeps at the Station, and the form that changes it."""
    gateway = station_of(actor, eui)
    posted = request.method == "POST"
    if posted:
        require(actor, RADIO, gateway.municipality)
    state = domain.station_state(gateway)
    form = StationForm(
        request.POST if posted else None, initial={"cups_uri": state.cups_uri, "lns_uri": state.lns_uri}
    )
    if posted and form.is_valid():
        try:
            domain.set_station(actor, gateway, **form.wanted())
        except domain.LoraError as error:
            form.refuse(error)
        else:
            said(request, _("Gespeichert. Die Station bekommt es, wenn sie das nächste Mal fragt."))
            return redirect("desk:radio-gateway-station", eui=gateway.eui)
    context: dict[str, Any] = {
        "gateway": gateway,
        "state": state,
        "form": form,
        "at": update_at(gateway),
        "assign": AssignForm(actor, gateway, initial={"update": assigned_update(gateway)}),
        "keys": [f"{crc:08x}" for crc in gateway.cups.get("key_checksums", ())],
        "may_write": actor.may(RADIO, gateway.municipality_id),
        "files": radio_setup.cups_files(),
        "ours": {"cups": radio_setup.cups_uri(), "lns": radio_setup.station_uri()},
    }
    return page(
        request,
        actor,
        "desk/radio/station.html",
        context,
        tab="radio-gateways",
        status=422 if form.errors else 200,
    )


@require_POST
@desk_page(RADIO)
def station_roll(request: HttpRequest, actor: Actor, eui: str) -> HttpResponse:
    """A new token, which goes to the Station alone."""
    gateway = station_of(actor, eui, RADIO)
    try:
        domain.roll_station_token(actor, gateway)
    except domain.LoraError as error:
        names = {"trust": _("Zertifikat der ausstellenden Stelle"), "credentials": _("Schlüssel der Station")}
        complained(request, f"{names[error.field]}: {error.message}")
    else:
        said(
            request,
            _(
                "Der neue Zugangsschlüssel liegt bereit. Die Station holt ihn, wenn sie das nächste Mal fragt."
            ),
        )
    return redirect("desk:radio-gateway-station", eui=gateway.eui)


def station_of(actor: Actor, eui: str, action: str = ENTER) -> Gateway:
    """The gateway of an address, if it is a Basics Station. Raises Http404, NotAllowedIn."""
    gateway = gateway_of(actor, eui, action)
    if gateway.protocol != Gateway.Protocol.STATION:
        raise Http404
    return gateway
