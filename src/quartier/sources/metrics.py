"""Counters of the doors, for ``/metrics``."""

from prometheus_client import Counter, Gauge

RECEIVED = Counter(
    "quartier_source_messages_total", "Messages that reached the inbox, by kind of source", ["kind"]
)
REFUSED_AT_DOOR = Counter(
    "quartier_door_refused_total",
    "Messages and sign-ins that were turned away before the inbox, by door and reason",
    ["door", "reason"],
)
CONNECTED = Gauge(
    "quartier_source_connected",
    "Whether a source's connector is connected (1) or waits (0)",
    ["source"],
    multiprocess_mode="livesum",
)
