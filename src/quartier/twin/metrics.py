"""Counters and times of the twin, for ``/metrics``."""

from prometheus_client import Counter, Histogram

RECORDED = Counter("quartier_observations_total", "Observations by what became of them", ["outcome"])
RECORD_SECONDS = Histogram(
    "quartier_record_seconds",
    "Time to commit a batch of observations",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
ROLLUP_DAYS = Counter("quartier_rollup_days_total", "Days of a series whose roll-ups were brought up to date")
PUBLISHED = Counter("quartier_published_total", "Observations published to the observed stream")
