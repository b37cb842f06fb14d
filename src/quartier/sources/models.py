"""Outside systems that are read: one row per connection, with its health."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality
from quartier.cities.secrets import seal, unseal


class Source(models.Model):
    """A connection to an outside system. Credentials are sealed and never leave again."""

    class State(models.TextChoices):
        NEW = "new", _("noch nie verbunden")
        OK = "ok", _("verbunden")
        WAITING = "waiting", _("wartet nach Fehler")
        OFF = "off", _("abgeschaltet")

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="sources")
    key = models.SlugField(_("Kennung"), max_length=60, unique=True)
    name = models.CharField(_("Name"), max_length=200)
    kind = models.CharField(_("Art"), max_length=40)
    settings = models.JSONField(default=dict, blank=True)
    sealed_credentials = models.TextField(blank=True, editable=False)
    enabled = models.BooleanField(default=True)
    state = models.CharField(max_length=12, choices=State.choices, default=State.NEW)
    state_since = models.DateTimeField(default=timezone.now)
    last_message_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    last_error_at = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)
    received = models.BigIntegerField(default=0)
    cursor = models.JSONField(
        default=dict, blank=True, help_text="where reading continues, e.g. retrieve_after_id"
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["municipality_id", "name"]

    def __str__(self) -> str:
        return self.name

    @property
    def credentials(self) -> dict[str, str]:
        """The opened credentials; for connectors only."""
        return unseal(self.sealed_credentials)

    @credentials.setter
    def credentials(self, value: dict[str, str]) -> None:
        self.sealed_credentials = seal(value) if value else ""
