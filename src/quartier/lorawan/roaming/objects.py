"""Objects inside Backend Interfaces messages (TS002 1.0 tables 15 to 23)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from quartier.lorawan.roaming.fields import (
    MAX_GATEWAYS,
    DevAddrHex,
    Eui64,
    Hex,
    Oui,
    RatePolicy,
    Region,
    ResultCode,
    TokenHex,
)
from quartier.lorawan.roaming.names import NAMES

Short = Annotated[str, msgspec.Meta(max_length=200)]
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
DataRate = Annotated[int, msgspec.Meta(ge=0, le=15)]
Counter = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=10 * 366 * 86_400)]
Megahertz = Annotated[float, msgspec.Meta(ge=1, le=10_000)]
Lat = Annotated[float, msgspec.Meta(ge=-90, le=90)]
Lon = Annotated[float, msgspec.Meta(ge=-180, le=180)]


class Part(msgspec.Struct, omit_defaults=True, rename=NAMES.get, gc=False):
    """Anything inside a message: unset fields are left out, unknown ones of others ignored."""


class Result(Part, kw_only=True):
    """How a request went (table 15)."""

    code: ResultCode
    description: Annotated[str, msgspec.Meta(max_length=2000)] = ""


class KeyEnvelope(Part, kw_only=True):
    """A session key: wrapped (RFC 3394) where it has a label, else in the clear (table 16)."""

    kek_label: Short = ""
    aes_key: Hex


class Extension(Part, kw_only=True):
    """A vendor's own object (table 23); what is not recognised is ignored."""

    vendor_id: Oui
    object: Any = None


class Gateway(Part, kw_only=True):
    """How one gateway heard the frame, or a gateway that may send (table 21)."""

    id: Hex | None = None
    fine_time_ns: Annotated[int, msgspec.Meta(ge=0, lt=1_000_000_000)] | None = None
    region: Region | None = None
    rssi_dbm: int | float | None = None
    snr_db: float | None = None
    lat: Lat | None = None
    lon: Lon | None = None
    token: TokenHex | None = None
    downlink_allowed: bool | None = None


Gateways = Annotated[list[Gateway], msgspec.Meta(max_length=MAX_GATEWAYS)]


class Uplink(Part, kw_only=True):
    """ULMetaData (table 20)."""

    dev_eui: Eui64 | None = None
    dev_addr: DevAddrHex | None = None
    f_port: Byte | None = None
    f_cnt_down: Counter | None = None
    f_cnt_up: Counter | None = None
    confirmed: bool | None = None
    data_rate: DataRate | None = None
    frequency_mhz: Megahertz | None = None
    margin_db: int | None = None
    battery: Byte | None = None
    fns_token: TokenHex | None = None
    received_at: datetime | None = None
    region: Region | None = None
    gateway_count: Annotated[int, msgspec.Meta(ge=0)] | None = None
    gateways: Gateways | None = None  # a Go server writes null for an empty list


class Downlink(Part, kw_only=True):
    """DLMetaData (table 22). Class A carries RXDelay1; class C only the second window."""

    dev_eui: Eui64 | None = None
    f_port: Byte | None = None
    f_cnt_down: Counter | None = None
    confirmed: bool = False
    rx1_frequency_mhz: Megahertz | None = None
    rx2_frequency_mhz: Megahertz | None = None
    rx1_delay_s: Annotated[int, msgspec.Meta(ge=0, le=15)] | None = None
    class_mode: Literal["A", "B", "C"] | None = None
    rx1_data_rate: DataRate | None = None
    rx2_data_rate: DataRate | None = None
    fns_token: TokenHex | None = None
    gateways: Gateways | None = None  # a Go server writes null for an empty list
    high_priority: bool = False


class ServiceProfile(Part, kw_only=True):
    """What the home network grants (table 18); rates in frames per hour."""

    service_profile_id: Short = ""
    ul_rate_per_h: int | None = None
    ul_bucket: int | None = None
    ul_policy: RatePolicy | None = None
    dl_rate_per_h: int | None = None
    dl_bucket: int | None = None
    dl_policy: RatePolicy | None = None
    add_gateway_metadata: bool | None = None
    status_requests_per_day: int | None = None
    report_battery: bool | None = None
    report_margin: bool | None = None
    dr_min: DataRate | None = None
    dr_max: DataRate | None = None
    channel_mask: Hex | None = None
    passive_allowed: bool | None = None
    handover_allowed: bool | None = None
    activation_allowed: bool | None = None
    geolocation: bool | None = None
    target_per: float | None = None
    min_gateways: int | None = None


class DeviceProfile(Part, kw_only=True):
    """What a device can do (table 17)."""

    device_profile_id: Short = ""
    supports_class_b: bool | None = None
    supports_class_c: bool | None = None
    class_c_timeout_s: int | None = None
    mac_version: Short = ""
    reg_params_revision: Short = ""
    profile_rx1_delay_s: int | None = None
    rx1_dr_offset: int | None = None
    rx2_data_rate_bps: int | None = None
    rx2_profile_mhz: float | None = None
    preset_frequencies_mhz: Annotated[list[float], msgspec.Meta(max_length=96)] = []
    max_eirp_dbm: int | None = None
    max_duty_cycle: float | None = None
    supports_join: bool | None = None
    region: Region | None = None
    supports_32bit_f_cnt: bool | None = None
