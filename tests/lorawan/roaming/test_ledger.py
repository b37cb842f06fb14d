"""The ledger: one row per frame and direction, whatever gets lost on the way; and two ledgers compared."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.engines.pools import Pool, async_pool
from quartier.lorawan.roaming.client import CallError, CallFailure, Client
from quartier.lorawan.roaming.ledger import Entry, Ledger, State, Sums, downlink_key, uplink_key
from quartier.lorawan.roaming.policy import day_of
from quartier.lorawan.roaming.service import Roaming
from quartier.lorawan.roaming.statements import Difference, DifferenceKind, Line, Statements, reconcile
from tests.lorawan.network.scene import Scene, until
from tests.lorawan.roaming.scene import THEIRS, Border

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PHY = bytes.fromhex("40667de2000001000501020304") + b"mic!"


def entry(**changes: Any) -> Entry:
    made = Entry(
        peer=1,
        agreement=1,
        we_carry=True,
        direction="up",
        key=uplink_key(PHY, NOW),
        at=NOW,
        kind="application",
        dev_addr=0x00E2_7D66,
        port=5,
        size=len(PHY),
        data_rate=5,
        airtime_us=46_336,
        classes="application location",
        state=State.OPEN,
    )
    return msgspec.structs.replace(made, **changes)


def test_keys_are_the_same_for_both_and_differ_per_frame() -> None:
    assert uplink_key(PHY, NOW) == uplink_key(PHY[:-4] + b"xxxx", NOW)  # the MIC does not count
    keys = {
        uplink_key(PHY, NOW),
        uplink_key(PHY, NOW + timedelta(milliseconds=1)),  # the device repeats itself
        uplink_key(b"\x80" + PHY[1:], NOW),
        downlink_key(PHY, 1),
        downlink_key(PHY, 2),
    }
    assert {len(key) for key in keys} == {16}
    assert len(keys) == 5


async def test_later_word_settles_what_was_open_and_nothing_else(ledger_pool: Pool) -> None:
    ledger = Ledger(ledger_pool)
    ledger.note(entry())
    ledger.note(entry(state=State.CONFIRMED, dev_eui="70b3d57ed0000001"))
    ledger.note(entry(state=State.REFUSED, result="late"))
    assert await ledger.flush()
    ledger.note(entry())
    assert await ledger.flush()
    (row,) = await ledger.of_day(1, day_of(NOW), we_carry=True)
    assert row == entry(state=State.CONFIRMED, dev_eui="70b3d57ed0000001")
    assert await ledger.of_day(1, day_of(NOW), we_carry=False) == []


async def test_whoever_flushes_waits_for_what_another_one_writes(ledger_pool: Pool) -> None:
    ledger = Ledger(ledger_pool)
    ledger.note(entry())
    first = asyncio.create_task(ledger.flush())
    await asyncio.sleep(0)  # it has taken the entry and not written it
    assert await ledger.flush()
    assert await ledger.of_day(1, day_of(NOW), we_carry=True) == [entry()]
    assert await first


async def test_entries_wait_while_the_database_is_away(ledger_pool: Pool) -> None:
    ledger = Ledger(async_pool("postgresql:///nowhere"))  # never opened
    ledger.note(entry())
    assert not await ledger.flush()
    ledger.note(entry(state=State.CONFIRMED))
    ledger._pool = ledger_pool
    assert await ledger.flush()
    assert await ledger.of_day(1, day_of(NOW), we_carry=True) == [entry(state=State.CONFIRMED)]


async def test_entries_of_a_deleted_peer_hold_nobody_up(ledger_pool: Pool) -> None:
    ledger = Ledger(ledger_pool)
    ledger.note(entry(peer=99))
    ledger.note(entry(agreement=99))
    assert await ledger.flush()
    assert await ledger.of_day(1, day_of(NOW), we_carry=True) == [entry(agreement=None)]
    assert await ledger.of_day(99, day_of(NOW), we_carry=True) == []


async def test_pages_sums_and_budgets(ledger_pool: Pool) -> None:
    ledger = Ledger(ledger_pool)
    for number in range(25):
        down = number % 5 == 0
        ledger.note(
            entry(
                key=number.to_bytes(16),
                direction="down" if down else "up",
                state=State.CONFIRMED if number % 2 else State.FAILED,
                airtime_us=1000 + number,
            )
        )
    await ledger.flush()
    day = day_of(NOW)
    pages, after = [], b""
    while page := await ledger.of_day(1, day, we_carry=True, after=after, limit=10):
        pages.append([int.from_bytes(one.key) for one in page])
        after = page[-1].key
    assert pages == [list(range(10)), list(range(10, 20)), list(range(20, 25))]
    confirmed = [n for n in range(25) if n % 2]
    up, down_ = [n for n in confirmed if n % 5], [n for n in confirmed if not n % 5]
    sums = Sums(len(up), sum(1000 + n for n in up), len(down_), sum(1000 + n for n in down_))
    assert await ledger.sum_up(1, day, we_carry=True) == sums
    assert await ledger.sum_up(1, day, we_carry=False) == Sums()
    ((agreement, uplink_s, downlink_s, downlinks),) = await ledger.used(day)
    all_up = [n for n in range(25) if n % 5]
    assert (agreement, downlinks) == (1, len(down_))
    assert uplink_s == pytest.approx(sum(1000 + n for n in all_up) / 1e6)
    assert downlink_s == pytest.approx(sum(1000 + n for n in down_) / 1e6)


async def test_frames_are_forgotten_and_sums_stay(ledger_pool: Pool) -> None:
    ledger = Ledger(ledger_pool)
    old = datetime.now(UTC) - timedelta(days=31)
    ledger.note(entry(at=old, key=b"o" * 16, state=State.CONFIRMED))
    ledger.note(entry(at=datetime.now(UTC), key=b"n" * 16, state=State.CONFIRMED))
    await ledger.flush()
    assert await ledger.forget() == 1
    assert await ledger.of_day(1, day_of(old), we_carry=True) == []
    assert len(await ledger.of_day(1, day_of(datetime.now(UTC)), we_carry=True)) == 1
    async with ledger_pool.connection() as connection:
        cursor = await connection.execute("SELECT uplinks, uplink_airtime_us FROM lorawan_roamingday")
        assert await cursor.fetchall() == [(1, 46_336)]
    assert await ledger.forget() == 0


# Comparing


def line(**changes: Any) -> Line:
    one = entry(**changes)
    return Line(
        key=one.key.hex(),
        direction=one.direction,
        at=round(one.at.timestamp() * 1000),
        airtime_us=one.airtime_us,
        size=one.size,
        state=one.state,
    )


CONFIRMED, OPEN, FAILED, REFUSED = State.CONFIRMED, State.OPEN, State.FAILED, State.REFUSED


@pytest.mark.parametrize(
    ("side", "ours", "theirs", "kind", "becomes"),
    [
        # nothing to say
        ("carrier up", CONFIRMED, CONFIRMED, None, None),
        ("carrier up", REFUSED, None, None, None),
        ("carrier down", FAILED, FAILED, None, None),
        ("carrier down", FAILED, None, None, None),
        # an uplink counts if the serving network has it
        ("carrier up", OPEN, CONFIRMED, DifferenceKind.STATE, CONFIRMED),
        ("carrier up", CONFIRMED, None, DifferenceKind.MISSING_THERE, FAILED),
        ("carrier up", None, CONFIRMED, DifferenceKind.MISSING_HERE, "adopted"),
        ("served up", CONFIRMED, OPEN, DifferenceKind.STATE, None),
        ("served up", CONFIRMED, None, DifferenceKind.MISSING_THERE, None),
        # a downlink if the carrier has sent it
        ("carrier down", CONFIRMED, OPEN, DifferenceKind.STATE, None),
        ("carrier down", CONFIRMED, None, DifferenceKind.MISSING_THERE, None),
        ("served down", OPEN, CONFIRMED, DifferenceKind.STATE, CONFIRMED),
        ("served down", CONFIRMED, FAILED, DifferenceKind.STATE, FAILED),
        ("served down", None, CONFIRMED, DifferenceKind.MISSING_HERE, "adopted"),
    ],
)
def test_every_difference_has_a_name_and_one_truth(
    side: str, ours: State | None, theirs: State | None, kind: DifferenceKind | None, becomes: Any
) -> None:
    role, direction = side.split()
    we_carry = role == "carrier"
    here = [entry(state=ours, direction=direction, we_carry=we_carry)] if ours else []
    there = [line(state=theirs, direction=direction)] if theirs else []
    found = reconcile(here, there, we_carry=we_carry)
    expected = (Difference(kind, entry().key, direction, ours or "", theirs or ""),) if kind else ()
    assert found.differences == expected
    assert found.states == ({entry().key: becomes} if isinstance(becomes, State) else {})
    assert found.adopt == (tuple(there) if becomes == "adopted" else ())


def test_airtime_and_the_carrier_s_clock() -> None:
    later = NOW + timedelta(milliseconds=80)
    here = [entry(state=CONFIRMED, we_carry=False, direction="down", at=later)]
    there = [line(state=CONFIRMED, direction="down", airtime_us=50_000)]
    found = reconcile(here, there, we_carry=False)
    assert found.differences == (Difference(DifferenceKind.AIRTIME, entry().key, "down", "46336", "50000"),)
    assert found.times == {entry().key: NOW}
    assert found.airtimes_us == {entry().key: 50_000}


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from(["up", "down"]),
            st.sampled_from([None, *State]),
            st.sampled_from([None, *State]),
        ),
        max_size=12,
    )
)
def test_both_sides_come_to_the_same_sums_in_whatever_order(
    frames: Sequence[tuple[bool, str, State | None, State | None]],
) -> None:
    carrier: dict[bytes, Entry] = {}
    other: dict[bytes, Entry] = {}
    for number, (_, direction, left, right) in enumerate(frames):
        key = number.to_bytes(16)
        if left is not None:
            carrier[key] = entry(key=key, direction=direction, state=left)
        if right is not None:
            other[key] = entry(key=key, direction=direction, state=right, we_carry=False)

    def put_right(mine: dict[bytes, Entry], theirs: dict[bytes, Entry], *, we_carry: bool) -> None:
        lines = [line(key=e.key, direction=e.direction, state=e.state) for e in theirs.values()]
        found = reconcile(mine.values(), lines, we_carry=we_carry)
        for key, state in found.states.items():
            mine[key] = msgspec.structs.replace(mine[key], state=state)
        for one in found.adopt:
            key = bytes.fromhex(one.key)
            mine[key] = entry(key=key, direction=one.direction, state=one.state, we_carry=we_carry)

    first_carrier = frames[0][0] if frames else True
    for turn in (first_carrier, not first_carrier):
        put_right(carrier if turn else other, other if turn else carrier, we_carry=turn)
    counted = [{k for k, e in side.items() if e.state is CONFIRMED} for side in (carrier, other)]
    assert counted[0] == counted[1]
    assert (
        reconcile(
            carrier.values(),
            [line(key=e.key, direction=e.direction, state=e.state) for e in other.values()],
            we_carry=True,
        ).differences
        == ()
    )


# Over the wire


class Lossy(Client):
    """Loses requests and answers, as a bad line does."""

    chance = random.Random(7)  # noqa: S311 (the same losses every time)
    loss = 0.0
    lost = 0

    async def _post(self, *args: Any, **how: Any) -> bytes:
        if self.chance.random() < self.loss:
            type(self).lost += 1
            raise CallError(CallFailure.UNREACHABLE, "lost on the way there")
        content = await super()._post(*args, **how)
        if self.chance.random() < self.loss:
            type(self).lost += 1
            raise CallError(CallFailure.UNREACHABLE, "lost on the way back")
        return content

    def _failed(self) -> None:
        """A lossy line is no reason for a pause here."""


def make_lossy(roaming: Roaming, loss: float) -> Lossy:
    """Let everything that is said to the one peer go over a bad line."""
    (client,) = roaming._clients.values()
    client.__class__ = Lossy
    assert isinstance(client, Lossy)
    client.loss = loss
    return client


async def sums(border: Border, day: int) -> list[Sums]:
    return [
        await border.dortmund.roaming.ledger.sum_up(1, day, we_carry=True),
        await border.schwerte.roaming.ledger.sum_up(1, day, we_carry=False),
    ]


async def test_ledgers_are_equal_in_spite_of_losses(border: Border, scene: Scene) -> None:
    await border.connect()
    clients = [make_lossy(city.roaming, 0.3) for city in (border.dortmund, border.schwerte)]
    device = await scene.abp()
    for number in range(40):
        border.dortmund.hear(device.uplink(bytes([number]), 7, confirmed=number % 2 == 0), [THEIRS])
        await asyncio.sleep(0.02)
    await until(
        lambda: border.dortmund.network.open_frames + border.schwerte.network.open_frames == 0, seconds=30
    )
    for client in clients:
        client.loss = 0.1
    day = day_of(datetime.now(UTC))
    # Each side compares once; the second run finds nothing more.
    for city in (border.dortmund, border.schwerte):
        await city.roaming.compare_all(day)
    first, second = await sums(border, day)
    assert first == second
    assert Lossy.lost > 5
    assert first.uplinks == len({up.counter for up in await scene.ups()}) > 20
    # What Dortmund's gateways have sent, and nothing else.
    assert first.downlinks == len(border.dortmund.sky.sent) > 0
    for city in (border.dortmund, border.schwerte):
        for comparison in (await city.roaming.compare_all(day)).values():
            assert comparison.differences == ()


async def test_what_one_side_forgot_is_told_by_the_other(border: Border, scene: Scene) -> None:
    await border.connect()
    device = await scene.abp()
    for number in range(3):
        border.dortmund.hear(device.uplink(bytes([number]), 7), [THEIRS])
        await border.idle()
    for city in (border.dortmund, border.schwerte):
        await city.roaming.ledger.flush()
    async with border.dortmund.pool.connection() as connection:
        await connection.execute("DELETE FROM lorawan_roamingframe")
    day = day_of(datetime.now(UTC))
    found = await border.dortmund.roaming.compare_all(day)
    assert [d.kind for d in found["schwerte", True].differences] == [DifferenceKind.MISSING_HERE] * 3
    first, second = await sums(border, day)
    assert first == second
    assert first.uplinks == 3
    async with border.dortmund.pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT reconciled_at IS NOT NULL, differences FROM lorawan_roamingday WHERE we_carry"
        )
        assert await cursor.fetchall() == [(True, 3)]


async def test_statements_are_for_the_peer_alone(border: Border, scene: Scene) -> None:
    await border.connect()
    statements = Statements(border.schwerte.roaming.ledger)
    peer = border.schwerte.roaming._peers["dortmund"]
    border.schwerte.roaming.ledger.note(entry(state=CONFIRMED, we_carry=False, agreement=2))
    body = b'{"day": %d, "carrier": "sender"}' % day_of(NOW)
    told = msgspec.json.decode(await statements.tell(peer, body))
    assert [one["key"] for one in told["lines"]] == [entry().key.hex()]
    stranger = replace(peer, id=2, key="other")
    assert msgspec.json.decode(await statements.tell(stranger, body)) == {"lines": []}
    for wrong in (
        b"",
        b"{}",
        b'{"day": -1, "carrier": "sender"}',
        b'{"day": 1, "carrier": "me"}',
        b'{"day": 1, "carrier": "sender", "after": "x"}',
    ):
        with pytest.raises(ValueError, match=r"\S"):
            await statements.tell(peer, wrong)
