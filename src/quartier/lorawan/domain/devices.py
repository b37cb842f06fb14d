"""Devices of our own network: registered, changed, moved to another city or owner.

The radio side (``LoraDevice``) and the twin's device are made together here, and nowhere else. Keys go in, sealed, and
no function gives them back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext

from quartier.cities import audit
from quartier.cities.models import Municipality, Organisation
from quartier.cities.rules import Actor
from quartier.lorawan.domain.changes import keyring, notify
from quartier.lorawan.domain.errors import LoraError, bounded_number, bounded_text, hexadecimal
from quartier.lorawan.domain.profiles import radio_profile
from quartier.lorawan.frames.crypto import SessionKeys, session_1_0
from quartier.lorawan.frames.regions import REGIONS
from quartier.lorawan.keyring import ROOT, SESSION
from quartier.lorawan.message import SOURCE
from quartier.lorawan.models import DeviceMove, DeviceProfile, DevNonce, JoinState, LoraDevice, Session
from quartier.lorawan.sessions import initial_state, pack_keys
from quartier.twin.models import Deployment, Device, DeviceType, Thing

MAXIMUM_TAGS: Final = 20
_MAC: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """What a person says of a device. ``keys`` by name, hexadecimal.

    OTAA: ``app_key``, and ``nwk_key`` for 1.1. ABP: ``dev_addr``, ``app_s_key``, and ``nwk_s_key`` or (1.1)
    ``f_nwk_s_int_key``, ``s_nwk_s_int_key`` and ``nwk_s_enc_key``. A device that joined another server may bring both:
    then its session goes on here.

    ``counters`` of such a session are ``up``, the last uplink counter that was accepted, ``network_down`` and
    ``application_down``, the next ones to use, and ``rx1_delay_s``. ``used_nonces`` are DevNonces that may not come
    again, ``join_nonce`` the last one that the device was given.
    """

    dev_eui: str
    name: str
    profile: DeviceProfile
    activation: str = LoraDevice.Activation.OTAA
    join_eui: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    device_type: DeviceType | None = None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    owner: Organisation | None = None
    expected_interval_s: int | None = None
    counter_reset: bool = False
    may_roam: bool = True
    active: bool = True
    firmware: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)
    used_nonces: Sequence[int] = ()
    join_nonce: int = 0

    def __repr__(self) -> str:
        """Without the keys: they must not get into a log."""
        return f"DeviceSettings(dev_eui={self.dev_eui!r}, name={self.name!r})"


@transaction.atomic
def register_device(
    actor: Actor,
    municipality: Municipality,
    settings: DeviceSettings,
    *,
    thing: Thing | None = None,
    since: datetime | None = None,
    log: bool = True,
) -> LoraDevice:
    """Create a device: its radio side, the twin's device, and its deployment at ``thing`` if one is given.

    Needs ``devices:write``. Raises LoraError naming the field, NotAllowed.
    """
    actor.require("devices:write", municipality.pk)
    eui = hexadecimal("dev_eui", settings.dev_eui, 8)
    _check_profile(settings.profile, municipality)
    name = bounded_text("name", settings.name, 200, needed=True)
    if settings.activation not in LoraDevice.Activation.values:
        raise LoraError("activation", gettext("muss eines sein von: %s") % "otaa, abp")
    otaa = settings.activation == LoraDevice.Activation.OTAA
    join_eui = hexadecimal("join_eui", settings.join_eui or "0" * 16, 8).hex() if otaa else ""
    ring = keyring()
    interval_s = settings.expected_interval_s or settings.profile.expected_interval_s
    try:
        with transaction.atomic():
            device = Device.objects.create(
                municipality=municipality,
                source_key=SOURCE,
                external_id=eui.hex(),
                name=name,
                device_type=settings.device_type or settings.profile.device_type,
                expected_interval_s=interval_s,
                active=settings.active,
            )
            lora = LoraDevice.objects.create(
                municipality=municipality,
                device=device,
                dev_eui=eui.hex(),
                join_eui=join_eui,
                name=name,
                description=settings.description[:2000],
                profile=settings.profile,
                activation=settings.activation,
                sealed_keys=ring.seal(_root_keys(settings), ROOT, eui) if otaa else None,
                owner=settings.owner,
                tags=_tags(settings.tags),
                firmware=bounded_text("firmware", settings.firmware, 60),
                active=settings.active,
                counter_reset=settings.counter_reset,
                may_roam=settings.may_roam,
            )
    except IntegrityError:
        raise LoraError("dev_eui", gettext("ist schon angemeldet")) from None
    if not otaa or settings.keys.get("dev_addr"):
        _begin_session(lora, eui, settings)
    if settings.used_nonces or settings.join_nonce:
        _remember_nonces(lora, settings)
    if thing is not None:
        if thing.municipality_id != municipality.pk:
            raise LoraError("thing", gettext("steht in einer anderen Stadt"))
        Deployment.objects.create(device=device, thing=thing, since=since or timezone.now())
    if log:
        audit.log(
            actor,
            "lorawan.device.create",
            lora.dev_eui,
            municipality_id=municipality.pk,
            name=name,
            profile=settings.profile.key,
            activation=settings.activation,
        )
        notify()
    return lora


def _check_profile(profile: DeviceProfile, municipality: Municipality) -> None:
    if profile.municipality_id is not None and profile.municipality_id != municipality.pk:
        raise LoraError("profile", gettext("gehört einer anderen Stadt"))


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    if len(tags) > MAXIMUM_TAGS:
        raise LoraError("tags", gettext("höchstens %d Merkmale") % MAXIMUM_TAGS)
    return {
        bounded_text("tags", str(key), 40, needed=True): bounded_text("tags", str(value), 200)
        for key, value in tags.items()
    }


def _root_keys(settings: DeviceSettings) -> bytes:
    app_key = hexadecimal("app_key", settings.keys.get("app_key", ""), 16)
    if not settings.profile.mac_version.startswith("1.1"):
        return app_key
    return hexadecimal("nwk_key", settings.keys.get("nwk_key", ""), 16) + app_key


def _session_keys(settings: DeviceSettings) -> SessionKeys:
    def key(name: str) -> bytes:
        return hexadecimal(name, settings.keys.get(name, ""), 16)

    if not settings.profile.mac_version.startswith("1.1"):
        return session_1_0(key("nwk_s_key"), key("app_s_key"))
    return SessionKeys(
        key("f_nwk_s_int_key"), key("s_nwk_s_int_key"), key("nwk_s_enc_key"), key("app_s_key"), True
    )


def _begin_session(lora: LoraDevice, eui: bytes, settings: DeviceSettings) -> None:
    dev_addr = int.from_bytes(hexadecimal("dev_addr", settings.keys.get("dev_addr", ""), 4))
    counters = {name: settings.counters.get(name, start) for name, start in _COUNTERS.items()}
    for name, value in counters.items():
        if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value <= 0xFFFF_FFFF:
            raise LoraError(name, gettext("ist kein Zähler"))
    profile = radio_profile(settings.profile)
    otaa = lora.activation == LoraDevice.Activation.OTAA
    state = initial_state(profile, REGIONS[profile.region], profile.extra_frequencies_hz, abp=not otaa)
    state.rx1_delay_s = counters["rx1_delay_s"] or state.rx1_delay_s
    sealed = keyring().seal(pack_keys(_session_keys(settings)), SESSION, eui)
    Session.objects.filter(device=lora).delete()
    Session.objects.create(
        device=lora,
        dev_addr=dev_addr,
        mac_version=profile.mac_version,
        sealed_keys=sealed,
        uplink_counter=counters["up"],
        delivered_counter=counters["up"],
        network_downlink_counter=counters["network_down"],
        application_downlink_counter=counters["application_down"],
        mac=msgspec.json.decode(_MAC.encode(state)),
    )


_COUNTERS: Final = {"up": -1, "network_down": 0, "application_down": 0, "rx1_delay_s": 0}


def _remember_nonces(lora: LoraDevice, settings: DeviceSettings) -> None:
    for value in settings.used_nonces:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0xFFFF:
            raise LoraError("used_nonces", gettext("ist kein Zähler"))
    JoinState.objects.create(
        device=lora,
        last_dev_nonce=max(settings.used_nonces, default=-1),
        join_nonce=int(bounded_number("join_nonce", settings.join_nonce, 0, 0xFF_FFFF)),
    )
    DevNonce.objects.bulk_create(
        [DevNonce(device=lora, join_eui=lora.join_eui, nonce=nonce) for nonce in set(settings.used_nonces)],
        batch_size=1000,
    )


@transaction.atomic
def save_device(actor: Actor, lora: LoraDevice, **values: Any) -> LoraDevice:
    """Change name, description, profile, device type, tags, owner, firmware, interval, roaming or counter reset.

    Needs ``devices:write``. Raises LoraError naming the field, NotAllowed.
    """
    actor.require("devices:write", lora.municipality_id)
    known = {
        "name", "description", "profile", "device_type", "tags", "owner", "firmware", "expected_interval_s",
        "may_roam", "counter_reset",
    }  # fmt: skip
    if unknown := values.keys() - known:
        raise LoraError(min(unknown), gettext("kann nicht geändert werden"))
    if "name" in values:
        values["name"] = bounded_text("name", values["name"], 200, needed=True)
    if "tags" in values:
        values["tags"] = _tags(values["tags"])
    if "firmware" in values:
        values["firmware"] = bounded_text("firmware", values["firmware"], 60)
    if "profile" in values:
        _check_profile(values["profile"], lora.municipality)
        if values["profile"].mac_version.startswith("1.1") != lora.profile.mac_version.startswith("1.1"):
            raise LoraError(
                "profile", gettext("mit einer anderen Hauptversion braucht das Gerät neue Schlüssel")
            )
    device = lora.device
    changed = []
    for name, value in values.items():
        row = device if name in ("device_type", "expected_interval_s") else lora
        if getattr(row, name) != value:
            setattr(row, name, value)
            changed.append(name)
    if not changed:
        return lora
    if "name" in changed:
        device.name = lora.name
    lora.save()
    device.save(update_fields=["name", "device_type", "expected_interval_s"])
    audit.log(
        actor,
        "lorawan.device.change",
        lora.dev_eui,
        municipality_id=lora.municipality_id,
        changed=sorted(changed),
    )
    notify()
    return lora


@transaction.atomic
def set_active(actor: Actor, lora: LoraDevice, active: bool) -> None:
    """Switch a device off (its frames are refused and told so in the log) or on. Needs ``devices:write``."""
    actor.require("devices:write", lora.municipality_id)
    if lora.active == active:
        return
    lora.active = lora.device.active = active
    lora.save(update_fields=["active", "updated_at"])
    lora.device.save(update_fields=["active"])
    audit.log(
        actor,
        "lorawan.device.change",
        lora.dev_eui,
        municipality_id=lora.municipality_id,
        changed=["active"],
        active=active,
    )
    notify()


@transaction.atomic
def replace_keys(actor: Actor, lora: LoraDevice, settings: DeviceSettings) -> None:
    """New keys: sessions end, and the nonces used with the old root keys are forgotten. Needs ``devices:write``.

    Of ``settings`` the keys, the profile, the activation and the JoinEUI count. Raises LoraError, NotAllowed.
    """
    actor.require("devices:write", lora.municipality_id)
    _check_profile(settings.profile, lora.municipality)
    eui = bytes.fromhex(lora.dev_eui)
    lora.profile, lora.activation = settings.profile, settings.activation
    Session.objects.filter(device=lora).delete()
    if settings.activation == LoraDevice.Activation.OTAA:
        before = keyring().open(bytes(lora.sealed_keys), ROOT, eui) if lora.sealed_keys else b""
        keys = _root_keys(settings)
        lora.join_eui = hexadecimal("join_eui", settings.join_eui or lora.join_eui or "0" * 16, 8).hex()
        lora.sealed_keys = keyring().seal(keys, ROOT, eui)
        if keys != before:
            # With the same keys a nonce would give the same session again.
            JoinState.objects.filter(device=lora).delete()
            DevNonce.objects.filter(device=lora).delete()
    else:
        lora.sealed_keys = None
        _begin_session(lora, eui, settings)
    lora.save()
    audit.log(actor, "lorawan.device.keys", lora.dev_eui, municipality_id=lora.municipality_id)
    notify()


@transaction.atomic
def move_device(
    actor: Actor,
    lora: LoraDevice,
    municipality: Municipality,
    *,
    owner: Organisation | None = None,
    reason: str = "",
) -> None:
    """Give a device to another city or owner; session and keys stay, its place there is for others to say.

    Needs ``devices:write`` in both cities. Raises LoraError, NotAllowed.
    """
    actor.require("devices:write", lora.municipality_id)
    actor.require("devices:write", municipality.pk)
    if lora.municipality_id == municipality.pk and lora.owner == owner:
        return
    _check_profile(lora.profile, municipality)
    DeviceMove.objects.create(
        device=lora,
        from_municipality=lora.municipality,
        to_municipality=municipality,
        from_owner=lora.owner.name if lora.owner else "",
        to_owner=owner.name if owner else "",
        actor=actor.name[:200],
        reason=bounded_text("reason", reason, 300),
    )
    before = lora.municipality_id
    if before != municipality.pk:
        lora.device.municipality = municipality
        lora.device.save(update_fields=["municipality"])
        lora.device.deployments.filter(until__isnull=True).update(until=timezone.now())
        lora.downlinks.filter(state="queued").update(state="failed", reason="moved", done_at=timezone.now())
        lora.multicast_groups.clear()
    lora.municipality, lora.owner = municipality, owner
    lora.save()
    for place in {before, municipality.pk}:
        audit.log(
            actor,
            "lorawan.device.move",
            lora.dev_eui,
            municipality_id=place,
            to=municipality.slug,
            owner=owner.name if owner else "",
        )
    notify()
