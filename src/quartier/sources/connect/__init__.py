"""Connections to outside systems that are read: one file per protocol."""
