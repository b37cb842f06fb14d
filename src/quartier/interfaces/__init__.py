"""The standards that Quartier speaks: one folder each, every one a view of the twin."""
