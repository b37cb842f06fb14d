"""Building a downlink: what fits into which receive window, which counter it uses, what waits for the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quartier.lorawan.frames import mac
from quartier.lorawan.frames.commands import Command
from quartier.lorawan.frames.crypto import seal_data
from quartier.lorawan.frames.phy import ACK, ADR, MAX_OPTIONS, PENDING, Data, FrameType
from quartier.lorawan.frames.regions import Region
from quartier.lorawan.network.mac_layer import Request, channel_index
from quartier.lorawan.sessions import Session
from quartier.lorawan.store import Item
from quartier.lorawan.types import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A frame that is ready except that its counter is not durable yet."""

    phy: bytes
    windows: tuple[Window, ...]
    counter: int
    item: Item | None
    requests: Sequence[Request]
    port: int | None
    size: int


class TooLong(Exception):
    """The payload fits into none of the windows; ``most`` bytes would."""

    def __init__(self, most: int) -> None:
        super().__init__(f"at most {most} bytes fit at this data rate")
        self.most = most


def class_a_windows(
    session: Session, region: Region, *, frequency_hz: int, data_rate: int
) -> tuple[Window, ...]:
    """RX1 and RX2 of an uplink, by what the device uses."""
    state = session.mac
    index = channel_index(state, region, frequency_hz)
    rx1_hz = state.downlink_hz.get(index) if index is not None else None
    offset = min(state.rx1_dr_offset, 5)
    return (
        Window(
            frequency_hz=rx1_hz or region.rx1_frequency_hz(frequency_hz),
            data_rate=region.rx1_data_rate(data_rate, offset),
            delay_s=state.rx1_delay_s,
        ),
        Window(
            frequency_hz=state.rx2_frequency_hz, data_rate=state.rx2_data_rate, delay_s=state.rx1_delay_s + 1
        ),
    )


def class_c_windows(session: Session) -> tuple[Window, ...]:
    """A device of class C listens with the parameters of RX2 whenever it does not send."""
    state = session.mac
    return (Window(frequency_hz=state.rx2_frequency_hz, data_rate=state.rx2_data_rate, delay_s=None),)


def class_b_windows(session: Session) -> tuple[Window, ...]:
    """A device of class B listens in its ping slots, on a channel of their own; when is said with the frame."""
    state = session.mac
    return (
        Window(frequency_hz=state.ping_slot_frequency_hz, data_rate=state.ping_slot_data_rate, delay_s=None),
    )


def plan(
    session: Session,
    region: Region,
    windows: Sequence[Window],
    *,
    acknowledge: bool = False,
    answers: Sequence[Command] = (),
    requests: Sequence[Request] = (),
    item: Item | None = None,
    more: bool = False,
) -> Planned:
    """Build the frame, using the session's next counter.

    Answers come first, then as many requests as there is room for; what does not fit beside them goes alone on port 0
    and the item waits. Raises TooLong (no counter is used) where the item alone fits into no window.
    """
    room = max(region.max_payload(window.data_rate) for window in windows)
    if item is not None and len(item.payload) > room:
        raise TooLong(room)
    options_room = MAX_OPTIONS if item is None else min(MAX_OPTIONS, room - len(item.payload))
    said = list(answers)
    needed = len(mac.serialise(said))
    alone = needed > options_room
    if alone:
        # Only answers are that urgent. What would not fit at all was asked for too often at once.
        while needed > room:
            said.pop()
            needed = len(mac.serialise(said))
        options_room, more, item = room, more or item is not None, None
    sent: list[Request] = []
    for request in requests:
        size = request.command.size + 1
        if needed + size <= options_room:
            said.append(request.command)
            sent.append(request)
            needed += size
    spoken = mac.serialise(said)
    return _seal(
        session,
        region,
        windows,
        spoken=spoken,
        alone=alone,
        acknowledge=acknowledge,
        more=more,
        item=item,
        requests=sent,
    )


def _seal(
    session: Session,
    region: Region,
    windows: Sequence[Window],
    *,
    spoken: bytes,
    alone: bool,
    acknowledge: bool,
    more: bool,
    item: Item | None,
    requests: Sequence[Request],
) -> Planned:
    port = item.port if item is not None else 0 if alone else None
    payload = item.payload if item is not None else spoken if alone else b""
    options = b"" if alone else spoken
    profile = session.device.profile
    frame = Data(
        FrameType.CONFIRMED_DOWN if item is not None and item.confirmed else FrameType.UNCONFIRMED_DOWN,
        session.dev_addr,
        0,
        (ADR if profile.adr else 0) | (ACK if acknowledge else 0) | (PENDING if more else 0),
        options,
        port,
        payload,
    )
    counter = session.take_down(application=bool(port))
    if item is not None and item.confirmed:
        session.mac.confirmed_down = counter
        session.mac_changed = True
    phy = seal_data(session.keys, frame, counter, confirmed_counter=session.up if acknowledge else 0)
    size = len(options) + len(payload)
    return Planned(
        phy=phy,
        windows=tuple(one for one in windows if region.max_payload(one.data_rate) >= size),
        counter=counter,
        item=item,
        requests=requests,
        port=port,
        size=len(phy),
    )
