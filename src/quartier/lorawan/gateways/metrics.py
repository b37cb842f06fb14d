"""Counters of the gateways, for ``/metrics``."""

from prometheus_client import Counter, Gauge

RECEIVED = Counter(
    "quartier_gateway_receptions_total", "Frames that gateways heard, by protocol", ["protocol"]
)
REFUSED = Counter(
    "quartier_gateway_refused_total",
    "Datagrams, messages and sign-ins of gateways that were refused, by protocol and reason",
    ["protocol", "reason"],
)
DROPPED = Counter(
    "quartier_gateway_kernel_dropped_total",
    "Datagrams of packet forwarders that the kernel threw away because the receive buffer was full",
)
TRANSMITTED = Counter(
    "quartier_gateway_transmissions_total",
    "Transmissions, by the protocol of the gateway and outcome",
    ["protocol", "outcome"],
)
MOVED = Counter(
    "quartier_gateway_address_changes_total", "Gateways that came from another address at once", ["protocol"]
)
CONNECTED = Gauge(
    "quartier_gateways_connected",
    "Gateways heard from lately, by protocol",
    ["protocol"],
    multiprocess_mode="livesum",
)
