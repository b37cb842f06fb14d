"""Django's admin for super-users: data sets."""

from __future__ import annotations

from django.contrib import admin

from quartier.cities.admin_base import ModelAdmin
from quartier.usage.models import Dataset


@admin.register(Dataset)
class DatasetAdmin(ModelAdmin[Dataset]):
    """What is offered for reuse, and under which licence."""

    list_display = ("title_de", "municipality", "licence", "public")
    list_filter = ("municipality", "public")
