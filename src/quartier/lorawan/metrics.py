"""Counters of the network server, for ``/metrics``."""

from prometheus_client import Counter, Gauge, Histogram

FRAMES = Counter(
    "quartier_lorawan_frames_total", "Frames (after deduplication) by what became of them", ["outcome"]
)
RECEPTIONS = Counter("quartier_lorawan_receptions_total", "Receptions by where they came from", ["from_"])
LATE_COPIES = Counter(
    "quartier_lorawan_late_copies_total", "Receptions that came after their frame was worked off"
)
DOWNLINKS = Counter("quartier_lorawan_downlinks_total", "Transmissions by what became of them", ["outcome"])
JOINS = Counter("quartier_lorawan_joins_total", "Joins by what became of them", ["outcome"])
LOST = Counter("quartier_lorawan_lost_sessions_total", "Sessions that another process had counted on")
DEVICES = Gauge("quartier_lorawan_devices", "Registered devices in memory")
OPEN_FRAMES = Gauge("quartier_lorawan_open_frames", "Frames that are being worked off")
COMMIT_SECONDS = Histogram(
    "quartier_lorawan_commit_seconds",
    "Time to make counters durable",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
INBOX_SECONDS = Histogram(
    "quartier_lorawan_inbox_seconds",
    "Time from the last reception of a frame to its message in the inbox",
    buckets=(0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 1, 2, 5),
)
