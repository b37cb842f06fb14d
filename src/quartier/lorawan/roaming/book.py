"""Which peers there are, and whom a frame, a certificate or a SenderID belongs to."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from quartier.lorawan.frames import FrameError
from quartier.lorawan.frames.counters import newest
from quartier.lorawan.frames.crypto import forwarder_fits
from quartier.lorawan.frames.netid import belongs_to
from quartier.lorawan.roaming.peers import (
    SHARED_NET_IDS,
    Agreement,
    Direction,
    MicKey,
    Peer,
)
from quartier.lorawan.roaming.policy import Facts, covers

MAX_COPIES: Final = 4
"""To so many peers a frame is offered where several may know its device."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peer that may know a frame's device; ``frame`` with what its key told about it."""

    peer: Peer
    agreement: Agreement
    frame: Facts
    key: MicKey | None


class PeerBook:
    """Peers by key, by what they prove, and by the frames they want."""

    def __init__(self, peers: Iterable[Peer] = ()) -> None:
        self.peers: Mapping[str, Peer] = {peer.key: peer for peer in peers}
        self._fingerprints = {
            fingerprint: peer for peer in self for fingerprint in peer.credentials.fingerprints
        }

    def __iter__(self) -> Iterator[Peer]:
        return iter(self.peers.values())

    def proven(self, *, certificate: bytes = b"", authorization: str = "") -> Peer | None:
        """The peer that a caller proves to be, by its client certificate (DER) or its Authorization header."""
        if certificate:
            peer = self._fingerprints.get(hashlib.sha256(certificate).hexdigest()) or self._by_name(
                certificate
            )
            if peer is not None:
                return peer if peer.enabled else None
        if authorization:
            digest = hashlib.sha256(authorization.encode()).hexdigest()
            for peer in self:
                known = peer.credentials.bearer_digest
                if peer.enabled and known and hmac.compare_digest(known, digest):
                    return peer
        return None

    def _by_name(self, certificate: bytes) -> Peer | None:
        """By common name, which says something only if the peer's own authority signed it."""
        read = x509.load_der_x509_certificate(certificate)
        names = [str(name.value) for name in read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        for peer in self:
            known = peer.credentials
            if known.subject and known.authority and known.subject in names:
                try:
                    read.verify_directly_issued_by(x509.load_pem_x509_certificate(known.authority.encode()))
                except (ValueError, TypeError, InvalidSignature):
                    continue
                return peer
        return None

    def by_net_id(self, net_id: str) -> Peer | None:
        """The peer with a NetID; in the shared ones there may be several, so nobody is found."""
        found = [peer for peer in self if peer.enabled and net_id in peer.net_ids]
        return found[0] if len(found) == 1 else None

    def candidates(
        self, frame: Facts, phy: bytes, *, now: datetime, without: frozenset[str] = frozenset()
    ) -> list[Candidate]:
        """Who may know the device of a data frame or join request, the surest first, at most ``MAX_COPIES``.

        A key that fits the MIC is proof; an agreement with a MIC filter wants that proof. ``without``: peers that the
        frame came from.
        """
        proven: list[Candidate] = []
        likely: list[Candidate] = []
        for peer in self:
            if not peer.enabled or peer.key in without:
                continue
            agreement = peer.agreement(Direction.CARRY, now)
            if agreement is None:
                continue
            key = _fitting(peer, frame, phy)
            known = replace(frame, dev_eui=key.dev_eui) if key is not None else frame
            if not self._wants(peer, agreement, known):
                continue
            if key is not None:
                proven.append(Candidate(peer, agreement, known, key))
            elif frame.dev_addr is None or not agreement.mic_filter:
                likely.append(Candidate(peer, agreement, frame, None))
        return proven[:MAX_COPIES] if proven else likely[:MAX_COPIES]

    @staticmethod
    def _wants(peer: Peer, agreement: Agreement, frame: Facts) -> bool:
        if not agreement.devices.unlimited:
            return covers(agreement, frame)
        if frame.dev_addr is not None:
            return any(_assigned(net_id, frame.dev_addr) for net_id in peer.net_ids)
        if frame.net_id is not None:
            net_id = f"{frame.net_id:06x}"
            return net_id not in SHARED_NET_IDS and net_id in peer.net_ids
        return frame.join_eui is not None and any(int.from_bytes(frame.join_eui) in r for r in peer.join_euis)

    def join_server(self, join_eui: bytes) -> Peer | None:
        """Whom to ask for the home network of devices with a JoinEUI."""
        value = int.from_bytes(join_eui)
        fitting = [
            (r.length, peer)
            for peer in self
            if peer.enabled and peer.url
            for r in peer.join_euis
            if value in r
        ]
        return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def _assigned(net_id: str, dev_addr: int) -> bool:
    """Whether an address is of a NetID that belongs to one network alone."""
    return net_id not in SHARED_NET_IDS and belongs_to(dev_addr, int(net_id, 16))


def _fitting(peer: Peer, frame: Facts, phy: bytes) -> MicKey | None:
    if frame.dev_addr is None or frame.counter is None:
        return None
    for key in peer.mic_keys.get(frame.dev_addr, ()):
        if fits(key, phy, frame.counter, last=None) is not None:
            return key
    return None


def fits(key: MicKey, phy: bytes, low: int, *, last: int | None) -> int | None:
    """The frame's 32-bit counter if its MIC fits the key, else None.

    ``last`` is the last counter known. Without one, 20 rounds of 16 bits are tried: over a million frames.
    """
    try:
        tried = [newest(last, low)] if last is not None else [low + (n << 16) for n in range(20)]
    except FrameError:
        return None
    for counter in tried:
        if forwarder_fits(key.key, phy, counter, lorawan_1_1=key.version_1_1):
            return counter
    return None
