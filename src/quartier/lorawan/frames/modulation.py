"""How a frame is put on the air. A region numbers what it uses; see ``regions``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lora:
    """LoRa, coding rate 4/5."""

    spreading_factor: int
    bandwidth_hz: int

    @property
    def name(self) -> str:
        """As packet forwarders spell it, such as SF7BW125."""
        return f"SF{self.spreading_factor}BW{self.bandwidth_hz // 1000}"


@dataclass(frozen=True, slots=True)
class Fsk:
    """Frequency shift keying."""

    bit_rate: int

    @property
    def name(self) -> str:
        """Such as FSK50, in kilobits per second."""
        return f"FSK{self.bit_rate // 1000}"


@dataclass(frozen=True, slots=True)
class LrFhss:
    """LR-FHSS, only up. ``coding_rate`` is 1/3 or 2/3; ``width_hz`` the width that it hops in."""

    coding_rate: str
    width_hz: int

    @property
    def name(self) -> str:
        """As packet forwarders spell it, such as M0CW137."""
        return f"M0CW{self.width_hz // 1000}"


DataRate = Lora | Fsk | LrFhss
