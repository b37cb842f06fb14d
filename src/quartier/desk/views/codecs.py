"""Device types: codec editor with a try-it field, versions with their differences, mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.forms import BaseFormSet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from quartier.cities.rules import Actor, NotAllowed
from quartier.desk import diff, domain, raw
from quartier.desk.access import CODECS, MESSAGES, desk_page, render, within
from quartier.desk.forms.codecs import (
    CodecForm,
    DeviceTypeForm,
    MappingFormSet,
    MappingRowForm,
    NewDeviceTypeForm,
    kept_rows,
    property_choices,
)
from quartier.desk.queries import codecs as queries
from quartier.desk.views.common import said
from quartier.intake import domain as intake
from quartier.intake.codecs.library import library
from quartier.intake.mapping import Mapped
from quartier.intake.models import Codec, FieldMapping, RefusedMessage
from quartier.twin.models import DeviceType, ObservedProperty

# Units that people type most; any UCUM unit is taken.
UNITS = (
    "Cel", "[degF]", "K", "%", "hPa", "Pa", "mbar", "V", "mV", "m", "cm", "mm", "m/s", "km/h", "deg", "lx", "W/m2",
    "ug/m3", "[ppm]", "1", "s", "min", "h", "kW.h", "A", "dB",
)  # fmt: skip
_DEVICES_OFFERED = 50


def _may_change(actor: Actor, device_type: DeviceType) -> bool:
    try:
        domain.require_device_type(actor, device_type)
    except NotAllowed:
        return False
    return True


def _page(
    request: HttpRequest,
    actor: Actor,
    device_type: DeviceType,
    template: str,
    context: dict[str, Any],
    *,
    status: int = 200,
) -> HttpResponse:
    """A page of a device type, with the tabs that all of them share."""
    tabs = [
        {
            "label": label,
            "address": reverse(f"desk:{name}", args=[device_type.key]),
            "current": template == file,
        }
        for name, label, file in (
            ("codec", _("Codec"), "desk/codec.html"),
            ("mapping", _("Zuordnung"), "desk/mapping.html"),
            ("codec-versions", _("Versionen"), "desk/codec_versions.html"),
            ("device-type", _("Gerätetyp"), "desk/device_type.html"),
        )
    ]
    whole = {
        "device_type": device_type,
        "tabs": tabs,
        "may_change": _may_change(actor, device_type),
        **context,
    }
    return render(request, actor, template, whole, status=status)


def _newest(device_type: DeviceType) -> Codec | None:
    return Codec.objects.filter(device_type=device_type, active=True).order_by("-version").first()


def _stored_rows(device_type: DeviceType) -> list[intake.MappingRow]:
    return [
        intake.MappingRow(
            path=one.path,
            observed_property=one.observed_property.slug if one.observed_property is not None else "",
            unit=one.unit,
            channel=one.channel,
            role=one.role,
        )
        for one in FieldMapping.objects.filter(device_type=device_type).select_related("observed_property")
    ]


@require_safe
@desk_page(MESSAGES)
def type_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """All device types, and the library."""
    refusals = queries.open_refusals(actor)
    types = [(one, refusals.get(one.pk, 0)) for one in queries.device_types(actor)]
    taken = {one.key for one, _n in types}
    context = {
        "types": types,
        "library": [
            (one, one.title.get(_language(), one.model), one.key in taken) for one in library().values()
        ],
        "may_write": actor.may(CODECS),
    }
    return render(request, actor, "desk/codecs.html", context)


def _language() -> str:
    return (get_language() or "de")[:2]


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(CODECS)
def type_new(request: HttpRequest, actor: Actor) -> HttpResponse:
    """A new device type, empty or with a codec of the library."""
    choices = [(key, one.title.get(_language(), one.model)) for key, one in library().items()]
    if request.method == "POST":
        form = NewDeviceTypeForm(choices, request.POST)
        if form.is_valid():
            data = dict(form.cleaned_data)
            chosen = library().get(data.pop("library"))
            try:
                device_type = domain.create_device_type(actor, chosen, **data)
            except (domain.DeskError, intake.InputError) as error:
                form.refuse(error)
            else:
                said(request, _("Der Gerätetyp %(name)s ist angelegt.") % {"name": device_type})
                return redirect("desk:codec", key=device_type.key)
    else:
        start = library().get(request.GET.get("sammlung", ""))
        initial = (
            {"library": start.key, "key": start.key, "vendor": start.vendor, "model": start.model}
            if start is not None
            else {}
        )
        form = NewDeviceTypeForm(choices, initial=initial)
    return render(
        request, actor, "desk/device_type_new.html", {"form": form}, status=422 if form.errors else 200
    )


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(MESSAGES)
def type_edit(request: HttpRequest, actor: Actor, key: str) -> HttpResponse:
    """Make, model, data sheet."""
    device_type = get_object_or_404(DeviceType, key=key)
    posted = request.method == "POST"
    if posted:
        domain.require_device_type(actor, device_type)
    form = DeviceTypeForm(
        request.POST if posted else None,
        initial={name: getattr(device_type, name) for name in DeviceTypeForm.base_fields},
    )
    if posted and form.is_valid():
        domain.save_device_type(actor, device_type, **form.cleaned_data)
        said(request, _("Gespeichert."))
        return redirect("desk:device-type", key=key)
    return _page(
        request,
        actor,
        device_type,
        "desk/device_type.html",
        {"form": form},
        status=422 if form.errors else 200,
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """What the try-it field shows: what came out, ready for the template."""

    tried: intake.Tried
    readings: list[dict[str, Any]]


def _readings(fields: Mapped | intake.Tried) -> list[dict[str, Any]]:
    found = fields.readings if isinstance(fields, intake.Tried) else fields.fields
    properties = {
        one.slug: one
        for one in ObservedProperty.objects.filter(slug__in=[field.observed_property.slug for field in found])
    }
    return [
        {
            "property": properties[field.observed_property.slug],
            "channel": field.channel,
            "result": field.result,
            "value": field.value,
        }
        for field in found
    ]


def _try(script: str, payload: bytes, port: int | None, rows: list[intake.MappingRow]) -> Trial:
    try:
        tried = intake.try_codec(script, payload, port=port, rows=rows)
    except intake.InputError as error:
        # The stored mapping cannot be used, which is no fault of the script: show what it decodes all the same.
        plain = intake.try_codec(script, payload, port=port)
        tried = intake.Tried(
            plain.decoded, plain.log, plain.warnings, (), (f"{error.field}: {error}",), plain.error
        )
    return Trial(tried, _readings(tried))


def _start(
    actor: Actor, request: HttpRequest, device_type: DeviceType, codec: Codec | None
) -> dict[str, Any]:
    """What the editor begins with: the codec in use (or the library's), and a payload to try it on."""
    known = queries.library_codec(device_type, codec.script if codec is not None else "")
    initial: dict[str, Any] = {"script": codec.script if codec is not None else known.script if known else ""}
    message_id = request.GET.get("nachricht", "")
    if message_id.isdecimal():
        message = RefusedMessage.objects.filter(within(actor, MESSAGES), pk=message_id).first()
        opened = raw.open_refused(message) if message is not None else None
        uplink = opened.uplink_of(message.external_id) if opened is not None and message is not None else None
        if uplink is not None and uplink.payload is not None:
            return {**initial, "payload": uplink.payload.hex(), "port": uplink.port}
    if known is not None:
        initial |= {"payload": known.example_payload.hex(), "port": known.example_port}
    return initial


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(MESSAGES)
def codec_edit(request: HttpRequest, actor: Actor, key: str) -> HttpResponse:
    """The script, tried out before it is saved. Trying stores nothing and needs no right to change."""
    device_type = get_object_or_404(DeviceType, key=key)
    codec = _newest(device_type)
    devices = list(queries.devices_of(actor, device_type)[:_DEVICES_OFFERED])
    context: dict[str, Any] = {"codec": codec, "devices": devices}
    if request.method != "POST":
        form = CodecForm(devices, initial=_start(actor, request, device_type, codec))
        return _page(request, actor, device_type, "desk/codec.html", {**context, "form": form})
    form = CodecForm(devices, request.POST)
    if not form.is_valid():
        return _page(request, actor, device_type, "desk/codec.html", {**context, "form": form}, status=422)
    data, action = form.cleaned_data, request.POST.get("action", "try")
    script = data["script"].replace("\r\n", "\n")
    if action in {"save", "replay"}:
        domain.require_device_type(actor, device_type)
        try:
            made = intake.save_codec(actor, device_type, script, data["note"])
        except intake.InputError as error:
            form.refuse(error)
            return _page(
                request, actor, device_type, "desk/codec.html", {**context, "form": form}, status=422
            )
        said(
            request,
            _("Version %(n)d ist gespeichert und gilt ab der nächsten Nachricht.") % {"n": made.version},
        )
        if action == "replay":
            return redirect(f"{reverse('desk:replay-new')}?{urlencode({'typ': key})}")
        return redirect("desk:codec", key=key)
    payload, port = data["payload"], data["port"]
    if action == "pick":
        message = queries.last_message(data["device"]) if data["device"] is not None else None
        if message is None or message.payload is None:
            form.add_error("device", _no_payload(message))
        else:
            payload, port = message.payload, message.port
            values = {**form.cleaned_data, "script": script, "payload": payload.hex(), "port": port}
            form = CodecForm(devices, initial={**values, "device": data["device"].pk})
    if not form.errors:
        context["trial"] = _try(script, payload, port, _stored_rows(device_type))
    return _page(
        request,
        actor,
        device_type,
        "desk/codec.html",
        {**context, "form": form},
        status=422 if form.errors else 200,
    )


def _no_payload(message: queries.LastMessage | None) -> str:
    if message is None:
        return _("Von diesem Gerät ist keine Nachricht mehr aufbewahrt.")
    return _("Diese Nachricht kam schon mit fertigen Feldern; sie braucht keinen Codec.")


@require_safe
@desk_page(MESSAGES)
def codec_versions(request: HttpRequest, actor: Actor, key: str) -> HttpResponse:
    """All versions, and what two of them differ in (``?von=1&bis=2``; by default the newest and the one before)."""
    device_type = get_object_or_404(DeviceType, key=key)
    versions = list(
        Codec.objects.filter(device_type=device_type).select_related("created_by").order_by("-version")
    )
    by_number = {str(one.version): one for one in versions}
    new = by_number.get(request.GET.get("bis", ""), versions[0] if versions else None)
    old = by_number.get(request.GET.get("von", ""), versions[1] if len(versions) > 1 else None)
    context = {
        "versions": versions,
        "old": old,
        "new": new,
        "rows": diff.rows(old.script, new.script) if old is not None and new is not None else [],
        "shown": new if old is None else None,
    }
    return _page(request, actor, device_type, "desk/codec_versions.html", context)


@require_POST
@desk_page(CODECS)
def codec_restore(request: HttpRequest, actor: Actor, key: str, version: int) -> HttpResponse:
    """An older version becomes a new one, so that the history stays a line."""
    device_type = get_object_or_404(DeviceType, key=key)
    domain.require_device_type(actor, device_type)
    codec = get_object_or_404(Codec, device_type=device_type, version=version)
    made = intake.save_codec(actor, device_type, codec.script, _("wie Version %(n)d") % {"n": version})
    said(
        request, _("Version %(n)d ist gespeichert und gilt ab der nächsten Nachricht.") % {"n": made.version}
    )
    return redirect("desk:codec-versions", key=key)


def _fields_of_last(
    actor: Actor, device_type: DeviceType, codec: Codec | None
) -> tuple[queries.LastMessage | None, Mapping[str, Any] | None, str]:
    """The newest message of any device of the type, its fields, and why they are missing."""
    for device in queries.devices_of(actor, device_type)[:3]:
        message = queries.last_message(device)
        if message is None:
            continue
        if message.fields is not None:
            return message, message.fields, ""
        if message.payload is not None and codec is not None:
            tried = intake.try_codec(codec.script, message.payload, port=message.port)
            return message, tried.decoded, tried.error
    return None, None, ""


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(MESSAGES)
def mapping_edit(request: HttpRequest, actor: Actor, key: str) -> HttpResponse:
    """Fields to properties and units, with proposals from the library and from the last message."""
    device_type = get_object_or_404(DeviceType, key=key)
    codec = _newest(device_type)
    message, fields, error = _fields_of_last(actor, device_type, codec)
    samples = dict(queries.leaves(fields or {}))
    properties = property_choices()
    context: dict[str, Any] = {"message": message, "fields": fields, "decode_error": error, "units": UNITS}
    if request.method == "POST":
        domain.require_device_type(actor, device_type)
        formset = MappingFormSet(request.POST, prefix="row", form_kwargs={"properties": properties})
        if formset.is_valid() and _save_mapping(actor, device_type, formset):
            said(request, _("Die Zuordnung ist gespeichert und gilt ab der nächsten Nachricht."))
            if request.POST.get("action") == "replay":
                return redirect(f"{reverse('desk:replay-new')}?{urlencode({'typ': key})}")
            return redirect("desk:mapping", key=key)
        status = 422
    else:
        known = queries.library_codec(device_type, codec.script if codec is not None else "")
        formset = MappingFormSet(
            initial=_mapping_start(device_type, queries.proposals(fields, known)),
            prefix="row",
            form_kwargs={"properties": properties},
        )
        status = 200
    context |= {
        "formset": formset,
        "rows": [(form, samples.get(str(form["path"].value() or ""))) for form in formset.forms],
        "stored": {one.path for one in _stored_rows(device_type)},
    }
    return _page(request, actor, device_type, "desk/mapping.html", context, status=status)


def _mapping_start(device_type: DeviceType, proposals: list[queries.Proposal]) -> list[dict[str, Any]]:
    stored = _stored_rows(device_type)
    rows: list[dict[str, Any]] = [
        {
            "keep": True,
            "path": row.path,
            "observed_property": row.observed_property,
            "unit": row.unit,
            "channel": row.channel,
            "role": row.role,
        }
        for row in stored
    ]
    known = {row.path for row in stored}
    rows += [
        {
            # Where nothing is mapped yet, what we know is ticked; later a person decides.
            "keep": not stored and bool(proposal.property),
            "path": proposal.path,
            "observed_property": proposal.property,
            "unit": proposal.unit,
            "role": "observation",
        }
        for proposal in proposals
        if proposal.path not in known
    ]
    return rows


def _save_mapping(actor: Actor, device_type: DeviceType, formset: BaseFormSet[MappingRowForm]) -> bool:
    kept = kept_rows(formset)
    try:
        intake.save_mapping(actor, device_type, [row for _form, row in kept])
    except intake.InputError as error:
        number, _dot, name = error.field.partition(".")
        form = kept[int(number)][0]
        form.add_error(name if name in form.fields else None, str(error))
        return False
    return True
