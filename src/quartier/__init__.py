"""Quartier: the open platform that neighbouring cities run together."""

__version__ = "0.1.0"
