"""My account: my name, my sensors, my access keys (API tokens)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from quartier.cities import audit, tokens
from quartier.cities.models import Person, Token
from quartier.cities.rules import actor_of
from quartier.cities.secrets import seal, unseal
from quartier.portal.account_forms import NameForm, TokenForm
from quartier.portal.words import RIGHTS
from quartier.twin.models import Deployment, Thing

# The new key waits here, sealed, for the one page that shows it.
_SESSION_KEY = "new-token"
MAXIMUM_TOKENS = 50


def person_of(request: HttpRequest) -> Person:
    """The person who is signed in; views behind ``login_required`` only."""
    assert isinstance(request.user, Person)  # noqa: S101
    return request.user


def _token_row(token: Token) -> dict[str, Any]:
    now = timezone.now()
    return {
        "token": token,
        "scopes": [RIGHTS.get(scope, scope) for scope in token.scopes],
        "revoked": token.revoked_at is not None,
        "expired": token.expires_at is not None and token.expires_at <= now,
    }


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    """Everything that belongs to me on one page."""
    person = person_of(request)
    form = NameForm(request.POST or None, instance=person)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, _("Ihr Name wurde gespeichert."))
        return redirect("account")
    now = Deployment.objects.filter(until=None).select_related("device")
    things = (
        Thing.objects.filter(owner_person_id=person.pk)
        .select_related("municipality", "district")
        .prefetch_related(Prefetch("deployments", now, to_attr="now"))
    )
    found = person.tokens.select_related("municipality")
    values = {
        "form": form,
        "sensors": [
            {"thing": thing, "device": thing.now[0].device if thing.now else None} for thing in things
        ],
        "tokens": [_token_row(token) for token in found],
        "actor": actor_of(person),
        "may_enter_desk": actor_of(person).may("desk:enter"),
    }
    return render(request, "portal/account/account.html", values, status=422 if form.errors else 200)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def create_token(request: HttpRequest) -> HttpResponse:
    """Make an access key: name, rights, until when."""
    person = person_of(request)
    actor = actor_of(person)
    form = TokenForm(request.POST or None, actor=actor)
    if request.method == "POST" and form.is_valid():
        if person.tokens.filter(revoked_at=None).count() >= MAXIMUM_TOKENS:
            form.add_error(
                None, _("Mehr als 50 gültige Schlüssel sind nicht vorgesehen. Bitte widerrufen Sie einen.")
            )
        else:
            days = form.cleaned_data["days"]
            with transaction.atomic():
                token, text = tokens.make(
                    person,
                    name=form.cleaned_data["name"],
                    scopes=form.cleaned_data["scopes"],
                    expires_at=timezone.now() + timedelta(days=days) if days else None,
                )
                audit.log(actor, "token.create", token.name, scopes=token.scopes)
            request.session[_SESSION_KEY] = seal({"token": text, "name": token.name})
            return redirect("token-created")
    return render(
        request, "portal/account/token_create.html", {"form": form}, status=422 if form.errors else 200
    )


@never_cache
@login_required
@require_safe
def token_created(request: HttpRequest) -> HttpResponse:
    """Show the new key, this once."""
    sealed = request.session.pop(_SESSION_KEY, "")
    if not sealed:
        return redirect("account")
    return render(request, "portal/account/token_created.html", unseal(sealed))


@login_required
@require_POST
def revoke_token(request: HttpRequest, token_id: int) -> HttpResponse:
    """End a key of mine for ever."""
    person = person_of(request)
    token = get_object_or_404(person.tokens, pk=token_id)
    if token.revoked_at is None:
        with transaction.atomic():
            token.revoked_at = timezone.now()
            token.save(update_fields=["revoked_at"])
            audit.log(actor_of(person), "token.revoke", token.name)
    messages.success(request, _("Der Schlüssel „%(name)s“ gilt nicht mehr.") % {"name": token.name})
    return redirect("account")
