"""Connect your sensor: the guide, the registration, and the page that waits for the first message."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import Max, Min
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseStopPolling

from quartier.cities import audit, tokens
from quartier.cities.models import Municipality, Person
from quartier.cities.rules import actor_of
from quartier.cities.secrets import seal, unseal
from quartier.config import config
from quartier.portal import sensors
from quartier.portal.account_views import person_of
from quartier.portal.sensor_forms import SensorForm
from quartier.sources.domain.makers import RegistrationError, register_sensor
from quartier.twin.models import Thing

# Registration and its answer are two pages; between them the key and the choices wait sealed in the session.
_SESSION_KEY = "new-sensor"


def _examples(device: str, token: str, slugs: list[str]) -> dict[str, Any]:
    host, port = sensors.broker()
    return {
        "device": device,
        "token": token,
        "values": sensors.example_values(slugs),
        "base_url": config().public_url,
        "mqtt_host": host,
        "mqtt_port": port,
    }


def _bounds() -> str:
    """West, south, east, north of all municipalities, as the map takes it; empty where there is none."""
    box = Municipality.objects.aggregate(Min("west"), Min("south"), Max("east"), Max("north"))
    return "" if None in box.values() else ",".join(f"{value:.4f}" for value in box.values())


@require_http_methods(["GET", "HEAD", "POST"])
def connect_sensor(request: HttpRequest) -> HttpResponse:
    """The guide for everybody; the form for who is signed in."""
    signed_in = isinstance(request.user, Person)
    if request.method == "POST" and not signed_in:
        return redirect("account_login")
    form = SensorForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made = _register(request, form)
        if made is not None:
            return redirect("sensor", made.municipality.slug, made.key)
    values = {
        "form": form,
        "signed_in": signed_in,
        "bounds": _bounds(),
        "example": _examples("balkon", _("IHR_SCHLUESSEL"), []),
    }
    return render(request, "portal/sensor/connect.html", values, status=422 if form.errors else 200)


def _register(request: HttpRequest, form: SensorForm) -> Thing | None:
    person = person_of(request)
    actor = actor_of(person)
    values = form.cleaned_data
    try:
        with transaction.atomic():
            sensor = register_sensor(
                actor,
                form.municipality,
                name=values["name"],
                lon=float(values["lon"]),
                lat=float(values["lat"]),
                height_above_ground_m=None if values["height"] is None else float(values["height"]),
                indoor=values["exposure"] == "indoor",
                street=values["street"],
                house_number=values["house_number"],
                sensor_id=values["sensor_id"],
                become_maker=True,
            )
            token, text = tokens.make(
                person,
                name=sensor.thing.name[:100],
                scopes=["observations:write"],
                municipality=form.municipality,
            )
            audit.log(
                actor, "token.create", token.name, municipality_id=form.municipality.pk, scopes=token.scopes
            )
    except RegistrationError as error:
        form.add_error(error.field if error.field in form.fields else None, error.detail)
        return None
    request.session[_SESSION_KEY] = seal(
        {"thing": sensor.thing.pk, "token": text, "name": token.name, "properties": values["properties"]}
    )
    return sensor.thing


def _my_thing(request: HttpRequest, municipality: str, key: str) -> Thing:
    things = Thing.objects.select_related("municipality", "district")
    return get_object_or_404(
        things, municipality__slug=municipality, key=key, owner_person_id=person_of(request).pk
    )


@never_cache
@login_required
@require_safe
def sensor(request: HttpRequest, municipality: str, key: str) -> HttpResponse:
    """My sensor: its key (this once), examples with its own values, and whether it was heard."""
    thing = _my_thing(request, municipality, key)
    device = sensors.device_of(thing)
    fresh: dict[str, Any] = {}
    sealed = request.session.get(_SESSION_KEY, "")
    if sealed and unseal(sealed).get("thing") == thing.pk:
        fresh = unseal(request.session.pop(_SESSION_KEY))
    values: dict[str, Any] = {"thing": thing, "device": device, "fresh": fresh}
    if device is not None:
        values["status"] = sensors.status(thing, device)
        slugs = fresh.get("properties") or sorted(
            thing.series.values_list("observed_property__slug", flat=True).distinct()
        )
        values["example"] = _examples(device.external_id, fresh.get("token", _("IHR_SCHLUESSEL")), slugs)
    return render(request, "portal/sensor/sensor.html", values)


@never_cache
@login_required
@require_safe
def sensor_status(request: HttpRequest, municipality: str, key: str) -> HttpResponse:
    """The part of the page that asks again every few seconds until the first reading is there."""
    thing = _my_thing(request, municipality, key)
    device = sensors.device_of(thing)
    found = sensors.status(thing, device) if device is not None else None
    response = render(
        request, "portal/sensor/status.html", {"thing": thing, "device": device, "status": found}
    )
    if found is None or found.heard:
        return HttpResponseStopPolling(response.content)
    return response


@login_required
@require_POST
def retire_sensor(request: HttpRequest, municipality: str, key: str) -> HttpResponse:
    """Take my sensor out of service."""
    thing = _my_thing(request, municipality, key)
    sensors.retire(actor_of(person_of(request)), thing)
    messages.success(
        request, _("„%(name)s“ ist abgemeldet. Seine Messwerte bleiben erhalten.") % {"name": thing.name}
    )
    return redirect("account")
