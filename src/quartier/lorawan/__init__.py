"""The room ``lorawan``: a complete network server, its gateways, and roaming between the networks of neighbouring cities."""
