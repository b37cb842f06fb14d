"""The radio side of the virtual networks: which gateways hear a device, how well, and on which channel.

Both network servers tell these facts with every frame; here they are made once, as numbers, for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .noise import between, mix
from .places import east_north_km, places
from .world import Device, World

# The eight channels of EU868 in the numbering of common gateways: 867.1 … 867.9, then 868.1 … 868.5 MHz.
CHANNELS_HZ = (867100000, 867300000, 867500000, 867700000, 867900000, 868100000, 868300000, 868500000)
# LoRaWAN MAC header, frame header without options, port and MIC.
FRAME_OVERHEAD_BYTES = 13
FLOOR_DBM = -121.0
GATEWAY_SITES = {
    "dortmund": (
        "City", "Westfalenhalle", "Nordmarkt", "Eving", "Scharnhorst", "Brackel", "Aplerbeck", "Hörde", "Höchsten",
        "Hombruch", "Eichlinghofen", "Lütgendortmund", "Huckarde", "Mengede", "Brechten", "Wickede",
    ),
    "schwerte": ("Altstadt", "Schwerterheide", "Ergste", "Westhofen", "Geisecke"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway of one of the networks."""

    number: int
    hex_id: str
    municipality: str
    lon: float
    lat: float
    altitude_m: float


@dataclass(frozen=True, slots=True)
class Reception:
    """How one gateway heard one frame."""

    gateway: Gateway
    rssi_dbm: int
    snr_db: float
    counter_us: int


@dataclass(frozen=True, slots=True)
class Frame:
    """The radio facts of one frame."""

    channel: int
    frequency_hz: int
    spreading_factor: int
    data_rate: int
    size_bytes: int
    receptions: tuple[Reception, ...]


def _gateways() -> tuple[Gateway, ...]:
    found: list[Gateway] = []
    for slug, names in GATEWAY_SITES.items():
        known = {place.name: place for place in places()[slug]}
        for name in names:
            place, number = known[name], len(found) + 1
            found.append(
                Gateway(
                    number, f"000005e0d0{number:06x}", slug, place.lon, place.lat, place.altitude_m + 25.0
                )
            )
    return tuple(found)


GATEWAYS = _gateways()


def airtime_ms(spreading_factor: int, size_bytes: int) -> float:
    """Time on air at 125 kHz and coding rate 4/5 with header and CRC (Semtech AN1200.13)."""
    symbol_ms = (1 << spreading_factor) / 125.0
    low_rate = 1 if spreading_factor >= 11 else 0
    bits = 8 * size_bytes - 4 * spreading_factor + 28 + 16
    symbols = 8 + max(0, math.ceil(bits / (4 * (spreading_factor - 2 * low_rate))) * 5)
    return round((12.25 + symbols) * symbol_ms, 3)


class Radio:
    """What the gateways hear of the devices of a world."""

    def __init__(self, world: World) -> None:
        self._heard_by = [self._best(world, device) for device in world.devices]

    def _best(self, world: World, device: Device) -> tuple[tuple[Gateway, float], ...]:
        """The four best gateways of a device's own network and the mean signal there, best first."""
        spot = world.thing_of(device).spot
        heard = []
        for gateway in GATEWAYS:
            if gateway.municipality != device.municipality:
                continue
            east_km, north_km = east_north_km(gateway.lon, gateway.lat)
            distance_km = max(0.05, math.hypot(east_km - spot.east_km, north_km - spot.north_km))
            # Log-distance loss of a town with an exponent of 3.4, and a shadow that belongs to the pair.
            shadow_db = between(-7.0, 7.0, device.seed, 301, gateway.number)
            heard.append((gateway, -58.0 - 34.0 * math.log10(distance_km / 0.1) + shadow_db))
        heard.sort(key=lambda pair: -pair[1])
        return tuple(heard[:4])

    def spreading_factor(self, device: Device) -> int:
        """What adaptive data rate has settled on for a device."""
        best = self._heard_by[device.index][0][1]
        if best > -108.0:
            return 7
        return 8 if best > -112.0 else 9 if best > -116.0 else 10

    def frame(self, device: Device, frame_count: int, sent_us: int, payload_bytes: int) -> Frame:
        """The radio facts of a device's frame; at least one gateway hears it."""
        factor = self.spreading_factor(device)
        channel = mix(device.seed, 302, frame_count) % len(CHANNELS_HZ)
        receptions = []
        for rank, (gateway, mean_dbm) in enumerate(self._heard_by[device.index]):
            draw = mix(device.seed, 304, frame_count, gateway.number)
            signal = mean_dbm + (draw & 0xFFFF) / 6553.6 - 5.0  # 5 dB up or down
            if rank > 0 and (signal < FLOOR_DBM or draw >> 16 & 0xFFFF < 0x3000):
                continue
            # The noise floor of 125 kHz at 6 dB noise figure is about -117 dBm; receivers report at most some 10 dB.
            snr = min(10.5, max(-15.0, signal + 117.0))
            counter = (sent_us + gateway.number * 98_765_431) & 0xFFFF_FFFF
            receptions.append(
                Reception(gateway, round(max(signal, FLOOR_DBM)), round(snr * 4.0) / 4.0, counter)
            )
        return Frame(
            channel=channel,
            frequency_hz=CHANNELS_HZ[channel],
            spreading_factor=factor,
            data_rate=12 - factor,
            size_bytes=payload_bytes + FRAME_OVERHEAD_BYTES,
            receptions=tuple(receptions),
        )
