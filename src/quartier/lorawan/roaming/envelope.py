"""Session keys on their way to another network: only ever wrapped (TS002 1.0 §21)."""

from __future__ import annotations

from collections.abc import Mapping

from quartier.lorawan.frames import FrameError
from quartier.lorawan.frames.keywrap import unwrap, wrap
from quartier.lorawan.roaming.fields import Hex
from quartier.lorawan.roaming.objects import KeyEnvelope
from quartier.lorawan.roaming.peers import Peer


class EnvelopeError(Exception):
    """A key that cannot be put into, or taken out of, an envelope."""


def sealed_for(peer: Peer, key: bytes) -> KeyEnvelope:
    """``key`` wrapped with the KEK agreed with ``peer``. Raises EnvelopeError without one: never in the clear."""
    kek = peer.keks.get(peer.kek_label) if peer.kek_label else None
    if kek is None:
        raise EnvelopeError(f"no key encryption key is agreed with {peer.key}")
    return KeyEnvelope(kek_label=peer.kek_label, aes_key=Hex(wrap(kek, key)))


def opened(envelope: KeyEnvelope, keks: Mapping[str, bytes]) -> bytes:
    """The key in an envelope. Raises EnvelopeError for an unknown label or a key that does not fit.

    A key in the clear is taken (the standard allows a sender that), if it has the right size.
    """
    if not envelope.kek_label:
        if len(envelope.aes_key) != 16:
            raise EnvelopeError("a key in the clear has 16 bytes")
        return bytes(envelope.aes_key)
    kek = keks.get(envelope.kek_label)
    if kek is None:
        raise EnvelopeError(f"KEKLabel {envelope.kek_label[:40]!r} is not known")
    try:
        return unwrap(kek, bytes(envelope.aes_key))
    except FrameError as error:
        raise EnvelopeError(str(error)) from None
