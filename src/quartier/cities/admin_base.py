"""Base classes of the admin pages of all rooms.

The type stubs make Django's admin classes generic, Django 5.2 itself does not; here they are for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin, TabularInline
else:

    class ModelAdmin(admin.ModelAdmin):
        """``ModelAdmin[Model]`` at run time."""

        def __class_getitem__(cls, _model: object) -> type:
            return cls

    class TabularInline(admin.TabularInline):
        """``TabularInline[Child, Parent]`` at run time."""

        def __class_getitem__(cls, _models: object) -> type:
            return cls


__all__ = ["ModelAdmin", "TabularInline"]
