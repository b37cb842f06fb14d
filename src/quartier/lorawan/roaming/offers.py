"""A frame on its way to a peer: why to this one, what it may see of it, and the line in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from quartier.lorawan.roaming.clock import now
from quartier.lorawan.roaming.fields import DevAddrHex, Eui64, Hex, RatePolicy, Region, TokenHex, mhz
from quartier.lorawan.roaming.ledger import Entry, State, uplink_key
from quartier.lorawan.roaming.messages import whole_milliseconds
from quartier.lorawan.roaming.objects import Gateway, ServiceProfile, Uplink
from quartier.lorawan.roaming.peers import Agreement, DataClass, MicKey, Peer, Rate
from quartier.lorawan.roaming.policy import Facts, Shared, Verdict
from quartier.lorawan.roaming.sessions import RoamingSession
from quartier.lorawan.roaming.tokens import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A frame, a peer that may know its device, and why: a key that fits its MIC, or a stateful session."""

    peer: Peer
    agreement: Agreement
    frame: Facts
    key: MicKey | None = None
    session: RoamingSession | None = None

    @property
    def device(self) -> bytes:
        """What rates, refusals and tokens go by: the address of a data frame, the EUI of a join."""
        if self.frame.dev_addr is not None:
            return self.frame.dev_addr.to_bytes(4)
        return self.frame.dev_eui or b""

    @property
    def dev_eui(self) -> bytes | None:
        """The device, where it is known."""
        if self.frame.dev_eui is not None:
            return self.frame.dev_eui
        if self.session is not None:
            return self.session.dev_eui
        return self.key.dev_eui if self.key is not None else None


def metadata(
    offer: Offer, shared: Sequence[Shared], received_at: datetime, *, tokens: Tokens, region: str
) -> Uplink:
    """ULMetaData: what the peer may know of the receptions, with a token for each."""
    peer, frame, session = offer.peer, offer.frame, offer.session
    first = shared[0].reception
    spoken = Region(region)
    at = now().timestamp()
    dev_eui = session.dev_eui if session is not None else frame.dev_eui
    issued = [
        TokenHex(tokens.issue(s.reception, receiver=peer.key, device=offer.device, now=at)) for s in shared
    ]
    return Uplink(
        dev_eui=Eui64(dev_eui) if dev_eui is not None else None,
        dev_addr=DevAddrHex(frame.dev_addr.to_bytes(4)) if frame.dev_addr is not None else None,
        f_port=frame.port,
        f_cnt_up=session.counter if session is not None else None,
        confirmed=frame.confirmed or None,
        data_rate=first.data_rate,
        frequency_mhz=mhz(first.frequency_hz),
        fns_token=issued[0],
        received_at=received_at,
        region=spoken,
        gateway_count=len(shared),
        gateways=[
            Gateway(
                id=Hex(tokens.gateway_id(s.reception)),
                fine_time_ns=s.reception.fine_time_ns if s.lat is not None else None,
                region=spoken,
                rssi_dbm=round(s.rssi_dbm) if s.rssi_dbm is not None else None,
                snr_db=s.snr_db,
                lat=s.lat,
                lon=s.lon,
                token=token,
                downlink_allowed=True,
            )
            for s, token in zip(shared, issued, strict=True)
        ],
    )


def open_entry(offer: Offer, shared: Sequence[Shared], verdict: Verdict, airtime_s: float) -> Entry:
    """The line of the ledger, open until the peer has answered."""
    frame, dev_eui = offer.frame, offer.dev_eui
    first = shared[0].reception
    received_at = whole_milliseconds(first.received_at)
    seen = [frame.kind]
    if any(s.rssi_dbm is not None for s in shared):
        seen.append(DataClass.SIGNAL_QUALITY)
    if any(s.lat is not None for s in shared):
        seen.append(DataClass.LOCATION)
    return Entry(
        peer=offer.peer.id,
        agreement=offer.agreement.id,
        we_carry=True,
        direction="up",
        key=uplink_key(first.phy, received_at),
        at=received_at,
        kind=frame.kind,
        dev_addr=frame.dev_addr,
        dev_eui=dev_eui.hex() if dev_eui else "",
        port=frame.port,
        size=len(first.phy),
        data_rate=first.data_rate,
        airtime_us=round(airtime_s * 1e6),
        gateways=len(shared),
        classes=" ".join(seen),
        marked=verdict.marked,
        state=State.OPEN,
    )


def granted(profile: ServiceProfile | None) -> Rate | None:
    """The uplink rate of a ServiceProfile (table 7); without a policy what is above is dropped."""
    if profile is None or profile.ul_rate_per_h is None:
        return None
    return Rate(
        max(0, profile.ul_rate_per_h), max(1, profile.ul_bucket or 1), profile.ul_policy or RatePolicy.DROP
    )


def narrowed(offer: Offer) -> Agreement:
    """The agreement, with the serving network's rate for this device where that is lower."""
    rate = offer.session.uplink_rate if offer.session is not None else None
    agreed = offer.agreement.uplink_rate
    if rate is None or (agreed is not None and agreed.per_hour <= rate.per_hour):
        return offer.agreement
    return replace(offer.agreement, uplink_rate=rate)
