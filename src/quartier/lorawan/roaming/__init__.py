"""Roaming between networks: LoRaWAN Backend Interfaces (TS002 1.0 and 1.1) under agreements that both sides signed.

An agreement is data: which devices, gateways and classes of data, how much airtime, until when. It is enforced frame
by frame, and what was carried stands in a ledger that both sides can compare.
"""
