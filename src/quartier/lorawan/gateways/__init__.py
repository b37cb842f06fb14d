"""Gateways: the protocols they speak, who may come in, and one transmitter over all of them."""
