"""The numbers of both cities' networks, and where their servers listen in a demo. Loads nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NET_IDS: Final = {"dortmund": "000000", "schwerte": "000001"}
"""Both may be used by anybody; they belong to nobody (TS002 §13)."""
DEV_ADDRS: Final = {"dortmund": "00D00000/12", "schwerte": "02500000/12"}
JOIN_EUIS: Final = {"dortmund": "025e00fffe0d0001", "schwerte": "025e00fffe0d0002"}


@dataclass(frozen=True, slots=True)
class RadioPorts:
    """Where a city's network server listens on 127.0.0.1: packet forwarders (UDP), Stations, peers."""

    udp: int
    station: int
    roaming: int = 0

    @classmethod
    def parse(cls, text: str) -> tuple[str, RadioPorts]:
        """From ``dortmund=1700:3001:7800``, the last one only where peers are meant. Raises ValueError."""
        city, _, numbers = text.partition("=")
        ports = numbers.split(":")
        if not city or len(ports) not in (2, 3) or not all(one.isdigit() for one in ports):
            raise ValueError(f"{text!r}: CITY=UDPPORT:STATIONPORT[:ROAMINGPORT] is expected")
        return city, cls(*(int(one) for one in ports))

    def __str__(self) -> str:
        return f"{self.udp}:{self.station}:{self.roaming}"
