"""Sources: how they are, what they are set to, on and off."""

from __future__ import annotations

import json
from typing import Any, Final

from django.db.models import Count, IntegerField, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from quartier.cities.rules import Actor
from quartier.cities.secrets import seal, unseal
from quartier.desk.access import DEVICES, ENTER, MESSAGES, SOURCES, desk_page, render, require, within
from quartier.desk.forms.sources import CREDENTIAL, SETTING, NewSourceForm, SourceForm
from quartier.desk.views.common import said
from quartier.intake.models import RefusedMessage
from quartier.sources import domain as sources
from quartier.sources.kinds import KINDS, Kind
from quartier.sources.models import Source
from quartier.twin.models import Device

_REVEAL: Final = "desk-generated-credentials"


def _source(actor: Actor, key: str, action: str = ENTER) -> Source:
    source = get_object_or_404(Source.objects.select_related("municipality"), key=key)
    require(actor, action, source.municipality)
    return source


@require_safe
@desk_page()
def source_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """All sources of the actor's cities with their health."""
    devices = (
        Device.objects.filter(municipality=OuterRef("municipality"), source_key=OuterRef("key"))
        .order_by()
        .values("source_key")
        .annotate(n=Count("pk"))
        .values("n")
    )
    rows = (
        Source.objects.filter(within(actor))
        .select_related("municipality")
        .annotate(n_devices=Coalesce(Subquery(devices, output_field=IntegerField()), 0))
    )
    context = {"sources": list(rows), "kinds": list(KINDS.values()) if actor.may(SOURCES) else []}
    return render(request, actor, "desk/sources.html", context)


@require_safe
@desk_page()
def source_detail(request: HttpRequest, actor: Actor, key: str) -> HttpResponse:
    """Health and settings of a source; never its credentials."""
    source = _source(actor, key)
    kind = KINDS.get(source.kind)
    city = source.municipality_id
    context = {
        "source": source,
        "settings": _settings(kind, source.settings),
        "access": _access(kind, source),
        "devices": Device.objects.filter(municipality_id=city, source_key=key).count(),
        "refused": RefusedMessage.objects.filter(
            municipality_id=city, source_key=key, resolved_at__isnull=True
        ).count(),
        "may_read_messages": actor.may(MESSAGES, city),
        "may_write": actor.may(SOURCES, city) and kind is not None,
        "may_import": actor.may(DEVICES, city),
        "revealed": _revealed(request, source, kind) if actor.may(SOURCES, city) else [],
    }
    return render(request, actor, "desk/source.html", context)


def _settings(kind: Kind | None, values: dict[str, Any]) -> list[tuple[Any, Any]]:
    if kind is None:
        return []
    shown = []
    for setting in kind.settings:
        if setting.name in values and setting.applies(values):
            value = values[setting.name]
            if setting.type == "boolean":
                value = _("ja") if value else _("nein")
            elif setting.type == "choice":
                value = dict(setting.choices).get(value, value)
            elif setting.type == "json":
                value = json.dumps(value, ensure_ascii=False)
            elif isinstance(value, list):
                value = ", ".join(map(str, value))
            shown.append((setting.label, value))
    return shown


def _access(kind: Kind | None, source: Source) -> list[tuple[Any, Any]]:
    """What the other system must be told, so that its messages reach us."""
    if kind is None:
        return []
    if kind.transport(source.settings) == "webhook":
        return [(_("Adresse für das andere System"), sources.webhook_url(source))]
    if source.settings.get("broker") == "own":
        access = sources.broker_access(source)
        return [
            (_("Broker"), f"{access['host']}:{access['port']}"),
            (_("Benutzername am Broker"), access["username"]),
        ]
    return []


@require_POST
@desk_page(SOURCES)
def source_switch(request: HttpRequest, actor: Actor, key: str) -> HttpResponse:
    """On or off."""
    source = _source(actor, key, SOURCES)
    sources.set_enabled(actor, source, request.POST.get("an") == "1")
    said(request, _("Die Quelle ist eingeschaltet.") if source.enabled else _("Die Quelle ist abgeschaltet."))
    return redirect("desk:source", key=key)


def _form_page(
    request: HttpRequest, actor: Actor, form: SourceForm, source: Source | None, kind: Kind
) -> HttpResponse:
    fields = list(form)
    context = {
        "form": form,
        "source": source,
        "kind": kind,
        "plain": [one for one in fields if not one.name.startswith((SETTING, CREDENTIAL))],
        "settings": [one for one in fields if one.name.startswith(SETTING)],
        "credentials": [one for one in fields if one.name.startswith(CREDENTIAL)],
    }
    return render(request, actor, "desk/source_edit.html", context, status=422 if form.errors else 200)


def _saved(request: HttpRequest, saved: sources.Saved) -> HttpResponse:
    """To the source's page, which shows once what was generated just now."""
    said(request, _("Gespeichert. Die Verbindung folgt in wenigen Sekunden."))
    if saved.generated:
        request.session[_REVEAL] = {"key": saved.source.key, "values": seal(saved.generated)}
    return redirect("desk:source", key=saved.source.key)


def _revealed(request: HttpRequest, source: Source, kind: Kind | None) -> list[tuple[Any, str]]:
    """Generated credentials, taken out of the session as they are shown."""
    kept = request.session.get(_REVEAL)
    if not isinstance(kept, dict) or kept.get("key") != source.key:
        return []
    del request.session[_REVEAL]
    labels = {one.name: one.label for one in kind.credentials} if kind is not None else {}
    return [(labels.get(name, name), value) for name, value in unseal(kept["values"]).items()]


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(SOURCES)
def source_new(request: HttpRequest, actor: Actor, kind: str) -> HttpResponse:
    """A new source of a kind."""
    chosen = KINDS.get(kind)
    if chosen is None:
        raise Http404
    form = NewSourceForm(actor, chosen, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        if Source.objects.filter(key=data["key"]).exists():
            form.add_error("key", _("ist schon vergeben"))
        else:
            try:
                saved = sources.save_source(
                    actor,
                    data["municipality"],
                    data["key"],
                    data["name"],
                    kind,
                    form.settings,
                    form.credentials,
                )
            except sources.SettingError as error:
                form.refuse(error)
            else:
                return _saved(request, saved)
    return _form_page(request, actor, form, None, chosen)


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(SOURCES)
def source_edit(request: HttpRequest, actor: Actor, key: str) -> HttpResponse:
    """Change name, settings, credentials."""
    source = _source(actor, key, SOURCES)
    kind = KINDS.get(source.kind)
    if kind is None:
        raise Http404
    form = SourceForm(kind, source, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            saved = sources.save_source(
                actor,
                source.municipality,
                key,
                form.cleaned_data["name"],
                source.kind,
                form.settings,
                form.credentials,
                enabled=source.enabled,
            )
        except sources.SettingError as error:
            form.refuse(error)
        else:
            return _saved(request, saved)
    return _form_page(request, actor, form, source, kind)
