"""Two ledgers compared: each side tells what it has of a day, and every difference gets a name.

Who knows the truth is fixed, so that both sides come to the same sums in whatever order they compare: an uplink counts
if the serving network has it, a downlink if the carrier has sent it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec
import structlog

from quartier.lorawan.roaming.client import CallError, CallFailure, Client
from quartier.lorawan.roaming.clock import now
from quartier.lorawan.roaming.ledger import Entry, Ledger, State, Sums
from quartier.lorawan.roaming.peers import Peer

log = structlog.get_logger(__name__)

PATH: Final = "quartier/statement"
PAGE: Final = 1000
MAX_PAGES: Final = 2000
MAX_ANSWER_BYTES: Final = 1 << 20
MAX_AT_MS: Final = 4_102_444_800_000  # the year 2100


class StatementReq(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Asks for the entries of a day. ``carrier``: ``sender`` if whoever asks had carried, else ``receiver``.

    ``keys`` are asked for in addition, of whatever day: two clocks disagree about midnight.
    """

    day: Annotated[int, msgspec.Meta(ge=0, le=100_000)]
    carrier: str
    after: str = ""
    keys: Annotated[list[str], msgspec.Meta(max_length=PAGE)] = []


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One entry as it travels; ``at`` in milliseconds since 1970."""

    key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}$")]
    direction: Literal["up", "down"]
    at: Annotated[int, msgspec.Meta(ge=0, le=MAX_AT_MS)]
    airtime_us: Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
    size: Annotated[int, msgspec.Meta(ge=0, le=255)]
    state: State


class StatementAns(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A page of entries; ``next`` is the key to go on after."""

    lines: list[Line]
    next: str = ""


class DifferenceKind(StrEnum):
    """What two ledgers disagree about."""

    MISSING_HERE = "missing_here"
    MISSING_THERE = "missing_there"
    STATE = "state"
    AIRTIME = "airtime"


@dataclass(frozen=True, slots=True)
class Difference:
    """One disagreement about one frame."""

    kind: DifferenceKind
    key: bytes
    direction: str
    here: str
    there: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a comparison has shown, and what has to change here: states, airtimes, times of the carrier's clock."""

    differences: tuple[Difference, ...] = ()
    states: Mapping[bytes, State] = field(default_factory=dict)
    times: Mapping[bytes, datetime] = field(default_factory=dict)
    airtimes_us: Mapping[bytes, int] = field(default_factory=dict)
    adopt: tuple[Line, ...] = ()


def reconcile(ours: Iterable[Entry], theirs: Iterable[Line], *, we_carry: bool) -> Comparison:
    """Name every difference between two statements of one day and one carrier, and say what is right.

    A frame that only one side has and that never counted there (refused, not sent) is no difference.
    """
    mine = {entry.key: entry for entry in ours}
    other = {bytes.fromhex(line.key): line for line in theirs}
    differences: list[Difference] = []
    states: dict[bytes, State] = {}
    times: dict[bytes, datetime] = {}
    airtimes_us: dict[bytes, int] = {}
    adopt: list[Line] = []
    for key in sorted(mine.keys() | other.keys()):
        here, there = mine.get(key), other.get(key)
        direction = here.direction if here is not None else other[key].direction
        # The serving network knows which uplinks arrived, the carrier which downlinks it sent.
        truth_is_here = we_carry == (direction == "down")
        counted_here = here is not None and here.state is State.CONFIRMED
        counted_there = there is not None and there.state is State.CONFIRMED
        if counted_here != counted_there:
            kind = DifferenceKind.STATE
            if here is None:
                kind = DifferenceKind.MISSING_HERE
            elif there is None:
                kind = DifferenceKind.MISSING_THERE
            differences.append(
                Difference(
                    kind,
                    key,
                    direction,
                    str(here.state) if here is not None else "",
                    str(there.state) if there is not None else "",
                )
            )
            if not truth_is_here:
                if here is not None:
                    states[key] = State.CONFIRMED if counted_there else State.FAILED
                elif there is not None:
                    adopt.append(there)
        if here is None or there is None:
            continue
        if counted_here and counted_there and here.airtime_us != there.airtime_us:
            differences.append(
                Difference(
                    DifferenceKind.AIRTIME, key, direction, str(here.airtime_us), str(there.airtime_us)
                )
            )
        if counted_there and not truth_is_here and here.airtime_us != there.airtime_us:
            airtimes_us[key] = there.airtime_us
        if not we_carry and _milliseconds(here.at) != there.at:
            times[key] = datetime.fromtimestamp(there.at / 1000, UTC)
    return Comparison(
        differences=tuple(differences),
        states=states,
        times=times,
        airtimes_us=airtimes_us,
        adopt=tuple(adopt),
    )


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _line(entry: Entry) -> Line:
    return Line(
        key=entry.key.hex(),
        direction=entry.direction,
        at=_milliseconds(entry.at),
        airtime_us=entry.airtime_us,
        size=entry.size,
        state=entry.state,
    )


_encoder = msgspec.json.Encoder()
_request_decoder = msgspec.json.Decoder(StatementReq)
_answer_decoder = msgspec.json.Decoder(StatementAns)


def read_request(body: bytes) -> tuple[StatementReq, bytes, list[bytes]]:
    """A request, with the key to go on after and the keys that are asked for. Raises ValueError naming the field."""
    try:
        request = _request_decoder.decode(body)
        after = bytes.fromhex(request.after)
        keys = [bytes.fromhex(key) for key in request.keys]
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ValueError(f"no statement request: {error}") from None
    if request.carrier not in ("sender", "receiver"):
        raise ValueError("carrier: sender or receiver")
    return request, after, keys


def read_answer(body: bytes) -> StatementAns:
    """A page of a peer's statement. Raises CallError."""
    try:
        return _answer_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CallError(CallFailure.MALFORMED, f"statement: {error}") from None


class Statements:
    """Tells peers our statement, and asks for theirs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def tell(self, peer: Peer, body: bytes) -> bytes:
        """Answer a StatementReq of ``peer``. Raises ValueError for one that cannot be read."""
        request, after, keys = read_request(body)
        we_carry = request.carrier == "receiver"
        await self._ledger.flush()
        page = await self._ledger.of_day(peer.id, request.day, we_carry=we_carry, after=after, limit=PAGE)
        known = {entry.key for entry in page}
        asked = await self._ledger.of_keys(peer.id, keys, we_carry=we_carry) if keys else []
        return _encoder.encode(
            StatementAns(
                lines=[_line(e) for e in page] + [_line(e) for e in asked if e.key not in known],
                next=page[-1].key.hex() if len(page) == PAGE else "",
            )
        )

    async def compare(self, client: Client, day: int, *, we_carry: bool) -> tuple[Comparison, Sums]:
        """Compare a day with a peer, put right here what is known better there, and keep the day's sums.

        Raises CallError where the peer gives no statement.
        """
        peer = client.peer
        # Theirs first: what comes in meanwhile is then in ours as well, and asked for by its key.
        lines = await self._pages(client, day, we_carry=we_carry)
        await self._ledger.flush()
        ours = await self._all(peer, day, we_carry=we_carry)
        theirs = await self._asked_for(client, lines, ours, we_carry=we_carry)
        listed = {line.key for line in theirs}
        # What they count on this day and we on the next one.
        elsewhere = await self._ledger.of_keys(
            peer.id,
            [bytes.fromhex(key) for key in listed - {entry.key.hex() for entry in ours}],
            we_carry=we_carry,
        )
        found = reconcile([*ours, *elsewhere], theirs, we_carry=we_carry)
        for line in found.adopt:
            self._ledger.note(adopted(peer, line, we_carry=we_carry))
        await self._ledger.flush()
        await self._ledger.settle(
            peer.id,
            we_carry=we_carry,
            states=found.states,
            times=found.times,
            airtimes_us=found.airtimes_us,
        )
        sums = await self._ledger.sum_up(
            peer.id, day, we_carry=we_carry, reconciled_at=now(), differences=len(found.differences)
        )
        if found.differences:
            log.info("ledgers differ", peer=peer.key, day=day, differences=len(found.differences))
        return found, sums

    async def _all(self, peer: Peer, day: int, *, we_carry: bool) -> list[Entry]:
        found: list[Entry] = []
        after = b""
        for _ in range(MAX_PAGES):
            page = await self._ledger.of_day(peer.id, day, we_carry=we_carry, after=after, limit=PAGE)
            found += page
            if len(page) < PAGE:
                break
            after = page[-1].key
        return found

    async def _pages(self, client: Client, day: int, *, we_carry: bool) -> dict[str, Line]:
        """The peer's statement of a day, by key."""
        lines: dict[str, Line] = {}
        after = ""
        for _ in range(MAX_PAGES):
            request = StatementReq(day=day, carrier=_carrier(we_carry=we_carry), after=after)
            answer = await self._ask(client, request)
            lines |= {line.key: line for line in answer.lines}
            after = answer.next
            if not after:
                break
        return lines

    async def _asked_for(
        self, client: Client, lines: dict[str, Line], ours: list[Entry], *, we_carry: bool
    ) -> list[Line]:
        """The statement, with what the peer has of our entries on another day or since."""
        missing = [entry.key.hex() for entry in ours if entry.key.hex() not in lines]
        for start in range(0, len(missing), PAGE):
            # The day 0 has no entries, so that only the keys are answered.
            request = StatementReq(
                day=0, carrier=_carrier(we_carry=we_carry), keys=missing[start : start + PAGE]
            )
            answer = await self._ask(client, request)
            lines |= {line.key: line for line in answer.lines}
        return list(lines.values())

    @staticmethod
    async def _ask(client: Client, request: StatementReq) -> StatementAns:
        body = _encoder.encode(request)
        for attempt in range(3):
            try:
                content = await client.post_extension(PATH, body, limit=MAX_ANSWER_BYTES)
                break
            except CallError:
                if attempt == 2:
                    raise
        return read_answer(content)


def _carrier(*, we_carry: bool) -> str:
    return "sender" if we_carry else "receiver"


def adopted(peer: Peer, line: Line, *, we_carry: bool) -> Entry:
    """An entry that only the other side has, and knows better: written while we could not."""
    return Entry(
        peer=peer.id,
        we_carry=we_carry,
        direction=line.direction,
        key=bytes.fromhex(line.key),
        at=datetime.fromtimestamp(line.at / 1000, UTC),
        kind="",
        size=line.size,
        data_rate=0,
        airtime_us=line.airtime_us,
        state=line.state,
        result="from the peer's statement",
    )
