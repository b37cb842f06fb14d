"""Neighbouring networks, what was agreed with them, and what was carried for each other.

An agreement that was signed is never edited: a change is a new agreement, so that everybody can see what held when.
The ledger is written by the process ``radio`` (:mod:`quartier.lorawan.roaming.ledger`).
"""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality, Person


class LoraPeer(models.Model):
    """A neighbouring network or a join server. What is secret of it is sealed and never shown again."""

    class Protocol(models.TextChoices):
        TS002_1_0 = "ts002-1.0", _("Backend Interfaces 1.0")
        TS002_1_1 = "ts002-1.1", _("Backend Interfaces 1.1")
        GWMP = "gwmp", _("als Gateway des anderen Netzes (Semtech UDP)")
        STATION = "station", _("als Gateway des anderen Netzes (Basics Station)")

    key = models.SlugField(_("Kennung"), max_length=60, unique=True)
    name = models.CharField(_("Name"), max_length=120)
    municipality = models.ForeignKey(
        Municipality,
        models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        help_text="whose operators decide",
    )
    protocol = models.CharField(
        _("Verbindung"), max_length=12, choices=Protocol.choices, default=Protocol.TS002_1_0
    )
    net_ids = models.JSONField(_("NetIDs"), default=list, blank=True, help_text="six hexadecimal digits each")
    nsid = models.CharField(_("NSID"), max_length=16, blank=True)
    join_euis = models.JSONField(
        _("JoinEUIs"), default=list, blank=True, help_text="EUIs or prefixes such as …/40"
    )
    url = models.CharField(_("Adresse"), max_length=300, blank=True)
    asynchronous = models.BooleanField(_("Antworten kommen getrennt"), default=False)
    role_suffix = models.BooleanField(_("Adresse endet mit der Rolle"), default=False)
    timeout_s = models.FloatField(_("Geduld in s"), default=5)
    # How it proves who it is: any of these.
    fingerprints = models.JSONField(
        _("Fingerabdrücke"), default=list, blank=True, help_text="SHA-256 of client certificates"
    )
    subject = models.CharField(_("Name im Zertifikat"), max_length=200, blank=True)
    authority = models.TextField(_("Zertifizierungsstelle"), blank=True)
    bearer_digest = models.CharField(max_length=64, blank=True, editable=False)
    # For calling it: authorization, certificate, key, ca; keks {label: hex}; mic_keys; gateway token.
    sealed = models.TextField(blank=True, editable=False)
    kek_label = models.CharField(max_length=100, blank=True)
    gateway = models.JSONField(
        _("Gateway"), default=dict, blank=True, help_text="eui, host, port or url of a virtual gateway"
    )
    enabled = models.BooleanField(_("eingeschaltet"), default=True)
    contact = models.CharField(_("Ansprechstelle"), max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class RoamingAgreement(models.Model):
    """What two networks agreed in one direction; in force once both sides have signed."""

    class Direction(models.TextChoices):
        CARRY = "carry", _("unsere Gateways für deren Geräte")
        CARRIED = "carried", _("deren Gateways für unsere Geräte")

    class Gateways(models.TextChoices):
        PUBLIC = "public", _("nur öffentliche")
        ALL = "all", _("alle")

    peer = models.ForeignKey(LoraPeer, models.CASCADE, related_name="agreements")
    direction = models.CharField(_("Richtung"), max_length=8, choices=Direction.choices)
    dev_addrs = models.JSONField(_("DevAddr-Bereiche"), default=list, blank=True)
    dev_euis = models.JSONField(_("DevEUIs"), default=list, blank=True)
    join_euis = models.JSONField(_("JoinEUIs"), default=list, blank=True)
    tags = models.JSONField(_("Merkmale"), default=dict, blank=True)
    gateways = models.CharField(
        _("Gateways"), max_length=8, choices=Gateways.choices, default=Gateways.PUBLIC
    )
    classes = models.JSONField(
        _("Datenarten"), default=list, help_text="join, mac, application, signal_quality, location"
    )
    uplink_rate_per_h = models.FloatField(null=True, blank=True)
    uplink_bucket = models.PositiveIntegerField(default=10)
    uplink_policy = models.CharField(max_length=4, default="Drop")
    downlink_rate_per_h = models.FloatField(null=True, blank=True)
    downlink_bucket = models.PositiveIntegerField(default=10)
    downlink_policy = models.CharField(max_length=4, default="Drop")
    uplink_airtime_s_per_day = models.FloatField(null=True, blank=True)
    downlink_airtime_s_per_day = models.FloatField(null=True, blank=True)
    downlinks_per_day = models.PositiveIntegerField(null=True, blank=True)
    mic_filter = models.BooleanField(_("nur Funkpakete mit passendem Prüfwert"), default=False)
    hand_over_keys = models.BooleanField(_("Netzschlüssel verschlüsselt weitergeben"), default=False)
    lifetime_s = models.PositiveIntegerField(
        _("Gedächtnis in s"), default=0, help_text="0: stateless roaming"
    )
    class_c = models.BooleanField(_("Klasse C"), default=True)
    valid_from = models.DateTimeField(_("gilt ab"), default=timezone.now)
    valid_until = models.DateTimeField(_("gilt bis"), null=True, blank=True)
    purpose = models.TextField(_("Zweck"), blank=True)
    retention_days = models.PositiveIntegerField(_("Aufbewahrung in Tagen"), default=30)
    signed_here_by = models.CharField(max_length=200, blank=True)
    signed_here_person = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True, related_name="+")
    signed_here_at = models.DateTimeField(null=True, blank=True)
    signed_there_by = models.CharField(max_length=200, blank=True)
    signed_there_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-valid_from", "-id"]

    def __str__(self) -> str:
        return f"{self.peer}: {self.Direction(self.direction).label}"


class RoamingFrame(models.Model):
    """One frame in one direction that one network carried for the other: ledger and audit trail in one row.

    ``key`` is computed alike on both sides. ``state`` is ``open`` until the other side has confirmed; only
    ``confirmed`` counts. Rows go after the agreement's ``retention_days``; the sums in RoamingDay stay.
    """

    class State(models.TextChoices):
        OPEN = "open", _("nicht bestätigt")
        CONFIRMED = "confirmed", _("bestätigt")
        REFUSED = "refused", _("abgelehnt")
        FAILED = "failed", _("nicht gesendet")

    peer = models.ForeignKey(LoraPeer, models.CASCADE, related_name="+", db_index=False)
    agreement = models.ForeignKey(
        RoamingAgreement, models.SET_NULL, null=True, related_name="+", db_index=False
    )
    we_carry = models.BooleanField(help_text="our gateways worked for the peer")
    direction = models.CharField(max_length=4, help_text="up or down")
    key = models.BinaryField(max_length=16)
    at = models.DateTimeField()
    day = models.IntegerField(help_text="days since 1970, UTC")
    kind = models.CharField(max_length=12)
    dev_addr = models.BigIntegerField(null=True)
    dev_eui = models.CharField(max_length=16, blank=True)
    port = models.SmallIntegerField(null=True)
    size = models.SmallIntegerField()
    data_rate = models.SmallIntegerField()
    airtime_us = models.IntegerField()
    gateways = models.SmallIntegerField(default=1)
    classes = models.CharField(max_length=80, help_text="which classes of data went to the peer")
    marked = models.BooleanField(default=False, help_text="above the agreed rate")
    state = models.CharField(max_length=10, choices=State.choices)
    result = models.CharField(max_length=60, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["peer", "we_carry", "key"], name="lora_roaming_once")]
        indexes = [
            models.Index(fields=["peer", "day", "we_carry", "key"], name="lora_roaming_day"),
            models.Index(fields=["dev_eui", "-at"], name="lora_roaming_device"),
            models.Index(fields=["dev_addr", "-at"], name="lora_roaming_address"),
        ]


class RoamingDay(models.Model):
    """What one network carried for the other on one day. Kept when the frames are gone."""

    peer = models.ForeignKey(LoraPeer, models.CASCADE, related_name="days")
    day = models.DateField()
    we_carry = models.BooleanField()
    uplinks = models.IntegerField(default=0)
    uplink_airtime_us = models.BigIntegerField(default=0)
    downlinks = models.IntegerField(default=0)
    downlink_airtime_us = models.BigIntegerField(default=0)
    reconciled_at = models.DateTimeField(null=True, blank=True)
    differences = models.IntegerField(default=0, help_text="found when both sides were compared last")

    class Meta:
        ordering = ["-day", "peer_id"]
        constraints = [
            models.UniqueConstraint(fields=["peer", "day", "we_carry"], name="lora_roaming_day_once")
        ]
