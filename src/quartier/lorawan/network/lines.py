"""Lines of the frame log: what was heard or sent, told so that a person understands it later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from quartier.lorawan.frames import airtime
from quartier.lorawan.frames.commands import Command
from quartier.lorawan.frames.phy import FrameType
from quartier.lorawan.frames.regions import Region
from quartier.lorawan.sessions import Device
from quartier.lorawan.store import Line
from quartier.lorawan.store.frames import Heard
from quartier.lorawan.types import Reception, TransmitResult, Window

_KINDS: Final = tuple(one.name.lower() for one in FrameType)


def kind_of(phy: bytes) -> str:
    """The type of a frame by its first bits."""
    return _KINDS[phy[0] >> 5] if phy else "empty"


def names(commands: Iterable[Command]) -> list[str]:
    """Commands by name."""
    return [type(one).__name__ for one in commands]


def up(
    phy: bytes,
    receptions: Sequence[Reception],
    outcome: str,
    *,
    municipality: str,
    device: Device | None = None,
    dev_addr: int | None = None,
    counter: int | None = None,
    port: int | None = None,
    detail: dict[str, Any] | None = None,
) -> Line:
    """A frame that was heard."""
    best = receptions[0]
    return Line(
        at=best.received_at,
        municipality=municipality,
        device_id=device.id if device else None,
        dev_eui=device.eui.hex() if device else "",
        dev_addr=f"{dev_addr:08x}" if dev_addr is not None else "",
        direction="up",
        kind=kind_of(phy),
        outcome=outcome,
        counter=counter,
        port=port,
        size=len(phy),
        data_rate=best.data_rate,
        frequency_hz=best.frequency_hz,
        gateways=[
            Heard(eui=one.gateway.hex(), rssi_dbm=one.rssi_dbm, snr_db=one.snr_db, peer=one.peer)
            for one in receptions
        ],
        detail=detail or {},
    )


def down(
    phy: bytes,
    windows: Sequence[Window],
    result: TransmitResult,
    *,
    municipality: str,
    gateway: bytes,
    peer: str,
    device: Device | None = None,
    dev_addr: int | None = None,
    counter: int | None = None,
    port: int | None = None,
    detail: dict[str, Any] | None = None,
) -> Line:
    """A frame that was sent, or was to be sent."""
    window = windows[result.window if result.window is not None and result.window < len(windows) else 0]
    told = dict(detail or {})
    if result.window is not None:
        told["window"] = result.window
    if result.detail:
        told["detail"] = result.detail[:200]
    return Line(
        at=result.at or datetime.now(UTC),
        municipality=municipality,
        device_id=device.id if device else None,
        dev_eui=device.eui.hex() if device else "",
        dev_addr=f"{dev_addr:08x}" if dev_addr is not None else "",
        direction="down",
        kind=kind_of(phy),
        outcome="ok" if result.ok else str(result.error or "failed"),
        counter=counter,
        port=port,
        size=len(phy),
        data_rate=window.data_rate,
        frequency_hz=window.frequency_hz,
        gateways=[Heard(eui=gateway.hex(), peer=peer)],
        detail=told,
    )


def airtime_s(region: Region, data_rate: int, size: int) -> float:
    """Seconds on air of a downlink."""
    return airtime.time_on_air_s(region.data_rate(data_rate), size, crc=False)
