"""Credentials of Basics Stations: given by hand, rolled through CUPS, and never lost between the two."""

from __future__ import annotations

import hashlib

import pytest
from asgiref.sync import sync_to_async

from quartier.cities.rules import SYSTEM
from quartier.engines.pools import Pool
from quartier.lorawan import domain
from quartier.lorawan.domain import LoraError
from quartier.lorawan.domain.stations import Roll, StationState, station_state
from quartier.lorawan.gateways.cups_messages import NOTHING, Report, answer
from quartier.lorawan.models import Gateway
from quartier.lorawan.store.gateways import GatewayList
from tests.lorawan.gateways.test_cups import take_apart
from tests.lorawan.network.scene import GATEWAY
from tests.lorawan.roaming.certificates import Authority
from tests.world import World

AUTHORITY = Authority("Stations")


def _gateway(world: World) -> Gateway:
    return domain.save_gateway(SYSTEM, world.municipality, GATEWAY.hex(), name="Turm", protocol="station")


async def _state() -> StationState:
    return station_state(await Gateway.objects.aget())


class Station:
    """What a Station keeps, and how CUPS changes it."""

    def __init__(self, pool: Pool, token: str) -> None:
        self.gateways = GatewayList(pool)
        self.token = token
        self.offered = ""
        self.cups_uri: str | None = None
        self.lns_uri: str | None = None
        self.checksum = 0

    async def asks(self) -> None:
        """Once, as it signs in now; what is offered is installed, and used from the next sign-in on."""
        report = Report(
            router="::1", cups_uri=self.cups_uri, lns_uri=self.lns_uri, cups_checksum=self.checksum,
            lns_checksum=self.checksum, station="2.0.6", package="1.4\0", keys=[7],
        )  # fmt: skip
        wanted = await self.gateways.wanted(GATEWAY, report)
        assert wanted is not None
        said = answer(report, wanted, signed_in_with=hashlib.sha256(self.token.encode()).digest())
        await self.gateways.answered(GATEWAY, report, said)
        packed = said.packed()
        self.nothing = packed == NOTHING
        parts = take_apart(packed)
        self.cups_uri, self.lns_uri = parts.cups_uri or self.cups_uri, parts.lns_uri or self.lns_uri
        assert parts.cups_credentials == parts.lns_credentials
        if parts.lns_credentials:
            assert wanted.lns_credentials is not None
            self.checksum = wanted.lns_credentials.checksum
            self.offered = parts.lns_credentials.rpartition(b"Bearer ")[2].decode().strip()

    async def signs_in(self, token: str) -> bool:
        """At the network server; whether it may."""
        await self.gateways.reload()
        digest = hashlib.sha256(token.encode()).digest()
        known = self.gateways.get(GATEWAY)
        assert known is not None
        if digest not in known.credentials:
            return False
        self.token = token
        self.gateways.signed_in(GATEWAY, digest)
        await self.gateways.write([])
        await self.gateways.reload()
        return True


async def test_token_is_rolled_without_a_moment_in_which_none_holds(world: World, pool: Pool) -> None:
    gateway = await sync_to_async(_gateway)(world)
    first = await sync_to_async(domain.make_token)(SYSTEM, gateway)
    await sync_to_async(domain.set_station)(
        SYSTEM, gateway, cups_uri="https://c.example:443", lns_uri="wss://l.example:443",
        trust=AUTHORITY.certificate,
    )  # fmt: skip
    station = Station(pool, first)
    await station.asks()
    assert (station.cups_uri, station.lns_uri, station.offered) == (
        "https://c.example:443", "wss://l.example:443", "",
    )  # fmt: skip
    assert (await _state()).given == ("cups_uri", "lns_uri")
    await sync_to_async(domain.roll_station_token)(SYSTEM, gateway)
    assert await station.signs_in(first)
    assert (await _state()).roll is Roll.WAITING
    await station.asks()
    assert (await _state()).roll is Roll.GIVEN
    second = station.offered
    assert second not in ("", first)
    # The Station came back with the old one all the same: the new one is offered again.
    assert await station.signs_in(first)
    station.offered = ""
    await station.asks()
    assert station.offered == second
    assert await station.signs_in(second)
    assert not await station.signs_in(first)
    await station.asks()
    assert station.nothing
    state = await _state()
    assert (state.roll, state.given) == (Roll.DONE, ("cups_credentials", "lns_credentials"))
    assert (state.station, state.package, state.keys) == ("2.0.6", "1.4", 1)
    assert (state.lns_uri_there, state.cups_uri_there) == ("wss://l.example:443", "https://c.example:443")
    assert state.rolled_at is not None
    assert state.given_at is not None
    assert state.roll_done_at is not None
    assert state.asked_at is not None
    assert state.rolled_at < state.given_at < state.roll_done_at < state.asked_at
    stored = await Gateway.objects.aget()
    assert second not in str(stored.settings)
    assert stored.credentials == [hashlib.sha256(second.encode()).hexdigest()]


async def test_rolling_twice_keeps_the_token_in_use(world: World, pool: Pool) -> None:
    gateway = await sync_to_async(_gateway)(world)
    first = await sync_to_async(domain.make_token)(SYSTEM, gateway)
    await sync_to_async(domain.set_station)(SYSTEM, gateway, trust=AUTHORITY.certificate)
    station = Station(pool, first)
    await sync_to_async(domain.roll_station_token)(SYSTEM, gateway)
    await station.asks()
    never_used = station.offered
    await sync_to_async(domain.roll_station_token)(SYSTEM, gateway)
    assert not await station.signs_in(never_used)
    assert await station.signs_in(first)
    await station.asks()
    assert station.offered not in ("", never_used)
    assert await station.signs_in(station.offered)


async def test_token_made_by_hand_is_not_undone_by_an_older_roll(world: World, pool: Pool) -> None:
    gateway = await sync_to_async(_gateway)(world)
    first = await sync_to_async(domain.make_token)(SYSTEM, gateway)
    await sync_to_async(domain.set_station)(
        SYSTEM, gateway, lns_uri="wss://l.example", trust=AUTHORITY.certificate
    )
    await sync_to_async(domain.roll_station_token)(SYSTEM, gateway)
    station = Station(pool, first)
    by_hand = await sync_to_async(domain.make_token)(SYSTEM, gateway)
    assert await station.signs_in(by_hand)
    await station.asks()
    assert (station.offered, station.lns_uri) == ("", "wss://l.example")
    # What a Station trusts is still known.
    await sync_to_async(domain.roll_station_token)(SYSTEM, gateway)
    await station.asks()
    assert await station.signs_in(station.offered)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"cups_uri": "wss://c.example"}, "cups_uri"),
        ({"lns_uri": "https://l.example"}, "lns_uri"),
        ({"lns_uri": "wss://" + "l" * 130}, "lns_uri"),
        ({"cups_uri": "https://köln.example"}, "cups_uri"),
        ({"trust": "no certificate"}, "trust"),
        ({"trust": ""}, "trust"),
    ],
)
def test_bad_values_name_the_field(world: World, values: dict[str, str], field: str) -> None:
    with pytest.raises(LoraError) as told:
        domain.set_station(SYSTEM, _gateway(world), **values)
    assert told.value.field == field
    assert Gateway.objects.get().settings == {}


def test_nothing_is_rolled_that_a_station_could_not_take(world: World) -> None:
    gateway = _gateway(world)
    with pytest.raises(LoraError) as told:
        domain.roll_station_token(SYSTEM, gateway)
    assert told.value.field == "trust"
    domain.set_station(SYSTEM, gateway, trust=AUTHORITY.certificate)
    with pytest.raises(LoraError) as told:
        domain.roll_station_token(SYSTEM, gateway)
    assert told.value.field == "credentials"
