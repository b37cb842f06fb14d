"""Messages for benchmarks: ChirpStack uplinks with ten readings each, made as cheaply as possible.

The constant parts of each device's message are rendered once; per event only time, counters and payload are filled
in. The codec is ``codecs/virtual-load.js``; device EUIs begin with ``02005eff``.
"""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from .messages import from_us, uuid_of
from .noise import mix

APPLICATION_ID = uuid_of(801)
TYPE_KEY = "virtual-load"
_PAYLOAD = struct.Struct(">B10h")
_MARKER = 0x99
# Values of the ten channels in hundredths: a base, and how far a message may be from it.
_BASES = (1500, 6000, 300, 500, 20, 80, 1200, 2500, 1100, 300)


@dataclass(frozen=True, slots=True)
class LoadDevice:
    """A device of the load generator, as it must be registered before a benchmark."""

    dev_eui: str
    name: str


def load_devices(n_devices: int) -> list[LoadDevice]:
    """The devices that ``chirpstack_events`` speaks for."""
    return [LoadDevice(f"02005eff{number:08x}", f"LAST-{number:05d}") for number in range(1, n_devices + 1)]


def payload(bits: int) -> bytes:
    """A payload whose ten values vary with 64 random bits; all stay within the limits of their properties."""
    return _PAYLOAD.pack(_MARKER, *[base + (bits >> shift & 0x1F) for shift, base in enumerate(_BASES)])


def chirpstack_events(
    n_devices: int, seed: int = 1, start_us: int | None = None
) -> Iterator[tuple[str, bytes]]:
    """Endless uplinks as (topic, JSON), one device after the other.

    Times are the real time of making, or, with ``start_us``, begin there and advance by one millisecond per event, so
    that the same arguments give the same bytes.
    """
    prepared = []
    for number, device in enumerate(load_devices(n_devices), start=1):
        head = (
            f'"deviceInfo":{{"tenantId":"{uuid_of(802)}","tenantName":"Last","applicationId":"{APPLICATION_ID}",'
            f'"applicationName":"Last","deviceProfileId":"{uuid_of(803)}","deviceProfileName":"Lastgenerator",'
            f'"deviceName":"{device.name}","devEui":"{device.dev_eui}","deviceClassEnabled":"CLASS_A","tags":{{}}}},'
            f'"devAddr":"{0x00A0_0000 + number:08x}","adr":true,"dr":5,"fCnt":'
        )
        tail = (
            '","rxInfo":[{"gatewayId":"000005e0d0000fff","uplinkId":1,"rssi":-82,"snr":8.5,"channel":2,'
            '"context":"AAAAAA==","metadata":{"region_common_name":"EU868","region_config_id":"eu868"},'
            '"crcStatus":"CRC_OK"}],"txInfo":{"frequency":868100000,"modulation":{"lora":{"bandwidth":125000,'
            '"spreadingFactor":7,"codeRate":"CR_4_5"}}}}'
        )
        prepared.append((f"application/{APPLICATION_ID}/device/{device.dev_eui}/event/up", head, tail))
    second, stamp = -1, ""
    number = 0
    for frame_count in count():
        for topic, head, tail in prepared:
            time_us = time.time_ns() // 1000 if start_us is None else start_us + 1000 * number
            whole_s, micro = divmod(time_us, 1_000_000)
            if whole_s != second:
                second, stamp = whole_s, from_us(whole_s * 1_000_000).strftime("%Y-%m-%dT%H:%M:%S")
            bits = mix(seed, number)
            data = base64.b64encode(payload(bits)).decode()
            message = (
                f'{{"deduplicationId":"{bits >> 32:08x}-0000-4000-8000-{number:012x}",'
                f'"time":"{stamp}.{micro:06d}+00:00",{head}{frame_count},"fPort":99,"confirmed":false,"data":"{data}{tail}'
            )
            yield topic, message.encode()
            number += 1
