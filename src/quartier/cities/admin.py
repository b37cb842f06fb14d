"""Django's admin for super-users: the last resort where the desk has no page. Nothing here is translated."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest

from quartier.cities.admin_base import ModelAdmin, TabularInline
from quartier.cities.models import (
    AuditEntry,
    District,
    Feedback,
    Municipality,
    Organisation,
    Person,
    RoleAssignment,
    Token,
)


class RoleInline(TabularInline[RoleAssignment, Person]):
    """Roles on the page of a person."""

    model = RoleAssignment
    extra = 0


@admin.register(Person)
class PersonAdmin(UserAdmin):  # type: ignore[type-arg] # generic in the stubs only
    """Accounts; the e-mail address is the login name."""

    ordering = ("email",)
    list_display = ("email", "name", "is_active", "is_superuser", "last_login")
    list_filter = ("is_active", "is_superuser", "roles__role", "roles__municipality")
    search_fields = ("email", "name")
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ()
    fieldsets = (
        (None, {"fields": ("email", "name", "password")}),
        (None, {"fields": ("is_active", "is_staff", "is_superuser", "last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("email", "name", "usable_password", "password1", "password2")}),)
    inlines = (RoleInline,)


@admin.register(Municipality)
class MunicipalityAdmin(ModelAdmin[Municipality]):
    """Cities that take part."""

    list_display = ("name", "slug", "key", "population")


@admin.register(District)
class DistrictAdmin(ModelAdmin[District]):
    """Parts of cities."""

    list_display = ("name", "municipality", "accuracy")
    list_filter = ("municipality",)
    search_fields = ("name",)


@admin.register(Organisation)
class OrganisationAdmin(ModelAdmin[Organisation]):
    """Departments, utilities, associations."""

    list_display = ("name", "municipality", "email")
    search_fields = ("name",)


@admin.register(Token)
class TokenAdmin(ModelAdmin[Token]):
    """Tokens can be revoked here, not made: the secret would have nowhere to be shown."""

    list_display = (
        "name",
        "person",
        "municipality",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
    )
    fields = (
        "person",
        "municipality",
        "name",
        "prefix",
        "scopes",
        "created_at",
        "last_used_at",
        "expires_at",
        "revoked_at",
    )
    readonly_fields = ("person", "municipality", "prefix", "scopes", "created_at", "last_used_at")
    search_fields = ("name", "person__email", "prefix")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tokens are made by their owners."""
        return False


@admin.register(AuditEntry)
class AuditEntryAdmin(ModelAdmin[AuditEntry]):
    """The audit log is read and never changed, not even by a super-user."""

    list_display = ("at", "actor", "action", "target", "municipality")
    list_filter = ("action", "municipality")
    search_fields = ("actor", "target")
    date_hierarchy = "at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Entries are written by what people do."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        """Never."""
        return False


@admin.register(Feedback)
class FeedbackAdmin(ModelAdmin[Feedback]):
    """Messages of visitors."""

    list_display = ("created_at", "kind", "page", "municipality", "answered_at")
    list_filter = ("kind", "municipality")
    search_fields = ("message", "email")
