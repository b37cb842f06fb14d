"""Device profiles and multicast groups."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from quartier.cities.rules import Actor
from quartier.desk import radio_downlinks
from quartier.desk.access import ENTER, RADIO, SEND, desk_page, everywhere, require, within
from quartier.desk.forms.radio.downlinks import GroupDownlinkForm
from quartier.desk.forms.radio.profiles import GroupForm, MembersForm, ProfileForm
from quartier.desk.views.common import said
from quartier.desk.views.radio.common import page
from quartier.lorawan import domain
from quartier.lorawan.domain import LoraError
from quartier.lorawan.models import DeviceProfile, MulticastGroup

_PROFILES, _GROUPS = "radio-profiles", "radio-groups"


def _may_change(actor: Actor, profile: DeviceProfile) -> bool:
    if profile.municipality_id is None:
        return everywhere(actor, RADIO)
    return actor.may(RADIO, profile.municipality_id)


@require_safe
@desk_page()
def profile_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Profiles for all cities and of the actor's own."""
    ids = actor.municipalities(ENTER)
    rows = DeviceProfile.objects.select_related("municipality", "device_type")
    if ids is not None:
        rows = rows.filter(Q(municipality__isnull=True) | Q(municipality__in=ids))
    counted = rows.annotate(
        n_devices=Count("devices", filter=within(actor, ENTER, "devices__municipality_id"))
    )
    context = {
        "rows": list(counted),
        "may_write": actor.may(RADIO),
    }
    return page(request, actor, "desk/radio/profiles.html", context, tab=_PROFILES)


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(RADIO)
def profile_new(request: HttpRequest, actor: Actor) -> HttpResponse:
    """A new profile."""
    return _edit(request, actor, None)


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page()
def profile_detail(request: HttpRequest, actor: Actor, key: str) -> HttpResponse:
    """A profile: to be changed by those who may, to be read by the others, who also learn why."""
    profile = get_object_or_404(DeviceProfile.objects.select_related("municipality", "device_type"), key=key)
    if profile.municipality is not None:
        require(actor, ENTER, profile.municipality)
    if _may_change(actor, profile):
        return _edit(request, actor, profile)
    form = ProfileForm(actor, profile)
    context = {
        "profile": profile,
        "about": form.facts(profile, *(name for name in form.fields if name not in ProfileForm.MORE)),
        "more": form.facts(profile, *ProfileForm.MORE),
        "may_write": actor.may(RADIO),
    }
    status = 403 if request.method == "POST" else 200
    return page(request, actor, "desk/radio/profile.html", context, tab=_PROFILES, status=status)


def _edit(request: HttpRequest, actor: Actor, profile: DeviceProfile | None) -> HttpResponse:
    posted = request.method == "POST"
    form = ProfileForm(actor, profile, request.POST if posted else None)
    if posted and form.is_valid():
        data = form.cleaned_data
        try:
            if profile is None and DeviceProfile.objects.filter(key=data["key"]).exists():
                raise LoraError("key", _("gibt es schon"))
            key = profile.key if profile is not None else data["key"]
            domain.save_profile(actor, key, municipality=data["municipality"], **form.values())
        except LoraError as error:
            form.refuse(error)
        else:
            said(request, _("Gespeichert."))
            return redirect("desk:radio-profiles")
    context: dict[str, Any] = {
        "form": form,
        "profile": profile,
        "about": [field for field in form if field.name not in ProfileForm.MORE],
        "more": [form[name] for name in ProfileForm.MORE],
        "more_open": any(name in form.errors for name in ProfileForm.MORE),
    }
    return page(
        request,
        actor,
        "desk/radio/profile_edit.html",
        context,
        tab=_PROFILES,
        status=422 if form.errors else 200,
    )


@require_safe
@desk_page()
def group_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Multicast groups of the actor's cities."""
    rows = (
        MulticastGroup.objects.filter(within(actor))
        .select_related("municipality")
        .defer("sealed_keys")
        .annotate(n_devices=Count("devices"))
    )
    return page(
        request,
        actor,
        "desk/radio/groups.html",
        {"rows": list(rows), "may_write": actor.may(RADIO)},
        tab=_GROUPS,
    )


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page(RADIO)
def group_new(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Register a group whose key the devices have."""
    posted = request.method == "POST"
    form = GroupForm(actor, request.POST if posted else None)
    if posted and form.is_valid():
        data = form.cleaned_data
        try:
            group = domain.create_group(
                actor,
                data["municipality"],
                data["name"],
                dev_addr=data["dev_addr"],
                key=data["key"],
                frequency_hz=data["frequency_mhz"],
                data_rate=data["data_rate"],
            )
        except LoraError as error:
            form.refuse(error)
        else:
            said(request, _("Die Gruppe ist angelegt. Wählen Sie jetzt ihre Geräte."))
            return redirect("desk:radio-group", pk=group.pk)
    return page(
        request,
        actor,
        "desk/radio/group_new.html",
        {"form": form},
        tab=_GROUPS,
        status=422 if form.errors else 200,
    )


@require_http_methods(["GET", "HEAD", "POST"])
@desk_page()
def group_detail(request: HttpRequest, actor: Actor, pk: int) -> HttpResponse:
    """Members of a group, and what was sent to it."""
    group = get_object_or_404(
        MulticastGroup.objects.select_related("municipality").defer("sealed_keys"), pk=pk
    )
    require(actor, ENTER, group.municipality)
    members, downlink = MembersForm(group), GroupDownlinkForm()
    if request.method == "POST":
        try:
            if request.POST.get("action") == "send":
                require(actor, SEND, group.municipality)
                downlink = GroupDownlinkForm(request.POST)
                if downlink.is_valid():
                    data = downlink.cleaned_data
                    made = domain.enqueue_group(
                        actor, group, data["payload"], port=data["port"], expires_at=data["expires_at"]
                    )
                    return redirect("desk:radio-downlink", pk=made.pk)
            else:
                require(actor, RADIO, group.municipality)
                members = MembersForm(group, request.POST)
                if members.is_valid():
                    domain.set_members(actor, group, members.cleaned_data["devices"])
                    said(request, _("Gespeichert."))
                    return redirect("desk:radio-group", pk=group.pk)
        except LoraError as error:
            (downlink if downlink.is_bound else members).refuse(error)
    context = {
        "group": group,
        "devices": list(group.devices.order_by("name")),
        "downlinks": [
            (one, radio_downlinks.sentences(one)) for one in group.downlinks.order_by("-created_at")[:15]
        ],
        "members_form": members if actor.may(RADIO, group.municipality_id) else None,
        "downlink_form": downlink if actor.may(SEND, group.municipality_id) else None,
    }
    failed = bool(members.errors or downlink.errors)
    return page(request, actor, "desk/radio/group.html", context, tab=_GROUPS, status=422 if failed else 200)
