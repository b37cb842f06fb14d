"""Refused messages: list by reason, raw view, another try."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from quartier.cities.rules import Actor, NotAllowed
from quartier.config import config
from quartier.desk import domain, raw, words
from quartier.desk.access import CODECS, DEVICES, MESSAGES, desk_page, everywhere, render, require
from quartier.desk.forms.refused import RefusedFilterForm
from quartier.desk.queries import refused
from quartier.desk.templatetags.desk import signal
from quartier.desk.views.common import back, complained, keyset_address, keyset_key, said
from quartier.intake import domain as intake
from quartier.intake.models import RefusedMessage
from quartier.intake.parsers import Uplink
from quartier.twin.models import Device

# More are tried again in further rounds, so that one click cannot keep the replayer busy for hours.
RETRY_AT_MOST: Final = 5_000


@require_safe
@desk_page(MESSAGES)
def message_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The open ones by reason, then one by one; the address holds all filters."""
    form = RefusedFilterForm(actor, request.GET)
    wanted = form.wanted()
    messages = refused.filtered(actor, wanted)
    rows, following = refused.page(messages, keyset_key(request.GET.get("vor", "")))
    groups = refused.groups(messages)
    context = {
        "form": form,
        "rows": [(row, words.reason(row.reason)) for row in rows],
        "groups": [(group, words.reason(group.reason)) for group in groups],
        "total": sum(group.n for group in groups),
        "next": keyset_address(request.GET, following),
        "later_page": "vor" in request.GET,
        "query": request.GET.urlencode(),
        "filter_query": _without(request.GET, "vor").urlencode(),
        "group_query": _without(request.GET, "vor", "grund").urlencode(),
        "may_retry": actor.may(CODECS),
        "retry_at_most": RETRY_AT_MOST,
    }
    return render(request, actor, "desk/refused.html", context)


def _without(query: QueryDict, *names: str) -> QueryDict:
    left = query.copy()
    for name in names:
        left.pop(name, None)
    return left


@require_safe
@desk_page(MESSAGES)
def message_detail(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """One message: why it was refused, what it says, what can be done."""
    message = get_object_or_404(RefusedMessage.objects.select_related("municipality"), pk=pk)
    _require(actor, MESSAGES, message)
    opened = raw.open_refused(message)
    device = (
        Device.objects.filter(
            municipality=message.municipality, source_key=message.source_key, external_id=message.external_id
        )
        .select_related("device_type")
        .first()
    )
    municipality_id = message.municipality_id
    context: dict[str, Any] = {
        **raw_context(opened, message.external_id),
        "message": message,
        "reason": words.reason(message.reason),
        "device": device,
        "may_retry": municipality_id is not None and actor.may(CODECS, municipality_id),
        "register": device is None
        and bool(message.external_id)
        and municipality_id is not None
        and actor.may(DEVICES, municipality_id),
    }
    return render(request, actor, "desk/refused_message.html", context)


def raw_context(opened: raw.Opened, external_id: str) -> dict[str, Any]:
    """What the template part ``raw`` shows of a message."""
    uplink = opened.uplink_of(external_id)
    return {
        "parser_error": opened.error,
        "text": raw.as_text(opened.raw.body),
        "hex": raw.hex_dump(opened.raw.body),
        "kind": opened.raw.kind,
        "headers": opened.raw.headers,
        "payload_hex": uplink.payload.hex() if uplink is not None and uplink.payload is not None else "",
        "fields": dict(uplink.fields) if uplink is not None and uplink.fields is not None else None,
        "said": _said(uplink) if uplink is not None else [],
    }


@require_safe
@desk_page(MESSAGES)
def device_message(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """The newest raw message of a device."""
    device = get_object_or_404(Device.objects.select_related("municipality"), pk=pk)
    require(actor, MESSAGES, device.municipality)
    opened = raw.last_of(device)
    context: dict[str, Any] = {"device": device, "opened": opened, "inbox_days": config().inbox_days}
    if opened is not None:
        context |= raw_context(opened, device.external_id)
    return render(request, actor, "desk/device_message.html", context)


def _said(uplink: Uplink) -> list[tuple[str, Any]]:
    """What the network knew of the uplink."""
    rows = [
        (_("Port"), uplink.port),
        (_("Rahmenzähler"), uplink.frame_counter),
        (
            _("Zeit der Messung"),
            uplink.observed_at and date_format(localtime(uplink.observed_at), "DATETIME_FORMAT"),
        ),
        (_("Signal"), signal(uplink)),
        (_("Gateways"), uplink.gateways),
    ]
    return [(label, value) for label, value in rows if value is not None and value != "–"]


def _require(actor: Actor, action: str, message: RefusedMessage) -> None:
    if message.municipality is not None:
        require(actor, action, message.municipality)
    elif not everywhere(actor, action):
        # A message that belongs to no city is for those who may read all.
        raise NotAllowed(action)


@require_POST
@desk_page(CODECS)
def retry(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Try the chosen messages again (a page shows how it goes) or tick them off, or all that a filter describes."""
    if request.POST.get("alle"):
        wanted = RefusedFilterForm(actor, QueryDict(request.POST.get("filter", ""))).wanted()
        messages = refused.filtered(actor, wanted, CODECS).filter(resolved_at__isnull=True)
    else:
        ids = [int(text) for text in request.POST.getlist("id") if text.isdecimal()][:RETRY_AT_MOST]
        messages = RefusedMessage.objects.filter(pk__in=ids, resolved_at__isnull=True)
        for message in messages.select_related("municipality").only("municipality").order_by("pk"):
            _require(actor, CODECS, message)
    # The oldest first: a device's readings then arrive in their order.
    chosen = list(messages.order_by("at", "pk").values_list("pk", flat=True)[:RETRY_AT_MOST])
    if not chosen:
        complained(request, _("Keine offene Nachricht ausgewählt."))
        return redirect(back(request, "desk:refused"))
    if request.POST.get("action") == "resolve":
        n = domain.resolve_refused(actor, chosen)
        said(request, ngettext("%(n)d Nachricht abgehakt.", "%(n)d Nachrichten abgehakt.", n) % {"n": n})
        return redirect(back(request, "desk:refused"))
    replay = intake.retry_refused(actor, chosen)
    said(
        request,
        ngettext(
            "%(n)d Nachricht wird noch einmal versucht.",
            "%(n)d Nachrichten werden noch einmal versucht.",
            len(chosen),
        )
        % {"n": len(chosen)},
    )
    return redirect("desk:replay", pk=replay.pk)
