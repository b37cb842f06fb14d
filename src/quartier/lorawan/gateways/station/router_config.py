"""``router_config``: what a Station is told of the region, and how it sets up its radio for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from quartier.lorawan.frames.modulation import Fsk, Lora
from quartier.lorawan.frames.regions import Region

# Station's own names of regions.
_NAMES: Final = {"EU868": "EU863"}
_DATA_RATES: Final = 16
_MULTI_SF: Final = 8
_REACH_HZ: Final = 400_000
"""How far from the middle of a radio (SX1257, 125 kHz channels) its channels may lie."""
_USUAL_HZ: Final = (
    868_100_000,
    868_300_000,
    868_500_000,
    867_100_000,
    867_300_000,
    867_500_000,
    867_700_000,
    867_900_000,
)


class ChannelPlanError(ValueError):
    """Frequencies that one concentrator cannot hear at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RadioPlan:
    """What a Station's concentrator listens to.

    ``net_ids`` (types 0: 0…127) and ``join_euis`` (ranges) let it drop foreign frames itself; None lets all pass, which
    roaming and a full frame log need.
    """

    frequencies_hz: tuple[int, ...] = _USUAL_HZ
    wide_hz: int | None = 868_300_000
    fsk_hz: int | None = 868_800_000
    hardware: str = "sx1301/1"
    net_ids: tuple[int, ...] | None = None
    join_euis: tuple[tuple[int, int], ...] | None = None


def router_config(region: Region, plan: RadioPlan, *, now: float, beacons: bool = False) -> dict[str, Any]:
    """The message. Raises ChannelPlanError where the frequencies do not fit one concentrator.

    ``beacons``: the Station sends the beacons of class B by itself, whenever it has time and position by GPS.
    """
    config: dict[str, Any] = {
        "msgtype": "router_config",
        "region": _NAMES.get(region.name, region.name),
        "hwspec": plan.hardware,
        "freq_range": [region.low_hz, region.high_hz],
        "DRs": _data_rates(region),
        "upchannels": [
            [hz, region.adr_data_rates[0], region.adr_data_rates[-1]] for hz in plan.frequencies_hz
        ],
        "max_eirp": region.max_eirp_dbm,
        "sx1301_conf": [_concentrator(plan)],
        "NetID": None if plan.net_ids is None else list(plan.net_ids),
        "JoinEui": None if plan.join_euis is None else [list(one) for one in plan.join_euis],
        "bcning": {
            "DR": region.beacon_data_rate,
            "layout": list(region.beacon_layout),
            "freqs": [region.beacon_frequency_hz],
        }
        if beacons
        else None,
        "MuxTime": now,
    }
    return config


def _data_rates(region: Region) -> list[list[int]]:
    rates: list[list[int]] = []
    for index in range(_DATA_RATES):
        rate = region.data_rates.get(index)
        if isinstance(rate, Lora):
            rates.append([rate.spreading_factor, rate.bandwidth_hz // 1000, 0])
        elif isinstance(rate, Fsk):
            rates.append([0, 0, 0])
        else:
            rates.append([-1, 0, 0])
    return rates


def _middles(frequencies_hz: Sequence[int]) -> tuple[int, int | None]:
    """The centres of the two radios: the second takes what the first does not reach."""
    ordered = sorted(frequencies_hz)
    first = [hz for hz in ordered if hz - ordered[0] <= 2 * _REACH_HZ]
    rest = ordered[len(first) :]
    if rest and rest[-1] - rest[0] > 2 * _REACH_HZ:
        raise ChannelPlanError(f"{rest[-1]} Hz is too far from the other channels")
    return (first[0] + first[-1]) // 2, (rest[0] + rest[-1]) // 2 if rest else None


def _concentrator(plan: RadioPlan) -> dict[str, Any]:
    if not 0 < len(plan.frequencies_hz) <= _MULTI_SF:
        raise ChannelPlanError(f"one to {_MULTI_SF} channels, not {len(plan.frequencies_hz)}")
    special = [hz for hz in (plan.wide_hz, plan.fsk_hz) if hz is not None]
    middle, other = _middles([*plan.frequencies_hz, *special])
    radios = [middle] if other is None else [middle, other]

    def channel(hz: int, **more: Any) -> dict[str, Any]:
        number, centre = min(enumerate(radios), key=lambda radio: abs(hz - radio[1]))
        return {"enable": True, "radio": number, "if": hz - centre, **more}

    off = {"enable": False}
    config: dict[str, Any] = {
        "radio_0": {"enable": True, "freq": middle},
        "radio_1": off if other is None else {"enable": True, "freq": other},
        "chan_Lora_std": off
        if plan.wide_hz is None
        else channel(plan.wide_hz, bandwidth=250_000, spread_factor=7),
        "chan_FSK": off if plan.fsk_hz is None else channel(plan.fsk_hz, bandwidth=125_000, datarate=50_000),
    }
    for number in range(_MULTI_SF):
        config[f"chan_multiSF_{number}"] = (
            channel(plan.frequencies_hz[number]) if number < len(plan.frequencies_hz) else off
        )
    return config
