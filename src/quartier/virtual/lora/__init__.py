"""The virtual cities' LoRaWAN: devices and gateways that speak the real protocols."""
