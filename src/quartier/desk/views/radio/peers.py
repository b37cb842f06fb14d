"""Neighbouring networks: connect one, agree on terms, see what was carried, and account for it."""

from __future__ import annotations

from typing import Any, Final

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.cities.secrets import seal, unseal
from quartier.desk.access import AUDIT, RADIO, desk_page, require, within
from quartier.desk.forms.base import offer
from quartier.desk.forms.radio.peers import AgreementForm, AuditForm, NewPeerForm, PeerForm, SignatureForm
from quartier.desk.queries.radio import peers as queries
from quartier.desk.views.common import complained, page_of, said
from quartier.desk.views.radio.common import page
from quartier.lorawan import domain
from quartier.lorawan.domain import LoraError
from quartier.lorawan.domain import peers as rules
from quartier.lorawan.models_roaming import LoraPeer, RoamingAgreement

_TAB: Final = "radio-peers"
_REVEAL: Final = "desk-peer-bearer"


def _peer(actor: Actor, key: str) -> LoraPeer:
    peer = get_object_or_404(LoraPeer.objects.select_related("municipality"), key=key)
    if peer.municipality is None:
        actor.require(RADIO)
        if actor.municipalities(RADIO) is not None:
            raise Http404
    else:
        require(actor, RADIO, peer.municipality)
    return peer


@require_safe
@desk_page(RADIO)
def peer_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """All peers with today's traffic."""
    peers = list(queries.visible(actor))
    today = queries.today(peers, timezone.now())
    context = {"rows": [(one, today.get(one.pk, [])) for one in peers], "may_audit": actor.may(AUDIT)}
    return page(request, actor, "desk/radio/peers.html", context, tab=_TAB)


@require_safe
@desk_page(RADIO)
def peer_detail(request: HttpRequest, actor: Actor, key: str) -> HttpResponse:
    """Agreements, budgets used, traffic by day with the result of the last comparison."""
    peer, now = _peer(actor, key), timezone.now()
    agreements = list(peer.agreements.order_by("-valid_from", "-pk"))
    used = queries.used_today(agreements, now)
    context = {
        "peer": peer,
        "agreements": [(one, used.get(one.pk)) for one in agreements],
        "traffic": queries.traffic(peer, now),
        "revealed": _revealed(request, peer),
        "may_audit": actor.may(AUDIT),
    }
    return page(request, actor, "desk/radio/peer.html", context, tab=_TAB)


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(RADIO)
def peer_edit(request: HttpRequest, actor: Actor, key: str = "") -> HttpResponse:
    """Connect a peer, or change how it is reached."""
    peer = _peer(actor, key) if key else None
    posted = request.POST if request.method == "POST" else None
    form: PeerForm = PeerForm(peer, posted) if peer else NewPeerForm(actor, posted)
    if posted is not None and form.is_valid():
        data = form.cleaned_data
        municipality: Municipality | None = peer.municipality if peer else data["municipality"]
        try:
            if municipality is None:
                raise LoraError("", _("Das Partnernetz gehört zu keiner Stadt."))
            if peer is None and LoraPeer.objects.filter(key=data["slug"]).exists():
                raise LoraError("slug", _("gibt es schon"))
            saved = rules.save_peer(
                actor,
                municipality,
                peer.key if peer else data["slug"],
                secret=form.secret() or None,
                **form.values(),
            )
        except LoraError as error:
            form.refuse(error)
        else:
            said(request, _("Gespeichert."))
            return redirect("desk:radio-peer", key=saved.key)
    context: dict[str, Any] = {"form": form, "peer": peer, **form.parts()}
    return page(
        request, actor, "desk/radio/peer_edit.html", context, tab=_TAB, status=422 if form.errors else 200
    )


@require_POST
@desk_page(RADIO)
def peer_token(request: HttpRequest, actor: Actor, key: str) -> HttpResponse:
    """A secret for the peer's calls to us, for peers that have no certificate; shown once."""
    peer = _peer(actor, key)
    value = rules.make_bearer(actor, peer)
    request.session[_REVEAL] = {"key": peer.key, "sealed": seal({"value": value})}
    return redirect("desk:radio-peer", key=peer.key)


def _revealed(request: HttpRequest, peer: LoraPeer) -> str:
    kept = request.session.pop(_REVEAL, None)
    if not isinstance(kept, dict) or kept.get("key") != peer.key:
        return ""
    return str(unseal(kept["sealed"]).get("value", ""))


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(RADIO)
def agreement_new(request: HttpRequest, actor: Actor, key: str) -> HttpResponse:
    """Propose terms; those of ``?wie=`` are the beginning."""
    peer = _peer(actor, key)
    posted = request.POST if request.method == "POST" else None
    like = (
        peer.agreements.filter(pk=request.GET["wie"]).first()
        if request.GET.get("wie", "").isdecimal()
        else None
    )
    form = AgreementForm(posted, initial=_initial(like))
    if posted is not None and form.is_valid():
        try:
            made = rules.propose(actor, peer, form.cleaned_data["direction"], **form.values())
        except LoraError as error:
            form.refuse(error)
        else:
            said(
                request,
                _("Die Vereinbarung ist vorgeschlagen. Sie gilt, wenn beide Seiten unterschrieben haben."),
            )
            return redirect("desk:radio-agreement", key=peer.key, pk=made.pk)
    context = {"form": form, "peer": peer}
    return page(
        request, actor, "desk/radio/agreement_new.html", context, tab=_TAB, status=422 if form.errors else 200
    )


def _initial(like: RoamingAgreement | None) -> dict[str, Any]:
    now = timezone.localtime()
    if like is None:
        return {"valid_from": now}
    values = {name: getattr(like, name) for name in AgreementForm.base_fields}
    values |= {name: " ".join(getattr(like, name)) for name in ("dev_addrs", "dev_euis", "join_euis")}
    return {**values, "valid_from": now, "valid_until": None}


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(RADIO)
def agreement_detail(request: HttpRequest, actor: Actor, key: str, pk: int) -> HttpResponse:
    """Terms, signatures, budgets; sign, note the other side's signature, end."""
    peer = _peer(actor, key)
    agreement = get_object_or_404(RoamingAgreement.objects.select_related("peer"), pk=pk, peer=peer)
    signature = SignatureForm(initial={"at": timezone.localtime()})
    if request.method == "POST":
        try:
            match request.POST.get("action"):
                case "sign":
                    rules.sign(actor, agreement)
                    said(request, _("Unterschrieben für unsere Seite."))
                case "end":
                    rules.end(actor, agreement)
                    said(request, _("Die Vereinbarung ist beendet."))
                case _other:
                    signature = SignatureForm(request.POST)
                    if not signature.is_valid():
                        return _agreement_page(request, actor, agreement, signature, 422)
                    data = signature.cleaned_data
                    rules.note_signature(actor, agreement, data["name"], data["at"])
                    said(request, _("Die Unterschrift der anderen Seite ist eingetragen."))
        except LoraError as error:
            complained(request, error.message)
        return redirect("desk:radio-agreement", key=peer.key, pk=agreement.pk)
    return _agreement_page(request, actor, agreement, signature)


def _agreement_page(
    request: HttpRequest, actor: Actor, agreement: RoamingAgreement, form: SignatureForm, status: int = 200
) -> HttpResponse:
    now = timezone.now()
    context = {
        "peer": agreement.peer,
        "agreement": agreement,
        "used": queries.used_today([agreement], now).get(agreement.pk),
        "over": agreement.valid_until is not None and agreement.valid_until <= now,
        "form": form,
    }
    return page(request, actor, "desk/radio/agreement.html", context, tab=_TAB, status=status)


@require_safe
@desk_page(RADIO)
def ledger_day(request: HttpRequest, actor: Actor, key: str, day: str) -> HttpResponse:
    """A day of the ledger: what does not count, and why."""
    peer, date = _peer(actor, key), queries.utc_day(day)
    if date is None:
        raise Http404
    context = {
        "peer": peer,
        "day": date,
        "parts": [(we, queries.unsettled(peer, date, we_carry=we)) for we in (True, False)],
    }
    return page(request, actor, "desk/radio/ledger_day.html", context, tab=_TAB)


@require_safe
@desk_page(AUDIT)
def device_trail(request: HttpRequest, actor: Actor) -> HttpResponse:
    """What of a device went to whom: for the data protection officer."""
    form = AuditForm(request.GET or None)
    cities = Municipality.objects.filter(within(actor, AUDIT, "pk"))
    offer(form, "municipality", cities)
    context: dict[str, Any] = {"form": form, "query": request.GET.urlencode()}
    if form.is_bound and form.is_valid():
        data = form.cleaned_data
        try:
            context |= page_of(request, rules.trail(actor, data["municipality"], data["geraet"]))
        except domain.LoraError as error:
            form.add_error("geraet", error.message)
    return page(
        request, actor, "desk/radio/trail.html", context, tab=_TAB, status=422 if form.errors else 200
    )
