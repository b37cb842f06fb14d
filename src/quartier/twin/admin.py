"""Django's admin for super-users: things, devices, properties, series. Observations are not here on purpose."""

from __future__ import annotations

from django.contrib import admin

from quartier.cities.admin_base import ModelAdmin, TabularInline
from quartier.twin.models import Deployment, Device, DeviceType, ObservedProperty, Series, Thing


@admin.register(Thing)
class ThingAdmin(ModelAdmin[Thing]):
    """What stands in the city."""

    list_display = ("name", "key", "kind", "municipality", "district", "public")
    list_filter = ("municipality", "kind", "public")
    search_fields = ("name", "key", "street")
    raw_id_fields = ("district", "owner")
    exclude = ("geometry",)


@admin.register(DeviceType)
class DeviceTypeAdmin(ModelAdmin[DeviceType]):
    """Makes and models."""

    list_display = ("key", "vendor", "model")
    search_fields = ("key", "vendor", "model")


class DeploymentInline(TabularInline[Deployment, Device]):
    """Where the device stood."""

    model = Deployment
    extra = 0
    raw_id_fields = ("thing",)


@admin.register(Device)
class DeviceAdmin(ModelAdmin[Device]):
    """Physical sensors."""

    list_display = (
        "name",
        "external_id",
        "source_key",
        "municipality",
        "device_type",
        "last_seen_at",
        "active",
    )
    list_filter = ("municipality", "source_key", "device_type", "active")
    search_fields = ("name", "external_id")
    inlines = (DeploymentInline,)


@admin.register(ObservedProperty)
class ObservedPropertyAdmin(ModelAdmin[ObservedProperty]):
    """What is measured, with words and limits."""

    list_display = ("slug", "name_de", "unit", "category", "result_type")
    list_filter = ("category", "result_type")
    search_fields = ("slug", "name_de", "name_en")


@admin.register(Series)
class SeriesAdmin(ModelAdmin[Series]):
    """One property of one thing."""

    list_display = ("id", "thing", "observed_property", "channel", "unit", "derivation")
    list_filter = ("municipality", "observed_property")
    search_fields = ("thing__name", "thing__key")
    raw_id_fields = ("thing", "device")
    list_select_related = ("thing", "observed_property")
