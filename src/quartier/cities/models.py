"""Who runs and who uses the installation: municipalities, districts, organisations, people, rights, audit.

Cities are rows, not code: a third neighbour joins by a data file. A person's rights come from roles, each held in one
municipality (or in all), so that both cities share one installation and each keeps its own say.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Municipality(models.Model):
    """A city or town that takes part; its slug is the first token of every subject."""

    id = models.SmallAutoField(primary_key=True)
    slug = models.SlugField(_("Kürzel"), max_length=40, unique=True)
    name = models.CharField(_("Name"), max_length=120)
    key = models.CharField(_("Amtlicher Gemeindeschlüssel"), max_length=12, blank=True)
    time_zone = models.CharField(max_length=40, default="Europe/Berlin")
    population = models.PositiveIntegerField(null=True, blank=True)
    lon = models.FloatField()
    lat = models.FloatField()
    west = models.FloatField()
    south = models.FloatField()
    east = models.FloatField()
    north = models.FloatField()
    theme = models.CharField(max_length=40, blank=True, help_text="name of the theme of this city's pages")
    contact = models.JSONField(
        default=dict, blank=True, help_text="imprint: office, street, place, e-mail, telephone"
    )

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name


class District(models.Model):
    """A part of a municipality, with its polygon as GeoJSON geometry (WGS 84)."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="districts")
    slug = models.SlugField(max_length=60)
    name = models.CharField(max_length=120)
    polygon = models.JSONField(help_text="GeoJSON Polygon or MultiPolygon, longitude before latitude")
    accuracy = models.CharField(max_length=20, default="official")

    class Meta:
        ordering = ["municipality_id", "name"]
        constraints = [models.UniqueConstraint(fields=["municipality", "slug"], name="district_slug")]

    def __str__(self) -> str:
        return self.name


class Organisation(models.Model):
    """A department, utility, association or company that owns things or answers to citizens."""

    municipality = models.ForeignKey(
        Municipality, models.CASCADE, null=True, blank=True, related_name="organisations"
    )
    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=200)
    homepage = models.URLField(blank=True)
    email = models.EmailField(blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class PersonManager(BaseUserManager["Person"]):
    """Creates people; the e-mail address is the login name."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> Person:
        """A person who can sign in with ``password`` (or only by OpenID Connect if it is None)."""
        person = self.model(email=self.normalize_email(email).lower(), **fields)
        person.set_password(password)
        person.save(using=self._db)
        return person

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> Person:
        """A person who may do everything, in Django's admin as well."""
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class Person(AbstractBaseUser, PermissionsMixin):
    """Somebody with an account."""

    email = models.EmailField(_("E-Mail-Adresse"), unique=True)
    name = models.CharField(_("Name"), max_length=150, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    date_joined = models.DateTimeField(default=timezone.now)

    objects: ClassVar[PersonManager] = PersonManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        verbose_name = _("Person")
        verbose_name_plural = _("Personen")

    def __str__(self) -> str:
        return self.name or self.email

    def get_full_name(self) -> str:
        """Name for greetings."""
        return self.name or self.email


class Role(models.TextChoices):
    """What somebody is in a municipality. Rights of a role: ``quartier.cities.rules``."""

    OPERATOR = "operator", _("Betrieb")
    STEWARD = "steward", _("Datenpflege")
    STAFF = "staff", _("Fachamt")
    MAKER = "maker", _("Maker:in")


class RoleAssignment(models.Model):
    """A person holds a role in one municipality, or in all where ``municipality`` is empty."""

    person = models.ForeignKey(Person, models.CASCADE, related_name="roles")
    role = models.CharField(max_length=20, choices=Role.choices)
    municipality = models.ForeignKey(Municipality, models.CASCADE, null=True, blank=True)
    organisation = models.ForeignKey(Organisation, models.CASCADE, null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["person", "role", "municipality"], name="role_once", nulls_distinct=False
            )
        ]


class Token(models.Model):
    """An API token. Only a hash of its secret part is kept; scopes say what it may do."""

    person = models.ForeignKey(Person, models.CASCADE, related_name="tokens")
    municipality = models.ForeignKey(Municipality, models.CASCADE, null=True, blank=True)
    name = models.CharField(_("Bezeichnung"), max_length=100)
    prefix = models.CharField(max_length=12, unique=True)
    digest = models.BinaryField(max_length=32)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]


class AuditEntry(models.Model):
    """What a person (or the command line) did; never changed, never mixed with what a sensor said."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    person = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True)
    actor = models.CharField(
        max_length=200, help_text="name at that time, also for the command line and tokens"
    )
    municipality = models.ForeignKey(Municipality, models.SET_NULL, null=True, blank=True)
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=200)
    detail = models.JSONField(default=dict)

    class Meta:
        ordering = ["-at", "-id"]


class Feedback(models.Model):
    """A message that a visitor left on a page (barrier reports included)."""

    created_at = models.DateTimeField(default=timezone.now)
    municipality = models.ForeignKey(Municipality, models.SET_NULL, null=True, blank=True)
    page = models.CharField(max_length=300, blank=True)
    kind = models.CharField(max_length=20, default="general")
    message = models.TextField(max_length=4000)
    email = models.EmailField(blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
