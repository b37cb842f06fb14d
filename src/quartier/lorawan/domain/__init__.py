"""What people may do with the radio network: plain functions of the actor, with audit log.

The process ``radio`` hears of every change with the transaction that makes it (:mod:`.changes`).
"""

from quartier.lorawan.domain.commands import encode_command
from quartier.lorawan.domain.devices import (
    DeviceSettings,
    move_device,
    register_device,
    replace_keys,
    save_device,
    set_active,
)
from quartier.lorawan.domain.downlinks import (
    cancel_downlink,
    create_group,
    enqueue,
    enqueue_group,
    set_members,
)
from quartier.lorawan.domain.errors import LoraError
from quartier.lorawan.domain.gateways import make_token, save_gateway, set_disabled
from quartier.lorawan.domain.profiles import save_profile
from quartier.lorawan.domain.stations import roll_station_token, set_station, station_state
from quartier.lorawan.domain.transfer import export_devices, import_devices
from quartier.lorawan.domain.updates import (
    add_signature,
    add_update,
    assign_update,
    delete_update,
    offer_again,
    set_update,
)

__all__ = [
    "DeviceSettings",
    "LoraError",
    "add_signature",
    "add_update",
    "assign_update",
    "cancel_downlink",
    "create_group",
    "delete_update",
    "encode_command",
    "enqueue",
    "enqueue_group",
    "export_devices",
    "import_devices",
    "make_token",
    "move_device",
    "offer_again",
    "register_device",
    "replace_keys",
    "roll_station_token",
    "save_device",
    "save_gateway",
    "save_profile",
    "set_active",
    "set_disabled",
    "set_members",
    "set_station",
    "set_update",
    "station_state",
]
