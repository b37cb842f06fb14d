"""Roaming as one thing: what the process ``radio`` starts beside gateways and network server.

It is the network server's ``Foreign`` and brings a ``Transmitter`` per peer. Without peers it listens on nothing and
costs next to nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from aiohttp import web
from psycopg import Error as DatabaseError
from psycopg_pool import PoolTimeout

from quartier.engines.pools import Pool
from quartier.lorawan.frames.phy import FrameType
from quartier.lorawan.roaming import registry
from quartier.lorawan.roaming.book import PeerBook
from quartier.lorawan.roaming.client import CallError, Client, Ourselves
from quartier.lorawan.roaming.clock import Radio, now
from quartier.lorawan.roaming.delivery import Delivery
from quartier.lorawan.roaming.exchanges import Exchanges
from quartier.lorawan.roaming.fields import ResultCode
from quartier.lorawan.roaming.forwarding import Forwarding, Link
from quartier.lorawan.roaming.joining import Joining
from quartier.lorawan.roaming.ledger import Ledger
from quartier.lorawan.roaming.messages import (
    Answer,
    AppSKeyReq,
    Header,
    HomeNSReq,
    HRStartReq,
    HRStopReq,
    JoinReq,
    MessageError,
    ProfileReq,
    PRStartReq,
    PRStopReq,
    RejoinReq,
    XmitDataReq,
    answer_to,
)
from quartier.lorawan.roaming.meters import Meters
from quartier.lorawan.roaming.patience import Patience
from quartier.lorawan.roaming.peers import Peer
from quartier.lorawan.roaming.pending import Pending
from quartier.lorawan.roaming.policy import day_of
from quartier.lorawan.roaming.server import Server
from quartier.lorawan.roaming.serving import NetworkServer, Serving
from quartier.lorawan.roaming.statements import Comparison, Statements
from quartier.lorawan.roaming.tokens import Tokens
from quartier.lorawan.roaming.transmitter import PeerTransmitter
from quartier.lorawan.roaming.virtual_gateway import open_link
from quartier.lorawan.store import Store
from quartier.lorawan.types import Reception, Transmitter

log = structlog.get_logger(__name__)

RELOAD_S: Final = 60.0
COMPARE_S: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where peers reach us. Port 0 takes a free one; without ``tls`` a proxy has to end it."""

    host: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = None


class Roaming:
    """All roles of roaming for one network server; implements ``Foreign``.

    ``transmitters`` is the mapping that the network server uses: peers come and go in it.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        store: Store,
        transmitters: dict[str, Transmitter],
        ourselves: Ourselves,
        secret: str,
        radio: Radio | None = None,
        listening: Listening | None = None,
        patience: Patience | None = None,
        municipalities: Collection[str] = (),
    ) -> None:
        self._municipalities = municipalities
        self._patience = patience or Patience()
        self._pool = pool
        self._store = store
        self._transmitters = transmitters
        self._ourselves = ourselves
        self._radio = radio or Radio()
        self._listening = listening
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.ledger = Ledger(pool)
        self.statements = Statements(self.ledger)
        self.meters = Meters()
        self.exchanges = Exchanges()
        self._pending = Pending()
        self._clients: dict[str, Client] = {}
        self._links: dict[str, Link] = {}
        self._peers: dict[str, Peer] = {}
        self._tokens = Tokens(secret)
        self.delivery = Delivery(
            transmitters=transmitters,
            tokens=self._tokens,
            meters=self.meters,
            ledger=self.ledger,
            radio=self._radio,
        )
        self.forwarding = Forwarding(
            book=PeerBook(),
            clients=self._clients,
            links=self._links,
            tokens=self._tokens,
            meters=self.meters,
            ledger=self.ledger,
            delivery=self.delivery,
            radio=self._radio,
        )
        self.joining = Joining(store, ourselves)
        self.serving: Serving | None = None
        self._server = Server(
            PeerBook(),
            self._clients,
            ourselves=ourselves,
            pending=self._pending,
            handle=self._handle,
            extensions={"statement": self.statements.tell},
        )

    def serve(self, network: NetworkServer) -> None:
        """Say which network server takes what peers hear; it is made after us, because we are part of it."""
        self.serving = Serving(
            network=network,
            devices=self._store.directory,
            clients=self._clients,
            exchanges=self.exchanges,
            meters=self.meters,
            ledger=self.ledger,
            radio=self._radio,
        )

    async def forward(self, receptions: Sequence[Reception]) -> bool:
        """Offer a frame that is none of our devices' to the peers; True where one took it. Never raises."""
        return await self.forwarding.forward(receptions)

    def window_of(self, reception: Reception) -> float | None:
        """The deduplication window of a frame in seconds, None for the usual one; for ``Network``."""
        phy = reception.phy
        if reception.peer:
            return self._patience.peer_s
        if not self._peers or len(phy) < 12:
            return None
        kind = phy[0] >> 5
        if kind == FrameType.JOIN_REQUEST:
            return self._patience.join_s if phy[16:8:-1] in self._store.directory.devices else None
        if kind not in (FrameType.UNCONFIRMED_UP, FrameType.CONFIRMED_UP):
            return None
        dev_addr = int.from_bytes(phy[1:5], "little")
        if self._store.directory.sharing(dev_addr):
            return self._patience.roaming_s if self.exchanges.roams(dev_addr) else None
        return self._patience.foreign_s if self.forwarding.knows(dev_addr) else None

    async def start(self) -> None:
        """Load peers, restore what is used of budgets, listen. Raises OSError for an address that is taken."""
        await self.reload()
        day = day_of(now())
        for agreement, airtime_s, downlink_airtime_s, downlinks in await self.ledger.used(day):
            self.meters.restore(
                agreement,
                day,
                airtime_s=airtime_s,
                downlink_airtime_s=downlink_airtime_s,
                downlinks=downlinks,
            )
        if self._listening is not None:
            self._runner = web.AppRunner(self._server.application(), access_log=None)
            await self._runner.setup()
            site = web.TCPSite(
                self._runner,
                self._listening.host,
                self._listening.port,
                ssl_context=self._listening.tls,
                backlog=256,
            )
            await site.start()
            self.port = self._runner.addresses[0][1]

    async def run(self, stop: asyncio.Event) -> None:
        """Write the ledger, look for changed peers and compare with them, until ``stop``."""
        writing = asyncio.create_task(self.ledger.run(stop))
        compared = now()
        try:
            while not stop.is_set():
                try:
                    async with asyncio.timeout(RELOAD_S):
                        await stop.wait()
                except TimeoutError:
                    pass
                if stop.is_set():
                    break
                try:
                    await self.reload()
                    if now() - compared > timedelta(seconds=COMPARE_S):
                        compared = now()
                        await self.compare_all()
                        await self.ledger.forget()
                except (DatabaseError, PoolTimeout) as error:
                    log.warning("roaming: database is away", error=str(error))
        finally:
            await self.close()
            await writing

    async def close(self) -> None:
        """Stop listening, close connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        for client in self._clients.values():
            await client.close()
        for link in self._links.values():
            await link.close()
        self._clients.clear()
        self._links.clear()

    async def reload(self) -> None:
        """Take over peers and agreements from the database."""
        await self.use(await registry.load(self._pool, self._municipalities))

    async def use(self, peers: Iterable[Peer]) -> None:
        """Work with these peers from now on; connections of peers that have not changed stay open."""
        wanted = {peer.key: peer for peer in peers}
        for key, peer in tuple(self._peers.items()):
            if wanted.get(key) != peer:
                await self._leave(key)
        for key, peer in wanted.items():
            if key not in self._peers:
                await self._enter(peer)
        book = PeerBook(wanted.values())
        self.forwarding.book = self._server.book = book

    async def _enter(self, peer: Peer) -> None:
        self._peers[peer.key] = peer
        if peer.protocol.backend_interfaces:
            client = Client(peer, self._ourselves, self._pending)
            self._clients[peer.key] = client
            self._transmitters[peer.key] = PeerTransmitter(client, self.exchanges, self.ledger, self._radio)
        elif peer.gateway is not None:
            self._links[peer.key] = await open_link(peer, self.delivery, self._radio)

    async def _leave(self, key: str) -> None:
        self._peers.pop(key, None)
        self._transmitters.pop(key, None)
        client = self._clients.pop(key, None)
        if client is not None:
            await client.close()
        link = self._links.pop(key, None)
        if link is not None:
            await link.close()

    async def compare_all(self, day: int | None = None) -> dict[tuple[str, bool], Comparison]:
        """Compare yesterday and today (or ``day``) with every peer, in both directions; what could be compared."""
        today = day_of(datetime.now(UTC))
        found: dict[tuple[str, bool], Comparison] = {}
        for client in tuple(self._clients.values()):
            for we_carry in (True, False):
                for one in (today - 1, today) if day is None else (day,):
                    try:
                        comparison, _ = await self.statements.compare(client, one, we_carry=we_carry)
                    except CallError as error:
                        # A peer that is not Quartier has no statements.
                        log.info("no statement", peer=client.peer.key, reason=str(error))
                        break
                    found[client.peer.key, we_carry] = comparison
        return found

    async def _handle(self, peer: Peer, message: Header) -> Answer:
        if self.serving is None:
            return answer_to(message, ResultCode.OTHER, "not ready")
        match message:
            case PRStartReq():
                return await self.serving.start(peer, message)
            case XmitDataReq() if message.downlink is not None:
                return await self.delivery.xmit(peer, message)
            case XmitDataReq():
                return await self.serving.uplink(peer, message)
            case PRStopReq():
                return self._stop(peer, message)
            case HomeNSReq():
                return await self.joining.home(peer, message)
            case ProfileReq():
                return await self.joining.profile(peer, message)
            case RejoinReq():
                return answer_to(
                    message, ResultCode.JOIN_REQ_FAILED, "rejoin for other networks is not offered"
                )
            case JoinReq():
                return await self.joining.join(peer, message)
            case AppSKeyReq():
                return await self.joining.application_key(peer, message)
            case HRStartReq():
                return answer_to(message, ResultCode.NO_ROAMING_AGREEMENT, "handover roaming is not offered")
            case HRStopReq():
                return answer_to(message, ResultCode.UNKNOWN_DEV_EUI, "handover roaming is not offered")
            case _:
                raise MessageError(ResultCode.MALFORMED_MESSAGE, "unknown request", field="MessageType")

    def _stop(self, peer: Peer, message: PRStopReq) -> Answer:
        """Either side may end roaming (§11.3.3): of their device with us, or of ours with them."""
        known = self.forwarding.stop(
            peer, bytes(message.dev_eui), bytes(message.dev_addr or b"") or None, message.lifetime_s
        )
        if self.serving is not None:
            known = self.serving.stopped(peer, message) or known
        code = ResultCode.SUCCESS if known else ResultCode.UNKNOWN_DEV_EUI
        return answer_to(message, code)
