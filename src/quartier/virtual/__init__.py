"""A deterministic virtual Dortmund and Schwerte for the demo, the tests and the benchmarks.

It stands outside Quartier: it speaks only the public protocols of the networks that both cities run (ELEMENT IoT for
Dortmund, ChirpStack v4 by MQTT for Schwerte). Every value is a pure function of seed, place and time, so that
any moment of the past can be produced again and two runs give the same bytes.
"""
