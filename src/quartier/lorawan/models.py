"""What the radio network consists of: gateways, device profiles, devices, their sessions, and what waits for them.

Sessions, nonces, the downlink queue and the frame log are written by the process ``radio`` in plain SQL
(:mod:`quartier.lorawan.store`); they are models all the same, so that pages read them like anything else. What Django
saves (``LoraDevice``) and what the radio counts (``Session``, ``JoinState``) are different rows on purpose: a form that
is saved must never put a frame counter back.
"""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from quartier.cities.models import Municipality, Organisation, Person
from quartier.lorawan import (  # noqa: F401 (Django finds their models through this module)
    models_roaming,
    models_stations,
)
from quartier.twin.models import Device, DeviceType


class DataKey(models.Model):
    """The key that seals all radio keys, itself sealed with the installation's secret; there is one row."""

    id = models.SmallIntegerField(primary_key=True)
    sealed = models.TextField()


class Gateway(models.Model):
    """A gateway that may speak to us. Whatever is not listed here is refused and counted."""

    class Protocol(models.TextChoices):
        GWMP = "gwmp", _("Semtech Packet Forwarder (UDP)")
        STATION = "station", _("LoRa Basics Station")
        MQTT = "mqtt", _("ChirpStack Gateway Bridge (MQTT)")

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="gateways")
    eui = models.CharField(
        _("Gateway-EUI"), max_length=16, unique=True, help_text="16 hexadecimal digits, lower case"
    )
    name = models.CharField(_("Name"), max_length=120)
    protocol = models.CharField(
        _("Protokoll"), max_length=12, choices=Protocol.choices, default=Protocol.GWMP
    )
    region = models.CharField(_("Region"), max_length=12, default="EU868")
    owner = models.ForeignKey(Organisation, models.SET_NULL, null=True, blank=True)
    owner_person = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True)
    place = models.CharField(_("Ort"), max_length=200, blank=True)
    lon = models.FloatField(_("Länge"), null=True, blank=True)
    lat = models.FloatField(_("Breite"), null=True, blank=True)
    altitude_m = models.FloatField(_("Höhe über NHN in m"), null=True, blank=True)
    height_above_ground_m = models.FloatField(_("Höhe über Grund in m"), null=True, blank=True)
    antenna_gain_dbi = models.FloatField(_("Antennengewinn in dBi"), default=0)
    private = models.BooleanField(_("Standort nicht zeigen"), default=False)
    disabled = models.BooleanField(_("abgeschaltet"), default=False)
    beacon = models.BooleanField(_("sendet Zeitzeichen (Beacons)"), default=False)
    networks = models.JSONField(
        _("erlaubte Netze"),
        default=list,
        blank=True,
        help_text="networks (CIDR) it may speak from; empty: any",
    )
    credentials = models.JSONField(
        default=list, editable=False, help_text="SHA-256 of its tokens and client certificates, hexadecimal"
    )
    settings = models.JSONField(default=dict, blank=True, help_text="what its protocol needs to know")
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)
    # Written by the radio, never by a form.
    last_seen_at = models.DateTimeField(null=True, blank=True, editable=False)
    status = models.JSONField(default=dict, blank=True, editable=False)
    cups = models.JSONField(
        default=dict, blank=True, editable=False, help_text="what a Basics Station told CUPS, and was given"
    )

    class Meta:
        ordering = ["municipality_id", "name"]

    def __str__(self) -> str:
        return self.name


class DeviceProfile(models.Model):
    """What devices of one make have in common on the radio."""

    class Class(models.TextChoices):
        A = "A", _("A: hört nur nach dem Senden")
        B = "B", _("B: hört zu festen Zeiten")
        C = "C", _("C: hört immer")

    MAC_VERSIONS = ("1.0.0", "1.0.1", "1.0.2", "1.0.3", "1.0.4", "1.1.0")

    municipality = models.ForeignKey(
        Municipality, models.CASCADE, null=True, blank=True, help_text="empty: for all municipalities"
    )
    key = models.SlugField(_("Kennung"), max_length=80, unique=True)
    name = models.CharField(_("Name"), max_length=120)
    mac_version = models.CharField(
        _("LoRaWAN-Version"), max_length=8, default="1.0.3", choices=[(v, v) for v in MAC_VERSIONS]
    )
    parameters_version = models.CharField(
        _("Regionale Parameter"), max_length=20, default="RP002-1.0.4", blank=True
    )
    region = models.CharField(_("Region"), max_length=12, default="EU868")
    device_class = models.CharField(_("Klasse"), max_length=1, choices=Class.choices, default=Class.A)
    adr = models.BooleanField(_("Datenrate regeln (ADR)"), default=True)
    adr_margin_db = models.FloatField(_("Reserve in dB"), default=10)
    expected_interval_s = models.PositiveIntegerField(_("Erwarteter Abstand in s"), null=True, blank=True)
    rx1_delay_s = models.PositiveSmallIntegerField(_("RX1 nach s"), default=1)
    rx1_dr_offset = models.PositiveSmallIntegerField(default=0)
    rx2_data_rate = models.PositiveSmallIntegerField(default=0)
    rx2_frequency_hz = models.PositiveIntegerField(default=869_525_000)
    # What an ABP device was made with and cannot be told: it starts there instead of at the region's defaults.
    abp_frequencies_hz = models.JSONField(default=list, blank=True)
    maximum_eirp_dbm = models.FloatField(null=True, blank=True)
    uplink_dwell_time = models.BooleanField(default=False)
    downlink_dwell_time = models.BooleanField(default=False)
    maximum_duty_cycle = models.PositiveSmallIntegerField(
        default=0, help_text="DutyCycleReq: 1/2^n of the time; 0 asks for nothing"
    )
    extra_frequencies_hz = models.JSONField(
        default=list, blank=True, help_text="further channels that devices are told of (at most 5)"
    )
    downlink_frequencies_hz = models.JSONField(
        default=dict,
        blank=True,
        help_text="where RX1 opens instead, by index of the uplink channel (DlChannelReq)",
    )
    # Of LoRaWAN 1.1: limit and delay of ADRParamSetupReq, count and time of RejoinParamSetupReq.
    adr_ack_exponents = models.JSONField(null=True, blank=True)
    rejoin_exponents = models.JSONField(null=True, blank=True)
    status_interval_s = models.PositiveIntegerField(
        default=86_400, help_text="how often the battery is asked for; 0: never"
    )
    class_c_timeout_s = models.PositiveSmallIntegerField(default=5)
    ping_slot_periodicity = models.PositiveSmallIntegerField(
        default=7,
        help_text="class B: a ping slot every 2^n seconds, for devices that do not say so themselves",
    )
    ping_slot_data_rate = models.PositiveSmallIntegerField(default=3)
    ping_slot_frequency_hz = models.PositiveIntegerField(default=869_525_000)
    beacon_frequency_hz = models.PositiveIntegerField(
        null=True, blank=True, help_text="BeaconFreqReq; empty is the region's own"
    )
    class_b_timeout_s = models.PositiveSmallIntegerField(default=8)
    device_type = models.ForeignKey(DeviceType, models.SET_NULL, null=True, blank=True, related_name="+")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class LoraDevice(models.Model):
    """A device of our own network: the radio side of a ``twin.Device``. Its keys go in and never come out."""

    class Activation(models.TextChoices):
        OTAA = "otaa", _("OTAA: meldet sich selbst an")
        ABP = "abp", _("ABP: Schlüssel fest eingestellt")

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="lora_devices")
    device = models.OneToOneField(Device, models.CASCADE, related_name="lora")
    dev_eui = models.CharField(_("DevEUI"), max_length=16, unique=True)
    join_eui = models.CharField(_("JoinEUI"), max_length=16, blank=True)
    name = models.CharField(_("Name"), max_length=200)
    description = models.TextField(_("Beschreibung"), blank=True)
    profile = models.ForeignKey(DeviceProfile, models.PROTECT, related_name="devices")
    activation = models.CharField(
        _("Anmeldung"), max_length=4, choices=Activation.choices, default=Activation.OTAA
    )
    sealed_keys = models.BinaryField(null=True, blank=True, editable=False)
    owner = models.ForeignKey(Organisation, models.SET_NULL, null=True, blank=True)
    owner_person = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True)
    tags = models.JSONField(_("Merkmale"), default=dict, blank=True)
    firmware = models.CharField(_("Firmware"), max_length=60, blank=True)
    active = models.BooleanField(_("aktiv"), default=True)
    counter_reset = models.BooleanField(_("Zähler darf neu beginnen"), default=False)
    may_roam = models.BooleanField(_("darf über Nachbarnetze senden"), default=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)

    class Meta:
        ordering = ["name", "id"]
        indexes = [models.Index(fields=["municipality", "name"])]

    def __str__(self) -> str:
        return self.name


class DeviceMove(models.Model):
    """A device went from one city or owner to another."""

    device = models.ForeignKey(LoraDevice, models.CASCADE, related_name="moves")
    at = models.DateTimeField(default=timezone.now)
    from_municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="+")
    to_municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="+")
    from_owner = models.CharField(max_length=200, blank=True)
    to_owner = models.CharField(max_length=200, blank=True)
    actor = models.CharField(max_length=200)
    reason = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["-at", "-id"]


class Session(models.Model):
    """Keys and counters between a device and us since its last join. ``pending`` until its first uplink."""

    device = models.ForeignKey(LoraDevice, models.CASCADE, related_name="sessions")
    pending = models.BooleanField(default=False)
    dev_addr = models.BigIntegerField()
    mac_version = models.CharField(max_length=8)
    sealed_keys = models.BinaryField(editable=False)
    uplink_counter = models.BigIntegerField(default=-1, help_text="last accepted; -1: none")
    delivered_counter = models.BigIntegerField(default=-1, help_text="last that is known to be in the inbox")
    # The next number that no downlink has used.
    network_downlink_counter = models.BigIntegerField(default=0)
    application_downlink_counter = models.BigIntegerField(default=0)
    mac = models.JSONField(default=dict, blank=True)
    writer = models.BigIntegerField(default=0, help_text="which process counted last")
    gateway = models.BinaryField(max_length=8, null=True, blank=True)
    peer = models.CharField(max_length=60, blank=True)
    others = models.JSONField(
        null=True, blank=True, help_text="class B and C: who else heard it, the next best first (EUI, peer)"
    )
    created_at = models.DateTimeField(default=timezone.now)
    last_uplink_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["device", "pending"], name="lora_session_once")]


class JoinState(models.Model):
    """Counters of the join procedure."""

    device = models.OneToOneField(LoraDevice, models.CASCADE, primary_key=True, related_name="join_state")
    last_dev_nonce = models.IntegerField(default=-1, help_text="1.0.4 and 1.1: only larger ones are taken")
    join_nonce = models.IntegerField(default=0, help_text="last one given out")
    rejoin_counter_0 = models.IntegerField(default=-1)
    rejoin_counter_1 = models.IntegerField(default=-1)
    joined_at = models.DateTimeField(null=True, blank=True)


class DevNonce(models.Model):
    """A DevNonce that a device of LoRaWAN 1.0.0 to 1.0.3 has used; those are random, so all are kept."""

    device = models.ForeignKey(LoraDevice, models.CASCADE, related_name="+")
    join_eui = models.CharField(max_length=16)
    nonce = models.IntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["device", "join_eui", "nonce"], name="lora_dev_nonce_once")
        ]


class MulticastGroup(models.Model):
    """Devices of class C that hear the same frames."""

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="multicast_groups")
    name = models.CharField(_("Name"), max_length=120)
    dev_addr = models.BigIntegerField(unique=True)
    sealed_keys = models.BinaryField(editable=False)
    downlink_counter = models.BigIntegerField(
        default=0, help_text="the next number that no downlink has used"
    )
    frequency_hz = models.PositiveIntegerField(default=869_525_000)
    data_rate = models.PositiveSmallIntegerField(default=0)
    devices = models.ManyToManyField(LoraDevice, related_name="multicast_groups", blank=True)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Downlink(models.Model):
    """What somebody wants a device (or a multicast group) to hear, and what became of it."""

    class State(models.TextChoices):
        QUEUED = "queued", _("wartet")
        SENDING = "sending", _("wird gesendet")
        SENT = "sent", _("gesendet")
        ACKNOWLEDGED = "acknowledged", _("bestätigt")
        FAILED = "failed", _("gescheitert")
        CANCELLED = "cancelled", _("zurückgezogen")

    OPEN = (State.QUEUED, State.SENDING)

    municipality = models.ForeignKey(Municipality, models.CASCADE, related_name="+")
    device = models.ForeignKey(LoraDevice, models.CASCADE, null=True, blank=True, related_name="downlinks")
    group = models.ForeignKey(MulticastGroup, models.CASCADE, null=True, blank=True, related_name="downlinks")
    port = models.PositiveSmallIntegerField()
    payload = models.BinaryField(max_length=242)
    confirmed = models.BooleanField(default=False)
    priority = models.SmallIntegerField(default=0, help_text="larger ones first")
    expires_at = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=12, choices=State.choices, default=State.QUEUED)
    reason = models.CharField(max_length=60, blank=True, help_text="why it failed")
    detail = models.CharField(max_length=300, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    downlink_counter = models.BigIntegerField(null=True, blank=True)
    gateway = models.CharField(max_length=16, blank=True)
    peer = models.CharField(max_length=60, blank=True)
    requested_by = models.CharField(max_length=200)
    person = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(
                fields=["device", "-priority", "id"],
                condition=models.Q(state__in=("queued", "sending", "sent")),
                name="lora_downlink_open",
            ),
            models.Index(fields=["device", "-created_at"], name="lora_downlink_device"),
        ]


class Frame(models.Model):
    """One line of the frame log: what was heard or sent, and what became of it. Kept for ``radio_frames_days``.

    The table has a partition for each day (UTC), and no foreign key: each day would lock the cities.
    """

    at = models.DateTimeField()
    municipality = models.ForeignKey(
        Municipality, models.CASCADE, null=True, related_name="+", db_index=False, db_constraint=False
    )
    device_id = models.BigIntegerField(null=True)
    dev_eui = models.CharField(max_length=16, blank=True)
    dev_addr = models.BigIntegerField(null=True)
    direction = models.CharField(max_length=4, help_text="up or down")
    kind = models.CharField(max_length=24, help_text="join_request, unconfirmed_up, …")
    outcome = models.CharField(max_length=24, help_text="accepted, ok, or why not")
    counter = models.BigIntegerField(null=True)
    port = models.SmallIntegerField(null=True)
    size = models.SmallIntegerField()
    data_rate = models.SmallIntegerField()
    frequency_hz = models.BigIntegerField()
    gateways = models.JSONField(help_text="who heard or sent it: eui, peer, rssi_dbm, snr_db")
    detail = models.JSONField()

    class Meta:
        indexes = [
            models.Index(fields=["device_id", "-at"], name="lora_frame_device"),
            models.Index(fields=["municipality", "-at"], name="lora_frame_municipality"),
        ]


class GatewayHour(models.Model):
    """What a gateway heard and sent in one hour."""

    gateway = models.ForeignKey(Gateway, models.CASCADE, related_name="hours")
    hour = models.DateTimeField()
    received = models.IntegerField(default=0)
    accepted = models.IntegerField(default=0, help_text="of those, frames of our own devices")
    foreign = models.IntegerField(default=0, help_text="of those, frames that a peer took")
    sent = models.IntegerField(default=0)
    failed = models.IntegerField(default=0)
    airtime_s = models.FloatField(default=0)
    rssi_sum_dbm = models.FloatField(default=0)
    snr_sum_db = models.FloatField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["gateway", "hour"], name="lora_gateway_hour")]
