"""What a device is to do, in the words of its codec."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext

from quartier.intake import domain as intake
from quartier.intake.codecs.calls import CodecError
from quartier.intake.models import Codec
from quartier.lorawan.domain.errors import LoraError
from quartier.lorawan.models import LoraDevice


def encode_command(lora: LoraDevice, command: dict[str, Any], port: int | None = None) -> tuple[bytes, int]:
    """Payload and port that the ``encodeDownlink`` (TS013) of the device type's codec makes of a command.

    ``port`` holds where the codec names none. Raises LoraError.
    """
    device_type = lora.device.device_type
    codec = (
        Codec.objects.filter(device_type=device_type, active=True).order_by("-version").first()
        if device_type is not None
        else None
    )
    if codec is None:
        raise LoraError("command", gettext("Dem Gerät fehlt ein Typ mit Codec."))
    encoded = intake.encode_downlink(codec.script, command, port=port)
    if isinstance(encoded, CodecError):
        raise LoraError("command", gettext("Der Codec kann das nicht: %(why)s") % {"why": encoded.detail})
    chosen = encoded.port or port
    if chosen is None:
        raise LoraError("port", gettext("fehlt"))
    return encoded.payload, chosen
