"""The page on which everybody can try the SensorThings interface with this installation's own data."""
