"""What can be watched of SensorThings by MQTT."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

WANTED: Final = Gauge(
    "quartier_sensorthings_mqtt_topics",
    "SensorThings topics that somebody wants",
    multiprocess_mode="livesum",
)
SENT: Final = Counter("quartier_sensorthings_mqtt_sent_total", "SensorThings messages published by MQTT")
REFUSED_TOPICS: Final = Counter(
    "quartier_sensorthings_mqtt_refused_topics_total", "Topics that somebody wanted and that mean nothing"
)
TAKEN: Final = Counter(
    "quartier_sensorthings_mqtt_taken_total", "Entities posted by MQTT, by what became of them", ["outcome"]
)
