"""Benchmarks: each module has ``run()`` and returns figures with their units in the names."""
