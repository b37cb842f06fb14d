"""OGC SensorThings 1.1 (18-088) with its extensions, as a view of the twin."""
