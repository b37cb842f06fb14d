"""Tasks for devices of our own radio network: through the device type's codec into its downlink queue."""

from __future__ import annotations

from typing import Final

from asgiref.sync import sync_to_async
from django.db import connection

from quartier.cities.rules import Actor
from quartier.interfaces.sensorthings.tasking.downlinks import Later, Order, Undeliverable
from quartier.lorawan.domain import LoraError, encode_command, enqueue
from quartier.lorawan.domain.downlinks import MAXIMUM_WAITING
from quartier.lorawan.message import SOURCE
from quartier.lorawan.models import Downlink, LoraDevice

RADIO_SOURCE: Final = SOURCE


class RadioDownlinks:
    """The network server as a way to devices; implements ``Downlinks``.

    Who may give a task for a thing may care for its devices, so rights are not asked again here.
    """

    async def send(self, order: Order) -> str:
        """Queue the order; given again after a crash, it is found in the queue. Raises Undeliverable and Later."""
        return await sync_to_async(_send, thread_sensitive=False)(order)


def _send(order: Order) -> str:
    try:
        return _queue(order)
    finally:
        # This thread belongs to nobody who would give the connection back.
        connection.close()


def _queue(order: Order) -> str:
    lora = (
        LoraDevice.objects.select_related("device__device_type")
        .filter(municipality__slug=order.municipality, dev_eui=order.device)
        .first()
    )
    if lora is None:
        raise Undeliverable(f"{order.device} is no device of the radio network of {order.municipality}")
    asked_by = f"SensorThings Task {order.task_id}"
    downlink = Downlink.objects.filter(device=lora, requested_by=asked_by).first()
    if downlink is None:
        if lora.downlinks.filter(state="queued").count() >= MAXIMUM_WAITING:
            raise Later("too many downlinks wait for this device")
        metadata = order.metadata if isinstance(order.metadata, dict) else {}
        port = metadata.get("port")
        try:
            payload, port = encode_command(lora, order.parameters, port if isinstance(port, int) else None)
            downlink = enqueue(
                Actor(asked_by, superuser=True),
                lora,
                payload,
                port=port,
                confirmed=bool(metadata.get("confirmed", True)),
            )
        except LoraError as error:
            raise Undeliverable(str(error)) from None
    return f"downlink {downlink.pk} is queued for {order.device}"
