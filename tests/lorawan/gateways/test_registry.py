"""Who may speak, how often, and what is remembered."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from quartier.lorawan.gateways.limits import Bucket, Sources
from quartier.lorawan.gateways.registry import Gateway, GatewayProtocol, Refused
from quartier.lorawan.types import Discarded
from tests.lorawan.gateways.bench import EUI, OTHER, Bench

UDP = GatewayProtocol.GWMP


def test_a_bucket_fills_again() -> None:
    bucket = Bucket(per_s=2, burst=3)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(11.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_the_table_of_addresses_is_bounded_and_keeps_who_speaks() -> None:
    sources = Sources(per_s=1)
    sources.take("198.51.100.1", 0.5)
    sources.take("198.51.100.1", 0.5)
    for number in range(10_000):
        sources.take(f"source {number}", 0.5)
        assert not sources.take("198.51.100.1", 0.5)
    assert len(sources) == 4096


@pytest.mark.parametrize(
    ("network", "host", "allowed"),
    [
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ("192.0.2.0/24", "192.0.3.7", False),
        ("2001:db8::/32", "2001:db8::1", True),
        ("2001:db8::/32", "192.0.2.7", False),
        ("192.0.2.0/24", "no address", False),
    ],
)
def test_networks(network: str, host: str, allowed: bool) -> None:
    bench = Bench()
    bench.known.add(networks=(ip_network(network),))
    if allowed:
        assert bench.registry.admit(EUI, UDP, host, 1.0)[0].eui == EUI
    else:
        with pytest.raises(Refused) as caught:
            bench.registry.admit(EUI, UDP, host, 1.0)
        assert caught.value.reason is Discarded.WRONG_NETWORK
        # Nothing of a refused address is remembered, so that the right one is not reported as changed.
        assert bench.registry.snapshot()[0].address == ""


def test_changed_networks_hold_at_once() -> None:
    bench = Bench()
    bench.known.add()
    bench.registry.admit(EUI, UDP, "192.0.2.7", 1.0)
    bench.known.add(networks=(ip_network("198.51.100.0/24"),))
    bench.registry.forget([EUI, OTHER])
    with pytest.raises(Refused, match="wrong_network"):
        bench.registry.admit(EUI, UDP, "192.0.2.7", 2.0)


@pytest.mark.parametrize("changes", [{"disabled": True}, {"protocol": GatewayProtocol.MQTT}])
def test_gateways_that_may_not_are_not_remembered(changes: dict[str, Any]) -> None:
    bench = Bench()
    bench.known.add(**changes)
    with pytest.raises(Refused, match="gateway_disabled"):
        bench.registry.admit(EUI, UDP, "192.0.2.7", 1.0)
    assert bench.registry.snapshot() == []


def test_a_credential_among_two() -> None:
    bench = Bench()
    gateway = bench.known.add()
    both = replace(gateway, credentials=(b"x" * 32, *gateway.credentials))
    assert bench.registry.sign_in(both, "a-gateway's-token", None) == gateway.credentials[0]
    with pytest.raises(Refused, match="wrong token or certificate"):
        bench.registry.sign_in(both, "x" * 32, b"certificate")


def test_what_is_remembered_is_bounded() -> None:
    bench = Bench()
    bench.known.add()
    _, live = bench.registry.admit(EUI, UDP, "192.0.2.7", 1.0)
    for number in range(1000):
        live.heard(868_000_000 + number * 100, -90, 5)
        live.measured_rtt(number / 1000)
    live.measured_rtt(-1)
    live.measured_rtt(1e9)
    live.describe(version="v" * 1000, model="m" * 1000)
    (shown,) = bench.registry.snapshot()
    assert len(shown.channels) == 32
    assert (len(shown.version), len(shown.model)) == (80, 80)
    assert (shown.rtt_median_s, shown.rtt_90_s) == (0.97, 0.994)


def test_too_few_round_trips_say_nothing() -> None:
    bench = Bench()
    bench.known.add()
    _, live = bench.registry.admit(EUI, UDP, "192.0.2.7", 1.0)
    for _ in range(4):
        live.measured_rtt(0.1)
    assert live.rtt_s() is None
    live.measured_rtt(0.1)
    assert live.rtt_s() == 0.1


def test_a_gateway_shows_no_secret() -> None:
    assert "credentials" not in repr(Gateway(eui=EUI, credentials=(b"digest",)))
