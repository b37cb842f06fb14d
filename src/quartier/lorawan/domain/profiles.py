"""Device profiles: what devices of one make have in common on the radio."""

from __future__ import annotations

from typing import Any, Final

from django.db import transaction
from django.utils.translation import gettext

from quartier.cities import audit
from quartier.cities.models import Municipality
from quartier.cities.rules import Actor
from quartier.lorawan.domain.changes import notify
from quartier.lorawan.domain.errors import LoraError, bounded_number, bounded_text
from quartier.lorawan.frames.ping_slots import RAREST
from quartier.lorawan.frames.regions import REGIONS
from quartier.lorawan.models import DeviceProfile
from quartier.lorawan.sessions import Profile

_LIMITS: Final = {
    "adr_margin_db": (0, 40),
    "rx1_delay_s": (1, 15),
    "rx1_dr_offset": (0, 5),
    "maximum_duty_cycle": (0, 15),
    "status_interval_s": (0, 31_536_000),
    "class_c_timeout_s": (1, 120),
    "ping_slot_periodicity": (0, RAREST),
    "class_b_timeout_s": (1, 600),
}
_MOST_EXTRA_CHANNELS: Final = 5
# There class B was experimental: beacons and PingSlotInfoReq mean something else.
_BEFORE_CLASS_B: Final = ("1.0.0", "1.0.1", "1.0.2")


@transaction.atomic
def save_profile(
    actor: Actor, key: str, *, municipality: Municipality | None = None, **values: Any
) -> DeviceProfile:
    """Create the profile ``key`` or change it; ``values`` are fields of the model.

    A profile without municipality serves all of them, so that changing it needs ``lorawan:write`` everywhere. Raises
    LoraError naming the field, NotAllowed.
    """
    profile = DeviceProfile.objects.select_for_update().filter(key=key).first()
    for place in {municipality, profile.municipality if profile else municipality}:
        if place is not None:
            actor.require("lorawan:write", place.pk)
        elif actor.municipalities("lorawan:write") is not None:
            raise LoraError("municipality", gettext("ein Profil für alle Städte braucht das Recht in allen"))
    created = profile is None
    profile = profile or DeviceProfile(key=key)
    profile.municipality = municipality
    changed = []
    for name, value in values.items():
        if getattr(profile, name) != value:
            setattr(profile, name, value)
            changed.append(name)
    _check(profile)
    profile.save()
    audit.log(
        actor,
        "lorawan.profile.create" if created else "lorawan.profile.change",
        profile.key,
        municipality_id=municipality.pk if municipality else None,
        changed=sorted(changed),
    )
    notify()
    return profile


def _check(profile: DeviceProfile) -> None:
    profile.name = bounded_text("name", profile.name or profile.key, 120, needed=True)
    if profile.mac_version not in DeviceProfile.MAC_VERSIONS:
        raise LoraError(
            "mac_version", gettext("muss eines sein von: %s") % ", ".join(DeviceProfile.MAC_VERSIONS)
        )
    region = REGIONS.get(profile.region)
    if region is None:
        raise LoraError("region", gettext("muss eines sein von: %s") % ", ".join(REGIONS))
    if profile.device_class not in DeviceProfile.Class.values:
        raise LoraError(
            "device_class", gettext("muss eines sein von: %s") % ", ".join(DeviceProfile.Class.values)
        )
    if profile.device_class == DeviceProfile.Class.B and profile.mac_version in _BEFORE_CLASS_B:
        raise LoraError("device_class", gettext("Klasse B gibt es erst ab LoRaWAN 1.0.3"))
    for name, (low, high) in _LIMITS.items():
        bounded_number(name, getattr(profile, name), low, high)
    for name in ("rx2_data_rate", "ping_slot_data_rate"):
        if getattr(profile, name) not in region.downlink_data_rates:
            raise LoraError(name, gettext("gibt es in dieser Region nicht"))
    for name in ("rx2_frequency_hz", "ping_slot_frequency_hz"):
        _check_frequency(name, getattr(profile, name), profile.region)
    if profile.beacon_frequency_hz is not None:
        _check_frequency("beacon_frequency_hz", profile.beacon_frequency_hz, profile.region)
    for name in ("extra_frequencies_hz", "abp_frequencies_hz"):
        frequencies = getattr(profile, name)
        if len(frequencies) > _MOST_EXTRA_CHANNELS:
            raise LoraError(name, gettext("höchstens %d weitere Kanäle") % _MOST_EXTRA_CHANNELS)
        for frequency in frequencies:
            _check_frequency(name, frequency, profile.region)
    for index, frequency in profile.downlink_frequencies_hz.items():
        if not str(index).isdecimal() or int(index) >= region.max_channels:
            raise LoraError("downlink_frequencies_hz", gettext("gibt es in dieser Region nicht"))
        _check_frequency("downlink_frequencies_hz", frequency, profile.region)
    for name in ("adr_ack_exponents", "rejoin_exponents"):
        pair = getattr(profile, name)
        if pair is not None and not (
            len(pair) == 2 and all(isinstance(n, int) and 0 <= n <= 15 for n in pair)
        ):
            raise LoraError(name, gettext("müssen zwei Zahlen von 0 bis 15 sein"))


def _check_frequency(field: str, frequency_hz: object, region: str) -> None:
    if (
        isinstance(frequency_hz, bool)
        or not isinstance(frequency_hz, int)
        or frequency_hz % 100
        or REGIONS[region].sub_band(frequency_hz) is None
    ):
        raise LoraError(field, gettext("liegt in keinem Band dieser Region"))


def radio_profile(profile: DeviceProfile) -> Profile:
    """The profile as the radio keeps it."""
    return Profile(
        id=profile.pk,
        key=profile.key,
        mac_version=profile.mac_version,
        region=profile.region,
        device_class=profile.device_class,
        rx1_delay_s=profile.rx1_delay_s,
        rx1_dr_offset=profile.rx1_dr_offset,
        rx2_data_rate=profile.rx2_data_rate,
        rx2_frequency_hz=profile.rx2_frequency_hz,
        abp_frequencies_hz=tuple(profile.abp_frequencies_hz),
        extra_frequencies_hz=tuple(profile.extra_frequencies_hz),
        ping_slot_data_rate=profile.ping_slot_data_rate,
        ping_slot_frequency_hz=profile.ping_slot_frequency_hz,
        beacon_frequency_hz=profile.beacon_frequency_hz,
    )
