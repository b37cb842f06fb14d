"""Tell the running pipelines when something that they keep in memory was changed."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import connection
from django.db.models.signals import post_delete, post_save

from quartier.intake.catalogue import CHANNEL

_WATCHED = (
    "cities.Municipality",
    "twin.Thing",
    "twin.Device",
    "twin.Deployment",
    "twin.DeviceType",
    "twin.ObservedProperty",
    "intake.Codec",
    "intake.FieldMapping",
    "sources.Source",
)


def notify(**_: Any) -> None:
    """Sent with the transaction: whoever listens hears of what is committed."""
    with connection.cursor() as cursor:
        cursor.execute(f"NOTIFY {CHANNEL}")


def connect() -> None:
    """Watch the tables."""
    for label in _WATCHED:
        for signal in (post_save, post_delete):
            signal.connect(
                notify, sender=apps.get_model(label), dispatch_uid=f"catalogue {label} {id(signal)}"
            )
