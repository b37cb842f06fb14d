"""Counters of the intake, for ``/metrics``."""

from prometheus_client import Counter, Gauge, Histogram

MESSAGES = Counter("quartier_messages_total", "Messages taken from the inbox, by outcome", ["outcome"])
REFUSED = Counter(
    "quartier_refused_total", "Messages (or fields of them) that were refused, by reason", ["reason"]
)
FLAGGED = Counter("quartier_flagged_total", "Readings that a check found implausible", ["check"])
BATCH_SECONDS = Histogram(
    "quartier_intake_batch_seconds",
    "Time from taking a batch of messages to their commit",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
)
DELAY_SECONDS = Gauge("quartier_intake_delay_seconds", "Age of the newest message when it was committed")
