"""Handing frames to gateways and peers, and carrying the true result back.

The best reception's gateway comes first; where it refuses in time, the next best one gets the same frame. A gateway
that says nothing has not sent: that is a failure like any other.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from quartier.lorawan import metrics
from quartier.lorawan.frames.regions import Region
from quartier.lorawan.network import lines
from quartier.lorawan.sessions import Device
from quartier.lorawan.store import Item, Store
from quartier.lorawan.types import (
    Eui,
    Reception,
    Transmission,
    TransmitError,
    TransmitResult,
    Transmitter,
    Window,
)

# Less than this before its last window, a frame is not given to another gateway any more.
_LEAD_S: Final = 0.08
_GATEWAYS: Final = 3
SENDINGS: Final = 2
"""How often a downlink is tried where gateways fail, or a confirmed one where the device is silent: once more each."""
CONFIRMED_SENDINGS: Final = 3

PRIORITY_DATA, PRIORITY_MAC, PRIORITY_URGENT = 0, 1, 2


class Sender:
    """Sends for one network server."""

    def __init__(self, store: Store, transmitters: Mapping[str, Transmitter]) -> None:
        self._store = store
        self._transmitters = transmitters
        self._numbers = itertools.count(1)

    async def answer(
        self,
        phy: bytes,
        windows: Sequence[Window],
        receptions: Sequence[Reception],
        *,
        device: Device,
        priority: int,
    ) -> tuple[TransmitResult, Reception]:
        """Send in a receive window of what was heard. The windows must be open to at least one reception."""
        last = max(window.delay_s or 0 for window in windows)
        best = receptions[0]
        result = TransmitResult(
            id=0,
            ok=False,
            error=TransmitError.NOT_ALLOWED,
            detail="no gateway can answer",
            gateway=best.gateway,
        )
        for number, reception in enumerate(receptions[:_GATEWAYS]):
            if number and time.monotonic() > best.received_monotonic + last - _LEAD_S:
                break
            transmitter = self._transmitters.get(reception.peer)
            if transmitter is None:
                continue
            context = dict(reception.context)
            if reception.token:
                context["token"] = reception.token
            result = await transmitter.transmit(
                Transmission(
                    id=next(self._numbers),
                    gateway=reception.gateway,
                    phy=phy,
                    windows=tuple(windows),
                    context=context,
                    received_monotonic=reception.received_monotonic,
                    device=device.eui,
                    priority=priority,
                )
            )
            best = reception
            if result.ok or result.error is TransmitError.NO_CONFIRMATION:
                # After silence nobody knows; a second gateway could send over the first.
                break
        return result, best

    async def now(
        self,
        phy: bytes,
        windows: Sequence[Window],
        *,
        gateway: Eui,
        peer: str,
        device: Device | None,
        priority: int,
        gps_time_ms: int | None = None,
    ) -> TransmitResult:
        """Send as soon as possible, for devices that listen always; or at a GPS time, for ping slots."""
        transmitter = self._transmitters.get(peer)
        number = next(self._numbers)
        if transmitter is None:
            return TransmitResult(
                id=number, ok=False, error=TransmitError.PEER, detail="no such peer", gateway=gateway
            )
        return await transmitter.transmit(
            Transmission(
                id=number,
                gateway=gateway,
                phy=phy,
                windows=tuple(windows),
                device=device.eui if device else None,
                priority=priority,
                gps_time_ms=gps_time_ms,
            )
        )

    def note(
        self,
        phy: bytes,
        windows: Sequence[Window],
        result: TransmitResult,
        region: Region,
        *,
        municipality: str,
        gateway: Eui,
        peer: str,
        device: Device | None = None,
        dev_addr: int | None = None,
        counter: int | None = None,
        port: int | None = None,
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Count a transmission, and write it into the frame log."""
        metrics.DOWNLINKS.labels("ok" if result.ok else str(result.error)).inc()
        if not peer:
            hour = self._store.frames.hour(gateway)
            if result.ok:
                used = windows[result.window or 0] if (result.window or 0) < len(windows) else windows[0]
                hour.sent += 1
                hour.airtime_s += result.airtime_s or lines.airtime_s(region, used.data_rate, len(phy))
            else:
                hour.failed += 1
        self._store.frames.add(
            lines.down(
                phy,
                windows,
                result,
                municipality=municipality,
                gateway=gateway,
                peer=peer,
                device=device,
                dev_addr=dev_addr,
                counter=counter,
                port=port,
                detail=detail,
            )
        )

    def conclude(
        self, item: Item, result: TransmitResult, *, gateway: Eui, peer: str, where: str = ""
    ) -> None:
        """Tell the queue what became of an item that was sent, or was not. ``where`` is told with the detail."""
        queue = self._store.queue
        detail = "; ".join(one for one in (where, result.detail) if one)
        if result.ok:
            queue.tell(
                item,
                "sent",
                detail=detail,
                gateway=(result.gateway or gateway).hex(),
                peer=peer,
                sent_at=result.at,
            )
            return
        # Where no gateway has the time for a ping slot, the next uplink's windows are still to come.
        failed = item.attempts >= SENDINGS and result.error is not TransmitError.GPS_UNLOCKED
        queue.tell(
            item,
            "failed" if failed else "queued",
            reason=str(result.error or "failed"),
            detail=detail,
            gateway=gateway.hex(),
            peer=peer,
        )

    def unanswered(self, item: Item) -> None:
        """A confirmed downlink was sent, and the device did not say that it has it."""
        state = "failed" if item.attempts >= CONFIRMED_SENDINGS else "queued"
        self._store.queue.tell(item, state, reason="not_acknowledged")
