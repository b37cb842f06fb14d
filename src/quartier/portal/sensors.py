"""What a maker's page knows about her sensor: whether it was heard, what it said, why it was refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from quartier.cities import audit
from quartier.cities.rules import Actor
from quartier.config import config
from quartier.intake.models import RefusedMessage
from quartier.sources.domain.makers import SOURCE_KEY
from quartier.twin import queries, units
from quartier.twin.models import Deployment, Device, Thing

# What a maker can do about a refusal; other reasons are shown with their technical detail alone.
REASONS: Final = {
    "not_json": _("Die Nachricht ist kein lesbares JSON. Prüfen Sie Klammern und Anführungszeichen."),
    "not_csv": _("Die Zeilen sind nicht lesbar. Erwartet wird Sensor, Wert und, wenn Sie wollen, die Zeit."),
    "missing_field": _("Der Nachricht fehlt eine Angabe."),
    "unknown_field": _("Die Nachricht enthält eine Angabe, die wir nicht kennen."),
    "wrong_type": _("Eine Angabe hat die falsche Art, etwa Text, wo eine Zahl stehen soll."),
    "bad_value": _("Ein Wert ist keine Zahl oder unmöglich für diese Messgröße."),
    "bad_unit": _("Die Einheit lässt sich nicht in die der Messgröße umrechnen."),
    "bad_time": _("Die Zeit ist nicht lesbar oder liegt zu weit in der Vergangenheit oder Zukunft."),
    "no_known_field": _("Keine der gesendeten Messgrößen ist bekannt. Prüfen Sie die Namen."),
    "unknown_device": _("Der Name des Sensors in der Nachricht stimmt nicht mit dem hier überein."),
    "too_large": _("Die Nachricht ist zu groß."),
}
_EXAMPLES: Final = {
    "air_temperature": "21.4",
    "relative_humidity": "58",
    "pm2_5": "7.3",
    "pm10": "11.8",
    "air_pressure": "1013.2",
    "precipitation": "0.2",
    "wind_speed": "2.1",
    "illuminance": "8200",
    "soil_moisture": "31.5",
    "soil_temperature": "12.6",
    "water_level": "0.34",
    "water_temperature": "9.8",
    "noise_level": "47",
    "co2": "612",
}


@dataclass(frozen=True, slots=True)
class Value:
    """A newest reading in words."""

    name: str
    text: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the newest message was refused."""

    at: datetime
    words: str
    detail: str


@dataclass(frozen=True, slots=True)
class Status:
    """``values`` where something was recorded; ``refusal`` where the last word was a refusal."""

    values: list[Value]
    refusal: Refusal | None

    @property
    def heard(self) -> bool:
        """Whether the sensor has arrived: nothing more to wait for."""
        return bool(self.values)


def device_of(thing: Thing) -> Device | None:
    """The device that is at the thing now."""
    deployment = thing.deployments.filter(until=None).select_related("device").first()
    return deployment.device if deployment else None


def status(thing: Thing, device: Device) -> Status:
    """What is known of the sensor's messages."""
    language = get_language() or "de"
    german = not language.startswith("en")
    series = {s.pk: s for s in thing.series.select_related("observed_property")}
    values = []
    for pk, latest in queries.latest(series).items():
        prop = series[pk].observed_property
        text = (
            str(latest.value)
            if latest.result is None
            else units.display_value(latest.result, series[pk].unit, prop.decimals, language)
        )
        values.append(Value(prop.name_de if german else prop.name_en, text, latest.time))
    newest = max((value.time for value in values), default=None)
    refused = (
        RefusedMessage.objects.filter(
            # What cannot be read does not name its device; the door that took it in has noted it.
            Q(external_id=device.external_id) | Q(headers__device=device.external_id),
            municipality_id=device.municipality_id,
            source_key=SOURCE_KEY,
            resolved_at=None,
            at__gte=device.created_at,
        )
        .only("at", "reason", "detail")
        .first()
    )
    refusal = None
    if refused is not None and (newest is None or refused.at > newest):
        refusal = Refusal(refused.at, str(REASONS.get(refused.reason, refused.reason)), refused.detail)
    return Status(sorted(values, key=lambda value: value.name), refusal)


def example_values(slugs: list[str]) -> list[tuple[str, str]]:
    """Property and an ordinary value of it, for examples to copy."""
    return [(slug, _EXAMPLES[slug]) for slug in slugs if slug in _EXAMPLES] or [("air_temperature", "21.4")]


def broker() -> tuple[str, int]:
    """Host and port under which makers reach the MQTT broker."""
    settings = config()
    return urlsplit(settings.public_url).hostname or settings.mqtt_host, settings.mqtt_port


@transaction.atomic
def retire(actor: Actor, thing: Thing) -> None:
    """Take a sensor of the actor's own out of service; what it measured stays."""
    now = timezone.now()
    for deployment in Deployment.objects.filter(thing=thing, until=None).select_related("device"):
        deployment.until = now
        deployment.save(update_fields=["until"])
        Device.objects.filter(pk=deployment.device_id).update(active=False)
    audit.log(actor, "sensor.retire", thing, municipality_id=thing.municipality_id, thing=thing.pk)
