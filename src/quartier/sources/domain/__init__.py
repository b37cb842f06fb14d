"""What people do with sources and devices: functions that take the actor, check the right, and write the audit log."""

from quartier.sources.domain.devices import ImportReport, RowError
from quartier.sources.domain.makers import RegistrationError, Sensor, register_sensor
from quartier.sources.domain.network import NetworkError, import_devices_from_network
from quartier.sources.domain.saving import Saved, broker_access, save_source, set_enabled, webhook_url
from quartier.sources.domain.table import COLUMNS, import_devices_csv
from quartier.sources.kinds import KINDS, Kind, Setting, SettingError

__all__ = [
    "COLUMNS",
    "KINDS",
    "ImportReport",
    "Kind",
    "NetworkError",
    "RegistrationError",
    "RowError",
    "Saved",
    "Sensor",
    "Setting",
    "SettingError",
    "broker_access",
    "import_devices_csv",
    "import_devices_from_network",
    "register_sensor",
    "save_source",
    "set_enabled",
    "webhook_url",
]
