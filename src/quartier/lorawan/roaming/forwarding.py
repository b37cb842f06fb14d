"""Our gateways for others' devices: the forwarding network (fNS) of passive roaming.

Implements ``Foreign``: a frame that is none of our devices' is offered to the peers that may know it, under their
agreements, stateless (PRStartReq per frame) or stateful (XmitDataReq after the first).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

import msgspec
import structlog

from quartier.lorawan.frames import FrameError
from quartier.lorawan.roaming import metrics
from quartier.lorawan.roaming.book import Candidate, PeerBook, fits
from quartier.lorawan.roaming.client import CallError, CallFailure, Client, Role
from quartier.lorawan.roaming.clock import Radio, monotonic, now
from quartier.lorawan.roaming.delivery import Delivery
from quartier.lorawan.roaming.envelope import EnvelopeError, opened
from quartier.lorawan.roaming.fields import (
    Eui64,
    Frame,
    ResultCode,
)
from quartier.lorawan.roaming.ledger import Entry, Ledger, State
from quartier.lorawan.roaming.messages import Answer, PRStartAns
from quartier.lorawan.roaming.meters import Meters
from quartier.lorawan.roaming.offers import Offer, granted, metadata, narrowed, open_entry
from quartier.lorawan.roaming.peers import DataClass, Direction, MicKey, Peer
from quartier.lorawan.roaming.policy import UPLINK_TYPES, Facts, Shared, day_of, facts, share, uplink
from quartier.lorawan.roaming.sessions import Expiring, RoamingSession, RoamingSessions
from quartier.lorawan.roaming.tokens import Tokens
from quartier.lorawan.types import Reception

log = structlog.get_logger(__name__)

UNKNOWN_FOR_S: Final = 60.0
"""For so long a peer that does not know an address is not asked again about it."""
KNOWN_FOR_S: Final = 24 * 3600.0
HOME_FOR_S: Final = 3600.0
ANSWER_S: Final = 5.0


class Link(Protocol):
    """A peer that takes frames in another way than Backend Interfaces: as one gateway of its own network."""

    @property
    def connected(self) -> bool:
        """Whether the peer's server listens to us."""

    async def offer(self, phy: bytes, shared: Sequence[Shared]) -> bool:
        """Hand over a frame; True if the peer's server acknowledged it. Never raises."""

    async def close(self) -> None:
        """End the connection."""


class Forwarding:
    """The forwarding role. ``book``, ``clients`` and ``links`` may be replaced while it runs."""

    def __init__(
        self,
        *,
        book: PeerBook,
        clients: Mapping[str, Client],
        links: Mapping[str, Link],
        tokens: Tokens,
        meters: Meters,
        ledger: Ledger,
        delivery: Delivery,
        radio: Radio,
    ) -> None:
        self.book = book
        self.clients = clients
        self.links = links
        self._tokens = tokens
        self._meters = meters
        self._ledger = ledger
        self._delivery = delivery
        self._radio = radio
        self.sessions = RoamingSessions()
        self._deferred: Expiring[tuple[str, bytes], bool] = Expiring()
        self._unknown: Expiring[tuple[str, int], bool] = Expiring()
        self._known: Expiring[int, tuple[str, ...]] = Expiring()
        self._homes: Expiring[bytes, str] = Expiring()

    async def forward(self, receptions: Sequence[Reception]) -> bool:
        """All receptions of one frame that fits none of our devices; True where a peer took it. Never raises."""
        if not receptions:
            return False
        phy = receptions[0].phy
        try:
            frame = facts(phy)
        except FrameError:
            return False
        if frame is None or frame.type not in UPLINK_TYPES:
            return False
        try:
            offers = await self._offers(frame, phy, receptions)
        except CallError:
            return False
        if not offers:
            metrics.REFUSED.labels("", "nobody").inc()
            return False
        taken = await asyncio.gather(
            *(self._offer(offer, receptions) for offer in offers),
            return_exceptions=True,
        )
        for one in taken:
            if isinstance(one, BaseException):
                log.error("frame could not be offered", exc_info=one)
        return any(one is True for one in taken)

    async def _offers(self, frame: Facts, phy: bytes, receptions: Sequence[Reception]) -> list[Offer]:
        without = frozenset(r.peer for r in receptions if r.peer)
        at = now()
        if frame.dev_addr is not None and frame.counter is not None:
            session = self._session_of(frame.dev_addr, frame.counter, phy, without)
            if session is not None:
                peer = self.book.peers[session.peer]
                agreement = peer.agreement(Direction.CARRY, at)
                if agreement is not None:
                    return [
                        Offer(peer=peer, agreement=agreement, frame=frame, key=session.key, session=session)
                    ]
        found = self.book.candidates(frame, phy, now=at, without=without)
        if frame.dev_addr is not None:
            now_s, dev_addr = monotonic(), frame.dev_addr
            found = [one for one in found if not self._unknown.get((one.peer.key, dev_addr), now_s)]
            # Whoever knew the address before is asked first and alone; another device may share the address, so where
            # that fails the next copy of the frame goes to everybody again.
            known = self._known.get(dev_addr, now_s) or ()
            if len(found) > 1 and any(one.peer.key in known for one in found):
                found = [one for one in found if one.peer.key in known]
        elif not found:
            found = await self._home(frame, at, without)
        return [Offer(peer=c.peer, agreement=c.agreement, frame=c.frame, key=c.key) for c in found]

    def _session_of(
        self, dev_addr: int, low: int, phy: bytes, without: frozenset[str]
    ) -> RoamingSession | None:
        """The stateful session that a frame belongs to: proven by its MIC where keys were agreed, else the only one."""
        sessions = [
            s
            for s in self.sessions.at(dev_addr, monotonic())
            if s.peer not in without and s.peer in self.book.peers
        ]
        for session in sessions:
            if session.key is not None:
                counter = fits(session.key, phy, low, last=session.counter)
                if counter is not None:
                    session.counter = counter
                    return session
        open_ones = [s for s in sessions if s.key is None]
        return open_ones[0] if len(open_ones) == 1 and len(sessions) == 1 else None

    async def _home(self, frame: Facts, at: datetime, without: frozenset[str]) -> list[Candidate]:
        """Ask the join server of a JoinEUI for the device's home network (TS002 1.0 §12.2.1, steps 3 and 4)."""
        if frame.join_eui is None or frame.dev_eui is None:
            return []
        net_id = self._homes.get(frame.dev_eui, monotonic())
        if net_id is None:
            server = self.book.join_server(frame.join_eui)
            client = self.clients.get(server.key) if server is not None else None
            if client is None:
                return []
            answer = await client.ask(
                "HomeNSReq",
                role=Role.JS,
                receiver=frame.join_eui.hex(),
                timeout_s=2,
                attempts=2,
                dev_eui=Eui64(frame.dev_eui),
            )
            home = getattr(answer, "home_net_id", None)
            if answer.result.code is not ResultCode.SUCCESS or home is None:
                return []
            net_id = home.hex()
            self._homes.put(frame.dev_eui, net_id, monotonic() + HOME_FOR_S)
        peer = self.book.by_net_id(net_id)
        agreement = peer.agreement(Direction.CARRY, at) if peer is not None else None
        if peer is None or agreement is None or peer.key in without:
            return []
        return [Candidate(peer, agreement, frame, None)]

    async def _offer(self, offer: Offer, receptions: Sequence[Reception]) -> bool:
        peer, agreement, device = offer.peer, narrowed(offer), offer.device
        phy = receptions[0].phy
        now_s, at = monotonic(), now()
        if self._deferred.get((peer.key, device), now_s):
            metrics.REFUSED.labels(peer.key, "deferred").inc()
            return False
        airtime_s = self._radio.airtime_s(receptions[0].data_rate, len(phy))
        usage = self._meters.usage(agreement, device, day=day_of(at), now_s=now_s)
        verdict = uplink(
            agreement, offer.frame, airtime_s=airtime_s, usage=usage, known=offer.session is not None
        )
        shared = share(agreement, receptions) if verdict.ok else ()
        if not verdict.ok or not shared:
            metrics.REFUSED.labels(peer.key, verdict.refused or "gateway").inc()
            return False
        self._meters.charge_uplink(agreement, device, day=day_of(at), now_s=now_s, airtime_s=airtime_s)
        entry = open_entry(offer, shared, verdict, airtime_s)
        # Noted before it is sent: what left the house is in the audit trail even if we die waiting for the answer.
        self._ledger.note(entry)
        link = self.links.get(peer.key)
        if link is not None:
            taken = await link.offer(phy, shared)
            self._settle(
                entry, State.CONFIRMED if taken else State.REFUSED, "" if taken else "not acknowledged"
            )
            return taken
        client = self.clients.get(peer.key)
        if client is None:
            self._settle(entry, State.REFUSED, "no connection")
            return False
        return await self._ask(client, offer, shared, entry)

    async def _ask(self, client: Client, offer: Offer, shared: Sequence[Shared], entry: Entry) -> bool:
        peer, frame, session = offer.peer, offer.frame, offer.session
        phy = Frame(shared[0].reception.phy)
        told = metadata(offer, shared, entry.at, tokens=self._tokens, region=self._radio.region.name)
        try:
            if session is not None:
                answer = await client.ask(
                    "XmitDataReq",
                    role=Role.SNS,
                    timeout_s=ANSWER_S,
                    attempts=2,
                    receiver_token=session.sender_token,
                    phy=phy,
                    uplink=told,
                )
            else:
                answer = await client.ask(
                    "PRStartReq",
                    role=Role.HNS if frame.kind is DataClass.JOIN else Role.SNS,
                    # An answer to a join is of no use after RX2.
                    timeout_s=ANSWER_S,
                    attempts=2 if frame.kind is not DataClass.JOIN else 1,
                    phy=phy,
                    uplink=told,
                )
        except CallError as error:
            if error.failure in (CallFailure.PAUSED, CallFailure.BUSY):
                self._settle(entry, State.REFUSED, error.failure.value)
            return False
        code = answer.result.code
        if code not in (ResultCode.SUCCESS, ResultCode.NO_ACTION):
            self._refused(offer, answer)
            self._settle(entry, State.REFUSED, code.value)
            return False
        metrics.CARRIED.labels(peer.key, "carry", "up").inc()
        self._settle(entry, State.CONFIRMED, "", dev_eui=getattr(answer, "dev_eui", None))
        if frame.dev_addr is not None:
            self._known.put(frame.dev_addr, (peer.key,), monotonic() + KNOWN_FOR_S)
        if isinstance(answer, PRStartAns):
            self._remember(offer, answer)
            if answer.phy is not None and frame.kind is DataClass.JOIN:
                await self._delivery.join_accept(peer, offer.agreement, answer, shared)
        return True

    def _refused(self, offer: Offer, answer: Answer) -> None:
        peer, frame = offer.peer, offer.frame
        code = answer.result.code
        metrics.REFUSED.labels(peer.key, f"peer_{code.value}").inc()
        now_s = monotonic()
        if code is ResultCode.DEFERRED:
            lifetime_s = getattr(answer, "lifetime_s", None) or 60
            self._deferred.put((peer.key, offer.device), True, now_s + lifetime_s)
        elif frame.dev_addr is not None:
            if code is ResultCode.UNKNOWN_DEV_ADDR:
                self._unknown.put((peer.key, frame.dev_addr), True, now_s + UNKNOWN_FOR_S)
            known = self._known.get(frame.dev_addr, now_s)
            if known and peer.key in known:
                self._known.pop(frame.dev_addr)

    def _remember(self, offer: Offer, answer: PRStartAns) -> None:
        """Begin stateful roaming where both sides want it: the answer has a lifetime, the agreement allows one."""
        peer, agreement, frame = offer.peer, offer.agreement, offer.frame
        lifetime_s = min(answer.lifetime_s or 0, agreement.lifetime_s)
        if not lifetime_s or answer.dev_eui is None:
            return
        dev_addr = int.from_bytes(answer.dev_addr) if answer.dev_addr is not None else frame.dev_addr
        if dev_addr is None:
            return
        key = None
        envelope = answer.nwk_s_key or answer.f_nwk_s_int_key
        if envelope is not None:
            try:
                key = MicKey(
                    dev_addr=dev_addr,
                    key=opened(envelope, peer.keks),
                    version_1_1=answer.f_nwk_s_int_key is not None and answer.nwk_s_key is None,
                    dev_eui=bytes(answer.dev_eui),
                )
            except EnvelopeError as error:
                log.warning("key of a roaming device cannot be used", peer=peer.key, reason=str(error))
        self.sessions.put(
            RoamingSession(
                peer=peer.key,
                dev_addr=dev_addr,
                dev_eui=bytes(answer.dev_eui),
                until_s=monotonic() + lifetime_s,
                key=key,
                counter=answer.f_cnt_up,
                sender_token=answer.sender_token,
                uplink_rate=granted(answer.service_profile),
            )
        )

    def knows(self, dev_addr: int) -> bool:
        """Whether an address is that of a peer's device, as far as it was seen within the last day."""
        now_s = monotonic()
        return self._known.get(dev_addr, now_s) is not None or bool(self.sessions.at(dev_addr, now_s))

    def stop(self, peer: Peer, dev_eui: bytes, dev_addr: bytes | None, lifetime_s: int | None) -> bool:
        """The serving network ends roaming of a device (PRStopReq, §11.3.3); False where it was not roaming.

        ``lifetime_s`` 0 lifts an earlier refusal; a positive one asks us to be quiet for so long.
        """
        session = self.sessions.end(peer.key, dev_eui)
        address = session.dev_addr.to_bytes(4) if session is not None else dev_addr
        for device in filter(None, (dev_eui, address)):
            if lifetime_s:
                self._deferred.put((peer.key, device), True, monotonic() + lifetime_s)
            elif lifetime_s == 0:
                self._deferred.pop((peer.key, device))
        return session is not None

    def _settle(self, entry: Entry, state: State, result: str, *, dev_eui: bytes | None = None) -> None:
        changes: dict[str, object] = {"state": state, "result": result}
        if dev_eui:
            changes["dev_eui"] = dev_eui.hex()
        self._ledger.note(msgspec.structs.replace(entry, **changes))
