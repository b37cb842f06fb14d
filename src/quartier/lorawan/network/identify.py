"""Whose frame is it? The DevAddr names candidates, the MIC decides, and the counter says whether it is new."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quartier.lorawan.frames.crypto import uplink_fits
from quartier.lorawan.frames.phy import Data
from quartier.lorawan.frames.regions import REGIONS
from quartier.lorawan.network import counters
from quartier.lorawan.network.counters import Candidate, Meaning
from quartier.lorawan.network.mac_layer import channel_index
from quartier.lorawan.sessions import Session


class Match(NamedTuple):
    """The session that a frame belongs to, its full counter, and what the frame is."""

    session: Session
    counter: int
    meaning: Meaning


def identify(
    sessions: Sequence[Session], frame: Data, phy: bytes, *, frequency_hz: int, data_rate: int
) -> Match | None:
    """The session whose keys fit; None where none do. New frames are looked for first, as most are new."""
    low = frame.frame_counter
    for session in sessions:
        candidate = counters.forward(session.up, low, session.version)
        if candidate is not None and _fits(session, candidate, phy, frequency_hz, data_rate):
            return Match(session, candidate.counter, candidate.meaning)
    for session in sessions:
        # 1.1 has no resets: an ABP device says ResetInd under the counter that it left off at.
        may_reset = session.device.counter_reset and not session.lorawan_1_1
        for candidate in counters.backward(session.up, low, may_reset=may_reset):
            if _fits(session, candidate, phy, frequency_hz, data_rate):
                return Match(session, candidate.counter, candidate.meaning)
    return None


def _fits(session: Session, candidate: Candidate, phy: bytes, frequency_hz: int, data_rate: int) -> bool:
    if not session.lorawan_1_1:
        return uplink_fits(session.keys, phy, candidate.counter)
    state = session.mac
    region = REGIONS[session.device.profile.region]
    return uplink_fits(
        session.keys,
        phy,
        candidate.counter,
        confirmed_counter=state.confirmed_down or 0,
        data_rate=data_rate,
        channel=channel_index(state, region, frequency_hz),
    )
