"""Telling the process ``radio`` that something was changed, and opening the keyring on the side of the pages."""

from __future__ import annotations

from typing import Final

from django.db import connection

from quartier.lorawan.keyring import Keyring
from quartier.lorawan.models import DataKey

CHANNEL: Final = "lorawan_changed"


def notify() -> None:
    """Sent with the transaction: the radio hears of what is committed."""
    with connection.cursor() as cursor:
        cursor.execute(f"NOTIFY {CHANNEL}")


def keyring() -> Keyring:
    """The installation's keyring; made on first use. Raises SecretError."""
    row, _ = DataKey.objects.get_or_create(id=1, defaults={"sealed": Keyring.make()})
    return Keyring.of(row.sealed)
