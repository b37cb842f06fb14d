"""What roaming counts, by peer and reason."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

RECEIVED = Counter(
    "quartier_roaming_received_total", "Backend Interfaces messages from peers", ["peer", "type", "result"]
)
SENT = Counter(
    "quartier_roaming_sent_total", "Requests to peers and their results", ["peer", "type", "result"]
)
REFUSED = Counter(
    "quartier_roaming_refused_total", "What was refused: requests, frames, tokens", ["peer", "reason"]
)
CARRIED = Counter(
    "quartier_roaming_frames_total", "Frames carried for peers and by peers", ["peer", "role", "direction"]
)
ANSWERED_SECONDS = Histogram(
    "quartier_roaming_request_seconds",
    "Time until a peer answered",
    ["peer", "type"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
LEDGER_LOST = Counter("quartier_roaming_ledger_lost_total", "Ledger entries that could not be kept")
