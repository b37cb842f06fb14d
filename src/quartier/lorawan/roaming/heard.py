"""What a peer says its gateways heard, as receptions of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, timedelta
from typing import Final

from quartier.lorawan.roaming.clock import monotonic, now
from quartier.lorawan.roaming.exchanges import CONTEXT
from quartier.lorawan.roaming.fields import ResultCode, hz
from quartier.lorawan.roaming.messages import MessageError
from quartier.lorawan.roaming.objects import Gateway, Uplink
from quartier.lorawan.roaming.peers import Peer
from quartier.lorawan.types import Reception

CLOCK_TOLERANCE: Final = timedelta(minutes=2)
"""A peer's clock that is further off says nothing about when a frame was heard."""
YEARS: Final = range(2000, 2100)
"""Others cannot be counted in the ledger, whose keys are made of milliseconds since 1970."""
UNHEARD_DBM: Final = -130.0
UNHEARD_DB: Final = -25.0
"""For receptions whose quality a peer does not share: taken, but chosen last."""


def gateways_of(peer: Peer, metadata: Uplink) -> list[tuple[bytes, Gateway]]:
    """The peer's gateways with the EUI under which we know each; one without a name where none is listed."""
    listed = metadata.gateways or [Gateway(token=metadata.fns_token)]
    found: dict[bytes, Gateway] = {}
    for gateway in listed:
        found.setdefault(gateway_eui(peer, bytes(gateway.id or b"")), gateway)
    return list(found.items())


def gateway_eui(peer: Peer, gateway_id: bytes) -> bytes:
    """An EUI for a peer's gateway: GWInfo.ID has 32 bits, so the network's NetID and a mark stand in for the rest."""
    if len(gateway_id) == 8:
        return gateway_id
    net_id = bytes.fromhex(peer.net_id) if peer.net_id else bytes(3)
    return b"\xfe" + net_id + gateway_id[-4:].rjust(4, b"\0")


def receptions_of(
    peer: Peer, phy: bytes, metadata: Uplink, heard: Sequence[tuple[bytes, Gateway]], exchange: int
) -> Iterator[Reception]:
    """Receptions with the peer as their network. Raises MessageError where frequency or data rate are missing,
    or the time is none."""
    if metadata.frequency_mhz is None or metadata.data_rate is None:
        missing = "ULFreq" if metadata.frequency_mhz is None else "DataRate"
        raise MessageError(
            ResultCode.MALFORMED_MESSAGE, "needed to answer the device", field=f"ULMetaData.{missing}"
        )
    at = now()
    received_at = metadata.received_at or at
    if received_at.year not in YEARS:
        raise MessageError(
            ResultCode.MALFORMED_MESSAGE, "no time at which a frame was heard", field="ULMetaData.RecvTime"
        )
    if received_at.tzinfo is None:
        received_at = received_at.replace(tzinfo=UTC)
    if abs(received_at - at) > CLOCK_TOLERANCE:
        received_at = at
    now_s = monotonic()
    for eui, gateway in heard:
        token = gateway.token or metadata.fns_token
        yield Reception(
            gateway=eui,
            phy=phy,
            frequency_hz=hz(metadata.frequency_mhz),
            data_rate=metadata.data_rate,
            received_at=received_at,
            received_monotonic=now_s,
            rssi_dbm=float(gateway.rssi_dbm) if gateway.rssi_dbm is not None else UNHEARD_DBM,
            snr_db=gateway.snr_db if gateway.snr_db is not None else UNHEARD_DB,
            context={CONTEXT: exchange},
            fine_time_ns=gateway.fine_time_ns,
            lon=gateway.lon,
            lat=gateway.lat,
            peer=peer.key,
            token=token.hex() if token is not None else "",
        )
