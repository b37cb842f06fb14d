"""The network server's front: takes receptions, finds out whose frame it is, says what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import psycopg
import structlog

from quartier.cities.secrets import SecretError
from quartier.intake.conveyor import Conveyor
from quartier.lorawan import metrics
from quartier.lorawan.frames.errors import FrameError
from quartier.lorawan.frames.phy import Data, JoinRequest, Proprietary, RejoinRequest, parse
from quartier.lorawan.frames.regions import REGIONS
from quartier.lorawan.network import lines, mac_layer
from quartier.lorawan.network.collector import WINDOW_S, Collector, Frame
from quartier.lorawan.network.counters import Meaning
from quartier.lorawan.network.identify import identify
from quartier.lorawan.network.join import Accepted, Addresses, JoinRefused, JoinServer
from quartier.lorawan.network.outcome import Foreign, Outcome
from quartier.lorawan.network.sender import PRIORITY_URGENT, Sender
from quartier.lorawan.network.standing import Standing
from quartier.lorawan.network.uplinks import Uplinks
from quartier.lorawan.sessions import Device, Place
from quartier.lorawan.store import Store
from quartier.lorawan.types import Discarded, Eui, Reception, Transmitter

log = structlog.get_logger(__name__)

_MOST_TASKS: Final = 20_000
_PATIENCE_S: Final = 10.0
_REFUSED: Final = {
    Meaning.GAP: Discarded.COUNTER_GAP,
    Meaning.REPLAY: Discarded.REPLAY,
}


class Network:
    """One network server on one event loop; implements ``Receiver``.

    ``transmitters`` has our gateways under the empty key and each peer under its own; it may change while the network
    runs. A downlink through a peer's reception carries that reception's token as ``context["token"]``.
    ``window_of`` may give a frame, by its first reception, another deduplication window in seconds: roaming's, for
    devices that two networks hear.
    """

    def __init__(
        self,
        store: Store,
        transmitters: Mapping[str, Transmitter],
        foreign: Foreign,
        inbox: Conveyor,
        *,
        addresses: Addresses | None = None,
        window_s: float = WINDOW_S,
        window_of: Callable[[Reception], float | None] | None = None,
    ) -> None:
        self._store = store
        self._foreign = foreign
        self._sender = Sender(store, transmitters)
        self._uplinks = Uplinks(store, self._sender, inbox)
        self._standing = Standing(store, self._sender)
        self._collector = Collector(self._begin, window_s=window_s, window_of=window_of)
        self._tasks: set[asyncio.Task[None]] = set()
        # Found once: looking a label up costs more than counting.
        self._heard = metrics.RECEPTIONS.labels("gateway")
        self._heard_by_peers = metrics.RECEPTIONS.labels("peer")
        self.join_server = JoinServer(store, addresses or Addresses.of(0))

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``; frames that are on their way are finished."""
        try:
            await self._standing.run(stop)
        finally:
            self._collector.close()
            if self._tasks:
                _, open_ = await asyncio.wait(self._tasks, timeout=2)
                for task in open_:
                    task.cancel()
                await asyncio.gather(*open_, return_exceptions=True)

    @property
    def open_frames(self) -> int:
        """Frames that are collected or worked off."""
        return len(self._collector) + len(self._tasks)

    def wake(self) -> None:
        """Something may be new in the downlink queue."""
        self._standing.wake()

    def receive(self, reception: Reception) -> None:
        """One reception, of our own gateways or a peer's. Copies within 200 ms become one frame."""
        if reception.peer:
            self._heard_by_peers.inc()
        else:
            self._heard.inc()
            hour = self._store.frames.hour(reception.gateway)
            hour.received += 1
            hour.rssi_sum_dbm += reception.rssi_dbm
            hour.snr_sum_db += reception.snr_db
        try:
            if len(self._tasks) >= _MOST_TASKS:
                raise OverflowError("too many frames are being worked off")
            if not self._collector.add(reception):
                self._heard_late(reception)
        except OverflowError:
            metrics.FRAMES.labels(Discarded.RATE_LIMITED).inc()

    def _heard_late(self, reception: Reception) -> None:
        """A copy that a slow network brought: at least it says who can send to a device that listens by itself."""
        frame = self._collector.find(reception.phy)
        if frame is not None:
            place = (reception.gateway, reception.peer)
            # The first copies may still be worked off.
            frame.wait().add_done_callback(lambda settled: self._know_place(place, settled.result()))

    def _know_place(self, place: Place, outcome: Outcome) -> None:
        device = self._store.directory.devices.get(outcome.device) if outcome.device is not None else None
        session = device.session if device is not None and outcome.accepted else None
        if session is not None and session.up == outcome.uplink_counter and mac_layer.listens(session):
            session.know_place(place)

    async def outcome(self, phy: bytes) -> Outcome:
        """What became of a frame that was received a moment ago; waits until that is known.

        After ten seconds (the database is away) it is not accepted, for all that anybody knows.
        """
        frame = self._collector.find(phy)
        if frame is None:
            return Outcome(accepted=False)
        try:
            return await asyncio.wait_for(frame.wait(), _PATIENCE_S)
        except TimeoutError:
            return Outcome(accepted=False)

    def network_key(self, device: Eui) -> tuple[str, bytes] | None:
        """MAC version and NwkSKey (1.0.x) or FNwkSIntKey (1.1) of a device's session, for peers with whom that is
        agreed."""
        found = self._store.directory.devices.get(device)
        if found is None or found.session is None:
            return None
        return found.session.version, found.session.keys.f_nwk_s_int_key

    def _begin(self, frame: Frame) -> None:
        # Eager: most of a frame's work is done before it waits for the first time.
        task = asyncio.Task(self._work(frame), loop=asyncio.get_running_loop(), eager_start=True)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, frame: Frame) -> None:
        try:
            await self._process(frame)
        except (psycopg.Error, TimeoutError, SecretError) as error:
            log.warning("lorawan.frame_failed", error=str(error).strip() or type(error).__name__)
        except Exception:
            # One frame that breaks us must not cost the others.
            log.exception("lorawan.frame_broke", phy=frame.phy.hex())
        finally:
            frame.settle(Outcome(accepted=False))

    async def _process(self, frame: Frame) -> None:
        receptions = frame.best()
        try:
            parsed = parse(frame.phy)
        except FrameError as error:
            self._refuse(frame, receptions, Discarded.MALFORMED, detail=str(error))
            return
        match parsed:
            case Data() if parsed.uplink:
                await self._data(frame, parsed, receptions)
            case JoinRequest() | RejoinRequest():
                await self._join(frame, parsed, receptions)
            case Proprietary():
                self._refuse(frame, receptions, Discarded.PROPRIETARY)
            case _:
                self._refuse(frame, receptions, Discarded.MALFORMED, detail="a downlink was heard")

    async def _data(self, frame: Frame, data: Data, receptions: Sequence[Reception]) -> None:
        sessions = self._store.directory.sessions(data.dev_addr)
        best = receptions[0]
        match = identify(sessions, data, frame.phy, frequency_hz=best.frequency_hz, data_rate=best.data_rate)
        if match is None:
            reason = Discarded.WRONG_MIC if sessions else Discarded.UNKNOWN_DEV_ADDR
            await self._forward(frame, receptions, reason, dev_addr=data.dev_addr)
            return
        device = match.session.device
        known: dict[str, Any] = {
            "device": device,
            "dev_addr": data.dev_addr,
            "counter": match.counter,
            "port": data.port,
        }
        if not device.active:
            self._refuse(frame, receptions, Discarded.DEVICE_DISABLED, **known)
            return
        if not device.may_roam:
            receptions = [one for one in receptions if not one.peer]
            if not receptions:
                self._refuse(frame, frame.best(), Discarded.NOT_AGREED, **known)
                return
        if match.meaning in _REFUSED:
            self._refuse(frame, receptions, _REFUSED[match.meaning], **known)
        elif match.meaning is Meaning.RETRANSMISSION:
            await self._uplinks.again(frame, data, match, receptions)
        else:
            await self._uplinks.accept(frame, data, match, receptions)

    async def _join(
        self, frame: Frame, request: JoinRequest | RejoinRequest, receptions: Sequence[Reception]
    ) -> None:
        best = receptions[0]
        device = self._store.directory.devices.get(request.dev_eui)
        if device is None:
            metrics.JOINS.labels("foreign").inc()
            await self._forward(frame, receptions, Discarded.UNKNOWN_DEVICE, dev_eui=request.dev_eui)
            return
        if not device.may_roam:
            receptions = [one for one in receptions if not one.peer]
        try:
            if not receptions:
                raise JoinRefused(Discarded.NOT_AGREED)
            answer: Coroutine[Any, Any, Accepted]
            if isinstance(request, JoinRequest):
                answer = self.join_server.join(
                    request, frequency_hz=best.frequency_hz, data_rate=best.data_rate
                )
            else:
                answer = self.join_server.rejoin(
                    request, frequency_hz=best.frequency_hz, data_rate=best.data_rate
                )
            accepted = await answer
        except JoinRefused as refused:
            metrics.JOINS.labels(refused.reason).inc()
            self._refuse(frame, frame.best(), refused.reason, device=device, detail=refused.detail)
            return
        metrics.JOINS.labels("accepted").inc()
        metrics.FRAMES.labels("accepted").inc()
        dev_addr = accepted.session.dev_addr
        for one in receptions:
            if not one.peer:
                self._store.frames.hour(one.gateway).accepted += 1
        self._store.frames.add(
            lines.up(
                frame.phy,
                receptions,
                "accepted",
                municipality=device.municipality,
                device=device,
                dev_addr=dev_addr,
            )
        )
        frame.settle(Outcome(accepted=True, device=device.eui, dev_addr=dev_addr, join_accept=accepted.phy))
        await self._answer_join(device, accepted, receptions)

    async def _answer_join(self, device: Device, accepted: Accepted, receptions: Sequence[Reception]) -> None:
        result, used = await self._sender.answer(
            accepted.phy, accepted.windows, receptions, device=device, priority=PRIORITY_URGENT
        )
        self._sender.note(
            accepted.phy,
            accepted.windows,
            result,
            REGIONS[device.profile.region],
            municipality=device.municipality,
            gateway=used.gateway,
            peer=used.peer,
            device=device,
            dev_addr=accepted.session.dev_addr,
        )

    async def _forward(
        self,
        frame: Frame,
        receptions: Sequence[Reception],
        reason: Discarded,
        *,
        dev_addr: int | None = None,
        dev_eui: Eui | None = None,
    ) -> None:
        forwarded = await self._foreign.forward(receptions)
        if forwarded:
            for one in receptions:
                if not one.peer:
                    self._store.frames.hour(one.gateway).foreign += 1
        detail = {"dev_eui": dev_eui.hex()} if dev_eui else {}
        outcome = "forwarded" if forwarded else str(reason)
        metrics.FRAMES.labels(outcome).inc()
        self._store.frames.add(
            lines.up(
                frame.phy,
                receptions,
                outcome,
                municipality=self._place(receptions),
                dev_addr=dev_addr,
                detail=detail,
            )
        )
        frame.settle(
            Outcome(
                accepted=False, reason=None if forwarded else reason, forwarded=forwarded, dev_addr=dev_addr
            )
        )

    def _refuse(
        self,
        frame: Frame,
        receptions: Sequence[Reception],
        reason: Discarded,
        *,
        device: Device | None = None,
        dev_addr: int | None = None,
        counter: int | None = None,
        port: int | None = None,
        detail: str = "",
    ) -> None:
        metrics.FRAMES.labels(reason).inc()
        self._store.frames.add(
            lines.up(
                frame.phy,
                receptions,
                reason,
                municipality=device.municipality if device else self._place(receptions),
                device=device,
                dev_addr=dev_addr,
                counter=counter,
                port=port,
                detail={"detail": detail} if detail else {},
            )
        )
        frame.settle(
            Outcome(
                accepted=False,
                reason=reason,
                device=device.eui if device else None,
                dev_addr=dev_addr,
                uplink_counter=counter,
            )
        )

    def _place(self, receptions: Sequence[Reception]) -> str:
        """The city in whose log a stranger's frame stands: that of the best of our own gateways that heard it."""
        for one in receptions:
            gateway = None if one.peer else self._store.gateways.get(one.gateway)
            if gateway is not None:
                return gateway.municipality
        return ""
