"""The room ``lorawan``: a complete network server, its gateways, and roaming between neighbouring networks."""
