"""The query language of SensorThings: text into values (``parse``), values into text (``format``)."""
