"""Devices as the desk looks at them: living or silent, battery, place.

A device is silent when nothing came for three of its expected intervals (at least 15 minutes; eight hours are expected
where nobody said). The database decides, so that lists, counters and the export agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.db.models import (
    Case,
    CharField,
    DateTimeField,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Value,
    When,
)
from django.db.models.functions import Coalesce, Greatest, Now

from quartier.cities.rules import Actor
from quartier.desk.access import ENTER, within
from quartier.twin.models import Deployment, Device

SILENT_AFTER_INTERVALS: Final = 3
SILENT_AFTER_AT_LEAST_S: Final = 900
ASSUMED_INTERVAL_S: Final = 8 * 3600
WEAK_BATTERY_PERCENT: Final = 20
WEAK_BATTERY_V: Final = 2.4

WEAK_BATTERY: Final = Q(battery_percent__lt=WEAK_BATTERY_PERCENT) | Q(
    battery_percent__isnull=True, battery_v__lt=WEAK_BATTERY_V
)

ORDERS: Final[dict[str, tuple[Any, ...]]] = {
    "name": ("name", "id"),
    "gesehen": (F("last_seen_at").asc(nulls_first=True), "id"),
    "batterie": (F("battery_percent").asc(nulls_last=True), F("battery_v").asc(nulls_last=True), "id"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFilter:
    """What the list of devices is narrowed to; empty values do not narrow."""

    municipality: str = ""
    source: str = ""
    device_type: str = ""
    state: str = ""
    weak: bool = False
    text: str = ""
    order: str = "name"


def with_state(devices: QuerySet[Device]) -> QuerySet[Device]:
    """Adds ``state`` (live, silent, never, off) and ``weak_battery`` to each device."""
    waited = ExpressionWrapper(
        Now()
        - Greatest(
            Coalesce(F("expected_interval_s"), ASSUMED_INTERVAL_S) * SILENT_AFTER_INTERVALS,
            SILENT_AFTER_AT_LEAST_S,
        )
        * Value(timedelta(seconds=1)),
        output_field=DateTimeField(),
    )
    return devices.alias(silent_before=waited).annotate(
        state=Case(
            When(active=False, then=Value("off")),
            When(last_seen_at__isnull=True, then=Value("never")),
            When(last_seen_at__lt=F("silent_before"), then=Value("silent")),
            default=Value("live"),
            output_field=CharField(),
        ),
        weak_battery=Case(When(WEAK_BATTERY, then=Value(True)), default=Value(False)),
    )


def visible(actor: Actor) -> QuerySet[Device]:
    """The devices of the actor's municipalities, with their state."""
    return with_state(Device.objects.filter(within(actor, ENTER)))


def with_place(devices: QuerySet[Device]) -> QuerySet[Device]:
    """Adds what a line of the list shows, in one further query: type, municipality, and the place of today."""
    here = Deployment.objects.filter(until__isnull=True).select_related("thing__municipality")
    return devices.select_related("municipality", "device_type").prefetch_related(
        Prefetch("deployments", queryset=here, to_attr="places_now")
    )


def filtered(actor: Actor, wanted: DeviceFilter) -> QuerySet[Device]:
    """The visible devices that ``wanted`` describes, in its order."""
    devices = visible(actor)
    if wanted.municipality:
        devices = devices.filter(municipality__slug=wanted.municipality)
    if wanted.source:
        devices = devices.filter(source_key=wanted.source)
    if wanted.device_type == "-":
        devices = devices.filter(device_type__isnull=True)
    elif wanted.device_type:
        devices = devices.filter(device_type__key=wanted.device_type)
    if wanted.state == "undeployed":
        devices = devices.filter(
            ~Exists(Deployment.objects.filter(device=OuterRef("pk"), until__isnull=True))
        )
    elif wanted.state:
        devices = devices.filter(Q(state=wanted.state))
    if wanted.weak:
        devices = devices.filter(WEAK_BATTERY, active=True)
    if wanted.text:
        here = Deployment.objects.filter(
            device=OuterRef("pk"), until__isnull=True, thing__name__icontains=wanted.text
        )
        devices = devices.filter(
            Q(name__icontains=wanted.text) | Q(external_id__icontains=wanted.text.lower()) | Exists(here)
        )
    return devices.order_by(*ORDERS.get(wanted.order, ORDERS["name"]))


def source_keys(actor: Actor) -> list[str]:
    """The sources that devices of the actor's municipalities belong to."""
    return list(
        Device.objects.filter(within(actor, ENTER))
        .order_by("source_key")
        .values_list("source_key", flat=True)
        .distinct()
    )


def state_of(device: Device) -> str:
    """The state that :func:`with_state` added."""
    state: str = device.state  # type: ignore[attr-defined] # annotation of with_state
    return state


def place_of(device: Device) -> Deployment | None:
    """Today's deployment, which :func:`with_place` fetched."""
    places: list[Deployment] = device.places_now  # type: ignore[attr-defined] # to_attr of with_place
    return places[0] if places else None
