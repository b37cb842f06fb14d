"""Devices and places: list, export, page of a device, changes, import."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from quartier.cities.rules import Actor
from quartier.desk import domain, words
from quartier.desk.access import CODECS, DEVICES, ENTER, MESSAGES, desk_page, render, require, within
from quartier.desk.forms.devices import (
    DeviceFilterForm,
    DeviceForm,
    MoveForm,
    NewDeviceForm,
    NewThingForm,
    ThingForm,
)
from quartier.desk.queries import devices as device_queries
from quartier.desk.views.common import page_of, said
from quartier.intake.models import RefusedMessage
from quartier.sources.domain.table import COLUMNS
from quartier.sources.models import Source
from quartier.twin import queries as twin_queries
from quartier.twin.models import Device, Series, Thing

EXPORT_COLUMNS = (
    "municipality",
    "source",
    "external_id",
    "name",
    "device_type",
    "thing_key",
    "thing_name",
    "kind",
    "lon",
    "lat",
    "height_above_ground_m",
    "expected_interval_s",
    "active",
    "state",
    "last_seen_at",
    "battery_percent",
    "battery_v",
    "rssi_dbm",
    "snr_db",
)


@require_safe
@desk_page()
def device_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """All devices of the actor's cities, filtered by the address."""
    form = DeviceFilterForm(actor, request.GET)
    devices = device_queries.with_place(device_queries.filtered(actor, form.wanted()))
    context: dict[str, Any] = {
        "form": form,
        "may_write": actor.may(DEVICES),
        "query": request.GET.urlencode(),
        **page_of(request, devices),
    }
    return render(request, actor, "desk/devices.html", context)


def _harmless(value: object) -> object:
    """A text that a spreadsheet would take for a formula gets an apostrophe (names come from outside networks)."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _cells(device: Device) -> dict[str, object]:
    """What the export and the import's form know of a device, by column."""
    here = device_queries.place_of(device)
    thing = here.thing if here is not None else None
    of_thing = (
        "lon",
        "lat",
        "altitude_m",
        "surface",
        "street",
        "house_number",
        "postcode",
        "description",
        "kind",
    )
    return {
        **{name: getattr(thing, name) if thing is not None else None for name in of_thing},
        "municipality": device.municipality.slug,
        "source": device.source_key,
        "external_id": device.external_id,
        "name": device.name,
        "device_type": device.device_type.key if device.device_type is not None else "",
        "expected_interval_s": device.expected_interval_s,
        "active": "true" if device.active else "false",
        "state": device_queries.state_of(device),
        "last_seen_at": _utc(device.last_seen_at),
        "battery_percent": device.battery_percent,
        "battery_v": device.battery_v,
        "rssi_dbm": device.rssi_dbm,
        "snr_db": device.snr_db,
        "thing_key": thing.key if thing is not None else "",
        "thing_name": thing.name if thing is not None else "",
        "public": ("true" if thing.public else "false") if thing is not None else "",
        "height_above_ground_m": here.height_above_ground_m if here is not None else None,
        "since": _utc(here.since) if here is not None else "",
    }


def _utc(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment is not None else ""


@require_safe
@desk_page()
def device_export(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The filtered list as CSV (RFC 4180, UTF-8, times in UTC); ``?art=einlesen`` has the columns of the import."""
    wanted = DeviceFilterForm(actor, request.GET).wanted()
    columns = COLUMNS if request.GET.get("art") == "einlesen" else EXPORT_COLUMNS
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for device in device_queries.with_place(device_queries.filtered(actor, wanted)):
        cells = _cells(device)
        writer.writerow([_harmless("" if cells[name] is None else cells[name]) for name in columns])
    response = HttpResponse(text.getvalue(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="geraete.csv"'
    return response


def _device(actor: Actor, pk: int, action: str = ENTER) -> Device:
    device = get_object_or_404(
        device_queries.with_state(Device.objects.select_related("municipality", "device_type")), pk=pk
    )
    require(actor, action, device.municipality)
    return device


@require_safe
@desk_page()
def device_detail(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """Facts, places, newest readings, refusals of a device."""
    return _device_page(request, actor, _device(actor, pk))


def _device_page(
    request: HttpRequest, actor: Actor, device: Device, move: MoveForm | None = None, status: int = 200
) -> HttpResponse:
    series = list(
        Series.objects.filter(device=device).select_related("observed_property", "thing__municipality")
    )
    newest = twin_queries.latest(one.pk for one in series)
    refused: list[RefusedMessage] = []
    if actor.may(MESSAGES, device.municipality_id):
        refused = list(
            RefusedMessage.objects.filter(
                municipality_id=device.municipality_id,
                source_key=device.source_key,
                external_id=device.external_id,
            ).defer("body", "headers")[:10]
        )
    may_write = actor.may(DEVICES, device.municipality_id)
    if may_write and move is None:
        move = MoveForm(device, initial={"at": MoveForm.now()})
    context = {
        "device": device,
        "source": Source.objects.filter(key=device.source_key).first(),
        "deployments": list(device.deployments.select_related("thing__municipality")),
        "series": [(one, newest.get(one.pk)) for one in series],
        "refused": [(one, words.reason(one.reason)) for one in refused],
        "may_read_messages": actor.may(MESSAGES, device.municipality_id),
        "may_replay": actor.may(CODECS, device.municipality_id),
        "may_write": may_write,
        "move": move,
    }
    return render(request, actor, "desk/device.html", context, status=status)


@require_POST
@desk_page(DEVICES)
def device_move(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """Another place, or none, from a date on."""
    device = _device(actor, pk, DEVICES)
    form = MoveForm(device, request.POST)
    if form.is_valid():
        data = form.cleaned_data
        try:
            made = domain.move_device(
                actor,
                device,
                data["thing"],
                data["at"],
                height_above_ground_m=data["height_above_ground_m"],
                note=data["note"],
            )
        except domain.DeskError as error:
            form.refuse(error)
        else:
            if made is not None:
                said(request, _("Das Gerät steht jetzt an: %(place)s.") % {"place": made.thing.name})
            else:
                said(request, _("Das Gerät steht an keinem Ort mehr."))
            return redirect("desk:device", pk=device.pk)
    return _device_page(request, actor, device, form, status=422)


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(DEVICES)
def device_edit(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """Name, type, expected interval, activity."""
    device = _device(actor, pk, DEVICES)
    values = {
        name: getattr(device, name) for name in ("name", "device_type", "expected_interval_s", "active")
    }
    form = DeviceForm(request.POST if request.method == "POST" else None, initial=values)
    if request.method == "POST" and form.is_valid():
        domain.save_device(actor, device, **form.cleaned_data)
        said(request, _("Gespeichert."))
        return redirect("desk:device", pk=device.pk)
    context = {"device": device, "form": form}
    return render(request, actor, "desk/device_edit.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(DEVICES)
def device_new(request: HttpRequest, actor: Actor) -> HttpResponse:
    """A single device; a refused message of an unknown device fills the form in by the address."""
    if request.method == "POST":
        form = NewDeviceForm(actor, request.POST)
        if form.is_valid():
            try:
                device = _register(actor, form.cleaned_data)
            except domain.DeskError as error:
                form.refuse(error)
            else:
                said(request, _("Das Gerät %(name)s ist angelegt.") % {"name": device.name})
                return redirect("desk:device", pk=device.pk)
    else:
        external_id, source_key = request.GET.get("kennung", "")[:120], request.GET.get("quelle", "")
        initial: dict[str, Any] = {
            "external_id": external_id,
            "name": external_id,
            "active": True,
            "source": Source.objects.filter(key=source_key).first(),
        }
        # Since its first refused message, so that those find the place when they are tried again.
        waiting = RefusedMessage.objects.filter(
            within(actor, MESSAGES), source_key=source_key, external_id=external_id, resolved_at__isnull=True
        ).exclude(external_id="")
        if first := waiting.order_by("at", "id").values_list("at", flat=True).first():
            initial["at"] = timezone.localtime(first).replace(second=0, microsecond=0)
        form = NewDeviceForm(actor, initial=initial)
    return render(request, actor, "desk/device_new.html", {"form": form}, status=422 if form.errors else 200)


def _register(actor: Actor, data: dict[str, Any]) -> Device:
    source: Source = data["source"]
    thing: Thing | None = data["thing"]
    if thing is not None and thing.municipality_id != source.municipality_id:
        raise domain.DeskError(_("Gerät und Ort gehören zu verschiedenen Städten."), "thing")
    return domain.register_device(
        actor,
        source.municipality,
        thing,
        data["at"],
        data["height_above_ground_m"],
        source_key=source.key,
        external_id=data["external_id"],
        name=data["name"],
        device_type=data["device_type"],
        expected_interval_s=data["expected_interval_s"],
        active=data["active"],
    )


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(DEVICES)
def thing_new(request: HttpRequest, actor: Actor) -> HttpResponse:
    """A new place."""
    form = NewThingForm(actor, request.POST if request.method == "POST" else None, initial={"public": True})
    if request.method == "POST" and form.is_valid():
        data = dict(form.cleaned_data)
        thing = Thing(municipality=data.pop("municipality"), key=data.pop("key"))
        try:
            domain.save_thing(actor, thing, **data)
        except domain.DeskError as error:
            form.refuse(error)
        else:
            said(request, _("Der Ort %(name)s ist angelegt.") % {"name": thing.name})
            return redirect("desk:thing-edit", pk=thing.pk)
    return render(request, actor, "desk/thing_edit.html", {"form": form}, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(DEVICES)
def thing_edit(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """Change a place; it shows the devices that stand or stood there."""
    thing = get_object_or_404(Thing.objects.select_related("municipality"), pk=pk)
    require(actor, DEVICES, thing.municipality)
    form = ThingForm(
        request.POST if request.method == "POST" else None,
        initial={name: getattr(thing, name) for name in ThingForm.base_fields},
    )
    if request.method == "POST" and form.is_valid():
        try:
            domain.save_thing(actor, thing, **form.cleaned_data)
        except domain.DeskError as error:
            form.refuse(error)
        else:
            said(request, _("Gespeichert."))
            return redirect("desk:thing-edit", pk=thing.pk)
    context = {
        "thing": thing,
        "form": form,
        "deployments": list(thing.deployments.select_related("device")),
        "now": timezone.now(),
    }
    return render(request, actor, "desk/thing_edit.html", context, status=422 if form.errors else 200)
